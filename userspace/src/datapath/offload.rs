//! What the hardware does with the VLAN tags of frames that it receives, by the features of
//! `ethtool`. Read and written by the old ioctl, not by ethtool's netlink family: it can
//! do both, every kernel has it, and it answers at once.

use std::io;

use super::{
    Attached, DatapathError,
    interface::{self, Interface, Kind},
    system::ethtool,
};

/// Features that take a tag out of the frame: what the kernel calls them, what `ethtool -K`
/// does, which tags.
const FEATURES: [(&str, &str, &str); 2] = [
    ("rx-vlan-hw-parse", "rxvlan", "rx-vlan-offload"),
    (
        "rx-vlan-stag-hw-parse",
        "rx-vlan-stag-hw-parse",
        "rx-vlan-stag-hw-parse",
    ),
];

// Of `linux/ethtool.h`.
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const SS_FEATURES: u32 = 4;
/// Bytes of a name.
const NAME: usize = 32;

/// Sees to it that VLAN tags are in the frames that XDP is shown on a device: of a bond or
/// team, on its ports. Returns whether something had to be switched off for that.
///
/// # Errors
/// When the hardware takes tags out, and `manage` does not allow to switch that off or
/// the driver refuses.
pub fn keep_tags(interface: &Interface, manage: bool) -> Result<bool, DatapathError> {
    match interface.kind {
        // A veth has the features but no hardware: what hides a tag there is what its peer
        // does when it sends, and these change nothing.
        Kind::Veth => Ok(false),
        Kind::Bond | Kind::Team => {
            let mut switched = false;
            for port in interface::ports(interface.index)? {
                switched |= keep_tags_on(&port, manage)?;
            }
            Ok(switched)
        }
        _ => keep_tags_on(&interface.name, manage),
    }
}

fn keep_tags_on(device: &str, manage: bool) -> Result<bool, DatapathError> {
    let what = || format!("see the VLAN tags on `{device}`");
    let on = match active(device) {
        Ok(on) => on,
        // A device without ethtool has no hardware that could strip tags.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(false),
        Err(e) => return Err(DatapathError::new(what(), e)),
    };
    let Some((_, switch, feature)) = on.iter().find_map(|(index, _)| FEATURES.get(*index)) else {
        return Ok(false);
    };
    if !manage {
        return Err(DatapathError::new(
            what(),
            format!(
                "{feature} is on: the hardware takes the tags away before XDP; \
                 set `manage_offload = true` for this interface, or run \
                 `ethtool -K {device} {switch} off`"
            ),
        ));
    }
    let what = || format!("switch {feature} off on `{device}`");
    let bits: Vec<usize> = on.iter().map(|(_, bit)| *bit).collect();
    switch_off(device, &bits).map_err(|e| DatapathError::new(what(), e))?;
    let left = active(device).map_err(|e| DatapathError::new(what(), e))?;
    if !left.is_empty() {
        return Err(DatapathError::new(
            what(),
            "the driver keeps it on; use another interface, or a VLAN sub-interface",
        ));
    }
    tracing::warn!(device, "switched {feature} off");
    Ok(true)
}

/// Which of [`FEATURES`] are on, by index, and their bits.
fn active(device: &str) -> io::Result<Vec<(usize, usize)>> {
    let on = all_active(device)?;
    let index = |name: &str| FEATURES.iter().position(|(known, ..)| *known == name);
    let ours = on
        .iter()
        .filter_map(|(bit, name)| Some((index(name)?, *bit)));
    let mut ours: Vec<_> = ours.collect();
    ours.sort_unstable();
    Ok(ours)
}

/// What a device has on of all features, by the kernel's names.
///
/// # Errors
/// When the device is gone, or has none (`EOPNOTSUPP`).
pub fn features(device: &str) -> io::Result<Vec<String>> {
    let on = all_active(device)?.into_iter();
    Ok(on.map(|(_, name)| name).collect())
}

