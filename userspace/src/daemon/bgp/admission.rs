//! Who may open a session, and how many: what is decided about a connection before
//! anything is read from it. Nothing here waits, so that whoever is turned away delays
//! nobody.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::{Arc, Mutex},
};

use nix::{ifaddrs::getifaddrs, sys::stat::fstat, unistd::User};

use super::{
    lock,
    owner::{self, Owner},
};
use crate::config::{self, BMP_USERS};

/// Sessions at a time.
pub(super) const MAX_SESSIONS: usize = 16;
/// Of one address: a router that comes back before its lost session is missed, and
/// several daemons on this machine.
const MAX_OF_ONE: usize = 4;

/// Users of this machine that may connect, by number. They are looked up when nobody
/// waits for it: a directory server may take its time.
#[derive(Clone, Debug, Default)]
pub(super) struct Users(Arc<Mutex<Vec<u32>>>);

impl Users {
    /// Looks them up again: a daemon that was installed meanwhile has its user since then.
    /// May block.
    pub(super) fn look_up(&self, config: &config::Bmp) {
        let found = match &config.users {
            Some(names) => names.iter().filter_map(|name| number(name)).collect(),
            // Nobody who is called `bird`, but the daemon's own.
            None => {
                let all = BMP_USERS.iter().filter_map(|name| number(name));
                all.filter(|uid| is_of_the_system(*uid)).collect()
            }
        };
        *lock(&self.0) = found;
    }

    fn has(&self, uid: u32) -> bool {
        lock(&self.0).contains(&uid)
    }
}

/// Of the numbers that distributions give to services, or systemd to `DynamicUser=`.
fn is_of_the_system(uid: u32) -> bool {
    matches!(uid, 0..1000 | 61184..=65519)
}

fn number(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| match User::from_name(name) {
        Ok(user) => user.map(|user| user.uid.as_raw()),
        Err(e) => {
            tracing::warn!("cannot look up user `{name}` of `[bmp]`: {e}");
            None
        }
    })
}

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// From elsewhere.
    #[error("`peers` in `[bmp]` does not name it")]
    NotNamed,
    /// From here.
    #[error(
        "it is of user {0} of this machine, who is not in `users` of `[bmp]`: if this is a BGP \
         daemon, add it there"
    )]
    User(u32),
    /// From here, by its address.
    #[error(
        "it is from this machine, and whose it is cannot be told: it is closed already, or is \
         bound to a device, or the kernel has no `tcp_diag` (`modprobe tcp_diag`)"
    )]
    Nobody,
    /// Whoever it is.
    #[error("there are {MAX_SESSIONS} sessions already, or {MAX_OF_ONE} from there")]
    Full,
}

/// Whether somebody may open a session.
pub(super) fn judge(
    stream: &impl AsFd,
    (own, other): (SocketAddr, SocketAddr),
    config: &config::Bmp,
    users: &Users,
) -> Result<(), Refused> {
    let address = other.ip().to_canonical();
    let inode = fstat(stream).map_or(0, |stat| stat.st_ino);
    let owner = owner::of(own, other, inode).unwrap_or_else(|e| {
        tracing::debug!("cannot ask whose {other} is: {e}");
        Owner::Unknown
    });
    match owner {
        Owner::User(uid) if users.has(uid) => Ok(()),
        Owner::User(uid) => Err(Refused::User(uid)),
        Owner::NotHere | Owner::Unknown if address.is_loopback() => Err(Refused::Nobody),
        Owner::NotHere | Owner::Unknown if !config.allows(address) => Err(Refused::NotNamed),
        // One of this machine's users may have closed it again, or hide it.
        Owner::NotHere | Owner::Unknown if is_own(address) => Err(Refused::Nobody),
        Owner::NotHere | Owner::Unknown => Ok(()),
    }
}

/// Whether an address is this machine's; if that cannot be told, it is.
fn is_own(address: IpAddr) -> bool {
    let Ok(mut all) = getifaddrs() else {
        return true;
    };
    all.any(|interface| {
        let Some(found) = interface.address else {
            return false;
        };
        let v4 = found.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = found.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        v4.or(v6) == Some(address)
    })
}

/// Sessions that there are, by where they are from.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// Of one session; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    address: IpAddr,
}

