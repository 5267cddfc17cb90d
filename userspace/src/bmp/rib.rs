//! Who announces what, peer by peer, as the router says. Sessions come and go; what a
//! peer announced last stays until it announces all of it anew.

use std::net::IpAddr;

use super::message::{AddPath, Family, Peer, PeerHeader};
use super::routes::Routes;
use super::sets::Sets;
use super::update::{Session, Update};

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

/// One table of one peer of one router.
#[derive(Clone, Debug)]
pub struct Table {
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

impl Table {
    /// Whether it may have more than it has sent so far.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.up && self.syncing != [false; 2]
    }
}

/// Prefixes that have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) v4: Vec<(u32, u8)>,
    pub(super) v6: Vec<(u128, u8)>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Rib {
    pub(super) tables: Vec<Table>,
    pub(super) v4: Routes<u32>,
    pub(super) v6: Routes<u128>,
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

    /// The number of a table; `None`: there are too many.
    pub(super) fn table(
        &mut self,
        router: IpAddr,
        header: &PeerHeader,
        now: Moment,
    ) -> Option<usize> {
        let is = |table: &Table| {
            (table.router, table.peer, table.post_policy)
                == (router, header.peer, header.post_policy)
        };
        if let Some(found) = self.tables.iter().position(is) {
            return Some(found);
        }
        if self.tables.len() == MAX_PEERS {
            return None;
        }
        // Peer Up does not say which tables there will be: another table of the same
        // peer knows what it said.
        let sibling = |table: &&Table| (table.router, table.peer) == (router, header.peer);
        let add_path = self.tables.iter().find(sibling).map(|table| table.add_path);
        self.tables.push(Table {
            router,
            peer: header.peer,
            asn: header.asn,
            post_policy: header.post_policy,
            since: now,
            up: true,
            stale: false,
            add_path: add_path.unwrap_or_default(),
            syncing: [true; 2],
            first: true,
            heard: now,
        });
        Some(self.tables.len() - 1)
    }

    /// A table of an earlier daemon.
    pub(super) fn restored(
        &mut self,
        router: IpAddr,
        peer: Peer,
        asn: u32,
        post_policy: bool,
        now: Moment,
    ) {
        self.tables.push(Table {
            router,
            peer,
            asn,
            post_policy,
            since: now,
            up: false,
            stale: false,
            add_path: AddPath::default(),
            syncing: [true; 2],
            first: false,
            heard: now,
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

    /// A session of the router came up: its peer begins anew.
    pub(super) fn peer_up(
        &mut self,
        router: IpAddr,
        header: &PeerHeader,
        add_path: AddPath,
        now: Moment,
    ) {
        for number in 0..self.tables.len() {
            let table = &mut self.tables[number];
            if (table.router, table.peer) != (router, header.peer) {
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
        // The one that is sure to come, so that it is not read with other identifiers.
        if let Some(number) = self.table(router, header, now) {
            self.tables[number].add_path = add_path;
        }
    }

    /// A session of the router ended. What the peer announced stays.
    pub(super) fn peer_down(&mut self, router: IpAddr, peer: Peer, now: Moment) {
        for table in &mut self.tables {
            if (table.router, table.peer) == (router, peer) && table.up {
                table.up = false;
                table.since = now;
            }
        }
    }

    /// Nothing more comes from a router.
    pub(super) fn router_down(&mut self, router: IpAddr, now: Moment) {
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
        for key in &update.gone_v4 {
            if self.v4.withdraw(number, key, sets) {
                touched.v4.push((key.0, key.1));
            }
        }
        for key in &update.gone_v6 {
            if self.v6.withdraw(number, key, sets) {
                touched.v6.push((key.0, key.1));
            }
        }
        for key in &update.here_v4 {
            let set = sets.hold(&update.origins);
            if self.v4.announce(number, *key, set, sets) {
                touched.v4.push((key.0, key.1));
            }
        }
        for key in &update.here_v6 {
            let set = sets.hold(&update.origins);
            if self.v6.announce(number, *key, set, sets) {
                touched.v6.push((key.0, key.1));
            }
        }
        if let Some(family) = update.end {
            self.end(number, family, sets, touched);
        }
    }

    /// A peer has sent all it has: what it did not announce again goes.
    fn end(&mut self, number: usize, family: Family, sets: &mut Sets, touched: &mut Touched) {
        self.tables[number].syncing[place(family)] = false;
        match family {
            Family::V4 => {
                let out = &mut touched.v4;
                self.v4
                    .sweep(number, sets, |start, len| out.push((start, len)));
            }
            Family::V6 => {
                let out = &mut touched.v6;
                self.v6
                    .sweep(number, sets, |start, len| out.push((start, len)));
            }
        }
    }

    /// What time brings: peers that are gone for long are stale; those that are back for
    /// as long have sent all they have, whether they say so or not.
    pub(super) fn tick(
        &mut self,
        now: Moment,
        stale_after: u32,
        sets: &mut Sets,
        touched: &mut Touched,
    ) -> bool {
        let mut changed = false;
        for number in 0..self.tables.len() {
            let table = &mut self.tables[number];
            if now.steady.saturating_sub(table.since.steady) < stale_after {
                continue;
            }
            if !table.up {
                changed |= !table.stale;
                table.stale = true;
                continue;
            }
            for family in Family::ALL {
                if self.tables[number].syncing[place(family)] {
                    self.end(number, family, sets, touched);
                    changed = true;
                }
            }
        }
        changed
    }
}
