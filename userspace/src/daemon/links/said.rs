//! The sentence for a program that does not see all frames: which tags are hidden, by what, and the
//! command that cures it. Likewise for a guard that others are called before.

use kordon_ebpf::seen::Kind;

use super::{device::Device, watch::Blind};
use crate::datapath::{
    interface::{self, Interface, Kind as Made},
    kernel::Datapath,
};

impl Device {
    /// Looks whether anything is called before its guard.
    pub(super) fn note_overtaken(&mut self, datapath: &Datapath, found: &Interface) {
        let name = &found.name;
        let overtaken = match self
            .hook
            .map(|hook| datapath.before_guard(&self.config.device, found, hook))
        {
            None | Some(Ok(None)) => None,
            Some(Ok(Some(count))) => Some(format!(
                "{count} program(s) of others are called before the guard of `{name}` and may keep packets \
                 from it; `bpftool net show dev {name}` lists them, and `bpftool link detach id N` takes one off"
            )),
            Some(Err(e)) => Some(e.to_string()),
        };
        if overtaken != self.overtaken {
            match &overtaken {
                Some(words) => tracing::error!("{words}"),
                None => tracing::info!("nothing is called before the guard of `{name}` any more"),
            }
        }
        self.overtaken = overtaken;
    }

    /// What is hidden, why, and what helps.
    pub(super) fn words(&self, datapath: &Datapath, blind: Blind) -> String {
        let device = self.renamed.as_ref().unwrap_or(&self.config.device);
        let kind = match blind {
            Blind::Uncalled => {
                let what = format!(
                    "frames get past the program on `{device}`, which is not called for them"
                );
                return if self.renewed == 0 {
                    format!("{what}; it is attached anew")
                } else {
                    format!(
                        "{what}, and attaching it anew did not help: `ip link set dev {device} \
                         down`, then `up`, or `mode = \"generic\"` for it may; `tc filter show` on \
                         other interfaces shows what redirects frames into it"
                    )
                };
            }
            Blind::Hidden(kind) => kind,
        };
        let tags = match kind {
            Kind::Stacked => "the outer of several VLAN tags".to_owned(),
            kind => format!("VLAN tags ({})", kind.as_str()),
        };
        let found = datapath.find(&self.config.device).ok().flatten();
        let cure = match found {
            Some(found) if found.kind == Made::Veth => {
                let peer = found
                    .below
                    .and_then(|index| interface::query_index(index).ok()?);
                let (peer, place) = match &peer {
                    Some(peer) => (peer.name.as_str(), ""),
                    None => ("DEVICE", ", DEVICE being its name, in its namespace"),
                };
                format!(
                    "the other end of this veth keeps them beside the frame; run \
                     `ethtool -K {peer} txvlan off tx-vlan-stag-hw-insert off` there{place}"
                )
            }
            _ => format!(
                "the driver keeps them beside the frame; run \
                 `ethtool -K {device} rxvlan off rx-vlan-stag-hw-parse off`, or police another \
                 interface"
            ),
        };
        format!("{tags} are hidden from the program on `{device}`: {cure}")
    }
}
