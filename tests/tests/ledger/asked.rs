//! The ledger as it is configured and asked for: its lines, and what `kordon flows` says that it does not have.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::frame::{Ethernet, udp},
    router::{Router, policy},
};

use super::{add, flows, mac, sum};

#[test]
fn there_are_as_many_lines_as_are_configured() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("lines", binary)?;
    let usual = fs::read_to_string(router.path("kordon.toml"))?;
    let (mut controller, _) = Controller::start(&router.place())?;
    let is_noticed = |controller: &Controller| -> Result<bool> {
        let status = controller.cli(&["status"])?;
        Ok(status["notices"].to_string().contains("`[ledger] lines`"))
    };
    for (round, lines) in [1024, 4096, 65_536].into_iter().enumerate() {
        let configuration = format!("{usual}[ledger]\nlines = {lines}\n");
        router.write("kordon.toml", configuration)?;
        controller.kill()?;
        (controller, _) = Controller::start(&router.place())?;
        ensure!(
            is_noticed(&controller)?,
            "{lines}: the ledger of before goes on, and nobody says so"
        );
        controller.cli(&["detach", "--yes"])?;
        controller.ended()?;
        (controller, _) = Controller::start(&router.place())?;
        ensure!(!is_noticed(&controller)?, "{lines}");
        let cpus = aya::util::nr_cpus().map_err(|(_, e)| e)? as u64;
        let metrics = Metrics::scrape(&router.wire.namespace)?;
        let all = metrics.sum("kordon_ledger_lines", &[]);
        ensure!(all == lines * cpus, "{lines}: {all} of all processors");
        // More flows than the fewest lines have room for; no source has more than its budget.
        let mut sent = (0, 0);
        for camera in 1..=8 {
            for host in 1..=250 {
                let from = Ipv4Addr::new(10, 20, round as u8, camera).into();
                let to: IpAddr = Ipv4Addr::new(198, 51, 100, host).into();
                let frame = Ethernet::new(mac(camera), [4; 6])
                    .tag(0x8100, 20)
                    .packet(&udp(from, to, (40_000, 443), &[7; 20]));
                router.wire.send(&frame, 1)?;
                add(&mut sent, frame.len());
            }
        }
        thread::sleep(Duration::from_millis(500));
        let rows = flows(&controller, &["--action", "drop"])?;
        ensure!(
            rows.len() == 2000 && sum(rows.iter()) == sent,
            "{lines}: {} flows, {:?} of {sent:?}",
            rows.len(),
            sum(rows.iter())
        );
    }
    Ok(())
}

#[test]
fn what_flows_do_not_have_is_said() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("unshown", binary)?;
    let lamps = "[zone.lamps]\nvlans = [30]\nrecord = \"off\"\n";
    router.write("policy.toml", policy("64500") + lamps)?;
    let (mut controller, _) = Controller::start(&router.place())?;
    let send = |vlan: u16, packets: usize| -> Result<()> {
        let from = Ipv4Addr::new(10, 20, 0, 9).into();
        let to: IpAddr = Ipv4Addr::new(203, 0, 113, 1).into();
        let frame = Ethernet::new(mac(9), [4; 6]).tag(0x8100, vlan);
        let frame = frame.packet(&udp(from, to, (40_000, 443), &[7; 20]));
        router.wire.send(&frame, packets)?;
        thread::sleep(Duration::from_millis(100));
        Ok(())
    };
    let said = |controller: &Controller, more: &[&str]| -> Result<(String, Option<i32>)> {
        let arguments = [&["flows", "--live"], more].concat();
        let output = controller.command(&arguments).output()?;
        let all = [output.stdout, output.stderr].concat();
        Ok((String::from_utf8(all)?, output.status.code()))
    };
    let has = |(text, _): &(String, Option<i32>), words: &str| -> Result<()> {
        ensure!(text.contains(words), "no `{words}` in: {text}");
        Ok(())
    };
    send(20, 5)?;
    send(30, 3)?;
    let lamps = said(&controller, &["--zone", "lamps"])?;
    has(
        &lamps,
        "zone lamps: 3 packets in no record (now `record = \"off\"`)",
    )?;
    let cameras = said(&controller, &["--zone", "cameras"])?;
    ensure!(!cameras.0.contains("zone "), "{cameras:?}");
    for wrong in ["nosuch", "lamp"] {
        let wrong = said(&controller, &["--zone", wrong])?;
        has(&wrong, "there is no zone")?;
        ensure!(wrong.1 == Some(1), "{wrong:?}");
    }
    has(
        &said(&controller, &["--zone", "lamp"])?,
        "did you mean `lamps`",
    )?;
    // What is not IP may be for anybody.
    let arp = Ethernet::new(mac(9), [0xff; 6])
        .tag(0x8100, 20)
        .payload(0x0806, &[0; 28]);
    router.wire.send(&arp, 2)?;
    thread::sleep(Duration::from_millis(100));
    let asn = said(&controller, &["--asn", "AS64501"])?;
    has(&asn, "2 packets not understood or not IP")?;
    controller.kill()?;
    (controller, _) = Controller::start(&router.place())?;
    send(30, 4)?;
    let lamps = said(&controller, &["--zone", "lamps"])?;
    has(&lamps, "zone lamps: 4 packets in no record")?;
    has(&lamps, "zone lamps, before that: 0 packets recorded, 3 not")?;
    Ok(())
}
