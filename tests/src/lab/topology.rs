//! The lab's wiring: which namespaces there are, their addresses and routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Namespace;
use super::frame::{Ethernet, Mac, TPID_C, TPID_S};
use super::namespace::owned_prefix;
use super::programs::{Arrivals, Tags, sub_interfaces, tag_host};
use super::raw::RawSender;
use super::traffic::{EchoServer, Reach, tcp_echo};

/// The router's trunk, where kordon attaches.
pub const TRUNK: &str = "trunk";
/// The port that all servers of a lab answer on.
pub const PORT: u16 = 80;

/// How the namespaces are named.
#[derive(Clone, Debug)]
pub enum Naming {
    /// After this process: other labs are not in the way, and `cleanup` knows
    /// whose they were.
    Unique,
    /// With a prefix of one's own, for labs that outlive the process.
    Fixed(String),
}

/// A VLAN with one host in it.
#[derive(Clone, Debug)]
pub struct VlanConfig {
    /// The host's name.
    pub host: String,
    /// Outer VID, at most 255 here: it is the second octet of the addresses.
    pub outer: u16,
    /// Inner VID for QinQ, at most 255; 0: none.
    pub inner: u16,
}

/// A server of the internet.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its name.
    pub name: String,
    /// Its public IPv4 address.
    pub v4: Ipv4Addr,
    /// Its public IPv6 address.
    pub v6: Ipv6Addr,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// Names of the namespaces.
    pub naming: Naming,
    /// VLANs on the trunk.
    pub vlans: Vec<VlanConfig>,
    /// Servers.
    pub servers: Vec<ServerConfig>,
    /// Whether the lab runs servers in threads of this process. Else the caller
    /// starts something on [`PORT`].
    pub serve: bool,
}

impl Default for LabConfig {
    /// Cameras in VLAN 20, an office in VLAN 30, servers of AS15169, AS12695 and AS12389.
    fn default() -> Self {
        let vlan = |host: &str, outer| VlanConfig {
            host: host.to_owned(),
            outer,
            inner: 0,
        };
        let server = |name: &str, v4: [u8; 4], v6: [u16; 8]| ServerConfig {
            name: name.to_owned(),
            v4: v4.into(),
            v6: v6.into(),
        };
        Self {
            naming: Naming::Unique,
            vlans: vec![vlan("camera", 20), vlan("office", 30)],
            servers: vec![
                server(
                    "as15169",
                    [8, 8, 8, 8],
                    [0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888],
                ),
                server(
                    "as12695",
                    [95, 163, 0, 10],
                    [0x2a0e, 0x5383, 0, 0, 0, 0, 0, 0x10],
                ),
                server(
                    "as12389",
                    [217, 107, 64, 10],
                    [0x2a12, 0x2d40, 0, 0, 0, 0, 0, 0x10],
                ),
            ],
            serve: true,
        }
    }
}

/// A host in a VLAN.
#[derive(Debug)]
pub struct Host {
    /// Where it lives; its device is `eth0`.
    pub namespace: Namespace,
    /// Its tags.
    pub tags: Tags,
    /// Its IPv4 address, in a /24.
    pub v4: Ipv4Addr,
    /// Its IPv6 address, in a /64.
    pub v6: Ipv6Addr,
    /// Its hardware address.
    pub mac: Mac,
}

impl Host {
    /// Its address of the same family as `like`.
    #[must_use]
    pub fn address(&self, like: IpAddr) -> IpAddr {
        match like {
            IpAddr::V4(_) => self.v4.into(),
            IpAddr::V6(_) => self.v6.into(),
        }
    }

    /// Addresses and tags of a frame from this host to its router.
    #[must_use]
    pub fn ethernet(&self) -> Ethernet {
        let ethernet = Ethernet::new(self.mac, ROUTER_MAC);
        if self.tags.inner == 0 {
            ethernet.tag(TPID_C, self.tags.outer)
        } else {
            ethernet
                .tag(TPID_S, self.tags.outer)
                .tag(TPID_C, self.tags.inner)
        }
    }

    /// A sender of raw frames on its device; frames carry their tags.
    ///
    /// # Errors
    ///
    /// As [`RawSender::open`].
    pub fn raw(&self) -> Result<RawSender> {
        RawSender::open(&self.namespace, "eth0")
    }

    /// Whether a server answers this host over TCP.
    ///
    /// # Errors
    ///
    /// As [`tcp_echo`].
    pub fn reach(&self, server: IpAddr, timeout: Duration) -> Result<Reach> {
        tcp_echo(&self.namespace, SocketAddr::new(server, PORT), timeout)
    }
}

/// A server of the internet.
#[derive(Debug)]
pub struct Server {
    /// Where it lives; its device is `eth0`.
    pub namespace: Namespace,
    /// Its public IPv4 address.
    pub v4: Ipv4Addr,
    /// Its public IPv6 address.
    pub v6: Ipv6Addr,
    /// Its peer for [`Host::reach`], where this process runs it.
    pub echo: Option<EchoServer>,
}

