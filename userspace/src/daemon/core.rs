//! Everything that can change: kernel, state folder, policy, database. All rules go through
//! [`Core::change`]: compile, prove, persist, swap. Files can be put back where the swap
//! fails; in the kernel that would take another proof. Live BGP changes prefixes in place
//! ([`follow`](super::follow)).
//!
//! It blocks; the thread that owns it ([`owner`](super::owner)) is the only one that waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use jiff::Timestamp;
use kordon_ebpf::layout::LAYOUT_VERSION;
use sha2::{Digest as _, Sha256};

use super::{
    bgp::{Bgp, Tally},
    database::Database,
    interfaces::Device,
    journal::Journal,
    log::Repeated,
    network::Facts,
    refusal::Refusal,
    silence::Silence,
    state::{Before, Current, Record, StateDir, StateError},
    trace::Traces,
    trouble::{Cause, Troubles},
    updates::Updates,
};
use crate::{
    compile::{
        generation::{Environment, Grouping, PortSpec, compile},
        partition::{Partition, partition_key},
        table::{FlatTable, Tier, choose_tier_with_room},
    },
    config::Config,
    datapath::{
        kernel::{Datapath, LiveGeneration},
        probe::Prober,
        publish::Published,
    },
    policy::{Overlay, Policy, policy_hash},
    prove::{Budget, Claim, Place, prove},
};

/// What is known of the live table while rules and prefixes change over it. The table
/// itself is in the kernel.
pub(super) struct Table {
    pub(super) key: [u8; 32],
    /// Without its ranges.
    pub(super) partition: Partition,
}

/// A table that is to be: what is known of it, and if it is not live, all of it.
struct Candidate {
    table: Table,
    flat: Option<(FlatTable, Tier)>,
}

/// The policy that is live.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) policy: Arc<Policy>,
    pub(super) hash: [u8; 32],
    pub(super) environment: Arc<Environment>,
    /// Port numbers of the configured interfaces, in their order.
    pub(super) ports: Vec<u32>,
}

/// What a change came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) published: Option<Published>,
    /// Something is another than before, if only a note or the end of a trial.
    pub(super) recorded: bool,
    pub(super) took: Duration,
}

/// Successful and refused applies since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Applies {
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) last: Option<Duration>,
}

/// See the module.
pub(super) struct Core {
    pub(super) config: Arc<Config>,
    pub(super) state: Arc<StateDir>,
    pub(super) datapath: Datapath,
    pub(super) database: Database,
    /// Snapshots that could not be used at the start, until another one is written.
    pub(super) refused: Vec<String>,
    pub(super) updates: Updates,
    /// Live BGP; `None`: not configured.
    pub(super) bgp: Option<Bgp>,
    /// What it has changed, for the history.
    pub(super) tally: Tally,
    /// In what the next table differs from the live one, where that is all.
    pub(super) changed: Vec<IpNet>,
    pub(super) overlay: Arc<Overlay>,
    pub(super) current: Current,
    pub(super) record: Option<Arc<Record>>,
    pub(super) live: Option<Live>,
    pub(super) facts: Option<Facts>,
    /// What it is by now, where the rules could not follow.
    pub(super) unseen: Option<Facts>,
    /// Why what is live cannot be made whole.
    pub(super) unfinished: Repeated,
    pub(super) devices: Vec<Device>,
    pub(super) silence: Silence,
    pub(super) table: Option<Table>,
    /// Of the rules that are live; `None`: they were compiled by another daemon.
    pub(super) grouping: Option<Arc<Grouping>>,
    /// Where packets of each zone come from.
    pub(super) places: Vec<Place>,
    /// Why what is live does not judge as it should, until it is replaced.
    pub(super) wrong: Option<String>,
    /// What the disk has that is not live, until the next change.
    pub(super) torn: Option<String>,
    /// What is wrong, beside interfaces: reasons for not enforcing.
    pub(super) troubles: Troubles,
    /// Files of the state that had to be written anew.
    pub(super) repaired: Vec<String>,
    /// Why what is live is not pinned, so that it would end with this process.
    pub(super) unpinned: Option<String>,
    /// An overlay that could not be read waits for somebody who looks at it.
    pub(super) aside: bool,
    /// Who changed what.
    pub(super) journal: Journal,
    /// Why what is live is not on disk, since time brought it.
    pub(super) unsaved: Option<String>,
    pub(super) applies: Applies,
    /// Why the last reload changed nothing, until something is applied.
    pub(super) reload_refused: Option<String>,
    pub(super) started_at: Timestamp,
    /// When interfaces were looked after last.
    pub(super) looked: Instant,
    pub(super) detached: bool,
    /// `None`: the programs log nothing.
    pub(super) traces: Option<Traces>,
    /// Something that time brought failed: try again then.
    pub(super) retry_at: Option<Timestamp>,
}

