//! Why less may be enforced than was asked for, of all that is known: `status` says
//! *enforcing* where there is no reason for anything else.

use std::time::{Duration, Instant};

use super::{Busy, View};
use crate::{
    daemon::{bgp::Bgp, links::device::Device, meant::wide_entries},
    datapath::{attach::Mode, guard::is_judged},
    policy::model::{Policy, Rule, Set, Sources, Target},
};

/// How old what is said of interfaces may be until that is something to look at, and until it
/// is no longer known.
const OLD: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

impl View {
    /// Why not everything that the policy asks for is enforced; empty: it is. `busy`: what
    /// keeps the core.
    pub(crate) fn reasons(&self, busy: Option<&Busy>) -> Vec<String> {
        let [before, after] = self.of_all(busy);
        [before, self.of_devices().concat(), after, self.uncovered()].concat()
    }

    /// What leads around interfaces that may each enforce: so it is no reason of theirs.
    pub(super) fn uncovered(&self) -> Vec<String> {
        let gaps = self.links.cover.gaps().iter();
        let certain = gaps.filter(|gap| gap.is_certain);
        certain.map(ToString::to_string).collect()
    }

    /// Those that are of no interface more than of another: what is live, and what it goes by.
    pub(super) fn of_all(&self, busy: Option<&Busy>) -> [Vec<String>; 2] {
        let mut live = self.troubles.reasons();
        live.extend(self.kept.torn.words().map(str::to_owned));
        live.extend(self.wrong.as_ref().map(|why| {
            format!("what is live does not judge as it should, and could not be replaced: {why}")
        }));
        let nothing_is_wrong = live.is_empty();
        if self.updates.database.is_lost() {
            live.push(format!(
                "the ASN database is lost: {}; `kordon asndb update` or `kordon asndb import` \
                 brings another one",
                self.updates.refused.join("; ")
            ));
        }
        // Where something is wrong that is why.
        if self.live.is_none() && nothing_is_wrong {
            live.push("no policy is live".to_owned());
        }
        if self.links.devices.is_empty() {
            live.push("no interface is configured".to_owned());
        }
        let mut goes_by = Vec::new();
        if let Some(live) = &self.live {
            goes_by.extend(self.unknown_interfaces(&live.policy));
        }
        goes_by.extend(self.nothing_to_enforce());
        goes_by.extend(self.nothing_to_go_by());
        goes_by.extend(self.old(OLD.1, busy));
        [live, goes_by]
    }

    /// Those of each configured interface.
    pub(super) fn of_devices(&self) -> Vec<Vec<String>> {
        let devices = self.links.devices.iter().map(|device| {
            let mut reasons = Vec::new();
            let is_attached = self.reader.attached(&device.config.device).is_some();
            if device.problem.is_none() && !is_attached && !device.is_alone() {
                reasons.push(format!("`{}` is not attached", device.config.device));
            }
            reasons.extend(device.problem.clone());
            reasons.extend(device.lets_pass().map(str::to_owned));
            reasons
        });
        devices.collect()
    }

    /// Devices of which `status` says that they enforce, and whose guard, where one can, judges.
    pub(crate) fn enforcing_devices(&self) -> Vec<String> {
        let of_all = self.of_all(None).concat();
        let devices = self.links.devices.iter().zip(self.of_devices());
        devices
            .filter(|(device, reasons)| {
                let may_judge = device.config.guard && is_judged(device.attached);
                reasons.is_empty() && of_all.is_empty() && (device.judges || !may_judge)
            })
            .map(|(device, _)| device.config.device.clone())
            .collect()
    }

    /// What somebody should look at, although all is enforced. `lost`: packets that the ledger has lost lately.
    pub(crate) fn notices(&self, busy: Option<&Busy>, lost: Option<u64>) -> Vec<String> {
        let mut notices = self.notices.clone();
        let of_choice = |device: &&Device| device.config.mode != Mode::Tc;
        let alone = self.links.devices.iter().filter(of_choice);
        notices.extend(alone.filter_map(|device| {
            let why = device.alone.as_ref().filter(|_| device.is_alone())?;
            let name = &device.config.device;
            Some(format!(
                "`{name}` is policed in tc alone, at a higher price than in XDP: {why}"
            ))
        }));
        notices.extend(self.links.devices.iter().filter_map(|device| {
            let blind = device.stood_in_for()?;
            Some(format!(
                "{blind}; the guard behind it (tc) drops meanwhile what the policy drops, at a \
                 higher price"
            ))
        }));
        notices.extend(self.evidence.iter().flat_map(|log| log.troubles()));
        notices.extend(lost.map(|lost| {
            format!(
                "{lost} packets that were judged and counted are missing in the ledger: its ring was \
                 full (`kordon_ledger_lost_packets_total` says of which zones)"
            )
        }));
        if self.old(OLD.1, busy).is_none() {
            notices.extend(self.old(OLD.0, busy));
        }
        notices
    }