impl Server {
    /// Both addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// A laboratory. Dropping it removes every namespace in it.
#[derive(Debug)]
pub struct Lab {
    /// First part of all names.
    pub prefix: String,
    /// By order of the configuration.
    pub hosts: Vec<Host>,
    /// The switch between hosts and router: a bridge without VLANs of its own.
    pub switch: Namespace,
    /// Where kordon runs, on device [`TRUNK`].
    pub router: Namespace,
    /// The router of the other side.
    pub internet: Namespace,
    /// By order of the configuration.
    pub servers: Vec<Server>,
    /// What arrived at servers.
    pub arrivals: Arrivals,
}

/// Hardware address of the router's trunk and of its VLAN sub-interfaces.
pub const ROUTER_MAC: Mac = [0x02, 0x6b, 0, 0, 0, 1];

impl Lab {
    /// Builds it; returns when every device is up and addresses are usable.
    ///
    /// # Errors
    ///
    /// If a name is taken or a tool is missing; what was built is removed.
    pub fn new(config: &LabConfig) -> Result<Self> {
        let prefix = match &config.naming {
            Naming::Fixed(prefix) => prefix.clone(),
            Naming::Unique => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                format!(
                    "{}-{}",
                    owned_prefix()?,
                    NEXT.fetch_add(1, Ordering::Relaxed)
                )
            }
        };
        let create = |role: &str| {
            let namespace = Namespace::create(&format!("{prefix}-{role}"))?;
            // Addresses count at once, and strange sources are the router's
            // policy's business, not the lab's.
            namespace.sysctl(&[
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv6/conf/default/dad_transmits", "0"),
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv4/conf/default/rp_filter", "0"),
            ])?;
            Ok::<_, anyhow::Error>(namespace)
        };
        let switch = build_switch(create("switch")?)?;
        let internet = create("internet")?;
        let router = build_router(create("router")?, &switch, &internet)?;
        let hosts = config
            .vlans
            .iter()
            .enumerate()
            .map(|(index, vlan)| build_host(create(&vlan.host)?, &switch, index, vlan))
            .collect::<Result<Vec<_>>>()?;
        build_sub_interfaces(&router, &hosts)?;
        let mut arrivals = Arrivals::new()?;
        let servers = config
            .servers
            .iter()
            .enumerate()
            .map(|(index, server)| {
                let mut built = build_server(create(&server.name)?, &internet, index, server)?;
                arrivals.watch(&built.namespace, "eth0")?;
                if config.serve {
                    let greeting = format!("this is {}", server.name);
                    built.echo = Some(EchoServer::start(&built.namespace, PORT, &greeting)?);
                }
                Ok(built)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            prefix,
            hosts,
            switch,
            router,
            internet,
            servers,
            arrivals,
        })
    }

    /// The host of that name.
    ///
    /// # Errors
    ///
    /// If the configuration had none.
    pub fn host(&self, name: &str) -> Result<&Host> {
        let name = format!("{}-{name}", self.prefix);
        let host = self.hosts.iter().find(|host| host.namespace.name() == name);
        host.with_context(|| format!("no host `{name}` in the lab"))
    }

    /// The server of that name.
    ///
    /// # Errors
    ///
    /// If the configuration had none.
    pub fn server(&self, name: &str) -> Result<&Server> {
        let name = format!("{}-{name}", self.prefix);
        let server = self
            .servers
            .iter()
            .find(|server| server.namespace.name() == name);
        server.with_context(|| format!("no server `{name}` in the lab"))
    }

    /// A sender on the switch's end of the trunk: frames reach the router's XDP
    /// as they are, whatever a switch would think of them.
    ///
    /// # Errors
    ///
    /// As [`RawSender::open`].
    pub fn trunk_sender(&self) -> Result<RawSender> {
        RawSender::open(&self.switch, TRUNK)
    }

    /// The names of all namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Vec<&str> {
        let mut names: Vec<_> = self
            .hosts
            .iter()
            .map(|host| host.namespace.name())
            .collect();
        names.extend([self.switch.name(), self.router.name(), self.internet.name()]);
        names.extend(self.servers.iter().map(|server| server.namespace.name()));
        names
    }

    /// Leaves everything up when the value is dropped.
    pub fn keep(&mut self) {
        for host in &mut self.hosts {
            host.namespace.keep();
        }
        for server in &mut self.servers {
            server.namespace.keep();
        }
        self.switch.keep();
        self.router.keep();
        self.internet.keep();
    }
}

fn build_switch(switch: Namespace) -> Result<Namespace> {
    // A switch has no address and says nothing of its own on the trunk.
    switch.sysctl(&[("ipv6/conf/default/disable_ipv6", "1")])?;
    switch.ip("link add br0 type bridge stp_state 0 mcast_snooping 0\nlink set br0 up\n")?;
    Ok(switch)
}

