//! A snapshot as text in Prometheus' exposition format, version 0.0.4.
//!
//! A page is made from nothing each time: what is gone (a hash, a mode) leaves no
//! series behind, and counters are the kernel's, not counted a second time here.

use kordon_ebpf::layout::{Action, Counter};
use prometheus::{
    Error, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder,
    process_collector::ProcessCollector,
};

use super::Snapshot;
use crate::compile::directory::Identity;

/// Writes the page.
///
/// # Errors
/// When the library refuses a series. It has no reason to.
pub fn render(snapshot: &Snapshot) -> Result<String, Error> {
    let page = Page::default();
    page.0.register(Box::new(ProcessCollector::for_self()))?;
    controller(&page, snapshot)?;
    database(&page, snapshot)?;
    packets(&page, snapshot)?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}

fn controller(page: &Page, snapshot: &Snapshot) -> Result<(), Error> {
    page.gauge(
        "kordon_build_info",
        "Always 1; the label is the version of the controller.",
        ["version"],
    )?
    .set([&snapshot.version], 1.0)?;
    page.gauge(
        "kordon_enforcing",
        "1 where everything that the live policy asks for is enforced on every configured interface, else 0.",
        [],
    )?
    .set([], flag(snapshot.enforcing))?;

    let attached = page.gauge(
        "kordon_interface_attached",
        "1 where the program is attached to the configured interface now, in the mode of the label; \
         0 where it is not, and the mode is the configured one.",
        ["interface", "mode"],
    )?;
    for interface in &snapshot.interfaces {
        attached.set([&interface.name, &interface.mode], flag(interface.attached))?;
    }

    let info = page.gauge(
        "kordon_policy_info",
        "Always 1; the label is the hash of the live policy, entries of `kordon block` and `allow` included.",
        ["hash"],
    )?;
    let applied = page.gauge(
        "kordon_policy_applied_timestamp_seconds",
        "When the live policy file was applied first, in seconds since 1970.",
        [],
    )?;
    if let Some(policy) = &snapshot.policy {
        info.set([&policy.hash], 1.0)?;
        if let Some(at) = policy.applied_at {
            applied.set([], at)?;
        }
    }

    let took = page.gauge(
        "kordon_policy_apply_seconds",
        "How long the last successful apply took, from the parsed policy to the one that is live and kept on disk.",
        [],
    )?;
    if let Some(last) = snapshot.applies.last {
        took.set([], last.as_secs_f64())?;
    }
    let applies = page.counter(
        "kordon_policy_applies_total",
        "Applies, reloads and rollbacks that were asked for since the controller started, by result.",
        ["result"],
    )?;
    applies.add(["ok"], snapshot.applies.ok)?;
    applies.add(["failed"], snapshot.applies.failed)
}

fn database(page: &Page, snapshot: &Snapshot) -> Result<(), Error> {
    let database = &snapshot.database;
    let prefixes = page.gauge(
        "kordon_asndb_prefixes",
        "Prefixes that the announced address space of the ASN database splits into.",
        ["family"],
    )?;
    // Far below where a double would round them.
    prefixes.set(["ipv4"], database.prefixes_v4 as f64)?;
    prefixes.set(["ipv6"], database.prefixes_v6 as f64)?;
    let age = page.gauge(
        "kordon_asndb_age_seconds",
        "Seconds since the ASN database was imported; not there without one.",
        [],
    )?;
    if let Some(seconds) = database.age {
        age.set([], seconds as f64)?;
    }
    let old = page.gauge(
        "kordon_asndb_old",
        "1 where the ASN database is older than `max_age` of the configuration, else 0; not there without that key.",
        [],
    )?;
    if let Some(is_old) = database.old {
        old.set([], flag(is_old))?;
    }
    Ok(())
}

