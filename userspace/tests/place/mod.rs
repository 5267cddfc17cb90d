//! A folder as an administrator has it, and the binary run in it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const POLICY: &str = r#"
[zone.cameras]
vlans = [20, "100.5"]
sources = ["10.20.0.0/16", "fd00:20::/48"]
[zone.lab]
vlans = [40]
default = "drop"
[set.hostile]
asns = [64500]
countries = ["RU"]
files = ["list.txt"]
[[rule]]
name = "hostile"
from = "cameras"
to = "hostile"
action = "drop"
[[rule]]
name = "web"
from = "lab"
to = "any"
proto = "tcp"
ports = [443]
action = "pass"
"#;
pub(crate) const DATABASE: &str = "\
203.0.113.0,203.0.113.255,64500,\"Example, Inc.\"
198.51.100.0,198.51.100.99,64501,Other
2001:db8::,2001:db8:ffff:ffff:ffff:ffff:ffff:ffff,64500,\"Example, Inc.\"
";
pub(crate) const COUNTRIES: &str = "198.51.100.0,198.51.100.127,RU\n";

/// A folder with a good policy, database, country list and capture.
pub(crate) struct Place(TempDir);

pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("policy.toml", POLICY);
        place.write("list.txt", "# more\nAS64999 # one\n192.0.2.0/28\n");
        place.write("asn.csv", DATABASE);
        place.write("countries.csv", COUNTRIES);
        place.write("capture.pcap", pcap(1, &frames()));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Runs a command line in the folder.
    pub(crate) fn kordon(&self, line: &str) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_kordon"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) fn pcap(link_type: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    file.extend([0; 8]);
    file.extend(65535u32.to_le_bytes());
    file.extend(link_type.to_le_bytes());
    for frame in frames {
        file.extend([0; 8]);
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
    }
    file
}

/// A UDP or TCP packet with tags.
pub(crate) fn packet(tags: &[u16], src: &str, dst: &str, proto: u8, port: u16) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend([0x81, 0]);
        frame.extend(tag.to_be_bytes());
    }
    let mut payload = vec![0; 20];
    payload[2..4].copy_from_slice(&port.to_be_bytes());
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) => {
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, proto, 0, 0]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        (std::net::IpAddr::V6(src), std::net::IpAddr::V6(dst)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, proto, 64]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        _ => panic!("two families"),
    }
    frame.extend(payload);
    frame
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    let cameras = "10.20.0.5";
    let mut arp = vec![0xff; 12];
    arp.extend([0x81, 0, 0, 20, 8, 6]);
    // A request of IPv4 over Ethernet.
    arp.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([0; 20]);
    let mut cut = packet(&[20], cameras, "203.0.113.7", 17, 9);
    cut.truncate(40);
    vec![
        packet(&[20], cameras, "203.0.113.7", 17, 9),
        packet(&[20], cameras, "198.51.100.7", 17, 9),
        packet(&[20], cameras, "198.51.100.200", 17, 9),
        packet(&[20], cameras, "192.0.2.9", 6, 80),
        packet(&[20], "10.21.0.5", "192.0.2.99", 6, 80),
        packet(&[100, 5], "fd00:20::5", "2001:db8::1", 6, 80),
        packet(&[20], "fd00:20::5", "64:ff9b::203.0.113.7", 6, 80),
        packet(&[30], cameras, "203.0.113.7", 17, 9),
        packet(&[40], cameras, "203.0.113.7", 6, 443),
        packet(&[40], cameras, "192.0.2.99", 6, 80),
        packet(&[20], cameras, "203.0.113.7", 47, 0),
        arp,
        cut,
        [
            packet(&[20], cameras, "198.51.100.200", 17, 9),
            vec![0; 100_000],
        ]
        .concat(),
        vec![2; 9],
    ]
}
