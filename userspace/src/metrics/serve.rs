//! The server of the page. It knows one path, and lets nobody hold it up: few
//! connections, small headers, one request for each connection, and a time for all.

use std::{convert::Infallible, fmt::Display, sync::Arc, time::Duration};

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
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{Snapshot, render};

/// What a client may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    connections: usize,
    /// Until the request's header is there.
    header: Duration,
    /// Until the answer is taken.
    whole: Duration,
}

const LIMITS: Limits = Limits {
    connections: 16,
    header: Duration::from_secs(5),
    // Longer than a database takes to become live, which a scrape waits for.
    whole: Duration::from_secs(60),
};

/// Bytes of a request's header, at most; the library's least.
const MAX_HEADER: usize = 8192;

/// Serves `/metrics` until dropped. `source` may block; where it fails, its reason
/// is the answer, and never a part of the page.
pub async fn serve<S, E>(listener: TcpListener, source: S)
where
    S: Fn() -> Result<Snapshot, E> + Send + Sync + 'static,
    E: Display + Send + 'static,
{
    serve_within(LIMITS, listener, source).await;
}

async fn serve_within<S, E>(limits: Limits, listener: TcpListener, source: S)
where
    S: Fn() -> Result<Snapshot, E> + Send + Sync + 'static,
    E: Display + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    let source = Arc::new(Source {
        read: source,
        turn: Arc::new(Semaphore::new(1)),
    });
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("cannot accept a connection to the metrics: {e}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            let _permit = permit;
            converse(limits, stream, source).await;
        });
    }
}

/// Where pages come from, one at a time: a scrape whose client has gone must not
/// leave more than one thread waiting.
struct Source<S> {
    read: S,
    turn: Arc<Semaphore>,
}

impl<S, E> Source<S>
where
    S: Fn() -> Result<Snapshot, E> + Send + Sync + 'static,
    E: Display + Send + 'static,
{
    async fn page(self: Arc<Self>) -> Result<String, String> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let job = spawn_blocking(move || {
            let _turn = turn;
            let snapshot = (self.read)().map_err(|e| e.to_string())?;
            render(&snapshot).map_err(|e| format!("cannot write the metrics: {e}"))
        });
        job.await
            .unwrap_or_else(|e| Err(format!("reading the metrics failed inside the daemon: {e}")))
    }
}

async fn converse<S, E>(limits: Limits, stream: TcpStream, source: Arc<Source<S>>)
where
    S: Fn() -> Result<Snapshot, E> + Send + Sync + 'static,
    E: Display + Send + 'static,
{
    let service = service_fn(move |request| answer(request, Arc::clone(&source)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(MAX_HEADER)
        // A connection that may stay would have to be told from one that is stuck.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limits.whole, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!("connection to the metrics: {e}"),
        Err(_) => tracing::debug!("connection to the metrics: it took too long"),
    }
}

async fn answer<S, E>(
    request: Request<Incoming>,
    source: Arc<Source<S>>,
) -> Result<Response<Full<Bytes>>, Infallible>
where
    S: Fn() -> Result<Snapshot, E> + Send + Sync + 'static,
    E: Display + Send + 'static,
{
    if request.uri().path() != "/metrics" {
        return Ok(text(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"));
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "the metrics are only read\n",
        );
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return Ok(response);
    }
    Ok(match source.page().await {
        Ok(page) => {
            let mut response = Response::new(Full::from(page));
            let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        Err(reason) => {
            tracing::error!("a scrape failed: {reason}");
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n"))
        }
    })
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