    /// What is under way for so long that nobody looks after interfaces.
    fn old(&self, limit: Duration, busy: Option<&Busy>) -> Option<String> {
        let age = Instant::now().duration_since(self.links.looked);
        (age >= limit).then(|| {
            let what = busy.map_or_else(String::new, |busy| {
                let seconds = busy.since.elapsed().as_secs();
                format!(": {} has been under way for {seconds} s", busy.what)
            });
            format!(
                "whether interfaces are in order was looked at {} s ago, since the daemon is \
                 busy{what}; programs that are attached go on dropping meanwhile",
                age.as_secs()
            )
        })
    }

    /// What is live and enforces next to nothing: reasons for not enforcing.
    fn nothing_to_enforce(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(live) = &self.live
            && live.policy.zones.is_empty()
        {
            reasons.push("the policy has no zone; `kordon apply` one that has".to_owned());
        }
        reasons.extend(wide_entries(&self.kept.overlay));
        reasons
    }

    /// What the live policy asks of a database or of the router that is not known:
    /// its rules would match nothing, in silence.
    fn nothing_to_go_by(&self) -> Vec<String> {
        let Some(live) = &self.live else {
            return Vec::new();
        };
        let mut reasons: Vec<String> = self.unknown_to_database(&live.policy).into_iter().collect();
        let connected = live
            .policy
            .zones
            .iter()
            .find(|z| z.sources == Sources::Connected);
        if let Some(zone) = connected
            && self.links.facts.is_none()
        {
            reasons.push(format!(
                "the router's prefixes are not known, so sources in zone `{}` are not checked",
                zone.name
            ));
        }
        let router = |rule: &&Rule| rule.to.contains(&Target::Router);
        if let Some(rule) = live.policy.rules.iter().find(router)
            && self.links.facts.is_none()
        {
            reasons.push(format!(
                "the router's addresses are not known, so rule `{}` on `router` matches none",
                rule.name
            ));
        }
        if self.bgp.as_ref().is_some_and(Bgp::is_behind) {
            reasons.push(
                "what BGP says now is not in the kernel yet, and is tried again: see the log"
                    .to_owned(),
            );
        }
        reasons
    }

    /// The first set that names what no source of the database could tell.
    fn unknown_to_database(&self, policy: &Policy) -> Option<String> {
        let by_asn = |set: &&Set| {
            !(set.asns.is_empty() && set.orgs.is_empty() && set.asn_countries.is_empty())
        };
        let by_country = |set: &&Set| !set.countries.is_empty();
        let first = |by: &dyn Fn(&&Set) -> bool| policy.sets.iter().find(by).map(|s| &s.name);
        let db = &self.updates.database.db;
        let has_no_origins = self.updates.database.has_no_origins();
        if db.sources.is_empty() && has_no_origins {
            return first(&|set| by_asn(set) || by_country(set)).map(|name| {
                format!(
                    "the ASN database is empty, so set `{name}` has no ASN and no country; \
                     `kordon asndb import` fills it"
                )
            });
        }
        let origins = has_no_origins.then(|| first(&by_asn)).flatten();
        let origins = origins.map(|name| {
            format!(
                "no source of the ASN database says which ASN announces a prefix, so set \
                 `{name}` has no network; `kordon asndb import` takes one that does"
            )
        });
        origins.or_else(|| {
            let none = !db.has_country_blocks();
            none.then(|| first(&by_country)).flatten().map(|name| {
                format!(
                    "no source of the ASN database has address blocks of countries, so set `{name}` \
                     has none; add `countries` to `[asndb]` in `kordon.toml` and restart the daemon, \
                     or use `asn_countries` in the policy"
                )
            })
        })
    }

    /// Interfaces that a policy names and the configuration does not have.
    fn unknown_interfaces(&self, policy: &Policy) -> Vec<String> {
        let mut unknown = Vec::new();
        for zone in &policy.zones {
            for name in &zone.interfaces {
                let known = self.links.devices.iter().any(|d| d.config.name == *name);
                if !known {
                    unknown.push(format!(
                        "zone `{}` is on interface `{name}`, which the configuration does not have",
                        zone.name
                    ));
                }
            }
        }
        unknown
    }
}
