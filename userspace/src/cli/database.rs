//! `asndb`: from files, in a state directory, or in the daemon.

use std::{
    fs::File,
    io::{IsTerminal as _, Seek as _},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{
    arguments::{Asndb, AsndbImport, AsndbInfo, AsndbUpdate, Databases, Instance, Resolved},
    failure::{Failure, warn},
    output::Output,
    view,
};
use crate::{
    asn::{
        self, AsnDb,
        bundle::{PublicKey, is_bundle},
        fetch::{Progress, Transfer},
    },
    config,
    control::{
        client::{self, ClientError},
        protocol::Request,
    },
    daemon,
    diagnostic::{Diagnostics, quoted},
};

pub(super) fn asndb(command: Asndb, output: &mut Output) -> Result<(), Failure> {
    match command {
        Asndb::Info(arguments) => Ok(output.answer(&info(&arguments)?, view::database)?),
        Asndb::Import(arguments) => Ok(output.answer(&import(arguments)?, view::database)?),
        Asndb::Update(arguments) => {
            let value = update(arguments, output)?;
            Ok(output.answer(&value, view::database)?)
        }
        Asndb::Discard(arguments) => {
            let request = Request::AsndbDiscard;
            about_update(&arguments.instance, &request, "discarded", output)
        }
        Asndb::Acknowledge(arguments) => {
            let request = Request::AsndbAcknowledge;
            about_update(&arguments.instance, &request, "acknowledged", output)
        }
        Asndb::Export(arguments) => {
            let db = if arguments.databases.given() {
                arguments.databases.open()?
            } else {
                let snapshot = daemon::snapshot_path(&arguments.instance.resolve()?.state_dir);
                asn::load(&snapshot)?
            };
            let key = asn::bundle::export(&db, &arguments.file, &arguments.key)?;
            let value =
                json!({ "bundle": arguments.file.display().to_string(), "key": key.to_string() });
            Ok(output.answer(&value, |_| {
                format!("signed; routers take it with `keys = [\"{key}\"]` in `[asndb]`\n")
            })?)
        }
        Asndb::Keygen(arguments) => {
            let key = asn::bundle::keygen(&arguments.file)?;
            let value =
                json!({ "secret": arguments.file.display().to_string(), "key": key.to_string() });
            Ok(output.answer(&value, |_| format!("{key}\n"))?)
        }
        Asndb::Diff(arguments) => {
            let instance = arguments.instance.resolve()?;
            let mut databases = arguments.databases;
            databases.asn = [arguments.files, databases.asn].concat();
            let request = Request::AsndbDiff {
                asn: absolute(&databases.asn)?,
                countries: absolute(&databases.countries)?,
            };
            let value = client::ask_with(&instance.socket, &request, &opened(&databases)?)?;
            Ok(output.answer(&value, |value| view::difference(value, arguments.all))?)
        }
    }
}

/// What becomes of an update that is held back, or of its warnings.
fn about_update(
    instance: &Instance,
    request: &Request,
    what: &str,
    output: &mut Output,
) -> Result<(), Failure> {
    let value = client::ask(&instance.resolve()?.socket, request)?;
    Ok(output.answer(&value, |value| view::held(what, &value[what]))?)
}

/// Of files, else of a state directory that was named, else of the daemon, else of
/// the state directory where a daemon would look.
fn info(arguments: &AsndbInfo) -> Result<Value, Failure> {
    if arguments.databases.given() {
        return Ok(json!(arguments.databases.open()?.info()));
    }
    let instance = arguments.instance.resolve()?;
    let snapshot = daemon::snapshot_path(&instance.state_dir);
    let ask_nobody = arguments.instance.state_dir.is_some() && arguments.instance.socket.is_none();
    if !ask_nobody {
        match client::ask(&instance.socket, &Request::AsndbInfo) {
            Ok(value) => return Ok(value),
            Err(e) => {
                let failure = Failure::from(e);
                if !failure.no_daemon() || arguments.instance.socket.is_some() || !snapshot.exists()
                {
                    return Err(failure);
                }
            }
        }
    }
    let db = asn::load(&snapshot)?;
    Ok(json!(db.info()))
}

/// Whether a command is for the daemon at the socket: where only a state directory is named,
/// if it is that daemon's.
fn is_for_daemon(given: &Instance, instance: &Resolved) -> bool {
    if given.state_dir.is_none() || given.socket.is_some() {
        return true;
    }
    let Ok(status) = client::ask(&instance.socket, &Request::Status) else {
        return false;
    };
    let own = status["state"]["directory"].as_str().map(Path::new);
    let own = own.and_then(|own| own.canonicalize().ok());
    own.is_some() && own == instance.state_dir.canonicalize().ok()
}

/// What the daemon answers; `None`: none runs, so what it would do can be done here. Who may
/// not ask one that runs may not do it beside it.
fn unless_alone(
    answer: Result<Value, ClientError>,
    given: &Instance,
) -> Result<Option<Value>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ClientError::NoDaemon { .. }) if given.socket.is_none() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// By the daemon; where none runs, here, for the one that will.
fn update(arguments: AsndbUpdate, output: &Output) -> Result<Value, Failure> {
    let given = &arguments.instance;
    let instance = given.resolve()?;
    let accept = arguments.accept.is_some();
    let id = arguments.accept.flatten();
    let named = id.is_some();
    if is_for_daemon(given, &instance) {
        let socket = &instance.socket;
        let request = Request::AsndbUpdate { accept, id };
        let transfers = || {
            let answer = client::ask(socket, &Request::AsndbProgress).ok()?;
            serde_json::from_value(answer["sources"].clone()).ok()
        };
        match watch(output, || client::ask(socket, &request), transfers) {
            Err(e) if named => return Err(e.into()),
            answer => {
                if let Some(value) = unless_alone(answer, given)? {
                    return Ok(value);
                }
            }
        }
    }
    let (config, found) = config::load(&given.config_path());
    let Some(mut config) = config else {
        return Err(found.into());
    };
    config.state_dir = instance.state_dir;
    let progress = Progress::default();
    let transfers = || Some(progress.transfers());
    let (value, found) = watch(
        output,
        || daemon::update(&config, accept, &progress),
        transfers,
    )?;
    warn(&found);
    Ok(value)
}