/// Bits and names of features that are on.
fn all_active(device: &str) -> io::Result<Vec<(usize, String)>> {
    let names = names(device)?;
    let blocks = names.len().div_ceil(32);
    let mut words = vec![0; 2 + blocks * 4];
    words[..2].copy_from_slice(&[GFEATURES, blocks as u32]);
    // SAFETY: there is room for as many blocks as the second word says.
    unsafe { ethtool(device, &mut words) }?;
    // Of a block: available, requested, active, never changed.
    let is_on = |bit: usize| {
        let active = words.get(2 + bit / 32 * 4 + 2);
        active.is_some_and(|active| active >> (bit % 32) & 1 != 0)
    };
    let all = names.into_iter().enumerate();
    Ok(all.filter(|(bit, _)| is_on(*bit)).collect())
}

fn switch_off(device: &str, bits: &[usize]) -> io::Result<()> {
    let blocks = names(device)?.len().div_ceil(32);
    let mut words = vec![0; 2 + blocks * 2];
    words[..2].copy_from_slice(&[SFEATURES, blocks as u32]);
    for bit in bits {
        // Of a block: valid, requested.
        words[2 + bit / 32 * 2] |= 1 << (bit % 32);
    }
    // SAFETY: as above; the kernel only reads.
    unsafe { ethtool(device, &mut words) }
}

/// Names of all features that this kernel has; the index is the bit.
fn names(device: &str) -> io::Result<Vec<String>> {
    // Command, reserved, 64 bits of which sets, one length.
    let mut words = [GSSET_INFO, 0, 1 << SS_FEATURES, 0, 0];
    if cfg!(target_endian = "big") {
        words.swap(2, 3);
    }
    // SAFETY: one set is asked for, so one length is answered.
    unsafe { ethtool(device, &mut words) }?;
    let count = words[4] as usize;
    // Command, set, length, and the names.
    let mut words = vec![0; 3 + count * NAME / 4];
    words[..3].copy_from_slice(&[GSTRINGS, SS_FEATURES, count as u32]);
    // SAFETY: a running kernel has as many features as it has said.
    unsafe { ethtool(device, &mut words) }?;
    let bytes: Vec<u8> = words[3..].iter().flat_map(|w| w.to_ne_bytes()).collect();
    Ok(bytes
        .chunks(NAME)
        .map(|name| {
            let length = name.iter().position(|b| *b == 0).unwrap_or(NAME);
            String::from_utf8_lossy(&name[..length]).into_owned()
        })
        .collect())
}

/// Whether a tag can be in a frame of such an interface: on its way through the stack to a
/// bridge, or to a bond, each frame has lost it.
pub(super) fn sees_tags(found: &Interface, how: Attached) -> Result<(), DatapathError> {
    let name = &found.name;
    let what = match (found.kind, how) {
        (Kind::Bridge, _) => "a bridge",
        (Kind::Bond, Attached::Generic) => "a bond in generic mode",
        (Kind::Team, Attached::Generic) => "a team in generic mode",
        _ => return Ok(()),
    };
    let ports: Vec<String> = interface::ports(found.index)?
        .iter()
        .map(|port| format!("`{port}`"))
        .collect();
    let ports = if ports.is_empty() {
        "of which it has none yet".to_owned()
    } else {
        ports.join(", ")
    };
    Err(DatapathError::new(
        format!("see the VLAN tags on `{name}`"),
        format!(
            "it is {what}, where no frame has its tag any more; police its ports instead, each \
             with an `[[interface]]` of its own: {ports}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::{super::interface::query, *};

    #[test]
    fn loopback_strips_nothing() {
        let lo = query("lo").unwrap().unwrap();
        assert!(!keep_tags(&lo, false).unwrap());
        assert!(names("lo").unwrap().iter().any(|n| n == FEATURES[0].0));
        assert!(keep_tags_on("kordon-none", false).is_err());
        assert!(keep_tags_on("a-name-that-is-too-long", false).is_err());
    }
}
