//! Commands that ask the daemon, and the daemon itself.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    arguments::{self, Apply, Detach, Instance, Resolved, Run},
    failure::{Failure, warn},
    output::Output,
    view,
};
use crate::{
    control::{
        client,
        protocol::{Change, PolicyFile, Request},
    },
    daemon,
    datapath::kernel::Datapath,
    diagnostic::Diagnostics,
    policy::Bundle,
};

pub(super) fn run(arguments: Run) -> Result<(), Failure> {
    let instance = arguments.instance;
    daemon::run(daemon::Options {
        config: instance.config_path(),
        socket: instance.socket,
        bpffs: instance.bpffs,
        state_dir: instance.state_dir,
        debug_log: arguments.debug_log,
    })
    .map_err(|e| Failure::from_error(&e))
}

fn ask(instance: &Instance, request: &Request) -> Result<Value, Failure> {
    Ok(client::ask(&instance.resolve()?.socket, request)?)
}

pub(super) fn apply(arguments: Apply, output: &mut Output) -> Result<(), Failure> {
    let instance = arguments.instance.resolve()?;
    let path = arguments.policy.map_or_else(|| instance.policy(), Ok)?;
    // The daemon may be in another folder, and `status` shows it to other people.
    let path = std::path::absolute(&path)?;
    let bundle = Bundle::read(&path).map_err(Diagnostics::from)?;
    let request = Request::Apply {
        path: bundle.file.clone(),
        files: files(&bundle)?,
        confirm_seconds: arguments.confirm,
        yes: arguments.yes,
    };
    let value = client::ask(&instance.socket, &request)
        .map_err(|e| Failure::from(e).with_source(&bundle))?;
    changed(&value, output)?;
    if !output.json {
        let until = view::trial(&value["pending_confirm"]);
        if let Some(until) = until {
            writeln!(output.out, "{until}")?;
        } else if arguments.confirm.is_some() {
            writeln!(
                output.out,
                "not on trial: it was live and confirmed already"
            )?;
        }
    }
    Ok(())
}

fn files(bundle: &Bundle) -> Result<Vec<PolicyFile>, Failure> {
    let mut files = vec![PolicyFile {
        name: bundle.file.clone(),
        text: bundle.text.clone(),
    }];
    for list in &bundle.lists {
        match &list.content {
            Ok(text) => files.push(PolicyFile {
                name: list.name.clone(),
                text: text.clone(),
            }),
            Err(e) => {
                return Err(Failure::new(
                    format!("list file {}: {e}", bundle.list_path(&list.name)),
                    "check the path, which is relative to the policy's folder",
                ));
            }
        }
    }
    Ok(files)
}

/// What a change came to, and its warnings.
fn changed(value: &Value, output: &mut Output) -> Result<(), Failure> {
    output.answer(value, view::changed)?;
    if !output.json
        && let Ok(warnings) = serde_json::from_value(value["warnings"].clone())
    {
        output.out.flush()?;
        warn(&Diagnostics {
            errors: Vec::new(),
            warnings,
        });
    }
    Ok(())
}

pub(super) fn confirm(instance: &Instance, output: &mut Output) -> Result<(), Failure> {
    let value = ask(instance, &Request::Confirm)?;
    Ok(output.answer(&value, |_| "the policy stays\n".to_owned())?)
}

pub(super) fn rollback(instance: &Instance, output: &mut Output) -> Result<(), Failure> {
    changed(&ask(instance, &Request::Rollback)?, output)
}

pub(super) fn history(instance: &Instance, output: &mut Output) -> Result<(), Failure> {
    let value = ask(instance, &Request::History)?;
    Ok(output.answer(&value, view::history)?)
}

/// `block`, `allow` and `unblock`.
pub(super) fn entry(
    arguments: arguments::Change,
    request: fn(Change) -> Request,
    output: &mut Output,
) -> Result<(), Failure> {
    let change = Change {
        target: arguments.target,
        zone: arguments.zone,
        for_seconds: arguments.duration,
        note: arguments.note,
        yes: arguments.yes,
    };
    changed(&ask(&arguments.instance, &request(change))?, output)
}

/// Through the daemon; where there is none, what it left in the kernel goes all
/// the same.
pub(super) fn detach(arguments: &Detach, output: &mut Output) -> Result<(), Failure> {
    let instance = arguments.instance.resolve()?;
    if !arguments.yes {
        agree()?;
    }
    let value = take_off(&arguments.instance, &instance)?;
    Ok(output.answer(&value, view::detached)?)
}

/// Of the instance that was named, and of no other.
fn take_off(given: &Instance, instance: &Resolved) -> Result<Value, Failure> {
    let absolute = given.bpffs.as_ref().map(std::path::absolute).transpose()?;
    let request = Request::Detach {
        bpffs: absolute.map(|path| path.display().to_string()),
    };
    let pins_alone = given.bpffs.is_some() && given.socket.is_none();
    if pins_alone && instance.bpffs.exists() && daemon::lock_pins(&instance.bpffs).is_ok() {
        return without_daemon(&instance.bpffs);
    }
    let failure = match client::ask(&instance.socket, &request) {
        Ok(value) => return Ok(value),
        Err(e) => Failure::from(e),
    };
    if !failure.no_daemon() {
        return Err(failure);
    }
    if !instance.names_pins {
        return Err(failure
            .with_help("`--bpffs` or `--config` says whose pins are meant where no daemon runs"));
    }
    without_daemon(&instance.bpffs)
}

fn without_daemon(bpffs: &Path) -> Result<Value, Failure> {
    if let Err(e) = std::fs::metadata(bpffs) {
        let place = bpffs.display();
        return Err(match e.kind() {
            io::ErrorKind::NotFound => Failure::new(
                format!("there is neither a daemon nor anything pinned at {place}"),
                "this instance enforces nothing; `--socket` and `--bpffs` name another one",
            ),
            _ => Failure::new(
                format!("no daemon answers, and what is pinned at {place} cannot be seen: {e}"),
                "enforcement may go on; where no daemon runs, only root ends it",
            ),
        });
    }
    let _pins = daemon::lock_pins(bpffs)
        .map_err(|e| Failure::new(e.to_string(), "`--socket` names the daemon's socket"))?;
    let left = Datapath::detach(bpffs).map_err(|e| Failure::from_error(&e.into()))?;
    Ok(json!({ "detached": true, "bpffs": bpffs, "left": left }))
}

fn agree() -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "`detach` stops enforcement, and nobody is there to be asked",
            "`--yes` says that you mean it",
        ));
    }
    eprint!(
        "This stops enforcement: blocked networks become reachable. It also ends all that was counted and recorded \
         (`kordon status --json` and `kordon flows --live --json` show it). Go on? [y/N] "
    );
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new("not detached", "enforcement goes on"))
}
