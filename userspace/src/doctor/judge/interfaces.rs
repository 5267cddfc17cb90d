//! The configured interfaces: whether each is there, what it is made of, and whether tags are
//! in its frames.

use crate::{
    config::Interface,
    datapath::{Attached, attach::Mode},
    diagnostic::did_you_mean,
    doctor::{
        facts::{Facts, Kind, Link, More},
        finding::{Check, Finding},
        fix::Fix,
    },
    policy::model::VlanMatch,
};

/// From this MTU on a frame does not fit into one page beside what XDP needs.
const ONE_PAGE: u32 = 3498;
/// Features that take tags out of received frames: the kernel's name, that of `ethtool -K`.
const RECEIVING: [(&str, &str); 2] = [
    ("rx-vlan-hw-parse", "rxvlan"),
    ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
];
/// Features of the other end of a veth that leave tags beside frames.
const SENDING: [&str; 2] = ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"];
/// Switches both off.
const SENDING_OFF: [&str; 4] = ["txvlan", "off", "tx-vlan-stag-hw-insert", "off"];

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    if let Err(why) = &facts.links {
        return vec![Finding::unknown(Check::Interface, why)];
    }
    if facts.devices().next().is_none() {
        let why = "no interface is configured, as far as the configuration can be read";
        return vec![Finding::unknown(Check::Interface, why)];
    }
    let mut found = Vec::new();
    for (interface, link) in facts.devices() {
        let device = &interface.device;
        let here = match link {
            None => vec![missing(facts, device)],
            Some(link) => one(facts, interface, link),
        };
        found.extend(here.into_iter().map(|finding| match finding.about {
            Some(_) => finding,
            None => finding.about(device),
        }));
    }
    found
}

fn missing(facts: &Facts, device: &str) -> Finding {
    if facts.judged_by(device).is_some() {
        return Finding::warning(
            Check::Interface,
            format!("`{device}` is called something else now, and is policed until the next start"),
            "change `device` in kordon.toml, or the name back",
        );
    }
    let names = facts.all_links().iter().map(|link| link.name.as_str());
    let names: Vec<&str> = names.filter(|name| *name != "lo").collect();
    let meant = did_you_mean(device, names.iter().copied());
    let cure = match meant {
        Some(meant) => {
            format!("did you mean `{meant}`? `device` in kordon.toml is what `ip link` shows")
        }
        None => format!(
            "set `device` in kordon.toml to one of these: {}; or wait, if it is to appear later",
            names.join(", ")
        ),
    };
    Finding::problem(
        Check::Interface,
        format!("there is no interface `{device}`"),
        cure,
    )
}

fn one(facts: &Facts, interface: &Interface, link: &Link) -> Vec<Finding> {
    let name = &link.name;
    let mut found = vec![if link.is_up {
        Finding::fine(Check::Interface, format!("`{name}` is there and up"))
    } else {
        Finding::warning(
            Check::Interface,
            format!("`{name}` is down: nothing arrives there"),
            format!("`ip link set dev {name} up`"),
        )
    }];
    found.push(made_of(facts, interface, link));
    let mode = mode(facts, interface, link);
    found.push(mtu(facts, interface, link));
    match &link.more {
        Some(more) => found.extend(features(facts, link, more)),
        None => found.push(Finding::unknown(Check::Tags, "its features were not read")),
    }
    found.extend(mode);
    found
}

