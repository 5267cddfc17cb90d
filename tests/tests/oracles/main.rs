//! Two readers of a format that share no code read the same: of MRT and BMP ours, and
//! `bgpkit-parser`, which reads what route collectors publish; of MMDB ours, and MaxMind's.
//! Of what is drawn here, of what FRR writes, and of both damaged at random: what ours takes
//! for good the other one must take, with the same routes and origins. The other way round it
//! need not be: ours reads less of a message and refuses more of it, and of that only the
//! reasons are shown.
//!
//! Where the other one guesses, nothing is compared: it takes prefixes from the first
//! default route on for those of a session with path identifiers (RFC 7911).

#![expect(clippy::unwrap_used, reason = "a test may")]

mod mmdb;
#[expect(dead_code, reason = "words are for other targets")]
#[path = "../mutate/mod.rs"]
mod mutate;
mod stream;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bgpkit_parser::models::{AsPath, AsPathSegment};
use fastrand::Rng;
use ipnet::IpNet;
use kordon::bmp::message::Width;
use kordon_tests::{
    bgp::Peer,
    frr::{self, Frr},
    lab::Namespace,
};

use self::mutate::{Corpus, campaign::campaign};

/// A campaign, of which what it came to is counted and shown.
fn counted(corpus: Corpus, mut compare: impl FnMut(&[u8]) -> String) {
    let mut all = BTreeMap::new();
    campaign(corpus, |input| {
        let said = compare(input);
        *all.entry(said.clone()).or_insert(0) += 1;
        said
    });
    for (said, count) in &all {
        println!("{count:>7} {said}");
    }
}

/// The segments of a path that count, those of confederations (RFC 5065) not, and empty ones
/// not; whether they are sets.
fn segments(path: &AsPath) -> impl DoubleEndedIterator<Item = (bool, Vec<u32>)> {
    let all = path.segments.iter().filter_map(|segment| match segment {
        AsPathSegment::AsSet(asns) => Some((true, asns)),
        AsPathSegment::AsSequence(asns) => Some((false, asns)),
        AsPathSegment::ConfedSequence(_) | AsPathSegment::ConfedSet(_) => None,
    });
    all.filter(|(_, asns)| !asns.is_empty())
        .map(|(set, asns)| (set, asns.iter().map(|asn| u32::from(*asn)).collect()))
}

/// Who is last: several where that is a set, nobody where the path is empty.
fn last(path: &AsPath) -> Vec<u32> {
    match segments(path).next_back() {
        Some((false, mut asns)) => asns.split_off(asns.len() - 1),
        Some((true, asns)) => asns,
        None => Vec::new(),
    }
}

fn is_nobody(asn: u32) -> bool {
    matches!(asn, 0 | 23456 | 65535 | u32::MAX)
}

/// Who announces, by kordon's rules, written once more over the other reader's path.
fn origins(path: &AsPath) -> BTreeSet<u32> {
    let is_private = |asn: u32| matches!(asn, 64512..=65534 | 4_200_000_000..=4_294_967_294);
    let is_public = |asn: &u32| !is_nobody(*asn) && !is_private(*asn);
    let last = last(path);
    let mut found: BTreeSet<u32> = last
        .iter()
        .copied()
        .filter(|asn| !is_nobody(*asn))
        .collect();
    if !last.iter().all(is_public) {
        found.extend(segments(path).flat_map(|(_, asns)| asns).rfind(is_public));
    }
    found
}

fn is_default(net: &IpNet) -> bool {
    net.prefix_len() < if net.addr().is_ipv4() { 8 } else { 16 }
}

fn any_net(rng: &mut Rng) -> IpNet {
    if rng.bool() {
        let len = rng.u8(0..=32);
        let address = Ipv4Addr::from_bits(rng.u32(..));
        return IpNet::new(address.into(), len).unwrap().trunc();
    }
    let address = Ipv6Addr::from_bits(0x2001 << 112 | rng.u128(..) >> 16);
    IpNet::new(address.into(), rng.u8(1..=128)).unwrap().trunc()
}

