//! Who blocks a list, and how an administrator changes it there.

use anyhow::Result;
use ipnet::IpNet;

use super::super::wire::filter::XdpFilter;
use super::super::wire::firewall::{Firewall, Ready, Script};
use super::super::wire::link::Link;
use super::daemon::{Daemon, Home};
use super::lists::{Fates, Lists};
use super::trie::Trie;

/// What changes, in the order of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The first list, into an empty kernel.
    Load,
    /// One ASN more.
    More,
    /// That ASN no more.
    Less,
    /// The other list in the place of the first.
    Other,
    /// The first one again.
    First,
}

impl Change {
    pub(super) const ALL: [Self; 5] =
        [Self::Load, Self::More, Self::Less, Self::Other, Self::First];

    /// The case that it counts for. Taking an ASN out again is not told.
    pub(super) fn case(self) -> Option<&'static str> {
        match self {
            Self::Load => Some("load"),
            Self::More => Some("one-more-asn"),
            Self::Less => None,
            Self::Other | Self::First => Some("replace"),
        }
    }

    /// For messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Load => "loading",
            Self::More => "adding an ASN",
            Self::Less => "removing an ASN",
            Self::Other => "replacing the list",
            Self::First => "replacing the list by the first one",
        }
    }
}

/// Milliseconds of a change that went to something, where a tool says so.
pub(super) type Parts = Vec<(&'static str, f64)>;

/// Something that blocks lists, on the device of a link.
pub(super) trait Tool {
    /// What is not part of a change that is about to be timed.
    fn prepare(&mut self, _change: Change) -> Result<()> {
        Ok(())
    }

    /// Makes a change; when it returns, the change is live.
    fn make(&mut self, change: Change, link: &Link) -> Result<Parts>;

    /// What becomes of which addresses, as far as the tool can say it.
    fn fates(&self, lists: &Lists) -> Fates {
        lists.fates.clone()
    }

    /// Ends what would hold the link busy.
    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// All there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Kordon,
    Firewall(Firewall),
    /// ipset; a list is emptied and filled again. What leaks then is seen: so it would be
    /// with the others.
    IpsetInPlace,
    XdpFilter,
    /// The kernel's trie; a list is replaced by a new trie.
    Trie,
    /// The kernel's trie; a list is replaced entry by entry.
    TrieInPlace,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Kordon,
        Self::Firewall(Firewall::NftIngress),
        Self::Firewall(Firewall::NftPrerouting),
        Self::Firewall(Firewall::Ipset),
        Self::IpsetInPlace,
        Self::XdpFilter,
        Self::Trie,
        Self::TrieInPlace,
    ];

    /// In names of cases.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kordon => "kordon",
            Self::Firewall(firewall) => firewall.name(),
            Self::IpsetInPlace => "ipset-in-place",
            Self::XdpFilter => "xdp-filter",
            Self::Trie => "lpm",
            Self::TrieInPlace => "lpm-in-place",
        }
    }

    /// Whether it is no program of ours.
    pub(super) fn is_foreign(self) -> bool {
        matches!(
            self,
            Self::Firewall(_) | Self::IpsetInPlace | Self::XdpFilter
        )
    }

    /// Makes ready what it needs; nothing is blocked yet.
    pub(super) fn tool<'a>(
        self,
        lists: &'a Lists,
        home: &'a Home,
        link: &Link,
    ) -> Result<Box<dyn Tool + 'a>> {
        Ok(match self {
            Self::Kordon => Box::new(Daemon::new(home, lists, link)?),
            Self::Firewall(firewall) => {
                let replace = |nets: &[IpNet]| firewall.replace(nets);
                Box::new(Commands::new(firewall, replace, lists, link)?)
            }
            Self::IpsetInPlace => {
                let ipset = Firewall::Ipset;
                Box::new(Commands::new(ipset, Firewall::refill, lists, link)?)
            }
            Self::XdpFilter => Box::new(Filter::new(lists)?),
            Self::Trie => Box::new(Trie::new(lists, false)),
            Self::TrieInPlace => Box::new(Trie::new(lists, true)),
        })
    }
}

/// nftables or ipset, by their commands.
struct Commands(Vec<(Change, Ready)>);

impl Commands {
    fn new(
        firewall: Firewall,
        replace: impl Fn(&[IpNet]) -> Script,
        lists: &Lists,
        link: &Link,
    ) -> Result<Self> {
        let of = |change| {
            let script = match change {
                Change::Load => firewall.load(&link.device, &lists.first.nets),
                Change::More => firewall.add(&lists.more),
                Change::Less => firewall.remove(&lists.more),
                Change::Other => replace(&lists.other.nets),
                Change::First => replace(&lists.first.nets),
            };
            Ok((change, script.ready()?))
        };
        Change::ALL
            .into_iter()
            .map(of)
            .collect::<Result<_>>()
            .map(Self)
    }
}

impl Tool for Commands {
    fn make(&mut self, change: Change, link: &Link) -> Result<Parts> {
        for (_, ready) in self.0.iter_mut().filter(|(of, _)| *of == change) {
            ready.run(&link.namespace)?;
        }
        Ok(Parts::new())
    }
}

/// Addresses of xdp-filter that stay, that go, and that come when its list is replaced:
/// its command takes one at a time.
const ADDRESSES: usize = 50;

/// xdp-filter, which has single addresses for prefixes, by its command.
struct Filter {
    filter: XdpFilter,
    fates: Fates,
}

impl Filter {
    fn new(lists: &Lists) -> Result<Self> {
        let mut fates = lists.fates.at_most(ADDRESSES);
        fates.of_more.truncate(1);
        Ok(Self {
            filter: XdpFilter::new()?,
            fates,
        })
    }
}

impl Tool for Filter {
    fn make(&mut self, change: Change, link: &Link) -> Result<Parts> {
        let Fates {
            dropped,
            of_first,
            of_other,
            of_more,
            ..
        } = &self.fates;
        let add = |addresses: &[_]| addresses.iter().map(XdpFilter::add).collect::<Vec<_>>();
        let remove = |addresses: &[_]| addresses.iter().map(XdpFilter::remove).collect();
        let commands = match change {
            Change::Load => [
                vec![XdpFilter::load(&link.device)],
                add(dropped),
                add(of_first),
            ]
            .concat(),
            Change::More => add(of_more),
            Change::Less => remove(of_more),
            Change::Other => [add(of_other), remove(of_first)].concat(),
            Change::First => [add(of_first), remove(of_other)].concat(),
        };
        self.filter.run(&link.namespace, commands)?;
        Ok(Parts::new())
    }

    fn fates(&self, _lists: &Lists) -> Fates {
        self.fates.clone()
    }
}
