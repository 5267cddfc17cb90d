//! Which kernels are tried, and how they are had: packages of Debian's, of suites that
//! this machine need not be of. They are unpacked into a folder, never installed; lists
//! of packages are kept there, too, so that the machine's own apt is left alone.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::architecture::Architecture;
use crate::command::{Failed, answer, run, say};

/// A series of kernels that is supported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    /// What it is called on the command line.
    pub(super) name: &'static str,
    /// Where its packages are.
    archive: Archive,
    suite: &'static str,
    /// The package that depends on the newest of the series, less the architecture.
    package: &'static str,
    /// The same with all drivers.
    whole: &'static str,
}

/// The oldest that is supported, what lies between, and the newest there is. Those
/// for clouds are the same kernels with fewer drivers, and a third of the size.
pub(super) const KERNELS: &[Series] = &[
    Series {
        name: "6.1",
        archive: Archive::Security,
        suite: "bookworm-security",
        package: "linux-image-cloud",
        whole: "linux-image",
    },
    Series {
        name: "6.12",
        archive: Archive::Security,
        suite: "bookworm-security",
        package: "linux-image-6.12",
        whole: "linux-image-6.12",
    },
    Series {
        name: "newest",
        archive: Archive::Main,
        suite: "trixie-backports",
        package: "linux-image-cloud",
        whole: "linux-image",
    },
];

/// Everything else of a Debian, for [`super::debian`].
pub(super) const USERLAND: Series = Series {
    name: "debian",
    archive: Archive::Main,
    suite: "bookworm",
    package: "",
    whole: "",
};

#[derive(Clone, Copy, Debug)]
enum Archive {
    Main,
    Security,
}

/// Modules that the checks need: a cable, what takes a program behind XDP where the kernel
/// has no TCX, and whose a connection is.
const MODULES: &[&str] = &["cls_bpf", "sch_ingress", "tcp_diag", "veth"];

/// What others have in their image.
const MAYBE: &[&str] = &["virtio_pci"];

/// How long lists of packages are taken as current.
const CURRENT: Duration = Duration::from_secs(24 * 3600);

impl Series {
    /// The same kernels with drivers of network cards.
    pub(super) fn with_drivers(&self) -> Self {
        Self {
            package: self.whole,
            ..*self
        }
    }
}

/// Names of the modules that are wanted, without those that they need.
fn modules<'m>(more: &'m [&'m str]) -> impl Iterator<Item = &'m str> {
    MODULES.iter().chain(more).copied()
}

/// A kernel, unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Of the packages: `6.1.192-2`.
    pub(super) version: String,
    pub(super) architecture: Architecture,
    /// What a boot loader loads.
    pub(super) image: PathBuf,
    /// [`MODULES`], others that are wanted, and what they need, decompressed.
    pub(super) modules: Vec<PathBuf>,
}

