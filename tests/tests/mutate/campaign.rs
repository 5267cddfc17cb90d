//! A campaign: inputs from a corpus, one after the other, for as long as it is asked
//! for. What is met for the first time is damaged further.

use std::{
    collections::HashSet,
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::Corpus;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is not a number")),
    )
}

/// Damages inputs for a while. `try_one` says in what way an input was new, and
/// panics where something is wrong.
pub(crate) fn campaign(mut corpus: Corpus, mut try_one: impl FnMut(&[u8]) -> String) {
    let seconds = number("KORDON_FUZZ_SECONDS").unwrap_or(5);
    let mut rng = Rng::with_seed(number("KORDON_SEED").unwrap_or(1));
    let mut seen = HashSet::new();
    let (mut done, mut slowest) = (0u64, Duration::ZERO);
    let start = Instant::now();
    let seeds = corpus.len();
    while start.elapsed() < Duration::from_secs(seconds) {
        let input = match corpus.get(done as usize) {
            // Seeds as they are, first.
            Some(seed) if done < seeds as u64 => seed.to_vec(),
            _ => corpus.mutate(&mut rng),
        };
        let began = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| try_one(&input))) {
            Ok(kind) => {
                if seen.insert(kind) {
                    corpus.add(&input);
                }
            }
            Err(_) => panic!("input {done} of these bytes: {}", shown(&input)),
        }
        let mut took = began.elapsed();
        // A machine that does something else for a while says nothing of the input.
        for _ in 0..2 {
            if took > Duration::from_secs(1) {
                let began = Instant::now();
                let _ = catch_unwind(AssertUnwindSafe(|| try_one(&input)));
                took = took.min(began.elapsed());
            }
        }
        assert!(
            took < Duration::from_secs(10),
            "{took:?} for {}",
            shown(&input)
        );
        slowest = slowest.max(took);
        done += 1;
    }
    println!(
        "{done} inputs, {} kinds, slowest {slowest:?}, {} MiB at most",
        seen.len(),
        peak_memory()
    );
}

/// Hexadecimal, and as text where it is text.
fn shown(input: &[u8]) -> String {
    let mut text = String::new();
    for byte in input {
        write!(text, "{byte:02x}").unwrap();
    }
    if let Ok(readable) = std::str::from_utf8(input) {
        write!(text, "\n{readable}").unwrap();
    }
    text
}

/// Of this process, all targets together.
pub(crate) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kilobytes.unwrap().trim().parse::<u64>().unwrap() >> 10
}
