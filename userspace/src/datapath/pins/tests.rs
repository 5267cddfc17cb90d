use super::*;

#[test]
fn device_names_survive() {
    for device in ["eth0", "eth1.20", "a%2eb", "x%.-y"] {
        assert_eq!(unescape(&escape(device)), device);
        assert!(!escape(device).contains('.'));
    }
}

#[test]
fn another_file_system_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Pins::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("mount -t bpf"), "{error}");
}