/// Whether it is a device whose frames still have their tags.
fn made_of(facts: &Facts, interface: &Interface, link: &Link) -> Finding {
    let name = &link.name;
    let quoted = |names: Vec<&str>| match names.is_empty() {
        true => "of which it has none yet".to_owned(),
        false => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        }
    };
    let ports = || {
        quoted(
            facts
                .ports(link.index)
                .map(|port| port.name.as_str())
                .collect(),
        )
    };
    let below = link.below.and_then(|below| facts.by_index(below));
    let below = below.map_or("the device below it".to_owned(), |link| {
        format!("`{}`", link.name)
    });
    // One that is policed in spite of it, by the guard maybe.
    let works = facts.judged_by(name).is_some();
    let (what, cure) = match &link.kind {
        Kind::Bridge(filtering) => (
            format!(
                "`{name}` is a bridge{}, where no frame has its tag any more",
                if *filtering { " with VLANs" } else { "" }
            ),
            format!(
                "police its ports instead, each with an `[[interface]]` of its own: {}",
                ports()
            ),
        ),
        Kind::Bond if interface.mode == Mode::Generic => (
            format!("`{name}` is a bond in generic mode, where no frame has its tag any more"),
            format!(
                "`mode = \"native\"`, or police its ports, each with an `[[interface]]` of its own: {}",
                ports()
            ),
        ),
        Kind::Macvlan => (
            format!("`{name}` is a macvlan: it is given frames when their tags are out already"),
            format!("police {below} instead, where all of its frames arrive with their tags"),
        ),
        Kind::Vlan(vid) if names_tags(facts, interface) => (
            format!(
                "`{name}` is the sub-interface of VLAN {vid}: its frames have no tag any more, and a \
                 zone that names VLANs never has one of them"
            ),
            format!(
                "police {below} instead; or keep it, and give the zone `vlans = [\"untagged\"]` and \
                 `interfaces = [\"{}\"]`",
                interface.name
            ),
        ),
        kind => {
            let words = match kind {
                Kind::Veth => "one end of a veth",
                Kind::Bond => "a bond",
                Kind::Vlan(_) => "a VLAN sub-interface, and so its zone sees it",
                Kind::Other(kind) => kind,
                _ => "a network card",
            };
            return Finding::fine(Check::Device, format!("`{name}` is {words}"));
        }
    };
    if works {
        return Finding::note(Check::Device, what).cured(cure);
    }
    Finding::problem(Check::Device, what, cure)
}

/// Whether a zone that has this interface goes by tags.
fn names_tags(facts: &Facts, interface: &Interface) -> bool {
    let zones = facts.rules().map_or(&[][..], |policy| &policy.zones);
    let mut here = zones.iter().filter(|zone| zone.is_on(&interface.name));
    // One that has its frames as they are is enough.
    let untagged = |vlans: &[VlanMatch]| vlans.is_empty() || vlans.contains(&VlanMatch::Untagged);
    !here.any(|zone| untagged(&zone.vlans))
}

/// How its program is attached.
fn attached(facts: &Facts, link: &Link) -> Option<Attached> {
    let pinned = facts.pinned.as_ref().ok();
    let pinned = pinned.and_then(|all| all.iter().find(|p| p.device == link.name)?.mode);
    let said = facts.judged_by(&link.name).and(facts.said(&link.name));
    let said = said.and_then(|said| match said["mode"].as_str() {
        Some("native") => Some(Attached::Native),
        Some("generic") => Some(Attached::Generic),
        _ => None,
    });
    said.or(pinned)
}

fn mode(facts: &Facts, interface: &Interface, link: &Link) -> Option<Finding> {
    let name = &link.name;
    let driver = link
        .more
        .as_ref()
        .and_then(|more| more.driver.as_ref().ok());
    let driver = driver.map_or(String::new(), |driver| format!(", driver `{driver}`"));
    if facts.said(name).is_some_and(|said| said["mode"] == "tc") {
        return Some(match interface.mode {
            Mode::Tc => Finding::fine(
                Check::Mode,
                format!("`{name}` is policed in tc, as configured{driver}"),
            ),
            _ => Finding::note(
                Check::Mode,
                format!("`{name}` is policed in tc alone{driver}, which costs more than XDP"),
            ),
        });
    }
    Some(match attached(facts, link)? {
        Attached::Native => Finding::fine(Check::Mode, format!("`{name}` is in native mode{driver}")),
        Attached::Generic if interface.mode == Mode::Generic => {
            Finding::fine(Check::Mode, format!("`{name}` is in generic mode, as configured{driver}"))
        }
        Attached::Generic => Finding::note(
            Check::Mode,
            format!("`{name}` is in generic mode{driver}: its driver did not take the program"),
        )
        .cured(
            "it enforces, and costs more: docs/benchmarks.md has what; a card whose driver has native \
             XDP (virtio_net, igb, ixgbe, i40e, ice, mlx5) does without, once `kordon detach` and a \
             start have put the program there anew",
        ),
    })
}

