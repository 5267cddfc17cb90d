//! A page of series: counters and gauges, by their labels.

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, Result};

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
