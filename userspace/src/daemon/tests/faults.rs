//! Changes of the daemon that fail at each of their steps: all is old or all is new, in the
//! kernel and on disk, `status` says so, and the next change works.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::atomic::Ordering,
};

use kordon_ebpf::layout::Action;
use serde_json::Value;

use super::{House, POLICY, by, import};
use crate::{
    daemon::{core::Core, refusal::Refusal, trouble::Cause},
    datapath::{
        faults::{Step, with, with_panics},
        kernel::Datapath,
        publish::tests::{BAD, GOOD},
    },
    policy::{Bundle, Overlay},
};

fn apply(core: &mut Core, text: &str) -> Result<Value, Refusal> {
    core.apply(Bundle::from_text("policy.toml", text), None, &by())
}

fn block(core: &mut Core) -> Result<Value, Refusal> {
    let entry = "[[entry]]\naction = \"block\"\ntarget = \"AS64501\"\nzone = \"cameras\"\n\
                 added = 2026-01-01T00:00:00Z\n";
    core.set_overlay(Overlay::parse("overlay.toml", entry).unwrap(), &by())
}

type Change = fn(&mut Core) -> Result<Value, Refusal>;

#[test]
fn a_change_is_whole_in_the_kernel_and_on_disk() {
    let changes: [(&str, Change, &[Step]); 3] = [
        (
            "apply",
            |core| apply(core, &POLICY.replace("[64500]", "[64500, 64501]")),
            &[Step::Directory, Step::Pin, Step::Swap, Step::Keep],
        ),
        (
            "block",
            block,
            &[Step::Directory, Step::Pin, Step::Swap, Step::Keep],
        ),
        (
            "import",
            import,
            &[Step::Table, Step::Pin, Step::Place, Step::Swap],
        ),
    ];
    for (name, change, steps) in changes {
        let mut house = House::new();
        let (kept, live) = (house.kept(), house.core.enforced.datapath.live());
        assert_eq!(
            [BAD, GOOD].map(|to| house.judges(to)),
            [Action::Drop, Action::Pass]
        );
        for step in steps {
            let (refused, met) = with(&[*step], || change(&mut house.core));
            assert!(met && refused.is_err(), "{name}, {step:?}: {refused:?}");
            assert_eq!(
                house.core.enforced.datapath.live(),
                live,
                "{name}, {step:?}"
            );
            assert!(
                house.kept() == kept,
                "{name}, {step:?}: the disk has changed"
            );
            assert_eq!(house.judges(GOOD), Action::Pass, "{name}, {step:?}");
            assert_eq!(house.reasons(), Vec::<String>::new(), "{name}, {step:?}");
        }
        // What cannot be taken back is said, until it is true again.
        let (refused, _) = with(&[Step::Swap, Step::Restore], || change(&mut house.core));
        assert!(refused.is_err(), "{name}");
        assert_eq!(house.core.enforced.datapath.live(), live, "{name}");
        assert_eq!(house.judges(GOOD), Action::Pass, "{name}");
        let reasons = house.reasons();
        assert!(
            reasons[0].contains("a start would make it"),
            "{name}: {reasons:?}"
        );
        change(&mut house.core).unwrap();
        assert_eq!(house.judges(GOOD), Action::Drop, "{name}");
        assert_eq!(house.reasons(), Vec::<String>::new(), "{name}");
        assert!(house.kept() != kept, "{name}");
        // A start finds what is live.
        let now = house.core.enforced.datapath.live();
        let house = house.restart(|_| ());
        assert_eq!(house.core.enforced.datapath.live(), now, "{name}");
    }
}

