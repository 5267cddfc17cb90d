use super::*;

/// What removal does to names; links in the kernel are the daemon's tests.
#[test]
fn only_what_kordon_made_goes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("kordon");
    let outside = dir.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("table-1"), "").unwrap();
    let make = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    let ours = [
        "counters",
        "directory",
        "v1-small/tables",
        "v5-internet/generation-12",
        "v5-internet/table-3",
        "v5-internet/generations",
        "v5-internet/planes",
        "v5-internet/slow",
        "v5-internet/work",
    ];
    let foreign = [
        "filters/vpn",
        "links/vpn",
        "maps",
        "v5-huge/tables",
        "v5-large/policy",
        "v5-large/table-x",
        "vault/table-1",
        "version",
    ];
    ours.iter().chain(&foreign).for_each(|path| make(path));
    let link = |to: &str| std::os::unix::fs::symlink(&outside, root.join(to)).unwrap();
    link("v4-small");
    link("v5-large/table-7");
    fs::create_dir_all(root.join("links")).unwrap();
    std::os::unix::fs::symlink(outside.join("table-1"), root.join("links/1-eth0")).unwrap();

    let left = remove(&root).unwrap();
    let left: Vec<&str> = left
        .iter()
        .map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap())
        .collect();
    let expected = [
        "filters/vpn",
        "links/1-eth0",
        "links/vpn",
        "maps",
        "v4-small",
        "v5-huge",
        "v5-large/policy",
        "v5-large/table-7",
        "v5-large/table-x",
        "vault",
        "version",
    ];
    assert_eq!(left, expected);
    for path in foreign {
        assert!(root.join(path).exists(), "{path}");
    }
    for path in ours {
        assert!(!root.join(path).exists(), "{path}");
    }
    assert!(outside.join("table-1").exists());
    assert!(!root.join("v5-internet").exists() && !root.join("v1-small").exists());
    assert_eq!(
        remove(&dir.path().join("none")).unwrap(),
        [] as [PathBuf; 0]
    );
}
