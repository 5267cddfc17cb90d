//! What the doctor says: one [`Finding`] for each thing that was looked at, also where all was
//! well and where nothing could be seen. The words in [`Check`] and [`Level`] are API:
//! `docs/doctor.md` lists them.

use serde_json::{Value, json};

use super::fix::Fix;
use crate::coverage::Gap;

/// How bad it is. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is not enforced because of it, or will not be after the next start.
    Problem,
    /// Something may not be enforced because of it, and only a human can tell.
    Warning,
    /// It is in order, and good to know.
    Note,
    /// It could not be looked at. Never the same as in order.
    Unknown,
    /// In order.
    Fine,
}

impl Level {
    /// The word in `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Fine => "ok",
        }
    }
}

macro_rules! checks {
    ($($check:ident $name:literal $why:literal)+) => {
        /// What is looked at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check {
            $(#[doc = $why] $check,)+
        }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$check),+];

            /// The word in `--json`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$check => $name),+ }
            }

            /// Why it matters.
            #[must_use]
            pub const fn why(self) -> &'static str {
                match self { $(Self::$check => $why),+ }
            }
        }
    };
}

checks! {
    Enforcing "enforcing" "what is not enforced passes"
    Daemon "daemon" "without a daemon programs in the kernel go on, but nobody mends or watches them, and rules that end by time do not end"
    Configuration "configuration" "a daemon that cannot read its configuration does not start"
    Policy "policy" "a policy that cannot be read is refused, and the one before stays live"
    Kernel "kernel" "the programs are made for Linux 6.1 and later, and older kernels refuse them"
    Btf "btf" "programs and maps are loaded with the types that the kernel describes there"
    Jit "jit" "without the JIT each packet is interpreted, which takes many times as long"
    Lockdown "lockdown" "a kernel that is locked down refuses some of what BPF programs do"
    Bpffs "bpffs" "programs and rules that are not pinned in a BPF file system end with the daemon"
    Capabilities "capabilities" "without CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON nothing can be loaded or attached"
    Interface "interface" "what comes in on an interface that is not there under its configured name is not policed"
    Device "device" "where frames have lost their VLAN tag already, the zone of a frame cannot be told"
    Tags "tags" "a VLAN tag that is beside the frame is not seen by XDP, and the frame passes as untagged"
    Mode "mode" "in generic mode each packet costs several times as much, and some devices show no tags in it"
    VlanFilter "vlan-filter" "a card that filters VLANs drops those without a sub-interface before anything counts them"
    Mtu "mtu" "frames that do not fit into one page need a driver that gives them to XDP in pieces"
    Gro "gro" "a card that merges frames does not go together with native XDP, and counters count the merged frame once"
    Queues "queues" "a virtio card takes a native program only where it has queues to spare, or shares them"
    ForeignXdp "foreign-xdp" "only one XDP program can be on an interface, and kordon takes no other off"
    ForeignTc "foreign-tc" "a filter that takes frames away or redirects them leads them past what kordon counts"
    Guard "guard" "without the guard behind the program nobody notices that tags are hidden from it"
    Flowtable "flowtable" "the packets of a flow that the card forwards by itself reach no program"
    Coverage "coverage" "what a camera sends into another device is not policed"
    Ledger "ledger" "what it does not have cannot be told of a camera; packets are judged and counted all the same"
    Evidence "evidence" "what is not written there is forgotten with the next boot, and cannot be proven; packets are judged and counted all the same"
    NoZone "no-zone" "frames of VLANs without a zone are not policed"
    Zone "zone" "a zone without packets is one whose devices are off, or come in where kordon does not look"
    Sources "sources" "a packet whose source its zone cannot have is dropped, whatever the rules say"
    Database "database" "rules on ASNs and countries are as right as the database that says who has which address"
    Clock "clock" "rules that end, trials, certificates and the age of the database go by the clock"
    State "state" "what is live is kept there: without it changes are refused, and a boot has nothing to start with"
    Groups "groups" "members of these groups may use the control sockets without being root"
    BootGuard "boot-guard" "between power-on and the start of the daemon a router forwards what nothing judges"
    Service "service" "after a boot nothing is enforced before the daemon has started"
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How bad it is.
    pub level: Level,
    /// Of which interface, zone or file.
    pub about: Option<String>,
    /// What was found; of [`Level::Unknown`]: why it could not be looked at.
    pub found: String,
    /// What would cure it.
    pub cure: Option<String>,
    /// What `--fix` does.
    pub fix: Option<Fix>,
}

impl Finding {
    fn new(check: Check, level: Level, found: impl Into<String>) -> Self {
        Self {
            check,
            level,
            about: None,
            found: found.into(),
            cure: None,
            fix: None,
        }
    }

    /// See [`Level::Problem`].
    pub fn problem(check: Check, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(check, Level::Problem, found).cured(cure)
    }

    /// See [`Level::Warning`].
    pub fn warning(check: Check, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, found).cured(cure)
    }

    /// See [`Level::Note`].
    pub fn note(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Level::Note, found)
    }

    /// See [`Level::Unknown`].
    pub fn unknown(check: Check, because: impl Into<String>) -> Self {
        Self::new(check, Level::Unknown, because)
    }

    /// See [`Level::Fine`].
    pub fn fine(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Level::Fine, found)
    }

    /// Something leads around kordon.
    pub(super) fn gap(check: Check, gap: Gap) -> Self {
        let level = match gap.is_certain {
            true => Level::Problem,
            false => Level::Warning,
        };
        let finding = Self::new(check, level, gap.found);
        finding.cured(gap.cure).about(gap.device)
    }

    /// With what would cure it.
    #[must_use]
    pub fn cured(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// Of which interface, zone or file.
    #[must_use]
    pub fn about(mut self, what: impl Into<String>) -> Self {
        self.about = Some(what.into());
        self
    }

    /// With what `--fix` does.
    #[must_use]
    pub fn fixed_by(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// Its object in `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "check": self.check.as_str(),
            "level": self.level.as_str(),
            "about": self.about,
            "found": self.found,
            "why": self.check.why(),
            "cure": self.cure,
            "fixable": self.fix.is_some(),
        })
    }
}
