//! Everything that is known from BMP, behind one lock that is never held for long:
//! sessions put messages in, the daemon takes changes out and asks what there is.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use super::{
    combine,
    message::{LOC_RIB, Malformed, Message},
    overlay::{Change, Ground, Layer, Stakes},
    rib::{MAX_PEERS, Moment, Rib, Table, Touched},
    sets::Sets,
    update::Update,
};
use crate::asn::{AsnDb, range::Address};

/// Routes of all peers together; more end the session that brings them.
pub const MAX_ROUTES: usize = 8_000_000;
/// A peer that had nothing before has sent all when nothing came for so long, whether it
/// says so or not.
const QUIET: u32 = 2;
/// How long it may take at most until its first routes take effect, in seconds.
const FIRST: u32 = 60;

/// How to treat what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long what loosens waits, in seconds.
    pub hold: u32,
    /// Peers that were silent for so long are stale, in seconds.
    pub stale_after: u32,
}

/// What has come, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that were accepted.
    pub sessions: u64,
    /// Sessions that were turned away: not allowed, or too many.
    pub refused: u64,
    /// Messages.
    pub messages: u64,
    /// BGP UPDATEs in them.
    pub updates: u64,
    /// Sessions that ended because of what they sent.
    pub errors: u64,
    /// UPDATEs of Adj-RIB-Out (RFC 8671), which say what the router sends.
    pub adj_rib_out: u64,
    /// Routes that are not for unicast, or defaults.
    pub other_routes: u64,
    /// Changes that took effect.
    pub changes: u64,
    /// Changes that had to wait.
    pub held: u64,
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// It cannot be read on.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// More than this much memory is worth.
    #[error("there are more than {MAX_ROUTES} routes: monitor fewer peers or tables")]
    Routes,
    /// Likewise.
    #[error("there are more than {MAX_PEERS} peers: monitor fewer")]
    Peers,
    /// The router said so.
    #[error("the router ended it")]
    Terminated,
}

/// A router that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its address.
    pub router: IpAddr,
    /// As it calls itself.
    pub name: Option<String>,
    /// Since when.
    pub since: Moment,
    number: u64,
}

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Of which prefix.
    pub prefix: ipnet::IpNet,
    /// The origins that are in effect for it.
    pub current: Vec<u32>,
    /// Those that wait; empty: the prefix is to go.
    pub wanted: Vec<u32>,
    /// Seconds since 1970.
    pub since: u32,
    /// Seconds from now.
    pub left: u32,
}

/// What the RIB has around an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The longest prefix.
    pub prefix: ipnet::IpNet,
    /// Its origins as they are in effect.
    pub origins: Vec<u32>,
    /// Since when; seconds since 1970.
    pub since: u32,
    /// Who announces it. Empty: nobody any more, and that waits.
    pub peers: Vec<IpAddr>,
    /// Whether all of these are stale.
    pub stale: bool,
    /// The imported origins count beside these.
    pub beside: bool,
}

#[derive(Clone, Debug, Default)]
struct Dirty {
    v4: HashSet<(u32, u8)>,
    v6: HashSet<(u128, u8)>,
}

