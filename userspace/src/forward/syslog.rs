//! Messages of RFC 5424, and how they follow each other on a connection (octet counting, RFC 6587
//! and RFC 5425).
//!
//! `MSG` is the line of the log, byte for byte: its hash is in the log's tree, and JSON must not
//! begin with a byte order mark (RFC 8259, section 8.1). RFC 5424 wants one before what is marked
//! as UTF-8, so ours is what it calls `MSG-ANY`.
//!
//! There is no element `[kordon@…]`: its number would have to be kordon's own from IANA, and 32473
//! is for examples in documentation only (RFC 5612). `origin` and `meta` are everybody's. `meta
//! sequenceId` counts what is sent, from 1 on, so what a network loses shows also where `only`
//! leaves records out; of a record that is sent twice `event.sequence` is the same.

use std::{io::Write as _, process};

use super::{config::Facility, record::Message};

/// Greatest `sequenceId`; 1 follows (RFC 5424, section 7.3.1).
const MOST: u32 = 2_147_483_647;
/// Longest `HOSTNAME` and `MSGID`.
const HOST: usize = 255;
const ID: usize = 32;

/// Makes messages for one destination.
#[derive(Debug)]
pub(super) struct Syslog {
    facility: u8,
    host: String,
    process: u32,
    sent: u32,
}

impl Syslog {
    pub(super) fn new(facility: Facility) -> Self {
        let system = rustix::system::uname();
        Self {
            facility: facility.number(),
            host: printable(&system.nodename().to_string_lossy(), HOST),
            process: process::id(),
            sent: 0,
        }
    }

    /// A message. `is_short`: without what makes it long, in place of the last one, which was too long
    /// to be sent.
    pub(super) fn message(&mut self, message: &Message, is_short: bool) -> Vec<u8> {
        if !is_short {
            self.sent = self.sent % MOST + 1;
        }
        let priority = u16::from(self.facility) * 8 + message.severity() as u16;
        let at = (message.at()).map_or_else(|| "-".into(), |at| format!("{at:.6}"));
        let id = printable(message.action().unwrap_or_default(), ID);
        let Self {
            host,
            process,
            sent,
            ..
        } = self;
        let version = env!("CARGO_PKG_VERSION");
        let mut bytes = Vec::with_capacity(message.line.len() + 256);
        // Memory takes all that is written to it.
        let _ = write!(
            bytes,
            "<{priority}>1 {at} {host} kordon {process} {id} \
             [origin software=\"kordon\" swVersion=\"{version}\"][meta sequenceId=\"{sent}\"] "
        );
        match is_short {
            true => bytes.extend(message.short()),
            false => bytes.extend_from_slice(&message.line),
        }
        bytes
    }
}

/// Adds a message to what goes over a connection.
pub(super) fn frame(stream: &mut Vec<u8>, message: &[u8]) {
    stream.extend(message.len().to_string().into_bytes());
    stream.push(b' ');
    stream.extend_from_slice(message);
}

/// What may stand in a field of a header.
fn printable(text: &str, most: usize) -> String {
    let plain = text.chars().filter(char::is_ascii_graphic);
    let plain: String = plain.take(most).collect();
    if plain.is_empty() { "-".into() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message() {
        let mut syslog = Syslog::new(Facility::default());
        syslog.host = printable("a b\u{e9}c\n", HOST);
        syslog.process = 7;
        let line = "{\"@timestamp\":\"2026-01-02T03:04:05.600000Z\",\"event\":{\"action\":\"flow\"},\"x\":\"T\u{e9}l\"}";
        let message = Message::new(5, line.as_bytes().to_vec());
        let text = String::from_utf8(syslog.message(&message, false)).unwrap();
        let head = "<110>1 2026-01-02T03:04:05.600000Z abc kordon 7 flow \
                    [origin software=\"kordon\" swVersion=\"0.1.0\"][meta sequenceId=\"1\"] ";
        assert_eq!(text, format!("{head}{line}"));
        let text = String::from_utf8(syslog.message(&message, true)).unwrap();
        assert!(
            text.contains("sequenceId=\"1\"") && text.contains("\"sequence\":5"),
            "{text}"
        );
        syslog.sent = MOST;
        let text = syslog.message(&Message::new(6, b"\xfe".to_vec()), false);
        assert!(text.starts_with(b"<108>1 - abc kordon 7 - [origin"));
        assert!(text.ends_with(b"[meta sequenceId=\"1\"] \xfe"));
        let mut stream = Vec::new();
        frame(&mut stream, b"one");
        frame(&mut stream, b"and another");
        assert_eq!(stream, b"3 one11 and another");
    }
}
