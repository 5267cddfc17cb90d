//! What an address is by itself, whoever announces it: private, multicast, no destination at all,
//! and which addresses it stands for. For example, `64:ff9b::c000:201` stands for 192.0.2.1 alone,
//! and `2002:c000:201::1` (6to4) for itself and for 192.0.2.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// Addresses that one stands for, itself included, at most.
pub(super) const MOST: usize = 5;

/// NAT64 and v4-mapped addresses stand for an IPv4 address alone, others with IPv4
/// addresses in them for themselves, too.
pub fn stands_for(address: IpAddr, prefixes: &[Ipv6Net]) -> [Option<IpAddr>; MOST] {
    let alone = |address| [Some(address), None, None, None, None];
    let IpAddr::V6(v6) = address else {
        return alone(address);
    };
    if let Some(v4) = v6.to_ipv4_mapped().or_else(|| nat64(v6, prefixes)) {
        return alone(v4.into());
    }
    let o = v6.octets();
    let v4 = |at: usize| Ipv4Addr::new(o[at], o[at + 1], o[at + 2], o[at + 3]);
    let more: [Option<Ipv4Addr>; MOST - 1] = match v6.segments() {
        // RFC 8215: nobody said how long the prefix is.
        [0x64, 0xff9b, 1, ..] => [48, 56, 64, 96].map(|length| Some(behind(o, length))),
        [0x2001, 0, ..] => {
            let client = Ipv4Addr::from_bits(!v4(12).to_bits());
            [Some(v4(4)), Some(client), None, None]
        }
        // ISATAP stands in the interface identifier of any network.
        [0x2002, _, _, _, 0 | 0x200, 0x5efe, ..] => [Some(v4(2)), Some(v4(12)), None, None],
        [0x2002, ..] => [Some(v4(2)), None, None, None],
        [_, _, _, _, 0 | 0x200, 0x5efe, ..]
        | [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..] => [Some(v4(12)), None, None, None],
        _ => [None; MOST - 1],
    };
    let mut all = alone(address);
    for (place, v4) in all[1..].iter_mut().zip(more) {
        *place = v4.map(IpAddr::V4);
    }
    all
}

/// The address in one of a NAT64 prefix that is built in or named.
fn nat64(address: Ipv6Addr, prefixes: &[Ipv6Net]) -> Option<Ipv4Addr> {
    let length = if address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        96
    } else {
        prefixes
            .iter()
            .find(|net| net.contains(&address))?
            .prefix_len()
    };
    Some(behind(address.octets(), length))
}

/// The IPv4 address behind a prefix of NAT64 (RFC 6052, 2.2): byte 8 belongs to none.
fn behind(bytes: [u8; 16], length: u8) -> Ipv4Addr {
    let mut places = (usize::from(length / 8)..16).filter(|at| *at != 8);
    let mut next = || places.next().map_or(0, |at| bytes[at]);
    Ipv4Addr::new(next(), next(), next(), next())
}

fn within(address: IpAddr, prefixes: &[&str]) -> bool {
    prefixes
        .iter()
        .filter_map(|prefix| prefix.parse::<IpNet>().ok())
        .any(|prefix| prefix.contains(&address))
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// RFC 1918, 6598, 3927, 4193, 4291.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_private()
                || v4.is_link_local()
                || v4.octets()[0] == 100 && within(address, &["100.64.0.0/10"])
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

pub(crate) fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// What is no destination at all.
pub(crate) fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_written_right() {
        assert!(is_private("100.64.1.1".parse().unwrap()));
        assert!(!is_private("100.128.0.0".parse().unwrap()));
    }
}
