//! Who asks. The kernel takes a process's credentials down when it connects, so that no
//! client says who it is; root alone says for whom.

use std::{ffi::CString, fmt, time::Duration};

use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};
use serde::{Deserialize, Serialize};
use tokio::{net::unix::UCred, task::spawn_blocking, time::timeout};

/// For the system to say what a user is called: it may ask a directory on the network.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its number in this daemon's namespace; it may have ended since.
    pub pid: Option<i32>,
    /// What the user is called; the number where nobody knows.
    pub name: String,
    /// Who logged in, where root asks and the kernel knows: whom `sudo` stands between.
    pub login: Option<String>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(login) = &self.login {
            write!(f, " for {login}")?;
        }
        match self.pid {
            Some(pid) => write!(f, " (uid {}, pid {pid})", self.uid),
            None => write!(f, " (uid {})", self.uid),
        }
    }
}

impl Peer {
    /// Whether it is root, or whoever the daemon runs as.
    #[must_use]
    pub fn is_root(&self) -> bool {
        is_root(self.uid)
    }

    /// With names, where the system knows them in time.
    pub(super) async fn of(credentials: &UCred) -> Self {
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        let login = pid.filter(|_| uid == 0);
        let login = login.and_then(|pid| login_uid(&pid.to_string()));
        let names = spawn_blocking(move || {
            let name = if uid == 0 { None } else { name_of(uid) };
            (name, login.and_then(name_of))
        });
        let (name, login_name) = match timeout(PATIENCE, names).await {
            Ok(Ok(names)) => names,
            _ => (None, None),
        };
        let number = |uid: u32| {
            if uid == 0 {
                "root".into()
            } else {
                uid.to_string()
            }
        };
        Self {
            uid,
            gid,
            pid,
            name: name.unwrap_or_else(|| number(uid)),
            login: login.map(|login| login_name.unwrap_or_else(|| number(login))),
        }
    }

    /// Takes root's word for who logged in, where `/proc` does not show it (`ProtectProc` of
    /// the unit). Nobody else is believed; root may write what `/proc` shows.
    pub(super) async fn for_login(&mut self, login: Option<u32>) {
        let (0, None, Some(login)) = (self.uid, &self.login, login) else {
            return;
        };
        let name = timeout(PATIENCE, spawn_blocking(move || name_of(login))).await;
        let name = name.ok().and_then(Result::ok).flatten();
        self.login = Some(name.unwrap_or_else(|| login.to_string()));
    }
}

/// Root, and whoever the daemon runs as.
pub(super) fn is_root(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Whether a user is in one of these groups by the system's list, or his process is, as a
/// service manager may have started it.
pub(super) fn is_member(uid: u32, beside: &[Gid], groups: &[Gid]) -> bool {
    let listed = || {
        let user = User::from_uid(Uid::from_raw(uid)).ok()??;
        let name = CString::new(user.name).ok()?;
        getgrouplist(&name, user.gid).ok()
    };
    let is_one = |all: &[Gid]| all.iter().any(|group| groups.contains(group));
    is_one(beside) || listed().is_some_and(|all| is_one(&all))
}

/// Who began the session of this process.
pub(super) fn own_login() -> Option<u32> {
    login_uid("self")
}

/// Who began the session that a process belongs to; nobody did for services.
fn login_uid(process: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{process}/loginuid")).ok()?;
    let uid = text.trim().parse().ok()?;
    (uid != u32::MAX && uid != 0).then_some(uid)
}

/// Names go to logs and terminals, and a directory may hold anything.
fn name_of(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok()??;
    let fits = |c: char| c.is_alphanumeric() || "-_.@$+\\".contains(c);
    (!user.name.is_empty() && user.name.chars().all(fits)).then_some(user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_kernel_says_who_asks() {
        let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&ours.peer_cred().unwrap()).await;
        assert_eq!(peer.uid, geteuid().as_raw());
        assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        assert_eq!(peer.pid, Some(std::process::id().cast_signed()));
        if peer.uid == 0 {
            assert_eq!(peer.name, "root");
        }
        assert!(
            peer.to_string()
                .contains(&format!("pid {}", std::process::id()))
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_root_says_for_whom() {
        let someone = |uid| Peer {
            uid,
            gid: 0,
            pid: None,
            name: uid.to_string(),
            login: None,
        };
        for (uid, believed) in [(0, Some("4000000001")), (1000, None)] {
            let mut peer = someone(uid);
            peer.for_login(Some(4_000_000_001)).await;
            assert_eq!(peer.login.as_deref(), believed);
        }
        let mut peer = someone(0);
        peer.login = Some("ann".into());
        peer.for_login(Some(4_000_000_001)).await;
        assert_eq!(peer.login.as_deref(), Some("ann"), "the kernel said so");
    }

    #[test]
    fn groups_of_a_process_count() {
        let nobody = 4_000_000_001;
        let [ours, theirs] = [7, 8].map(Gid::from_raw);
        assert!(is_member(nobody, &[theirs, ours], &[ours]));
        assert!(!is_member(nobody, &[theirs], &[ours]));
        assert!(is_member(0, &[], &[Gid::from_raw(0)]));
    }

    #[test]
    fn names() {
        assert_eq!(name_of(0).as_deref(), Some("root"));
        assert_eq!(name_of(4_000_000_001), None);
        let peer = Peer {
            uid: 0,
            gid: 0,
            pid: Some(7),
            name: "root".into(),
            login: Some("ann".into()),
        };
        assert_eq!(peer.to_string(), "root for ann (uid 0, pid 7)");
    }
}
