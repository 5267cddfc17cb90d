//! Messages for journald, in its own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): a
//! datagram of fields, or, where that is too long for one, a sealed file in memory whose descriptor
//! is passed.
//!
//! What is in the socket outlives journald: systemd keeps it open while journald is restarted. So
//! what was taken has arrived.

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    mem::MaybeUninit,
    os::{fd::AsFd as _, unix::net::UnixDatagram},
    path::Path,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};

use super::{config::Facility, record::Message};

/// The fields of a message.
pub(super) fn fields(message: &Message, facility: Facility) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.line.len() + 512);
    let mut add = |name: &str, value: Option<&[u8]>| {
        if let Some(value) = value {
            field(&mut bytes, name, value);
        }
    };
    let number = message.number.map(|number| number.to_string());
    let texts = [
        ("MESSAGE", Some(message.sentence())),
        ("PRIORITY", Some((message.severity() as u8).to_string())),
        ("SYSLOG_FACILITY", Some(facility.number().to_string())),
        ("SYSLOG_IDENTIFIER", Some("kordon".to_owned())),
        ("KORDON_SEQUENCE", number),
        ("KORDON_ACTION", message.action().map(str::to_owned)),
        ("KORDON_VERDICT", message.verdict().map(str::to_owned)),
        ("KORDON_ZONE", message.zone().map(str::to_owned)),
        ("KORDON_SOURCE", message.source().map(str::to_owned)),
        (
            "KORDON_DESTINATION",
            message.destination().map(str::to_owned),
        ),
    ];
    for (name, value) in texts {
        add(name, value.as_deref().map(str::as_bytes));
    }
    add("KORDON_RECORD", Some(&message.line));
    bytes
}

/// Text of one line as it is, everything else with its length.
fn field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        bytes.push(b'\n');
        bytes.extend((value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}

/// journald.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    pub(super) fn socket(&self) -> &UnixDatagram {
        &self.socket
    }

    pub(super) fn send(&self, fields: &[u8]) -> io::Result<()> {
        match self.socket.send(fields) {
            Ok(_) => Ok(()),
            Err(e) if is_too_long(&e) => self.pass(fields),
            Err(e) => Err(e),
        }
    }

    fn pass(&self, fields: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("kordon", flags)?);
        file.write_all(fields)?;
        // Else journald does not take it: it reads what nobody can change any more.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let nothing: [IoSlice<'_>; 0] = [];
        sendmsg(&self.socket, &nothing, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Whether a datagram did not fit.
pub(super) fn is_too_long(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MSGSIZE | Errno::NOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message() {
        let line = br#"{"event":{"action":"flow"},"kordon":{"zone":"a\nb","action":"drop"}}"#;
        let bytes = fields(&Message::new(3, line.to_vec()), Facility::default());
        let zone = b"KORDON_ZONE\n\x03\0\0\0\0\0\0\0a\nb\n";
        assert!(bytes.windows(zone.len()).any(|part| part == zone));
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(
            "PRIORITY=4\nSYSLOG_FACILITY=13\nSYSLOG_IDENTIFIER=kordon\nKORDON_SEQUENCE=3\n"
        ));
        assert!(bytes.ends_with(&[b"KORDON_RECORD=", &line[..], b"\n"].concat()));
        assert!(!text.contains("KORDON_SOURCE"));
    }
}
