//! What is live in the kernel outlives the controller, changes in one piece, and
//! is not mixed up with what others put there.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Result, anyhow};
use kordon::{
    asn::{self, model::AsnDb},
    compile::generation::{Environment, PortSpec},
    datapath::{
        Attached,
        attach::Mode,
        guard::{Guarded, Hook},
        interface,
        kernel::Datapath,
        publish::Published,
    },
    judge::Image,
    policy::{self, Bundle, Context, Overlay},
};
use kordon_ebpf::{layout::LAYOUT_VERSION, seen::Kind as Tag};
use kordon_tests::lab::{Bpffs, Wire, frame, programs::Witness};

const DATABASE: &str =
    "198.51.100.0,198.51.100.255,64500,Bad\n203.0.113.0,203.0.113.255,64501,Good\n";

struct Instance {
    db: AsnDb,
    datapath: Datapath,
}

impl Instance {
    fn open(bpffs: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let csv = dir.path().join("asn.csv");
        fs::write(&csv, DATABASE)?;
        let (db, _) = asn::import(&[csv], &[])?;
        Ok(Self {
            db,
            datapath: Datapath::open(bpffs, None)?,
        })
    }

    fn publish(&mut self, blocked: u32, key: u8) -> Result<Published> {
        let text = format!(
            "[zone.cameras]\nvlans=[20]\nsources=[\"10.20.0.0/16\"]\n[set.bad]\nasns=[{blocked}]\n\
             [[rule]]\nname=\"bad\"\nfrom=\"cameras\"\nto=\"bad\"\naction=\"drop\"\n"
        );
        let (policy, found) = policy::parse(
            &Bundle::from_text("p.toml", &text),
            &Overlay::default(),
            &Context::now(Some(&self.db)),
        );
        let policy = policy.ok_or_else(|| anyhow!("{found:?}"))?;
        let environment = Environment {
            ports: vec![PortSpec::default(); 2],
            ..Environment::default()
        };
        let mut directory = self.datapath.directory().clone();
        let mut image = Image::compile(&policy, &self.db, &environment, &mut directory)?;
        image.rules.fixed.table_key = [key; 32];
        image.rules.fixed.hash = [blocked as u8; 32];
        Ok(self.datapath.publish(
            &mut image.rules,
            &image.table,
            image.tier,
            &directory,
            &mut |_| Ok(()),
        )?)
    }

    fn packets(&self) -> Result<Vec<(String, u64)>> {
        let counters = self.datapath.reader().counters()?;
        let hit = counters.iter().enumerate().filter(|(_, c)| c.packets != 0);
        Ok(hit
            .map(|(slot, counter)| {
                let identity = self.datapath.directory().identity(slot as u32);
                (format!("{identity:?}"), counter.packets)
            })
            .collect())
    }
}

/// Sends a camera's packets and waits until they have arrived.
fn send(wire: &Wire, destination: &str, times: usize) -> Result<()> {
    let packet = Wire::packet(20, "10.20.0.5".parse()?, destination.parse()?);
    wire.send(&packet, times)?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    Ok(())
}

