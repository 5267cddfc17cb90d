//! Counters of destinations, by their first origin: class words lead to an ordinal, and each zone
//! has pages of counters for the ordinals that it may drop or audit.

use kordon_ebpf::layout::{ASN_PAGE, Action, GROUP_BITS, Generation, MAX_ASN_PAGES, MAX_ORDINALS};

use super::{GenerationError, limit};
use crate::{
    compile::{
        directory::Directory,
        partition::{ClassKey, Partition},
    },
    policy::model::Policy,
};

/// The ordinal of ASNs without a counter of their own.
pub(super) const NO_ORDINAL: u32 = MAX_ORDINALS - 1;

pub(super) fn first_origin(partition: &Partition, key: &ClassKey) -> Option<u32> {
    let origins = partition.origins.get(key.origins?)?;
    origins.first().copied()
}

pub(super) fn may_audit(policy: &Policy, zone: usize) -> bool {
    let mut rules = policy.rules.iter();
    rules.any(|rule| rule.action == Action::Audit && rule.from.contains(&zone))
}

/// Counters for every ASN that some packet of a zone may be dropped or audited
/// for, and the class words that lead there.
pub(super) fn count_asns(
    policy: &Policy,
    partition: &Partition,
    groups: &[u32],
    hits: &[Vec<Action>],
    directory: &mut Directory,
    fixed: &mut Generation<0>,
) -> Result<Vec<u32>, GenerationError> {
    let mut class_words = Vec::with_capacity(partition.classes.len());
    for (class, key) in partition.classes.iter().enumerate() {
        let group = groups[class];
        let is_hit = hits.iter().any(|hit| hit[group as usize] != Action::Pass);
        let ordinal = if is_hit {
            directory.ordinal(first_origin(partition, key))
        } else {
            None
        };
        class_words.push(ordinal.unwrap_or(NO_ORDINAL) << GROUP_BITS | group);
    }
    let mut next = 0usize;
    // A page for ASNs that come while the rules stay.
    let spare = usize::from(policy.zones.len() <= MAX_ASN_PAGES / 64);
    for (id, zone) in policy.zones.iter().enumerate() {
        let mut pages: [Vec<bool>; 2] = Default::default();
        for word in &class_words {
            let ordinal = word >> GROUP_BITS;
            let strictest = hits[id][(word & ((1 << GROUP_BITS) - 1)) as usize];
            if ordinal == NO_ORDINAL || strictest == Action::Pass {
                continue;
            }
            let page = (ordinal / ASN_PAGE) as usize;
            for (list, action) in [Action::Audit, Action::Drop].into_iter().enumerate() {
                if action <= strictest {
                    if pages[list].len() <= page {
                        pages[list].resize(page + 1, false);
                    }
                    pages[list][page] = true;
                }
            }
        }
        let count = pages[0].len().max(pages[1].len()) + spare;
        limit("pages of ASN counters", next + 2 * count, MAX_ASN_PAGES)?;
        fixed.zones[id].asn_pages = next as u32;
        fixed.zones[id].asn_pages_len = count as u32;
        let may_audit = may_audit(policy, id);
        for (list, action) in [Action::Audit, Action::Drop].into_iter().enumerate() {
            if action == Action::Audit && !may_audit {
                continue;
            }
            for (page, _) in pages[list]
                .iter()
                .enumerate()
                .filter(|(_, wanted)| **wanted)
            {
                // Where slots have run out, the zone's overflow counts.
                let slot = directory.page(&zone.name, action, page as u32);
                fixed.asn_pages[next + list * count + page] = slot.unwrap_or(0);
            }
        }
        next += 2 * count;
    }
    Ok(class_words)
}
