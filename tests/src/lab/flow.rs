//! A camera that sends numbered packets without a pause, and which of them came through:
//! when the first was dropped, to the interval between two.

use std::{
    mem::size_of,
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Wire, frame, listener::Listener, raw::RawSender};

/// Between two packets.
pub const INTERVAL: Duration = Duration::from_micros(250);
/// Nothing came for so long: all that was sent since is dropped.
const SILENCE: Duration = Duration::from_millis(60);

/// Sends to an address until its packets are dropped; calls `act` once packets are seen
/// to pass. Returns how long after the beginning of `act` the first dropped packet was
/// sent.
///
/// # Errors
/// If packets do not pass at first, or still pass after `patience`.
pub fn until_dropped(
    wire: &Wire,
    to: IpAddr,
    patience: Duration,
    act: impl FnOnce() -> Result<()>,
) -> Result<Duration> {
    let from: IpAddr = match to {
        IpAddr::V4(_) => "10.20.0.5".parse()?,
        IpAddr::V6(_) => "fd00:20::5".parse()?,
    };
    let arrivals = listen(wire)?;
    let sender = RawSender::open(&wire.namespace, "out")?;
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let last = AtomicU64::new(0);
    thread::scope(|scope| {
        let sending = scope.spawn(|| -> Result<Vec<Duration>> {
            let mut sent = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let number = (sent.len() as u64).to_be_bytes();
                let packet = frame::udp(from, to, (4000, 4000), &number);
                let ethernet = frame::Ethernet::new([2; 6], [4; 6]).tag(0x8100, 20);
                sent.push(begin.elapsed());
                sender.send(&ethernet.packet(&packet))?;
                while begin.elapsed() < sent[sent.len() - 1] + INTERVAL {
                    thread::sleep(INTERVAL / 5);
                }
            }
            Ok(sent)
        });
        let watch = || -> Result<Duration> {
            let mut heard = Instant::now();
            let end = begin + patience;
            let mut act = Some(act);
            let mut acted = begin;
            loop {
                while let Some(number) = next(&arrivals)? {
                    last.store(number, Ordering::Relaxed);
                    heard = Instant::now();
                    if number > 40
                        && let Some(act) = act.take()
                    {
                        acted = Instant::now();
                        act()?;
                    }
                }
                if heard.elapsed() > SILENCE {
                    ensure!(act.is_none(), "packets to {to} do not pass at first");
                    return Ok(acted - begin);
                }
                ensure!(
                    Instant::now() < end,
                    "packets to {to} still pass after {patience:?}"
                );
                thread::sleep(Duration::from_micros(100));
            }
        };
        let acted = watch();
        stop.store(true, Ordering::Relaxed);
        let sent = match sending.join() {
            Ok(sent) => sent?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let acted = acted?;
        let first = usize::try_from(last.load(Ordering::Relaxed)).context("it fits")? + 1;
        let dropped = sent.get(first).context("nothing was sent after the last")?;
        Ok(dropped.saturating_sub(acted))
    })
}

/// Sends one packet to each address; says which pass.
///
/// # Errors
/// If one cannot be sent or what passes cannot be seen.
pub fn passes(wire: &Wire, to: &[IpAddr]) -> Result<Vec<bool>> {
    let arrivals = listen(wire)?;
    let mut passed = vec![false; to.len()];
    let mut collect = || -> Result<()> {
        while let Some(number) = next(&arrivals)? {
            *passed
                .get_mut(usize::try_from(number).context("it fits")?)
                .context("a number that was not sent")? = true;
        }
        Ok(())
    };
    for (number, &to) in to.iter().enumerate() {
        let from: IpAddr = match to {
            IpAddr::V4(_) => "10.20.0.5".parse()?,
            IpAddr::V6(_) => "fd00:20::5".parse()?,
        };
        let packet = frame::udp(from, to, (4000, 4000), &(number as u64).to_be_bytes());
        let ethernet = frame::Ethernet::new([2; 6], [4; 6]).tag(0x8100, 20);
        wire.sender.send(&ethernet.packet(&packet))?;
        if number % 64 == 63 {
            // A veth with XDP queues 256 frames.
            thread::sleep(Duration::from_millis(2));
            collect()?;
        }
    }
    thread::sleep(Duration::from_millis(100));
    collect()?;
    Ok(passed)
}

/// What passes the policed interface of a wire.
fn listen(wire: &Wire) -> Result<Listener> {
    wire.namespace.run(|| Listener::on("in"))
}

/// The number of the next packet that came; `None`: there is none now.
fn next(arrivals: &Listener) -> Result<Option<u64>> {
    const NUMBER: usize = size_of::<u64>();
    let mut buffer = [0; 2048];
    while let Some(frame) = arrivals.next(&mut buffer)? {
        // Others' frames are shorter, or carry something else.
        if frame.len() < 14 + 28 + NUMBER {
            continue;
        }
        let mut number = [0; NUMBER];
        number.copy_from_slice(&frame[frame.len() - NUMBER..]);
        let number = u64::from_be_bytes(number);
        if number < 1 << 32 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}