#[test]
fn enforcement_outlives_controllers() -> Result<()> {
    let wire = Wire::new("outlive")?;
    let bpffs = Bpffs::new()?;
    let run = |work: &(dyn Fn() -> Result<()> + Sync)| wire.namespace.run(work);
    let drops = |instance: &Instance| -> Result<u64> {
        let packets = instance.packets()?;
        Ok(packets
            .iter()
            .filter(|(who, _)| who.contains("Rule(") && who.contains("Drop"))
            .map(|(_, n)| n)
            .sum())
    };
    run(&|| {
        let mut first = Instance::open(bpffs.path())?;
        assert_eq!(first.datapath.live(), None);
        assert!(
            first.datapath.attach("in", 0, Mode::Native, false).is_err(),
            "no rules yet"
        );
        assert!(first.publish(64500, 1)?.table_written);
        assert_eq!(
            first.datapath.attach("in", 0, Mode::Native, false)?,
            Attached::Native
        );
        assert_eq!(
            first.datapath.attach("in", 0, Mode::Native, false)?,
            Attached::Native
        );
        send(&wire, "198.51.100.9", 10)?;
        send(&wire, "203.0.113.9", 5)?;
        assert_eq!(drops(&first)?, 10, "{:?}", first.packets());
        Ok(())
    })?;
    // The controller is gone.
    send(&wire, "198.51.100.9", 7)?;
    run(&|| {
        let mut second = Instance::open(bpffs.path())?;
        assert_eq!(drops(&second)?, 17);
        let live = second
            .datapath
            .live()
            .ok_or_else(|| anyhow!("nothing is live"))?;
        assert_eq!(
            (live.number, live.hash, live.table_key),
            (1, [64500_u32 as u8; 32], [1; 32])
        );
        assert_eq!(second.datapath.pinned_devices(), ["in"]);
        assert_eq!(second.datapath.attached("in"), None, "not yet taken over");
        // Maps of another layout: not adopted, and gone once nothing can use them.
        let older = bpffs.path().join("v0-small");
        fs::create_dir(&older)?;
        assert_eq!(
            second.datapath.attach("in", 0, Mode::Native, false)?,
            Attached::Native
        );
        assert!(!older.exists());
        // The same table, other verdicts.
        let published = second.publish(64501, 1)?;
        assert!(!published.table_written);
        assert_eq!(published.number, 2);
        send(&wire, "198.51.100.9", 3)?;
        send(&wire, "203.0.113.9", 4)?;
        assert_eq!(drops(&second)?, 21, "{:?}", second.packets());
        // Other tables, back and forth.
        for key in 2..6 {
            assert!(second.publish(64500, key)?.table_written);
        }
        send(&wire, "198.51.100.9", 3)?;
        assert_eq!(drops(&second)?, 24);
        let folder = format!("v{LAYOUT_VERSION}-small");
        let pins = fs::read_dir(bpffs.path().join(folder))?.count();
        assert_eq!(
            pins, 7,
            "two outer maps, planes, the slow path and its memory, one table, one generation"
        );
        // What is not proven does not become live.
        let before = second.datapath.live();
        let mut directory = second.datapath.directory().clone();
        let (policy, _) = policy::parse(
            &Bundle::from_text("p.toml", "[zone.z]\nvlans=[1]\n"),
            &Overlay::default(),
            &Context::now(Some(&second.db)),
        );
        let policy = policy.ok_or_else(|| anyhow!("valid"))?;
        let environment = Environment::default();
        let mut image = Image::compile(&policy, &second.db, &environment, &mut directory)?;
        let refused = second.datapath.publish(
            &mut image.rules,
            &image.table,
            image.tier,
            &directory,
            &mut |_| Err("it is wrong".into()),
        );
        assert!(refused.is_err_and(|e| e.to_string().contains("it is wrong")));
        assert_eq!(second.datapath.live(), before);
        Ok(())
    })?;
    run(&|| {
        // What begins like a name of kordon's, and what is pinned where links are.
        let at = |name: &str| bpffs.path().join(name);
        fs::create_dir(at("vault"))?;
        std::os::unix::fs::symlink(at("vault"), at("v1-small"))?;
        fs::hard_link(at("counters"), at("links/9-map"))?;
        let left = Datapath::detach(bpffs.path())?;
        assert_eq!(left, [at("links/9-map"), at("v1-small"), at("vault")]);
        fs::remove_file(at("links/9-map"))?;
        fs::remove_dir(at("links"))?;
        assert!(!bpffs.path().join("counters").exists());
        assert!(!bpffs.path().join("links").exists());
        let gone = interface::query("in")?;
        assert_eq!(gone.and_then(|interface| interface.xdp), None);
        Ok(())
    })
}

