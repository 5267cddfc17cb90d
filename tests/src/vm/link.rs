//! Devices of the guest, made and set without any tool.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use kordon::datapath::system::ethtool;
use nix::net::if_::if_nametoindex;
use rtnetlink::{
    Error, Handle, LinkBridgeVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    new_connection,
    packet_route::link::{BridgeVlanInfoFlags, LinkMessage},
};

use crate::lab::raw::RawSender;

// Of `linux/ethtool.h`.
const GFLAGS: u32 = 0x25;
const SFLAGS: u32 = 0x26;
const RXVLAN: u32 = 1 << 8;

/// Makes a cable, and a sender at the end of `peer`; both ends are up then, and loopback is.
pub(super) fn pair(device: &str, peer: &str) -> Result<RawSender> {
    make(device, LinkVeth::new(device, peer).build())?;
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
    let message = what(LinkUnspec::new_with_index(index(device)?)).build();
    ask(|handle| async move { handle.link().set(message).execute().await })
        .with_context(|| format!("cannot set `{device}`"))
}

/// Makes a device, unless there is one of that name.
pub(super) fn make(device: &str, message: LinkMessage) -> Result<()> {
    if if_nametoindex(device).is_ok() {
        return Ok(());
    }
    ask(|handle| async move { handle.link().add(message).execute().await })
        .with_context(|| format!("cannot make `{device}`"))
}

/// Makes a device a port of another.
pub(super) fn join(port: &str, master: &str) -> Result<()> {
    let master = index(master)?;
    set(port, |link| link.controller(master))
}

/// Lets a VLAN through a port of a bridge.
pub(super) fn allow(port: &str, vid: u16) -> Result<()> {
    let message = LinkBridgeVlan::new(index(port)?)
        .vlan(vid, BridgeVlanInfoFlags::empty())
        .build();
    ask(|handle| async move { handle.link().set(message).execute().await })
        .with_context(|| format!("cannot let VLAN {vid} through `{port}`"))
}

/// Has packets to an address leave by a device, to a hardware address that nobody is asked for.
pub(super) fn route(to: Ipv4Addr, device: &str, neighbour: [u8; 6]) -> Result<()> {
    let index = index(device)?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to, 32)
        .output_interface(index)
        .build();
    ask(|handle| async move {
        handle.route().add(route).execute().await?;
        let add = handle.neighbours().add(index, to.into());
        add.link_layer_address(&neighbour).execute().await
    })
    .with_context(|| format!("cannot route {to} to `{device}`"))
}

pub(super) fn index(device: &str) -> Result<u32> {
    if_nametoindex(device).with_context(|| format!("there is no `{device}`"))
}

fn ask<T: Future<Output = Result<(), Error>>>(what: impl FnOnce(Handle) -> T) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        Ok(what(handle).await?)
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
