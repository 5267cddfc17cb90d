//! The matrix of issue and answer: which emulated cards a guest gets so that each kernel can be
//! tried with each card and each stack of devices on it, and how what it reports is shown.
//! What is done with them, and compared, is in `tests/src/vm/matrix`.
//!
//! All cards of a guest are on one hub, with one more that sends. A card's address says what it
//! is: `52:54:00:NIC:STACK:00`, numbers as in `tests/src/vm/matrix/cell.rs`.

use std::process::Command;

use super::kernels::Kernel;
use crate::command::{answer, say};

/// Drivers of the cards, and what is stacked on cards.
pub(super) const MODULES: &[&str] = &[
    "8021q",
    "bonding",
    "bridge",
    "e1000e",
    "igb",
    "virtio_net",
    "vmxnet3",
];
/// QEMU's models, by their number.
const NICS: [&str; 4] = ["virtio-net-pci", "e1000e", "vmxnet3", "igb"];
/// How many stacks there are; the one in which kordon may switch an offload off is nothing for
/// virtio, which has none.
const STACKS: usize = 7;
const MANAGED: usize = 1;
/// What is tried each time, with [`EVERYDAY`]: each card by itself, and what differs most.
const SMALL: [(usize, usize); 5] = [(0, 0), (0, 3), (1, 0), (1, MANAGED), (2, 0)];

/// The series that has the small set, beside its other checks.
const EVERYDAY: &str = "6.12";
/// Ends the name of the check where only the small set is wanted.
const ONLY_SMALL: &str = ",small";
/// Ends it where standard output belongs to objects.
const AS_OBJECTS: &str = ",json";
/// What begins the object in a line of the guest.
const OBJECT: &str = "{\"kernel\":";

/// What is checked of a series whenever kernels are tried.
pub(super) fn everyday(series: &str) -> Option<String> {
    (series == EVERYDAY).then(|| format!("matrix={series}{ONLY_SMALL}"))
}

/// The check that is the whole matrix.
pub(super) fn whole(series: &str, json: bool) -> String {
    let end = if json { AS_OBJECTS } else { "" };
    format!("matrix={series}{end}")
}

/// Why cells of the whole matrix cannot be had: this QEMU may not know each card.
pub(super) fn lacking() -> impl Iterator<Item = String> {
    let missing = NICS.into_iter().filter(|model| !is_known(model));
    missing.map(|model| format!("cells with {model}: this QEMU does not emulate it"))
}

fn is_known(model: &str) -> bool {
    let mut question = Command::new("qemu-system-x86_64");
    let known = answer(question.args(["-device", "help"])).unwrap_or_default();
    known.contains(&format!("\"{model}\""))
}

/// Options of QEMU for the cards that the checks want.
pub(super) fn cards(wanted: &str) -> Vec<String> {
    let mut checks = wanted.split(' ');
    let Some(check) = checks.find(|check| check.starts_with("matrix=")) else {
        return Vec::new();
    };
    let mut cards = vec![("virtio-net-pci", "ff:00".to_owned())];
    if check.ends_with(ONLY_SMALL) {
        cards.extend(SMALL.map(|(nic, stack)| card(nic, stack)));
    } else {
        for nic in (0..NICS.len()).filter(|nic| is_known(NICS[*nic])) {
            let stacks = (0..STACKS).filter(|stack| (nic, *stack) != (0, MANAGED));
            cards.extend(stacks.map(|stack| card(nic, stack)));
        }
    }
    let mut arguments = Vec::new();
    for (number, (model, address)) in cards.iter().enumerate() {
        arguments.push("-netdev".to_owned());
        arguments.push(format!("hubport,id=port{number},hubid=0"));
        arguments.push("-device".to_owned());
        // Nothing is booted over the network: no ROM.
        arguments.push(format!(
            "{model},netdev=port{number},mac=52:54:00:{address}:00,romfile="
        ));
    }
    arguments
}

fn card(nic: usize, stack: usize) -> (&'static str, String) {
    (NICS[nic], format!("{nic:02x}:{stack:02x}"))
}

/// Shows what a guest reports: objects alone where those are wanted, else words alone.
pub(super) fn show(kernel: &Kernel, wanted: &str, report: &str) {
    let (words, object) = match report.find(OBJECT) {
        Some(at) => report.split_at(at),
        None => (report, ""),
    };
    let words = format!(
        "Linux {} {}: {}",
        kernel.version,
        kernel.architecture.name(),
        words.trim_end()
    );
    if !wanted.ends_with(AS_OBJECTS) {
        println!("{words}");
        return;
    }
    say(words);
    if !object.is_empty() {
        println!("{object}");
    }
}

#[cfg(test)]
mod tests {
    use super::{NICS, SMALL, STACKS, cards, everyday, whole};

    #[test]
    fn a_guest_has_the_cards_that_its_checks_want() {
        let of = |wanted: &str| cards(wanted).join(" ");
        assert_eq!(of("plain"), "");
        let small = everyday("6.12").expect("this one has it");
        let small = of(&format!("plain {small}"));
        assert_eq!(small.matches("-device").count(), SMALL.len() + 1, "{small}");
        assert!(small.contains("e1000e,netdev=port4,mac=52:54:00:01:01:00,romfile="));
        assert_eq!(everyday("6.1"), None);
        // A PC has 32 slots, two of which are taken.
        assert!(NICS.len() * STACKS < 30);
        assert_eq!(whole("newest", true), "matrix=newest,json");
    }
}
