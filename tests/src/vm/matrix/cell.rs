//! One cell of the matrix: a network card, the devices that are stacked on it, and which of them
//! kordon polices. What happens to it is done here, with no tool but netlink and sysfs.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use rtnetlink::{
    LinkBond, LinkBridge, LinkMessageBuilder, LinkVeth, LinkVlan, packet_route::link::BondMode,
};

use super::{
    super::link,
    server::{Server, VID},
};

/// Models of cards, by the fourth number of their address, as in `xtask/src/vm/matrix.rs`.
const NICS: [&str; 4] = ["virtio", "e1000e", "vmxnet3", "igb"];
/// Where all frames are sent.
pub(super) const FAR: &str = "far";
/// Its number.
const FAR_NUMBER: usize = 0xff;

/// What is stacked on a card, and which of it is policed. By the fifth number of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    /// The card; VLANs are sub-interfaces of it.
    Plain,
    /// Likewise, and kordon may switch its offload off.
    Managed,
    /// The sub-interface of the VLAN.
    SubInterface,
    /// A bond of which the card is the port.
    Bond,
    /// The card, which is the port of a bond.
    BondPort,
    /// The card, which is a port of a bridge that knows VLANs.
    BridgePort,
    /// That bridge.
    Bridge,
}

const STACKS: [Stack; 7] = [
    Stack::Plain,
    Stack::Managed,
    Stack::SubInterface,
    Stack::Bond,
    Stack::BondPort,
    Stack::BridgePort,
    Stack::Bridge,
];

impl Stack {
    /// What it is, and which device of it is policed.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("plain", "card"),
            Self::Managed => ("plain", "card, offload managed"),
            Self::SubInterface => ("sub-interface", "sub-interface"),
            Self::Bond => ("bond", "bond"),
            Self::BondPort => ("bond", "port"),
            Self::BridgePort => ("bridge", "port"),
            Self::Bridge => ("bridge", "bridge"),
        }
    }

    fn is_bond(self) -> bool {
        matches!(self, Self::Bond | Self::BondPort)
    }

    fn is_bridge(self) -> bool {
        matches!(self, Self::Bridge | Self::BridgePort)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) nic: &'static str,
    pub(super) stack: Stack,
    /// What kordon calls it.
    pub(super) name: String,
    /// The card.
    card: String,
    /// The device that is policed.
    pub(super) device: String,
    /// What it is called beside that.
    other: Option<String>,
    /// The UDP port of its frames.
    pub(super) port: u16,
    numbers: [usize; 2],
}

impl Cell {
    /// Those of all cards that there are, made; frames are sent at [`FAR`].
    pub(super) fn all(server: &mut Server) -> Result<Vec<Self>> {
        let far = find([FAR_NUMBER, 0])?.context("there is no card that sends")?;
        link::set(&far, |link| link.name(FAR))?;
        link::set(FAR, LinkMessageBuilder::up)?;
        let mut cells = Vec::new();
        for (nic, model) in NICS.into_iter().enumerate() {
            for (number, stack) in STACKS.into_iter().enumerate() {
                if find([nic, number])?.is_none() {
                    continue;
                }
                let cell = Self::new(model, stack, [nic, number]);
                cell.make().with_context(|| cell.name.clone())?;
                if stack.is_bridge() {
                    server.add(&cell.called("s"), cell.port)?;
                }
                cells.push(cell);
            }
        }
        Ok(cells)
    }

    fn new(nic: &'static str, stack: Stack, numbers: [usize; 2]) -> Self {
        let [first, second] = numbers;
        let (of, policed) = stack.words();
        let mut cell = Self {
            nic,
            stack,
            name: format!(
                "{nic}-{of}-{}",
                policed.replace(", ", "-").replace(' ', "-")
            ),
            card: format!("c{first}{second}"),
            device: String::new(),
            other: None,
            port: 9000 + 10 * first as u16 + second as u16,
            numbers,
        };
        cell.device = match stack {
            Stack::SubInterface => format!("{}.{VID}", cell.card),
            Stack::Bond | Stack::Bridge => cell.called("m"),
            _ => cell.card.clone(),
        };
        cell
    }

    /// Another device of it: `m` its bond or bridge, `u` and `s` a bridge's other port and the
    /// server's end of that.
    fn called(&self, letter: &str) -> String {
        let [first, second] = self.numbers;
        format!("{letter}{first}{second}")
    }

