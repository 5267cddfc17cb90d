//! What a configuration may say, and what it is told where it may not.

use super::*;
use crate::datapath::attach::Mode;

fn errors(text: &str) -> Vec<(usize, String, String)> {
    let (config, found) = parse(Path::new("/etc/kordon/kordon.toml"), text);
    assert_eq!(config.is_some(), found.ok());
    found
        .errors
        .into_iter()
        .map(|e| (e.line, e.message, e.help.unwrap_or_default()))
        .collect()
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = "policy = \"p.toml\"\nstate_dir = \"/s\"\n[[interface]]\ndevice = \"eth1\"\n\
                name = \"trunk\"\nmode = \"generic\"\nunknown_vlans = \"drop\"\n\
                manage_offload = true\n[asndb]\nsources = [\"a.csv\", \"/b.csv\"]\n\
                max_age_days = 14\ncombine = \"priority\"\nmin_peers = 3\nvrps = \"add\"\n[metrics]\nlisten = \"off\"\nmax_asns = 50\nmax_cameras = 7\n\
                [ledger]\nlines = 65536\n[control]\nread_group = \"look\"\n";
    let (config, found) = parse(Path::new("/etc/kordon/kordon.toml"), text);
    let config = config.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(config.policy, Path::new("/etc/kordon/p.toml"));
    assert_eq!(config.state_dir, Path::new("/s"));
    assert_eq!(config.socket, Path::new(SOCKET));
    assert_eq!(
        config.sources,
        [Path::new("/etc/kordon/a.csv"), Path::new("/b.csv")]
    );
    let options = asn::Options {
        combine: asn::Combine::Priority,
        min_peers: 3,
        add_vrps: true,
        salvage: false,
    };
    assert_eq!(config.import, options);
    assert_eq!(config.max_age, Some(Duration::from_secs(14 * 86_400)));
    assert_eq!((config.metrics, config.max_asns), (None, 50));
    assert_eq!((config.lines, config.max_cameras), (Some(65_536), 7));
    assert_eq!((&*config.group, &*config.read_group), (GROUP, "look"));
    assert_eq!(config.fail, Fail::Closed);
    let interface = &config.interfaces[0];
    assert_eq!((&*interface.device, &*interface.name), ("eth1", "trunk"));
    assert!(interface.drop_unknown && interface.manage_offload);
    assert_eq!(interface.mode, Mode::Generic);
}

#[test]
fn nothing_is_a_configuration_with_a_warning() {
    let (config, found) = parse(Path::new("kordon.toml"), "");
    assert_eq!(config.unwrap().metrics, Some(METRICS));
    assert_eq!(found.warnings.len(), 1);
}

