//! What arrives, beside what `kordon status` claims: kernels, network cards, and what is stacked
//! on them, after each thing that happens to routers.
//!
//! One daemon polices all cells of a guest at once ([`cell`]), so that it is waited for once, and
//! each thing happens to all of them. Then there are rounds. In each, `status` is asked, blocked
//! and allowed frames are sent to each cell, the server counts what arrives ([`server`]), and
//! `status` is asked again, [`LATER`]. Where both answers claim the same of a cell, its frames were
//! sent while that was claimed: that is its [`line`]. Where they differ, or where nothing is
//! claimed and it may still come, the cell has another round; what arrived meanwhile is
//! `leaked_before`. So is what arrives in the first round, which begins within the moment that
//! `status` may need: it may have been noticed and cured between the two answers. From the second
//! round on, a cell of which both answers claim that it is enforced, and where a blocked frame
//! arrived, has no other round: it failed.
//!
//! What all this is blind for is a way around what is policed: [`second`].

mod cell;
mod line;
mod second;
mod server;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use self::{
    cell::{Cell, FAR, Stack},
    line::{Claim, Line, has_daemon, said},
    server::{Server, frame},
};
use super::{
    checks::{Report, Said},
    daemon::{ALLOWED, BLOCKED, Daemon, SENT},
};
use crate::lab::{programs::Witness, raw::RawSender};

/// After frames were sent until `status` is asked: what they show is to be known within a second,
/// on a processor that takes three times as long.
const LATER: Duration = Duration::from_secs(3);
/// How long cards may take until they have their link.
const LINK: Duration = Duration::from_secs(60);
/// Rounds in which a claim may still come, and all rounds.
const ROUNDS: (u32, u32) = (20, 24);

/// What happens, in this order.
const CHECKS: [&str; 9] = [
    "start",
    "offload-on",
    "down-up",
    "rename",
    "unbind-bind",
    "foreign",
    "kill",
    "adopt",
    "detach",
];

/// Runs all checks on all cards that there are. `kernel`: what it is called, and what only the
/// host needs to know behind a comma.
pub(super) fn run(kernel: &str, mark: &str, report: &Report) {
    let kernel = kernel.split(',').next().unwrap_or_default();
    let place = Path::new("/tmp/matrix");
    let mut server = None;
    report("a second trunk", &mut || {
        let new = Server::new()?;
        let said = second::run(&new);
        server = Some(new);
        said
    });
    let mut lab = None;
    report("matrix, one daemon on all devices", &mut || {
        let server = server.take().context("there is no server")?;
        let all = Lab::new(place, server)?;
        let said = format!("{} cells", all.cells.len());
        lab = Some(all);
        Ok(Said::Done(said))
    });
    let Some(mut lab) = lab else { return };
    for check in CHECKS {
        report(&format!("matrix, {check}"), &mut || {
            lab.happens(check)?;
            let said = lab.look(check, |line| {
                let line = Line { kernel, ..line };
                println!("{mark} {}", line.words());
            })?;
            lab.is_over(check)?;
            Ok(Said::Done(said))
        });
    }
}

struct Lab<'a> {
    cells: Vec<Cell>,
    /// What is to be known about cells in this check.
    notes: Vec<Option<&'static str>>,
    /// Other people's programs.
    foreign: Vec<Witness>,
    server: Server,
    far: RawSender,
    daemon: Daemon<'a>,
}

impl<'a> Lab<'a> {
    fn new(place: &'a Path, mut server: Server) -> Result<Self> {
        let cells = Cell::all(&mut server)?;
        let far = RawSender::here(FAR)?;
        wait_for_links(&cells)?;
        let mut interfaces = Vec::new();
        let mut inside = Vec::new();
        for cell in &cells {
            let Cell { name, device, .. } = cell;
            let managed = cell.stack == Stack::Managed;
            interfaces.push(format!(
                "name = \"{name}\"\ndevice = \"{device}\"\nmanage_offload = {managed}\n"
            ));
            if cell.stack == Stack::SubInterface {
                inside.push(name.as_str());
            }
        }
        let mut policy = zone("cameras", &server::VID.to_string());
        // A sub-interface gets its frames without the tag. Only there: who takes a frame whose tag
        // is hidden for one without a tag must not be right by accident.
        if !inside.is_empty() {
            policy += &zone("inside", "\"untagged\"");
            policy += &format!("interfaces = {inside:?}\n");
        }
        policy += "[set.hostile]\nasns = [64500]\n[[rule]]\nname = \"hostile\"\nfrom = \"*\"\n\
                   to = \"hostile\"\naction = \"drop\"\n";
        let mut daemon = Daemon::start(place, &policy, &interfaces, false)?;
        daemon.until("it answers", |status| {
            has_daemon(status) && !status["policy"].is_null()
        })?;
        let notes = vec![None; cells.len()];
        Ok(Self {
            cells,
            notes,
            foreign: Vec::new(),
            server,
            far,
            daemon,
        })
    }

