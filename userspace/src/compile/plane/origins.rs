//! Whose a destination is, as the verdict planes have it: the ordinals by which what
//! does not just pass is counted. IPv4 has one table for all planes; IPv6 keeps ordinals
//! beside the leaves of each.
//!
//! Where nothing is counted nobody reads, so anything may stand there that makes the
//! table smaller, unless programs are reading it: one that has seen a leaf before a change
//! may read the origin after it, and must find the right one, or be told to ask.

use kordon_ebpf::{
    layout::{CLASS_MASK, LEAF, NO_CLASS, ORIGIN_ASK, ORIGIN_NODE, PLANE_KEYS, VALUE_ASK},
    table::ReadTable,
};

use super::build::{Places, runs_of};
use crate::compile::table::Runs;

/// Makes the table of IPv4 origins. `counted`: the ordinal of a class of which some plane
/// counts something, or [`VALUE_ASK`].
pub(in crate::compile) struct Origins<'a, T, C> {
    pub(in crate::compile) table: &'a T,
    pub(in crate::compile) counted: C,
    /// What is not counted asks; otherwise it has any ordinal.
    pub(in crate::compile) exact: bool,
}

impl<T: ReadTable, C: Fn(u32) -> Option<u16>> Origins<'_, T, C> {
    /// The word for a /16, of which this is the word of the table.
    pub(in crate::compile) fn top_v4(&mut self, places: &mut impl Places, word: u32) -> u16 {
        if word & LEAF != 0 {
            return direct(self.of(word)).unwrap_or(ORIGIN_ASK);
        }
        let mut runs = Runs::default();
        let mut before = None;
        runs_of(self.table, word, |slots, word| {
            let mut origin = match word & LEAF {
                0 => self.of_node(word),
                _ => self.of(word),
            };
            if self.exact {
                origin = origin.or(Some(VALUE_ASK));
            }
            before = origin.or(before);
            if let Some(origin) = before {
                let is_first = runs.words().is_empty();
                runs.push(if is_first { 0 } else { slots.start }, u32::from(origin));
            }
        });
        match runs.words() {
            [] => return ORIGIN_ASK,
            [one] => {
                if let Some(word) = direct(Some(*one as u16)) {
                    return word;
                }
            }
            _ => {}
        }
        match places.origin_node(&runs) {
            Some(index) => ORIGIN_NODE | index,
            None => ORIGIN_ASK,
        }
    }

    /// Of a word of the table that ends a walk.
    fn of(&self, word: u32) -> Option<u16> {
        if word == NO_CLASS {
            return None;
        }
        (self.counted)(word & CLASS_MASK)
    }

    /// Of a /24 in which there is something longer: all that is counted, if that is one.
    fn of_node(&self, index: u32) -> Option<u16> {
        let mut all = None;
        runs_of(self.table, index, |_, word| {
            let origin = match word & LEAF {
                0 => Some(VALUE_ASK),
                _ => self.of(word),
            };
            if let Some(origin) = origin
                && *all.get_or_insert(origin) != origin
            {
                all = Some(VALUE_ASK);
            }
        });
        all
    }
}

/// The word of a /16 that has one ordinal; `None`: it needs a node.
fn direct(origin: Option<u16>) -> Option<u16> {
    match origin {
        None | Some(VALUE_ASK) => Some(ORIGIN_ASK),
        Some(ordinal) if ordinal < ORIGIN_ASK => Some(ordinal),
        Some(_) => None,
    }
}

/// What is beside a line of these leaves. `put` puts sixteen ordinals somewhere.
pub(in crate::compile) fn line_word(
    origins: &[Option<u16>; PLANE_KEYS + 1],
    put: impl FnOnce(&[u16]) -> Option<u32>,
) -> u32 {
    let mut counted = origins.iter().flatten();
    let Some(first) = counted.next() else {
        return NO_CLASS;
    };
    if counted.all(|origin| origin == first) {
        return match *first {
            VALUE_ASK => NO_CLASS,
            ordinal => LEAF | u32::from(ordinal),
        };
    }
    put(&origins.map(|origin| origin.unwrap_or(VALUE_ASK))).unwrap_or(NO_CLASS)
}
