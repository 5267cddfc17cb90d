//! Flowtables of nftables: a flow that is in one is forwarded past the firewall. In software that is
//! behind XDP and tc, so kordon sees all of its packets. With `flags offload` the network card forwards by itself,
//! and no program sees them: a flow that was begun before a rule blocks it goes on.
//!
//! They are asked of the kernel as `nft list flowtables` does. Their attributes are few
//! (linux/netfilter/nf_tables.h), and no crate reads them without the `nft` command.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::{
    gap::{Gap, Policed},
    links::{Link, Links},
    receivers::is_over,
};

/// A flowtable of nftables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flowtable {
    /// Its table and its name.
    pub name: String,
    /// Whether the hardware forwards by it.
    pub is_offloaded: bool,
    /// Its devices; with a star at its end: all whose names begin so.
    pub devices: Vec<String>,
}

/// Those by which a card forwards what comes in on policed devices.
#[must_use]
pub fn gaps(tables: &[Flowtable], links: &Links, policed: &[Policed]) -> Vec<Gap> {
    let offloaded = tables.iter().filter(|table| table.is_offloaded);
    let one = |table: &Flowtable| {
        let mut devices = links.iter().filter(|link| table.has(link));
        let (link, interface) =
            devices.find_map(|link| Some((link, is_over(links, policed, link)?)))?;
        let device = &link.name;
        Some(Gap {
            device: device.clone(),
            interface: Some(interface.name.clone()),
            is_certain: true,
            found: format!(
                "the flowtable `{}` has `flags offload` and `{device}`: the card forwards its flows, and no \
                 program sees their packets, also where a rule blocks them by now",
                table.name
            ),
            cure: format!("remove `flags offload` or `{device}` from it in your nftables ruleset"),
        })
    };
    offloaded.filter_map(one).collect()
}

impl Flowtable {
    fn has(&self, link: &Link) -> bool {
        let mut devices = self.devices.iter();
        devices.any(|device| match device.strip_suffix('*') {
            Some(first) => link.name.starts_with(first),
            None => link.name == *device,
        })
    }
}

/// `NFNL_SUBSYS_NFTABLES`, and of it `NFT_MSG_GETFLOWTABLE`.
const GET: u16 = 10 << 8 | 23;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Length, type, flags, sequence, port.
const HEADER: usize = 16;
/// Family, version, resource.
const FAMILY: usize = 4;
// `NFTA_FLOWTABLE_…`
const TABLE: u16 = 1;
const NAME: u16 = 2;
const HOOK: u16 = 3;
const FLAGS: u16 = 7;
/// `NFTA_FLOWTABLE_HOOK_DEVS`, a list of `NFTA_DEVICE_NAME` and, from Linux 6.17, [`PREFIX`].
const DEVICES: u16 = 3;
/// `NFTA_DEVICE_PREFIX`
const PREFIX: u16 = 2;
/// `NFT_FLOWTABLE_HW_OFFLOAD`
const OFFLOADED: u8 = 1;

/// All of them; it waits for the answer to one question.
///
/// # Errors
/// When it does not tell.
pub fn read() -> Result<Vec<Flowtable>, String> {
    dump().map_err(|e| match e.raw_os_error() {
        Some(libc::EPERM) => "only root may list flowtables".to_owned(),
        _ => format!("flowtables cannot be listed: {e}"),
    })
}

fn dump() -> io::Result<Vec<Flowtable>> {
    let mut socket = match Socket::new(NETLINK_NETFILTER) {
        // A kernel without netfilter has none.
        Err(e) if e.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Vec::new()),
        socket => socket?,
    };
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let length = (HEADER + FAMILY) as u32;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(GET.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.resize(length as usize, 0);
    socket.send(&request, 0)?;
    let mut found = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while let Some(length) = number(rest).filter(|length| *length as usize >= HEADER) {
            let Some(message) = rest.get(HEADER..length as usize) else {
                return Err(io::Error::other("an answer is cut"));
            };
            match short(&rest[4..]) {
                Some(DONE) => return Ok(found),
                Some(ERROR) => {
                    let code = number(message).map_or(0, |code| -code.cast_signed());
                    // One without nftables has none.
                    return match code {
                        0 | libc::EINVAL | libc::EOPNOTSUPP => Ok(found),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
                _ => found.push(flowtable(message.get(FAMILY..).unwrap_or_default())),
            }
            rest = rest
                .get((length as usize).next_multiple_of(4)..)
                .unwrap_or_default();
        }
    }
}

fn flowtable(bytes: &[u8]) -> Flowtable {
    let mut found = Flowtable {
        name: String::new(),
        is_offloaded: false,
        devices: Vec::new(),
    };
    let mut table = String::new();
    for (kind, value) in attributes(bytes) {
        match kind {
            TABLE => table = text(value),
            NAME => found.name = text(value),
            // Big-endian.
            FLAGS => found.is_offloaded = value.get(3).is_some_and(|flags| flags & OFFLOADED != 0),
            HOOK => {
                let devices = attributes(value).filter(|(kind, _)| *kind == DEVICES);
                let names = devices.flat_map(|(_, list)| attributes(list));
                found.devices.extend(names.map(|(kind, name)| match kind {
                    PREFIX => text(name) + "*",
                    _ => text(name),
                }));
            }
            _ => {}
        }
    }
    found.name = format!("{table} {}", found.name);
    found
}

/// Kinds and values of attributes, as far as they are whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(short(bytes)?), short(bytes.get(2..)?)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The upper two bits say how it is to be read.
        Some((kind & 0x3fff, value))
    })
}

fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

fn short(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn what_nft_lists_is_read() {
        let devices = [attribute(1, b"eth1\0"), attribute(2, b"eth2\0")].concat();
        // Nested attributes carry a flag.
        let hook = [attribute(1, &[0, 0, 0, 0]), attribute(3 | 0x8000, &devices)].concat();
        let bytes = [
            attribute(TABLE, b"filter\0"),
            attribute(NAME, b"fast\0"),
            attribute(HOOK | 0x8000, &hook),
            attribute(FLAGS, &[0, 0, 0, 1]),
        ]
        .concat();
        let expected = Flowtable {
            name: "filter fast".into(),
            is_offloaded: true,
            devices: vec!["eth1".into(), "eth2*".into()],
        };
        assert_eq!(flowtable(&bytes), expected);
        for cut in 0..bytes.len() {
            assert!(flowtable(&bytes[..cut]) != expected, "{cut}");
        }
        flowtable(&[0; 64]);
        flowtable(&[0xff; 64]);
    }

    #[test]
    fn the_kernel_is_asked() {
        println!("{:?}", read().unwrap());
    }
}
