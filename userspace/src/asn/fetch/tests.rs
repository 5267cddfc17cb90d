//! Fetching, and what it makes of servers, files and checksums.

use super::checksum::published;
use super::*;

#[test]
fn checksums_as_they_are_published() {
    let (a, b) = ("ab".repeat(32), "CD".repeat(32));
    let one = |text: String| published(&text, "asn.csv");
    assert_eq!(one(a.clone()), Some(a.clone()));
    assert_eq!(one(format!("{a}  other.csv\n")), Some(a.clone()));
    assert_eq!(
        one(format!("{a}  x.csv\n{b} *./asn.csv\n")),
        Some(b.to_lowercase())
    );
    assert_eq!(one(format!("SHA256 (asn.csv) = {a}\n")), Some(a.clone()));
    assert_eq!(one(format!("{a}  x\n{b}  y\n")), None);
    assert_eq!(one("<html>".to_owned()), None);
}

#[test]
fn keys_are_not_shown() {
    let url = Url::parse("https://me:pw@example.org/asn.csv?license_key=abc#x").unwrap();
    assert_eq!(shown(&url), "https://example.org/asn.csv");
}

#[test]
fn paths_are_sources_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "x").unwrap();
    let remote = Remote {
        url: Url::from_file_path(&path).unwrap(),
        checksum: None,
        every: Duration::from_secs(1),
        user_agent: None,
        headers: Vec::new(),
    };
    let get = |known: Option<&Validators>| {
        let options = Fetching::default();
        fetch(
            &remote,
            known,
            folder.path(),
            &options,
            &Progress::default(),
        )
    };
    let Fetched::New(file, known) = get(None).unwrap() else {
        panic!("it is new")
    };
    assert_eq!(std::fs::read(file.path()).unwrap(), b"x");
    assert!(matches!(get(Some(&known)), Ok(Fetched::Unchanged)));
    std::fs::write(&path, "xy").unwrap();
    assert!(matches!(get(Some(&known)), Ok(Fetched::New(..))));
    std::fs::remove_file(&path).unwrap();
    let error = get(Some(&known)).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}
