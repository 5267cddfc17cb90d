//! What `kordon status` claims of an interface, what arrived beside it, and what the two come to.

use serde_json::{Value, json};

use super::{cell::Stack, server::Arrived};

/// What is claimed of an interface at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Whether what the policy drops is dropped.
    pub(super) claimed: bool,
    /// By whom: `xdp`, `tc`, or `none`.
    pub(super) by: &'static str,
    mode: Option<String>,
}

impl Claim {
    /// With a daemon that is what it says; without, what `status` says that programs in the kernel
    /// go on doing: one that is attached, with rules.
    pub(super) fn of(status: &Value, name: &str) -> Self {
        let interface = interface(status, name);
        let has_daemon = has_daemon(status);
        let mode = interface["mode"].as_str();
        let goes_on = interface["attached"] == true && interface["rules"] != false;
        let by = match (has_daemon, interface["by"].as_str()) {
            (true, Some("xdp")) => "xdp",
            (true, Some("tc")) => "tc",
            (false, _) if goes_on => match mode {
                Some("tc") => "tc",
                _ => "xdp",
            },
            _ => "none",
        };
        Self {
            claimed: match has_daemon {
                true => interface["enforcing"] == true,
                false => goes_on,
            },
            by,
            mode: mode.map(str::to_owned),
        }
    }
}

/// Whether a daemon has answered.
pub(super) fn has_daemon(status: &Value) -> bool {
    !status["started_at"].is_null()
}

fn interface<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["interfaces"].as_array();
    let mut of = all.into_iter().flatten();
    of.find(|of| of["name"] == name).unwrap_or(&Value::Null)
}

/// What is said of it: the first reason of its own, or what names one of these devices.
pub(super) fn said<'a>(status: &'a Value, name: &str, devices: &[&str]) -> Option<&'a str> {
    let interface = interface(status, name);
    let of = |list: &'a Value| list.as_array().into_iter().flatten();
    let own = of(&interface["reasons"]).chain([&interface["problem"]]);
    let all = of(&status["reasons"]).chain(of(&status["notices"]));
    let is_named = |said: &&str| {
        let mut devices = devices.iter();
        devices.any(|device| said.contains(&format!("`{device}`")))
    };
    let mut all = all.filter_map(Value::as_str).filter(is_named);
    own.filter_map(Value::as_str).next().or_else(|| all.next())
}

/// One check of one cell. `claim` is of an answer from before the frames were sent and of one
/// from after they had arrived: both said the same.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) kernel: &'a str,
    pub(super) nic: &'a str,
    pub(super) stack: &'a str,
    pub(super) policed: &'a str,
    pub(super) check: &'a str,
    pub(super) claim: &'a Claim,
    /// Whether the two answers were the same.
    pub(super) settled: bool,
    /// Of each kind of frames.
    pub(super) sent: u64,
    pub(super) arrived: Arrived,
    /// Blocked frames that arrived earlier, while the claim was changing.
    pub(super) leaked: u64,
    pub(super) rounds: u32,
    /// Whether a daemon has answered.
    pub(super) has_daemon: bool,
    pub(super) said: Option<&'a str>,
    pub(super) note: Option<&'a str>,
}