/// As before Linux 6.6: a filter of `clsact`.
#[test]
fn a_guard_that_is_a_filter() -> Result<()> {
    let wire = Wire::new("filter")?;
    let bpffs = Bpffs::new()?;
    let namespace = &wire.namespace;
    let tc = |arguments: &str| {
        namespace.output(std::process::Command::new("tc").args(arguments.split(' ')))
    };
    let shown = || tc("filter show dev in ingress");
    let guard = |instance: &mut Instance| -> Result<()> {
        let found = interface::query("in")?.ok_or_else(|| anyhow!("it is there"))?;
        let nobody = Guarded {
            name: "",
            port: 0,
            behind: Some(Attached::Native),
        };
        let guarded = instance
            .datapath
            .guard("in", &found, nobody, &[Hook::Clsact]);
        assert_eq!(guarded?, Hook::Clsact);
        Ok(())
    };
    // Somebody else's, behind it.
    tc("qdisc add dev in clsact")?;
    tc("filter add dev in ingress prio 7 u32 match u32 0 0 flowid 1:1")?;
    namespace.run(|| {
        let mut instance = Instance::open(bpffs.path())?;
        instance.publish(64500, 1)?;
        instance.datapath.attach("in", 0, Mode::Auto, false)?;
        for _ in 0..2 {
            guard(&mut instance)?;
        }
        assert_eq!(shown()?.matches("0x6b6f7264").count(), 1, "{}", shown()?);
        wire.send(
            &Wire::packet(20, "10.20.0.5".parse()?, "203.0.113.9".parse()?),
            7,
        )?;
        let seen = instance.datapath.seen("", Attached::Native)?;
        let seen = seen.ok_or_else(|| anyhow!("it counts"))?;
        let tagged = Tag::Customer as usize;
        assert_eq!((seen.after[tagged], seen.guard[tagged]), (7, 7), "{seen:?}");
        tc("filter del dev in ingress prio 1")?;
        assert_eq!(shown()?.matches("0x6b6f7264").count(), 0);
        guard(&mut instance)?;
        assert_eq!(shown()?.matches("0x6b6f7264").count(), 1);
        // One that ended before it could pin what it attached.
        fs::remove_file(bpffs.path().join("filters/in"))?;
        guard(&mut instance)?;
        assert_eq!(shown()?.matches("0x6b6f7264").count(), 1);
        // The next controller replaces it.
        drop(instance);
        let mut second = Instance::open(bpffs.path())?;
        second.publish(64500, 1)?;
        second.datapath.attach("in", 0, Mode::Auto, false)?;
        guard(&mut second)?;
        assert_eq!(shown()?.matches("0x6b6f7264").count(), 1);
        wire.send(
            &Wire::packet(20, "10.20.0.5".parse()?, "203.0.113.9".parse()?),
            3,
        )?;
        let seen = second.datapath.seen("", Attached::Native)?;
        assert_eq!(seen.map(|seen| seen.guard[tagged]), Some(10));
        // It goes from an interface of which another has the name now.
        namespace.ip("link set in name old\nlink add in type veth peer name new")?;
        guard(&mut second)?;
        assert_eq!(shown()?.matches("0x6b6f7264").count(), 1);
        let left = tc("filter show dev old ingress")?;
        assert!(!left.contains("0x6b6f7264"), "{left}");
        namespace.ip("link del in\nlink set old name in")?;
        Datapath::detach(bpffs.path())?;
        assert_eq!(shown()?.matches("0x6b6f7264").count(), 0);
        assert!(shown()?.contains("pref 7"), "{}", shown()?);
        Ok(())
    })
}

