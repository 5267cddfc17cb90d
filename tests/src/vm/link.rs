//! Devices of the guest, made and set without any tool.

use anyhow::{Context as _, Result};
use kordon::datapath::system::ethtool;
use nix::net::if_::if_nametoindex;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth, new_connection, packet_route::link::LinkMessage,
};

use crate::lab::raw::RawSender;

// Of `linux/ethtool.h`.
const GFLAGS: u32 = 0x25;
const SFLAGS: u32 = 0x26;
const RXVLAN: u32 = 1 << 8;

/// Makes a cable, and a sender at the end of `peer`; both ends are up then, and loopback is.
pub(super) fn pair(device: &str, peer: &str) -> Result<RawSender> {
    ask(LinkVeth::new(device, peer).build(), true)
        .with_context(|| format!("cannot make `{device}`"))?;
    for name in [device, peer, "lo"] {
        set(name, LinkMessageBuilder::up)?;
    }
    RawSender::here(peer)
}

/// Sets what is to be set on a device.
pub(super) fn set(
    device: &str,
    what: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) -> Result<()> {
    let index = if_nametoindex(device).with_context(|| format!("there is no `{device}`"))?;
    ask(what(LinkUnspec::new_with_index(index)).build(), false)
        .with_context(|| format!("cannot set `{device}`"))
}

fn ask(message: LinkMessage, new: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        if new {
            handle.link().add(message).execute().await?;
        } else {
            handle.link().set(message).execute().await?;
        }
        Ok(())
    })
}

/// Whether the card takes VLAN tags out of frames, as `ethtool -k DEVICE` shows.
pub(super) fn takes_tags(device: &str) -> Result<bool> {
    Ok(flags(device)? & RXVLAN != 0)
}

/// As `ethtool -K DEVICE rxvlan`.
pub(super) fn take_tags(device: &str, takes: bool) -> Result<()> {
    let others = flags(device)? & !RXVLAN;
    let now = if takes { others | RXVLAN } else { others };
    // SAFETY: the kernel reads one word behind the command, and answers nothing.
    unsafe { ethtool(device, &mut [SFLAGS, now]) }
        .with_context(|| format!("cannot set flags of `{device}`"))
}

fn flags(device: &str) -> Result<u32> {
    let mut flags = [GFLAGS, 0];
    // SAFETY: the answer is one word, behind the command.
    unsafe { ethtool(device, &mut flags) }
        .with_context(|| format!("cannot read flags of `{device}`"))?;
    Ok(flags[1])
}