fn mtu(facts: &Facts, interface: &Interface, link: &Link) -> Finding {
    let peer = link.below.filter(|_| link.kind == Kind::Veth);
    let peer = peer.and_then(|index| facts.by_index(index));
    let largest = peer.map_or(link.mtu, |peer| link.mtu.max(peer.mtu));
    let name = &link.name;
    if largest <= ONE_PAGE {
        return Finding::fine(Check::Mtu, format!("that of `{name}` is {largest}"));
    }
    let whose = match peer {
        Some(peer) if peer.mtu > link.mtu => {
            format!("of `{}`, the other end of `{name}`,", peer.name)
        }
        _ => format!("of `{name}`"),
    };
    let words = format!(
        "the MTU {whose} is {largest}: frames of more than {ONE_PAGE} bytes come in pieces"
    );
    if attached(facts, link) == Some(Attached::Native) {
        return Finding::note(
            Check::Mtu,
            format!("{words}, which its driver gives to XDP as they are"),
        );
    }
    let cure = "nothing in generic mode; native mode needs a driver that knows pieces (`xdp.frags`), \
                and a card that does not is attached in generic mode with `mode = \"auto\"`";
    if interface.mode == Mode::Native {
        let cure = format!("{cure}: set that, or the MTU to {ONE_PAGE} or less");
        return Finding::warning(Check::Mtu, words, cure);
    }
    Finding::note(Check::Mtu, words).cured(cure)
}

fn features(facts: &Facts, link: &Link, more: &More) -> Vec<Finding> {
    let name = &link.name;
    if link.kind == Kind::Veth {
        return vec![peer(facts, link)];
    }
    // Of a bond, on its ports.
    let ports: Vec<&Link> = match link.kind {
        Kind::Bond => facts.ports(link.index).collect(),
        _ => vec![link],
    };
    let mut found = Vec::new();
    for port in ports {
        let more = port.more.as_ref().unwrap_or(more);
        match &more.features {
            Ok(on) => found.extend(card(facts, name, port, on)),
            Err(why) => {
                let checks = [Check::Tags, Check::Gro, Check::VlanFilter];
                found.extend(checks.map(|check| Finding::unknown(check, why)));
            }
        }
    }
    found
}

