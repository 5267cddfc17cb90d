//! What the service manager is told (`sd_notify(3)`). The messages are of the crate
//! `sd-notify`, which knows sockets by path only; service managers in containers name
//! abstract ones, too.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use sd_notify::NotifyState;

/// Tells it, where there is one. A failure is in the log: enforcement does not depend
/// on who watches.
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(e) = send(&socket, states) {
        tracing::warn!("cannot tell systemd at {}: {e}", socket.display());
    }
}

fn send(socket: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_by_path_and_abstract_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("kordon-notify-{}", std::process::id());
        let of_name = SocketAddr::from_abstract_name(&name).unwrap();
        let of_path = SocketAddr::from_pathname(&path).unwrap();
        for (address, socket) in [
            (of_name, format!("@{name}")),
            (of_path, path.display().to_string()),
        ] {
            let receiver = UnixDatagram::bind_addr(&address).unwrap();
            send(OsStr::new(&socket), &[NotifyState::Ready]).unwrap();
            let mut message = [0; 64];
            let length = receiver.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"READY=1\n");
        }
        assert!(send(OsStr::new("@nobody-listens-here"), &[]).is_err());
    }
}
