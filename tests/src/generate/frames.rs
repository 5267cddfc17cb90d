//! Frames that are nearly right.

use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use super::{Pool, build, infrastructure::infrastructure, once_in, pick};

const PORTS: [u16; 11] = [0, 1, 53, 67, 68, 80, 443, 546, 547, 1024, 65535];
const TUNNELS: [u8; 14] = [4, 41, 47, 55, 94, 97, 98, 108, 115, 137, 142, 143, 144, 145];
const PROTOCOLS: [u8; 16] = [
    0, 1, 2, 6, 17, 43, 44, 50, 51, 58, 59, 60, 132, 135, 139, 255,
];

/// A random frame.
pub fn frame(rng: &mut Rng, pool: &Pool) -> Vec<u8> {
    let tags = tags(rng);
    let mut frame = match rng.u32(..20) {
        0 => other(rng, &tags),
        1 => session(rng, pool, &tags),
        _ => build::ip_frame(&tags, &packet(rng, pool)),
    };
    if once_in(rng, 40) {
        // The ethertype of the other family.
        let at = 12 + tags.len() * 4;
        frame[at..at + 2].copy_from_slice(&pick(rng, &[0x0800u16, 0x86dd]).to_be_bytes());
    }
    if once_in(rng, 12) {
        frame.truncate(rng.usize(..=frame.len()));
    } else if once_in(rng, 8) {
        let padding = rng.usize(1..40);
        frame.resize(frame.len() + padding, 0x5a);
    } else if once_in(rng, 30) {
        // More than the kernel keeps in one piece: it may end anywhere in the second.
        frame.resize(rng.usize(3000..9000), 0x5a);
        lengthen(rng, &mut frame, 14 + 4 * tags.len());
    }
    if once_in(rng, 6) && frame.len() > 12 {
        for _ in 0..rng.usize(1..4) {
            // Behind the addresses of the Ethernet header, mostly near the front.
            let most = if rng.bool() {
                frame.len()
            } else {
                frame.len().min(80)
            };
            let at = rng.usize(12..most);
            frame[at] = *pick(
                rng,
                &[
                    0,
                    1,
                    4,
                    6,
                    0x45,
                    0x60,
                    0x7f,
                    0x80,
                    0xff,
                    0x81,
                    rng.clone().u8(..),
                ],
            );
            rng.u8(..);
        }
    }
    frame
}

/// Lets the IP packet at `at` end near the frame's end, near that of a page, or where it did.
fn lengthen(rng: &mut Rng, frame: &mut [u8], at: usize) {
    let end = match rng.u32(..3) {
        0 => frame.len(),
        // What the kernel has in its first piece of a page.
        1 => 3520 + rng.usize(..5),
        _ => return,
    };
    let (Some(place), header) = (match frame[at] >> 4 {
        4 => (Some(at + 2), 0),
        6 => (Some(at + 4), 40),
        _ => (None, 0),
    }) else {
        return;
    };
    if let Some(length) = end.checked_sub(at + header) {
        frame[place..place + 2].copy_from_slice(&(length as u16).to_be_bytes());
    }
}

fn tags(rng: &mut Rng) -> Vec<(u16, u16)> {
    let mut tags = Vec::new();
    let count = match rng.u32(..40) {
        0..=3 => 0,
        4..=23 => 1,
        24..=34 => 2,
        35 => 3,
        36 => 8,
        37 => 9,
        _ => rng.usize(..11),
    };
    for number in 0..count {
        let tpid = *pick(rng, &[0x8100, 0x8100, 0x88a8, 0x9100]);
        let vid = if number >= 2 || once_in(rng, 8) {
            *pick(rng, &[0, 0, 0, 0, 0, 0, 0, 5])
        } else {
            *pick(rng, &[20, 20, 21, 100, 5, 6, 30, 33, 34, 1, 4094, 4095])
        };
        // Priority bits and the drop eligible bit do not matter.
        tags.push((tpid, u16::from(rng.u8(..16)) << 12 | vid));
    }
    tags
}

