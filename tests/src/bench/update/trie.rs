//! The kernel's LPM trie behind the least that a filter can be: what somebody would have
//! who writes it himself.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie};
use aya::programs::XdpMode;
use aya::programs::xdp::XdpLink;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use ipnet::IpNet;
use kordon::datapath::programs::program;

use super::super::subject::put_into_tries;
use super::super::wire::link::Link;
use super::lists::Lists;
use super::tool::{Change, Parts, Tool};

static BENCH: &[u8] = include_bytes_aligned!(concat!(env!("KORDON_PROGRAMS"), "/bench"));

/// Class of what is blocked, and the counter slot that makes it a drop.
const BLOCKED: u32 = 1;

/// A program with its tries.
pub(super) struct Trie<'a> {
    lists: &'a Lists,
    in_place: bool,
    /// Only in the other list, and only in the first.
    differences: [Vec<IpNet>; 2],
    /// In use, and before it what is not freed until nobody waits.
    live: Vec<Ebpf>,
    /// To be filled.
    next: Option<Ebpf>,
    attached: Option<XdpLink>,
}

impl<'a> Trie<'a> {
    pub(super) fn new(lists: &'a Lists, in_place: bool) -> Self {
        let only = |nets: &[IpNet], others: &[IpNet]| {
            let others: HashSet<&IpNet> = others.iter().collect();
            let only = nets.iter().filter(|net| !others.contains(net));
            only.copied().collect()
        };
        let (first, other) = (&lists.first.nets, &lists.other.nets);
        Self {
            lists,
            in_place,
            differences: [only(other, first), only(first, other)],
            live: Vec::new(),
            next: None,
            attached: None,
        }
    }

    /// Fills new tries and puts the program over them in the place of what there is.
    fn fill(&mut self, nets: &[IpNet], link: &Link) -> Result<()> {
        let mut ebpf = self.next.take().context("no new tries are ready")?;
        put_into_tries(&mut ebpf, nets.iter().map(|net| (*net, BLOCKED)))?;
        let xdp = program(&mut ebpf, "lpm")?;
        let id = match self.attached.take() {
            Some(attached) => xdp.attach_to_link(attached),
            None => link
                .namespace
                .run(|| Ok(xdp.attach(&link.device, XdpMode::Driver)))?,
        };
        self.attached = Some(xdp.take_link(id.context("cannot attach `lpm`")?)?);
        self.live.push(ebpf);
        Ok(())
    }

    /// First what comes, then what goes: in between nothing is passed that should not.
    fn change(&mut self, come: &[IpNet], go: &[IpNet]) -> Result<()> {
        let ebpf = self.live.last_mut().context("nothing is live")?;
        put_into_tries(ebpf, come.iter().map(|net| (*net, BLOCKED)))?;
        take_out_of_tries(ebpf, go)
    }
}

impl Tool for Trie<'_> {
    fn prepare(&mut self, change: Change) -> Result<()> {
        self.live.drain(..self.live.len().saturating_sub(1));
        if change == Change::Load || !self.in_place {
            self.next = Some(empty()?);
        }
        Ok(())
    }

    fn make(&mut self, change: Change, link: &Link) -> Result<Parts> {
        let lists = self.lists;
        let differences = self.differences.clone();
        let [of_other, of_first] = &differences;
        match (change, self.in_place) {
            (Change::More, _) => self.change(&lists.more, &[]),
            (Change::Less, _) => self.change(&[], &lists.more),
            (Change::Other, true) => self.change(of_other, of_first),
            (Change::First, true) => self.change(of_first, of_other),
            (Change::Other, false) => self.fill(&lists.other.nets, link),
            (Change::Load, _) | (Change::First, false) => self.fill(&lists.first.nets, link),
        }?;
        Ok(Parts::new())
    }
}

/// A program over empty tries, not yet attached.
fn empty() -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new()
        .override_global("REWRITE", &0u32, true)
        .load(BENCH)
        .context("cannot load the tries")?;
    let verdicts = ebpf.map_mut("VERDICTS").context("no map `VERDICTS`")?;
    let mut verdicts: Array<_, u32> = verdicts.try_into()?;
    verdicts.set(BLOCKED, BLOCKED, 0)?;
    program(&mut ebpf, "lpm")?
        .load()
        .context("cannot load `lpm`")?;
    Ok(ebpf)
}

fn take_out_of_tries(ebpf: &mut Ebpf, nets: &[IpNet]) -> Result<()> {
    let what = "cannot take a prefix out of a trie";
    let trie = ebpf.map_mut("TRIE4").context("no map `TRIE4`")?;
    let mut trie: LpmTrie<_, [u8; 4], u32> = trie.try_into()?;
    for net in nets {
        if let IpNet::V4(net) = net {
            let key = Key::new(u32::from(net.prefix_len()), net.addr().octets());
            trie.remove(&key).context(what)?;
        }
    }
    let trie = ebpf.map_mut("TRIE6").context("no map `TRIE6`")?;
    let mut trie: LpmTrie<_, [u8; 16], u32> = trie.try_into()?;
    for net in nets {
        if let IpNet::V6(net) = net {
            let key = Key::new(u32::from(net.prefix_len()), net.addr().octets());
            trie.remove(&key).context(what)?;
        }
    }
    Ok(())
}
