//! What packages bring beside the binary and comes from the definition of the command line:
//! manual pages and completions for shells. The binary writes them itself, so that they cannot
//! say anything else than it does.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{
    arguments::{Arguments, Generate},
    failure::Failure,
    output::Output,
};

/// Of commands for system administration.
const SECTION: &str = "8";
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// At the end of the first page.
const PLACES: &str = r#".SH FILES
.TP
.I /etc/kordon/kordon.toml
What is local to this router: interfaces, database, sockets.
.TP
.I /etc/kordon/policy.toml
What must not happen.
.TP
.I /var/lib/kordon
What is live, and the ASN database.
.TP
.I /sys/fs/bpf/kordon
Programs, maps and counters, which stay when the daemon ends.
.SH "SEE ALSO"
The documents and examples in
.IR /usr/share/doc/kordon .
"#;

/// Writes all of it below a folder: `man` and `completions`.
pub(super) fn generate(arguments: &Generate, output: &mut Output) -> Result<(), Failure> {
    let folder = &arguments.folder;
    write(folder).map_err(|e| {
        Failure::new(
            format!("cannot write below `{}`: {e}", folder.display()),
            "name a folder that you may write to",
        )
    })?;
    let answer = serde_json::json!({ "folder": folder });
    Ok(output.answer(&answer, |_| String::new())?)
}

fn write(folder: &Path) -> std::io::Result<()> {
    let mut command = Arguments::command();
    // Subcommands get their whole names, and the options of all commands.
    command.build();
    let pages = folder.join("man");
    fs::create_dir_all(&pages)?;
    page(&command, &pages)?;
    let name = format!("{}.{SECTION}", command.get_name());
    let mut first = File::options().append(true).open(pages.join(name))?;
    first.write_all(PLACES.as_bytes())?;
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in SHELLS {
        let mut command = Arguments::command();
        let name = command.get_name().to_owned();
        clap_complete::generate_to(shell, &mut command, name, &completions)?;
    }
    Ok(())
}

/// The page of a command, and those of the commands below it.
fn page(command: &Command, folder: &Path) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let man = Man::new(command.clone()).section(SECTION);
    man.render(&mut File::create(folder.join(format!("{name}.{SECTION}")))?)?;
    let below = command.get_subcommands();
    for command in below.filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        page(command, folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path()).expect("it can be written");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect(name);
        let first = read("man/kordon.8");
        assert!(first.contains(".TH kordon 8 "), "{first}");
        assert!(first.contains("kordon\\-status(8)"), "{first}");
        assert!(!first.contains("generate"), "{first}");
        let import = read("man/kordon-asndb-import.8");
        assert!(import.contains("\\-\\-accept"), "{import}");
        // What a daemon of its own has, and no page is about.
        assert!(!folder.path().join("man/kordon-generate.8").exists());
        for (name, said) in [
            ("kordon.bash", "kordon__subcmd__asndb__subcmd__import"),
            ("_kordon", "--expect-policy"),
            ("kordon.fish", "expect-policy"),
        ] {
            let text = read(&format!("completions/{name}"));
            assert!(text.contains(said), "{name} has no `{said}`:\n{text}");
        }
    }
}
