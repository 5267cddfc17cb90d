//! The HTTP server: `GET /metrics`, and nothing else.
//!
//! It listens on loopback unless the administrator says otherwise, asks for no
//! password, and bounds what a client can hold: connections, headers, time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// What a client can hold.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Clients at once; others wait in the kernel's queue.
    pub(super) connections: usize,
    /// A client that has not asked after this time is cut off.
    pub(super) headers: Duration,
    /// No connection lasts longer, however slowly it reads.
    pub(super) longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16,
            headers: Duration::from_secs(5),
            // A page waits for a change that is under way.
            longest: Duration::from_secs(60),
        }
    }
}

/// Bytes of a request.
const LARGEST: usize = 16 << 10;

/// Makes a page, or says why it cannot.
type Source = dyn Fn() -> Result<String, String> + Send + Sync;

/// Answers until dropped. `source` may block.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn Fn() -> Result<String, String> + Send + Sync>,
) {
    serve_within(Limits::default(), listener, source).await;
}

pub(super) async fn serve_within(limits: Limits, listener: TcpListener, source: Arc<Source>) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let pages = Pages {
        source,
        turn: Arc::new(Semaphore::new(1)),
    };
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("cannot accept a connection for metrics: {e}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let answer = service_fn(move |request| answer(request, pages.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.headers)
                .max_buf_size(LARGEST)
                // A connection that stays for the next scrape would be cut off in
                // the middle of one when its time is over.
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            if let Ok(Err(e)) = timeout(limits.longest, connection).await {
                tracing::debug!("metrics: {e}");
            }
        });
    }
}

/// Where pages come from, one at a time: clients that have given up leave one
/// thread waiting for the core, not one each.
#[derive(Clone)]
struct Pages {
    source: Arc<Source>,
    turn: Arc<Semaphore>,
}

impl Pages {
    async fn next(self) -> Result<String, String> {
        let turn = self.turn.acquire_owned().await;
        let job = spawn_blocking(move || {
            let _turn = turn;
            (self.source)()
        });
        job.await
            .unwrap_or_else(|e| Err(format!("the daemon failed while making the page: {e}")))
    }
}

async fn answer(
    request: Request<Incoming>,
    pages: Pages,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(text(
            StatusCode::NOT_FOUND,
            "metrics are at /metrics\n".into(),
        ));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return Ok(refused);
    }
    Ok(match pages.next().await {
        Ok(page) => {
            let mut response = text(StatusCode::OK, page);
            let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        // Half a page would look like counters that stand still.
        Err(why) => {
            tracing::error!("cannot make the page of metrics: {why}");
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n"))
        }
    })
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
