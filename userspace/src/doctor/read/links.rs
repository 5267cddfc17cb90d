//! Devices of this network namespace: by rtnetlink what they are, by `ethtool`'s features what
//! their hardware does. Not by /sys, which shows the namespace that it was mounted in.

use std::{collections::BTreeMap, fs, path::Path};

use aya::programs::{ProgramError, SchedClassifier, TcAttachType, loaded_links};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::{
    Handle,
    packet_route::{
        link::{LinkAttribute, LinkMessage},
        tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption},
    },
};

use crate::{
    config::Config,
    coverage::{self, links::bridge_vlans},
    daemon::{RouterFacts, RouterNetwork},
    datapath::{guard, interface, left, offload},
    doctor::facts::{Daemon, Filter, Kind, Known, Link, More, Pinned, Rules},
};

/// What is read here.
pub(super) struct Network {
    pub(super) links: Known<Vec<Link>>,
    pub(super) addresses: Vec<(u32, IpNet)>,
    pub(super) connected: Known<BTreeMap<String, Vec<IpNet>>>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            links: Ok(Vec::new()),
            addresses: Vec::new(),
            connected: Ok(BTreeMap::new()),
        }
    }
}

/// Reads everything; what is read already stays where the rest cannot be.
pub(super) fn read(
    network: &mut Network,
    config: Option<&Config>,
    rules: Option<&Rules>,
) -> Known<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    runtime.block_on(async {
        let fail = |e: &dyn std::error::Error| format!("devices cannot be listed: {e}");
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| fail(&e))?;
        tokio::spawn(connection);
        let mut links = all(&handle).await.map_err(|e| fail(&e))?;
        for (index, vlans) in bridge_vlans(&handle).await.map_err(|e| fail(&e))? {
            if let Some(link) = links.iter_mut().find(|link| link.index == index) {
                link.vlans = vlans;
            }
        }
        match addresses().await {
            Ok(facts) => note_addresses(network, facts, config, rules),
            Err(why) => network.connected = Err(why),
        }
        more(&mut links, &handle, config).await;
        network.links = Ok(links);
        Ok(())
    })
}

/// The router's addresses, as the daemon reads them.
async fn addresses() -> Known<RouterFacts> {
    let fail = |e: &dyn std::error::Error| format!("addresses cannot be listed: {e}");
    let mut network = RouterNetwork::connect().map_err(|e| fail(&e))?;
    network.facts().await.map_err(|e| fail(&e))
}

fn note_addresses(
    network: &mut Network,
    facts: RouterFacts,
    config: Option<&Config>,
    rules: Option<&Rules>,
) {
    if let Some(config) = config
        && let Some(policy) = rules.and_then(|rules| rules.policy.as_ref())
    {
        network.connected = Ok(facts.connected(policy, &config.interfaces, |_| None));
    }
    network.addresses = facts.addresses;
}

async fn all(handle: &Handle) -> Result<Vec<Link>, rtnetlink::Error> {
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    let mut links: Vec<Link> = links.iter().map(link).collect();
    for link in &mut links {
        // The same reading as that of the daemon.
        link.xdp = interface::query_index(link.index)
            .ok()
            .flatten()
            .and_then(|found| found.xdp);
    }
    Ok(links)
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        device: coverage::Link::of(message),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::NumRxQueues(count) => link.queues.0 = *count,
            LinkAttribute::NumTxQueues(count) => link.queues.1 = *count,
            LinkAttribute::ParentDevBusName(bus) => link.bus = Some(bus.clone()),
            LinkAttribute::Stats64(stats) => link.received = stats.rx_packets,
            _ => {}
        }
    }
    link
}

/// Asks more of configured devices, of ports of bonds among them, and of other ends of veths.
async fn more(links: &mut [Link], handle: &Handle, config: Option<&Config>) {
    let configured = config.map_or(&[][..], |config| &config.interfaces);
    let is_one = |link: &Link| configured.iter().any(|i| i.device == link.name);
    let ours: Vec<&Link> = links.iter().filter(|link| is_one(link)).collect();
    let mut wanted: Vec<u32> = ours.iter().map(|link| link.index).collect();
    wanted.extend(
        ours.iter()
            .filter(|link| link.kind == Kind::Veth)
            .filter_map(|link| link.below),
    );
    let bonds: Vec<u32> = ours
        .iter()
        .filter(|link| link.kind == Kind::Bond)
        .map(|link| link.index)
        .collect();
    let ports = links
        .iter()
        .filter(|link| link.master.is_some_and(|above| bonds.contains(&above)));
    wanted.extend(ports.map(|port| port.index));
    for link in links.iter_mut().filter(|link| wanted.contains(&link.index)) {
        let fail = |e| format!("the features of `{}` cannot be read: {e}", link.name);
        link.more = Some(More {
            driver: driver(link),
            features: offload::features(&link.name).map_err(fail),
            filters: filters(handle, link).await,
            foreign: Ok(None),
        });
    }
}

