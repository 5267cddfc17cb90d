//! Live BGP as a target: what a router sends by BMP, and what the daemon keeps of it.
//! Damaged, each is refused, or leaves a feed that the compiler can use and that comes
//! back from disk as it was.

use std::{net::IpAddr, sync::Arc};

use kordon::{
    asn::AsnDb,
    bmp::{
        feed::{Feed, Settings},
        message::Message,
        overlay::Stakes,
        rib::Moment,
    },
    policy::{self, Bundle, Context, Overlay},
};
use kordon_tests::{bmp, hostile};

use crate::{
    check_database, import,
    mutate::{
        Corpus,
        campaign::{campaign, peak_memory},
    },
};

/// A database and a policy that wants to know of its ASNs, and a feed over both.
fn feed(db: &Arc<AsnDb>) -> Feed {
    let (policy, _) = policy::parse(
        &Bundle::from_text("hostile.toml", hostile::POLICY),
        &Overlay::default(),
        &Context::now(Some(db)),
    );
    let settings = Settings {
        hold: 60,
        stale_after: 300,
        forget_after: 100_000,
    };
    Feed::new(settings, Stakes::of(&policy.unwrap(), db), Arc::clone(db))
}

fn at(second: u32) -> Moment {
    Moment {
        wall: 1_700_000_000 + second,
        steady: second,
    }
}

/// What routers say, message for message.
fn sessions() -> Vec<Vec<u8>> {
    let net = |text: &str| text.parse().unwrap();
    let begin = [bmp::initiation("r1"), bmp::peer_up(1)].concat();
    let tables = [
        vec![
            bmp::announce(1, net("198.51.100.0/25"), &[64601, 64500]),
            bmp::announce(1, net("2001:db8:bad::/49"), &[64601, 64501]),
            bmp::ends(1),
            bmp::withdraw(1, net("198.51.100.0/25")),
            bmp::withdraw(1, net("2001:db8:bad::/49")),
        ],
        vec![
            bmp::peer_up(2),
            bmp::announce(1, net("203.0.113.0/24"), &[64601]),
            bmp::announce(2, net("203.0.113.0/24"), &[64602, 23456, 65535]),
            bmp::ends(2),
            bmp::peer_down(1),
            bmp::announce(2, net("0.0.0.0/0"), &[64602]),
        ],
        vec![
            bmp::announce(1, net("198.51.0.0/16"), &[64601]),
            bmp::before_filters(bmp::announce(1, net("198.51.100.0/25"), &[64601, 64500])),
            bmp::before_filters(bmp::announce(1, net("198.51.0.0/16"), &[64601, 64502])),
            bmp::before_filters(bmp::announce(1, net("2001:db8:bad::/49"), &[64500])),
            bmp::ends(1),
            bmp::before_filters(bmp::ends(1)),
            bmp::before_filters(bmp::withdraw(1, net("198.51.100.0/25"))),
        ],
        vec![bmp::ends(1)],
    ];
    tables
        .map(|table| [begin.clone(), table.concat()].concat())
        .to_vec()
}

/// Lengths that fit: damage by somebody who knows how to write a message.
fn mend(stream: &mut [u8]) {
    let mut at = 0;
    while stream.len() - at >= 6 {
        stream[at] = 3;
        let rest = stream.len() - at;
        let said = u32::from_be_bytes(stream[at + 1..at + 5].try_into().unwrap()) as usize;
        let length = if (6..=rest).contains(&said) {
            said
        } else {
            rest
        };
        stream[at + 1..at + 5].copy_from_slice(&(length as u32).to_be_bytes());
        // The BGP message behind the peer's header.
        if stream[at + 5] == 0 && length >= 48 + 23 {
            let bgp = &mut stream[at + 48..at + length];
            let size = (bgp.len() as u16).to_be_bytes();
            bgp[..16].fill(0xff);
            bgp[16..18].copy_from_slice(&size);
            bgp[18] = 2;
        }
        at += length;
    }
}

