//! Verdicts that are taken from the ledger: what became of a flow's packets becomes of its next one, until
//! something changes by which they are judged, and never after.

#![expect(clippy::unwrap_used, reason = "a test may")]

use anyhow::{Context as _, Result, ensure};
use kordon::{
    asn,
    compile::{
        directory::Directory,
        generation::{Environment, PortSpec},
    },
    datapath::memory::Mapped,
    judge::Image,
    policy::{self, Bundle, Context, Overlay},
};
use kordon_ebpf::layout::{FLOW_FULL, Flow, FlowLine, LAYOUT_VERSION, UNSETTLED};
use kordon_tests::{
    bmp,
    known::Live,
    lab::frame::{Ethernet, udp},
    live::{drops, prefix, speaker, start, until},
    router::{Router, policy},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

const DROP: u32 = 1;
const PASS: u32 = 2;

/// Cameras may reach all but AS64500, or all.
fn image(drops: bool) -> Image {
    let action = if drops { "drop" } else { "pass" };
    let text = format!(
        "[zone.cameras]\nvlans = [20]\nsources = [\"10.20.0.0/16\", \"fd00:20::/32\"]\n\
         [set.bad]\nasns = [64500]\n\
         [[rule]]\nname = \"r\"\nfrom = \"cameras\"\nto = \"bad\"\naction = \"{action}\"\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("asn.csv");
    std::fs::write(
        &file,
        "198.51.100.0,198.51.100.255,64500,ZZ,Bad\n2001:db8:bad::,2001:db8:bad:ffff:ffff:ffff:ffff:ffff,64500,ZZ,Bad\n",
    )
    .unwrap();
    let (db, _) = asn::import(&[file], &[]).unwrap();
    let (policy, found) = policy::parse(
        &Bundle::from_text("p.toml", &text),
        &Overlay::default(),
        &Context::now(Some(&db)),
    );
    let policy = policy.unwrap_or_else(|| panic!("{:#?}", found.errors));
    let environment = Environment {
        ports: vec![PortSpec {
            logical: "lan".into(),
            drop_unknown: false,
        }],
        ..Environment::default()
    };
    Image::compile(&policy, &db, &environment, &mut Directory::default()).unwrap()
}

/// A camera's datagrams to AS64500.
fn frames() -> [Vec<u8>; 3] {
    let v4 = udp(
        [10, 20, 0, 5].into(),
        [198, 51, 100, 7].into(),
        (40_000, 443),
        &[0; 64],
    );
    let v6 = udp(
        [0xfd00, 0x20, 0, 0, 0, 0, 0, 5].into(),
        [0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 1].into(),
        (40_000, 443),
        &[0; 64],
    );
    let link = || Ethernet::new([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    [
        link().tag(0x8100, 20).packet(&v4),
        link().tag(0x8100, 20).packet(&v6),
        link().tag(0x88a8, 20).tag(0x8100, 7).packet(&v4),
    ]
}

#[test]
fn what_is_known_is_so_until_something_changes() {
    // Each processor has lines of its own.
    let mut cpus = CpuSet::new();
    cpus.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
    let (drops, passes) = (image(true), image(false));
    let mut live = Live::load(drops.tier).unwrap();
    live.install(&drops.rules, &drops.table).unwrap();
    let mut sent = 0;
    for (number, frame) in frames().iter().enumerate() {
        let mut says = |live: &mut Live, action: u32, when: &str| {
            assert_eq!(live.run(frame).unwrap(), action, "frame {number}, {when}");
            sent += 1;
        };
        live.set_planes(&drops.rules, &drops.table);
        live.set_settled(None);
        says(&mut live, DROP, "unknown");
        live.set_settled(Some(0));
        says(&mut live, DROP, "known");
        // Nobody says that something has changed: the line is believed, which shows that it is asked.
        live.set_planes(&passes.rules, &passes.table);
        says(&mut live, DROP, "still known");
        live.set_settled(None);
        says(&mut live, PASS, "while something changes");
        says(&mut live, PASS, "while something changes, again");
        live.set_settled(Some(0));
        says(&mut live, PASS, "known anew");
        live.set_planes(&drops.rules, &drops.table);
        says(&mut live, PASS, "still known anew");
        // A change that is over in a thousand years: what was judged before is not believed.
        live.set_settled(Some(u64::from(u32::MAX) << 8));
        says(&mut live, DROP, "after a change");
    }
    assert_eq!(live.recorded(), sent, "each packet is recorded once");
}

/// A line is believed if its last packet came after the last change, in the time that a line has, and never else:
/// through the wraps of all that is kept of times.
#[test]
fn times_are_held_to_whole_numbers() {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut believed, mut not) = (0, 0);
    for _ in 0..400_000 {
        // Around the wrap of 32 bits, and anywhere in seventeen years of a thousand jiffies a second.
        let first = match random.u8(0..3) {
            0 => (1u64 << 32) + random.u64(0..200_000) - 100_000,
            1 => random.u64(0..1 << 38),
            _ => random.u64(0..1 << 20),
        };
        let span = random.u16(..);
        let last = first + u64::from(span);
        let now = last
            + match random.u8(0..3) {
                0 => random.u64(0..3),
                1 => random.u64(0..70_000),
                _ => random.u64(0..1 << 38),
            };
        let settled = match random.u8(0..4) {
            0 => UNSETTLED,
            1 => random.u64(0..now + 2),
            2 => now + random.u64(0..3),
            _ => last + random.u64(0..4) - 2.min(last),
        };
        let mut flow = Flow::default();
        flow.be_known(20 | 7 << 6, first, random.bool());
        let bytes = if random.u8(0..8) == 0 {
            FLOW_FULL
        } else {
            random.u32(0..FLOW_FULL)
        };
        let line = FlowLine {
            flow,
            packets: 1,
            bytes,
            first: first as u32,
            span,
            sequence: 0,
        };
        let mut asked = Flow::default();
        asked.be_known(20 | 7 << 6, now, false);
        let is_young = now - first < 1 << 16 && now >> 32 == first >> 32;
        let right = is_young && bytes < FLOW_FULL && last > settled;
        assert_eq!(
            line.says::<true>(&asked, now, settled),
            right,
            "first {first} last {last} now {now} settled {settled}"
        );
        believed += u32::from(right);
        not += u32::from(!right);
        // Another zone's.
        let mut other = Flow::default();
        other.be_known(20 | 8 << 6, now, false);
        assert!(!line.says::<true>(&other, now, settled));
    }
    assert!(believed > 10_000 && not > 10_000, "{believed} {not}");
}

/// When the last change was over, as it stands in the kernel.
fn settled(router: &Router) -> Result<u64> {
    let place = router.place();
    let planes = place.bpffs.join(format!("v{LAYOUT_VERSION}-small/planes"));
    let planes = Mapped::open(&planes).with_context(|| format!("{}", planes.display()))?;
    // Behind the number.
    Ok(planes.word(8))
}

/// A known flow is judged anew once whoever changes something has his answer, or BGP is followed; and each change is over in
/// the kernel, so that flows are known again.
#[test]
fn every_change_is_marked() -> Result<()> {
    let Some((router, controller)) = start("known", "")? else {
        return Ok(());
    };
    let mut before = 0;
    let mut marks = |what: &str| -> Result<()> {
        let now = settled(&router)?;
        ensure!(now != UNSETTLED, "{what} is not over");
        ensure!(now > before, "{what} is not marked: {now}, {before} before");
        before = now;
        Ok(())
    };
    let good = "203.0.113.7".parse()?;
    let good6 = "2001:db8:600d::7".parse()?;
    let all_are = |dropped: bool, what: &str| -> Result<()> {
        for (to, time) in [(good, 1), (good6, 1), (good, 2), (good6, 2)] {
            ensure!(drops(&router, to)? == dropped, "{what}, {to}, time {time}");
        }
        Ok(())
    };
    marks("the start")?;
    all_are(false, "at first")?;
    for round in 0..5 {
        controller.cli(&["block", "AS64501", "--zone", "cameras"])?;
        all_are(true, &format!("blocked, round {round}"))?;
        marks("a block")?;
        controller.cli(&["unblock", "AS64501", "--zone", "cameras"])?;
        all_are(false, &format!("unblocked, round {round}"))?;
        marks("an unblock")?;
    }
    router.write("next.toml", policy("64500, 64501"))?;
    controller.cli(&[
        "apply",
        &router.path("next.toml").to_string_lossy(),
        "--yes",
    ])?;
    all_are(true, "by the next policy")?;
    marks("a policy")?;
    router.write("next.toml", policy("64500"))?;
    controller.cli(&[
        "apply",
        &router.path("next.toml").to_string_lossy(),
        "--yes",
    ])?;
    all_are(false, "by the policy after it")?;
    marks("a policy")?;
    let mut speaker = speaker(&router.wire.namespace, &controller)?;
    marks("the first routes").or_else(|_| Ok::<_, anyhow::Error>(()))?;
    speaker.send(&bmp::announce(1, prefix("203.0.113.0/25"), &[64601, 64500]))?;
    until("BGP is followed", || drops(&router, good))?;
    marks("a route")?;
    ensure!(drops(&router, good)?, "it is known");
    Ok(())
}
