//! The frames that all kernels judge: the hostile ones that are made by hand, random ones
//! that are nearly right, and plain ones to addresses of the whole Internet. Always the
//! same, so that a difference is the kernel's.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, anyhow};
use fastrand::Rng;
use kordon::policy::{self, Bundle, Context, Overlay};

use crate::{
    generate::{self, Pool, build},
    hostile,
    reference::Table,
};

/// How many.
pub(super) const FRAMES: usize = 2_000;
const SEED: u64 = 12;

/// The frames, as a classic capture file.
pub(super) fn capture() -> Result<Vec<u8>> {
    let (policy, found) = policy::parse(
        &Bundle::from_text("hostile.toml", hostile::POLICY),
        &Overlay::default(),
        &Context::now(None),
    );
    let policy = policy.ok_or_else(|| anyhow!("{found:?}"))?;
    let table = Table::read(&[hostile::DATABASE.to_owned()], &[]);
    let pool = Pool::new(&policy, &table, &hostile::router());
    let mut rng = Rng::with_seed(SEED);
    let cases = hostile::cases();
    let mut file = Vec::new();
    // Microseconds, version 2.4, no zone, no accuracy, nothing cut, Ethernet.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0x0004_0000, 1] {
        file.extend(word.to_le_bytes());
    }
    for number in 0..FRAMES {
        let frame = match number % 4 {
            0 | 1 => cases[number * cases.len() / FRAMES].frame.clone(),
            2 => generate::frame(&mut rng, &pool),
            _ => plain(&mut rng),
        };
        let length = u32::try_from(frame.len())?;
        for word in [0, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    Ok(file)
}

/// From a camera to anywhere.
fn plain(rng: &mut Rng) -> Vec<u8> {
    let datagram = build::udp(40_000, 9, b"data");
    let packet = if rng.bool() {
        let to = Ipv4Addr::from(rng.u32(0x0100_0000..0xe000_0000));
        build::ipv4(Ipv4Addr::new(10, 20, 0, 5), to, 17, &datagram)
    } else {
        let from = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 5);
        // Most of what is announced is in few of these blocks.
        let first = [0x2001, 0x2400, 0x2600, 0x2804, 0x2a00, 0x2a02, 0x2c0f];
        let high = (rng.choice(first).unwrap_or(0x2001) << 48) | u64::from(rng.u32(..)) << 16;
        let to = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(rng.u64(..)));
        build::ipv6(from, to, 17, &datagram)
    };
    let tags = [(0x88a8, 100), (0x8100, 5)];
    let tags = if rng.u8(..8) == 0 {
        &tags[..]
    } else {
        &[(0x8100, 20)]
    };
    build::ip_frame(tags, &packet)
}
