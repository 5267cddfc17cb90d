//! What a policy says about who announces an address, as far as live BGP has to know it:
//! which changes tighten, and which loosen.

use std::collections::BTreeSet;

use crate::asn::AsnDb;
use crate::asn::range::{merged, within};
use crate::policy::Policy;
use crate::policy::model::Target;
use kordon_ebpf::layout::Action;

/// What the policy has to do with an origin: which direction is the strict one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stakes {
    /// Named by a rule that drops or audits; sorted, disjoint, inclusive.
    pub(super) drops: Vec<(u32, u32)>,
    /// Named by a rule that passes.
    pub(super) passes: Vec<(u32, u32)>,
    /// A rule drops what nobody announces.
    pub(super) drops_unrouted: bool,
    /// A rule passes what nobody announces.
    pub(super) passes_unrouted: bool,
}

impl Stakes {
    /// Of a policy over a database, which says who is registered where.
    #[must_use]
    pub fn of(policy: &Policy, db: &AsnDb) -> Self {
        let mut stakes = Self::default();
        let (mut drops, mut passes) = (BTreeSet::new(), BTreeSet::new());
        for rule in &policy.rules {
            let pass = rule.action == Action::Pass;
            for target in &rule.to {
                match target {
                    Target::Set(id) if pass => passes.insert(*id),
                    Target::Set(id) => drops.insert(*id),
                    Target::Unrouted if pass => {
                        stakes.passes_unrouted = true;
                        continue;
                    }
                    Target::Unrouted => {
                        stakes.drops_unrouted = true;
                        continue;
                    }
                    _ => continue,
                };
            }
        }
        let of = |ids: BTreeSet<usize>| {
            let sets = ids.into_iter().filter_map(|id| policy.sets.get(id));
            merged(sets.flat_map(|set| set.origins(db)).collect())
        };
        stakes.drops = of(drops);
        stakes.passes = of(passes);
        stakes
    }

    /// Whether a rule names one of these, or asks whether there is one.
    pub(super) fn touch(&self, asns: &[u32]) -> bool {
        self.drops_unrouted
            || self.passes_unrouted
            || asns.iter().any(|&asn| self.drops(asn) || self.passes(asn))
    }

    pub(super) fn drops(&self, asn: u32) -> bool {
        within(&self.drops, asn)
    }

    pub(super) fn passes(&self, asn: u32) -> bool {
        within(&self.passes, asn)
    }

    /// Whether an address that has this origin beside others can only be treated more
    /// strictly: no rule lets it through in any zone.
    pub(super) fn tightens(&self, asn: u32) -> bool {
        self.drops(asn) && !self.passes(asn)
    }
}