/// Says on disk what is going to be live.
pub(super) type Keep<'a> = Box<dyn FnOnce() -> Result<Before, StateError> + 'a>;

/// What is to become live.
pub(super) struct Next {
    pub(super) policy: Arc<Policy>,
    pub(super) database: Database,
    pub(super) facts: Option<Facts>,
    /// Doubts that this is the answer to: an administrator gives it anew.
    pub(super) replaces: &'static [Cause],
}

impl Core {
    /// What is live, to be changed in part.
    pub(super) fn next(&self, policy: Arc<Policy>) -> Next {
        let database = self.database.clone();
        Next {
            policy,
            database: match &self.bgp {
                // The table has to come from all that is in effect.
                Some(bgp) if bgp.is_behind() => bgp.over(database),
                _ => database,
            },
            facts: self.facts.clone(),
            replaces: &[],
        }
    }

    /// Makes it live. `keep` says on disk what is going to be: where it fails nothing has
    /// changed, and where the kernel then refuses the last step, files are what they were.
    pub(super) fn change(&mut self, next: Next, keep: Keep<'_>) -> Result<Outcome, Refusal> {
        let start = Instant::now();
        if self.detached {
            return Err(Refusal::new(
                "nothing is enforced any more: the programs were taken off, and the daemon ends",
                "start it again first",
            ));
        }
        if next.database.is_lost() && self.datapath.enforces() {
            return Err(Refusal::new(
                "the ASN database is lost: its snapshots cannot be read, and no source took their \
                 place",
                "what is in the kernel stays; `kordon asndb update` or `kordon asndb import` brings \
                 another database",
            ));
        }
        let (environment, ports) = self.environment(&next)?;
        let is_in_kernel = self.is_in_kernel(&next, &environment);
        if !is_in_kernel && let Some(refusal) = self.troubles.refuses(next.replaces) {
            return Err(refusal);
        }
        let published = self.publish(&next.policy, &next.database, &environment, keep)?;
        self.torn = None;
        match self.troubles.is_kept() && is_in_kernel {
            true => {
                self.troubles.known();
                self.forget_overlay_aside();
            }
            false => self.troubles.replaced(next.replaces),
        }
        self.live = Some(Live {
            hash: policy_hash(&next.policy),
            policy: next.policy,
            environment: Arc::new(environment),
            ports,
        });
        self.database = next.database;
        self.facts = next.facts;
        self.tell_bgp();
        for (device, why) in published.iter().flat_map(|published| &published.behind) {
            self.note_behind(device, why);
        }
        Ok(Outcome {
            recorded: published.is_some(),
            published,
            took: start.elapsed(),
        })
    }

    /// Whether just this is in the kernel.
    fn is_in_kernel(&self, next: &Next, environment: &Environment) -> bool {
        let names = names(&next.policy, &next.database, environment);
        let live = self.datapath.live();
        live.is_some_and(|live| (live.hash, live.table_key) == names)
    }

    /// Whether a policy over all that is known is what is in the kernel.
    pub(super) fn would_be_adopted(&self, policy: Policy) -> bool {
        let next = self.next(Arc::new(policy));
        let environment = self.environment(&next);
        environment.is_ok_and(|(environment, _)| self.is_in_kernel(&next, &environment))
    }

