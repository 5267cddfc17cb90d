//! What the kernel holds for each map, as it says itself in `/proc/self/fdinfo`.
//! One generation is live; while another one is built beside it, a generation
//! and, if the database changed, a table are there twice.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::MapData;

use super::Measured;
use super::subject::{Subjects, data};

/// Every map of kordon's program, and the kernel's tries.
pub(super) fn measure(subjects: &Subjects) -> Result<Vec<Measured>> {
    let kordon = &subjects.kordon;
    let mut sizes = vec![
        ("table".to_owned(), held(&kordon.table.map)?),
        ("generation".to_owned(), held(&kordon.generation.map)?),
    ];
    sizes.extend(of_program(&kordon.ebpf, |_| true)?);
    let sum: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    sizes.push(("all".to_owned(), sum));
    sizes.extend(
        of_program(&subjects.bench.ebpf, |name| name.starts_with("TRIE"))?
            .into_iter()
            .map(|(name, bytes)| (format!("lpm/{name}"), bytes)),
    );
    Ok(sizes
        .into_iter()
        .map(|(case, bytes)| Measured::of("memory", case, "bytes", vec![bytes as f64]))
        .collect())
}

fn of_program(ebpf: &Ebpf, wanted: fn(&str) -> bool) -> Result<Vec<(String, u64)>> {
    let mut sizes = Vec::new();
    for (name, map) in ebpf.maps() {
        if let Some(data) = data(map)
            && wanted(name)
        {
            sizes.push((name.trim_start_matches('.').to_lowercase(), held(data)?));
        }
    }
    sizes.sort();
    Ok(sizes)
}

fn held(map: &MapData) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|bytes| bytes.trim().parse().ok())
        .with_context(|| format!("`{path}` does not say what memory the map holds"))
}

/// For people.
pub(super) fn print(rows: &[Measured]) {
    println!("{:<24} {:>12}", "map", "MB");
    for row in rows {
        println!("{:<24} {:>12.3}", row.case, row.median / 1e6);
    }
}