fn card(facts: &Facts, configured: &str, port: &Link, on: &[String]) -> Vec<Finding> {
    let name = &port.name;
    let is_on = |feature: &str| on.iter().any(|on| on == feature);
    let strips = RECEIVING.iter().find(|(feature, _)| is_on(feature));
    let found = facts
        .devices()
        .find(|(interface, _)| interface.device == configured);
    let interface = found.map(|(interface, _)| interface);
    let is_silent = facts.daemon.status().is_none();
    let manages = is_silent && interface.is_some_and(|i| i.manage_offload);
    let is_tc = interface.is_some_and(|i| i.mode == Mode::Tc);
    // The guard sees tags that no program in XDP does.
    let guard_may = interface.is_some_and(|i| i.guard && i.mode == Mode::Auto);
    let stands_in = facts.judged_by(configured) == Some("tc") || is_silent && guard_may;
    let mut found = vec![match strips {
        None => Finding::fine(
            Check::Tags,
            format!("`{name}` leaves VLAN tags in received frames"),
        ),
        Some((feature, _)) if is_tc => Finding::fine(
            Check::Tags,
            format!("{feature} is on at `{name}`, which does not matter in tc"),
        ),
        Some((feature, _)) if manages => Finding::note(
            Check::Tags,
            format!(
                "{feature} is on at `{name}`: the daemon switches it off, since `manage_offload = true`"
            ),
        ),
        Some((feature, switch)) => {
            let words = format!(
                "{feature} is on at `{name}`: the card takes VLAN tags out of frames before XDP{}",
                match stands_in {
                    true => ", and the guard in tc has to police it, at a higher price",
                    false => "",
                }
            );
            let cure = format!(
                "`ethtool -K {name} {switch} off`, and `manage_offload = true` for `{configured}`, so \
                 that the daemon does it by itself at each boot"
            );
            let finding = match stands_in {
                true => Finding::warning(Check::Tags, words, cure),
                false => Finding::problem(Check::Tags, words, cure),
            };
            finding.fixed_by(Fix::Offload(name.clone()))
        }
    }];
    let merges: Vec<&str> = ["rx-lro", "rx-gro-hw"]
        .into_iter()
        .filter(|f| is_on(f))
        .collect();
    found.push(if merges.is_empty() {
        Finding::fine(
            Check::Gro,
            format!("`{name}` does not merge frames in hardware"),
        )
    } else {
        Finding::note(
            Check::Gro,
            format!(
                "{} is on at `{name}`: the card merges frames",
                merges.join(" and ")
            ),
        )
        .cured(format!("`ethtool -K {name} lro off rx-gro-hw off`"))
        .fixed_by(Fix::Ethtool(
            name.clone(),
            &["lro", "off", "rx-gro-hw", "off"],
        ))
    });
    let filter = ["rx-vlan-filter", "rx-vlan-stag-filter"]
        .into_iter()
        .find(|f| is_on(f));
    found.push(match filter {
        Some(feature) => Finding::note(
            Check::VlanFilter,
            format!(
                "{feature} is on at `{name}`: the card drops frames of VLANs that have no sub-interface, \
                 which no counter here shows"
            ),
        )
        .cured(format!(
            "nothing, if all VLANs have one; `ethtool -K {name} rx-vlan-filter off` to see and count the others"
        )),
        None => Finding::fine(Check::VlanFilter, format!("`{name}` takes frames of every VLAN")),
    });
    found
}

/// The other end of a veth, which decides whether tags are in frames.
fn peer(facts: &Facts, link: &Link) -> Finding {
    let name = &link.name;
    let Some(peer) = link.below.and_then(|index| facts.by_index(index)) else {
        let said = facts.said(name);
        let watched = said.is_some_and(|said| said["by"] == "xdp" && !said["guard"].is_null());
        let words = format!("the other end of the veth `{name}` is in another network namespace");
        return match watched {
            true => Finding::fine(
                Check::Tags,
                format!("{words}, and the guard has seen no hidden tag"),
            ),
            false => Finding::unknown(Check::Tags, words),
        };
    };
    let on = match peer.more.as_ref().map(|more| &more.features) {
        Some(Ok(on)) => on,
        Some(Err(why)) => return Finding::unknown(Check::Tags, why),
        None => {
            return Finding::unknown(
                Check::Tags,
                format!("the features of `{}` were not read", peer.name),
            );
        }
    };
    let peer = &peer.name;
    match SENDING.iter().find(|feature| on.iter().any(|on| on == *feature)) {
        None => Finding::fine(Check::Tags, format!("`{peer}`, the other end of `{name}`, writes tags into frames")),
        Some(feature) => Finding::warning(
            Check::Tags,
            format!(
                "{feature} is on at `{peer}`, the other end of the veth `{name}`: it leaves tags beside the \
                 frames that it sends"
            ),
            format!("`ethtool -K {peer} {}`", SENDING_OFF.join(" ")),
        )
        .fixed_by(Fix::Ethtool(peer.clone(), &SENDING_OFF)),
    }
}