/// The newest of a series, from the cache in `folder` or from the registry. `more`: modules that
/// are wanted, too.
pub(super) fn fetch(
    series: &Series,
    architecture: Architecture,
    folder: &Path,
    more: &[&str],
) -> Result<Kernel, Failed> {
    let home = folder.join(architecture.name()).join(series.name);
    let apt = Apt::new(series, architecture, &home.join("apt"))?;
    let meta = format!("{}-{}", series.package, architecture.debian());
    if let Err(failed) = apt.update() {
        // What was fetched before is as good as it was then.
        let Some(kernel) = newest(architecture, &home, more) else {
            return Err(failed);
        };
        say(format_args!(
            "{failed}; going on with Linux {}",
            kernel.version
        ));
        return Ok(kernel);
    }
    let (version, _) = apt.show(&meta)?;
    let into = home.join(&version);
    if let Some(kernel) = unpacked(architecture, &into, more) {
        return Ok(kernel);
    }
    say(format_args!("fetching Linux {version}"));
    let scratch = home.join("new");
    let _ = fs::remove_dir_all(&scratch);
    make(&scratch)?;
    let mut packages = vec![meta];
    let mut next = 0;
    while let Some(package) = packages.get(next) {
        let (_, needs) = apt.show(package)?;
        for need in needs {
            if !packages.contains(&need) {
                packages.push(need);
            }
        }
        next += 1;
    }
    let mut download = apt.command("apt-get");
    run(download
        .current_dir(&scratch)
        .arg("download")
        .args(&packages))?;
    let root = scratch.join("root");
    for file in files(&scratch) {
        if file.extension() == Some(OsStr::new("deb")) {
            run(Command::new("dpkg-deb").arg("-x").args([&file, &root]))?;
        }
    }
    let found = files(&root);
    let find = |what: &str| {
        let of_the_name = |file: &&PathBuf| {
            file.file_name()
                .and_then(OsStr::to_str)
                .is_some_and(|name| name.starts_with(what))
        };
        found.iter().find(of_the_name).cloned().ok_or_else(|| {
            Failed::new(format!(
                "no `{what}` in the packages {}",
                packages.join(", ")
            ))
        })
    };
    let kept = scratch.join("kept");
    make(&kept)?;
    copy(&find("vmlinuz")?, &kept.join("vmlinuz"))?;
    let wanted = modules(more).chain(MAYBE.iter().copied());
    let mut modules: Vec<String> = wanted.map(str::to_owned).collect();
    next = 0;
    while let Some(module) = modules.get(next) {
        next += 1;
        // Names have `_`, files may have `-`.
        let file = find(&format!("{module}.ko"))
            .or_else(|_| find(&format!("{}.ko", module.replace('_', "-"))));
        if file.is_err() && MAYBE.contains(&module.as_str()) {
            continue;
        }
        let file = file?;
        let to = kept.join(format!("{module}.ko"));
        if file.extension() == Some(OsStr::new("xz")) {
            let packed = kept.join(format!("{module}.ko.xz"));
            copy(&file, &packed)?;
            run(Command::new("xz").arg("--decompress").arg(&packed))?;
        } else {
            copy(&file, &to)?;
        }
        let bytes = fs::read(&to)
            .map_err(|error| Failed::new(format!("cannot read `{}`: {error}", to.display())))?;
        for need in needs(&bytes) {
            if !modules.contains(&need) {
                modules.push(need);
            }
        }
    }
    let _ = fs::remove_dir_all(&into);
    fs::rename(&kept, &into)
        .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", into.display())))?;
    let _ = fs::remove_dir_all(&scratch);
    unpacked(architecture, &into, more)
        .ok_or_else(|| Failed::new(format!("no kernel in `{}`", into.display())))
}

/// What a module says that it needs.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let at = module.windows(KEY.len()).position(|bytes| bytes == KEY);
    let list = at.map_or(&module[..0], |at| &module[at + KEY.len()..]);
    let list = list.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = list
        .split(|byte| *byte == b',')
        .filter(|name| !name.is_empty());
    names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

fn unpacked(architecture: Architecture, folder: &Path, more: &[&str]) -> Option<Kernel> {
    let image = folder.join("vmlinuz");
    let mut wanted = modules(more);
    let modules = files(folder)
        .into_iter()
        .filter(|file| file.extension() == Some(OsStr::new("ko")))
        .collect();
    let all = image.is_file() && wanted.all(|name| folder.join(format!("{name}.ko")).is_file());
    all.then_some(Kernel {
        version: folder.file_name()?.to_str()?.to_owned(),
        architecture,
        image,
        modules,
    })
}

/// The one that was fetched last.
fn newest(architecture: Architecture, home: &Path, more: &[&str]) -> Option<Kernel> {
    let entries = fs::read_dir(home).ok()?.flatten();
    let mut folders: Vec<_> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    folders.sort();
    folders
        .iter()
        .rev()
        .find_map(|(_, folder)| unpacked(architecture, folder, more))
}

/// Package lists of one suite, apart from the machine's.
pub(super) struct Apt {
    home: PathBuf,
    options: Vec<String>,
}

