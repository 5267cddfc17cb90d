//! Sessions of routers: accepted, read, and ended when they are silent too long or send
//! what cannot be read.
//!
//! BMP has no keepalives. A machine that is gone is missed by those of TCP, within a
//! minute; a daemon that hangs while its machine goes on only by its silence.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    bmp::{
        feed::FeedError,
        message::{MAX_MESSAGE, Message, Peer},
    },
    daemon::{
        bgp::{
            Bgp, TICK,
            admission::{self, Refused, Room},
        },
        log::Repeated,
    },
};

/// Read at a time; between two reads others have their turn.
const CHUNK: usize = 64 << 10;
/// The first message may take so long.
const FIRST: Duration = Duration::from_secs(30);
/// So may what is left of one that has begun.
const REST: Duration = Duration::from_secs(60);
/// Who sends statistics is silent when so many are missing, but not sooner than [`REST`].
const REPORTS: u32 = 3;
/// Refusals are told so often.
const TOLD: Duration = Duration::from_secs(10);

/// Accepts sessions.
pub(super) async fn accept(bgp: Bgp) {
    let address = bgp.config.listen;
    let listener = listen(address).await;
    tracing::info!("BMP sessions are accepted on {address}");
    let room = Room::default();
    let mut refusals = Refusals::default();
    let mut failed = Repeated::default();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => {
                failed.end();
                accepted
            }
            // No descriptors, no memory: it does not get better at once.
            Err(e) => {
                let words = format!("cannot accept a BMP session: {e}");
                if failed.is_news(&words) {
                    tracing::warn!("{words}");
                }
                sleep(TICK).await;
                continue;
            }
        };
        let Ok(own) = stream.local_addr() else {
            continue;
        };
        let place = admission::judge(&stream, (own, from), &bgp.config, &bgp.users)
            .and_then(|()| room.take(from.ip().to_canonical()));
        match place {
            Ok(place) => {
                let bgp = bgp.clone();
                tokio::spawn(async move {
                    session(stream, from, &bgp).await;
                    drop(place);
                });
            }
            Err(why) => {
                bgp.refused
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                refusals.tell(from, why);
                refusals.look_up(&bgp);
            }
        }
    }
}

/// Who asks again and again does not fill the log, and is not looked up all the time.
#[derive(Debug, Default)]
struct Refusals {
    told: Option<Instant>,
    more: u64,
    looked_up: Option<Instant>,
}

impl Refusals {
    fn tell(&mut self, from: SocketAddr, why: Refused) {
        if self.told.is_some_and(|told| told.elapsed() < TOLD) {
            self.more += 1;
            return;
        }
        let more = match std::mem::take(&mut self.more) {
            0 => String::new(),
            more => format!(" ({more} others were since the last one that was told)"),
        };
        self.told = Some(Instant::now());
        tracing::warn!("BMP session from {from} refused: {why}{more}");
    }

    /// A daemon's user may be newer than what is known of users: it will ask again.
    fn look_up(&mut self, bgp: &Bgp) {
        if self.looked_up.is_some_and(|last| last.elapsed() < TICK) {
            return;
        }
        self.looked_up = Some(Instant::now());
        let bgp = bgp.clone();
        spawn_blocking(move || bgp.users.look_up(&bgp.config));
    }
}

/// An address that is not there yet is waited for.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(e) if said => tracing::debug!("BMP on {address}: {e}"),
            Err(e) => {
                tracing::error!(
                    "cannot accept BMP sessions on {address}: {e}; trying again until it works, \
                     or change `listen` in `[bmp]`"
                );
                said = true;
            }
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// How a session ended that sent nothing wrong.
enum End {
    Closed,
    Silent(&'static str, Duration),
}

async fn session(stream: TcpStream, from: SocketAddr, bgp: &Bgp) {
    let keep = [
        setsockopt(&stream, sockopt::KeepAlive, &true),
        setsockopt(&stream, sockopt::TcpKeepIdle, &30),
        setsockopt(&stream, sockopt::TcpKeepInterval, &10),
        setsockopt(&stream, sockopt::TcpKeepCount, &3),
    ];
    if let Some(e) = keep.into_iter().find_map(Result::err) {
        tracing::warn!("BMP session from {from} goes without keepalives: {e}");
    }
    tracing::info!("BMP session from {from}");
    let router = from.ip().to_canonical();
    let number = bgp.feed().open(router, bgp.now());
    match read(stream, number, from, bgp).await {
        Ok(End::Closed) => {
            tracing::warn!("BMP session from {from} is lost; what it said last stays");
            bgp.feed().lost(number, bgp.now());
        }
        Ok(End::Silent(what, time)) => {
            tracing::warn!(
                "BMP session from {from} closed: {what} for {} s; what it said last stays",
                time.as_secs()
            );
            bgp.feed().silent(number, bgp.now());
        }
        Err(why) => {
            tracing::error!("BMP session from {from} closed: {why}; what it said before stays");
            bgp.feed().close(number, &why, bgp.now());
        }
    }
    bgp.news.notify_one();
}

/// How long a session may be silent.
#[derive(Clone, Debug)]
struct Patience {
    /// Whatever it is silent about.
    idle: Duration,
    /// Since when there is nothing, or not all of a message.
    since: Instant,
    started: bool,
    partial: bool,
    /// The peer whose statistics were heard first, and when last.
    report: Option<(Peer, Instant)>,
    /// The longest time between two of them.
    interval: Option<Duration>,
}

impl Patience {
    fn new(idle: Duration, now: Instant) -> Self {
        Self {
            idle,
            since: now,
            started: false,
            partial: false,
            report: None,
            interval: None,
        }
    }

