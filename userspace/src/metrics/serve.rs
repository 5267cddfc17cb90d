//! The HTTP server: `GET /metrics`, and nothing else.
//!
//! It listens on loopback unless the administrator says otherwise, asks for no
//! password, and bounds what a client can hold: connections, headers, time. Who is silent
//! or slow makes way for who comes. Pages are made one after the other with rests between
//! them, each for all who have asked meanwhile: however many ask, the counters, and the
//! lock over them, are busy for a part of the time only.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

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
    sync::{Notify, oneshot},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::room::{Room, Seat, Size};

/// What a client can hold.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once: of one address, and of all.
    pub(super) size: Size,
    /// A client that has not asked after this time is cut off.
    pub(super) headers: Duration,
    /// And one that has not taken the page, this long after it was there.
    pub(super) taking: Duration,
    /// No connection lasts longer.
    pub(super) longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: Size {
                each: 16,
                all: 32,
                stretches: false,
            },
            headers: Duration::from_secs(5),
            taking: Duration::from_secs(10),
            longest: Duration::from_secs(60),
        }
    }
}

/// Bytes of a request.
const LARGEST: usize = 16 << 10;
/// How much longer than a page took it rests before the next.
const REST: u32 = 3;

/// Makes a page, or says why it cannot.
type Source = dyn Fn() -> Result<String, String> + Send + Sync;
type Page = Result<Bytes, Arc<str>>;

/// Answers until dropped. `source` may block.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn Fn() -> Result<String, String> + Send + Sync>,
) {
    serve_within(Limits::default(), listener, source).await;
}

pub(super) async fn serve_within(limits: Limits, listener: TcpListener, source: Arc<Source>) {
    let pages = Arc::new(Pages::default());
    tokio::join!(pages.make(source), accept(limits, &listener, &pages));
}

async fn accept(limits: Limits, listener: &TcpListener, pages: &Arc<Pages>) {
    let room = Room::new(limits.size);
    let mut failed = false;
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                if !failed {
                    tracing::warn!("cannot accept connections for metrics: {e}");
                }
                failed = true;
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        failed = false;
        // All who are being served, and more than there is room for: it goes.
        if let Some(seat) = room.enter(party(from.ip())) {
            tokio::spawn(attend(limits, stream, seat, Arc::clone(pages)));
        }
    }
}

/// All of loopback is one client: its addresses cost nothing.
fn party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if address.is_loopback() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        address => address,
    }
}

async fn attend(limits: Limits, stream: TcpStream, seat: Seat<IpAddr>, pages: Arc<Pages>) {
    let answered = Notify::new();
    let service = service_fn(|request| async {
        seat.set_idle(false);
        let response = answer(request, &pages).await;
        seat.set_idle(true);
        answered.notify_one();
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(LARGEST)
        // A connection that stays for the next scrape would be cut off in
        // the middle of one when its time is over.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let overdue = async {
        answered.notified().await;
        sleep(limits.taking).await;
    };
    tokio::select! {
        ended = timeout(limits.longest, connection) => {
            if let Ok(Err(e)) = ended {
                tracing::debug!("metrics: {e}");
            }
        }
        () = overdue => {}
        () = seat.lost() => {}
    }
}

/// Where pages come from.
#[derive(Default)]
struct Pages {
    waiting: Mutex<Vec<oneshot::Sender<Page>>>,
    asked: Notify,
}

impl Pages {
    async fn next(&self) -> Page {
        let (send, page) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(send);
        self.asked.notify_one();
        page.await.unwrap_or_else(|_| Err("the daemon ends".into()))
    }

    /// Makes them, one at a time: clients that have given up leave one thread at work,
    /// not one each.
    async fn make(&self, source: Arc<Source>) {
        loop {
            self.asked.notified().await;
            let mut waiting =
                std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.retain(|client| !client.is_closed());
            if waiting.is_empty() {
                continue;
            }
            let start = Instant::now();
            let source = Arc::clone(&source);
            let page = spawn_blocking(move || source()).await;
            let page = page
                .unwrap_or_else(|e| Err(format!("the daemon failed while making the page: {e}")));
            let page: Page = match page {
                Ok(page) => Ok(page.into()),
                // Half a page would look like counters that stand still.
                Err(why) => {
                    tracing::error!("cannot make the page of metrics: {why}");
                    Err(why.into())
                }
            };
            for client in waiting {
                let _ = client.send(page.clone());
            }
            drop(page);
            sleep(start.elapsed() * REST).await;
        }
    }
}

async fn answer(request: Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return text(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match pages.next().await {
        Ok(page) => {
            let mut response = text(StatusCode::OK, page);
            let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