/// Neither IPv4 nor IPv6.
fn other(rng: &mut Rng, tags: &[(u16, u16)]) -> Vec<u8> {
    let kinds = [
        0x0806, 0x88cc, 0x888e, 0x8809, 0x8847, 0x88e5, 0x8863, 0x8864, 0x9200, 0x8035, 0, 1, 46,
        1500, 1501, 1535, 1536, 0xffff, 0x0801,
    ];
    let mut payload = vec![0x42; rng.usize(..70)];
    let kind = *pick(rng, &kinds);
    if !once_in(rng, 4) {
        let header: &[u8] = match kind {
            0x0806 => &[0, 1, 8, 0, 6, 4, 0, *pick(rng, &[0, 1, 2, 3])],
            0x8863 => &[
                0x11,
                *pick(rng, &[9, 0x19, 0xa7, 7, 0]),
                0,
                0,
                0,
                rng.u8(..70),
            ],
            _ => &[],
        };
        payload.splice(..header.len().min(payload.len()), header.iter().copied());
    }
    let mut frame = build::frame(tags, kind, &payload);
    if rng.bool() {
        frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, *pick(rng, &[0, 3, 15, 16, 255])]);
    }
    frame
}

/// PPPoE.
fn session(rng: &mut Rng, pool: &Pool, tags: &[(u16, u16)]) -> Vec<u8> {
    let protocol = *pick(
        rng,
        &[
            0x21, 0x21, 0x57, 0x57, 0xc021, 0xc023, 0xc223, 0x8021, 0x8057, 0xc025, 0x29, 0xc121,
        ],
    );
    let mut packet = packet(rng, pool);
    if once_in(rng, 10) {
        packet.truncate(rng.usize(..4));
    }
    let mut payload = build::pppoe(protocol, &packet);
    if once_in(rng, 4) {
        let length = u16::from_be_bytes([payload[4], payload[5]]);
        let wrong = [
            length.wrapping_add(1),
            length.wrapping_sub(1),
            0,
            1,
            2,
            22,
            40,
            0xffff,
        ];
        payload[4..6].copy_from_slice(&pick(rng, &wrong).to_be_bytes());
    }
    build::frame(tags, 0x8864, &payload)
}

/// An IP packet of either family.
fn packet(rng: &mut Rng, pool: &Pool) -> Vec<u8> {
    if once_in(rng, 6) {
        return infrastructure(rng, pool);
    }
    any_packet(rng, pool, 0)
}

fn any_packet(rng: &mut Rng, pool: &Pool, depth: u32) -> Vec<u8> {
    if rng.bool() {
        let (src, dst) = (source_v4(rng, pool), pool.v4(rng));
        v4(rng, pool, src, dst, depth)
    } else {
        let (src, dst) = (source_v6(rng, pool), pool.v6(rng));
        v6(rng, pool, src, dst, depth)
    }
}

fn source_v4(rng: &mut Rng, pool: &Pool) -> Ipv4Addr {
    if rng.bool() {
        Ipv4Addr::new(10, 20, 0, 5)
    } else {
        pool.v4(rng)
    }
}

fn source_v6(rng: &mut Rng, pool: &Pool) -> Ipv6Addr {
    if rng.bool() {
        "fd00:20::5".parse().expect("an address")
    } else {
        pool.v6(rng)
    }
}

/// What stands behind the IP headers: protocol and bytes.
fn transport(rng: &mut Rng, pool: &Pool, depth: u32) -> (u8, Vec<u8>) {
    let (from, to) = (*pick(rng, &PORTS), *pick(rng, &PORTS));
    match rng.u32(..16) {
        0..=4 => (6, build::tcp(from, to)),
        5..=8 => (17, build::udp(from, to, b"data")),
        9 => (*pick(rng, &[1, 58]), vec![8, 0, 0, 0, 1, 2, 3, 4]),
        10 => (*pick(rng, &PROTOCOLS), vec![from as u8; rng.usize(..24)]),
        11 => {
            // Ports that are not quite there.
            let mut bytes = build::udp(from, to, b"");
            bytes.truncate(rng.usize(..5));
            (*pick(rng, &[6, 17]), bytes)
        }
        12 => (*pick(rng, &TUNNELS), vec![0x45; rng.usize(..60)]),
        _ if depth > 1 => (6, build::tcp(from, to)),
        _ => {
            let inner = any_packet(rng, pool, depth + 1);
            let v6 = inner[0] >> 4 == 6;
            match rng.u32(..8) {
                0 => (94, inner),
                1 => (*pick(rng, &TUNNELS), inner),
                2..=4 => {
                    let flags = *pick(
                        rng,
                        &[
                            0, 0, 0, 0x8000, 0x2000, 0x1000, 0xb000, 0x4000, 1, 0x0800, 0x0080,
                            0x0100,
                        ],
                    );
                    let kind = match rng.u32(..8) {
                        0 => 0x6558,
                        1 => 0x0800,
                        2 => 0x86dd,
                        _ if v6 => 0x86dd,
                        _ => 0x0800,
                    };
                    let mut bytes = build::gre(flags, kind, &inner);
                    if once_in(rng, 10) {
                        bytes.truncate(rng.usize(..18));
                    }
                    (47, bytes)
                }
                _ if v6 => (41, inner),
                _ => (4, inner),
            }
        }
    }
}

