//! Words of classes that come to a generation while it is live, as live BGP brings them:
//! what the compiler had found out about groups and counters, kept.

use std::collections::HashMap;

use kordon_ebpf::layout::{ASN_PAGE, Action, GROUP_BITS, Generation};

use super::counted::{NO_ORDINAL, first_origin};
use crate::{
    compile::{
        directory::Directory,
        partition::{ClassKey, Partition, Question},
    },
    policy::model,
};

/// What a class comes to: its word is found without compiling anything again.
#[derive(Debug)]
pub struct Grouping {
    /// By target that some rule names: what it asks.
    pub(super) questions: Vec<Question>,
    /// Groups by the answers.
    pub(super) ids: HashMap<Box<[u64]>, u32>,
    /// By zone and group: the strictest that any packet can get.
    pub(super) hits: Vec<Vec<Action>>,
    /// By zone: whether some rule audits.
    pub(super) audits: Vec<bool>,
}

impl Grouping {
    /// What the classes of a partition from `first` on come to. `None`: the rules have to
    /// be compiled again, because nothing was like one of them before, or because there
    /// is no page prepared for its counter.
    #[must_use]
    pub fn classes(
        &self,
        partition: &Partition,
        first: usize,
        zones: &[model::Zone],
        directory: &Directory,
        fixed: &Generation<0>,
    ) -> Option<NewClasses> {
        let mut new = NewClasses {
            first,
            ..NewClasses::default()
        };
        for key in partition.classes.get(first..)? {
            let word = self.word(partition, key, zones, directory, fixed, &mut new)?;
            new.words.push(word);
        }
        Some(new)
    }

    fn word(
        &self,
        partition: &Partition,
        key: &ClassKey,
        zones: &[model::Zone],
        directory: &Directory,
        fixed: &Generation<0>,
        new: &mut NewClasses,
    ) -> Option<u32> {
        let mut signature = vec![0u64; self.questions.len().div_ceil(64)];
        for (bit, question) in self.questions.iter().enumerate() {
            let member = partition.answers(question, key);
            signature[bit / 64] |= u64::from(member) << (bit % 64);
        }
        let group = *self.ids.get(&*signature)?;
        let strictest = |zone: usize| self.hits[zone][group as usize];
        if (0..self.hits.len()).all(|zone| strictest(zone) == Action::Pass) {
            return Some(NO_ORDINAL << GROUP_BITS | group);
        }
        let asn = first_origin(partition, key);
        let ordinal = match new
            .directory
            .as_ref()
            .unwrap_or(directory)
            .known_ordinal(asn)
        {
            Some(ordinal) => ordinal,
            None => {
                let directory = new.directory.get_or_insert_with(|| directory.clone());
                match directory.ordinal(asn) {
                    Some(ordinal) => ordinal,
                    None => return Some(NO_ORDINAL << GROUP_BITS | group),
                }
            }
        };
        let page = ordinal / ASN_PAGE;
        for (zone, of_zone) in fixed.zones.iter().enumerate().take(self.hits.len()) {
            for (list, action) in [Action::Audit, Action::Drop].into_iter().enumerate() {
                if action > strictest(zone) || action == Action::Audit && !self.audits[zone] {
                    continue;
                }
                if page >= of_zone.asn_pages_len {
                    return None;
                }
                let at = of_zone.asn_pages + list as u32 * of_zone.asn_pages_len + page;
                let at = at as usize;
                if *fixed.asn_pages.get(at)? == 0 && new.pages.iter().all(|(index, _)| *index != at)
                {
                    let directory = new.directory.get_or_insert_with(|| directory.clone());
                    // Where slots have run out, the zone's overflow counts.
                    let slot = directory.page(&zones.get(zone)?.name, action, page);
                    new.pages.push((at, slot.unwrap_or(0)));
                }
            }
        }
        Some(ordinal << GROUP_BITS | group)
    }
}

/// Classes that come to a generation that is live.
#[derive(Clone, Debug, Default)]
pub struct NewClasses {
    /// The first of them.
    pub first: usize,
    /// Their words.
    pub words: Vec<u32>,
    /// The directory, if there are counters that it did not have.
    pub directory: Option<Directory>,
    /// More of [`Generation::asn_pages`]: index and first slot.
    pub pages: Vec<(usize, u32)>,
}
