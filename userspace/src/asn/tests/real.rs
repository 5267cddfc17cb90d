//! The whole Internet, where the data is at hand.

use std::time::Instant;

use super::*;

/// Folder with real data, or why the test is skipped.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("KORDON_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    if folder.join("asn-ipv4.csv.zst").is_file() {
        return Some(folder);
    }
    println!(
        "SKIPPED: no asn-ipv4.csv.zst in `{}`; set KORDON_TEST_DATA",
        folder.display()
    );
    None
}

#[test]
fn the_whole_internet() {
    let Some(data) = data() else { return };
    let start = Instant::now();
    let (db, found) = import(
        &[data.join("asn-ipv4.csv.zst"), data.join("asn-ipv6.csv.zst")],
        &[
            data.join("asn-country-ipv4.csv.zst"),
            data.join("asn-country-ipv6.csv.zst"),
        ],
    )
    .unwrap();
    println!("import {:?}", start.elapsed());
    let start = Instant::now();
    let info = db.info();
    println!(
        "info {:?}: {info:#?}\nwarnings {:#?}",
        start.elapsed(),
        found.warnings
    );
    assert!(info.ipv4.prefixes > 500_000 && info.ipv6.prefixes > 150_000);
    assert!(info.asns > 80_000);

    let folder = Folder::new();
    let path = folder.0.join("asn.db");
    let start = Instant::now();
    save(&db, &path).unwrap();
    println!(
        "save {:?}, {} bytes",
        start.elapsed(),
        std::fs::metadata(&path).unwrap().len()
    );
    let start = Instant::now();
    let again = load(&path).unwrap();
    println!("load {:?}", start.elapsed());
    assert!(again == db);

    // Every row's ends and their neighbours against a scan is for the
    // compiled form to do; here a sample, against all rows.
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let row = db.rows_v4[random.usize(..db.rows_v4.len())];
        for addr in [row.start, row.end, row.end.wrapping_add(1), random.u32(..)] {
            let covering: Vec<_> = db
                .rows_v4
                .iter()
                .filter(|row| row.start <= addr && addr <= row.end)
                .collect();
            let mut expected: Vec<u32> = covering
                .iter()
                .filter(|row| {
                    !covering.iter().any(|other| {
                        (other.start, other.end) != (row.start, row.end)
                            && other.start >= row.start
                            && other.end <= row.end
                    })
                })
                .map(|row| row.asn)
                .collect();
            expected.sort_unstable();
            let addr = std::net::IpAddr::from(std::net::Ipv4Addr::from(addr));
            assert_eq!(db.origins_at(addr), expected, "{addr}");
        }
    }
    let start = Instant::now();
    println!("{:?} {:?}", lookup(&db, "1.1.1.1"), start.elapsed());
    println!("{:?}", lookup(&db, "2001:200::1"));
    println!("AS12695 {:?}", db.prefixes_of(12695));
}