fn packets(page: &Page, snapshot: &Snapshot) -> Result<(), Error> {
    let zones = page.pair(
        "kordon",
        "of each zone, by what became of them; every one is counted once here",
        ["zone", "action"],
    )?;
    let rules = page.pair(
        "kordon_rule",
        "that a rule decided or, for `audit`, marked first",
        ["zone", "rule", "action"],
    )?;
    let asns = page.pair(
        "kordon_asn",
        "that were dropped or audited, by the ASN of the address that decided (`none`: announced by nobody, \
         `other`: ASNs without a counter of their own) and where it is registered",
        ["zone", "asn", "country", "action"],
    )?;
    let reasons = page.counter(
        "kordon_reason_packets_total",
        "Packets of each zone that something other than a rule decided.",
        ["zone", "reason", "action"],
    )?;
    let unparsable = page.counter(
        "kordon_unparsable_packets_total",
        "Packets in which the reason was met, whether or not it decided; the action is the one that the packet got.",
        ["zone", "reason", "action"],
    )?;
    let ports = page.counter(
        "kordon_interface_dropped_packets_total",
        "Packets on an interface that were dropped without being in a zone.",
        ["interface", "reason"],
    )?;

    for zone in &snapshot.zones {
        for action in Action::ALL {
            zones.add([zone, action.as_str()], Counter::default())?;
        }
    }
    for (identity, counter) in &snapshot.counts {
        let counter = *counter;
        match identity {
            Identity::Zone(zone, reason, action) => {
                let labels = [zone, reason.as_str(), action.as_str()];
                zones.add([zone, action.as_str()], counter)?;
                reasons.add(labels, counter.packets)?;
                if reason.is_unparsable() {
                    unparsable.add(labels, counter.packets)?;
                }
            }
            Identity::Rule(zone, rule, action) => {
                zones.add([zone, action.as_str()], counter)?;
                rules.add([zone, rule, action.as_str()], counter)?;
            }
            // These are counted under what decided as well.
            Identity::Noted(zone, reason, action) => {
                unparsable.add([zone, reason.as_str(), action.as_str()], counter.packets)?;
            }
            Identity::Asn(zone, Some(asn), action) => {
                let country = snapshot.countries.get(asn).map_or("", String::as_str);
                asns.add([zone, &asn.to_string(), country, action.as_str()], counter)?;
            }
            Identity::Asn(zone, None, action) => {
                asns.add([zone, "none", "", action.as_str()], counter)?;
            }
            Identity::OtherAsns(zone, action) => {
                asns.add([zone, "other", "", action.as_str()], counter)?;
            }
            Identity::Port(interface, reason, Action::Drop) => {
                ports.add([interface, reason.as_str()], counter.packets)?;
            }
            // What is in no zone is nobody's business unless it was dropped.
            Identity::Port(_, _, Action::Pass | Action::Audit) => {}
        }
    }
    Ok(())
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// The families of one page. Those without a series are left out of it.
#[derive(Default)]
struct Page(Registry);

impl Page {
    fn gauge<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Gauges<N>, Error> {
        let family = GaugeVec::new(Opts::new(name, help), &labels)?;
        self.0.register(Box::new(family.clone()))?;
        Ok(Gauges(family))
    }

    fn counter<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Counters<N>, Error> {
        let family = IntCounterVec::new(Opts::new(name, help), &labels)?;
        self.0.register(Box::new(family.clone()))?;
        Ok(Counters(family))
    }

    /// Packets and their bytes.
    fn pair<const N: usize>(
        &self,
        prefix: &str,
        what: &str,
        labels: [&str; N],
    ) -> Result<Pair<N>, Error> {
        let packets = format!("Packets {what}.");
        let bytes = format!("Bytes of frames, as received, {what}.");
        Ok(Pair {
            packets: self.counter(&format!("{prefix}_packets_total"), &packets, labels)?,
            bytes: self.counter(&format!("{prefix}_bytes_total"), &bytes, labels)?,
        })
    }
}

/// The number of labels is the type's, so that none can be forgotten.
struct Gauges<const N: usize>(GaugeVec);

impl<const N: usize> Gauges<N> {
    fn set(&self, labels: [&str; N], value: f64) -> Result<(), Error> {
        self.0.get_metric_with_label_values(&labels)?.set(value);
        Ok(())
    }
}

struct Counters<const N: usize>(IntCounterVec);

impl<const N: usize> Counters<N> {
    fn add(&self, labels: [&str; N], value: u64) -> Result<(), Error> {
        self.0.get_metric_with_label_values(&labels)?.inc_by(value);
        Ok(())
    }
}

struct Pair<const N: usize> {
    packets: Counters<N>,
    bytes: Counters<N>,
}

impl<const N: usize> Pair<N> {
    fn add(&self, labels: [&str; N], counter: Counter) -> Result<(), Error> {
        self.packets.add(labels, counter.packets)?;
        self.bytes.add(labels, counter.bytes)
    }
}