impl Dirty {
    fn add(&mut self, touched: &mut Touched) {
        self.v4.extend(touched.v4.drain(..));
        self.v6.extend(touched.v6.drain(..));
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Feed {
    settings: Settings,
    stakes: Stakes,
    imported: Arc<AsnDb>,
    sessions: Vec<Session>,
    last_session: u64,
    pub(super) rib: Rib,
    pub(super) v4: Layer<u32>,
    pub(super) v6: Layer<u128>,
    pub(super) sets: Sets,
    dirty: Dirty,
    /// Of peers that have only begun: in effect when they have sent all, so that a blocked
    /// prefix is not there without the shorter ones of others inside it.
    beginning: Dirty,
    /// One of them has sent all.
    begun: bool,
    update: Update,
    touched: Touched,
    counts: Counts,
    revision: u64,
}

impl Feed {
    /// One without routes.
    #[must_use]
    pub fn new(settings: Settings, stakes: Stakes, imported: Arc<AsnDb>) -> Self {
        Self {
            settings,
            stakes,
            imported,
            sessions: Vec::new(),
            last_session: 0,
            rib: Rib::default(),
            v4: Layer::default(),
            v6: Layer::default(),
            sets: Sets::default(),
            dirty: Dirty::default(),
            beginning: Dirty::default(),
            begun: false,
            update: Update::default(),
            touched: Touched::default(),
            counts: Counts::default(),
            revision: 0,
        }
    }

    /// Another policy or database: what waits is judged again with the next changes. Says
    /// whether it is another one.
    pub fn ground(&mut self, stakes: Stakes, imported: Arc<AsnDb>) -> bool {
        if stakes == self.stakes && Arc::ptr_eq(&imported, &self.imported) {
            return false;
        }
        self.stakes = stakes;
        self.imported = imported;
        self.dirty.v4.extend(self.v4.all_waiting());
        self.dirty.v6.extend(self.v6.all_waiting());
        true
    }

    /// Decides on everything again with the next changes.
    pub(super) fn look_again(&mut self) {
        self.dirty.v4.extend(self.rib.v4.prefixes());
        self.dirty.v6.extend(self.rib.v6.prefixes());
        self.dirty.v4.extend(self.v4.entries.keys());
        self.dirty.v6.extend(self.v6.entries.keys());
    }

    /// A router has connected; returns what to call the session.
    pub fn open(&mut self, router: IpAddr, now: Moment) -> u64 {
        self.counts.sessions += 1;
        self.last_session += 1;
        self.sessions.push(Session {
            router,
            name: None,
            since: now,
            number: self.last_session,
        });
        self.last_session
    }

    /// A router was turned away.
    pub fn refuse(&mut self) {
        self.counts.refused += 1;
    }

    /// A session has ended. What it brought stays.
    pub fn close(&mut self, session: u64, why: &FeedError, now: Moment) {
        if matches!(
            why,
            FeedError::Malformed(_) | FeedError::Routes | FeedError::Peers
        ) {
            self.counts.errors += 1;
        }
        self.lost(session, now);
    }

    /// A connection has gone. What it brought stays.
    pub fn lost(&mut self, session: u64, now: Moment) {
        let Some(at) = self.sessions.iter().position(|s| s.number == session) else {
            return;
        };
        let router = self.sessions.swap_remove(at).router;
        if self.sessions.iter().all(|s| s.router != router) {
            self.rib.router_down(router, now);
        }
    }

    /// Takes one message of a session.
    ///
    /// # Errors
    /// When the session is to end.
    pub fn message(
        &mut self,
        session: u64,
        message: &Message<'_>,
        now: Moment,
    ) -> Result<(), FeedError> {
        let Some(at) = self.sessions.iter().position(|s| s.number == session) else {
            return Ok(());
        };
        let router = self.sessions[at].router;
        self.counts.messages += 1;
        match message {
            Message::Initiation { name } => self.sessions[at].name.clone_from(name),
            Message::PeerUp { header, add_path } if !header.adj_rib_out => {
                self.rib.peer_up(router, header, *add_path, now);
            }
            Message::PeerDown { header } => self.rib.peer_down(router, header.peer, now),
            Message::Routes { header, .. } if header.adj_rib_out => self.counts.adj_rib_out += 1,
            Message::Routes { header, bgp } => {
                self.counts.updates += 1;
                let table = self
                    .rib
                    .table(router, header, now)
                    .ok_or(FeedError::Peers)?;
                let reading = self.rib.session(table, header);
                self.update.read(bgp, &reading).map_err(|what| {
                    let kind = "route monitoring";
                    Malformed::Damaged { kind, what }
                })?;
                self.counts.other_routes += self.update.ignored;
                self.rib
                    .update(table, &self.update, &mut self.sets, now, &mut self.touched);
                let from = &self.rib.tables[table];
                if from.first {
                    self.beginning.add(&mut self.touched);
                    self.begun |= !from.is_syncing();
                } else {
                    self.dirty.add(&mut self.touched);
                }
                if self.rib.len() > MAX_ROUTES {
                    return Err(FeedError::Routes);
                }
            }
            Message::Termination => return Err(FeedError::Terminated),
            Message::PeerUp { .. } | Message::Other => {}
        }
        Ok(())
    }

    /// Whether peers that had nothing before have sent all they have.
    fn end_beginnings(&mut self, now: Moment) {
        self.begun = false;
        let mut beginning = false;
        for table in self.rib.tables.iter_mut().filter(|table| table.first) {
            let waited = |from: Moment, long| now.steady.saturating_sub(from.steady) >= long;
            let ended =
                !table.is_syncing() || waited(table.heard, QUIET) || waited(table.since, FIRST);
            table.first = !ended;
            beginning |= !ended;
        }
        if !beginning && !self.beginning.is_empty() {
            // As large as a table: the memory goes with it.
            let all = std::mem::take(&mut self.beginning);
            if self.dirty.is_empty() {
                self.dirty = all;
            } else {
                self.dirty.v4.extend(all.v4);
                self.dirty.v6.extend(all.v6);
            }
        }
    }

    /// Whether [`Self::settle`] has something to do now.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.begun || !self.dirty.is_empty()
    }

    /// Decides on all that has come, and on what has waited long enough: what is to be in
    /// effect from now on.
    pub fn settle(&mut self, now: Moment) -> Vec<Change> {
        self.end_beginnings(now);
        let stale_after = self.settings.stale_after;
        self.rib
            .tick(now, stale_after, &mut self.sets, &mut self.touched);
        self.dirty.add(&mut self.touched);
        self.dirty.v4.extend(self.v4.due(now));
        self.dirty.v6.extend(self.v6.due(now));
        let ground = Ground {
            stakes: &self.stakes,
            imported: &self.imported,
            hold: self.settings.hold,
            now,
        };
        let waiting = self.waiting();
        let mut changes = Vec::new();
        let mut found = Vec::new();
        let dirty = std::mem::take(&mut self.dirty.v4);
        let wanted: Vec<_> = dirty
            .into_iter()
            .map(|(start, len)| {
                let any = self.rib.v4.wanted(start, len, &self.sets, &mut found);
                ((start, len), any.then(|| found.clone()))
            })
            .collect();
        self.v4
            .change(wanted.into_iter(), &ground, &mut self.sets, &mut changes);
        let dirty = std::mem::take(&mut self.dirty.v6);
        let wanted: Vec<_> = dirty
            .into_iter()
            .map(|(start, len)| {
                let any = self.rib.v6.wanted(start, len, &self.sets, &mut found);
                ((start, len), any.then(|| found.clone()))
            })
            .collect();
        self.v6
            .change(wanted.into_iter(), &ground, &mut self.sets, &mut changes);
        self.counts.held += self.waiting().saturating_sub(waiting) as u64;
        self.counts.changes += changes.len() as u64;
        self.revision += u64::from(!changes.is_empty());
        changes
    }

    /// Raised with every change that takes effect.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The imported database with all that is in effect over it.
    #[must_use]
    pub fn overlaid(&self, imported: &AsnDb) -> AsnDb {
        combine::overlaid(imported, &self.v4, &self.v6, &self.sets)
    }

    /// Who announces what between two IPv4 addresses, both included: where each range
    /// begins, and its origins; none: nobody.
    #[must_use]
    pub fn between_v4(&self, imported: &AsnDb, ends: (u32, u32)) -> Vec<(u32, Vec<u32>)> {
        combine::between(&imported.v4, imported, &self.v4, &self.sets, ends)
    }

    /// As [`Self::between_v4`], for IPv6.
    #[must_use]
    pub fn between_v6(&self, imported: &AsnDb, ends: (u128, u128)) -> Vec<(u128, Vec<u32>)> {
        combine::between(&imported.v6, imported, &self.v6, &self.sets, ends)
    }

    /// Whether nothing is in effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.entries.is_empty() && self.v6.entries.is_empty()
    }

