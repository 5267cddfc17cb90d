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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const GET: &str = "GET /metrics HTTP/1.1\r\nHost: router\r\n\r\n";

    /// Says all of `request`, and gives all of the answer.
    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
        // One that was thrown out may see a reset.
        let _ = read.await.expect("the server closes in time");
        String::from_utf8(answer).unwrap()
    }

    async fn server<S, E>(limits: Limits, source: S) -> std::net::SocketAddr
    where
        S: Fn() -> Result<Snapshot, E> + Send + Sync + 'static,
        E: Display + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_within(limits, listener, source));
        address
    }

    fn good() -> Result<Snapshot, String> {
        Ok(super::super::tests::example())
    }

    #[tokio::test]
    async fn one_path_two_methods() {
        let address = server(LIMITS, good).await;
        let page = ask(address, GET).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        let (header, body) = page.split_once("\r\n\r\n").unwrap();
        let header = header.to_ascii_lowercase();
        assert!(
            header.contains("content-type: text/plain; version=0.0.4"),
            "{header}"
        );
        assert!(
            header.contains(&format!("content-length: {}", body.len())),
            "{header}"
        );
        assert!(
            body.contains("\nkordon_build_info{version=\"1.2.3\"} 1\n"),
            "{body}"
        );

        let head = ask(address, &GET.replace("GET", "HEAD")).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "a body: {head}");

        let query = ask(address, &GET.replace("/metrics", "/metrics?x=1")).await;
        assert!(query.starts_with("HTTP/1.1 200 OK\r\n"), "{query}");
        for path in ["/", "/metrics/", "/metrics/x", "/../metrics", "//metrics"] {
            let other = ask(address, &GET.replace("/metrics", path)).await;
            assert!(other.starts_with("HTTP/1.1 404 "), "{path}: {other}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let refused = ask(address, &GET.replace("GET", method)).await;
            assert!(refused.starts_with("HTTP/1.1 405 "), "{method}: {refused}");
            assert!(
                refused
                    .to_ascii_lowercase()
                    .contains("\r\nallow: get, head\r\n")
            );
        }
    }

    #[tokio::test]
    async fn a_failed_scrape_has_a_reason_and_no_metrics() {
        let address = server(LIMITS, || {
            Err::<Snapshot, _>("cannot read the counters: no such map")
        })
        .await;
        let answer = ask(address, GET).await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\ncannot read the counters: no such map\n"));
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_scrape() {
        let address = server(LIMITS, || -> Result<Snapshot, String> {
            panic!("on purpose")
        })
        .await;
        for _ in 0..2 {
            let answer = ask(address, GET).await;
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        }
    }

    #[tokio::test]
    async fn slow_clients_are_thrown_out_and_hold_nobody_up() {
        let limits = Limits {
            connections: 2,
            header: Duration::from_millis(300),
            ..LIMITS
        };
        let address = server(limits, good).await;
        let start = Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\nHo")
            .await
            .unwrap();
        // There is no room left; it waits until one of them is gone.
        let page = ask(address, GET).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(start.elapsed() >= limits.header, "{:?}", start.elapsed());
        for stream in [&mut silent, &mut slow] {
            let answer = rest(stream).await;
            assert!(!answer.contains("200 OK"), "{answer}");
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_thrown_out() {
        let limits = Limits {
            connections: 1,
            whole: Duration::from_millis(300),
            ..LIMITS
        };
        let address = server(limits, || {
            // More than socket buffers take.
            let version = "x".repeat(32 << 20);
            Ok::<_, String>(Snapshot {
                version,
                ..Snapshot::default()
            })
        })
        .await;
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(GET.as_bytes()).await.unwrap();
        let other = ask(address, &GET.replace("/metrics", "/")).await;
        assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
    }

    #[tokio::test]
    async fn long_headers_are_refused() {
        let address = server(LIMITS, good).await;
        let long = format!(
            "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
            "x".repeat(4 * MAX_HEADER)
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may close before all was said.
        let _ = stream.write_all(long.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
        let garbage = ask(address, "\x16\x03\x01 hello\r\n\r\n").await;
        assert!(!garbage.contains("200 OK"), "{garbage}");
    }
}
