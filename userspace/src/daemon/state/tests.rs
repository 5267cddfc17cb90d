//! State that comes back, and state that is damaged.
use crate::daemon::state::*;

fn record(number: u64) -> Record {
    Record {
        number,
        before: number.checked_sub(1).filter(|before| *before > 0),
        applied_at: Timestamp::UNIX_EPOCH,
        by: "apply".into(),
        hash: "00".into(),
        bundle: Bundle::from_text("p.toml", &format!("# {number}")),
    }
}

fn overlay() -> Overlay {
    let text = "[[entry]]\naction = \"block\"\ntarget = \"AS64500\"\nzone = \"cameras\"\n\
                added = 2026-01-01T00:00:00Z\n";
    Overlay::parse("overlay.toml", text).unwrap()
}

fn current(number: u64) -> Current {
    Current {
        live: number,
        last: number,
        ..Current::default()
    }
}

fn commit(state: &StateDir, number: u64) {
    let current = current(number);
    let files = state.prepare(&current, &record(number), &overlay());
    for file in files.unwrap() {
        file.commit().unwrap();
    }
    state.prune(&current);
}

#[test]
fn nothing_yet() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(&folder.path().join("a/b")).unwrap();
    let loaded = state.load();
    assert!(loaded.record.is_none() && loaded.policy_lost.is_none());
    assert!(loaded.overlay_lost.is_none() && loaded.repaired.is_empty());
    let second = StateDir::open(&folder.path().join("a/b")).unwrap_err();
    assert!(second.to_string().contains("--state-dir"), "{second}");
    assert_eq!(state.trouble(), None);
}

#[test]
fn the_last_one_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    for number in 1..=30 {
        commit(&state, number);
    }
    // Written, but the crash came before it was named.
    let files = state.prepare(&current(31), &record(31), &overlay());
    let mut files = files.unwrap();
    files.truncate(1);
    files.remove(0).commit().unwrap();
    let loaded = state.load();
    assert_eq!(loaded.current, current(30));
    assert_eq!(loaded.record, Some(record(30)));
    assert_eq!(loaded.overlay.entries, overlay().entries);
    assert!(loaded.repaired.is_empty(), "{:?}", loaded.repaired);
    state.record(31).unwrap_err();
    assert_eq!(state.history().len(), HISTORY);
    let leftovers = fs::read_dir(folder.path())
        .unwrap()
        .filter(|e| {
            let name = e.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".new-")
        })
        .count();
    assert_eq!(leftovers, 0);
}

/// What can happen to a file; the words are those that say it.
const DAMAGES: [&str; 6] = ["missing", "cut", "flipped", "empty", "a folder", "a FIFO"];

fn damage(path: &Path, how: &str) {
    let mut bytes = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    let middle = bytes.len() / 2;
    match how {
        "missing" => return,
        "a folder" => return fs::create_dir(path).unwrap(),
        "a FIFO" => {
            return nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        "cut" => bytes.truncate(middle),
        "flipped" => bytes[middle] ^= 1,
        _ => bytes.clear(),
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn one_damaged_file_costs_nothing() {
    let names = ["overlay.toml", "history/3.json", "current.json"];
    for (name, how) in names.iter().flat_map(|n| DAMAGES.map(|how| (*n, how))) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        for number in 1..=3 {
            commit(&state, number);
        }
        let path = folder.path().join(name);
        damage(&path, how);
        let words = match how {
            "cut" | "flipped" => "checksum",
            how => how,
        };
        let loaded = state.load();
        let case = format!("{name} {how}: {loaded:?}");
        assert_eq!(loaded.overlay.entries, overlay().entries, "{case}");
        assert!(loaded.overlay_lost.is_none(), "{case}");
        if name == "current.json" {
            // The policies are all there; which one was live is for others to find out.
            let lost = loaded.policy_lost.unwrap().to_string();
            assert!(lost.contains(name) && lost.contains(words), "{lost}");
            assert!(loaded.record.is_none());
            assert_eq!(state.history()[0], record(3));
            assert_eq!(loaded.current.last, 3);
        } else {
            assert_eq!(loaded.record, Some(record(3)), "{case}");
            let said = loaded.repaired[0].to_string();
            assert!(said.contains(name) && said.contains(words), "{said}");
        }
        // Written again, whatever is there.
        commit(&state, 3);
        let loaded = state.load();
        assert_eq!(loaded.record, Some(record(3)), "{case}");
        assert!(loaded.repaired.is_empty(), "{:?}", loaded.repaired);
    }
}

#[test]
fn two_damaged_files_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    commit(&state, 1);
    fs::write(state.current(), "").unwrap();
    fs::write(state.overlay(), "").unwrap();
    let loaded = state.load();
    assert!(loaded.policy_lost.is_some() && loaded.overlay.entries.is_empty());
    let lost = loaded.overlay_lost.unwrap().to_string();
    assert!(
        lost.contains("overlay.toml") && lost.contains("empty"),
        "{lost}"
    );
    state.set_overlay_aside().unwrap();
    assert!(state.overlay_aside().exists());
}

#[test]
fn a_folder_that_cannot_be_used_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("state");
    fs::write(&root, "").unwrap();
    let state = StateDir::open(&root).unwrap();
    let loaded = state.load();
    let lost = loaded.policy_lost.unwrap().to_string();
    // One cause, one reason, of all that was in it.
    assert!(lost.contains("not a folder; move it away"), "{lost}");
    assert!(lost.contains("`block`") && loaded.overlay_lost.is_none());
    let trouble = state.trouble().unwrap();
    assert!(trouble.contains("is not a folder"), "{trouble}");
    state
        .prepare(&current(1), &record(1), &overlay())
        .unwrap_err();
    // It comes back while the daemon runs.
    fs::remove_file(&root).unwrap();
    commit(&state, 1);
    assert_eq!(state.load().record, Some(record(1)));
}

#[test]
fn another_folder_in_its_place_is_locked_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("state");
    let state = StateDir::open(&root).unwrap();
    assert!(StateDir::open(&root).is_err());
    fs::remove_dir_all(&root).unwrap();
    state.take().unwrap();
    fs::create_dir(&root).unwrap();
    state.take().unwrap();
    let other = StateDir::open(&root).unwrap_err().to_string();
    assert!(other.contains("another daemon uses"), "{other}");
    // Only what has the lock is told.
    state.take().unwrap();
}
