//! What is enforced: programs and maps in the kernel, the policy that they come from, and what
//! is known here of the live table. The table itself is only in the kernel.
//!
//! A change is compiled, proven, kept on disk and swapped in, in this order ([`Enforced::publish`]).
//! Changes of single prefixes go into the live table ([`in_place`](super::in_place)).

use std::{sync::Arc, time::Instant};

use ipnet::IpNet;

use crate::{
    compile::{
        generation::{Environment, Grouping, compile},
        partition::{Partition, partition_key},
        table::{FlatTable, Tier, choose_tier_with_room},
    },
    daemon::{
        live::{Live, Names},
        refusal::Refusal,
        state::{Before, StateError, kept::Torn},
        updates::database::Database,
    },
    datapath::{
        kernel::{Datapath, LiveGeneration},
        probe::Prober,
        publish::Published,
    },
    policy::Policy,
    prove::{Budget, Claim, Place, prove},
};

/// What the classes of a table mean.
pub(super) struct Classes {
    pub(super) key: [u8; 32],
    /// Without its ranges.
    pub(super) partition: Partition,
}

impl Classes {
    fn of(
        key: [u8; 32],
        policy: &Policy,
        database: &Database,
        environment: &Environment,
    ) -> Result<Self, Refusal> {
        let mut partition = partition(policy, database, environment)?;
        partition.forget_ranges();
        Ok(Self { key, partition })
    }
}

/// A table that is to be: what its classes mean, and if it is not live, all of it.
pub(in crate::daemon) struct Cut {
    classes: Classes,
    flat: Option<(FlatTable, Tier)>,
}

impl Cut {
    /// Cuts the address space for a policy over a database. That takes seconds where the database
    /// is the whole Internet's, and needs nothing but what it is given: it can be done ahead, on
    /// another thread than the core's.
    pub(in crate::daemon) fn new(
        policy: &Policy,
        database: &Database,
        environment: &Environment,
    ) -> Result<Self, Refusal> {
        #[cfg(test)]
        super::delay::pass();
        let key = partition_key(policy, database.id(), &environment.router);
        let mut partition = partition(policy, database, environment)?;
        let flat = FlatTable::build(&partition).map_err(Refusal::from_error)?;
        let tier = choose_tier_with_room(&flat.usage()).map_err(Refusal::from_error)?;
        partition.forget_ranges();
        Ok(Self {
            classes: Classes { key, partition },
            flat: Some((flat, tier)),
        })
    }
}

fn partition(
    policy: &Policy,
    database: &Database,
    environment: &Environment,
) -> Result<Partition, Refusal> {
    Partition::new(policy, database.effective(), &environment.router).map_err(Refusal::from_error)
}

/// Says on disk what is going to be live.
pub(in crate::daemon) type Keep<'a> = Box<dyn FnOnce() -> Result<Before, StateError> + 'a>;

/// What is to be enforced.
pub(super) struct Wanted<'a> {
    /// Those of the three that follow.
    pub(super) names: Names,
    pub(super) policy: &'a Policy,
    pub(super) database: &'a Database,
    pub(super) environment: &'a Environment,
    /// Where just this is live, it is proven again all the same.
    pub(super) doubted: bool,
    /// Cut ahead; taken if it is of just this.
    pub(super) cut: Option<Cut>,
}

/// See the module.
pub(in crate::daemon) struct Enforced {
    pub(in crate::daemon) datapath: Datapath,
    pub(in crate::daemon) live: Option<Live>,
    /// Of the live table; `None`: it is another daemon's, or not known yet.
    pub(super) classes: Option<Classes>,
    /// Of the rules that are live; `None`: they were compiled by another daemon.
    pub(super) grouping: Option<Arc<Grouping>>,
    /// Where packets of each zone come from.
    pub(super) places: Vec<Place>,
    /// In what the next table differs from the live one, where that is all.
    pub(super) changed: Vec<IpNet>,
    /// Why what is live does not judge as it should, until it is replaced.
    pub(super) wrong: Option<String>,
}

impl Enforced {
    pub(super) fn new(datapath: Datapath) -> Self {
        Self {
            datapath,
            live: None,
            classes: None,
            grouping: None,
            places: Vec::new(),
            changed: Vec::new(),
            wrong: None,
        }
    }

    /// As `status` shows it.
    pub(in crate::daemon) fn hash(&self) -> Option<String> {
        self.live.as_ref().map(Live::hash_in_words)
    }

    /// Whether just this is in the kernel.
    pub(super) fn has(&self, names: Names) -> bool {
        let live = self.datapath.live();
        live.is_some_and(|live| live.hash == names.hash && live.table_key == names.table_key)
    }

    fn has_table(&self, key: [u8; 32]) -> bool {
        self.datapath
            .live()
            .is_some_and(|live| live.table_key == key)
    }

