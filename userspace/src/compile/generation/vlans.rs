//! Which zone a frame is in: tables by VID, one for each interface that zones name and one for
//! all others, and the pairs of outer and inner VID.

use std::collections::BTreeMap;

use kordon_ebpf::layout::{
    Generation, MAX_VID_TABLES, PAIR_PROBES, PAIR_SLOTS, Pair, Port, VID_HAS_PAIRS, pair_hash,
    pair_key,
};

use super::{Environment, GenerationError, limit};
use crate::{
    compile::directory::Directory,
    policy::model::{Policy, VlanMatch, Zone},
};

/// VID tables and pairs. Most specific first: interface and pair, interface and
/// outer VID, all of an interface, pair, outer VID.
pub(super) fn set_vlans(
    policy: &Policy,
    environment: &Environment,
    directory: &mut Directory,
    fixed: &mut Generation<0>,
) -> Result<(), GenerationError> {
    let mut named: Vec<&str> = policy
        .zones
        .iter()
        .flat_map(|zone| zone.interfaces.iter().map(String::as_str))
        .collect();
    named.sort_unstable();
    named.dedup();
    limit("interfaces named in zones", named.len(), MAX_VID_TABLES - 1)?;
    for (index, port) in environment.ports.iter().enumerate() {
        let table = named.binary_search(&port.logical.as_str());
        fixed.ports[index] = Port {
            vid_table: table.map_or(0, |index| index as u16 + 1),
            drop_unknown: u16::from(port.drop_unknown),
            slot_base: directory.port(&port.logical)?,
        };
    }
    for table in 0..=named.len() {
        let on_this =
            |zone: &&Zone| table > 0 && zone.interfaces.iter().any(|name| name == named[table - 1]);
        let anywhere = |zone: &&Zone| zone.interfaces.is_empty();
        let mut pairs: BTreeMap<(u16, u16), u16> = BTreeMap::new();
        let mut taken = vec![false; 4096];
        let ids = || {
            policy
                .zones
                .iter()
                .enumerate()
                .map(|(id, zone)| (id as u16 + 1, zone))
        };
        // From the least specific on; what comes later overwrites.
        for (word, zone) in ids().filter(|(_, zone)| anywhere(zone)) {
            for vlan in &zone.vlans {
                match *vlan {
                    VlanMatch::Untagged => fixed.vid_tables[table][0] = word,
                    VlanMatch::Outer(vid) => fixed.vid_tables[table][usize::from(vid)] = word,
                    VlanMatch::Pair(outer, inner) => {
                        pairs.insert((outer, inner), word);
                    }
                }
            }
        }
        for (word, _) in ids().filter(|(_, zone)| on_this(zone) && zone.vlans.is_empty()) {
            fixed.vid_tables[table].fill(word);
            pairs.clear();
        }
        for (word, zone) in ids().filter(|(_, zone)| on_this(zone)) {
            for vlan in &zone.vlans {
                let vid = match *vlan {
                    VlanMatch::Untagged => 0,
                    VlanMatch::Outer(vid) => usize::from(vid),
                    VlanMatch::Pair(..) => continue,
                };
                fixed.vid_tables[table][vid] = word;
                taken[vid] = true;
            }
        }
        pairs.retain(|(outer, _), _| !taken[usize::from(*outer)]);
        for (word, zone) in ids().filter(|(_, zone)| on_this(zone)) {
            for vlan in &zone.vlans {
                if let VlanMatch::Pair(outer, inner) = *vlan {
                    pairs.insert((outer, inner), word);
                }
            }
        }
        for ((outer, inner), word) in pairs {
            fixed.vid_tables[table][usize::from(outer)] |= VID_HAS_PAIRS;
            insert_pair(fixed, table as u16, outer, inner, word)?;
        }
    }
    Ok(())
}

fn insert_pair(
    fixed: &mut Generation<0>,
    table: u16,
    outer: u16,
    inner: u16,
    word: u16,
) -> Result<(), GenerationError> {
    let key = pair_key(table, outer, inner);
    let first = pair_hash(key) as usize;
    for probe in 0..PAIR_PROBES {
        let slot = &mut fixed.pairs[(first + probe) % PAIR_SLOTS];
        if slot.zone == 0 {
            *slot = Pair {
                key,
                zone: u32::from(word),
            };
            return Ok(());
        }
    }
    Err(GenerationError::Pairs(outer, inner))
}