/// ASNs of every kind.
fn any_asn(rng: &mut Rng, width: Width) -> u32 {
    let asn = match rng.u32(..12) {
        0 => 0,
        1 => 23456,
        2 => 64512 + rng.u32(..1024),
        3 => u32::MAX - rng.u32(..3),
        4 => 4_200_000_000 + rng.u32(..9),
        5 => 65_535 + rng.u32(..100_000),
        _ => 1 + rng.u32(..60_000),
    };
    match width {
        Width::Two if asn > 65535 => 23456,
        _ => asn,
    }
}

const WRITES: &str = "\
router bgp 64496
 bgp router-id 172.31.9.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 172.31.9.2 remote-as 64601
 neighbor 172.31.9.2 passive
 network 192.0.2.0/25
 address-family ipv6 unicast
  network 2001:db8:1::/48
  network 2001:db8::/32
 exit-address-family
 bmp targets test
  bmp monitor ipv4 unicast post-policy
  bmp monitor ipv6 unicast post-policy
  bmp monitor ipv4 unicast loc-rib
  bmp connect 127.0.0.1 port 11020 min-retry 100 max-retry 1000
 exit
exit
";

/// What a bgpd writes: its table as MRT, and its sessions as BMP.
#[test]
fn what_frr_writes_is_read_alike() -> Result<()> {
    if !frr::is_there() {
        return Ok(());
    }
    let namespace = Namespace::create(&format!("kordon-{}-oracle", std::process::id()))?;
    let neighbor = Namespace::create(&format!("kordon-{}-oracle-peer", std::process::id()))?;
    namespace.ip(&format!(
        "link set lo up\nlink add bgp0 type veth peer name bgp0 netns {}\n\
         addr add 172.31.9.1/30 dev bgp0\nlink set bgp0 up",
        neighbor.name()
    ))?;
    neighbor.ip("addr add 172.31.9.2/30 dev bgp0\nlink set bgp0 up")?;
    let listener = namespace.run(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 11020))?))?;
    let frr = Frr::start(&namespace, WRITES)?;
    let (mut stream, _) = listener.accept()?;
    let [to, from] = [1, 2].map(|last| Ipv4Addr::new(172, 31, 9, last));
    let mut peer = Peer::connect(&neighbor, from, 64601, to)?;
    let mut rng = Rng::with_seed(5);
    for number in 0..500u32 {
        let net = IpNet::new(
            Ipv4Addr::from_bits(0x2d00_0000 + (number << 9)).into(),
            rng.u8(22..=32),
        )?
        .trunc();
        let path = [
            64601,
            any_asn(&mut rng, Width::Four).max(1),
            any_asn(&mut rng, Width::Four).max(1),
        ];
        peer.send(&peer.announce(net, &path))?;
        if number % 5 == 0 {
            peer.send(&peer.withdraw(net))?;
        }
    }
    let end = Instant::now() + Duration::from_secs(30);
    while !frr
        .show(&["show bgp ipv4 unicast json"])?
        .contains("45.3.230")
    {
        ensure!(Instant::now() < end, "FRR has not taken what was sent");
        std::thread::sleep(Duration::from_millis(50));
    }
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    let dump = folder.path().join("dump");
    frr.show(&[
        "configure terminal",
        &format!("dump bgp routes-mrt {}", dump.display()),
    ])?;
    let mut bytes = Vec::new();
    while bytes.is_empty() || Instant::now() < end && fs::read(&dump)?.len() > bytes.len() {
        ensure!(Instant::now() < end, "FRR writes no table: {}", frr.log());
        std::thread::sleep(Duration::from_millis(300));
        bytes = fs::read(&dump).unwrap_or_default();
    }
    let said = table::compare_table(&folder.path().join("rib"), &bytes);
    println!("{} bytes of MRT: {said}", bytes.len());
    assert_eq!(said, "same 9");

    drop(frr);
    let mut bytes = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.read_to_end(&mut bytes).context("BMP")?;
    let said = stream::compare_stream(&bytes, false);
    println!("{} bytes of BMP, {} UPDATEs", bytes.len(), said.len());
    assert!(said.len() > 500, "{}", said.len());
    assert!(said.iter().all(|said| said.starts_with("same")), "{said:?}");
    Ok(())
}
