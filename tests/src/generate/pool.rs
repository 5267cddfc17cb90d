//! Addresses worth trying: what policy and database name, one to either side,
//! and what stands for them in IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use kordon::policy::model::{Policy, Sources};

use super::{once_in, pick};
use crate::reference::{Router, Table};

/// Addresses by family.
#[derive(Clone, Debug)]
pub struct Pool {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    nat64: Vec<ipnet::Ipv6Net>,
}

/// Addresses that mean something to step 3, 4, 6 or a built-in set.
const ALWAYS: &str = "0.0.0.0 0.255.255.255 1.0.0.0 10.0.0.0 10.255.255.255 11.0.0.0 100.63.255.255
    100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 128.0.0.0 169.254.0.1 169.254.255.255
    172.15.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 192.0.2.1 224.0.0.1
    224.0.0.22 224.0.1.1 239.255.255.255 240.0.0.0 255.255.255.254 255.255.255.255 10.20.0.5
    :: ::1 ::2 ::ffff:10.0.0.1 ::ffff:127.0.0.1 64:ff9b::7f00:1 64:ff9b::1:0:0 fe80::1 fe80::
    febf:ffff:: fec0:: fc00:: fdff:ffff:: fe00:: ff02::1 ff02::1:2 ff02::16 ff05::1 ff01::1
    ff0e::1 ::0.0.0.2 ::ffff:0:0:0 64:ff9b:1:: 64:ff9b:2:: fe80::5efe:a14:5 2002:: 2002:7f00:1:: 2001:: 2001::1 2001:1:: 2001:db8::1 2003::1 fd00:20::5
    ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

impl Pool {
    /// From everything that names addresses.
    #[must_use]
    pub fn new(policy: &Policy, table: &Table, router: &Router) -> Self {
        let mut pool = Self {
            v4: Vec::new(),
            v6: Vec::new(),
            nat64: policy.nat64.clone(),
        };
        pool.nat64.push("64:ff9b::/96".parse().expect("a prefix"));
        for text in ALWAYS.split_whitespace() {
            pool.add(text.parse().expect("an address"));
        }
        for address in table
            .boundaries()
            .into_iter()
            .chain(router.addresses.clone())
        {
            pool.add_with_neighbours(address);
        }
        let mut nets = router.connected.clone();
        for set in &policy.sets {
            nets.extend(&set.prefixes);
        }
        for zone in &policy.zones {
            if let Sources::Prefixes(prefixes) = &zone.sources {
                nets.extend(prefixes);
            }
        }
        for net in nets {
            pool.add_with_neighbours(net.network());
            pool.add_with_neighbours(net.broadcast());
        }
        for net in &policy.nat64 {
            pool.add_with_neighbours(net.network().into());
            pool.add_with_neighbours(net.broadcast().into());
        }
        pool
    }

    fn add(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4.push(address),
            IpAddr::V6(address) => self.v6.push(address),
        }
    }

    fn add_with_neighbours(&mut self, address: IpAddr) {
        self.add(address);
        match address {
            IpAddr::V4(address) => {
                let value = u32::from(address);
                self.v4.push(value.wrapping_add(1).into());
                self.v4.push(value.wrapping_sub(1).into());
            }
            IpAddr::V6(address) => {
                let value = u128::from(address);
                self.v6.push(value.wrapping_add(1).into());
                self.v6.push(value.wrapping_sub(1).into());
            }
        }
    }

    /// An IPv4 address.
    pub fn v4(&self, rng: &mut Rng) -> Ipv4Addr {
        if once_in(rng, 8) {
            Ipv4Addr::from(rng.u32(..))
        } else {
            *pick(rng, &self.v4)
        }
    }

    /// An IPv6 address; every third stands for IPv4 addresses.
    pub fn v6(&self, rng: &mut Rng) -> Ipv6Addr {
        let v4 = self.v4(rng).octets();
        let [a, b, c, d] = v4;
        match rng.u32(..15) {
            0 => Ipv4Addr::from(v4).to_ipv6_mapped(),
            // ISATAP, in any network.
            12 => {
                let mut octets = pick(rng, &self.v6).octets();
                let flags = *pick(rng, &[0, 0, 2, 2, 1, 3]);
                octets[8..].copy_from_slice(&[flags, 0, 0x5e, 0xfe, a, b, c, d]);
                octets.into()
            }
            // Compatible and translated.
            13 => {
                let mut octets = [0; 16];
                if rng.bool() {
                    octets[8..10].fill(0xff);
                }
                octets[12..].copy_from_slice(&v4);
                octets.into()
            }
            // Local NAT64 of some length.
            14 => {
                let mut octets = [0; 16];
                octets[..6].copy_from_slice(&[0, 0x64, 0xff, 0x9b, 0, 1]);
                let places: [usize; 4] = *pick(
                    rng,
                    &[
                        [6, 7, 9, 10],
                        [7, 9, 10, 11],
                        [9, 10, 11, 12],
                        [12, 13, 14, 15],
                    ],
                );
                for (place, byte) in places.into_iter().zip(v4) {
                    octets[place] = byte;
                }
                octets.into()
            }
            1 => {
                let mut octets: [u8; 16] = std::array::from_fn(|_| rng.u8(..));
                octets[..6].copy_from_slice(&[0x20, 2, a, b, c, d]);
                octets.into()
            }
            2 => {
                let client = self.v4(rng).octets();
                let mut octets = [0; 16];
                octets[..2].copy_from_slice(&[0x20, 1]);
                octets[4..8].copy_from_slice(&v4);
                for (to, from) in octets[12..].iter_mut().zip(client) {
                    *to = !from;
                }
                octets.into()
            }
            3 | 4 => {
                let net = *pick(rng, &self.nat64);
                let mut octets = net.network().octets();
                let mut at = usize::from(net.prefix_len() / 8);
                for byte in v4 {
                    if at == 8 {
                        octets[8] = if once_in(rng, 4) { rng.u8(..) } else { 0 };
                        at += 1;
                    }
                    octets[at] = byte;
                    at += 1;
                }
                octets.into()
            }
            5 => Ipv6Addr::from(rng.u128(..)),
            _ => *pick(rng, &self.v6),
        }
    }
}

/// Random facts of a router.
pub fn router(rng: &mut Rng) -> Router {
    let interface = match rng.u32(..3) {
        0 => None,
        1 => Some("trunk".to_owned()),
        _ => Some("lan".to_owned()),
    };
    let mut router = Router {
        interface,
        ..Router::default()
    };
    if rng.bool() {
        for text in ["10.20.0.1", "198.18.0.1", "2001:db8:20::1", "fe80::1"] {
            if rng.bool() {
                router.addresses.push(text.parse().expect("an address"));
            }
        }
    }
    if rng.bool() {
        for text in ["10.20.0.0/16", "2001:db8:20::/64", "198.18.0.0/24"] {
            if rng.bool() {
                router.connected.push(text.parse().expect("a prefix"));
            }
        }
    }
    router
}
