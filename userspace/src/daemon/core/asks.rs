//! Refusals, unless `--yes` is given, of what is hardly meant: a policy that polices nothing, and entries
//! for which [`meant`](crate::daemon::meant) has the tests.

use ipnet::IpNet;

use super::Core;
use crate::{
    config::meant,
    daemon::{
        by::By,
        meant::{is_known, is_wide},
        refusal::Refusal,
        trouble::Cause,
    },
    diagnostic::quoted,
    policy::{Bundle, OverlayEntry, OverlayTarget, Policy, unknown_interfaces},
};

impl Core {
    /// One `--yes` answers all that there is to ask: also whether what is kept in the kernel
    /// may be lost. `replaced` is given anew.
    fn ask(&self, by: &By, mut doubts: Vec<String>, replaced: &[Cause]) -> Result<(), Refusal> {
        if by.yes || doubts.is_empty() {
            return Ok(());
        }
        let kept = self.troubles.refuses(replaced);
        doubts.extend(kept.map(|refusal| refusal.message));
        let help = match by.command == By::RELOAD {
            true => "`kordon apply --yes` if that is meant",
            false => "`--yes` if that is meant",
        };
        Err(Refusal::new(doubts.join("; "), help))
    }

    /// Asks about a policy that somebody wants to be live.
    pub(super) fn ask_about_policy(
        &self,
        policy: &Policy,
        bundle: &Bundle,
        by: &By,
    ) -> Result<(), Refusal> {
        if !by.is_asked_for() {
            // There is nobody to ask: it is better than nothing, and `status` says so.
            return Ok(());
        }
        let interfaces = &self.config.interfaces;
        let names = || interfaces.iter().map(|interface| interface.name.as_str());
        let unknown = unknown_interfaces(bundle, |name| {
            (!names().any(|known| known == name)).then(|| meant(interfaces, names(), name))
        });
        let mut doubts = Vec::new();
        if !unknown.is_empty() {
            doubts.push("zones are on interfaces that the configuration does not have".to_owned());
        }
        if policy.zones.is_empty() {
            doubts.push("the policy has no zone: nothing would be enforced".to_owned());
        }
        self.ask(by, doubts, &[Cause::Policy])
            .map_err(|mut refusal| {
                refusal.diagnostics.errors.extend(unknown);
                refusal
            })
    }

    /// Asks about an entry of the overlay.
    pub(super) fn ask_about_entry(&self, entry: &OverlayEntry, by: &By) -> Result<(), Refusal> {
        let mut doubts = Vec::new();
        if is_wide(entry) {
            doubts.push(format!(
                "{} is a large part of the Internet, and all of it would pass",
                quoted(&entry.target.to_string())
            ));
        }
        if let OverlayTarget::Country(country) = entry.target
            && !self.updates.database.db.has_country_blocks()
            && !by.yes
        {
            // To mean it would not help: it is a source that is missing.
            return Err(Refusal::new(
                format!(
                    "no source of the ASN database has address blocks of countries: {} would \
                     match nothing",
                    quoted(&country.to_string())
                ),
                "add `countries` to `[asndb]` in `kordon.toml` and restart the daemon, or name the \
                 country in `asn_countries` of a set in the policy, which goes by where ASNs are \
                 registered",
            ));
        }
        if let (OverlayTarget::Prefix(IpNet::V6(net)), Some(live)) =
            (entry.target, &self.enforced.live)
            && live.policy.translates(&net)
        {
            doubts.push(format!(
                "`{net}` is in `nat64` of the policy: packets to it are judged by the IPv4 address \
                 in them, and nothing would match"
            ));
        }
        if !is_known(entry.target, &self.updates.database, self.bgp.is_some()) {
            doubts.push(match entry.target {
                OverlayTarget::Country(country) => format!(
                    "the ASN database has no address block of {}: nothing would match",
                    quoted(&country.to_string())
                ),
                target => format!(
                    "{target} announces nothing that the ASN database has: nothing would match"
                ),
            });
        }
        self.ask(by, doubts, &[])
    }
}
