//! Whoever outside is told of each checkpoint: a program, or a server. Nothing waits for them; where the last checkpoint is
//! still being told, the next one is the one that goes.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{
    Evidence,
    troubles::{Part, lock},
};
use crate::config;

/// How long a program may take.
const TOLD: Duration = Duration::from_secs(10);

/// Beside everything else.
pub(super) fn tell_outside(evidence: &Evidence, config: &config::Evidence, checkpoint: String) {
    if evidence.telling.swap(true, Ordering::Relaxed) {
        return;
    }
    let telling = Telling(Arc::clone(&evidence.telling));
    let (told, config) = (evidence.clone(), config.clone());
    let work = move || {
        witness(&told, &config, &checkpoint);
        drop(telling);
    };
    if let Err(e) = thread::Builder::new().spawn(work) {
        let words = format!("nobody outside is told how long the log of evidence is: {e}");
        evidence.troubles.is(Part::Telling, words);
    }
}

/// Somebody is told, until it is dropped.
struct Telling(Arc<AtomicBool>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Gives a checkpoint to whoever brings it away from this machine.
pub(super) fn witness(evidence: &Evidence, config: &config::Evidence, checkpoint: &str) {
    let program = (config.witness.split_first()).map(|(program, arguments)| {
        move || {
            let told = told(Path::new(program), arguments, checkpoint);
            told.map_err(|why| format!("{program}: {why}"))
        }
    });
    let server = (config.post.as_ref()).map(|post| move || post.send(checkpoint));
    // At once: at the end of the daemon there is no time for one after the other.
    let (program, server) = thread::scope(|scope| {
        let server = server.map(|server| scope.spawn(server));
        let program = program.map(|program| program());
        let server = server.map(|server| {
            let sent = server.join();
            sent.unwrap_or_else(|_| Err("the server was not told, because of a bug".to_owned()))
        });
        (program, server)
    });
    let all: Vec<_> = program.into_iter().chain(server).collect();
    if all.is_empty() {
        return;
    }
    if all.iter().any(Result::is_ok) {
        lock(&evidence.figures).witnessed = Some(Timestamp::now());
    }
    let failed: Vec<String> = all.into_iter().filter_map(Result::err).collect();
    match failed.is_empty() {
        true => evidence.troubles.is_over(Part::Telling),
        false => {
            let words = format!(
                "the newest checkpoint of the log of evidence could not be brought outside: {}",
                failed.join("; ")
            );
            evidence.troubles.is(Part::Telling, words);
        }
    }
}

fn told(program: &Path, arguments: &[String], checkpoint: &str) -> Result<(), String> {
    let words = |e: std::io::Error| e.to_string();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
        .map_err(words)?;
    if let Some(mut input) = child.stdin.take() {
        // One that reads nothing says by its status how it went.
        let _ = input.write_all(checkpoint.as_bytes());
    }
    let begun = Instant::now();
    loop {
        match child.try_wait().map_err(words)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if begun.elapsed() > TOLD => {
                // With all that it has started.
                if let Ok(group) = i32::try_from(child.id()) {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
                let _ = child.wait();
                return Err(format!("it took longer than {} s", TOLD.as_secs()));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}