    /// Makes what is not there, as an administrator's scripts do at boot and where a card appears.
    fn make(&self) -> Result<()> {
        let card = &self.card;
        let found = find(self.numbers)?.context("its card is not there")?;
        if found != *card {
            link::set(&found, |link| link.name(card.as_str()))?;
        }
        if self.stack != Stack::Managed && link::takes_tags(card)? {
            link::take_tags(card, false)?;
        }
        let master = self.called("m");
        let mut top = card;
        if self.stack.is_bond() {
            let bond = LinkBond::new(&master).mode(BondMode::ActiveBackup);
            link::make(&master, bond.miimon(50).build())?;
            // A port is taken while it is down.
            link::set(card, LinkMessageBuilder::down)?;
            top = &master;
        } else if self.stack.is_bridge() {
            link::make(
                &master,
                LinkBridge::new(&master).vlan_filtering(true).build(),
            )?;
            let (port, server) = (self.called("u"), self.called("s"));
            link::make(&port, LinkVeth::new(&port, &server).build())?;
            link::join(&port, &master)?;
            link::allow(&port, VID)?;
            for device in [&port, &server] {
                link::set(device, LinkMessageBuilder::up)?;
            }
        }
        if self.stack.is_bond() || self.stack.is_bridge() {
            link::join(card, &master)?;
            link::set(&master, LinkMessageBuilder::up)?;
        }
        link::set(card, LinkMessageBuilder::up)?;
        if self.stack.is_bridge() {
            return link::allow(card, VID);
        }
        let vlan = format!("{top}.{VID}");
        link::make(&vlan, LinkVlan::new(&vlan, link::index(top)?, VID).build())?;
        link::set(&vlan, LinkMessageBuilder::up)
    }

    /// Where cameras send to: the router, or somebody behind the bridge.
    pub(super) fn mac(&self) -> [u8; 6] {
        let [first, second] = self.numbers.map(|number| number as u8);
        match self.stack.is_bridge() {
            true => [2, 0, 0, 0xcc, first, second],
            false => [0x52, 0x54, 0, first, second, 0],
        }
    }

    /// Has the card take tags out of frames. `false`: it has no such switch.
    pub(super) fn take_tags(&self, takes: bool) -> Result<bool> {
        match link::take_tags(&self.card, takes) {
            Ok(()) => Ok(true),
            // That it cannot be switched is no fault.
            Err(_) if !link::takes_tags(&self.card)? => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether the card takes tags out of frames.
    pub(super) fn takes_tags(&self) -> Result<bool> {
        link::takes_tags(&self.card)
    }

    /// The policed device and the card go down, and come up.
    pub(super) fn down_up(&self) -> Result<()> {
        link::set(&self.device, LinkMessageBuilder::down)?;
        link::set(&self.card, LinkMessageBuilder::down)?;
        link::set(&self.card, LinkMessageBuilder::up)?;
        link::set(&self.device, LinkMessageBuilder::up)
    }

    /// The policed device gets another name, and its own back the next time.
    pub(super) fn rename(&mut self) -> Result<()> {
        let was = self.device.clone();
        let to = self.other.take().unwrap_or_else(|| format!("{was}x"));
        if link::set(&was, |link| link.name(to.as_str())).is_err() {
            // Old kernels rename only what is down.
            link::set(&was, LinkMessageBuilder::down)?;
            link::set(&was, |link| link.name(to.as_str()))?;
            link::set(&to, LinkMessageBuilder::up)?;
        }
        if self.card == was {
            self.card.clone_from(&to);
        }
        self.other = to.ends_with('x').then_some(was);
        self.device = to;
        Ok(())
    }

    /// The driver lets go of the card and finds it again, as one that nobody has set up.
    pub(super) fn unbind_bind(&self) -> Result<()> {
        let device = fs::canonicalize(format!("/sys/class/net/{}/device", self.card))?;
        let driver = fs::canonicalize(device.join("driver"))?;
        let name = device
            .file_name()
            .context("it has a name")?
            .as_encoded_bytes();
        fs::write(driver.join("unbind"), name).context("cannot unbind")?;
        ensure!(find(self.numbers)?.is_none(), "the card is still there");
        fs::write(driver.join("bind"), name).context("cannot bind")?;
        for _ in 0..100 {
            if find(self.numbers)?.is_some() {
                return self.make();
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("the card did not come back")
    }

    /// Its devices, by which `status` may name it: what is policed, as it was configured, the card.
    pub(super) fn known_as(&self) -> Vec<&str> {
        let all = [Some(&self.device), self.other.as_ref(), Some(&self.card)];
        all.into_iter().flatten().map(String::as_str).collect()
    }

    /// Whether frames can come in.
    pub(super) fn has_link(&self) -> bool {
        [&self.card, &self.device].into_iter().all(|device| {
            let carrier = fs::read_to_string(format!("/sys/class/net/{device}/carrier"));
            // It cannot be read of a device that is down.
            carrier.is_ok_and(|carrier| carrier == "1\n")
        })
    }
}

/// The card with these numbers in its address, which what is stacked on it has, too.
fn find([first, second]: [usize; 2]) -> Result<Option<String>> {
    let wanted = format!("52:54:00:{first:02x}:{second:02x}:00");
    for entry in fs::read_dir("/sys/class/net")? {
        let path: PathBuf = entry?.path();
        let address = fs::read_to_string(path.join("address")).unwrap_or_default();
        if address.trim() == wanted && path.join("device").exists() {
            let name = path.file_name().context("a device has a name")?;
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}
