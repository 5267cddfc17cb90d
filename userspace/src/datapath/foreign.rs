//! Another XDP program on an interface: whose it is and what takes it off. kordon leaves
//! it alone, so its administrator has to know.

use aya::programs::{loaded_links, loaded_programs};

use super::Attached;

/// What is there, in words, with a cure that works: one that hangs on a link is not
/// taken off by `ip link … xdp off` (Linux: `dev_xdp_attach`, "Can't replace active
/// BPF XDP link").
pub(super) fn describe(device: &str, how: Attached, program: u32) -> String {
    let how = how.as_str();
    let name = loaded_programs()
        .flatten()
        .find(|loaded| loaded.id() == program)
        .and_then(|loaded| Some(loaded.name_as_str()?.to_owned()))
        .unwrap_or_default();
    let link = loaded_links()
        .flatten()
        .find(|link| link.program_id() == program)
        .map(|link| link.id());
    let cure = match link {
        Some(link) => format!("`bpftool link detach id {link}`"),
        None => format!("`ip link set dev {device} xdp off`"),
    };
    if name == "kordon" {
        return format!(
            "another kordon is there in {how} mode (program {program}), whose pins are in another \
             place; `kordon detach` with its `--bpffs` takes it off, {cure} does where the pins are lost"
        );
    }
    format!(
        "another XDP program is there in {how} mode (`{name}`, id {program}) and is left alone; \
         whoever attached it takes it off, or {cure}"
    )
}