#[test]
fn wrong_ones() {
    for (text, line, message, help) in [
        (
            "polcy = \"p\"",
            1,
            "unknown key `polcy`",
            "did you mean `policy`",
        ),
        ("policy = 7", 1, "`policy` must be a string", "`policy = "),
        ("policy = \"\"", 1, "`policy` is empty", "remove the key"),
        (
            "\nfail = \"opn\"",
            2,
            "`fail` cannot be `opn`",
            "did you mean `\"open\"`",
        ),
        (
            "interface = 1",
            1,
            "`interface` must be a list",
            "[[interface]]",
        ),
        (
            "[[interface]]\nname = \"t\"",
            1,
            "has no `device`",
            "device = ",
        ),
        (
            "[[interface]]\ndevce = \"t\"",
            2,
            "unknown key `devce`",
            "did you mean `device`",
        ),
        (
            "[[interface]]\ndevice = \"a b\"",
            2,
            "cannot be the name of a device",
            "ip link",
        ),
        (
            "[[interface]]\ndevice = \"eth0:1\"",
            2,
            "cannot be the name of a device",
            "ip link",
        ),
        (
            "[[interface]]\ndevice = \"..\"",
            2,
            "cannot be the name of a device",
            "ip link",
        ),
        (
            "[[interface]]\ndevice = \"e\"\nname = \"\"",
            3,
            "is empty",
            "policies use",
        ),
        (
            "[[interface]]\ndevice = \"e\"\nmode = \"tc\"\nguard = false",
            4,
            "nothing polices",
            "remove",
        ),
        (
            "[[interface]]\ndevice = \"e\"\nmode = \"drv\"",
            3,
            "cannot be `drv`",
            "native",
        ),
        (
            "[[interface]]\ndevice = \"e\"\nunknown_vlans = true",
            3,
            "must be a string",
            "pass",
        ),
        (
            "[[interface]]\ndevice = \"e\"\nmanage_offload = 1",
            3,
            "must be true or false",
            "true",
        ),
        (
            "[[interface]]\ndevice = \"e\"\n[[interface]]\ndevice = \"e\"\nname = \"f\"",
            4,
            "two interfaces have the device `e`",
            "remove one",
        ),
        (
            "[[interface]]\ndevice = \"e\"\n[[interface]]\ndevice = \"f\"\nname = \"e\"",
            5,
            "two interfaces have the name `e`",
            "another",
        ),
        (
            "[asndb]\nsourcs = []",
            2,
            "unknown key `sourcs` in `[asndb]`",
            "did you mean `sources`",
        ),
        (
            "[asndb]\nsources = \"a\"",
            2,
            "`sources` must be a list",
            "file.csv",
        ),
        ("[asndb]\nmax_age_days = 0", 2, "number from 1", "14"),
        ("[asndb]\nmin_peers = 0", 2, "number from 1", "10"),
        (
            "[asndb]\ncombine = \"priorty\"",
            2,
            "`combine` cannot be `priorty`",
            "priority",
        ),
        (
            "[asndb]\nvrps = \"all\"",
            2,
            "`vrps` cannot be `all`",
            "annotate",
        ),
        (
            "[metrics]\nlisten = \"9754\"",
            2,
            "not an address with a port",
            "off",
        ),
        (
            "[control]\ngroup = 1",
            2,
            "`group` must be a string",
            "kordon",
        ),
        (
            "[metrics]\nmax_asns = 0",
            2,
            "`max_asns` must be a number from 1 to 100000",
            "write `max_asns = 1000`, or remove the key",
        ),
        (
            "[ledger]\nlines = 512",
            2,
            "`lines` must be a number from 1024 to 262144",
            "write `lines = 16384`, or remove the key",
        ),
        (
            "[ledger]\nlines = 20000",
            2,
            "`lines` must be a power of two",
            "write `lines = 16384` or `lines = 32768`",
        ),
        ("control = 1", 1, "`control` must be a table", "[control]"),
        ("policy = ", 1, "", ""),
    ] {
        let errors = errors(text);
        let hit = errors
            .iter()
            .any(|(at, what, cure)| *at == line && what.contains(message) && cure.contains(help));
        assert!(hit, "{text:?}: {errors:?}");
    }
    let several = errors("a = 1\n[metrics]\nb = 2\n[control]\nsocket = 3");
    assert_eq!(several.len(), 3, "{several:?}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (config, found) = load(Path::new("/nowhere/kordon.toml"));
    assert!(config.is_none());
    assert!(found.errors[0].message.contains("/nowhere/kordon.toml"));
}

/// Else another daemon could be asked, or its state be looked at.
#[test]
fn where_a_daemon_is_must_be_clear() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kordon.toml");
    for (text, is_clear) in [
        ("[metrics]\nlisten = 5", true),
        ("[asndb]\nsources = 1\n[control]\nsocket = \"/s\"", true),
        ("polcy = \"p.toml\"", true),
        // Whatever the words of the error are.
        ("[control]\nsocket = /run/other", false),
        ("[control]\n\nsokcet = \"/s\"", false),
        ("[contrl]\nsocket = \"/s\"", false),
        ("control.group = 5", false),
        ("state_dir = 5", false),
        ("\u{feff}bpfs = \"/b\"", false),
    ] {
        std::fs::write(&path, format!("{text}\n")).unwrap();
        let (config, found) = salvage(&path);
        assert!(!found.ok(), "{text}");
        assert_eq!(config.is_some(), is_clear, "{text}: {found:?}");
    }
}
