//! Which interfaces a packet may have come in on. Zones and `unknown_vlans` depend on it, so
//! a verdict that leaves it open is one only where all of them agree.

use crate::{
    compile::generation::PortSpec,
    config::{Interface, meant},
    diagnostic::{Problem, quoted},
    policy::Policy,
};

/// The interface that was named, by its name or its device; else all that there are.
///
/// `offline` is a policy that is looked at away from its router: interfaces that it names are
/// there as well, and where none is configured, so is any other if that makes a difference.
///
/// # Errors
/// When there is no such interface.
pub fn ports(
    configured: &[Interface],
    offline: Option<&Policy>,
    wanted: Option<&str>,
) -> Result<Vec<PortSpec>, Problem> {
    let port = |interface: &Interface| PortSpec {
        logical: interface.name.clone(),
        drop_unknown: interface.drop_unknown,
    };
    let mut ports: Vec<PortSpec> = configured.iter().map(port).collect();
    let zones = offline.map_or(&[][..], |policy| &policy.zones);
    for name in zones.iter().flat_map(|zone| &zone.interfaces) {
        if !ports.iter().any(|port| port.logical == *name) {
            ports.push(PortSpec {
                logical: name.clone(),
                ..PortSpec::default()
            });
        }
    }
    let Some(wanted) = wanted else {
        let any_other =
            configured.is_empty() && zones.iter().any(|zone| zone.interfaces.is_empty());
        if ports.is_empty() || any_other {
            ports.push(PortSpec::default());
        }
        return Ok(ports);
    };
    if ports.is_empty() && offline.is_some() {
        // No zone asks for it.
        return Ok(vec![PortSpec {
            logical: wanted.to_owned(),
            ..PortSpec::default()
        }]);
    }
    let device = configured.iter().find(|i| i.device == wanted).map(port);
    let named = ports.iter().find(|port| port.logical == wanted).cloned();
    match named.or(device) {
        Some(port) => Ok(vec![port]),
        None => {
            let names = ports.iter().map(|port| port.logical.as_str());
            let mut help = meant(configured, names, wanted);
            if offline.is_some() && configured.is_empty() {
                help.push_str("; `--config FILE` names a `kordon.toml` that has others");
            }
            let message = format!("there is no interface {}", quoted(wanted));
            Err(Problem::new(message, help))
        }
    }
}

/// What an interface is called in a sentence.
pub(super) fn word(port: &PortSpec) -> String {
    match port.logical.as_str() {
        "" => "any other".to_owned(),
        name => quoted(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        policy::{Bundle, Context, Overlay, parse},
    };

    fn names(configured: &str, zones: &str, wanted: Option<&str>) -> Result<String, String> {
        let (config, _) = config::parse("kordon.toml".as_ref(), configured);
        let bundle = Bundle::from_text("p.toml", zones);
        let (policy, found) = parse(&bundle, &Overlay::default(), &Context::now(None));
        let policy = policy.unwrap_or_else(|| panic!("{found:?}"));
        let ports = ports(&config.unwrap().interfaces, Some(&policy), wanted)
            .map_err(|error| format!("{error}; {}", error.help))?;
        let words = ports.iter().map(|port| {
            let drops = if port.drop_unknown { "!" } else { "" };
            word(port) + drops
        });
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn named_or_all() {
        const CONFIG: &str = "[[interface]]\ndevice = \"eth1\"\nname = \"trunk\"\n\
            unknown_vlans = \"drop\"\n[[interface]]\ndevice = \"eth2\"\n";
        const NAMED: &str = "[zone.a]\nvlans = [20]\ninterfaces = [\"trunk\", \"uplink\"]\n";
        let both = format!("{NAMED}[zone.b]\nvlans = [20]\n");
        for (config, policy, wanted, result) in [
            (CONFIG, NAMED, None, Ok("`trunk`! `eth2` `uplink`")),
            (CONFIG, NAMED, Some("trunk"), Ok("`trunk`!")),
            (CONFIG, NAMED, Some("eth1"), Ok("`trunk`!")),
            (CONFIG, NAMED, Some("uplink"), Ok("`uplink`")),
            ("", NAMED, None, Ok("`trunk` `uplink`")),
            ("", &both, None, Ok("`trunk` `uplink` any other")),
            ("", "[zone.a]\nvlans = [20]\n", None, Ok("any other")),
            ("", "[zone.a]\nvlans = [20]\n", Some("lan"), Ok("`lan`")),
            (
                CONFIG,
                NAMED,
                Some("trank"),
                Err("there is no interface `trank`; did you mean `trunk`"),
            ),
            (
                CONFIG,
                NAMED,
                Some("nosuch"),
                Err(
                    "there is no interface `nosuch`; interfaces are: `trunk` (device `eth1`), \
                     `eth2`, `uplink`",
                ),
            ),
            (
                "",
                NAMED,
                Some("eth1"),
                Err(
                    "there is no interface `eth1`; interfaces are: `trunk`, `uplink`; `--config \
                     FILE` names a `kordon.toml` that has others",
                ),
            ),
        ] {
            let said = names(config, policy, wanted);
            let said = said.as_deref().map_err(String::as_str);
            assert_eq!(said, result, "{wanted:?}");
        }
    }
}
