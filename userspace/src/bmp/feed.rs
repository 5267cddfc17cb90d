//! Everything that is known from BMP, behind one lock that is never held for long:
//! sessions put messages in, the daemon takes changes out and asks what there is.

use std::{net::IpAddr, sync::Arc};

pub use super::combine::InEffect;
pub use super::rib::Settings;
use super::{
    combine::{self, Meaning},
    layers::{Dirty, Layers, changed_meaning, decide},
    message::{Malformed, Message},
    overlay::{Change, Ground, Layer, Stakes},
    recent::{Recent, had},
    rib::{MAX_PEERS, Moment, PeerTable, Rib, Touched},
    sets::Sets,
    update::Update,
};
use crate::asn::AsnDb;

/// Routes of all peers together; more end the session that brings them.
pub const MAX_ROUTES: usize = 8_000_000;
/// A peer that had nothing before has sent all when nothing came for so long, whether it
/// says so or not.
const QUIET: u32 = 2;
/// How long it may take at most until its first routes take effect, in seconds.
const FIRST: u32 = 60;

/// What has come, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that were accepted.
    pub sessions: u64,
    /// Messages.
    pub messages: u64,
    /// BGP UPDATEs in them.
    pub updates: u64,
    /// Sessions that ended because of what they sent.
    pub errors: u64,
    /// Sessions that ended because they sent nothing.
    pub silent: u64,
    /// UPDATEs with a bad attribute, treated as withdrawals (RFC 7606).
    pub withdrawals: u64,
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

/// Prefixes that have changed, of both families.
#[derive(Clone, Debug, Default)]
struct AllDirty {
    v4: Dirty<u32>,
    v6: Dirty<u128>,
}