    /// A message came.
    fn heard(&mut self, message: &Message<'_>, now: Instant) {
        self.started = true;
        self.partial = false;
        self.since = now;
        let Message::Statistics { header } = message else {
            return;
        };
        match &mut self.report {
            // There is one of each peer at a time.
            Some((peer, last)) if *peer == header.peer => {
                let interval = now - *last;
                *last = now;
                self.interval = self.interval.max(Some(interval));
            }
            Some(_) => {}
            None => self.report = Some((header.peer, now)),
        }
    }

    /// A part of a message is there; the rest is due some time after its begin.
    fn begun(&mut self, now: Instant) {
        if !self.partial {
            self.partial = true;
            self.since = now;
        }
    }

    /// What it is silent about, and how long it may be.
    fn limit(&self) -> (&'static str, Duration) {
        let (what, most) = if self.partial {
            ("a message was not whole", REST)
        } else if !self.started {
            ("it said nothing", FIRST)
        } else if let Some(interval) = self.interval {
            let most = interval.saturating_mul(REPORTS).max(REST);
            ("it was silent, and sent statistics before,", most)
        } else {
            ("it was silent", self.idle)
        };
        (what, most.min(self.idle))
    }
}

/// Until the other side ends it, says nothing more, or sends what cannot be read.
async fn read(
    mut stream: TcpStream,
    session: u64,
    from: SocketAddr,
    bgp: &Bgp,
) -> Result<End, FeedError> {
    let mut patience = Patience::new(bgp.config.idle, Instant::now());
    let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK);
    let mut damaged = 0_u64;
    loop {
        // Never more than one message that is not whole, and one read.
        debug_assert!(buffer.len() < MAX_MESSAGE);
        buffer.reserve(CHUNK);
        let (what, most) = patience.limit();
        let left = most.saturating_sub(patience.since.elapsed());
        match timeout(left, stream.read_buf(&mut buffer)).await {
            Err(_) => return Ok(End::Silent(what, most)),
            Ok(Ok(0)) => return Ok(End::Closed),
            Ok(Ok(_)) => {}
            Ok(Err(e)) => {
                tracing::debug!("BMP session: {e}");
                return Ok(End::Closed);
            }
        }
        let now = bgp.now();
        let heard = Instant::now();
        let mut left = &buffer[..];
        let news = {
            let mut feed = bgp.feed();
            while let Some((length, message)) = Message::first(left)? {
                patience.heard(&message, heard);
                if let Some(what) = feed.message(session, &message, now)? {
                    damaged += 1;
                    // One is news, many are the same.
                    if damaged.is_power_of_two() {
                        tracing::warn!(
                            "BMP session from {from}: an UPDATE is treated as a withdrawal \
                             (RFC 7606), {damaged} so far: {what}"
                        );
                    }
                }
                left = &left[length..];
            }
            feed.is_dirty()
        };
        if !left.is_empty() {
            patience.begun(heard);
        }
        let done = buffer.len() - left.len();
        buffer.drain(..done);
        if news {
            bgp.news.notify_one();
        }
        // Another's turn, however fast this one is.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(n: u8) -> Vec<u8> {
        let mut out = vec![3, 0, 0, 0, 52, 1, 0, 0];
        out.extend([0; 20]);
        out.extend([192, 0, 2, n]);
        out.extend([0; 16]);
        out.extend([0; 4]);
        out
    }

    #[test]
    fn silence_is_borne_as_long_as_what_came_before_says() {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(hour, start);
        let heard = |patience: &mut Patience, bytes: &[u8], now| {
            let (_, message) = Message::first(bytes).unwrap().unwrap();
            patience.heard(&message, now);
        };
        assert_eq!(patience.limit().1, FIRST);
        heard(&mut patience, &[3, 0, 0, 0, 6, 4], at(1));
        assert_eq!((patience.limit().1, patience.since), (hour, at(1)));
        // The rest of a message is due after its begin, however slowly it comes.
        patience.begun(at(10));
        patience.begun(at(20));
        assert_eq!((patience.limit().1, patience.since), (REST, at(10)));
        // Two peers at a time are no interval.
        heard(&mut patience, &statistics(1), at(30));
        heard(&mut patience, &statistics(2), at(31));
        assert_eq!((patience.limit().1, patience.since), (hour, at(31)));
        heard(&mut patience, &statistics(1), at(150));
        heard(&mut patience, &statistics(2), at(151));
        assert_eq!(patience.limit().1, Duration::from_secs(360));
        heard(&mut patience, &statistics(1), at(152));
        assert_eq!(patience.limit().1, Duration::from_secs(360));
        // Nothing is borne for longer than the file says.
        patience.idle = Duration::from_secs(5);
        assert_eq!(patience.limit().1, Duration::from_secs(5));
    }
}