/// Does something that fetches, and shows how its downloads go where somebody looks on.
fn watch<T: Send>(
    output: &Output,
    job: impl FnOnce() -> T + Send,
    transfers: impl Fn() -> Option<Vec<Transfer>>,
) -> T {
    if output.json || !std::io::stderr().is_terminal() {
        return job();
    }
    std::thread::scope(|scope| {
        let job = scope.spawn(job);
        let bars = MultiProgress::new();
        let mut shown: Vec<ProgressBar> = Vec::new();
        while !job.is_finished() {
            std::thread::sleep(Duration::from_millis(200));
            for (i, transfer) in transfers().into_iter().flatten().enumerate() {
                if shown.len() <= i {
                    let style = "{msg} {bytes} of {total_bytes}, {bytes_per_sec} {wide_bar}";
                    let bar = bars.add(ProgressBar::no_length());
                    if let Ok(style) = ProgressStyle::with_template(style) {
                        bar.set_style(style);
                    }
                    bar.set_message(transfer.url.clone());
                    shown.push(bar);
                }
                if let Some(total) = transfer.total {
                    shown[i].set_length(total);
                }
                shown[i].set_position(transfer.received);
                if transfer.done {
                    shown[i].abandon();
                }
            }
        }
        let _ = bars.clear();
        match job.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The daemon reads what whoever asks may read: files are opened here and passed.
fn opened(databases: &Databases) -> Result<Vec<File>, Failure> {
    let files = databases.asn.iter().chain(&databases.countries);
    files.map(|path| open(path)).collect()
}

fn open(path: &Path) -> Result<File, Failure> {
    let failed = |e: std::io::Error| {
        Failure::new(
            format!("cannot open {}: {e}", quoted(&path.display().to_string())),
            "check the path and its permissions",
        )
    };
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        return Ok(file);
    }
    // The daemon waits for no pipe.
    let mut copy = tempfile::tempfile().map_err(failed)?;
    std::io::copy(&mut file, &mut copy)
        .and_then(|_| copy.rewind())
        .map_err(failed)?;
    Ok(copy)
}

/// What files are called in messages, wherever the daemon is.
fn absolute(paths: &[PathBuf]) -> std::io::Result<Vec<String>> {
    let paths = paths.iter().map(std::path::absolute);
    paths.map(|p| Ok(p?.display().to_string())).collect()
}

fn import(arguments: AsndbImport) -> Result<Value, Failure> {
    let mut databases = arguments.databases;
    databases.asn = [arguments.files, databases.asn].concat();
    if !databases.given() {
        return Err(Failure::usage(
            "nothing to import",
            "name files: `kordon asndb import FILE…`, `--country-db FILE`",
        ));
    }
    if let Some(output) = arguments.output {
        let keys = arguments.instance.resolve()?.whole()?.keys;
        let (db, _) = read(&databases, &keys, arguments.unsigned)?;
        return write(&db, &output);
    }
    let instance = arguments.instance.resolve()?;
    let given = &arguments.instance;
    if is_for_daemon(given, &instance) {
        let request = Request::AsndbImport {
            asn: absolute(&databases.asn)?,
            countries: absolute(&databases.countries)?,
            accept: arguments.accept,
            unsigned: arguments.unsigned,
        };
        // From a pipe nothing comes twice.
        let files = match client::answers(&instance.socket) {
            true => opened(&databases)?,
            false => Vec::new(),
        };
        let answer = client::ask_with(&instance.socket, &request, &files);
        if let Some(value) = unless_alone(answer, given)? {
            return Ok(value);
        }
    }
    // No daemon: it will find this when it starts. Whose bundles are taken the
    // configuration says, so it has to be whole.
    let instance = instance.whole()?;
    let state = daemon::StateDir::open(&instance.state_dir).map_err(|e| {
        Failure::new(
            e.to_string(),
            "`--socket` names the socket of a daemon that runs",
        )
    })?;
    let (db, found) = read(&databases, &instance.keys, arguments.unsigned)?;
    let (concerns, left_out) = daemon::concerns(&state, &db, &found, instance.max_change);
    if !concerns.is_empty() && !arguments.accept {
        if let Some(what) = left_out {
            let message = format!("this is not imported: {what}");
            return Err(Failure::new(message, asn::gate::NAME_ALL));
        }
        let concerns: Vec<String> = concerns.into_iter().map(|c| c.message).collect();
        return Err(Failure::new(
            format!("this is not imported: {}", concerns.join("; ")),
            "the snapshot stays as it is; `--accept` imports it all the same",
        ));
    }
    write(&db, &state.snapshot())
}

fn read(
    databases: &Databases,
    keys: &[PublicKey],
    unsigned: bool,
) -> Result<(AsnDb, Diagnostics), Failure> {
    match databases.asn.iter().find(|file| is_bundle(file)) {
        Some(_) => Ok((databases.open_trusted(keys)?, Diagnostics::default())),
        None if !keys.is_empty() && !unsigned => Err(Failure::new(
            "this is not a signed bundle, and `keys` in `[asndb]` asks for one",
            "`kordon asndb export` makes one; `--unsigned` imports other files all the same",
        )),
        None => {
            let (db, found) = databases.read()?;
            warn(&found);
            Ok((db, found))
        }
    }
}

fn write(db: &AsnDb, snapshot: &Path) -> Result<Value, Failure> {
    asn::save(db, snapshot)?;
    let mut value = json!(db.info());
    value["snapshot"] = json!(snapshot.display().to_string());
    Ok(value)
}