impl AllDirty {
    fn add(&mut self, touched: &mut Touched) {
        self.v4.add(&mut touched.v4);
        self.v6.add(&mut touched.v6);
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Feed {
    settings: Settings,
    pub(super) stakes: Stakes,
    imported: Arc<AsnDb>,
    sessions: Vec<Session>,
    last_session: u64,
    pub(super) rib: Rib,
    pub(super) v4: Layers<u32>,
    pub(super) v6: Layers<u128>,
    pub(super) sets: Sets,
    recent_v4: Recent<u32>,
    recent_v6: Recent<u128>,
    dirty: AllDirty,
    /// Prefixes that did not change, but what they mean did.
    anew: Vec<Change>,
    /// Of peers that have only begun: in effect when they have sent all, so that a blocked
    /// prefix is not there without the shorter ones of others inside it.
    beginning: AllDirty,
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
            v4: Layers::default(),
            v6: Layers::default(),
            sets: Sets::default(),
            recent_v4: Recent::default(),
            recent_v6: Recent::default(),
            dirty: AllDirty::default(),
            anew: Vec::new(),
            beginning: AllDirty::default(),
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
        let before = std::mem::replace(&mut self.stakes, stakes);
        self.imported = imported;
        let (of, stakes) = (&self.sets, &self.stakes);
        changed_meaning(&self.v4, of, (&before, stakes), &mut self.anew);
        changed_meaning(&self.v6, of, (&before, stakes), &mut self.anew);
        self.dirty.v4.add_of(&self.v4, Layer::all_waiting);
        self.dirty.v6.add_of(&self.v6, Layer::all_waiting);
        true
    }

    /// Decides on everything again with the next changes.
    pub(super) fn look_again(&mut self) {
        for (number, table) in self.rib.tables.iter().enumerate() {
            let accepted = table.is_accepted();
            self.dirty.v4.add_routes(&self.rib.v4, number, accepted);
            self.dirty.v6.add_routes(&self.rib.v6, number, accepted);
        }
        self.dirty.v4.add_of(&self.v4, Layer::prefixes);
        self.dirty.v6.add_of(&self.v6, Layer::prefixes);
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

    /// A session was ended because nothing came. What it brought stays.
    pub fn silent(&mut self, session: u64, now: Moment) {
        self.counts.silent += 1;
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

    /// Takes one message of a session. Returns what is wrong with an attribute of an UPDATE
    /// that is treated as a withdrawal for it.
    ///
    /// # Errors
    /// When the session is to end.
    pub fn message(
        &mut self,
        session: u64,
        message: &Message<'_>,
        now: Moment,
    ) -> Result<Option<&'static str>, FeedError> {
        let Some(at) = self.sessions.iter().position(|s| s.number == session) else {
            return Ok(None);
        };
        let router = self.sessions[at].router;
        self.counts.messages += 1;
        match message {
            Message::Initiation { name } => self.sessions[at].name.clone_from(name),
            Message::PeerUp { header, add_path } if !header.adj_rib_out => {
                if !self.rib.peer_up(router, header, *add_path, now) {
                    return Err(FeedError::Peers);
                }
            }
            Message::PeerDown { header } if !header.adj_rib_out => {
                self.rib.peer_down(router, header.peer, now);
            }
            Message::Routes { header, .. } if header.adj_rib_out => self.counts.adj_rib_out += 1,
            Message::Routes { header, bgp } => {
                self.counts.updates += 1;
                let (sets, touched) = (&mut self.sets, &mut self.touched);
                let table = self.rib.table(router, header, now, sets, touched);
                let table = table.ok_or(FeedError::Peers)?;
                // Of one that was forgotten to make room.
                self.dirty.add(&mut self.touched);
                let reading = self.rib.session(table, header);
                let bad = self.update.read(bgp, &reading).map_err(|what| {
                    let kind = "route monitoring";
                    Malformed::Damaged { kind, what }
                })?;
                self.counts.withdrawals += u64::from(bad.is_some());
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
                return Ok(bad);
            }
            Message::Termination => return Err(FeedError::Terminated),
            Message::PeerUp { .. }
            | Message::PeerDown { .. }
            | Message::Statistics { .. }
            | Message::Other => {}
        }
        Ok(None)
    }

    /// Whether peers that had nothing before have sent all they have.
    fn end_beginnings(&mut self, now: Moment) {
        self.begun = false;
        let mut beginning = false;
        for table in self.rib.tables.iter_mut().filter(|table| table.first) {
            let waited = |from: Moment, long| now.since(from) >= long;
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
                self.dirty.v4.add_all(all.v4);
                self.dirty.v6.add_all(all.v6);
            }
        }
    }

    /// Whether [`Self::decide`] has something to do now.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.begun || !self.dirty.is_empty() || !self.anew.is_empty()
    }

    /// Decides on all that has come, and on what has waited long enough: what is to be in
    /// effect from now on.
    pub fn decide(&mut self, now: Moment) -> Vec<Change> {
        self.end_beginnings(now);
        let sessions = &self.sessions;
        let there = |router| {
            let of_it = sessions.iter().filter(|session| session.router == router);
            of_it
                .map(|session| session.since)
                .min_by_key(|since| since.steady)
        };
        self.rib.tick(
            now,
            &self.settings,
            there,
            &mut self.sets,
            &mut self.touched,
        );
        self.dirty.add(&mut self.touched);
        self.dirty.v4.add_of(&self.v4, |layer| layer.due(now));
        self.dirty.v6.add_of(&self.v6, |layer| layer.due(now));
        let tables = &self.rib.tables;
        let accepted: Vec<bool> = tables.iter().map(PeerTable::is_accepted).collect();
        let ground = Ground {
            stakes: &self.stakes,
            imported: &self.imported,
            accepted: &accepted,
            hold: self.settings.hold,
            now,
        };
        let waiting = self.waiting();
        let mut changes = std::mem::take(&mut self.anew);
        let dirty = std::mem::take(&mut self.dirty);
        let mut had_v4 = had(&dirty.v4, |ends| self.between_v4(&self.imported, ends));
        let mut had_v6 = had(&dirty.v6, |ends| self.between_v6(&self.imported, ends));
        let sets = &mut self.sets;
        let (v4, v6) = (&mut self.v4, &mut self.v6);
        decide(v4, &self.rib.v4, &dirty.v4, &ground, sets, &mut changes);
        decide(v6, &self.rib.v6, &dirty.v6, &ground, sets, &mut changes);
        for change in changes.iter().filter(|change| change.urgent) {
            let len = change.prefix.prefix_len();
            match change.prefix.network() {
                IpAddr::V4(start) => self.recent_v4.note((start.to_bits(), len), &mut had_v4),
                IpAddr::V6(start) => self.recent_v6.note((start.to_bits(), len), &mut had_v6),
            }
        }
        self.counts.held += self.waiting().saturating_sub(waiting) as u64;
        self.counts.changes += changes.len() as u64;
        self.revision += u64::from(!changes.is_empty());
        changes
    }

