//! What the kernel holds for each map, as it says itself in `/proc/self/fdinfo`.
//! One generation is live; while another one is built beside it, a generation
//! and, if the database changed, a table are there twice.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Map, MapData};

use super::measured::{Measured, Values};
use super::subject::{Bench, Kordon, Subjects, data};

/// Routers that the counters' memory is stated for.
const PROCESSORS: [u64; 3] = [2, 16, 128];

/// Every map of kordon's program, and the tables of others.
pub(super) fn measure(subjects: &Subjects) -> Result<Vec<Measured>> {
    let mut values = Values::default();
    let mut note = |case: String, bytes: u64| values.note(case, "MB", bytes as f64 / 1e6);
    let kordon = &subjects.kordon;
    let (sizes, per_processor) = of_kordon(kordon)?;
    let shared: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let (large, small): (Vec<_>, Vec<_>) = sizes.iter().partition(|(_, bytes)| *bytes >= LARGE);
    for (name, bytes) in large {
        note(format!("kordon/{name}"), *bytes);
    }
    let small = small.iter().map(|(_, bytes)| bytes).sum();
    note("kordon/other-maps".to_owned(), small);
    note("kordon/live".to_owned(), shared);
    for count in PROCESSORS {
        note(format!("kordon/per-cpu/{count}"), per_processor * count);
        note(
            format!("kordon/live-and-per-cpu/{count}"),
            shared + per_processor * count,
        );
    }
    if let Some(bench) = &subjects.bench {
        for (name, bytes) in of_bench(bench)? {
            note(name, bytes);
        }
    }
    Ok(values.measured("memory"))
}

/// Maps that hold less are told together.
const LARGE: u64 = 100_000;

/// The maps of kordon's program that processors share, and bytes that each processor adds, as computed from
/// the sizes of values: the kernel keeps eight bytes aligned.
fn of_kordon(kordon: &Kordon) -> Result<(Vec<(String, u64)>, u64)> {
    let mut sizes = vec![
        ("table".to_owned(), held(&kordon.table.map)?),
        ("generation".to_owned(), held(&kordon.generation.map)?),
        ("planes".to_owned(), held(&kordon.planes.map)?),
    ];
    let mut per_processor = 0;
    for (name, map) in kordon.ebpf.maps() {
        let Some(data) = data(map) else { continue };
        if let Map::PerCpuArray(_) = map {
            let info = data.info().context("cannot read map information")?;
            let value = u64::from(info.value_size()).next_multiple_of(8);
            per_processor += value * u64::from(info.max_entries());
        } else {
            sizes.push((name.trim_start_matches('.').to_lowercase(), held(data)?));
        }
    }
    sizes[3..].sort();
    Ok((sizes, per_processor))
}

fn of_bench(bench: &Bench) -> Result<Vec<(String, u64)>> {
    let mut sizes = Vec::new();
    for name in ["TRIE4", "TRIE6"] {
        sizes.push((
            format!("lpm/{}", name.to_lowercase()),
            of_map(&bench.ebpf, name)?,
        ));
    }
    let [first, second] = &bench.dir;
    sizes.push((
        "dir-24-8".to_owned(),
        held(&first.map)? + held(&second.map)?,
    ));
    Ok(sizes)
}

fn of_map(ebpf: &Ebpf, name: &str) -> Result<u64> {
    let map = ebpf.map(name).and_then(data);
    held(map.with_context(|| format!("no map `{name}`"))?)
}

fn held(map: &MapData) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|bytes| bytes.trim().parse().ok())
        .with_context(|| format!("`{path}` does not say what memory the map holds"))
}
