//! Fills a [`FastZone`]: the zone's three most frequent verdict words, which leaf code means which of
//! them, and which sources its packets may have.

use std::collections::HashMap;

use kordon_ebpf::{
    layout::{
        ASK, CLASS_MASK, FAST_RECORD_DROPS, FAST_RECORD_PASS, FAST_SOURCES_BY_RULES, FastZone,
        GROUP_MASK, Generation, LEAF, MAX_GROUPS, Prefix, VERDICT_ACTION_SHIFT, VERDICT_INDEX,
        VERDICT_STEPS, ZONE_RECORD_DROPS, ZONE_RECORD_PASS, ZONE_SOURCES_LISTED,
        ZONE_SOURCES_UNCHECKED, Zone,
    },
    table::ReadTable,
};

/// Verdicts that have a leaf code.
const CODES: usize = ASK as usize;

/// Whether a fast zone's word passes and does nothing else.
fn passes(word: u32) -> bool {
    word >> VERDICT_ACTION_SHIFT == 0
}

/// A zone without a fast path.
pub(super) const CLOSED: FastZone = FastZone {
    words: [VERDICT_STEPS; 4],
    plane: 0,
    reserved: [0; 3],
    net4: 0,
    mask4: u32::MAX as u64,
    net6: 0,
    mask6: u64::MAX,
};

pub(super) fn fast_zone(
    fixed: &Generation<0>,
    zone: &Zone,
    words: [u32; 4],
    plane: u32,
) -> FastZone {
    let mut fast = FastZone {
        words,
        plane,
        ..CLOSED
    };
    for (recorded, bit) in [
        (ZONE_RECORD_PASS, FAST_RECORD_PASS),
        (ZONE_RECORD_DROPS, FAST_RECORD_DROPS),
    ] {
        if zone.flags & recorded != 0 {
            fast.plane |= bit;
        }
    }
    if zone.flags & ZONE_SOURCES_LISTED != 0 {
        let first = |at: u16, len: u16| (len > 0).then(|| fixed.sources.get(at as usize)).flatten();
        if let Some(Prefix { lo, lo_mask, .. }) = first(zone.sources_v4, zone.sources_v4_len) {
            let raw = |half: u64| u64::from((half as u32).to_be());
            (fast.net4, fast.mask4) = (raw(*lo), raw(*lo_mask));
        }
        // The low half is not looked at.
        if let Some(prefix) = first(zone.sources_v6, zone.sources_v6_len)
            && prefix.lo_mask == 0
        {
            (fast.net6, fast.mask6) = (prefix.hi.to_be(), prefix.hi_mask.to_be());
        }
        return fast;
    }
    (fast.mask4, fast.mask6) = (0, 0);
    if zone.flags & ZONE_SOURCES_UNCHECKED == 0 {
        fast.plane |= FAST_SOURCES_BY_RULES;
    }
    fast
}

/// How often each group is found in the table.
pub(super) fn weights<T: ReadTable>(class_words: &[u32], table: &T) -> Vec<usize> {
    let mut weights = Vec::new();
    let mut count = |word: u32| {
        if word & LEAF != 0
            && let Some(word) = class_words.get((word & CLASS_MASK) as usize)
        {
            let group = (word & GROUP_MASK) as usize;
            if weights.len() <= group {
                weights.resize(group + 1, 0);
            }
            weights[group] += 1;
        }
    };
    for top in 0..=u16::MAX {
        count(table.root_v4(top));
    }
    let mut index = 0;
    while let Some(word) = table.value(index) {
        count(word);
        index += 1;
    }
    weights
}

/// A zone's words by leaf code, passes first, and the leaf code of each group; `None`:
/// there is nothing that could have one.
pub(super) fn codes(
    fixed: &Generation<0>,
    zone: &Zone,
    weights: &[usize],
) -> Option<([u32; 4], Vec<u8>)> {
    // Every zone has some; free places have none.
    if zone.settings == 0 {
        return None;
    }
    let word = |group: u32| plain_word(fixed, zone.verdict_base, group);
    let mut found: HashMap<u32, usize> = HashMap::new();
    for (group, weight) in (0..).zip(weights) {
        if let Some(word) = word(group).filter(|_| *weight > 0) {
            *found.entry(word).or_default() += weight;
        }
    }
    let mut found: Vec<(u32, usize)> = found.into_iter().collect();
    found.sort_unstable_by_key(|&(word, weight)| (std::cmp::Reverse(weight), word));
    found.truncate(CODES);
    found.sort_by_key(|(word, _)| !passes(*word));
    if found.is_empty() {
        return None;
    }
    let mut words = CLOSED.words;
    for (code, (word, _)) in found.iter().enumerate() {
        words[code] = *word;
    }
    let codes = (0..weights.len() as u32)
        .map(|group| leaf_code(fixed, zone.verdict_base, &words, group))
        .collect();
    Some((words, codes))
}

/// How many groups a generation has at most: each zone's verdict words are behind those of
/// the zone before.
pub(in crate::compile) fn groups(fixed: &Generation<0>) -> u32 {
    let second = &fixed.zones[1];
    // Every zone has some; free places have none.
    match second.settings {
        0 => MAX_GROUPS as u32,
        _ => second.verdict_base,
    }
}

/// The leaf code of a group for a zone whose verdict words begin at `base` and whose fast zone
/// has these words.
pub(in crate::compile) fn leaf_code(
    fixed: &Generation<0>,
    base: u32,
    words: &[u32; 4],
    group: u32,
) -> u8 {
    let word = plain_word(fixed, base, group);
    let code = words[..CODES].iter().position(|known| word == Some(*known));
    code.unwrap_or(CODES) as u8
}

/// What a fast zone has of the verdict word of a group, if no rule looks at more.
fn plain_word(fixed: &Generation<0>, base: u32, group: u32) -> Option<u32> {
    let word = fixed.verdicts.get((base + group) as usize)?;
    let kept = word & (VERDICT_INDEX | 3 << VERDICT_ACTION_SHIFT | VERDICT_STEPS);
    (kept & VERDICT_STEPS == 0).then_some(kept)
}
