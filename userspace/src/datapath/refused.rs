//! A program that the kernel does not take: turns the verifier's log, thousands of lines, into one, and does not try
//! the same program twice. The verifier takes a second to get there, and says the same each time; so what it refused
//! is remembered as long as this process lives.

use std::{
    io,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use aya::programs::ProgramError;

use super::{DatapathError, chain};

/// What makes a program another one: its object, its name there, and the constants that lead to
/// other instructions, `MODE` and `TRACE`.
pub(super) type Which = (&'static str, &'static str, u32, u32);

static REFUSED: Mutex<Vec<(Which, Refused)>> = Mutex::new(Vec::new());

/// What the verifier says, in a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Linux {release} refuses it: {reason}; {cure}, and `kordon run --debug-log` logs all {lines} \
     lines of the verifier"
)]
struct Refused {
    release: String,
    reason: String,
    cure: &'static str,
    lines: usize,
}

/// Whether it is worth trying to load this program.
///
/// # Errors
/// When it was refused before; as it was then.
pub(super) fn check(what: &str, which: Which) -> Result<(), DatapathError> {
    let refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    match refused.iter().find(|(known, _)| *known == which) {
        Some((_, refused)) => Err(DatapathError::new(what, refused.clone())),
        None => Ok(()),
    }
}

/// A verifier that a signal interrupts gives up, and may be asked again: so often, with a
/// pause that grows by this much each time. What sent the signal may send another one.
const AGAIN: u32 = 8;
const PAUSE: Duration = Duration::from_millis(5);

/// Loads a program.
///
/// # Errors
/// When the kernel refuses it, or has refused it before.
pub(super) fn loaded(
    what: &str,
    which: Which,
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), DatapathError> {
    check(what, which)?;
    let mut result = load();
    for attempt in 1..AGAIN {
        match &result {
            Err(ProgramError::LoadError { io_error, .. }) if is_interrupted(io_error) => {
                thread::sleep(PAUSE * attempt);
                result = load();
            }
            _ => break,
        }
    }
    let Err(error) = result else {
        return Ok(());
    };
    match &error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let refused = summary(&log).filter(|_| is_final(io_error));
            let Some(refused) = refused else {
                // Not the verifier's word: no permission, no memory, a signal.
                return Err(DatapathError::new(what, io_error.to_string()));
            };
            for line in log.lines() {
                tracing::debug!("{line}");
            }
            let mut known = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
            known.push((which, refused.clone()));
            Err(DatapathError::new(what, refused))
        }
        error => Err(DatapathError::new(what, chain(error))),
    }
}

/// Whether a signal came meanwhile.
fn is_interrupted(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock)
}

/// Whether the verifier has come to an end. One that was interrupted, or had no memory, leaves
/// a log, too, and may say something else the next time.
fn is_final(error: &io::Error) -> bool {
    let cut_short = [libc::EAGAIN, libc::EINTR, libc::ENOMEM];
    error
        .raw_os_error()
        .is_none_or(|code| !cut_short.contains(&code))
}

/// `None`: it says nothing.
fn summary(log: &str) -> Option<Refused> {
    // The last lines are figures; what is wrong stands before them, and before it the
    // instruction.
    let figures = ["verification time ", "stack depth ", "processed "];
    let reason =
        log.lines().rev().map(str::trim).find(|line| {
            !line.is_empty() && !figures.iter().any(|figure| line.starts_with(figure))
        })?;
    let release = nix::sys::utsname::uname().map_or_else(
        |_| "of an unknown release".to_owned(),
        |name| name.release().display().to_string(),
    );
    // Functions and calls of other programs together need machine code.
    let cure = if reason.contains("tail_call") {
        "`sysctl -w net.core.bpf_jit_enable=1` cures it"
    } else {
        "another version of kordon or of the kernel (6.1 or later) cures it"
    };
    Some(Refused {
        release,
        cure,
        reason: reason.chars().take(200).collect(),
        lines: log.lines().count(),
    })
}

#[cfg(test)]
mod tests {
    use aya::EbpfLoader;

    use super::*;
    use crate::{compile::table::Tier, datapath::programs};
    use aya_obj::VerifierLog;

    #[test]
    fn the_reason_is_found() {
        let log = "0: R1=ctx(off=0,imm=0) R10=fp0\n; a line\n6066: (61) r1 = *(u32 *)(r2 +0)\n\
                   R2 unbounded memory access, make sure to bounds check any such access\n\
                   verification time 854972 usec\nstack depth 0+56\n\
                   processed 6504 insns (limit 1000000) max_states_per_insn 8\n\n";
        let refused = summary(log).expect("it says something");
        assert_eq!(
            refused.reason,
            "R2 unbounded memory access, make sure to bounds check any such access"
        );
        assert_eq!(refused.lines, 8);
        assert_eq!(summary("processed 0 insns\n"), None);
        assert_eq!(summary(""), None);
    }

    #[test]
    fn who_is_interrupted_was_not_refused() {
        for code in [libc::EAGAIN, libc::EINTR, libc::ENOMEM] {
            assert!(!is_final(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [libc::EACCES, libc::EINVAL, libc::E2BIG] {
            assert!(is_final(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }

    #[test]
    fn who_is_interrupted_is_asked_again() {
        for (interruptions, is_loaded) in [(0, true), (AGAIN - 1, true), (AGAIN, false)] {
            let mut calls = 0;
            let load = || {
                calls += 1;
                if calls > interruptions {
                    return Ok(());
                }
                Err(ProgramError::LoadError {
                    io_error: io::Error::from_raw_os_error(libc::EAGAIN),
                    verifier_log: VerifierLog::new(String::new()),
                })
            };
            let loaded = loaded("load it", ("interrupted", "", 0, 0), load);
            assert_eq!(loaded.is_ok(), is_loaded, "{interruptions}: {loaded:?}");
            assert_eq!(calls, AGAIN.min(interruptions + 1));
        }
    }

    /// A program in which every way ends with a call that no kernel knows.
    #[test]
    fn a_refusal_is_one_line_and_is_not_asked_for_again() {
        let mut object = programs::object(Tier::Small).to_vec();
        let (exit, unknown) = (
            [0x95, 0, 0, 0, 0, 0, 0, 0],
            [0x85, 0, 0, 0, 0xff, 0xff, 0, 0],
        );
        let mut spoilt = 0;
        // Behind the code there are types, in which the same bytes mean something else.
        let types = object
            .windows(4)
            .position(|bytes| bytes == [0x9f, 0xeb, 1, 0]);
        let code = types.expect("the object has BTF");
        for instruction in object[..code].chunks_exact_mut(8) {
            if instruction == exit {
                instruction.copy_from_slice(&unknown);
                spoilt += 1;
            }
        }
        assert!(spoilt > 0, "a program has an end");
        let which = ("spoilt", "", 0, 0);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("COUNTERS", 1)
            .map_max_entries("AYA_LOGS", programs::NO_LOG)
            .load(&object)
            .expect("the maps are those of a good program");
        let program = programs::program(&mut ebpf, programs::SLOW).expect("it is there");
        let said = loaded("load it", which, || program.load()).expect_err("no kernel takes it");
        let said = said.to_string();
        println!("{said}");
        assert!(said.starts_with("cannot load it: Linux "), "{said}");
        assert!(said.contains(" refuses it: "), "{said}");
        assert!(said.lines().count() == 1 && said.len() < 500, "{said}");
        let asked = || panic!("the verifier is asked again");
        let again = loaded("load it", which, asked).expect_err("it was refused");
        assert_eq!(again.to_string(), said);
    }
}
