//! Reads the facts. Nothing here changes anything, and nothing fails as a whole: what cannot be
//! read is a fact that is not known, with the reason.
//!
//! - [`machine`]: /proc and /sys; [`links`]: devices, by rtnetlink and their features.
//! - [`ask`]: the daemon and its metrics; [`place`]: the state folder, groups, the unit.

mod ask;
mod links;
mod machine;
mod place;

use std::path::PathBuf;

use jiff::Timestamp;

use super::facts::{Daemon, Database, Facts, Known, Pinned, Places, Rules};
use crate::{
    asn::{self, AsnDb},
    config::{self, Config},
    coverage::flowtables,
    daemon,
    datapath::left,
    diagnostic::{Diagnostics, did_you_mean, quoted},
    policy::{self, Bundle, Context, Overlay},
};

/// What was typed: which instance is meant.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The configuration.
    pub config: PathBuf,
    /// Whether it was named, so that the unit `kordon.service` may be another instance's.
    pub is_named: bool,
    /// The control socket, instead of the configured one.
    pub socket: Option<PathBuf>,
    /// Pins, instead of the configured place.
    pub bpffs: Option<PathBuf>,
    /// State, instead of the configured place.
    pub state_dir: Option<PathBuf>,
}

/// Reads all of it.
pub(super) fn facts(given: &Given) -> Facts {
    let (config, config_found) = config::salvage(&given.config);
    let places = places(given, config.as_ref());
    let daemon = ask::status(&places.socket);
    let holder = daemon::holder(&places.bpffs);
    let opened = match &daemon {
        // What it says is of the database that it uses.
        Daemon::Answers(_) => Err("the daemon has it".to_owned()),
        _ => database(&places.state_dir),
    };
    // That an empty one has nothing is said of the database.
    let filled = opened.as_ref().ok().filter(|db| !db.sources.is_empty());
    let policy = rules(&places, config.as_ref(), filled);
    let metrics = ask::metrics(&daemon, places.metrics);
    let mut network = links::Network::default();
    if let Err(why) = links::read(&mut network, config.as_ref(), policy.as_ref().ok()) {
        network.links = Err(why);
    }
    let pinned = pinned(&places);
    if let Ok(links) = &mut network.links {
        links::note_foreign(links, &pinned, &daemon);
    }
    let user = holder.and_then(machine::user_of);
    Facts {
        now: Timestamp::now(),
        machine: machine::read(&places.bpffs, holder),
        config_found,
        policy,
        links: network.links,
        addresses: network.addresses,
        connected: network.connected,
        flowtables: flowtables::read(),
        pinned: pinned.map(|all| all.into_iter().map(|(pinned, _)| pinned).collect()),
        metrics,
        database: opened.map(|db| Database {
            prefixes: prefixes(&db),
            age: age(&db),
        }),
        state: place::state(&places.state_dir, user),
        evidence: place::evidence(config.as_ref(), &places.state_dir),
        synchronised: place::synchronised(),
        made: place::made(),
        holder,
        groups: place::groups(config.as_ref()),
        service: place::service(given.is_named),
        boot_guard: place::boot_guard(given.is_named, &places.state_dir),
        daemon,
        config,
        places,
    }
}

fn places(given: &Given, config: Option<&Config>) -> Places {
    let or = |given: &Option<PathBuf>, configured: Option<&PathBuf>, default: &str| {
        let given = given.clone().or_else(|| configured.cloned());
        given.unwrap_or_else(|| default.into())
    };
    Places {
        config: given.config.clone(),
        socket: or(&given.socket, config.map(|c| &c.socket), config::SOCKET),
        bpffs: or(&given.bpffs, config.map(|c| &c.bpffs), config::BPFFS),
        state_dir: or(
            &given.state_dir,
            config.map(|c| &c.state_dir),
            config::STATE_DIR,
        ),
        policy: config.map(|config| config.policy.clone()),
        metrics: config.and_then(|config| config.metrics),
    }
}

/// The database in the state folder; an empty one where there is none.
fn database(state_dir: &std::path::Path) -> Known<AsnDb> {
    let snapshot = daemon::snapshot_path(state_dir);
    match snapshot.try_exists() {
        Ok(false) => Ok(AsnDb::default()),
        Ok(true) => asn::load(&snapshot).map_err(|e| e.to_string()),
        Err(e) => Err(format!(
            "{} cannot be read: {e}",
            quoted(&snapshot.display().to_string())
        )),
    }
}

fn prefixes(db: &AsnDb) -> u64 {
    let info = db.info();
    info.ipv4.prefixes + info.ipv6.prefixes
}

fn age(db: &AsnDb) -> Option<i64> {
    (!db.sources.is_empty()).then(|| (Timestamp::now().as_second() - db.imported).max(0))
}

/// The configured policy.
fn rules(places: &Places, config: Option<&Config>, db: Option<&AsnDb>) -> Known<Rules> {
    let Some(path) = &places.policy else {
        return Err("without a configuration that can be read no policy is known".to_owned());
    };
    let bundle = match Bundle::read(path) {
        Ok(bundle) => bundle,
        Err(error) => {
            let found = Diagnostics::from(error);
            return Ok(Rules {
                policy: None,
                found,
            });
        }
    };
    let (policy, mut found) = policy::parse(&bundle, &Overlay::default(), &Context::now(db));
    let names: Vec<&str> = config
        .iter()
        .flat_map(|c| &c.interfaces)
        .map(|i| i.name.as_str())
        .collect();
    found
        .errors
        .extend(policy::unknown_interfaces(&bundle, |name| {
            (!names.contains(&name)).then(|| match did_you_mean(name, names.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("interfaces of kordon.toml are: {}", names.join(", ")),
            })
        }));
    Ok(Rules { policy, found })
}

/// What is pinned, and what the interface of each is called now, where its program is ours.
fn pinned(places: &Places) -> Known<Vec<(Pinned, Option<String>)>> {
    let left = left::look(&places.bpffs).map_err(|e| e.to_string())?;
    let all = left.links.into_iter().map(|link| {
        let on = link.on.ok().flatten().filter(|on| on.is_ours);
        let rules = on.as_ref().and_then(|on| on.rules.as_ref());
        let pinned = Pinned {
            device: link.device,
            mode: on.as_ref().map(|on| on.mode),
            has_rules: rules.is_some_and(|rules| rules.is_live),
        };
        (pinned, on.map(|on| on.interface))
    });
    Ok(all.collect())
}
