//! Where the demo plays: the lab, a directory for configuration and state, and a
//! BPF file system; all gone at the end, or all left in a known place.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::controller::{Controller, Place};
use crate::lab::{Bpffs, Lab, LabConfig, Naming, PORT, bpffs, namespace, traffic};

/// Prefix of the namespaces that `--keep` leaves, and the name of their directory.
const KEPT: &str = "kordon-demo";

/// Rows of the real Internet, see `tests/data/README.md`.
const DATABASES: [(&str, &str); 2] = [
    ("asn-ipv4.csv", include_str!("../../data/asn-ipv4.csv")),
    ("asn-ipv6.csv", include_str!("../../data/asn-ipv6.csv")),
];

const POLICY: &str = r#"# The demo's policy: what cameras may not reach.

[zone.cameras]
vlans = [20]
interfaces = ["trunk"]
default = "pass"
sources = ["10.20.0.0/16", "fd00:20::/48"]

[set.hostile]
asns = [12695]

[[rule]]
name = "no-hostile-networks"
from = "cameras"
to = "hostile"
action = "drop"
"#;

const CONFIGURATION: &str = r#"# The demo's router.
policy = "policy.toml"

[[interface]]
name = "trunk"
device = "trunk"
mode = "native"

[asndb]
sources = ["asn-ipv4.csv", "asn-ipv6.csv"]

[metrics]
listen = "127.0.0.1:9754"
"#;

/// A process that was left running, so that no other is taken for it.
#[derive(Debug, Serialize, Deserialize)]
struct Process {
    pid: u32,
    started: u64,
}

/// What `--keep` leaves up.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    processes: Vec<Process>,
}

/// A server process of a lab that is kept, killed on drop until then.
#[derive(Debug)]
struct ServerProcess {
    child: Child,
    kept: bool,
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The lab and what belongs to it.
#[derive(Debug)]
pub(crate) struct Stage {
    // In the order in which they go: processes before their namespaces.
    servers: Vec<ServerProcess>,
    /// The network.
    pub(crate) lab: Lab,
    /// Pins.
    pub(crate) bpffs: Bpffs,
    directory: Directory,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    kept: bool,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

impl Stage {
    /// Builds everything; with `keep` under names that an administrator can type.
    pub(crate) fn new(keep: bool) -> Result<Self> {
        namespace::cleanup()?;
        let (path, naming) = if keep {
            let path = kept_directory();
            ensure!(
                !path.exists() && namespace::names(KEPT)?.is_empty(),
                "a demo is up already; `cargo xtask demo --down` takes it down"
            );
            (path, Naming::Fixed(KEPT.to_owned()))
        } else {
            let name = format!("{}-demo", namespace::owned_prefix()?);
            (std::env::temp_dir().join(name), Naming::Unique)
        };
        fs::create_dir_all(path.join("state"))
            .with_context(|| format!("cannot make {}", path.display()))?;
        let directory = Directory { path, kept: false };
        let files = [("policy.toml", POLICY), ("kordon.toml", CONFIGURATION)];
        for (name, text) in DATABASES.into_iter().chain(files) {
            directory.write(name, text)?;
        }
        let bpffs = if keep {
            Bpffs::at(&directory.path.join("bpffs"))?
        } else {
            Bpffs::new()?
        };
        let lab = Lab::new(&LabConfig {
            naming,
            serve: !keep,
            ..LabConfig::default()
        })?;
        let mut stage = Self {
            servers: Vec::new(),
            lab,
            bpffs,
            directory,
        };
        if keep {
            stage.start_servers()?;
        }
        Ok(stage)
    }

    /// Where kordon is to run.
    pub(crate) fn place<'a>(&'a self, binary: &'a Path) -> Place<'a> {
        Place {
            namespace: &self.lab.router,
            directory: self.directory(),
            bpffs: self.bpffs.path(),
            binary,
        }
    }