    /// What has come.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Routers that are connected.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Tables of peers, with their routes in IPv4 and IPv6.
    pub fn tables(&self) -> impl Iterator<Item = (&Table, usize, usize)> {
        let all = self.rib.tables.iter().enumerate();
        all.map(|(number, table)| (table, self.rib.v4.of(number), self.rib.v6.of(number)))
    }

    /// Prefixes that are in effect, IPv4 and IPv6.
    #[must_use]
    pub fn prefixes(&self) -> (usize, usize) {
        (self.v4.entries.len(), self.v6.entries.len())
    }

    /// How many changes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.v4.waiting.len() + self.v6.waiting.len()
    }

    /// The changes that wait, `limit` of each family at most.
    #[must_use]
    pub fn waits(&self, now: Moment, limit: usize) -> Vec<Wait> {
        let mut out = Vec::new();
        out.extend(waits(&self.v4, &self.sets, now).take(limit));
        out.extend(waits(&self.v6, &self.sets, now).take(limit));
        out
    }

    /// What there is around an address, and what waits there.
    #[must_use]
    pub fn at(&self, address: IpAddr, now: Moment) -> (Option<Found>, Option<Wait>) {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let address = address.to_bits();
                let found = self.v4.at(address).map(|((start, len), _)| {
                    let peers = self.rib.v4.announcers(start, len).collect();
                    self.found(&self.v4, (start, len), peers)
                });
                let wait = self.v4.waiting_at(address);
                (
                    found.flatten(),
                    wait.map(|(prefix, _)| one(&self.v4, &self.sets, now, prefix)),
                )
            }
            IpAddr::V6(address) => {
                let address = address.to_bits();
                let found = self.v6.at(address).map(|((start, len), _)| {
                    let peers = self.rib.v6.announcers(start, len).collect();
                    self.found(&self.v6, (start, len), peers)
                });
                let wait = self.v6.waiting_at(address);
                (
                    found.flatten(),
                    wait.map(|(prefix, _)| one(&self.v6, &self.sets, now, prefix)),
                )
            }
        }
    }

    fn found<A: Address>(
        &self,
        layer: &Layer<A>,
        prefix: (A, u8),
        peers: Vec<usize>,
    ) -> Option<Found> {
        let entry = layer.entries.get(&prefix)?;
        let tables = || peers.iter().map(|&number| &self.rib.tables[number]);
        let mut addresses: Vec<IpAddr> = tables()
            .map(|table| match table.peer.kind {
                LOC_RIB => table.router,
                _ => table.peer.address,
            })
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        Some(Found {
            prefix: prefix.0.net(prefix.1),
            origins: self.sets.get(entry.set).to_vec(),
            since: entry.since,
            stale: tables().all(|table| table.stale) && !peers.is_empty(),
            peers: addresses,
            beside: entry.beside,
        })
    }
}

fn waits<A: Address>(layer: &Layer<A>, sets: &Sets, now: Moment) -> impl Iterator<Item = Wait> {
    let one = move |prefix: &(A, u8)| one(layer, sets, now, *prefix);
    layer.waiting.keys().map(one)
}

fn one<A: Address>(layer: &Layer<A>, sets: &Sets, now: Moment, prefix: (A, u8)) -> Wait {
    let waiting = layer.waiting.get(&prefix);
    let set = |id| sets.get(id).to_vec();
    let current = layer.entries.get(&prefix).map(|entry| set(entry.set));
    Wait {
        prefix: prefix.0.net(prefix.1),
        current: current.unwrap_or_default(),
        wanted: waiting.and_then(|w| w.wanted).map(set).unwrap_or_default(),
        since: waiting.map_or(0, |w| w.since),
        left: waiting.map_or(0, |w| w.until.saturating_sub(now.steady)),
    }
}

#[cfg(test)]
impl Feed {
    /// Distinct origin sets that something has.
    pub(super) fn held_sets(&self) -> usize {
        self.sets.len()
    }
}
