//! Zones with equal, nearly equal and different rules in the kernel: blocks and unblocks of
//! one of them, and routes that come and go. After each change all is proven again, in every
//! zone, by the naive reading of the policy over what is in effect then.

use std::sync::atomic::Ordering;

use crate::{
    daemon::tests::{House, by},
    policy::Overlay,
    prove::{Budget, Claim, prove},
};

/// Cameras and doors are equal but for blocks; guests may reach one network.
const POLICY: &str = "[zone.cameras]\nvlans = [20]\nsources = [\"10.20.0.0/16\"]\n\
    [zone.doors]\nvlans = [30]\n\
    [zone.guests]\nvlans = [40]\nsources = [\"10.40.0.0/16\"]\ndefault = \"drop\"\n\
    [zone.office]\nvlans = [50]\n\
    [set.bad]\nasns = [64500, 64503]\n[set.good]\nasns = [64501]\n\
    [[rule]]\nname = \"bad\"\nfrom = [\"cameras\", \"doors\", \"office\"]\nto = \"bad\"\naction = \"drop\"\n\
    [[rule]]\nname = \"good\"\nfrom = \"guests\"\nto = \"good\"\naction = \"pass\"\n";

const ZONES: [&str; 4] = ["cameras", "doors", "guests", "office"];

fn overlay(blocks: &[(u32, &str)]) -> Overlay {
    let entries: String = (blocks.iter())
        .map(|(asn, zone)| {
            format!(
                "[[entry]]\naction = \"block\"\ntarget = \"AS{asn}\"\nzone = \"{zone}\"\n\
                 added = 2026-01-01T00:00:00Z\n"
            )
        })
        .collect();
    Overlay::parse("overlay.toml", &entries).unwrap()
}

#[test]
fn all_zones_are_judged_as_the_policy_says_after_each_change() {
    let mut house = House::of(POLICY);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut blocks: Vec<(u32, &str)> = Vec::new();
    let mut changed = Vec::new();
    let mut packets = 0;
    for step in 0..40 {
        if rng.u8(..3) == 0 {
            let block = (rng.u32(64500..64506), ZONES[rng.usize(..ZONES.len())]);
            match blocks.iter().position(|known| *known == block) {
                Some(known) => {
                    blocks.swap_remove(known);
                }
                None if blocks.len() > 3 => {
                    blocks.swap_remove(0);
                }
                None => blocks.push(block),
            }
            house.core.set_overlay(overlay(&blocks), &by()).unwrap();
        } else {
            let net = ["198.51.100", "203.0.113"][rng.usize(..2)];
            let length = rng.u8(25..=32);
            let address = rng.u8(..) & (u8::MAX << (32 - length).min(7));
            let prefix = format!("{net}.{address}/{length}");
            house.announce(&prefix, rng.u32(64500..64506));
            house.core.catch_up(true);
            changed.push(prefix.parse().unwrap());
        }
        let core = &mut house.core;
        let live = core.enforced.live.as_ref().unwrap();
        let directory = core.enforced.datapath.directory().clone();
        let claim = Claim {
            policy: &live.policy,
            db: core.updates.database.effective(),
            environment: &live.environment,
            directory: &directory,
            changed: &changed,
        };
        let proven = core.enforced.datapath.ask_live(|prober| {
            packets += prove(&claim, Budget::Rules, prober)?.packets;
            Ok(())
        });
        assert_eq!(proven, Ok(()), "step {step}, {blocks:?}");
        assert_eq!(house.reasons(), Vec::<String>::new());
    }
    let bgp = house.core.bgp.as_ref().unwrap();
    let in_place = bgp.in_place.load(Ordering::Relaxed);
    println!("{packets} packets, {in_place} changes in place");
    assert!(in_place > 5 && packets > 10_000, "{in_place} {packets}");
}
