//! The *ordinal* of a class: the directory's number for its first origin, the ASN that packets are counted for where no
//! record of the ledger says it. Only classes that some zone may drop or audit get one.

use kordon_ebpf::layout::{GROUP_BITS, MAX_ORDINALS};

use crate::compile::{
    directory::Directory,
    partition::{ClassKey, Partition},
};

/// The ordinal of classes that need none, and of ASNs that come when all are given.
pub(super) const NO_ORDINAL: u32 = MAX_ORDINALS - 1;

pub(super) fn first_origin(partition: &Partition, key: &ClassKey) -> Option<u32> {
    let origins = partition.origins.get(key.origins?)?;
    origins.first().copied()
}

/// The words of classes, by their groups, and by which groups some zone may drop or audit.
pub(super) fn class_words(
    partition: &Partition,
    groups: &[u32],
    hits: &[bool],
    directory: &mut Directory,
) -> Vec<u32> {
    let classes = partition.classes.iter().zip(groups);
    let words = classes.map(|(key, group)| {
        let ordinal = if hits[*group as usize] {
            directory.ordinal(first_origin(partition, key))
        } else {
            None
        };
        ordinal.unwrap_or(NO_ORDINAL) << GROUP_BITS | group
    });
    words.collect()
}