impl Room {
    /// Takes a place.
    pub(super) fn take(&self, address: IpAddr) -> Result<Place, Refused> {
        let mut places = lock(&self.0);
        let of_one = places.get(&address).copied().unwrap_or_default();
        if of_one >= MAX_OF_ONE || places.values().sum::<usize>() >= MAX_SESSIONS {
            return Err(Refused::Full);
        }
        places.insert(address, of_one + 1);
        drop(places);
        Ok(Place {
            room: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.room.0);
        if let Some(count) = places.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use super::*;
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::unistd::getuid;

    fn config(users: Option<&[&str]>, peers: &[&str]) -> config::Bmp {
        let second = std::time::Duration::from_secs(1);
        config::Bmp {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            peers: peers.iter().map(|text| text.parse().unwrap()).collect(),
            users: users.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            idle: second,
            forget_after: second,
            stale_after: second,
            hold: second,
        }
    }

    /// Both ends of a connection, and what they are called at the accepting one.
    fn connected(listen: &str, to: &str) -> (TcpStream, TcpStream, (SocketAddr, SocketAddr)) {
        let listener = TcpListener::bind((listen, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let away = TcpStream::connect((to, port)).unwrap();
        let (here, from) = listener.accept().unwrap();
        let ends = (here.local_addr().unwrap(), from);
        (here, away, ends)
    }

    fn judged(
        (here, _, ends): &(TcpStream, TcpStream, (SocketAddr, SocketAddr)),
        config: &config::Bmp,
    ) -> Result<(), Refused> {
        let users = Users::default();
        users.look_up(config);
        judge(here, *ends, config, &users)
    }

    #[test]
    fn whose_socket_it_is_decides_on_this_machine() {
        let me = getuid().as_raw();
        let own = me.to_string();
        let other = (me + 1).to_string();
        for (listen, to) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            // IPv4 to a socket for IPv6, from one for each.
            ("::", "127.0.0.1"),
            ("::", "::ffff:127.0.0.1"),
        ] {
            let pair = connected(listen, to);
            let allowed = judged(&pair, &config(Some(&[&own]), &[]));
            assert_eq!(allowed, Ok(()), "{listen} {to}");
            // Whatever `peers` says.
            let everywhere = ["0.0.0.0/0", "::/0"];
            let refused = judged(&pair, &config(Some(&[&other]), &everywhere));
            assert_eq!(refused, Err(Refused::User(me)), "{listen} {to}");
        }
    }

    #[test]
    fn a_socket_that_nobody_has_any_more_is_not_roots() {
        let root = config(Some(&["0"]), &["0.0.0.0/0"]);
        // In FIN_WAIT, which the kernel says is root's.
        let (here, away, ends) = connected("127.0.0.1", "127.0.0.1");
        drop(away);
        let users = Users::default();
        users.look_up(&root);
        assert_eq!(judge(&here, ends, &root, &users), Err(Refused::Nobody));
        // In TIME_WAIT, likewise.
        let (here, away, ends) = connected("127.0.0.1", "127.0.0.1");
        drop(away);
        here.shutdown(std::net::Shutdown::Write).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(judge(&here, ends, &root, &users), Err(Refused::Nobody));
        // Reset, so that nothing is left of it.
        let (here, away, ends) = connected("127.0.0.1", "127.0.0.1");
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&away, sockopt::Linger, &linger).unwrap();
        drop(away);
        assert_eq!(judge(&here, ends, &root, &users), Err(Refused::Nobody));
    }

    #[test]
    fn another_connection_with_the_same_ends_is_another() {
        let (here, away, ends) = connected("127.0.0.1", "127.0.0.1");
        let inode = fstat(&here).unwrap().st_ino;
        let me = getuid().as_raw();
        assert_eq!(owner::of(ends.0, ends.1, inode).unwrap(), Owner::User(me));
        assert_eq!(
            owner::of(ends.0, ends.1, inode + 1).unwrap(),
            Owner::NotHere
        );
        // A listener that would take such a connection is not it.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let found = owner::of(listener.local_addr().unwrap(), nobody, inode);
        assert_eq!(found.unwrap(), Owner::Unknown);
        drop(away);
    }

    #[test]
    fn only_users_of_the_system_are_daemons() {
        for (uid, is) in [(0, true), (107, true), (61184, true), (1000, false)] {
            assert_eq!(is_of_the_system(uid), is, "{uid}");
        }
        assert_eq!(number("root"), Some(0));
        assert_eq!(number("1001"), Some(1001));
        assert_eq!(number("no-such-user-here"), None);
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(is_own(Ipv6Addr::LOCALHOST.into()));
        assert!(!is_own("192.0.2.77".parse().unwrap()));
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let room = Room::default();
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut held: Vec<Place> = (0..4).map(|_| room.take(address(1)).unwrap()).collect();
        assert_eq!(room.take(address(1)).unwrap_err(), Refused::Full);
        for n in 2..=13 {
            held.push(room.take(address(n)).unwrap());
        }
        assert_eq!(room.take(address(99)).unwrap_err(), Refused::Full);
        held.pop();
        held.push(room.take(address(99)).unwrap());
        held.clear();
        assert!(lock(&room.0).is_empty());
    }
}