#[test]
fn live_bgp_is_never_half_true() {
    let mut house = House::new();
    house.announce("203.0.113.10/32", 64500);
    house.core.catch_up(true);
    assert_eq!(house.judges("203.0.113.10"), Action::Drop);
    let in_place = |house: &House| {
        let bgp = house.core.bgp.as_ref().unwrap();
        bgp.in_place.load(Ordering::Relaxed)
    };
    assert_eq!(in_place(&house), 1);
    // By another way, then.
    for (n, step) in [(11, Step::Amend), (12, Step::Ask), (13, Step::Classes)] {
        let address = format!("203.0.113.{n}");
        house.announce(&format!("{address}/32"), 64500);
        if step == Step::Classes {
            house.announce("203.0.113.128/25", 64777);
        }
        let (_, met) = with(&[step], || house.core.catch_up(true));
        assert!(met, "{step:?}");
        assert_eq!(house.judges(&address), Action::Drop, "{step:?}");
        assert_eq!(house.reasons(), Vec::<String>::new(), "{step:?}");
        assert_eq!(in_place(&house), 1, "{step:?}");
    }
    // By none: it is old, and it is said.
    house.announce("203.0.113.14/32", 64500);
    let ((), met) = with(&[Step::Amend, Step::Swap], || house.core.catch_up(true));
    assert!(met);
    assert_eq!(house.judges("203.0.113.14"), Action::Pass);
    assert_eq!(house.status()["bgp"]["behind"], true);
    house.core.catch_up(true);
    assert_eq!(house.judges("203.0.113.14"), Action::Drop);
    assert_eq!(house.status()["bgp"]["behind"], false);
    // It is in the table, and nobody says that it is right.
    house.announce("203.0.113.15/32", 64500);
    let ((), met) = with(&[Step::Ask, Step::Swap], || house.core.catch_up(true));
    assert!(met);
    let reasons = house.reasons();
    assert!(reasons[0].contains("does not judge"), "{reasons:?}");
    assert!(!house.core.enforced.datapath.live().unwrap().planes);
    house.core.tick();
    house.core.catch_up(true);
    assert_eq!(house.judges("203.0.113.15"), Action::Drop);
    assert_eq!(house.reasons(), Vec::<String>::new());
    assert!(house.core.enforced.datapath.live().unwrap().planes);
    // And in place again.
    house.announce("203.0.113.16/32", 64500);
    house.core.catch_up(true);
    assert_eq!(house.judges("203.0.113.16"), Action::Drop);
    assert_eq!(in_place(&house), 2);
}

