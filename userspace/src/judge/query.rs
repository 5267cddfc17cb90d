//! The packet that `explain` is asked about, and its bytes on the wire.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ports::word;
use crate::{
    compile::generation::PortSpec,
    diagnostic::{Problem, quoted},
};

/// A packet in an administrator's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainQuery {
    /// Interface, by its name or its device; whichever when absent.
    pub interface: Option<String>,
    /// `20` or `100.5`; untagged when absent.
    pub vlan: Option<String>,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// `tcp`, `udp`, `icmp` or a number.
    pub proto: Option<String>,
    /// Destination port.
    pub dport: Option<u16>,
}

fn wrong<T>(message: impl Into<String>, help: &'static str) -> Result<T, Problem> {
    Err(Problem::new(message, help))
}

/// For experiments (RFC 3692): a protocol that no rule and no header chain means.
const NO_PROTOCOL: u8 = 253;
/// Protocols whose number introduces an extension header, in IPv6 or in both.
const HEADERS_V6: [u8; 7] = [0, 43, 44, 60, 135, 139, 140];
const AH: u8 = 51;
/// From where a client's packet would come.
const SOURCE_PORT: u16 = 49152;
/// Bytes behind the IP header: an empty TCP header has 20.
const PAYLOAD: usize = 20;

impl ExplainQuery {
    /// The VIDs of its tags, outer first.
    ///
    /// # Errors
    /// When `vlan` is not one or two VIDs.
    pub fn tags(&self) -> Result<Vec<u16>, Problem> {
        let Some(vlan) = self.vlan.as_deref().filter(|vlan| *vlan != "untagged") else {
            return Ok(Vec::new());
        };
        let tags: Vec<Option<u16>> = vlan
            .split('.')
            .map(|vid| vid.parse().ok().filter(|vid| (1..=4094).contains(vid)))
            .collect();
        match tags.into_iter().collect::<Option<Vec<u16>>>() {
            Some(tags) if tags.len() <= 2 => Ok(tags),
            _ => wrong(
                format!("{} is not a VLAN", quoted(vlan)),
                "a VLAN is a VID from 1 to 4094, `20`, or outer and inner one, `100.5`",
            ),
        }
    }

    /// The protocol's number.
    ///
    /// # Errors
    /// When `proto` is no protocol that a packet can end with, or one without
    /// ports goes with `dport`.
    pub fn protocol(&self) -> Result<u8, Problem> {
        let v6 = self.dst.is_ipv6();
        let number = match self.proto.as_deref() {
            None if self.dport.is_some() => 6,
            None => NO_PROTOCOL,
            Some(word) if word.eq_ignore_ascii_case("tcp") => 6,
            Some(word) if word.eq_ignore_ascii_case("udp") => 17,
            Some(word) if word.eq_ignore_ascii_case("icmp") => {
                if v6 {
                    58
                } else {
                    1
                }
            }
            Some(word) => match word.parse() {
                Ok(number) => number,
                Err(_) => {
                    return wrong(
                        format!("{} is not a protocol", quoted(word)),
                        "a protocol is `tcp`, `udp`, `icmp` or a number from 0 to 255",
                    );
                }
            },
        };
        if number == AH || v6 && HEADERS_V6.contains(&number) {
            return wrong(
                format!("protocol {number} is an extension header, not what a packet carries"),
                "leave it out: kordon looks behind extension headers",
            );
        }
        if self.dport.is_some() && !matches!(number, 6 | 17) {
            return wrong(
                format!("protocol {number} has no ports"),
                "`--dport` goes with `--proto tcp` or `--proto udp`",
            );
        }
        Ok(number)
    }

