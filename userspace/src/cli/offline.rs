//! `check` and `lookup`.

use std::io::{self, Write as _};

use serde_json::Value;

use super::{
    arguments::{Check, Databases, Lookup},
    failure::{Failure, warn},
    output::{Output, colour},
    view,
};
use crate::{
    asn::{self, AsnDb},
    compile::{directory::Directory, generation::Environment},
    control::{client, protocol::Request},
    diagnostic::{Diagnostic, Diagnostics},
    judge::Image,
    lookup,
    policy::{self, Bundle, Context, Overlay, Policy},
};

impl Databases {
    pub(super) fn given(&self) -> bool {
        !(self.asn.is_empty() && self.countries.is_empty())
    }

    pub(super) fn read(&self) -> Result<(AsnDb, Diagnostics), asn::ImportError> {
        let options = asn::Options {
            combine: self.combine,
            min_peers: self.min_peers,
            add_vrps: self.add_vrps,
            salvage: false,
        };
        asn::open_with(&self.asn, &self.countries, &options)
    }

    /// Reads a bundle that one of these has signed.
    pub(super) fn open_trusted(&self, keys: &[asn::bundle::PublicKey]) -> Result<AsnDb, Failure> {
        let options = asn::Options::default();
        let (db, _) = asn::bundle::open_trusted(&self.asn, &self.countries, &options, keys)?;
        Ok(db)
    }

    /// Reads them; what was wrong with single rows is said on standard error.
    pub(super) fn open(&self) -> Result<AsnDb, Failure> {
        if !self.given() {
            return Ok(AsnDb::default());
        }
        let (db, found) = self.read()?;
        warn(&found);
        Ok(db)
    }
}

/// The policy, with nothing said where nothing is wrong.
pub(super) fn load_policy(path: &std::path::Path, db: &AsnDb) -> Result<Policy, Failure> {
    let bundle = Bundle::read(path).map_err(Diagnostics::from)?;
    let (policy, mut found) = policy::parse(&bundle, &Overlay::default(), &Context::now(Some(db)));
    policy.ok_or_else(|| {
        found.warnings.clear();
        Failure::found(found, Some(&bundle))
    })
}

pub(super) fn check(arguments: &Check, output: &mut Output) -> Result<(), Failure> {
    let policy = match &arguments.policy {
        Some(policy) => policy.clone(),
        None => arguments.instance.resolve()?.whole()?.policy()?,
    };
    let mut found = Diagnostics::default();
    let db = match arguments.databases.read() {
        _ if !arguments.databases.given() => None,
        Ok((db, wrong)) => {
            found.extend(wrong);
            Some(db)
        }
        Err(e) => {
            found.extend(e.0);
            None
        }
    };
    let mut counts = (0, 0);
    let bundle = match Bundle::read(&policy) {
        Ok(bundle) => {
            let context = Context::now(db.as_ref());
            let (policy, wrong) = policy::parse(&bundle, &Overlay::default(), &context);
            found.extend(wrong);
            if let (Some(policy), Some(db)) = (&policy, &db)
                && let Err(e) = Image::compile(
                    policy,
                    db,
                    &Environment::default(),
                    &mut Directory::default(),
                )
            {
                let help = "a policy that does not fit cannot be applied; make it smaller";
                let refused = Diagnostic::of_file(&bundle.file, e.to_string(), help);
                found.errors.push(refused);
            }
            counts = policy.map_or((0, 0), |p| (p.zones.len(), p.rules.len()));
            Some(bundle)
        }
        Err(e) => {
            found.errors.push(e);
            None
        }
    };
    if output.json {
        writeln!(output.out, "{}", found.json())?;
    } else {
        let source = |file: &str| bundle.as_ref().and_then(|bundle| bundle.source(file));
        // Nobody reads it where it cannot be written.
        let _ = io::stderr().write_all(found.render(source, colour()).as_bytes());
        if found.ok() {
            let (zones, rules) = counts;
            writeln!(
                output.out,
                "{} is good: {}, {}{}",
                policy.display(),
                view::counted(zones as u64, "zone"),
                view::counted(rules as u64, "rule"),
                match found.warnings.len() as u64 {
                    0 => String::new(),
                    count => format!(", {}", view::counted(count, "warning")),
                }
            )?;
        }
    }
    if found.ok() {
        Ok(())
    } else {
        Err(Failure::said())
    }
}

pub(super) fn lookup(arguments: Lookup, output: &mut Output) -> Result<(), Failure> {
    let value: Value = if arguments.databases.given() {
        {
            let limit = arguments.limit.unwrap_or(lookup::LIMIT);
            lookup::lookup(&arguments.databases.open()?, &arguments.query, limit)?
        }
    } else {
        let socket = arguments.instance.resolve()?.socket;
        let (query, limit) = (arguments.query, arguments.limit);
        client::ask(&socket, &Request::Lookup { query, limit })?
    };
    Ok(output.answer(&value, view::lookup)?)
}
