//! The kernel and what it allows, from /proc and /sys.

use std::{fs, io, path::Path};

use nix::sys::{
    statfs::{BPF_FS_MAGIC, statfs},
    utsname::uname,
};

use crate::doctor::{
    facts::{Known, Machine},
    fix,
};

/// What loading and attaching needs, by number.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// Has what two of these give.
const SYS_ADMIN: u32 = 21;

/// See the module. `holder`: the daemon's process.
pub(super) fn read(bpffs: &Path, holder: Option<u32>) -> Machine {
    Machine {
        release: uname().map_or_else(
            |e| e.to_string(),
            |name| name.release().to_string_lossy().into_owned(),
        ),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: number(fix::JIT),
        harden: number("/proc/sys/net/core/bpf_jit_harden"),
        lockdown: lockdown(),
        bpffs: is_bpffs(bpffs),
        lacks: lacks(holder),
    }
}

fn number(path: &str) -> Known<u8> {
    let text = fs::read_to_string(path).map_err(|e| match e.kind() {
        // The setting is the machine's, and other network namespaces do not have it.
        io::ErrorKind::NotFound => {
            format!("{path} is not there, as in a network namespace that is not the machine's own")
        }
        _ => format!("{path} cannot be read: {e}"),
    })?;
    let number = text.trim().parse();
    number.map_err(|_| format!("{path} has no number: `{}`", text.trim()))
}

fn lockdown() -> Known<String> {
    const PATH: &str = "/sys/kernel/security/lockdown";
    match fs::read_to_string(PATH) {
        Ok(text) => {
            let word = text
                .split_once('[')
                .and_then(|(_, rest)| rest.split_once(']'));
            let word = word.map(|(word, _)| word.to_owned());
            word.ok_or_else(|| format!("{PATH} has no word in brackets"))
        }
        // securityfs is mounted where there is a security module.
        Err(e)
            if e.kind() == io::ErrorKind::NotFound
                && Path::new("/sys/kernel/security").exists() =>
        {
            Ok("none".to_owned())
        }
        Err(e) => Err(format!("{PATH} cannot be read: {e}")),
    }
}

/// Whether a place, or where it would be made, is on a BPF file system.
fn is_bpffs(place: &Path) -> Known<bool> {
    let mut there = place.ancestors();
    let found = there.find_map(|folder| match folder.symlink_metadata() {
        Ok(_) => Some(Ok(folder)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(Err(format!(
            "`{}` cannot be looked at: {e}",
            folder.display()
        ))),
    });
    let folder = found.unwrap_or(Ok(Path::new("/")))?;
    let kind =
        statfs(folder).map_err(|e| format!("`{}` cannot be looked at: {e}", folder.display()))?;
    Ok(kind.filesystem_type() == BPF_FS_MAGIC)
}

/// What the daemon lacks, else what this process does where it is root.
fn lacks(holder: Option<u32>) -> Known<(String, Vec<&'static str>)> {
    let (who, path) = match holder {
        Some(process) => (
            format!("the daemon (process {process})"),
            format!("/proc/{process}/status"),
        ),
        None if nix::unistd::geteuid().is_root() => {
            ("root".to_owned(), "/proc/self/status".to_owned())
        }
        None => {
            return Err("no daemon runs, and only root can tell what root may do here".to_owned());
        }
    };
    let text = fs::read_to_string(&path).map_err(|e| format!("{path} cannot be read: {e}"))?;
    let field = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = field.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let bits = bits.ok_or_else(|| format!("{path} has no capabilities"))?;
    Ok((who, missing(bits)))
}

fn missing(bits: u64) -> Vec<&'static str> {
    let has = |bit: u32| bits >> bit & 1 != 0;
    let needed = NEEDED.into_iter();
    let lacks = needed.filter(|(bit, _)| !has(*bit) && (*bit == 12 || !has(SYS_ADMIN)));
    lacks.map(|(_, name)| name).collect()
}

/// Who a process runs as.
pub(super) fn user_of(process: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    // Real, effective, saved, of the file system.
    ids.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing(0), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing(1 << 21), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << 12 | 1 << 38 | 1 << 39), [""; 0]);
        assert_eq!(missing(u64::MAX), [""; 0]);
    }

    #[test]
    fn a_place_that_is_not_there_is_judged_by_where_it_would_be() {
        assert_eq!(is_bpffs(Path::new("/proc/kordon/is/not/there")), Ok(false));
        assert_eq!(
            user_of(std::process::id()),
            Some(nix::unistd::geteuid().as_raw())
        );
    }
}
