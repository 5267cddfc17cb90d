//! What a scrape of the metrics tells, out of the core.

use std::collections::BTreeMap;

use kordon_ebpf::layout::{Action, Counter, REASONS, Reason};
use tokio::net::TcpListener;

use super::{Shared, core::Core, lock, operations::hex};
use crate::{
    compile::directory::Identity,
    config::mode_word,
    datapath::{Attached, DatapathError},
    metrics::{Applies, Database, Interface, LivePolicy, Snapshot},
    policy::Policy,
};

/// Serves the metrics until dropped.
pub(super) async fn serve(listener: TcpListener, core: Shared) {
    crate::metrics::serve(listener, move || lock(&core).scrape()).await;
}

impl Core {
    fn scrape(&self) -> Result<Snapshot, DatapathError> {
        let policy = self.live.as_ref().map(|live| &live.policy);
        let mut counts = self.counts()?;
        let db = &self.database.db;
        let countries = counts.iter().filter_map(|(identity, _)| match identity {
            Identity::Asn(_, Some(asn), _) => Some((*asn, db.asn_info(*asn)?.country?.to_string())),
            _ => None,
        });
        let countries: BTreeMap<u32, String> = countries.collect();
        let expected = policy.into_iter().flat_map(|policy| expected(policy));
        let interfaces = self.devices.iter().map(|device| &device.config.name);
        let expected = expected.chain(interfaces.flat_map(|name| expected_of_interface(name)));
        counts.extend(expected.map(|identity| (identity, Counter::default())));
        Ok(Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            enforcing: self.reasons().is_empty(),
            policy: self.live.as_ref().map(|live| LivePolicy {
                hash: hex(&live.hash),
                applied_at: self
                    .record
                    .as_ref()
                    .map(|record| record.applied_at.as_millisecond() as f64 / 1e3),
            }),
            applies: Applies {
                ok: self.applies.ok,
                failed: self.applies.failed,
                last: self.applies.last,
            },
            database: self.asndb(),
            interfaces: self.attachments(),
            zones: policy.map_or_else(Vec::new, |policy| {
                policy.zones.iter().map(|zone| zone.name.clone()).collect()
            }),
            counts,
            countries,
        })
    }

    fn asndb(&self) -> Database {
        let info = self.database.info();
        let age = self.database.age();
        let old =
            |max: std::time::Duration| age.is_some_and(|age| age.unsigned_abs() > max.as_secs());
        Database {
            prefixes_v4: info.ipv4.prefixes,
            prefixes_v6: info.ipv6.prefixes,
            age,
            old: self.config.max_age.map(old),
        }
    }

    fn attachments(&self) -> Vec<Interface> {
        let one = |device: &super::interfaces::Device| {
            let attached = self.datapath.attached(&device.config.device);
            let mode = attached.map_or(mode_word(device.config.mode), Attached::as_str);
            Interface {
                name: device.config.name.clone(),
                mode: mode.to_owned(),
                attached: attached.is_some(),
            }
        };
        self.devices.iter().map(one).collect()
    }
}

/// What the policy can be expected to count one day, to be shown with zeros until
/// then: `rate()` does not see the first packets of a series that begins with them.
fn expected(policy: &Policy) -> Vec<Identity> {
    let unparsable = &Reason::ALL[Reason::FIRST_UNPARSABLE as usize..REASONS];
    let mut expected = Vec::new();
    for zone in &policy.zones {
        let mut expect = |reason, action| {
            expected.push(Identity::Zone(zone.name.clone(), reason, action));
        };
        expect(Reason::Default, zone.default);
        expect(Reason::NotIp, Action::Pass);
        expect(Reason::Infrastructure, Action::Pass);
        for reason in unparsable {
            expect(*reason, Action::Drop);
        }
    }
    for rule in &policy.rules {
        for zone in rule.from.iter().filter_map(|id| policy.zones.get(*id)) {
            let (zone, rule, action) = (zone.name.clone(), rule.name.clone(), rule.action);
            expected.push(Identity::Rule(zone, rule, action));
        }
    }
    expected
}

fn expected_of_interface(name: &str) -> [Identity; 2] {
    [Reason::NoZone, Reason::VlanDepth]
        .map(|reason| Identity::Port(name.to_owned(), reason, Action::Drop))
}
