//! Live BGP makes new classes (new combinations of origins). Their group is found by the answers that the
//! compiler had kept; if there is no kind like it, the rules are compiled again.

use std::collections::HashMap;

use kordon_ebpf::layout::GROUP_BITS;

use super::counted::{NO_ORDINAL, first_origin};
use crate::compile::{
    directory::Directory,
    partition::{ClassKey, Partition, Question},
};

/// What a class comes to: its word is found without compiling anything again.
#[derive(Debug)]
pub struct Grouping {
    /// By target that some rule names: what it asks.
    pub(super) questions: Vec<Question>,
    /// Groups by the answers.
    pub(super) ids: HashMap<Box<[u64]>, u32>,
    /// By group: whether some zone may drop or audit it.
    pub(super) hits: Vec<bool>,
}

impl Grouping {
    /// What the classes of a partition from `first` on come to. `None`: the rules have to
    /// be compiled again, because nothing was like one of them before.
    #[must_use]
    pub fn classes(
        &self,
        partition: &Partition,
        first: usize,
        directory: &Directory,
    ) -> Option<NewClasses> {
        let mut new = NewClasses {
            first,
            ..NewClasses::default()
        };
        for key in partition.classes.get(first..)? {
            let word = self.word(partition, key, directory, &mut new)?;
            new.words.push(word);
        }
        Some(new)
    }

    fn word(
        &self,
        partition: &Partition,
        key: &ClassKey,
        directory: &Directory,
        new: &mut NewClasses,
    ) -> Option<u32> {
        let mut signature = vec![0u64; self.questions.len().div_ceil(64)];
        for (bit, question) in self.questions.iter().enumerate() {
            let member = partition.answers(question, key);
            signature[bit / 64] |= u64::from(member) << (bit % 64);
        }
        let group = *self.ids.get(&*signature)?;
        if !self.hits[group as usize] {
            return Some(NO_ORDINAL << GROUP_BITS | group);
        }
        let asn = first_origin(partition, key);
        let known = new.directory.as_ref().unwrap_or(directory);
        let ordinal = known.known_ordinal(asn).or_else(|| {
            let directory = new.directory.get_or_insert_with(|| directory.clone());
            directory.ordinal(asn)
        });
        Some(ordinal.unwrap_or(NO_ORDINAL) << GROUP_BITS | group)
    }
}

/// Classes that come to a generation that is live.
#[derive(Clone, Debug, Default)]
pub struct NewClasses {
    /// The first of them.
    pub first: usize,
    /// Their words.
    pub words: Vec<u32>,
    /// The directory, if there are ordinals that it did not have.
    pub directory: Option<Directory>,
}