fn v4(rng: &mut Rng, pool: &Pool, src: Ipv4Addr, dst: Ipv4Addr, depth: u32) -> Vec<u8> {
    let (mut proto, mut payload) = transport(rng, pool, depth);
    if once_in(rng, 10) {
        for _ in 0..*pick(rng, &[1, 1, 2, 8, 9]) {
            payload = build::ah(proto, *pick(rng, &[0, 1, 4, 5]), &payload);
            proto = 51;
        }
    }
    let mut options = Vec::new();
    if once_in(rng, 5) {
        for _ in 0..rng.usize(1..5) {
            let option: &[u8] = match rng.u32(..10) {
                0 => &[0],
                1 => &[1],
                2 => &[148, 4, 0, 0],
                3 => &[7, 7, 4, 0, 0, 0, 0],
                4 => &[131, 7, 4, 1, 2, 3, 4],
                5 => &[137, 3, 4],
                6 => &[131, 1],
                7 => &[68, 0],
                8 => &[30, 40],
                _ => &[131],
            };
            options.extend(option);
        }
        options.truncate(40);
    }
    let fragment = match rng.u32(..12) {
        0 => 0x2000,
        1 => 0x2001,
        2 => 0x0001,
        3 => 0x4000,
        4 => 0x8000,
        _ => 0,
    };
    let mut packet = build::ipv4_with(src, dst, proto, &options, fragment, &payload);
    if once_in(rng, 12) {
        let total = u16::from_be_bytes([packet[2], packet[3]]);
        let wrong = [
            total.wrapping_add(1),
            total.wrapping_sub(1),
            0,
            19,
            20,
            22,
            24,
            28,
            0xffff,
        ];
        packet[2..4].copy_from_slice(&pick(rng, &wrong).to_be_bytes());
    }
    if once_in(rng, 20) {
        packet[0] = *pick(rng, &[0x40, 0x44, 0x46, 0x4f, 0x55, 0x65, 0x05]);
    }
    packet
}

fn v6(rng: &mut Rng, pool: &Pool, src: Ipv6Addr, dst: Ipv6Addr, depth: u32) -> Vec<u8> {
    let (mut next, mut payload) = transport(rng, pool, depth);
    let headers = match rng.u32(..12) {
        0..=5 => 0,
        6..=8 => rng.usize(1..4),
        9 => 8,
        10 => 9,
        _ => rng.usize(..11),
    };
    for _ in 0..headers {
        (next, payload) = match rng.u32(..10) {
            0 => (51, build::ah(next, *pick(rng, &[0, 1, 4, 5]), &payload)),
            1 => (
                43,
                build::extension(next, *pick(rng, &[0, 2]), *pick(rng, &[0, 0, 1]), &payload),
            ),
            2 | 3 => {
                let offset = *pick(rng, &[0, 0, 0, 1, 185]);
                if once_in(rng, 3) {
                    // The rest of the chain is in another fragment.
                    payload.truncate(*pick(rng, &[0, 1, 2, 4, 7, 8, 12, 16]));
                }
                (44, build::fragment(next, offset, rng.bool(), &payload))
            }
            4 => (
                *pick(rng, &[135, 139, 140]),
                build::extension(next, 0, 0, &payload),
            ),
            5 => (
                60,
                build::extension(next, *pick(rng, &[0, 1, 3]), 0, &payload),
            ),
            6 => (60, build::extension(next, 0, 1, &payload)),
            _ => (0, build::extension(next, 0, 0, &payload)),
        };
    }
    let hops = *pick(rng, &[64, 255, 1]);
    if once_in(rng, 10) {
        // Cut inside the chain, with a length that fits.
        payload.truncate(rng.usize(..=payload.len()));
    }
    let mut packet = build::ipv6_with(src, dst, next, hops, &payload);
    if once_in(rng, 12) {
        let length = u16::from_be_bytes([packet[4], packet[5]]);
        let wrong = [
            length.wrapping_add(1),
            length.wrapping_sub(1),
            0,
            3,
            8,
            0xffff,
        ];
        packet[4..6].copy_from_slice(&pick(rng, &wrong).to_be_bytes());
    }
    if once_in(rng, 30) {
        packet[0] = *pick(rng, &[0x40, 0x45, 0x70, 0]);
    }
    packet
}
