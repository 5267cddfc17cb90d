//! Whether all that receives a policed VLAN is policed, by what was seen of the router last. It is
//! judged again where something changed that it goes by, and what is new of it is in the log.

use std::sync::Arc;

use crate::{
    coverage::{Gap, Policed, Seen, gaps},
    policy::Policy,
};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cover {
    /// What was seen; `None`: nothing, which is a reason of its own.
    seen: Option<Arc<Seen>>,
    /// By what it was judged last.
    by: Option<(Arc<Seen>, Arc<Policy>, Vec<Policed>)>,
    gaps: Arc<[Gap]>,
}

impl Cover {
    pub(super) fn new(seen: Option<Seen>) -> Self {
        Self {
            seen: seen.map(Arc::new),
            ..Self::default()
        }
    }

    /// This is the router by now.
    pub(super) fn see(&mut self, seen: Seen) {
        self.seen = Some(Arc::new(seen));
    }

    /// The number of the device that is seen under a name, and whether one is seen under a number.
    pub(super) fn find(&self, name: &str, index: Option<u32>) -> Option<u32> {
        let links = &self.seen.as_ref()?.links;
        let known = index.filter(|index| links.get(*index).is_some());
        known.or_else(|| Some(links.named(name)?.index))
    }

    /// Judges it, unless nothing changed.
    pub(super) fn judge(&mut self, policed: Vec<Policed>, policy: &Arc<Policy>) {
        let Some(seen) = &self.seen else { return };
        let is_same = |(by, rules, devices): &(Arc<Seen>, Arc<Policy>, Vec<Policed>)| {
            Arc::ptr_eq(by, seen) && Arc::ptr_eq(rules, policy) && *devices == policed
        };
        if self.by.as_ref().is_some_and(is_same) {
            return;
        }
        let gaps: Arc<[Gap]> = gaps(seen, &policed, policy).into();
        for gap in gaps.iter().filter(|gap| !self.gaps.contains(gap)) {
            match gap.is_certain {
                true => tracing::error!("{gap}"),
                false => tracing::warn!("{gap}"),
            }
        }
        for gap in self.gaps.iter().filter(|gap| !gaps.contains(gap)) {
            tracing::info!("no longer: {}", gap.found);
        }
        self.by = Some((Arc::clone(seen), Arc::clone(policy), policed));
        self.gaps = gaps;
    }

    /// What leads around kordon.
    pub(crate) fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// What is not known of it.
    pub(super) fn unknown(&self) -> Option<String> {
        let why = self.seen.as_ref()?.flowtables.as_ref().err()?;
        Some(format!(
            "whether a flowtable leads packets past kordon in hardware is not known: {why}"
        ))
    }
}