fn build_router(router: Namespace, switch: &Namespace, internet: &Namespace) -> Result<Namespace> {
    for namespace in [&router, internet] {
        namespace.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    }
    router.ip(&format!(
        "link add {TRUNK} address {mac} type veth peer name {TRUNK} netns {switch}\n\
         link set {TRUNK} addrgenmode none\n\
         link set {TRUNK} up\n\
         link add wan type veth peer name edge netns {internet}\n\
         address add 198.18.0.1/30 dev wan\n\
         address add fd00:0:0:ff::1/64 dev wan nodad\n\
         link set wan up\n",
        mac = text(ROUTER_MAC),
        switch = switch.name(),
        internet = internet.name(),
    ))?;
    switch.ip(&format!(
        "link set {TRUNK} master br0\nlink set {TRUNK} up\n"
    ))?;
    internet.ip("address add 198.18.0.2/30 dev edge\n\
         address add fd00:0:0:ff::2/64 dev edge nodad\n\
         link set edge up\n\
         route add 10.0.0.0/8 via 198.18.0.1\n\
         route add fd00::/16 via fd00:0:0:ff::1\n")?;
    router.ip("route add default via 198.18.0.2\n\
         route add ::/0 via fd00:0:0:ff::2\n")?;
    // Tags travel inside the frame, not beside it: what XDP at the other end sees.
    switch.inline_tags(TRUNK)?;
    router.inline_tags(TRUNK)?;
    Ok(router)
}

fn build_host(
    namespace: Namespace,
    switch: &Namespace,
    index: usize,
    vlan: &VlanConfig,
) -> Result<Host> {
    let (outer, inner) = (u8::try_from(vlan.outer), u8::try_from(vlan.inner));
    let (Ok(outer), Ok(inner)) = (outer, inner) else {
        bail!("VIDs of the lab are at most 255: `{}`", vlan.host);
    };
    let host = Host {
        tags: Tags {
            outer: vlan.outer,
            inner: vlan.inner,
        },
        v4: Ipv4Addr::new(10, outer, inner, 10),
        // The decimal digits stand there as they are written: fd00:20::10.
        v6: format!("fd00:{outer}:{inner}::10")
            .parse()
            .context("not an IPv6 address")?,
        mac: [0x02, 0x6b, 0, outer, inner, 0x10],
        namespace,
    };
    host.namespace.ip(&format!(
        "link add eth0 address {mac} type veth peer name port{index} netns {switch}\n\
         address add {v4}/24 dev eth0\n\
         address add {v6}/64 dev eth0 nodad\n",
        mac = text(host.mac),
        switch = switch.name(),
        v4 = host.v4,
        v6 = host.v6,
    ))?;
    host.namespace.inline_tags("eth0")?;
    tag_host(&host.namespace, "eth0", host.tags)?;
    switch.ip(&format!(
        "link set port{index} master br0\nlink set port{index} up\n"
    ))?;
    host.namespace.ip(&format!(
        "link set eth0 up\n\
         route add default via 10.{outer}.{inner}.1\n\
         route add ::/0 via fd00:{outer}:{inner}::1\n"
    ))?;
    Ok(host)
}

fn build_sub_interfaces(router: &Namespace, hosts: &[Host]) -> Result<()> {
    let mut subs = Vec::new();
    for host in hosts {
        let Tags { outer, inner } = host.tags;
        let name = if inner == 0 {
            format!("vlan{outer}")
        } else {
            format!("vlan{outer}.{inner}")
        };
        // The peer only keeps the device's carrier up.
        router.ip(&format!(
            "link add {name} address {mac} type veth peer name {name}-peer\n\
             link set {name}-peer addrgenmode none\n\
             link set {name}-peer up\n\
             address add 10.{outer}.{inner}.1/24 dev {name}\n\
             address add fd00:{outer}:{inner}::1/64 dev {name} nodad\n\
             link set {name} up\n",
            mac = text(ROUTER_MAC),
        ))?;
        subs.push((host.tags, name));
    }
    sub_interfaces(router, TRUNK, &subs)
}

fn build_server(
    namespace: Namespace,
    internet: &Namespace,
    index: usize,
    config: &ServerConfig,
) -> Result<Server> {
    let ServerConfig { v4, v6, .. } = config;
    // The public addresses are on the loopback: neighbour discovery on the link
    // is for the link's addresses and never counts as a packet to the server.
    let link = index + 1;
    namespace.ip(&format!(
        "link add eth0 type veth peer name server{link} netns {internet}\n\
         address add {v4}/32 dev lo\n\
         address add {v6}/128 dev lo nodad\n\
         address add 198.18.{link}.1/30 dev eth0\n\
         address add fd00:0:0:{link}::1/64 dev eth0 nodad\n\
         link set eth0 up\n",
        internet = internet.name(),
    ))?;
    internet.ip(&format!(
        "address add 198.18.{link}.2/30 dev server{link}\n\
         address add fd00:0:0:{link}::2/64 dev server{link} nodad\n\
         link set server{link} up\n\
         route add {v4}/32 via 198.18.{link}.1\n\
         route add {v6}/128 via fd00:0:0:{link}::1\n"
    ))?;
    namespace.ip(&format!(
        "route add default via 198.18.{link}.2 src {v4}\n\
         route add ::/0 via fd00:0:0:{link}::2 src {v6}\n"
    ))?;
    Ok(Server {
        namespace,
        v4: *v4,
        v6: *v6,
        echo: None,
    })
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
