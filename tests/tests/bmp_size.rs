//! What a whole table costs a daemon that follows BGP: memory of a route, and time.

use std::{fs, net::IpAddr, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use kordon::{
    asn::AsnDb,
    bmp::{
        feed::{Feed, Settings},
        message::Message,
        overlay::Stakes,
        rib::Moment,
    },
};
use kordon_tests::bmp;

const ROUTES: u32 = 1_000_000;

/// Resident memory of this process, in bytes. It has one test.
fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/statm").context("cannot read statm")?;
    let pages = text.split(' ').nth(1).context("resident pages")?;
    Ok(pages.parse::<u64>()? * 4096)
}

#[test]
fn a_million_routes() -> Result<()> {
    let settings = Settings {
        hold: 3600,
        stale_after: 600,
        forget_after: 100_000,
    };
    let now = Moment::default();
    let mut feed = Feed::new(settings, Stakes::default(), Arc::new(AsnDb::default()));
    let session = feed.open(IpAddr::from([127, 0, 0, 1]), now);
    let take = |feed: &mut Feed, bytes: &[u8]| -> Result<()> {
        let (_, message) = Message::first(bytes)?.context("a whole message")?;
        Ok(feed.message(session, &message, now).map(drop)?)
    };
    take(&mut feed, &bmp::peer_up(1))?;
    let route = |n: u32, origin: u32| -> Result<Vec<u8>> {
        let address = IpAddr::from((0x0b00_0000 + (n << 8)).to_be_bytes());
        Ok(bmp::announce(1, IpNet::new(address, 24)?, &[64601, origin]))
    };
    let before = resident()?;
    let start = Instant::now();
    for n in 0..ROUTES {
        // As many origins as the Internet has.
        take(
            &mut feed,
            &route(n, 100_000 + n.wrapping_mul(2_654_435_761) % 80_000)?,
        )?;
    }
    let read = start.elapsed();
    let rib = resident()? - before;
    let start = Instant::now();
    let changes = feed.decide(Moment { steady: 2, ..now });
    let settled = start.elapsed();
    ensure!(
        changes.len() == ROUTES as usize,
        "{} changes",
        changes.len()
    );
    drop(changes);
    let all = resident()? - before;
    let start = Instant::now();
    let db = feed.overlaid(&AsnDb::default());
    let overlaid = start.elapsed();
    ensure!(db.v4.len() > 900_000, "{} ranges", db.v4.len());
    drop(db);
    let start = Instant::now();
    let bytes = feed.to_bytes();
    let kept = start.elapsed();
    println!(
        "{ROUTES} IPv4 routes of one peer: {} bytes each, read and written in {read:?}; in effect \
         after another {settled:?}, and then {} bytes each at the peak; over the database in \
         {overlaid:?}; {} MB on disk, written in {kept:?}",
        rib / u64::from(ROUTES),
        all / u64::from(ROUTES),
        bytes.len() / 1_000_000,
    );
    ensure!(rib < 120_000_000, "{rib} bytes");
    ensure!(all < 400_000_000, "{all} bytes");
    // One more changes one thing.
    take(&mut feed, &route(ROUTES, 5)?)?;
    let start = Instant::now();
    let changes = feed.decide(Moment { steady: 2, ..now });
    println!("one more is decided on in {:?}", start.elapsed());
    ensure!(changes.len() == 1);
    Ok(())
}