    /// Whether peers tell, all of them have told all they have, and no router or peer has come
    /// for as long as makes those stale that are gone.
    #[must_use]
    pub fn is_complete(&self, now: Moment) -> bool {
        let is_long = |since: Moment| now.since(since) >= self.settings.stale_after;
        let mut up = self.rib.tables.iter().filter(|table| table.up).peekable();
        up.peek().is_some()
            && up.all(|table| !table.is_syncing() && !table.first && is_long(table.since))
            && self.sessions.iter().all(|session| is_long(session.since))
    }

    /// Raised with every change that takes effect.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What is in effect, for whoever looks at it while the feed goes on.
    #[must_use]
    pub fn in_effect(&self) -> InEffect {
        InEffect {
            stakes: self.stakes.clone(),
            v4: self.v4.clone(),
            v6: self.v6.clone(),
            sets: self.sets.clone(),
        }
    }

    /// The imported database with all that is in effect over it.
    #[must_use]
    pub fn overlaid(&self, imported: &AsnDb) -> AsnDb {
        combine::overlaid(imported, &self.v4, &self.v6, self.meaning())
    }

    /// Who announces what between two IPv4 addresses, both included: where each range
    /// begins, and its origins; none: nobody.
    #[must_use]
    pub fn between_v4(&self, imported: &AsnDb, ends: (u32, u32)) -> Vec<(u32, Vec<u32>)> {
        combine::between(&imported.v4, imported, &self.v4, self.meaning(), ends)
    }

    /// As [`Self::between_v4`], for IPv6.
    #[must_use]
    pub fn between_v6(&self, imported: &AsnDb, ends: (u128, u128)) -> Vec<(u128, Vec<u32>)> {
        combine::between(&imported.v6, imported, &self.v6, self.meaning(), ends)
    }

    /// Who had an address before the last changes that a verdict depends on, of each prefix
    /// around it the last change first. What was forgotten is not there.
    pub fn before(&self, address: IpAddr) -> Box<dyn Iterator<Item = &[u32]> + '_> {
        match address {
            IpAddr::V4(address) => Box::new(self.recent_v4.at(address.to_bits())),
            IpAddr::V6(address) => Box::new(self.recent_v6.at(address.to_bits())),
        }
    }

    fn meaning(&self) -> Meaning<'_> {
        Meaning {
            sets: &self.sets,
            stakes: &self.stakes,
        }
    }

    /// Whether nothing is in effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
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
    pub fn tables(&self) -> impl Iterator<Item = (&PeerTable, usize, usize)> {
        let all = self.rib.tables.iter().enumerate();
        all.map(|(number, table)| (table, self.rib.v4.of(number), self.rib.v6.of(number)))
    }

    /// Prefixes that are in effect, IPv4 and IPv6: those that the router accepted.
    #[must_use]
    pub fn prefixes(&self) -> (usize, usize) {
        let (v4, v6) = (&self.v4.accepted, &self.v6.accepted);
        (v4.entries.len(), v6.entries.len())
    }

    /// How many changes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let v4 = self.v4.accepted.waiting.len() + self.v4.said.waiting.len();
        v4 + self.v6.accepted.waiting.len() + self.v6.said.waiting.len()
    }
}

#[cfg(test)]
impl Feed {
    /// Distinct origin sets that something has.
    pub(super) fn held_sets(&self) -> usize {
        self.sets.len()
    }
}