    /// A policy that is known, while what was made of it stays in the kernel as it is.
    pub(super) fn known_but_kept(&mut self, policy: Policy) {
        let next = self.next(Arc::new(policy));
        if let Ok((environment, ports)) = self.environment(&next) {
            self.live = Some(Live {
                hash: policy_hash(&next.policy),
                policy: next.policy,
                environment: Arc::new(environment),
                ports,
            });
        }
    }

    fn environment(&self, next: &Next) -> Result<(Environment, Vec<u32>), Refusal> {
        let interfaces = &self.config.interfaces;
        let devices: Vec<String> = interfaces.iter().map(|i| i.device.clone()).collect();
        let numbers = self.datapath.ports(&devices).map_err(Refusal::from_error)?;
        let mut ports = Vec::new();
        for (number, interface) in numbers.iter().zip(interfaces) {
            let number = *number as usize;
            if ports.len() <= number {
                ports.resize(number + 1, PortSpec::default());
            }
            ports[number] = PortSpec {
                logical: interface.name.clone(),
                drop_unknown: interface.drop_unknown,
            };
        }
        let facts = next.facts.as_ref();
        // It is policed under any name.
        let elsewhere = |device: &str| Some(self.datapath.find(device).ok()??.index);
        let environment = Environment {
            router: facts.map(Facts::router).unwrap_or_default(),
            // Where the kernel did not say, sources stay unchecked: a guess would
            // cut off every camera.
            connected: facts
                .map(|facts| facts.connected(&next.policy, interfaces, elsewhere))
                .unwrap_or_default(),
            ports,
        };
        Ok((environment, numbers))
    }

    /// Compiles, proves, keeps and swaps. `None`: just this is live already.
    fn publish(
        &mut self,
        policy: &Policy,
        database: &Database,
        environment: &Environment,
        keep: Keep<'_>,
    ) -> Result<Option<Published>, Refusal> {
        let (hash, table_key) = names(policy, database, environment);
        let live = self.datapath.live();
        let same = |live: &LiveGeneration| live.hash == hash && live.table_key == table_key;
        // After a panic it is proven again.
        let doubted = self.troubles.has(Cause::Panic);
        if live.is_some_and(|live| same(&live) && live.planes) && !doubted {
            keep().map_err(|e| not_kept(e, &mut self.torn))?;
            return Ok(None);
        }
        let candidate = self.table_for(policy, database, environment, table_key)?;
        let result = self.publish_over(&candidate, policy, database, environment, hash, keep);
        // A table that did not become live is not kept; the one that is, is.
        if result.is_ok() || candidate.flat.is_none() {
            self.table = Some(candidate.table);
        }
        result.map(Some)
    }