#[test]
fn bmp_sessions() {
    let db = Arc::new(import(hostile::DATABASE));
    let words = [
        vec![0x50, 2, 0, 6, 2, 1, 0, 0, 0xfb, 0xf4],
        [
            &[0x90, 14, 0, 26, 0, 2, 1, 16][..],
            &[0; 17],
            &[32, 0x20, 1, 0xd, 0xb8],
        ]
        .concat(),
        vec![0x80, 15, 3, 0, 2, 1],
        vec![32, 198, 51, 100, 9],
        vec![69, 4, 0, 1, 1, 3],
        vec![0, 0, 0, 0],
        bmp::peer_down(2),
        bmp::withdraw(1, "203.0.113.0/24".parse().unwrap()),
    ];
    let router: IpAddr = [192, 0, 2, 254].into();
    campaign(Corpus::new(sessions(), words, 32 << 10), |input| {
        let mut input = input.to_vec();
        // Every second one.
        if input.iter().fold(0, |sum, byte| sum ^ byte) & 1 == 0 {
            mend(&mut input);
        }
        let mut feed = feed(&db);
        let session = feed.open(router, at(0));
        let (mut left, mut second, mut said) = (&input[..], 0, String::new());
        loop {
            match Message::first(left) {
                Ok(Some((length, message))) => {
                    assert!(length <= left.len());
                    if let Err(end) = feed.message(session, &message, at(second)) {
                        said += &end.to_string();
                        feed.close(session, &end, at(second));
                        break;
                    }
                    left = &left[length..];
                    second += 1;
                    if second.is_multiple_of(3) {
                        feed.decide(at(second));
                    }
                }
                Ok(None) => break,
                Err(end) => {
                    said += &end.to_string().replace(|c: char| c.is_ascii_digit(), "");
                    feed.close(session, &end.into(), at(second));
                    break;
                }
            }
        }
        feed.decide(at(second + 3));
        // What has waited takes effect, what nobody says any more goes.
        for later in [60, 400, 800] {
            feed.decide(at(second + later));
        }
        let whole = feed.overlaid(&db);
        check_database(&whole);
        let counts = feed.counts();
        let kept = feed.to_bytes();
        restored(&db, &kept).unwrap();
        format!(
            "{said} {:?} {} {} {} {}",
            feed.prefixes(),
            counts.updates.min(9),
            counts.changes.min(9),
            counts.held.min(3),
            counts.other_routes.min(3)
        )
    });
    assert!(peak_memory() < 1500, "{} MiB", peak_memory());
}

/// A feed of what was kept; it is the same when it is kept again.
fn restored(db: &Arc<AsnDb>, bytes: &[u8]) -> Result<Feed, &'static str> {
    let mut feed = feed(db);
    feed.restore(bytes, at(0))?;
    let mut again = self::feed(db);
    again.restore(&feed.to_bytes(), at(0)).unwrap();
    assert_eq!(feed.prefixes(), again.prefixes());
    assert!(feed.overlaid(db) == again.overlaid(db));
    Ok(feed)
}

/// What the daemon kept of live BGP.
#[test]
fn bmp_kept() {
    let db = Arc::new(import(hostile::DATABASE));
    let seeds = sessions().into_iter().map(|stream| {
        let mut feed = feed(&db);
        let session = feed.open([192, 0, 2, 254].into(), at(0));
        let mut left = &stream[..];
        while let Some((length, message)) = Message::first(left).unwrap() {
            feed.message(session, &message, at(1)).unwrap();
            left = &left[length..];
        }
        feed.decide(at(9));
        feed.to_bytes()
    });
    campaign(Corpus::new(seeds, [], 64 << 10), |input| {
        let mut input = input.to_vec();
        let end = input.len().saturating_sub(4);
        if end >= 8 && input.iter().fold(0, |sum, byte| sum ^ byte) & 1 == 0 {
            let mut crc = flate2::Crc::new();
            crc.update(&input[..end]);
            input[end..].copy_from_slice(&crc.sum().to_be_bytes());
        }
        match restored(&db, &input) {
            Ok(mut feed) => {
                for second in [10, 80, 800] {
                    feed.decide(at(second));
                }
                check_database(&feed.overlaid(&db));
                format!("good {:?} {}", feed.prefixes(), feed.waiting())
            }
            Err(why) => why.to_owned(),
        }
    });
}
