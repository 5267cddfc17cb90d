//! What the kernel holds now, asked of `nft` and released by it: the same program that has
//! loaded the rules.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::diagnostic::Problem;

/// Begins the name of a table, before that of its device.
const PREFIX: &str = "kordon-boot-";
/// How long `nft` may take, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Families in which there may be one.
const FAMILIES: [&str; 2] = ["inet", "bridge"];

/// The table of a device. Characters that nftables does not know in a name are `_` and two
/// hexadecimal digits.
pub(super) fn table(device: &str) -> String {
    let mut name = PREFIX.to_owned();
    for byte in device.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => name.push(char::from(byte)),
            _ => name += &format!("_{byte:02x}"),
        }
    }
    name
}

/// The device of a table.
fn device(table: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = table.strip_prefix(PREFIX)?.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'_' {
            let digits = [rest.next()?, rest.next()?];
            let digits = str::from_utf8(&digits).ok()?;
            u8::from_str_radix(digits, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

/// Devices that are held, sorted. `None`: without `nft`, or nftables, nobody can say.
///
/// # Errors
/// If `nft` does not say.
pub fn held() -> Result<Option<Vec<String>>, Problem> {
    let Some(said) = nft(&["list", "tables"])? else {
        return Ok(None);
    };
    let of = |line: &str| {
        let (family, name) = line.strip_prefix("table ")?.split_once(' ')?;
        FAMILIES.contains(&family).then(|| device(name))?
    };
    let mut found: Vec<String> = said.lines().filter_map(of).collect();
    found.sort_unstable();
    found.dedup();
    Ok(Some(found))
}

/// Whether `nft` will load a file.
///
/// # Errors
/// If it will not.
pub fn check(file: &Path) -> Result<(), Problem> {
    let file = file.display().to_string();
    nft(&["--check", "--file", &file]).map(drop)
}

/// Holds a device no longer.
///
/// # Errors
/// If something is left.
pub fn release(device: &str) -> Result<(), Problem> {
    let table = table(device);
    for family in FAMILIES {
        // One that is not there cannot be deleted, and one that is made can.
        let made = format!("table {family} {table}; delete table {family} {table}");
        if let Err(problem) = nft(&[&made])
            && held()?.is_some_and(|held| held.iter().any(|held| held == device))
        {
            return Err(problem);
        }
    }
    Ok(())
}

/// What it prints; `None`: there is none on this machine, or nothing that it could list. Whoever
/// asks has other things to do: one that hangs is killed.
fn nft(arguments: &[&str]) -> Result<Option<String>, Problem> {
    let mut command = Command::new("nft");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        child => child.map_err(|e| problem(e.to_string()))?,
    };
    let end = Instant::now() + PATIENCE;
    while child.try_wait().is_ok_and(|ended| ended.is_none()) {
        if Instant::now() > end {
            // Whether it is still there to be killed makes no difference.
            let _ = child.kill();
            let _ = child.wait();
            return Err(problem(format!("no answer within {PATIENCE:?}")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let output = child
        .wait_with_output()
        .map_err(|e| problem(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        // A kernel without nftables holds nothing.
        if said.contains("not supported") {
            return Ok(None);
        }
        return Err(problem(format!("{}: {said}", output.status)));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn problem(why: String) -> Problem {
    Problem::new(
        format!("what the boot guard holds cannot be seen or changed: `nft`: {why}"),
        "be root; `nft list tables` shows its tables, `kordon-boot-` and the device, and \
         `nft delete table inet kordon-boot-eth1` deletes one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_device_has_a_table_and_is_found_by_it() {
        for name in ["eth1", "eth1.20", "a_b", "ü", "cam\"s", "br-lan", "x@y"] {
            let table = table(name);
            assert!(
                table
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
                "{table}"
            );
            assert_eq!(device(&table).as_deref(), Some(name));
        }
        for foreign in ["filter", "kordon-boot-_", "kordon-boot-_zz"] {
            assert_eq!(device(foreign), None, "{foreign}");
        }
    }
}
