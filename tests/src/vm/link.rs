//! A cable: two virtual Ethernet devices, made without any tool of the guest's.

use anyhow::{Context as _, Result};
use rtnetlink::{LinkUnspec, LinkVeth, new_connection};

use crate::lab::raw::RawSender;

/// Makes the pair, both up, and a sender at the end of `peer`.
pub(super) fn pair(device: &str, peer: &str) -> Result<RawSender> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        handle
            .link()
            .add(LinkVeth::new(device, peer).build())
            .execute()
            .await
            .with_context(|| format!("cannot make `{device}`"))?;
        for name in [device, peer] {
            let index = nix::net::if_::if_nametoindex(name)?;
            handle
                .link()
                .set(LinkUnspec::new_with_index(index).up().build())
                .execute()
                .await
                .with_context(|| format!("cannot switch `{name}` on"))?;
        }
        anyhow::Ok(())
    })?;
    RawSender::here(peer)
}