    fn publish_over(
        &mut self,
        candidate: &Candidate,
        policy: &Policy,
        database: &Database,
        environment: &Environment,
        hash: [u8; 32],
        keep: Keep<'_>,
    ) -> Result<Published, Refusal> {
        let table = &candidate.table;
        let mut directory = self.datapath.directory().clone();
        let mut rules = compile(
            policy,
            &database.db,
            environment,
            &table.partition,
            &mut directory,
        )
        .map_err(Refusal::from_error)?;
        rules.fixed.hash = hash;
        rules.fixed.table_key = table.key;
        let live = self.datapath.live();
        let changed = std::mem::take(&mut self.changed);
        let tier = candidate.flat.as_ref().map(|(_, tier)| *tier);
        let budget = match live {
            _ if tier.is_none() => Budget::Rules,
            Some(live) if !changed.is_empty() && Some(live.tier) == tier => Budget::Rules,
            _ => Budget::Table,
        };
        let db = &**database.effective();
        let claim = Claim {
            policy,
            db,
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
        let ready = match &candidate.flat {
            Some((flat, tier)) => datapath.prepare(&mut rules, flat, *tier, &directory, &mut prove),
            None => datapath.prepare_rules(&mut rules, &directory, &mut prove),
        };
        let ready = ready.map_err(Refusal::from_error)?;
        let before = keep().map_err(|e| not_kept(e, &mut self.torn))?;
        let published = match ready.commit() {
            Ok(published) => published,
            Err(e) => {
                if let Err(restore) = before.restore() {
                    note_torn(&mut self.torn, &restore);
                }
                return Err(Refusal::from_error(e));
            }
        };
        self.wrong = None;
        self.troubles.clear(Cause::Panic);
        self.grouping = Some(rules.grouping);
        self.places = places;
        self.warm_editor();
        Ok(published)
    }

    /// What is known of the live table, or another one. Rules change often, addresses
    /// rarely.
    fn table_for(
        &mut self,
        policy: &Policy,
        database: &Database,
        environment: &Environment,
        key: [u8; 32],
    ) -> Result<Candidate, Refusal> {
        let is_live = self
            .datapath
            .live()
            .is_some_and(|live| live.table_key == key);
        if is_live && let Some(table) = self.table.take_if(|table| table.key == key) {
            return Ok(Candidate { table, flat: None });
        }
        let mut partition = Partition::new(policy, database.effective(), &environment.router)
            .map_err(Refusal::from_error)?;
        let flat = match is_live {
            true => None,
            false => {
                let flat = FlatTable::build(&partition).map_err(Refusal::from_error)?;
                let tier = choose_tier_with_room(&flat.usage()).map_err(Refusal::from_error)?;
                Some((flat, tier))
            }
        };
        partition.forget_ranges();
        Ok(Candidate {
            table: Table { key, partition },
            flat,
        })
    }

    /// After an adoption there is no table here yet; the first change should not
    /// wait for it.
    pub(super) fn warm_up(&mut self) {
        if let Err(e) = self.datapath.warm_up() {
            tracing::warn!("{e}");
        }
        self.warm_editor();
        if self.table.is_some() {
            return;
        }
        let Some(live) = &self.live else { return };
        let (policy, environment) = (Arc::clone(&live.policy), Arc::clone(&live.environment));
        let database = self.database.clone();
        let (_, key) = live.names(&database);
        if self
            .datapath
            .live()
            .is_some_and(|live| live.table_key == key)
        {
            match self.table_for(&policy, &database, &environment, key) {
                Ok(candidate) => self.table = Some(candidate.table),
                Err(e) => tracing::warn!("cannot cut the address space again: {e}"),
            }
        }
    }

    /// The first change in place should not wait for it.
    fn warm_editor(&mut self) {
        if let Err(e) = self.datapath.warm_editor() {
            tracing::debug!("nothing can be changed in place: {e}");
        }
    }
}

impl Live {
    /// What it is called over a database.
    pub(super) fn names(&self, database: &Database) -> ([u8; 32], [u8; 32]) {
        names(&self.policy, database, &self.environment)
    }
}

pub(super) fn not_kept(e: StateError, torn: &mut Option<String>) -> Refusal {
    if matches!(e, StateError::Torn { .. }) {
        note_torn(torn, &e);
    }
    Refusal::new(
        format!("the change cannot be kept: {e}"),
        "what was live is live; see to the state directory",
    )
}

fn note_torn(torn: &mut Option<String>, e: &StateError) {
    let problem = format!(
        "the state directory has a part of a change that is not live, and a start would make it \
         live; the next change mends it: {e}"
    );
    tracing::error!("{problem}");
    *torn = Some(problem);
}

/// Names a generation, and its table.
fn names(policy: &Policy, database: &Database, environment: &Environment) -> ([u8; 32], [u8; 32]) {
    let table_key = partition_key(policy, database.id(), &environment.router);
    let hash = inputs_hash(policy, &table_key, database, environment);
    (hash, table_key)
}

/// Names everything that a generation is compiled from, this program included.
fn inputs_hash(
    policy: &Policy,
    table_key: &[u8; 32],
    database: &Database,
    environment: &Environment,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(LAYOUT_VERSION.to_le_bytes());
    hash.update(policy_hash(policy));
    hash.update(table_key);
    hash.update(database.id());
    // The order of zones is their number.
    for zone in &policy.zones {
        hash.update(&zone.name);
        hash.update([0]);
    }
    hash.update(format!("{environment:?}"));
    hash.finalize().into()
}
