//! Users of a router: who may ask, who may change things, and what those cost who are
//! silent, slow or curious.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    router::Router,
};
use nix::unistd::Group;
use serde_json::Value;

/// Groups that are on every machine, and users who are in none of them.
const CHANGE: &str = "daemon";
const READ: &str = "games";
const USER: u32 = 65_534;
const ANOTHER: u32 = 65_533;

/// Tells the helper below which socket it is to hold connections to.
const HOLD: &str = "KORDON_TEST_HOLD";

/// A router whose folder everybody may look into, with programs that everybody may run.
struct Place {
    router: Router,
    kordon: PathBuf,
    helper: PathBuf,
}

impl Place {
    fn new(name: &str, binary: PathBuf) -> Result<Self> {
        let router = Router::new(name, binary.clone())?;
        let folder = router.path("");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let configuration = fs::read_to_string(router.path("kordon.toml"))?;
        let control = format!("[control]\ngroup = \"{CHANGE}\"\nread_group = \"{READ}\"\n");
        router.write("kordon.toml", configuration + &control)?;
        let copy = |from: &Path, name: &str| -> Result<PathBuf> {
            let to = router.path(name);
            fs::copy(from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
            Ok(to)
        };
        let kordon = copy(&binary, "kordon-of-users")?;
        let helper = copy(&env::current_exe()?, "helper")?;
        Ok(Self {
            router,
            kordon,
            helper,
        })
    }

    /// A command as a member of a group.
    fn as_member(&self, group: &str, arguments: &[&str]) -> Result<Output> {
        self.as_user(USER, group, arguments)
    }

    fn as_user(&self, user: u32, group: &str, arguments: &[&str]) -> Result<Output> {
        let group = Group::from_name(group)?.context("every machine has it")?;
        let mut command = Command::new(&self.kordon);
        command.args(arguments).arg("--json").stdin(Stdio::null());
        command.arg("--socket").arg(self.router.path("kordon.sock"));
        command.current_dir("/").uid(user).gid(group.gid.as_raw());
        command
            .output()
            .context("cannot run kordon as another user")
    }

    /// Holds silent, slow and never-reading connections as a member of a group.
    fn hold(&self, group: &str, socket: &str) -> Result<Held> {
        let group = Group::from_name(group)?.context("every machine has it")?;
        let mut command = Command::new(&self.helper);
        command.args(["--exact", "holds_connections", "--ignored", "--nocapture"]);
        command.env(HOLD, self.router.path(socket));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/").uid(USER).gid(group.gid.as_raw());
        Ok(Held(command.spawn()?))
    }
}

struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: another user's process, for the tests below.
#[test]
#[ignore = "a helper of the other tests"]
fn holds_connections() {
    let Some(socket) = env::var_os(HOLD) else {
        return;
    };
    let end = Instant::now() + Duration::from_secs(60);
    let mut held: Vec<UnixStream> = Vec::new();
    while Instant::now() < end {
        // Connections that were cut off are made again.
        if let Ok(mut stream) = UnixStream::connect(&socket) {
            match held.len() % 3 {
                0 => {}
                1 => drop(stream.write_all(b"{")),
                // And never reads the answer.
                _ => drop(stream.write_all(b"{\"version\":2,\"request\":{\"do\":\"status\"}}\n")),
            }
            held.push(stream);
        }
        if held.len() > 100 {
            held.remove(0);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn said(output: &Output) -> String {
    let stream = |bytes| String::from_utf8_lossy(bytes).into_owned();
    stream(&output.stdout) + &stream(&output.stderr)
}

#[test]
fn who_may_do_what() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let place = Place::new("rights", binary)?;
    let (controller, _) = Controller::start(&place.router.place())?;
    for arguments in [
        &["status"][..],
        &["history"],
        &["lookup", "AS64500"],
        &[
            "explain",
            "--vlan",
            "20",
            "--src",
            "10.20.0.5",
            "--dst",
            "198.51.100.9",
        ],
        &["asndb", "info"],
    ] {
        for group in [CHANGE, READ] {
            let output = place.as_member(group, arguments)?;
            ensure!(
                output.status.success(),
                "{group} {arguments:?}: {}",
                said(&output)
            );
            let _: Value = serde_json::from_slice(&output.stdout)?;
        }
        let output = place.as_member("nogroup", arguments)?;
        ensure!(output.status.code() == Some(3), "{}", said(&output));
        ensure!(
            said(&output).contains("permission denied"),
            "{}",
            said(&output)
        );
    }
    // As a service manager gives groups that the list of users does not have.
    for (group, code) in [(READ, 0), ("nogroup", 3)] {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={USER}"))
            .arg("--regid=nogroup");
        command.arg(format!("--groups={group}")).arg(&place.kordon);
        command.args(["status", "--json", "--socket"]);
        command
            .arg(place.router.path("kordon.sock"))
            .current_dir("/");
        let output = command.output()?;
        ensure!(
            output.status.code() == Some(code),
            "{group}: {}",
            said(&output)
        );
    }
    let before = controller.cli(&["status"])?["policy"].clone();
    let policy = place.router.path("policy.toml");
    let table = place.router.path("asn.csv");
    for path in [&policy, &table] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    }
    let (policy, table) = (policy.to_string_lossy(), table.to_string_lossy());
    for arguments in [
        &["block", "AS64501", "--zone", "cameras"][..],
        &["apply", &policy],
        &["rollback"],
        &["asndb", "import", &table],
        &["asndb", "diff", &table],
        &["asndb", "update"],
        &["detach", "--yes"],
    ] {
        let output = place.as_member(READ, arguments)?;
        let said = said(&output);
        ensure!(output.status.code() == Some(1), "{arguments:?}: {said}");
        ensure!(
            said.contains("is more than a question"),
            "{arguments:?}: {said}"
        );
    }
    assert_eq!(controller.cli(&["status"])?["policy"], before);

    // Who may change things reads what he may read, and no more.
    let output = place.as_member(CHANGE, &["asndb", "import", &table])?;
    ensure!(output.status.success(), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(answer["sources"][0]["file"], *table);
    const SECRET: &str = "root:$y$j9T$abcdef";
    place
        .router
        .write("shadow", format!("{SECRET}:19000:0:99999:7:::\n"))?;
    let shadow = place.router.path("shadow");
    fs::set_permissions(&shadow, fs::Permissions::from_mode(0o600))?;
    let shadow = shadow.to_string_lossy();
    for arguments in [["asndb", "import", &shadow], ["asndb", "diff", &shadow]] {
        let output = place.as_member(CHANGE, &arguments)?;
        let said = said(&output);
        ensure!(output.status.code() == Some(1), "{said}");
        ensure!(said.contains("Permission denied"), "{said}");
        ensure!(!said.contains(SECRET), "{said}");
    }
    // A client of one's own names the file all the same.
    let mut stream = UnixStream::connect(place.router.path("kordon.sock"))?;
    for name in ["import", "diff"] {
        let request = format!(
            "{{\"version\":2,\"request\":{{\"do\":\"asndb-{name}\",\"asn\":[\"{shadow}\"],\"countries\":[]}}}}\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = [0; 4096];
        let count = stream.read(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer[..count]);
        ensure!(answer.contains("1 files are named, and 0 came"), "{answer}");
        ensure!(!answer.contains(SECRET), "{answer}");
    }
    // From a pipe, as before.
    let script = format!(
        "cat {table} | {} asndb import /dev/stdin --json --socket {}",
        place.kordon.display(),
        place.router.path("kordon.sock").display()
    );
    let output = Command::new("sh")
        .args([OsStr::new("-c"), script.as_ref()])
        .output()?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(())
}

/// What helps who may not do it: never the group of root, and never the disk.
#[test]
fn cures_of_who_may_not() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let place = Place::new("cures", binary)?;
    let configuration = fs::read_to_string(place.router.path("kordon.toml"))?;
    let configuration = configuration
        .replace(CHANGE, "kordon-test-nowhere")
        .replace(READ, "kordon-test-nowhere-either");
    place.router.write("kordon.toml", configuration)?;
    let (controller, _) = Controller::start(&place.router.place())?;
    let output = place.as_member(READ, &["status"])?;
    let denied = said(&output);
    ensure!(output.status.code() == Some(3), "{denied}");
    ensure!(!denied.contains("`root`"), "{denied}");
    ensure!(denied.contains("groupadd --system kordon"), "{denied}");
    drop(controller);

    // By the socket that the configuration has, which is how a daemon is found by itself.
    let socket = place.router.path("kordon.sock");
    let configuration = fs::read_to_string(place.router.path("kordon.toml"))?
        .replace("kordon-test-nowhere-either", READ)
        .replace("kordon-test-nowhere", CHANGE);
    let configuration = format!("{configuration}socket = \"{}\"\n", socket.display());
    place.router.write("kordon.toml", configuration)?;
    let (_controller, _) = Controller::start(&place.router.place())?;
    let path = |name: &str| place.router.path(name).to_string_lossy().into_owned();
    for name in ["kordon.toml", "asn.csv"] {
        fs::set_permissions(place.router.path(name), fs::Permissions::from_mode(0o644))?;
    }
    for arguments in [
        &["asndb", "update"][..],
        &["asndb", "import", &path("asn.csv")],
    ] {
        let mut command = Command::new(&place.kordon);
        command
            .args(arguments)
            .args(["--config", &path("kordon.toml")]);
        let group = Group::from_name("nogroup")?.context("every machine has it")?;
        command.current_dir("/").uid(USER).gid(group.gid.as_raw());
        let output = command.output()?;
        let denied = said(&output);
        ensure!(output.status.code() == Some(3), "{arguments:?}: {denied}");
        ensure!(
            denied.contains(&format!("its group `{CHANGE}`")),
            "{denied}"
        );

        // Its state folder names the daemon as well as its socket does.
        let mut command = Command::new(&place.kordon);
        command
            .args(arguments)
            .args(["--config", &path("kordon.toml")]);
        let output = command.args(["--state-dir", &path("state")]).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    Ok(())
}

#[test]
fn silent_and_slow_users_delay_nobody() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let place = Place::new("idle", binary)?;
    let (controller, _) = Controller::start(&place.router.place())?;
    let quiet = Instant::now();
    controller.cli(&["status"])?;
    let quiet = quiet.elapsed();
    let _held = [
        place.hold(CHANGE, "kordon.sock")?,
        place.hold(READ, "kordon-read.sock")?,
    ];
    // And root's own.
    let idle: Vec<UnixStream> = (0..150)
        .map(|_| UnixStream::connect(place.router.path("kordon.sock")))
        .collect::<Result<_, _>>()?;
    let scrapers: Vec<TcpStream> = place.router.wire.namespace.run(|| {
        let scraper = |n: usize| -> Result<TcpStream> {
            let mut stream = TcpStream::connect("127.0.0.1:9754")?;
            if n.is_multiple_of(2) {
                stream.write_all(b"GET /metrics HT")?;
            }
            Ok(stream)
        };
        (0..100).map(scraper).collect()
    })?;
    thread::sleep(Duration::from_secs(1));
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let start = Instant::now();
        controller.cli(&["status"])?;
        controller.cli(&["block", "AS64501", "--zone", "cameras"])?;
        controller.cli(&["unblock", "AS64501", "--zone", "cameras"])?;
        Metrics::scrape(&place.router.wire.namespace)?;
        slowest = slowest.max(start.elapsed());
    }
    println!("four commands took {slowest:?} at most; `status` alone {quiet:?} before");
    ensure!(slowest < Duration::from_secs(9), "{slowest:?}");
    // Other members have a place, too.
    for _ in 0..10 {
        let output = place.as_user(ANOTHER, READ, &["status"])?;
        ensure!(output.status.success(), "{}", said(&output));
    }
    drop((idle, scrapers));
    Ok(())
}

#[test]
fn detach_takes_off_the_instance_that_is_named() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("named", binary.clone())?;
    let other = kordon_tests::lab::Bpffs::new()?;
    let (controller, _) = Controller::start(&router.place())?;
    fs::create_dir(router.place().bpffs.join("vault"))?;
    let (mine, others) = (
        router.place().bpffs.to_string_lossy(),
        other.path().to_string_lossy(),
    );
    // Pins of another instance, by the socket of this one.
    let output = controller
        .command(&["detach", "--yes", "--bpffs", &others])
        .output()?;
    ensure!(
        said(&output).contains("this daemon has its pins at"),
        "{}",
        said(&output)
    );
    // A socket where nobody listens says nothing of pins.
    let mut command = Command::new(&binary);
    command
        .args(["detach", "--yes", "--socket"])
        .arg(router.path("none.sock"));
    let output = command.output()?;
    ensure!(output.status.code() == Some(3), "{}", said(&output));
    ensure!(
        said(&output).contains("whose pins are meant"),
        "{}",
        said(&output)
    );
    ensure!(controller.cli(&["status"])?["enforcing"] == true);
    let answer = controller.cli(&["detach", "--yes", "--bpffs", &mine])?;
    let left = format!("{mine}/vault");
    assert_eq!(answer["left"], serde_json::json!([left]));
    ensure!(Path::new(&left).exists() && !router.place().bpffs.join("counters").exists());
    Ok(())
}