/// Frames that do not lie in one piece, of which the packet ends anywhere near the end of
/// the first: whichever way they take, all of their bytes are counted.
#[test]
fn frames_in_pieces_are_counted_whole() -> Result<()> {
    const LENGTH: usize = 8000;
    let wire = Wire::new("pieces")?;
    wire.namespace
        .ip("link set in mtu 9000\nlink set out mtu 9000")?;
    let bpffs = Bpffs::new()?;
    wire.namespace.run(|| {
        let mut instance = Instance::open(bpffs.path())?;
        instance.publish(64500, 1)?;
        instance.datapath.attach("in", 0, Mode::Native, false)?;
        // Passed and dropped by the planes, by the class plane, by the decision in full.
        let mut sent = 0;
        for to in [
            "203.0.113.9",
            "198.51.100.9",
            "192.0.2.9",
            "255.255.255.255",
        ] {
            // In native mode the first piece is what a page has room for: some 3,500 bytes.
            for packet in (3440..3560).chain([28, 4000, LENGTH - 18]) {
                let data = vec![0; packet - 28];
                let (from, to) = ("10.20.0.5".parse()?, to.parse()?);
                let packet = frame::udp(from, to, (4000, 4000), &data);
                let ethernet = frame::Ethernet::new([2; 6], [4; 6]).tag(0x8100, 20);
                let mut frame = ethernet.packet(&packet);
                frame.resize(LENGTH, 0);
                wire.send(&frame, 1)?;
                sent += 1;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        let counters = instance.datapath.reader().counters()?;
        let mut judged = 0;
        for (slot, counter) in counters.iter().enumerate() {
            let identity = instance.datapath.directory().identity(slot as u32);
            let identity = format!("{identity:?}");
            // By tags frames are counted alone.
            if identity.starts_with("Some(Seen(") {
                assert_eq!(counter.bytes, 0, "{identity}: {counter:?}");
                continue;
            }
            assert_eq!(
                counter.bytes,
                counter.packets * LENGTH as u64,
                "{identity}: {counter:?}"
            );
            // What decided; what was noted is counted as well.
            let decided = ["Some(Zone(", "Some(Rule("];
            if decided.iter().any(|which| identity.starts_with(which)) {
                judged += counter.packets;
            }
        }
        println!("{judged} of {sent} frames counted, {LENGTH} bytes each");
        assert_eq!(judged, sent);
        Ok(())
    })
}

#[test]
fn a_foreign_program_is_left_alone() -> Result<()> {
    let wire = Wire::new("foreign")?;
    let bpffs = Bpffs::new()?;
    let _foreign = Witness::attach(&wire.namespace, "in")?;
    wire.namespace.run(|| {
        let mut instance = Instance::open(bpffs.path())?;
        instance.publish(64500, 1)?;
        let error = instance
            .datapath
            .attach("in", 0, Mode::Auto, false)
            .unwrap_err()
            .to_string();
        assert!(
            // It hangs on a link, which `ip link set … xdp off` does not take off.
            error.contains("another XDP program") && error.contains("bpftool link detach id"),
            "{error}"
        );
        Ok(())
    })
}

#[test]
fn another_kordon_is_told_from_other_programs() -> Result<()> {
    let wire = Wire::new("other")?;
    let (bpffs, elsewhere) = (Bpffs::new()?, Bpffs::new()?);
    wire.namespace.run(|| {
        let mut first = Instance::open(bpffs.path())?;
        first.publish(64500, 1)?;
        first.datapath.attach("in", 0, Mode::Auto, false)?;
        let mut second = Instance::open(elsewhere.path())?;
        second.publish(64500, 1)?;
        let attached = second.datapath.attach("in", 0, Mode::Auto, false);
        let error = attached.unwrap_err().to_string();
        assert!(error.contains("another kordon is there"), "{error}");
        assert!(error.contains("--bpffs"), "{error}");
        Ok(())
    })
}

#[test]
fn an_interface_that_comes_back_is_attached_anew() -> Result<()> {
    let wire = Wire::new("flap")?;
    let bpffs = Bpffs::new()?;
    let instance = Arc::new(std::sync::Mutex::new(Instance::open(bpffs.path())?));
    let attach = || -> Result<Attached> {
        wire.namespace.run(|| {
            let mut instance = instance.lock().map_err(|e| anyhow!("{e}"))?;
            Ok(instance.datapath.attach("in", 0, Mode::Native, false)?)
        })
    };
    instance
        .lock()
        .map_err(|e| anyhow!("{e}"))?
        .publish(64500, 1)?;
    attach()?;
    wire.namespace.ip("link del in")?;
    assert!(attach().is_err_and(|e| e.to_string().contains("no such interface")));
    wire.namespace
        .ip("link add in type veth peer name out\nlink set in up\nlink set out up")?;
    attach()?;
    Ok(())
}
