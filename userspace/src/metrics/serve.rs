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
use tokio::{net::TcpListener, sync::Semaphore, task::spawn_blocking, time::sleep};

/// Clients at once.
const CONNECTIONS: usize = 16;
/// A client that has not asked after this time is cut off.
const HEADERS: Duration = Duration::from_secs(5);
/// No connection lasts longer, however slowly it reads.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes of a request.
const LARGEST: usize = 16 << 10;

/// Makes a page, or says why it cannot.
type Source = dyn Fn() -> Result<String, String> + Send + Sync;

/// Answers until dropped. `source` may block.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn Fn() -> Result<String, String> + Send + Sync>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
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
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            let _permit = permit;
            let answer = service_fn(move |request| answer(request, Arc::clone(&source)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_buf_size(LARGEST)
                .serve_connection(TokioIo::new(stream), answer);
            if let Ok(Err(e)) = tokio::time::timeout(LONGEST, connection).await {
                tracing::debug!("metrics: {e}");
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    source: Arc<Source>,
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
    let page = spawn_blocking(move || source()).await;
    Ok(match page {
        Ok(Ok(page)) => {
            let mut response = text(StatusCode::OK, page);
            let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        // Half a page would look like counters that stand still.
        Ok(Err(e)) => failed(&e),
        Err(e) => failed(&e.to_string()),
    })
}

fn failed(why: &str) -> Response<Full<Bytes>> {
    tracing::error!("cannot make the page of metrics: {why}");
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n"))
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