/// A panic is as good as an error: what was live is live again, in the kernel and on disk, and
/// `status` says until then that it may not be.
#[test]
fn a_panic_at_any_step_leaves_all_as_it_was() {
    let changes: [(&str, Change, &[Step]); 3] = [
        (
            "apply",
            |core| apply(core, &POLICY.replace("[64500]", "[64500, 64501]")),
            &[
                Step::Directory,
                Step::Pin,
                Step::Swap,
                Step::Wait,
                Step::Keep,
            ],
        ),
        (
            "block",
            block,
            &[
                Step::Directory,
                Step::Pin,
                Step::Swap,
                Step::Wait,
                Step::Keep,
            ],
        ),
        (
            "import",
            import,
            &[
                Step::Table,
                Step::Pin,
                Step::Place,
                Step::Swap,
                Step::Wait,
                Step::Free,
            ],
        ),
    ];
    for (name, change, steps) in changes {
        let mut house = House::new();
        let (kept, hash) = (house.kept(), house.core.enforced.hash());
        for step in steps {
            let (done, met) = with_panics(&[*step], || {
                catch_unwind(AssertUnwindSafe(|| change(&mut house.core)))
            });
            assert!(met && done.is_err(), "{name}, {step:?}");
            // As the thread that owns the core says.
            house
                .core
                .troubles
                .set(Cause::Panic, "it failed inside the daemon");
            assert!(!house.reasons().is_empty(), "{name}, {step:?}");
            assert_eq!(
                house.changed(&kept),
                Vec::<PathBuf>::new(),
                "{name}, {step:?}"
            );
            for _ in 0..3 {
                house.core.retry_at = None;
                house.core.tick();
            }
            assert_eq!(house.reasons(), Vec::<String>::new(), "{name}, {step:?}");
            assert_eq!(house.judges(GOOD), Action::Pass, "{name}, {step:?}");
            assert_eq!(house.judges(BAD), Action::Drop, "{name}, {step:?}");
            assert_eq!(house.core.enforced.hash(), hash, "{name}, {step:?}");
            assert_eq!(
                house.changed(&kept),
                Vec::<PathBuf>::new(),
                "{name}, {step:?}"
            );
        }
        let now = house.core.enforced.datapath.live();
        let mut house = house.restart(|_| ());
        assert_eq!(house.core.enforced.datapath.live(), now, "{name}");
        change(&mut house.core).unwrap();
        assert_eq!(house.judges(GOOD), Action::Drop, "{name}");
        assert_eq!(house.reasons(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn routes_that_a_panic_loses_come_with_the_next() {
    for (n, step) in [(11, Step::Amend), (12, Step::Ask), (13, Step::Classes)] {
        let mut house = House::new();
        let address = format!("203.0.113.{n}");
        house.announce(&format!("{address}/32"), 64500);
        if step == Step::Classes {
            house.announce("203.0.113.128/25", 64777);
        }
        let (done, met) = with_panics(&[step], || {
            catch_unwind(AssertUnwindSafe(|| house.core.catch_up(true)))
        });
        assert!(met && done.is_err(), "{step:?}");
        house
            .core
            .troubles
            .set(Cause::Panic, "it failed inside the daemon");
        assert_eq!(house.status()["bgp"]["behind"], true, "{step:?}");
        house.core.catch_up(true);
        house.core.tick();
        assert_eq!(house.judges(&address), Action::Drop, "{step:?}");
        assert_eq!(house.status()["bgp"]["behind"], false, "{step:?}");
        assert_eq!(house.reasons(), Vec::<String>::new(), "{step:?}");
    }
}

/// What is pinned goes on, nothing is claimed that is not so, and the next attempt, or the next
/// start after a panic, makes it good.
#[test]
fn a_start_that_fails_at_a_step_is_made_good() {
    let anew = [
        Step::Maps,
        Step::Table,
        Step::Directory,
        Step::Pin,
        Step::Place,
        Step::Swap,
        Step::Slow,
        Step::Attach,
    ];
    let cases = [(true, &[Step::Slow, Step::Adopt][..]), (false, &anew)];
    for (adopts, steps) in cases {
        for (step, panics) in steps.iter().flat_map(|step| [(step, false), (step, true)]) {
            let what = format!("{step:?}, adopting: {adopts}, by a panic: {panics}");
            let empty = House::new().end();
            if !adopts {
                Datapath::detach(empty.cable.bpffs()).unwrap();
            }
            let start = AssertUnwindSafe(|| empty.start());
            let (started, met) = match panics {
                true => with_panics(&[*step], || catch_unwind(start)),
                false => with(&[*step], || Ok(start())),
            };
            assert!(met, "{what}");
            assert_eq!(started.is_err(), panics, "{what}");
            let core = match started {
                Ok(core) => core.unwrap_or_else(|e| panic!("{what}: {e:#}")),
                Err(_) => empty.start().unwrap(),
            };
            let mut house = empty.inhabited(core);
            assert_eq!(house.reasons().is_empty(), panics, "{what}");
            if adopts {
                assert_eq!(house.judges(BAD), Action::Drop, "{what}");
            }
            for _ in 0..3 {
                house.core.retry_at = None;
                house.core.tick();
            }
            assert_eq!(house.reasons(), Vec::<String>::new(), "{what}");
            assert_eq!(
                [BAD, GOOD].map(|to| house.judges(to)),
                [Action::Drop, Action::Pass],
                "{what}"
            );
        }
    }
}