impl Apt {
    pub(super) fn new(
        series: &Series,
        architecture: Architecture,
        home: &Path,
    ) -> Result<Self, Failed> {
        make(&home.join("lists/partial"))?;
        make(&home.join("cache/archives/partial"))?;
        let sources = home.join("sources.list");
        let line = format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {} main\n",
            address(series.archive),
            series.suite
        );
        for (file, text) in [(&sources, line.as_str()), (&home.join("status"), "")] {
            fs::write(file, text).map_err(|error| {
                Failed::new(format!("cannot write `{}`: {error}", file.display()))
            })?;
        }
        let home = std::path::absolute(home)
            .map_err(|error| Failed::new(format!("no path to `{}`: {error}", home.display())))?;
        let here = home.display();
        let mut options = Vec::new();
        for option in [
            format!("Dir::State::lists={here}/lists"),
            format!("Dir::State::status={here}/status"),
            format!("Dir::Cache={here}/cache"),
            format!("Dir::Etc::sourcelist={here}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            // Where an administrator's folder is closed, apt's own user cannot write.
            "APT::Sandbox::User=root".to_owned(),
            format!("APT::Architecture={}", architecture.debian()),
            format!("APT::Architectures={}", architecture.debian()),
        ] {
            options.push("-o".to_owned());
            options.push(option);
        }
        Ok(Self { home, options })
    }

    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    /// Brings the lists, unless they are current.
    pub(super) fn update(&self) -> Result<(), Failed> {
        let stamp = self.home.join("updated");
        let age = fs::metadata(&stamp)
            .and_then(|file| file.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age < CURRENT) {
            return Ok(());
        }
        run(self
            .command("apt-get")
            .args(["update", "--quiet=2", "--error-on=any"]))?;
        fs::write(&stamp, "")
            .map_err(|error| Failed::new(format!("cannot write `{}`: {error}", stamp.display())))
    }

    /// Version of a package, and which parts of a kernel it depends on.
    fn show(&self, package: &str) -> Result<(String, Vec<String>), Failed> {
        let text = answer(
            self.command("apt-cache")
                .args(["show", "--no-all-versions", package]),
        )
        .ok_or_else(|| Failed::new(format!("the registry has no package `{package}`")))?;
        read_record(&text).ok_or_else(|| Failed::new(format!("package `{package}` has no version")))
    }
}

fn read_record(text: &str) -> Option<(String, Vec<String>)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let parts = ["linux-image-", "linux-binary-", "linux-modules-"];
    let needs = field("Depends: ")
        .unwrap_or_default()
        .split(", ")
        .filter_map(|need| need.split_whitespace().next())
        .filter(|need| parts.iter().any(|part| need.starts_with(part)))
        .map(str::to_owned)
        .collect();
    Some((field("Version: ")?.to_owned(), needs))
}

/// Where an archive is: where this machine has it from, else where Debian has it.
fn address(archive: Archive) -> String {
    let (end, otherwise) = match archive {
        Archive::Main => ("/debian/", "http://deb.debian.org/debian/"),
        Archive::Security => ("-security/", "http://deb.debian.org/debian-security/"),
    };
    let mut question = Command::new("apt-get");
    question.args(["indextargets", "--format", "$(REPO_URI)"]);
    question.arg("Created-By: Packages");
    let known = answer(&mut question).unwrap_or_default();
    known
        .lines()
        .find(|address| address.ends_with(end))
        .unwrap_or(otherwise)
        .to_owned()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    found
}

fn make(folder: &Path) -> Result<(), Failed> {
    fs::create_dir_all(folder)
        .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", folder.display())))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::copy(from, to).map(drop).map_err(|error| {
        Failed::new(format!(
            "cannot copy `{}` to `{}`: {error}",
            from.display(),
            to.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::{needs, read_record};

    #[test]
    fn a_record_names_the_parts_of_the_kernel() {
        let text = "Package: linux-image-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\n\
                    Depends: dracut | initramfs-tools (>= 0.120) | linux-initramfs-tool, \
                    linux-base-7.3.4 (= 1), linux-binary-7.3.4 (= 1), linux-modules-7.3.4 (= 1)\n";
        let (version, needs) = read_record(text).expect("it is one");
        assert_eq!(version, "7.3.4-1~bpo13+1");
        assert_eq!(needs, ["linux-binary-7.3.4", "linux-modules-7.3.4"]);
        assert_eq!(read_record("N: no package\n"), None);
    }
    #[test]
    fn a_module_names_what_it_needs() {
        let module = b"\x7fELF\0license=GPL\0depends=ptp,pps_core\0name=e1000e\0";
        assert_eq!(needs(module), ["ptp", "pps_core"]);
        assert!(needs(b"\x7fELF\0license=GPL\0depends=\0name=veth\0").is_empty());
        assert!(needs(b"\x7fELF").is_empty());
    }
}