impl Line<'_> {
    /// Whether nothing blocked arrived, by a card that lives.
    fn enforced(&self) -> bool {
        self.arrived.blocked == 0 && self.arrived.allowed > 0
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        let Arrived { blocked, allowed } = self.arrived;
        let sent = self.sent;
        if self.claim.claimed && blocked > 0 {
            return Some(format!(
                "status claims that it is enforced, and {blocked} of {sent} blocked frames arrived"
            ));
        }
        if allowed == 0 {
            return Some(format!(
                "none of {sent} allowed frames arrived: that blocked ones did not either shows nothing"
            ));
        }
        if !self.settled {
            return Some(format!(
                "status says something else after {} rounds",
                self.rounds
            ));
        }
        match (self.check, self.claim.claimed) {
            ("detach", true) => Some("status claims that it is enforced".to_owned()),
            ("detach", false) if blocked == 0 => {
                Some("it is detached, and no blocked frame arrived".to_owned())
            }
            ("detach", false) => None,
            // All others end enforced, be it after a while; that nobody is misled is not enough.
            (_, false) if self.policed != Stack::Bridge.words().1 => {
                let said = self.said.unwrap_or("nothing about it");
                Some(format!("it is not enforced; status says {said}"))
            }
            // Whoever reads it must learn what to do.
            _ if self.has_daemon && self.claim.by != "xdp" && self.said.is_none() => {
                Some("status does not say why XDP does not enforce there".to_owned())
            }
            _ => None,
        }
    }

    /// In a sentence, and as an object.
    pub(super) fn words(&self) -> String {
        let problem = self.problem();
        let Arrived { blocked, allowed } = self.arrived;
        let Claim { claimed, by, mode } = self.claim;
        let enforced = self.enforced();
        let word = if problem.is_some() { "FAILED" } else { "ok" };
        let what = problem.clone().unwrap_or_else(|| {
            let is = |it: bool| if it { "" } else { "not " };
            format!(
                "{}claimed by {by}, {}enforced, {blocked} of {} arrived",
                is(*claimed),
                is(enforced),
                self.sent
            )
        });
        let object = json!({
            "kernel": self.kernel,
            "nic": self.nic,
            "stack": self.stack,
            "check": self.check,
            "enforced": enforced,
            "claimed": claimed,
            "by": by,
            "policed": self.policed,
            "mode": mode,
            "sent": self.sent,
            "arrived": blocked,
            "allowed_arrived": allowed,
            "leaked_before": self.leaked,
            "rounds": self.rounds,
            "said": self.said,
            "note": self.note,
            "problem": problem,
        });
        format!(
            "{word} matrix, {} {}, {} ({}), {}: {what} {object}",
            self.kernel, self.nic, self.stack, self.policed, self.check
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(check: &'a str, claim: &'a Claim, blocked: u64, allowed: u64) -> Line<'a> {
        Line {
            kernel: "6.1",
            nic: "virtio",
            stack: "plain",
            policed: "card",
            check,
            claim,
            settled: true,
            sent: 10,
            arrived: Arrived { blocked, allowed },
            leaked: 0,
            rounds: 1,
            has_daemon: true,
            said: None,
            note: None,
        }
    }

    #[test]
    fn a_claim_that_is_not_so_is_a_failure() {
        let status = json!({"started_at": "now", "interfaces": [
            {"name": "a", "enforcing": true, "by": "xdp", "mode": "native"},
            {"name": "b", "enforcing": false, "by": null, "mode": "auto"}],
            "reasons": ["cannot attach to `eth1`: no"], "notices": []});
        let claim = Claim::of(&status, "a");
        assert_eq!((claim.claimed, claim.by), (true, "xdp"));
        assert_eq!(line("start", &claim, 0, 10).problem(), None);
        let leak = line("start", &claim, 1, 10);
        assert!(
            leak.words()
                .starts_with("FAILED matrix, 6.1 virtio, plain (card), start: ")
        );
        assert!(
            leak.words()
                .contains("\"enforced\":false,\"claimed\":true,\"by\":\"xdp\"")
        );
        assert!(line("start", &claim, 0, 0).problem().is_some());
        assert!(line("detach", &claim, 0, 10).problem().is_some());
        let none = Claim::of(&status, "b");
        assert_eq!((none.claimed, none.by), (false, "none"));
        assert!(line("start", &none, 10, 10).problem().is_some());
        // Of a bridge that is as it should be, if somebody says why.
        let mut bridge = line("start", &none, 10, 10);
        bridge.policed = "bridge";
        assert!(bridge.problem().is_some());
        bridge.said = said(&status, "b", &["eth1"]);
        assert_eq!(bridge.problem(), None);
        assert_eq!(line("detach", &none, 10, 10).problem(), None);
        assert!(line("detach", &none, 0, 10).problem().is_some());
    }

    #[test]
    fn programs_that_go_on_without_a_daemon_are_a_claim() {
        let status = |mode: &str, rules: Value| json!({"interfaces": [{"name": "a", "attached": true, "mode": mode, "rules": rules}]});
        let of = |mode: &str, rules: Value| {
            let claim = Claim::of(&status(mode, rules), "a");
            (claim.claimed, claim.by)
        };
        assert_eq!(of("native", true.into()), (true, "xdp"));
        assert_eq!(of("native", false.into()), (false, "none"));
        assert_eq!(of("tc", Value::Null), (true, "tc"));
    }
}
