//! Running other programs. Everything that xtask itself says goes to standard
//! error: standard output belongs to the task, and scripts read it.

use std::fmt;
use std::process::{Command, ExitCode, Output, Stdio};

/// Why a task ended, and with which exit code.
#[derive(Debug)]
pub(crate) struct Failed {
    message: String,
    code: u8,
}

impl Failed {
    /// Something did not work.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    /// It was called in a wrong way.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 2,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Tells what is being done.
pub(crate) fn say(what: impl fmt::Display) {
    eprintln!("xtask: {what}");
}

/// The command as one would type it.
pub(crate) fn display(command: &Command) -> String {
    let mut text = command.get_program().display().to_string();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.display().to_string());
    }
    text
}

fn not_started(command: &Command, error: &std::io::Error) -> Failed {
    Failed::new(format!("cannot start `{}`: {error}", display(command)))
}

/// Runs a step, with its output on standard error.
pub(crate) fn run(command: &mut Command) -> Result<(), Failed> {
    say(format_args!("{}", display(command)));
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| not_started(command, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failed::new(format!(
            "`{}` failed: {status}",
            display(command)
        )))
    }
}

/// Runs what the task is about: it has the terminal, and its exit code is ours.
pub(crate) fn run_tool(command: &mut Command) -> Result<(), Failed> {
    say(format_args!("{}", display(command)));
    let status = command
        .status()
        .map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Err(Failed {
        message: format!("`{}` ended with {status}", display(command)),
        code: code.unwrap_or(1),
    })
}

/// Runs a question quietly; `None` when the program is not there.
pub(crate) fn ask(command: &mut Command) -> Option<Output> {
    command.stdin(Stdio::null()).output().ok()
}

/// What a question printed, when it could be asked and was answered.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = ask(command)?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
