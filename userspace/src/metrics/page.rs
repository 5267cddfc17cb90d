//! A page of series: counters and gauges, by their labels.

use kordon_ebpf::layout::Counter;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, Result};

/// What ASNs and cameras without a series of their own are called.
pub(super) const OTHER: &str = "other";

/// The series of a page.
pub(super) struct Page(pub(super) Registry);

impl Page {
    pub(super) fn counter(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    /// Counters, with the values of their labels.
    pub(super) fn counters<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        series: impl IntoIterator<Item = ([&'a str; N], u64)>,
    ) -> Result<()> {
        let counter = self.counter(name, help, &labels)?;
        for (values, count) in series {
            counter.with_label_values(&values).inc_by(count);
        }
        Ok(())
    }

    /// Gauges, with the values of their labels.
    pub(super) fn gauges<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        series: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) -> Result<()> {
        let gauge = GaugeVec::new(Opts::new(name, help), &labels)?;
        self.0.register(Box::new(gauge.clone()))?;
        for (values, value) in series {
            gauge.with_label_values(&values).set(value);
        }
        Ok(())
    }

    /// Where there is a value.
    pub(super) fn gauge(
        &self,
        name: &str,
        help: &str,
        value: impl Into<Option<f64>>,
    ) -> Result<()> {
        match value.into() {
            Some(value) => self.gauges(name, help, [], [([], value)]),
            None => Ok(()),
        }
    }
}

/// Two counters with the same labels: packets and bytes.
pub(super) struct Traffic {
    packets: IntCounterVec,
    bytes: IntCounterVec,
}

impl Traffic {
    pub(super) fn new(page: &Page, name: &str, what: &str, labels: &[&str]) -> Result<Self> {
        let help = format!("Bytes of frames {what}, as they arrived on the interface.");
        let (packets, bytes) = (
            format!("kordon_{name}packets_total"),
            format!("kordon_{name}bytes_total"),
        );
        Ok(Self {
            packets: page.counter(&packets, &format!("Packets {what}."), labels)?,
            bytes: page.counter(&bytes, &help, labels)?,
        })
    }

    pub(super) fn add(&self, labels: &[&str], counter: &Counter) {
        self.packets
            .with_label_values(labels)
            .inc_by(counter.packets);
        self.bytes.with_label_values(labels).inc_by(counter.bytes);
    }
}
