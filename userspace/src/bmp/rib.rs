//! Who announces what, peer by peer, as the router says. Sessions come and go; what a
//! peer announced last stays until it announces all of it anew, or is forgotten.

use std::{collections::HashMap, net::IpAddr};

use super::message::{AddPath, Family, LOC_RIB, Peer, PeerHeader};
use super::routes::Routes;
use super::sets::Sets;
use super::update::{Key, Session, Update};

/// Tables of peers that are kept: a route server has some thousand sessions.
pub const MAX_PEERS: usize = 4096;

/// Seconds: of the clock on the wall, to be shown, and of one that never jumps, to wait by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since 1970.
    pub wall: u32,
    /// Since some moment before.
    pub steady: u32,
}

impl Moment {
    /// Seconds that have passed since one before.
    pub(super) fn since(self, before: Self) -> u32 {
        self.steady.saturating_sub(before.steady)
    }
}

/// How to treat what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long what loosens waits, in seconds.
    pub hold: u32,
    /// Peers that were silent for so long are stale, in seconds.
    pub stale_after: u32,
    /// Peers that their router has not had for so long are forgotten, in seconds.
    pub forget_after: u32,
}

/// One table of one peer of one router.
#[derive(Clone, Debug)]
pub struct PeerTable {
    /// The router that tells of it.
    pub router: IpAddr,
    /// Whose.
    pub peer: Peer,
    /// Its AS.
    pub asn: u32,
    /// After the router's filters.
    pub post_policy: bool,
    /// Since when the session is up, or not.
    pub since: Moment,
    /// Whether the router's session with it is up, and ours with the router.
    pub up: bool,
    /// Nothing was heard of it for longer than it may be.
    pub stale: bool,
    add_path: AddPath,
    /// Families of which the peer has not sent everything yet, IPv4 and IPv6.
    syncing: [bool; 2],
    /// It had nothing before.
    pub(super) first: bool,
    /// When a route came last.
    pub(super) heard: Moment,
}

impl PeerTable {
    fn new(router: IpAddr, header: &PeerHeader, add_path: AddPath, now: Moment) -> Self {
        Self {
            router,
            peer: header.peer,
            asn: header.asn,
            post_policy: header.post_policy,
            since: now,
            up: true,
            stale: false,
            add_path,
            syncing: [true; 2],
            first: true,
            heard: now,
        }
    }

    /// Whether it may have more than it has sent so far.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.up && self.syncing != [false; 2]
    }

    /// Whether what is in it has been through the router's filters. What has not, and what
    /// tables of a kind that is not known hold, may be what the router refused.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.peer.kind == LOC_RIB || self.peer.kind < LOC_RIB && self.post_policy
    }
}

/// A prefix that has changed in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touch<A> {
    pub(super) prefix: (A, u8),
    /// The kind of the table.
    pub(super) accepted: bool,
}

/// Prefixes that have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) v4: Vec<Touch<u32>>,
    pub(super) v6: Vec<Touch<u128>>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Rib {
    pub(super) tables: Vec<PeerTable>,
    /// Path identifiers of peers that are up: Peer Up does not say which tables there
    /// will be.
    opened: HashMap<(IpAddr, Peer), AddPath>,
    pub(super) v4: Routes<u32>,
    pub(super) v6: Routes<u128>,
}

fn touch<A: Copy>(key: &Key<A>, accepted: bool) -> Touch<A> {
    let prefix = (key.0, key.1);
    Touch { prefix, accepted }
}

