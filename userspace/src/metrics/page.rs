//! A page of series: counters and gauges, by their labels.
//!
//! Not the library's vectors of counters: these tell series apart by a hash of all label values written one behind the
//! other, so that zone `z6` with AS1490 and zone `z61` with AS490 were one. Here a series is its labels. What is made of
//! them is encoded by the library.

use std::{cell::RefCell, collections::BTreeMap};

use kordon_ebpf::layout::Counter;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

/// What ASNs and cameras without a series of their own are called.
pub(super) const OTHER: &str = "other";

/// One metric: its series by the values of its labels.
struct Family {
    name: String,
    help: String,
    kind: MetricType,
    labels: Vec<String>,
    series: BTreeMap<Vec<String>, f64>,
}

/// The metrics of a page.
#[derive(Default)]
pub(super) struct Page(RefCell<Vec<Family>>);

/// One of them, to be added to.
pub(super) struct Series<'p> {
    page: &'p Page,
    index: usize,
}

impl Series<'_> {
    /// Adds to the series with these values of the labels, in their order; 0 makes it.
    pub(super) fn add(&self, values: &[&str], count: u64) {
        self.with(values, |sum| *sum += count as f64);
    }

    /// The series with these values has this one.
    pub(super) fn set(&self, values: &[&str], value: f64) {
        self.with(values, |held| *held = value);
    }

    fn with(&self, values: &[&str], change: impl FnOnce(&mut f64)) {
        let family = &mut self.page.0.borrow_mut()[self.index];
        debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
        let values = values.iter().map(|&value| value.to_owned()).collect();
        change(family.series.entry(values).or_default());
    }
}

impl Page {
    fn family(&self, kind: MetricType, name: &str, help: &str, labels: &[&str]) -> Series<'_> {
        let mut families = self.0.borrow_mut();
        debug_assert!(
            families.iter().all(|family| family.name != name),
            "{name} twice"
        );
        families.push(Family {
            name: name.to_owned(),
            help: help.to_owned(),
            kind,
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            series: BTreeMap::new(),
        });
        Series {
            page: self,
            index: families.len() - 1,
        }
    }

    pub(super) fn counter(&self, name: &str, help: &str, labels: &[&str]) -> Series<'_> {
        self.family(MetricType::COUNTER, name, help, labels)
    }

    /// Counters, with the values of their labels.
    pub(super) fn counters<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        series: impl IntoIterator<Item = ([&'a str; N], u64)>,
    ) {
        let counter = self.counter(name, help, &labels);
        for (values, count) in series {
            counter.add(&values, count);
        }
    }

    /// A gauge by these labels.
    pub(super) fn labelled(&self, name: &str, help: &str, labels: &[&str]) -> Series<'_> {
        self.family(MetricType::GAUGE, name, help, labels)
    }

    /// Gauges, with the values of their labels.
    pub(super) fn gauges<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        series: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        let gauge = self.labelled(name, help, &labels);
        for (values, value) in series {
            gauge.set(&values, value);
        }
    }

    /// Where there is a value.
    pub(super) fn gauge(&self, name: &str, help: &str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.gauges(name, help, [], [([], value)]);
        }
    }

    /// As the library encodes them, by name; those without a series are left out.
    pub(super) fn families(self) -> Vec<MetricFamily> {
        let mut families = self.0.into_inner();
        families.retain(|family| !family.series.is_empty());
        families.sort_by(|a, b| a.name.cmp(&b.name));
        families.into_iter().map(Family::encoded).collect()
    }
}

impl Family {
    fn encoded(self) -> MetricFamily {
        let series = self.series.into_iter().map(|(values, value)| {
            let labels = self.labels.iter().zip(values).map(|(name, value)| {
                let mut label = LabelPair::default();
                label.set_name(name.clone());
                label.set_value(value);
                label
            });
            let mut labels: Vec<LabelPair> = labels.collect();
            labels.sort_by(|a, b| a.name().cmp(b.name()));
            let mut metric = Metric::from_label(labels);
            match self.kind {
                MetricType::COUNTER => {
                    let mut counter = proto::Counter::default();
                    counter.set_value(value);
                    metric.set_counter(counter);
                }
                _ => {
                    let mut gauge = proto::Gauge::default();
                    gauge.set_value(value);
                    metric.set_gauge(gauge);
                }
            }
            metric
        });
        let mut family = MetricFamily::default();
        family.set_metric(series.collect());
        family.set_name(self.name);
        family.set_help(self.help);
        family.set_field_type(self.kind);
        family
    }
}

/// Two counters with the same labels: packets and bytes.
pub(super) struct Traffic<'p> {
    packets: Series<'p>,
    bytes: Series<'p>,
}

impl<'p> Traffic<'p> {
    pub(super) fn new(page: &'p Page, name: &str, what: &str, labels: &[&str]) -> Self {
        let help = format!("Bytes of frames {what}, as they arrived on the interface.");
        let (packets, bytes) = (
            format!("kordon_{name}packets_total"),
            format!("kordon_{name}bytes_total"),
        );
        Self {
            packets: page.counter(&packets, &format!("Packets {what}."), labels),
            bytes: page.counter(&bytes, &help, labels),
        }
    }

    pub(super) fn add(&self, labels: &[&str], counter: &Counter) {
        self.packets.add(labels, counter.packets);
        self.bytes.add(labels, counter.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_read_alike_in_a_row_are_two_series() {
        let page = Page::default();
        let counter = page.counter("packets", "Packets.", &["zone", "asn"]);
        counter.add(&["z6", "1490"], 1);
        counter.add(&["z61", "490"], 2);
        counter.add(&["z6", "1490"], 4);
        let text = prometheus::TextEncoder::new().encode_to_string(&page.families());
        assert_eq!(
            text.unwrap(),
            "# HELP packets Packets.\n# TYPE packets counter\n\
             packets{asn=\"1490\",zone=\"z6\"} 5\npackets{asn=\"490\",zone=\"z61\"} 2\n"
        );
    }
}