    /// Where configuration and state are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// Servers that outlive this process.
    fn start_servers(&mut self) -> Result<()> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        for server in &self.lab.servers {
            let mut command = Command::new(&program);
            command
                .arg("serve")
                .arg(format!("this is {}", server.namespace.name()));
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            // Ctrl-C in the terminal is not for it.
            command.process_group(0);
            let child = server.namespace.spawn(&mut command)?;
            self.servers.push(ServerProcess { child, kept: false });
        }
        Ok(())
    }

    /// Leaves everything up. Returns what to tell the user.
    pub(crate) fn keep(&mut self, controller: Controller) -> Result<String> {
        let router = self.lab.router.name().to_owned();
        let socket = self.directory.path.join("kordon.sock");
        let kordon = controller.binary().display().to_string();
        let mut pids = vec![controller.pid()];
        pids.extend(self.servers.iter().map(|server| server.child.id()));
        let processes = pids
            .into_iter()
            .map(|pid| {
                let started = namespace::started(pid)
                    .with_context(|| format!("process {pid} of the demo has ended"))?;
                Ok(Process { pid, started })
            })
            .collect::<Result<_>>()?;
        let kept = serde_json::to_string(&Kept { processes }).context("cannot write JSON")?;
        self.directory.write("kept.json", &kept)?;
        controller.keep();
        for server in &mut self.servers {
            server.kept = true;
        }
        self.lab.keep();
        self.bpffs.keep();
        self.directory.kept = true;
        Ok(format!(
            "\nThe network is up. As a camera, and as the office:\n\
             \x20 ip netns exec {KEPT}-camera curl -m 2 http://8.8.8.8/\n\
             \x20 ip netns exec {KEPT}-camera curl -m 2 http://95.163.0.10/\n\
             \x20 ip netns exec {KEPT}-camera ping -c 3 2a0e:5383::10\n\
             \x20 ip netns exec {KEPT}-office curl -m 2 http://95.163.0.10/\n\
             The controller, its metrics and its log:\n\
             \x20 {kordon} status --socket {socket}\n\
             \x20 {kordon} block AS15169 --zone cameras --socket {socket}\n\
             \x20 {kordon} unblock AS15169 --zone cameras --socket {socket}\n\
             \x20 ip netns exec {router} curl http://127.0.0.1:9754/metrics\n\
             \x20 less {log}\n\
             What goes over the trunk, after kordon:\n\
             \x20 ip netns exec {router} tcpdump -eni trunk\n\
             To take it down:\n\
             \x20 cargo xtask demo --down",
            socket = socket.display(),
            log = self.directory.path.join("kordon.log").display(),
        ))
    }
}

impl Directory {
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn kept_directory() -> PathBuf {
    Path::new("/run").join(KEPT)
}

/// Takes down what [`Stage::keep`] left. Nothing there is no error.
pub(crate) fn down() -> Result<()> {
    let directory = kept_directory();
    let list = directory.join("kept.json");
    if let Ok(text) = fs::read_to_string(&list) {
        let kept: Kept = serde_json::from_str(&text)
            .with_context(|| format!("cannot read {}", list.display()))?;
        for Process { pid, started } in kept.processes {
            if namespace::started(pid) == Some(started) {
                let pid = i32::try_from(pid).context("process numbers are positive")?;
                // It may end in between.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
    let names = namespace::names(KEPT)?;
    for name in &names {
        namespace::delete(name);
    }
    if directory.exists() {
        let pins = directory.join("bpffs");
        if pins.exists() {
            bpffs::unmount(&pins);
        }
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    println!("took down {} namespaces", names.len());
    Ok(())
}

/// Serves until killed, in the namespace that the process was started in.
pub(crate) fn serve(greeting: &str) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))
        .with_context(|| format!("cannot listen on port {PORT}"))?;
    traffic::serve(&listener, greeting);
    Ok(())
}