fn place(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

impl Rib {
    /// Routes of all peers.
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The number of a table; `None`: there are too many. Where that is so because of those
    /// that are gone, the one that is for longest is forgotten.
    pub(super) fn table(
        &mut self,
        router: IpAddr,
        header: &PeerHeader,
        now: Moment,
        sets: &mut Sets,
        touched: &mut Touched,
    ) -> Option<usize> {
        let is = |table: &PeerTable| {
            (table.router, table.peer, table.post_policy)
                == (router, header.peer, header.post_policy)
        };
        if let Some(found) = self.tables.iter().position(is) {
            return Some(found);
        }
        if self.tables.len() == MAX_PEERS {
            let gone = self
                .tables
                .iter()
                .enumerate()
                .filter(|(_, table)| !table.up);
            let (oldest, _) = gone.min_by_key(|(_, table)| table.since.steady)?;
            self.forget(oldest, sets, touched);
        }
        let add_path = self.opened.get(&(router, header.peer)).copied();
        self.tables.push(PeerTable::new(
            router,
            header,
            add_path.unwrap_or_default(),
            now,
        ));
        Some(self.tables.len() - 1)
    }

    /// A table of an earlier daemon: nothing is heard of it now.
    pub(super) fn restored(&mut self, router: IpAddr, header: &PeerHeader, now: Moment) {
        self.tables.push(PeerTable {
            up: false,
            first: false,
            ..PeerTable::new(router, header, AddPath::default(), now)
        });
    }

    /// How to read the routes of a table.
    pub(super) fn session(&self, table: usize, header: &PeerHeader) -> Session {
        Session {
            width: header.width,
            add_path: self.tables[table].add_path,
            asn: header.asn,
        }
    }

    /// A session of the router came up: its peer begins anew. False: there are too many.
    pub(super) fn peer_up(
        &mut self,
        router: IpAddr,
        header: &PeerHeader,
        add_path: AddPath,
        now: Moment,
    ) -> bool {
        let key = (router, header.peer);
        if self.opened.len() >= MAX_PEERS && !self.opened.contains_key(&key) {
            return false;
        }
        self.opened.insert(key, add_path);
        for number in 0..self.tables.len() {
            let table = &mut self.tables[number];
            if (table.router, table.peer) != key {
                continue;
            }
            table.up = true;
            table.stale = false;
            table.since = now;
            table.heard = now;
            table.asn = header.asn;
            table.add_path = add_path;
            table.syncing = [true; 2];
            self.v4.suspect(number);
            self.v6.suspect(number);
        }
        true
    }

    /// A session of the router ended. What the peer announced stays.
    pub(super) fn peer_down(&mut self, router: IpAddr, peer: Peer, now: Moment) {
        self.opened.remove(&(router, peer));
        for table in &mut self.tables {
            if (table.router, table.peer) == (router, peer) && table.up {
                table.up = false;
                table.since = now;
            }
        }
    }

    /// Nothing more comes from a router.
    pub(super) fn router_down(&mut self, router: IpAddr, now: Moment) {
        self.opened.retain(|(of, _), _| *of != router);
        for table in &mut self.tables {
            if table.router == router && table.up {
                table.up = false;
                table.since = now;
            }
        }
    }

    /// Takes over what an UPDATE says.
    pub(super) fn update(
        &mut self,
        number: usize,
        update: &Update,
        sets: &mut Sets,
        now: Moment,
        touched: &mut Touched,
    ) {
        let table = &mut self.tables[number];
        table.heard = now;
        table.up = true;
        table.stale = false;
        let accepted = table.is_accepted();
        for key in &update.gone_v4 {
            if self.v4.withdraw(number, key, sets) {
                touched.v4.push(touch(key, accepted));
            }
        }
        for key in &update.gone_v6 {
            if self.v6.withdraw(number, key, sets) {
                touched.v6.push(touch(key, accepted));
            }
        }
        for key in &update.here_v4 {
            let set = sets.hold(&update.origins);
            if self.v4.announce(number, *key, set, sets) {
                touched.v4.push(touch(key, accepted));
            }
        }
        for key in &update.here_v6 {
            let set = sets.hold(&update.origins);
            if self.v6.announce(number, *key, set, sets) {
                touched.v6.push(touch(key, accepted));
            }
        }
        if let Some(family) = update.end {
            self.end(number, family, sets, touched);
        }
    }

    /// A peer has sent all it has: what it did not announce again goes.
    fn end(&mut self, number: usize, family: Family, sets: &mut Sets, touched: &mut Touched) {
        self.tables[number].syncing[place(family)] = false;
        let accepted = self.tables[number].is_accepted();
        match family {
            Family::V4 => {
                let out = &mut touched.v4;
                self.v4
                    .sweep(number, sets, |key| out.push(touch(key, accepted)));
            }
            Family::V6 => {
                let out = &mut touched.v6;
                self.v6
                    .sweep(number, sets, |key| out.push(touch(key, accepted)));
            }
        }
    }

    /// What time brings: peers that are gone for long are stale, and forgotten when they
    /// have no routes, or when their router has been there for long without them; those
    /// that are back for as long have sent all they have, whether they say so or not.
    /// `there`: since when a router has a session.
    pub(super) fn tick(
        &mut self,
        now: Moment,
        settings: &Settings,
        there: impl Fn(IpAddr) -> Option<Moment>,
        sets: &mut Sets,
        touched: &mut Touched,
    ) {
        let is_long = |since: Moment, long| now.since(since) >= long;
        // Downwards: whoever takes a forgotten one's number was looked at.
        for number in (0..self.tables.len()).rev() {
            let table = &mut self.tables[number];
            if !is_long(table.since, settings.stale_after) {
                continue;
            }
            if table.up {
                for family in Family::ALL {
                    if self.tables[number].syncing[place(family)] {
                        self.end(number, family, sets, touched);
                    }
                }
                continue;
            }
            table.stale = true;
            let (since, router) = (table.since, table.router);
            let is_missing = is_long(since, settings.forget_after)
                && there(router).is_some_and(|there| is_long(there, settings.forget_after));
            if is_missing || self.v4.of(number) + self.v6.of(number) == 0 {
                self.forget(number, sets, touched);
            }
        }
    }

    /// Takes a table out; the last one gets its number.
    fn forget(&mut self, number: usize, sets: &mut Sets, touched: &mut Touched) {
        let last = self.tables.len() - 1;
        let accepted = self.tables[number].is_accepted();
        let out = &mut touched.v4;
        self.v4
            .remove(number, last, sets, |key| out.push(touch(key, accepted)));
        let out = &mut touched.v6;
        self.v6
            .remove(number, last, sets, |key| out.push(touch(key, accepted)));
        self.tables.swap_remove(number);
    }
}
