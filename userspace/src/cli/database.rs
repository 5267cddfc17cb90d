//! `asndb`: from files, in a state directory, or in the daemon.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    Output,
    arguments::{Asndb, AsndbImport, AsndbInfo, Databases},
    failure::Failure,
    view,
};
use crate::{
    asn,
    control::{client, protocol::Request},
    daemon,
};

pub(super) fn asndb(command: Asndb, output: &mut Output) -> Result<(), Failure> {
    match command {
        Asndb::Info(arguments) => {
            let value = info(&arguments)?;
            Ok(output.answer(&value, view::database)?)
        }
        Asndb::Import(arguments) => {
            let value = import(arguments)?;
            Ok(output.answer(&value, view::database)?)
        }
        Asndb::Update(arguments) => {
            let instance = arguments.instance.resolve()?;
            let request = Request::AsndbUpdate {
                accept: arguments.accept,
            };
            let value = client::ask(&instance.socket, &request)?;
            Ok(output.answer(&value, view::database)?)
        }
        Asndb::Diff(arguments) => {
            let instance = arguments.instance.resolve()?;
            let asn = [arguments.files, arguments.databases.asn].concat();
            let request = Request::AsndbDiff {
                asn: absolute(&asn)?,
                countries: absolute(&arguments.databases.countries)?,
            };
            let value = client::ask(&instance.socket, &request)?;
            Ok(output.answer(&value, |value| view::difference(value, arguments.all))?)
        }
    }
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
    let db = asn::load(&snapshot).map_err(|e| Failure::new(e.to_string(), e.help()))?;
    Ok(json!(db.info()))
}

/// The daemon is in another folder.
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
        return write(&databases, &output);
    }
    let instance = arguments.instance.resolve()?;
    let given = &arguments.instance;
    if given.state_dir.is_none() || given.socket.is_some() {
        let request = Request::AsndbImport {
            asn: absolute(&databases.asn)?,
            countries: absolute(&databases.countries)?,
            accept: arguments.accept,
        };
        match client::ask(&instance.socket, &request) {
            Ok(value) => return Ok(value),
            Err(e) => {
                let failure = Failure::from(e);
                if !failure.no_daemon() || given.socket.is_some() {
                    return Err(failure);
                }
            }
        }
    }
    // No daemon: it will find this when it starts.
    let _lock = daemon::StateDir::open(&instance.state_dir).map_err(|e| {
        Failure::new(
            e.to_string(),
            "`--socket` names the socket of a daemon that runs",
        )
    })?;
    write(&databases, &daemon::snapshot_path(&instance.state_dir))
}

fn write(databases: &Databases, snapshot: &Path) -> Result<Value, Failure> {
    let db = databases.open()?;
    asn::save(&db, snapshot).map_err(|e| Failure::new(e.to_string(), e.help()))?;
    let mut value = json!(db.info());
    value["snapshot"] = json!(snapshot.display().to_string());
    Ok(value)
}
