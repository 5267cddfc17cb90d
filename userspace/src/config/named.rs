//! Interfaces by their names: what was likely meant by one that is not there.

use super::interfaces::Interface;
use crate::diagnostic::{did_you_mean, quoted};

/// The cure for the name of an interface that is not there: the one that was likely meant, by
/// its device too, else all of `names`.
pub fn meant<'a>(
    configured: &'a [Interface],
    names: impl IntoIterator<Item = &'a str>,
    wanted: &str,
) -> String {
    let named = |device: &str| configured.iter().find(|i| i.device == device);
    if let Some(interface) = named(wanted) {
        let name = quoted(&interface.name);
        return format!(
            "{} is its device: did you mean {name}",
            quoted(&interface.device)
        );
    }
    let names: Vec<&str> = names.into_iter().collect();
    if let Some(name) = did_you_mean(wanted, names.iter().copied()) {
        return format!("did you mean {}", quoted(name));
    }
    if names.is_empty() {
        return "none is configured: add it with `[[interface]]` to `kordon.toml`".to_owned();
    }
    let words = names.iter().map(|name| {
        let device = configured.iter().find(|i| i.name == *name);
        match device.filter(|i| i.device != i.name) {
            Some(i) => format!("{} (device {})", quoted(name), quoted(&i.device)),
            None => quoted(name),
        }
    });
    format!("interfaces are: {}", words.collect::<Vec<_>>().join(", "))
}