    /// A whole frame: tags (the outer of two is an S-tag), IP header, and behind it
    /// ports, an echo request or a report of IGMP, else zeros.
    ///
    /// # Errors
    /// When no packet is like that.
    pub fn frame(&self) -> Result<Vec<u8>, Problem> {
        let tags = self.tags()?;
        let proto = self.protocol()?;
        let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        for (at, tag) in tags.iter().enumerate() {
            let stag = tags.len() == 2 && at == 0;
            frame.extend(if stag { [0x88, 0xa8] } else { [0x81, 0x00] });
            frame.extend(tag.to_be_bytes());
        }
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend([0x08, 0x00, 0x45, 0, 0, 20 + PAYLOAD as u8]);
                frame.extend([0, 0, 0, 0, 64, proto, 0, 0]);
                frame.extend(src.octets());
                frame.extend(dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, PAYLOAD as u8, proto, 64]);
                frame.extend(src.octets());
                frame.extend(dst.octets());
            }
            _ => {
                return wrong(
                    "source and destination are of different families",
                    "give both as IPv4 or both as IPv6",
                );
            }
        }
        let mut payload = [0; PAYLOAD];
        match proto {
            // A report of a group and a source (RFC 3376 4.2), which is that long.
            2 if !self.dst.is_ipv6() => {
                payload[..12].copy_from_slice(&[0x22, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 1]);
                payload[12..].copy_from_slice(&[239, 255, 255, 250, 192, 0, 2, 1]);
            }
            6 | 17 => {
                payload[..2].copy_from_slice(&SOURCE_PORT.to_be_bytes());
                payload[2..4].copy_from_slice(&self.dport.unwrap_or(0).to_be_bytes());
                // The header's length of TCP; the length of the datagram of UDP.
                payload[if proto == 6 { 12 } else { 5 }] =
                    if proto == 6 { 0x50 } else { PAYLOAD as u8 };
            }
            1 => payload[0] = 8,
            58 => payload[0] = 128,
            _ => {}
        }
        frame.extend(payload);
        Ok(frame)
    }

    /// The tags and the interfaces, in words.
    pub(super) fn place(&self, ports: &[PortSpec]) -> String {
        let mut place = match self.vlan.as_deref().filter(|vlan| *vlan != "untagged") {
            Some(vlan) => format!("VLAN {vlan}"),
            None => "untagged frames".to_owned(),
        };
        match ports {
            [] => {}
            [port] if port.logical.is_empty() => {}
            [port] => place += &format!(" on interface {}", word(port)),
            _ => {
                let words: Vec<String> = ports.iter().map(word).collect();
                place += &format!(" on the interfaces {}", words.join(", "));
            }
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(vlan: &str, proto: &str, dport: Option<u16>, dst: &str) -> ExplainQuery {
        let word = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let dst: IpAddr = dst.parse().unwrap();
        ExplainQuery {
            interface: None,
            vlan: word(vlan),
            src: if dst.is_ipv4() { "10.0.0.1" } else { "fd00::1" }
                .parse()
                .unwrap(),
            dst,
            proto: word(proto),
            dport,
        }
    }

    #[test]
    fn frames() {
        let frame = query("", "", None, "192.0.2.1").frame().unwrap();
        assert_eq!((frame.len(), frame[23]), (54, NO_PROTOCOL));
        let frame = query("100.5", "udp", Some(53), "2001:db8::1")
            .frame()
            .unwrap();
        assert_eq!(
            &frame[12..22],
            [0x88, 0xa8, 0, 100, 0x81, 0, 0, 5, 0x86, 0xdd]
        );
        assert_eq!(&frame[62..68], [0xc0, 0, 0, 53, 0, 20]);
        assert_eq!(query("1", "icmp", None, "::2").protocol(), Ok(58));
        // A port means TCP where nothing else is said.
        assert_eq!(query("1", "", Some(1), "::2").protocol(), Ok(6));
        assert!(
            query("untagged", "", None, "::2")
                .tags()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn no_packets() {
        for (query, message) in [
            (query("0", "", None, "::2"), "`0` is not a VLAN"),
            (query("4095", "", None, "::2"), "`4095` is not a VLAN"),
            (query("1.2.3", "", None, "::2"), "`1.2.3` is not a VLAN"),
            (query("x", "", None, "::2"), "`x` is not a VLAN"),
            (query("1", "tpc", None, "::2"), "`tpc` is not a protocol"),
            (query("1", "256", None, "::2"), "`256` is not a protocol"),
            (
                query("1", "44", None, "::2"),
                "protocol 44 is an extension header, not what a packet carries",
            ),
            (
                query("1", "icmp", Some(7), "1.2.3.4"),
                "protocol 1 has no ports",
            ),
            (
                ExplainQuery {
                    src: "::1".parse().unwrap(),
                    ..query("1", "", None, "1.2.3.4")
                },
                "source and destination are of different families",
            ),
        ] {
            let error = query.frame().unwrap_err();
            assert_eq!(error.message, message);
        }
    }
}
