//! Programs on interfaces: attached after the first rules are live, and again
//! whenever a device comes back.

use super::core::Core;
use crate::{
    config::Interface,
    datapath::{Attached, DatapathError, kernel::Datapath},
    policy::model::{Policy, Set, Sources},
};

/// A configured interface and how it is doing.
pub(super) struct Device {
    pub(super) config: Interface,
    pub(super) attached: Option<Attached>,
    /// Why it is not.
    pub(super) problem: Option<String>,
}

impl Device {
    pub(super) fn new(config: Interface) -> Self {
        Self {
            config,
            attached: None,
            problem: None,
        }
    }

    /// Attaches it unless it is; says so when something changed.
    fn tend(&mut self, datapath: &mut Datapath, port: u32) {
        let device = &self.config.device;
        let now = datapath.attached(device);
        if now.is_some() {
            self.attached = now;
            return;
        }
        if self.attached.take().is_some() {
            tracing::warn!("`{device}` went away");
        }
        let Interface {
            mode,
            manage_offload,
            ..
        } = self.config;
        match datapath.attach(device, port, mode, manage_offload) {
            Ok(how) => {
                tracing::info!("attached to `{device}` in {} mode", how.as_str());
                self.attached = Some(how);
                self.problem = None;
            }
            Err(e) => {
                let problem = e.to_string();
                // Said once, not once a second.
                if self.problem.as_ref() != Some(&problem) {
                    tracing::error!("{problem}");
                }
                self.problem = Some(problem);
            }
        }
    }
}

impl Core {
    /// Attaches what is configured and not attached.
    pub(super) fn tend_interfaces(&mut self) {
        // Without rules the program would drop what it knows nothing about.
        let Some(live) = self.live.as_ref().filter(|_| !self.detached) else {
            return;
        };
        for (device, port) in self.devices.iter_mut().zip(&live.ports) {
            device.tend(&mut self.datapath, *port);
        }
    }

    /// A device did not follow to the maps of another tier.
    pub(super) fn note_behind(&mut self, device: &str, why: &str) {
        let found = self.devices.iter_mut().find(|d| d.config.device == device);
        if let Some(found) = found {
            found.attached = None;
            found.problem = Some(format!(
                "`{device}` is still judged by the rules before: {why}"
            ));
        }
    }

    /// Takes the program off devices that are no longer configured.
    pub(super) fn release_others(&mut self) -> Result<(), DatapathError> {
        for device in self.datapath.pinned_devices() {
            let configured = self.devices.iter().any(|d| d.config.device == device);
            if !configured {
                tracing::info!("`{device}` is no longer configured: taking the program off");
                self.datapath.release(&device)?;
            }
        }
        Ok(())
    }

    /// Why not everything that the policy asks for is enforced; empty: it is.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = self.problems.clone();
        reasons.extend(self.torn.clone());
        reasons.extend(self.wrong.as_ref().map(|why| {
            format!("what is live does not judge as it should, and could not be replaced: {why}")
        }));
        if self.database.is_lost() {
            reasons.push(format!(
                "the ASN database is lost: {}; `kordon asndb update` or `kordon asndb import` \
                 brings another one",
                self.refused.join("; ")
            ));
        }
        if self.live.is_none() {
            reasons.push("no policy is live".to_owned());
        }
        if self.devices.is_empty() {
            reasons.push("no interface is configured".to_owned());
        }
        for device in &self.devices {
            if self.datapath.attached(&device.config.device).is_none() {
                let name = &device.config.device;
                reasons.push(match &device.problem {
                    Some(problem) => problem.clone(),
                    None => format!("`{name}` is not attached"),
                });
            }
        }
        reasons.extend(self.unknown_interfaces());
        reasons.extend(self.nothing_to_go_by());
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
            && self.facts.is_none()
        {
            reasons.push(format!(
                "the router's prefixes are not known, so sources in zone `{}` are not checked",
                zone.name
            ));
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
        let db = &self.database.db;
        let has_no_origins = self.database.has_no_origins();
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
            let none = db.countries_v4.is_empty() && db.countries_v6.is_empty();
            none.then(|| first(&by_country)).flatten().map(|name| {
                format!(
                    "no source of the ASN database says where an address is delegated, so set \
                     `{name}` has no country; `kordon asndb import --country-db` takes one that does"
                )
            })
        })
    }

    /// Interfaces that the live policy names and the configuration does not have.
    fn unknown_interfaces(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        let zones = self.live.iter().flat_map(|live| &live.policy.zones);
        for zone in zones {
            for name in &zone.interfaces {
                let known = self.devices.iter().any(|d| d.config.name == *name);
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
