//! From ranges to a live generation, step by step: what an administrator or a new
//! database waits for. Each step is timed where it happens, in this process.

use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use kordon::asn::{self, AsnDb};
use kordon::compile::directory::Directory;
use kordon::compile::generation::{Rules, compile};
use kordon::compile::partition::{Partition, partition_key};
use kordon::compile::table::{FlatTable, choose_tier};
use kordon::datapath::kernel::Datapath;
use kordon::policy::{Policy, policy_hash};
use kordon::prove::{Budget, Claim, prove};

use super::Wanted;
use super::internet::{Internet, parsed, policy_text};
use super::measured::{Measured, Values};
use super::table::Table;
use crate::lab::Bpffs;

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Measures all steps, with a new table and with the one that is live.
pub(super) fn measure(
    table: &Table,
    internet: &Internet,
    wanted: Wanted<'_>,
) -> Result<Vec<Measured>> {
    let bpffs = Bpffs::new()?;
    let mut values = Values::default();
    let mut datapath = Datapath::open(bpffs.path(), None)?;
    let more = internet.db.asns.iter().map(|(asn, _)| *asn);
    let more = more
        .filter(|asn| !internet.blocked.contains(asn))
        .nth(1000.min(internet.db.asns.len() / 3))
        .context("the policy blocks every ASN there is")?;
    let more = parsed(
        &internet.db,
        &policy_text(1, &[&internet.blocked[..], &[more]].concat(), &[]),
    )?;
    // The first one pays for loading the program that proves.
    let mut builder = Builder {
        internet,
        datapath: &mut datapath,
        key: 0,
    };
    builder.whole(&mut Values::default())?;
    for round in 0..wanted.rounds {
        if round % 8 == 0 {
            let start = Instant::now();
            let (db, _) = asn::import(&table.files, &[])?;
            values.note("import", "ms", ms(start));
            ensure!(db.v4 == internet.db.v4, "the table changed on the disk");
        }
        stored(&internet.db, &mut values)?;
        builder.whole(&mut values)?;
        builder.incremental(&mut values, &more)?;
    }
    Ok(values.measured("build"))
}

/// The database to disk, and back as a start reads it.
fn stored(db: &AsnDb, values: &mut Values) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let path = folder.path().join("asndb.snapshot");
    let start = Instant::now();
    asn::save(db, &path)?;
    values.note("snapshot/save", "ms", ms(start));
    let all = Instant::now();
    let opened = asn::snapshot::open(&path)?;
    values.note("snapshot/map", "ms", ms(all));
    let start = Instant::now();
    let verified = opened.verify()?;
    values.note("snapshot/check", "ms", ms(start));
    let start = Instant::now();
    let again = verified.database()?;
    values.note("snapshot/database", "ms", ms(start));
    values.note("snapshot/load", "ms", ms(all));
    ensure!(again == *db, "a snapshot did not come back as it was");
    Ok(())
}

struct Builder<'a> {
    internet: &'a Internet,
    datapath: &'a mut Datapath,
    /// Makes each table another one than what is live.
    key: u64,
}

impl Builder<'_> {
    /// Everything anew, as after an import.
    fn whole(&mut self, values: &mut Values) -> Result<()> {
        let Internet {
            policy,
            db,
            environment,
            ..
        } = self.internet;
        self.key += 1;
        let all = Instant::now();
        let start = Instant::now();
        let partition = Partition::new(policy, db, &environment.router)?;
        values.note("whole/partition", "ms", ms(start));
        let start = Instant::now();
        let table = FlatTable::build(&partition)?;
        values.note("whole/table", "ms", ms(start));
        self.publish(values, "whole", policy, &partition, &table)?;
        values.note("whole/ranges-to-live", "ms", ms(all));
        // The daemon does it then, so that the next change finds it.
        let start = Instant::now();
        self.datapath.warm_editor()?;
        values.note("whole/free-places", "ms", ms(start));
        Ok(())
    }

    /// One more ASN over the table that is live, and back.
    fn incremental(&mut self, values: &mut Values, more: &Policy) -> Result<()> {
        let Internet { policy, image, .. } = self.internet;
        for policy in [more, policy] {
            let start = Instant::now();
            self.publish(values, "rules", policy, &image.partition, &image.table)?;
            values.note("rules/to-live", "ms", ms(start));
        }
        Ok(())
    }

    fn compiled(&self, policy: &Policy, partition: &Partition) -> Result<(Rules, Directory)> {
        let Internet {
            db, environment, ..
        } = self.internet;
        let mut directory: Directory = self.datapath.directory().clone();
        let mut rules = compile(policy, db, environment, partition, &mut directory)?;
        rules.fixed.hash = policy_hash(policy);
        rules.fixed.table_key = partition_key(policy, &self.key.to_le_bytes(), &environment.router);
        Ok((rules, directory))
    }

    fn publish(
        &mut self,
        values: &mut Values,
        what: &str,
        policy: &Policy,
        partition: &Partition,
        table: &FlatTable,
    ) -> Result<()> {
        let start = Instant::now();
        let (mut rules, directory) = self.compiled(policy, partition)?;
        values.note(format!("{what}/generation"), "ms", ms(start));
        let tier = choose_tier(&table.usage())?;
        let live = self.datapath.live();
        let budget = match live {
            Some(live) if live.table_key == rules.fixed.table_key => Budget::Rules,
            _ => Budget::Table,
        };
        let claim = claim(self.internet, policy, &directory);
        let mut proven = 0.0;
        let start = Instant::now();
        let published = self
            .datapath
            .publish(&mut rules, table, tier, &directory, &mut |prober| {
                let start = Instant::now();
                let outcome = prove(&claim, budget, prober).map(drop);
                proven = ms(start);
                outcome
            })
            .map_err(|error| anyhow!("cannot make the generation live: {error}"))?;
        let took = ms(start);
        ensure!(
            published.table_written == (budget == Budget::Table),
            "a table was written where none should be, or not where one should"
        );
        let swap = published.swap.as_secs_f64() * 1e3;
        values.note(format!("{what}/proof"), "ms", proven);
        values.note(format!("{what}/swap"), "ms", swap);
        values.note(format!("{what}/write"), "ms", took - proven - swap);
        Ok(())
    }
}

/// What is proven of rules.
fn claim<'a>(internet: &'a Internet, policy: &'a Policy, directory: &'a Directory) -> Claim<'a> {
    Claim {
        policy,
        db: &internet.db,
        environment: &internet.environment,
        directory,
        changed: &[],
    }
}
