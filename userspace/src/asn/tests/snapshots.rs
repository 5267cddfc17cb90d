//! Snapshots: what is written comes back, and nothing else is taken for it.

use super::*;

fn open(files: &[PathBuf]) -> Result<(AsnDb, Diagnostics), ImportError> {
    open_with(files, &[], &Options::default())
}

fn sample() -> AsnDb {
    db(
        &[
            "1.0.0.0,1.0.0.255,1,Ünö\n1.0.0.0,1.0.0.255,2,\n2001:db8::,2001:db8::f,3,C\n",
            "1.0.0.0\t1.0.255.255\t4\tRU\tD\n",
            "ORG-A|20260101|Org A|NO|RIPE\n4|20260101|D|ORG-A|x|RIPE\n",
            "ASN,IP Prefix,Max Length,Trust Anchor\nAS4,1.0.0.0/16,24,x\nAS3,2001:db8::/32,48,x\n",
        ],
        &["1.0.0.0,1.0.0.255,AU\n2001:db8::,2001:db8::f,NO\n"],
    )
}

#[test]
fn comes_back_as_it_was() {
    let folder = Folder::new();
    let path = folder.0.join("asn.db");
    for db in [sample(), AsnDb::default()] {
        save(&db, &path).unwrap();
        assert!(is_snapshot(&path));
        assert_eq!(load(&path).unwrap(), db);
        assert_eq!(open(std::slice::from_ref(&path)).unwrap().0, db);
    }
}

#[test]
fn cut_or_changed_anywhere_it_is_refused() {
    let folder = Folder::new();
    let path = folder.0.join("asn.db");
    save(&sample(), &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for size in 0..bytes.len() {
        let cut = folder.file("cut", &bytes[..size]);
        let error = load(&cut).expect_err("cut");
        let expected = match size {
            0..8 => "is not a snapshot of kordon",
            8..24 => "bytes instead of 24",
            _ => "bytes instead of",
        };
        assert!(error.to_string().contains(expected), "{size}: {error}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let changed = folder.file("changed", changed);
        assert!(load(&changed).is_err(), "byte {at}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let error = load(&folder.file("longer", longer)).expect_err("longer");
    assert!(error.to_string().contains("bytes instead of"), "{error}");

    let mut other = bytes;
    other[8] = 9;
    let error = load(&folder.file("other", other)).expect_err("version");
    assert!(
        error
            .to_string()
            .ends_with("has version 9, this kordon reads version 2"),
        "{error}"
    );
    assert!(error.help.contains("asndb import"));
}

#[test]
fn the_previous_one_is_kept_unless_it_is_damaged() {
    let folder = Folder::new();
    let path = folder.0.join("asn.db");
    let previous = previous_path(&path);
    let numbered = |imported| AsnDb {
        imported,
        ..sample()
    };
    save(&numbered(1), &path).unwrap();
    assert!(!previous.exists());
    save(&numbered(2), &path).unwrap();
    save(&numbered(3), &path).unwrap();
    assert_eq!(load(&path).unwrap().imported, 3);
    assert_eq!(load(&previous).unwrap().imported, 2);

    std::fs::write(&path, b"kordonDB and then nothing of use").unwrap();
    save(&numbered(4), &path).unwrap();
    assert_eq!(load(&path).unwrap().imported, 4);
    assert_eq!(load(&previous).unwrap().imported, 2);

    let names: Vec<_> = std::fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(names.len(), 2, "temporary files stay behind: {names:?}");
}

#[test]
fn a_failed_save_changes_nothing_and_names_the_file() {
    let folder = Folder::new();
    let error = save(&sample(), &folder.0.join("no/asn.db")).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot create snapshot"),
        "{error}"
    );
    // A folder stands where the snapshot should go.
    let path = folder.0.join("asn.db");
    std::fs::create_dir(&path).unwrap();
    let error = save(&sample(), &path).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read snapshot"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn a_snapshot_stands_alone() {
    let folder = Folder::new();
    let path = folder.0.join("asn.db");
    save(&sample(), &path).unwrap();
    let other = folder.file("x.csv", "1.0.0.0,1.0.0.255,1,A\n");
    let error = open(&[other.clone(), path.clone()]).unwrap_err();
    assert_eq!(
        error.0.errors[0].message,
        "a snapshot cannot be combined with other databases"
    );
    std::fs::write(&path, &std::fs::read(&path).unwrap()[..40]).unwrap();
    let error = open(std::slice::from_ref(&path)).unwrap_err();
    assert!(error.0.errors[0].message.contains("bytes instead of"));
    assert_eq!(open(&[other]).unwrap().0.info().asns, 1);
}