    /// Compiles, proves, keeps and swaps. `None`: just this is live already.
    pub(super) fn publish(
        &mut self,
        mut wanted: Wanted<'_>,
        keep: Keep<'_>,
        torn: &mut Torn,
    ) -> Result<Option<Published>, Refusal> {
        let names = wanted.names;
        let live = self.datapath.live();
        if self.has(names) && live.is_some_and(|live| live.planes) && !wanted.doubted {
            keep().map_err(|e| torn.refusal(e))?;
            return Ok(None);
        }
        let cut = self.cut(&mut wanted, names.table_key)?;
        let result = self.publish_over(&cut, &wanted, keep, torn);
        // A table that did not become live is not kept; the one that is, is.
        if result.is_ok() || cut.flat.is_none() {
            self.classes = Some(cut.classes);
        }
        result.map(Some)
    }

    fn publish_over(
        &mut self,
        cut: &Cut,
        wanted: &Wanted<'_>,
        keep: Keep<'_>,
        torn: &mut Torn,
    ) -> Result<Published, Refusal> {
        let Wanted {
            names,
            policy,
            database,
            environment,
            ..
        } = *wanted;
        let mut directory = self.datapath.directory().clone();
        let mut rules = compile(
            policy,
            &database.db,
            environment,
            &cut.classes.partition,
            &mut directory,
        )
        .map_err(Refusal::from_error)?;
        rules.fixed.hash = names.hash;
        rules.fixed.table_key = names.table_key;
        let live = self.datapath.live();
        let changed = std::mem::take(&mut self.changed);
        let tier = cut.flat.as_ref().map(|(_, tier)| *tier);
        let is_same_tier = |live: LiveGeneration| Some(live.tier) == tier;
        let budget = match tier {
            None => Budget::Rules,
            Some(_) if !changed.is_empty() && live.is_some_and(is_same_tier) => Budget::Rules,
            Some(_) => Budget::Table,
        };
        let claim = Claim {
            policy,
            db: database.effective(),
            environment,
            directory: &directory,
            changed: &changed,
        };
        let mut places = Vec::new();
        let mut prove = |prober: &mut Prober| {
            let start = Instant::now();
            let proof = prove(&claim, budget, prober)?;
            tracing::debug!(packets = proof.packets, took = ?start.elapsed(), "proven");
            places = proof.places;
            Ok(())
        };
        let datapath = &mut self.datapath;
        let ready = match &cut.flat {
            Some((flat, tier)) => datapath.prepare(&mut rules, flat, *tier, &directory, &mut prove),
            None => datapath.prepare_rules(&mut rules, &directory, &mut prove),
        };
        let ready = ready.map_err(Refusal::from_error)?;
        let before = keep().map_err(|e| torn.refusal(e))?;
        let published = match ready.commit() {
            Ok(published) => published,
            Err(e) => {
                if let Err(restore) = before.restore() {
                    torn.note(&restore);
                }
                return Err(Refusal::from_error(e));
            }
        };
        self.wrong = None;
        self.grouping = Some(rules.grouping);
        self.places = places;
        self.warm_editor();
        Ok(published)
    }

    /// What is known of the live table, or another one. Rules change often, addresses
    /// rarely.
    fn cut(&mut self, wanted: &mut Wanted<'_>, key: [u8; 32]) -> Result<Cut, Refusal> {
        let (policy, database, environment) = (wanted.policy, wanted.database, wanted.environment);
        if !self.has_table(key) {
            return match wanted.cut.take_if(|cut| cut.classes.key == key) {
                Some(cut) => Ok(cut),
                None => Cut::new(policy, database, environment),
            };
        }
        let classes = match self.classes.take_if(|classes| classes.key == key) {
            Some(classes) => classes,
            None => Classes::of(key, policy, database, environment)?,
        };
        Ok(Cut {
            classes,
            flat: None,
        })
    }

    /// After an adoption nothing is known of the table yet; the first change should not wait for
    /// it.
    pub(in crate::daemon) fn warm_up(&mut self, database: &Database) {
        if let Err(e) = self.datapath.warm_up() {
            tracing::warn!("{e}");
        }
        self.warm_editor();
        let Some(live) = self.live.clone().filter(|_| self.classes.is_none()) else {
            return;
        };
        let key = partition_key(&live.policy, database.id(), &live.environment.router);
        if !self.has_table(key) {
            return;
        }
        match Classes::of(key, &live.policy, database, &live.environment) {
            Ok(classes) => self.classes = Some(classes),
            Err(e) => tracing::warn!("cannot cut the address space again: {e}"),
        }
    }

    /// The first change in place should not wait for it.
    fn warm_editor(&mut self) {
        if let Err(e) = self.datapath.warm_editor() {
            tracing::debug!("nothing can be changed in place: {e}");
        }
    }
}
