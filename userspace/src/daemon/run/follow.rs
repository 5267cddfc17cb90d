//! The router's links, addresses and flowtables, and what live BGP says, told to the core as they
//! change. Of flowtables no event tells: they are looked at with the rest, once a minute at least.

use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{sleep, timeout};

use crate::daemon::{
    bgp::{self, Bgp},
    core::Core,
    links::router::Network,
    owner::Owner,
    trouble::Cause,
};

/// Addresses may still be coming when a link is there.
const SETTLED: Duration = Duration::from_millis(100);
/// Between two looks at interfaces meanwhile.
const PACE: Duration = Duration::from_millis(10);
/// All is read again so often without an event.
const AGAIN: Duration = Duration::from_secs(60);
/// Reading it takes no longer, on whatever router.
const LONGEST: Duration = Duration::from_secs(20);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells the core what changes. A connection that ends is replaced, and what happened
/// meanwhile is noticed then.
pub(super) async fn follow(owner: Owner, network: Option<Network>) {
    let mut network = match network {
        Some(connected) => tell(connected, &owner).await,
        None => None,
    };
    loop {
        let Some(connected) = &mut network else {
            sleep(PAUSE).await;
            match Network::connect() {
                Ok(connected) => network = tell(connected, &owner).await,
                Err(e) => unknown(&owner, e.to_string()).await,
            }
            continue;
        };
        match timeout(AGAIN, connected.events.next()).await {
            Ok(None) => {
                tracing::warn!("the kernel says no more of links and addresses: connecting anew");
                network = None;
                continue;
            }
            Ok(Some(())) => {
                let settled = Instant::now() + SETTLED;
                loop {
                    // A device that comes back is attached at once, be it before the others' events
                    // have settled.
                    tokio::spawn(owner.clone().tend());
                    sleep(PACE).await;
                    let left = settled.saturating_duration_since(Instant::now());
                    // What comes then is the next round's, so that facts are told in any storm.
                    if left.is_zero()
                        || timeout(left, connected.events.next()).await != Ok(Some(()))
                    {
                        break;
                    }
                    while let Some(Some(())) = connected.events.next().now_or_never() {}
                }
            }
            Err(_) => {}
        }
        network = match network {
            Some(connected) => tell(connected, &owner).await,
            None => None,
        };
    }
}

/// What the router is cannot be read.
async fn unknown(owner: &Owner, e: String) {
    let words = format!("links and addresses of the router cannot be read: {e}");
    let set = move |core: &mut Core| core.troubles.set(Cause::Addresses, words);
    // One that panicked has been reported.
    let _ = owner.request("a note of addresses", set).await;
}

/// Reads everything and tells it; `None`: there has to be another connection.
async fn tell(mut network: Network, owner: &Owner) -> Option<Network> {
    match timeout(LONGEST, network.look()).await {
        Ok(Ok(look)) => {
            tokio::spawn(owner.clone().network_seen(look));
            return Some(network);
        }
        Ok(Err(e)) => unknown(owner, e.to_string()).await,
        Err(_) => unknown(owner, "the kernel does not answer".to_owned()).await,
    }
    None
}

/// Brings what live BGP says into the kernel.
pub(super) async fn follow_bgp(owner: Owner, bgp: Bgp) {
    loop {
        let _ = timeout(bgp::TICK, bgp.news.notified()).await;
        let start = Instant::now();
        // One that panicked has been reported.
        let _ = owner.request("live BGP", |core| core.catch_up(false)).await;
        // What comes meanwhile is one change, and others have their turn.
        sleep((start.elapsed() / 4).min(bgp::TICK)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, process::Command};

    use tokio::runtime;

    use super::*;
    use crate::daemon::tests::House;

    /// Whose events end: as a socket whose other end is gone.
    #[test]
    fn a_connection_that_ends_is_replaced() {
        let (house, ()) = House::new().shared(|owner| {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut ended = Network::connect().unwrap();
                ended.events = futures_util::stream::empty().boxed();
                let following = tokio::spawn(follow(owner.clone(), Some(ended)));
                let mut heard = Vec::new();
                for address in ["10.99.0.1", "10.99.0.2"] {
                    let add = ["addr", "add", address, "dev", "in"];
                    assert!(Command::new("ip").args(add).status().unwrap().success());
                    let address: IpAddr = address.parse().unwrap();
                    for _ in 0..50 {
                        sleep(Duration::from_millis(100)).await;
                        let knows = move |core: &mut Core| {
                            let facts = core.links.facts.as_ref();
                            facts.is_some_and(|facts| facts.router().contains(&address))
                        };
                        if owner.request("a look", knows).await.unwrap() {
                            heard.push(address);
                            break;
                        }
                    }
                }
                assert_eq!(heard.len(), 2, "{heard:?}");
                following.abort();
                let _ = following.await;
            });
        });
        assert_eq!(house.reasons(), Vec::<String>::new());
    }
}
