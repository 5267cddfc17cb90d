//! The lab itself, without kordon: everything gets through, tags are really
//! inline on the trunk, and nothing is left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::Result;
use kordon_tests::lab::programs::Witness;
use kordon_tests::lab::traffic::{Reach, udp_send};
use kordon_tests::lab::{
    Bpffs, Lab, LabConfig, Namespace, PORT, TRUNK, VlanConfig, frame, namespace,
};

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn every_host_reaches_every_server() -> Result<()> {
    let lab = Lab::new(&LabConfig::default())?;
    for host in &lab.hosts {
        for address in lab.servers.iter().flat_map(|server| server.addresses()) {
            assert_eq!(host.reach(address, PATIENCE)?, Reach::Answered, "{address}");
        }
    }
    Ok(())
}

#[test]
fn tags_are_inline_on_the_trunk() -> Result<()> {
    let config = LabConfig {
        vlans: vec![
            VlanConfig {
                host: "camera".into(),
                outer: 20,
                inner: 0,
            },
            VlanConfig {
                host: "behind".into(),
                outer: 100,
                inner: 5,
            },
        ],
        ..LabConfig::default()
    };
    let lab = Lab::new(&config)?;
    let witness = Witness::attach(&lab.router, TRUNK)?;
    for (host, vid) in [("camera", 20), ("behind", 100)] {
        for address in lab.server("as15169")?.addresses() {
            let before = witness.tagged(vid)?;
            assert_eq!(
                lab.host(host)?.reach(address, PATIENCE)?,
                Reach::Answered,
                "{host} {address}"
            );
            assert!(
                witness.tagged(vid)? >= before + 4,
                "{host}: TCP went by without tag {vid}"
            );
        }
    }
    assert_eq!(witness.untagged()?, 0);
    Ok(())
}

#[test]
fn arrivals_are_exact() -> Result<()> {
    let lab = Lab::new(&LabConfig::default())?;
    let camera = lab.host("camera")?;
    for address in lab.server("as12389")?.addresses() {
        assert_eq!(lab.arrivals.to(address)?.packets, 0);
        udp_send(&camera.namespace, (address, PORT).into(), b"seven", 7)?;
        // By the raw sender too, whose frames no program touches.
        let packet = frame::udp(camera.address(address), address, (1, 2), b"raw");
        let raw = camera.raw()?;
        for _ in 0..100 {
            raw.send(&camera.ethernet().packet(&packet))?;
        }
        assert_eq!(lab.arrivals.settled(address)?.packets, 107, "{address}");
    }
    Ok(())
}

#[test]
fn a_spoofed_source_makes_an_allowed_server_deliver() -> Result<()> {
    let lab = Lab::new(&LabConfig::default())?;
    let camera = lab.host("camera")?;
    let (allowed, blocked) = (lab.server("as15169")?, lab.server("as12695")?);
    for (allowed, blocked) in allowed.addresses().into_iter().zip(blocked.addresses()) {
        let packet = frame::ping(blocked, allowed, 1, b"a picture");
        camera.raw()?.send(&camera.ethernet().packet(&packet))?;
        assert_eq!(lab.arrivals.settled(blocked)?.packets, 1, "{blocked}");
    }
    Ok(())
}

#[test]
fn nothing_is_left_behind() -> Result<()> {
    let mut names = Vec::new();
    let mut mount = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::new(&LabConfig::default()).unwrap();
        let bpffs = Bpffs::new().unwrap();
        names = lab.namespaces().into_iter().map(str::to_owned).collect();
        mount = Some(bpffs.path().to_owned());
        panic!("on purpose: a test that fails");
    }));
    assert!(outcome.is_err());
    assert_eq!(names.len(), 8);
    let left = namespace::names("kordon-lab")?;
    assert!(names.iter().all(|name| !left.contains(name)), "{left:?}");
    assert!(!mount.unwrap().exists());
    Ok(())
}

#[test]
fn cleanup_takes_what_a_dead_process_left() -> Result<()> {
    // No process has number 0; this test's own lab must survive.
    let orphan = "kordon-lab-0-1-0-router";
    // One that a failed run of this test left.
    namespace::cleanup()?;
    let mut namespace = Namespace::create(orphan)?;
    namespace.keep();
    let lab = Lab::new(&LabConfig {
        vlans: Vec::new(),
        servers: Vec::new(),
        ..LabConfig::default()
    })?;
    assert!(namespace::cleanup()?.contains(&orphan.to_owned()));
    let left = namespace::names("kordon-lab")?;
    assert!(!left.contains(&orphan.to_owned()));
    assert!(left.contains(&lab.router.name().to_owned()));
    Ok(())
}
