//! What the guest finds in `/data`: the capture, and for each database a policy and the
//! answers that this machine's kernel gives.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{CAPTURE, DATABASES, capture::capture};
use crate::{data, hostile};

pub(super) fn prepare(kordon: &Path, into: &Path) -> Result<()> {
    if into.exists() {
        fs::remove_dir_all(into).with_context(|| format!("cannot empty {}", into.display()))?;
    }
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = into.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write(CAPTURE, &capture()?)?;
    let csv = into.join("hostile.csv");
    fs::write(&csv, hostile::DATABASE)?;
    let whole = |name: &str| data::folder().join(format!("{name}.csv.zst"));
    let networks = hostile::POLICY.replace(
        "asns = [64500]",
        "asns = [64500, 4134, 12389, 12695, 16509]",
    );
    ensure!(networks != hostile::POLICY, "the policy names AS64500");
    for name in DATABASES {
        let (sources, countries, policy) = match name {
            "small" => (vec![csv.clone()], Vec::new(), hostile::POLICY),
            _ => (
                vec![whole("asn-ipv4"), whole("asn-ipv6")],
                vec![whole("asn-country-ipv4"), whole("asn-country-ipv6")],
                networks.as_str(),
            ),
        };
        if !sources.iter().chain(&countries).all(|file| file.is_file()) {
            // The guest says that it is not there.
            continue;
        }
        write(&format!("{name}.toml"), policy.as_bytes())?;
        import(
            kordon,
            &sources,
            &countries,
            &into.join(format!("{name}.db")),
        )?;
        let said = replay(kordon, into, name)
            .output()
            .with_context(|| format!("cannot start {}", kordon.display()))?;
        ensure!(
            said.status.success(),
            "this machine cannot replay the capture: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        write(&format!("{name}.expected"), &said.stdout)?;
    }
    fs::remove_file(&csv)?;
    Ok(())
}

/// A snapshot: the guest, which is slow, need not read the sources.
fn import(kordon: &Path, sources: &[PathBuf], countries: &[PathBuf], to: &Path) -> Result<()> {
    let mut command = Command::new(kordon);
    command.args(["asndb", "import", "--output"]).arg(to);
    command.args(sources);
    for file in countries {
        command.arg("--country-db").arg(file);
    }
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", kordon.display()))?;
    ensure!(
        output.status.success(),
        "cannot import the database: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The command that both sides run.
pub(super) fn replay(kordon: &Path, data: &Path, name: &str) -> Command {
    let mut command = Command::new(kordon);
    command.args(["replay", "--json", "--policy"]);
    command.arg(data.join(format!("{name}.toml")));
    command.arg("--asn-db").arg(data.join(format!("{name}.db")));
    for address in hostile::router().addresses {
        command.arg("--router-addr").arg(address.to_string());
    }
    command.arg(data.join(CAPTURE));
    command
}