    /// It happens to all cells.
    fn happens(&mut self, check: &str) -> Result<()> {
        self.notes.fill(None);
        match check {
            "kill" => self.daemon.kill()?,
            "adopt" => {
                self.daemon.again()?;
                self.daemon.until("another one answers", has_daemon)?;
            }
            "detach" => self.daemon.run(&["detach", "--yes"])?,
            _ => {}
        }
        for (cell, note) in self.cells.iter_mut().zip(&mut self.notes) {
            *note = to_one(cell, check, &mut self.foreign).with_context(|| cell.name.clone())?;
        }
        wait_for_links(&self.cells)
    }

    /// What happened is undone, where it would be in the way of what is next.
    fn is_over(&mut self, check: &str) -> Result<()> {
        self.foreign.clear();
        for cell in &mut self.cells {
            match check {
                "offload-on" if cell.stack != Stack::Managed => drop(cell.take_tags(false)?),
                "offload-on" => ensure!(
                    !cell.takes_tags()?,
                    "{}: kordon did not switch the offload off",
                    cell.name
                ),
                "rename" => cell.rename()?,
                _ => {}
            }
        }
        wait_for_links(&self.cells)
    }

    /// Rounds, until there is a line for each cell.
    fn look(&self, check: &str, show: impl Fn(Line<'_>)) -> Result<String> {
        let start = Instant::now();
        let mut left: Vec<(usize, u64)> = (0..self.cells.len()).map(|index| (index, 0)).collect();
        let mut rounds = 0;
        self.server.take()?;
        while !left.is_empty() {
            rounds += 1;
            let before = self.daemon.status()?;
            for (index, _) in &left {
                let Cell { port, .. } = self.cells[*index];
                let mac = self.cells[*index].mac();
                for to in [BLOCKED, ALLOWED] {
                    for _ in 0..SENT {
                        self.far.send(&frame(mac, to, port))?;
                    }
                }
            }
            thread::sleep(LATER);
            let arrived = self.server.take()?;
            let after = self.daemon.status()?;
            left.retain_mut(|(index, leaked)| {
                let cell = &self.cells[*index];
                let [was, claim] = [&before, &after].map(|status| Claim::of(status, &cell.name));
                let arrived = arrived.get(&cell.port).copied().unwrap_or_default();
                let settled = was == claim;
                let is_leak = claim.claimed && arrived.blocked > 0;
                let is_false = settled && is_leak && rounds > 1;
                // A bridge is refused, and what is detached is off.
                let is_final = claim.claimed
                    || rounds >= ROUNDS.0
                    || check == "detach"
                    || cell.stack == Stack::Bridge;
                let is_clear = settled && is_final && !is_leak && arrived.allowed == SENT;
                if !is_false && !is_clear && rounds < ROUNDS.1 {
                    *leaked += arrived.blocked;
                    return true;
                }
                let (stack, policed) = cell.stack.words();
                show(Line {
                    kernel: "",
                    nic: cell.nic,
                    stack,
                    policed,
                    check,
                    claim: &claim,
                    settled,
                    sent: SENT,
                    arrived,
                    leaked: *leaked,
                    rounds,
                    has_daemon: has_daemon(&after),
                    said: said(&after, &cell.name, &cell.known_as()),
                    note: self.notes[*index],
                });
                false
            });
        }
        Ok(format!(
            "{rounds} rounds in {:.0} s",
            start.elapsed().as_secs_f64()
        ))
    }
}

/// What is to be known of it afterwards.
fn to_one(
    cell: &mut Cell,
    check: &str,
    foreign: &mut Vec<Witness>,
) -> Result<Option<&'static str>> {
    match check {
        "offload-on" if !cell.take_tags(true)? => return Ok(Some("the card has no such switch")),
        "down-up" => cell.down_up()?,
        "rename" => cell.rename()?,
        "unbind-bind" => cell.unbind_bind()?,
        "foreign" => {
            let other = Witness::here(&cell.device).map(|other| foreign.push(other));
            return Ok(Some(match other {
                Ok(()) => "another XDP program was attached",
                Err(_) => "another XDP program was refused by the kernel",
            }));
        }
        _ => {}
    }
    Ok(None)
}

fn zone(name: &str, vlans: &str) -> String {
    format!("[zone.{name}]\nvlans = [{vlans}]\nsources = [\"10.20.0.0/16\"]\n")
}

/// A card that begins anew says that it has a link, loses it, and has it again.
fn wait_for_links(cells: &[Cell]) -> Result<()> {
    let end = Instant::now() + LINK;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        let without = cells.iter().find(|cell| !cell.has_link());
        if let Some(cell) = without {
            since = Instant::now();
            ensure!(since < end, "{}: there is no link", cell.name);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
