//! What steps 2 and 4 let pass, or nearly: right messages from right and forged sources,
//! of which lengths, headers and options are then spoiled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use super::{Pool, build, once_in, pick};

/// An IP packet.
pub(super) fn infrastructure(rng: &mut Rng, pool: &Pool) -> Vec<u8> {
    let (dst, mut proto, mut payload) = message(rng, pool);
    if once_in(rng, 6) {
        payload.truncate(rng.usize(..=payload.len()));
    } else if once_in(rng, 6) {
        payload.resize(payload.len() + rng.usize(1..30), 0x58);
    }
    if once_in(rng, 6) && !payload.is_empty() {
        let at = rng.usize(..payload.len().min(32));
        payload[at] = *pick(rng, &[0, 1, 2, 3, 4, 8, 13, 24, 0xff]);
    }
    match dst {
        IpAddr::V4(dst) => {
            let sources = ["0.0.0.0", "10.20.0.5", "169.254.1.1"];
            let src = match rng.u32(..4) {
                0 => pool.v4(rng),
                _ => v4(pick::<&str>(rng, &sources)),
            };
            let choices: [&[u8]; 6] = [
                &[],
                &[],
                &[148, 4, 0, 0],
                &[148, 4, 0, 1],
                &[131, 3, 4],
                &[7, 7, 4, 0, 0, 0, 0],
            ];
            let options = *pick(rng, &choices);
            let fragment = *pick(rng, &[0, 0, 0, 0, 0, 0x4000, 0x2000, 1]);
            if once_in(rng, 12) {
                (proto, payload) = (51, build::ah(proto, *pick(rng, &[0, 4]), &payload));
            }
            build::ipv4_with(src, dst, proto, options, fragment, &payload)
        }
        IpAddr::V6(dst) => {
            let sources = ["::", "fe80::5", "fd00:20::5"];
            let src = match rng.u32(..4) {
                0 => pool.v6(rng),
                _ => v6(pick::<&str>(rng, &sources)),
            };
            (proto, payload) = behind(rng, proto, payload);
            let hops = *pick(rng, &[255, 255, 255, 1, 64]);
            build::ipv6_with(src, dst, proto, hops, &payload)
        }
    }
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

/// Destination, protocol and what stands behind the headers.
fn message(rng: &mut Rng, pool: &Pool) -> (IpAddr, u8, Vec<u8>) {
    let ports = |rng: &mut Rng, from: u16, to: u16, body: &[u8]| {
        if once_in(rng, 8) {
            build::udp(to, from, body)
        } else {
            build::udp(from, to, body)
        }
    };
    let sources: Vec<u8> = (0..rng.usize(..4)).map(|_| rng.u8(..3)).collect();
    match rng.u32(..5) {
        0 => {
            let dsts = ["255.255.255.255", "255.255.255.255", "10.20.255.255"];
            let client = match rng.u32(..3) {
                0 => pool.v4(rng).octets(),
                1 => [10, 20, 0, 5],
                _ => [0; 4],
            };
            let body = build::dhcp(client);
            (
                v4(pick::<&str>(rng, &dsts)).into(),
                17,
                ports(rng, 68, 67, &body),
            )
        }
        1 => {
            let dsts = [
                "224.0.0.1",
                "224.0.0.22",
                "224.0.0.255",
                "224.0.1.0",
                "239.0.0.1",
            ];
            let mut body = match rng.u32(..3) {
                0 => build::records(0x22, 4, &sources),
                1 => vec![0; 8],
                _ => vec![0; 12],
            };
            if body[0] == 0 {
                body[0] = *pick(rng, &[0x11, 0x11, 0x12, 0x16, 0x17, 0x13, 0]);
            }
            (v4(pick::<&str>(rng, &dsts)).into(), 2, body)
        }
        2 => {
            let dsts = ["ff02::1:2", "ff02::1:2", "ff05::1:3"];
            let body = [
                *pick(rng, &[1, 1, 3, 4, 5, 6, 8, 9, 11, 36, 0, 2, 12, 13, 35, 37]),
                0,
                0,
                7,
            ];
            (
                v6(pick::<&str>(rng, &dsts)).into(),
                17,
                ports(rng, 546, 547, &body),
            )
        }
        kind => {
            let dsts = [
                "ff02::1",
                "ff02::16",
                "ff02::1:ff00:1",
                "ff05::2",
                "fe80::1",
                "fec0::1",
            ];
            let dst = match rng.u32(..6) {
                0 => pool.v6(rng),
                1 => v6("2001:db8:20::1"),
                _ => v6(pick::<&str>(rng, &dsts)),
            };
            let body = if kind == 3 {
                let kinds = [130, 131, 132, 143, 143, 144];
                match *pick(rng, &kinds) {
                    143 => build::records(143, 16, &sources),
                    130 if rng.bool() => build::mld_query(sources.len() as u8, sources.len()),
                    kind => build::mld(kind),
                }
            } else {
                let kinds = [133, 135, 136, 135, 136, 134, 137, 128];
                let kind = *pick(rng, &kinds);
                let mut body = vec![0; if kind == 133 { 8 } else { 24 }];
                body[0] = kind;
                for units in sources {
                    let at = body.len();
                    body.resize(at + usize::from(units) * 8, 0);
                    if units > 0 {
                        body[at..at + 2].copy_from_slice(&[1, units]);
                    }
                }
                body
            };
            (dst.into(), 58, body)
        }
    }
}

/// The same behind an extension header, mostly none.
fn behind(rng: &mut Rng, proto: u8, payload: Vec<u8>) -> (u8, Vec<u8>) {
    match rng.u32(..16) {
        0..=3 => {
            let options: [[u8; 6]; 8] = [
                [5, 2, 0, 0, 1, 0],
                [5, 2, 0, 0, 0, 0],
                [1, 0, 5, 2, 0, 0],
                [0, 0, 5, 2, 0, 0],
                [0, 5, 2, 0, 0, 0],
                [5, 2, 0, 1, 1, 0],
                [1, 4, 0, 0, 0, 0],
                [0x80, 4, 0, 0, 0, 0],
            ];
            let mut header = vec![proto, 0];
            header.extend(pick(rng, &options));
            header.extend(payload);
            (*pick(rng, &[0, 0, 0, 60]), header)
        }
        4 => (44, build::fragment(proto, 0, rng.bool(), &payload)),
        5 => (43, build::extension(proto, 0, rng.u8(..2), &payload)),
        6 => (51, build::ah(proto, 4, &payload)),
        7 => (60, build::extension(proto, rng.u8(..2), 0, &payload)),
        _ => (proto, payload),
    }
}