/// From /sys, where that shows this namespace.
fn driver(link: &Link) -> Known<String> {
    let folder = Path::new("/sys/class/net").join(&link.name);
    let index = fs::read_to_string(folder.join("ifindex")).unwrap_or_default();
    if index.trim() != link.index.to_string() {
        return Err("/sys shows another network namespace".to_owned());
    }
    let driver = fs::read_link(folder.join("device/driver"));
    let driver = driver.map_err(|_| "it has no driver of its own".to_owned())?;
    let name = driver
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| "its driver has no name".to_owned())
}

async fn filters(handle: &Handle, link: &Link) -> Known<Vec<Filter>> {
    let name = &link.name;
    let mut found = tcx(name)?;
    let request = handle
        .traffic_filter(link.index.cast_signed())
        .get()
        .ingress();
    let messages: Vec<TcMessage> = match request.execute().try_collect().await {
        Ok(messages) => messages,
        // No qdisc that could have one.
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -libc::EINVAL => Vec::new(),
        Err(e) => return Err(format!("tc filters of `{name}` cannot be listed: {e}")),
    };
    found.extend(messages.iter().filter_map(|message| filter(name, message)));
    Ok(found)
}

/// Programs that are attached by a link, from Linux 6.6.
fn tcx(device: &str) -> Known<Vec<Filter>> {
    let (_, programs) = match SchedClassifier::query_tcx(device, TcAttachType::Ingress) {
        Ok(found) => found,
        Err(ProgramError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::EINVAL) => {
            return Ok(Vec::new());
        }
        Err(ProgramError::SyscallError(e)) => {
            let why = e.io_error;
            return Err(format!(
                "programs at tc ingress of `{device}` cannot be listed: {why}"
            ));
        }
        Err(e) => {
            return Err(format!(
                "programs at tc ingress of `{device}` cannot be listed: {e}"
            ));
        }
    };
    let one = |program: &aya::programs::ProgramInfo| {
        let id = program.id();
        let link = loaded_links()
            .flatten()
            .find(|link| link.program_id() == id);
        Filter {
            name: program.name_as_str().unwrap_or_default().to_owned(),
            program: Some(id),
            cure: match link {
                Some(link) => format!("bpftool link detach id {}", link.id()),
                None => format!("bpftool net detach tcx_ingress dev {device}"),
            },
        }
    };
    Ok(programs.iter().map(one).collect())
}

fn filter(device: &str, message: &TcMessage) -> Option<Filter> {
    // Kinds are listed before what is of that kind.
    let handle = u32::from(message.header.handle);
    if handle == 0 {
        return None;
    }
    let priority = message.header.info >> 16;
    let mut found = Filter {
        name: "filter".to_owned(),
        program: None,
        cure: format!("tc filter del dev {device} ingress pref {priority}"),
    };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) if found.name == "filter" => found.name.clone_from(kind),
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => {
                            found.name.clone_from(name);
                        }
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => found.program = Some(*id),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if handle == guard::HANDLE {
        found.name = "guard".to_owned();
    }
    Some(found)
}

/// Puts down which programs on devices are somebody else's.
pub(super) fn note_foreign(
    links: &mut [Link],
    pinned: &Known<Vec<(Pinned, Option<String>)>>,
    daemon: &Daemon,
) {
    for link in links {
        let name = &link.device.name;
        let Some(more) = link.more.as_mut().filter(|_| link.xdp.is_some()) else {
            continue;
        };
        if daemon.judged_by(name).is_some() {
            continue;
        }
        more.foreign = match pinned {
            Ok(all) if all.iter().any(|(_, on)| on.as_ref() == Some(name)) => Ok(None),
            Ok(_) => left::foreign(name).map_err(|e| e.to_string()),
            Err(why) => Err(format!(
                "a program is on `{name}`, and whose it is cannot be seen: {why}"
            )),
        };
    }
}
