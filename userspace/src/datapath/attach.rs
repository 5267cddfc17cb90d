//! Programs on interfaces: pinned links, which keep them there without a controller, made,
//! taken over and taken off.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use aya::programs::{
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use super::{
    Attached, DatapathError,
    faults::{Step, reach},
    foreign,
    interface::{self, Interface, Kind},
    kernel::Datapath,
    loaded::{Slow, is_over, unpinned},
    offload,
    pins::{FILTERS, GUARDS, not_ours, remove_folder},
    programs::{FAST, program},
    system::{attach_xdp, detach_link, link_target},
};

// Of `linux/if_link.h`.
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// How an interface is to be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Native where the driver can, else generic.
    #[default]
    Auto,
    /// Native or not at all.
    Native,
    /// Generic.
    Generic,
    /// By the guard alone.
    Tc,
}

impl Mode {
    /// Whether it is the mode that a device is attached in: one that was adopted may be in
    /// another, which is not changed without being asked.
    ///
    /// # Errors
    /// When it is not, with the cure.
    pub fn check(self, device: &str, how: Attached) -> Result<(), DatapathError> {
        match (self, how) {
            (Self::Native, Attached::Generic)
            | (Self::Generic, Attached::Native)
            | (Self::Tc, _) => Err(DatapathError::new(
                format!("attach to `{device}`"),
                format!(
                    "it is attached in {} mode, another was asked for; `kordon detach` and a \
                         start change it, with a gap",
                    how.as_str()
                ),
            )),
            _ => Ok(()),
        }
    }
}

impl Datapath {
    /// The interface that a device of the configuration is: that of its name, else the one
    /// that its program is on, whatever it is called now.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find(&self, device: &str) -> Result<Option<Interface>, DatapathError> {
        if let Some(found) = interface::query(device)? {
            return Ok(Some(found));
        }
        match self.linked(device).or_else(|| self.guarded_on(device)) {
            Some(index) => interface::query_index(index),
            None => Ok(None),
        }
    }

    /// The number of the interface that a device's pinned link is on.
    #[must_use]
    pub fn linked(&self, device: &str) -> Option<u32> {
        let links = self.links();
        let (port, _) = links.iter().find(|(_, name)| name == device)?;
        self.link_on(*port, device)
    }

    /// The same of all devices that have one.
    pub(super) fn all_linked(&self) -> BTreeMap<String, u32> {
        let mut all = BTreeMap::new();
        // As in `linked`, the first of a name.
        for (port, device) in self.links().into_iter().rev() {
            match self.link_on(port, &device) {
                Some(index) => all.insert(device, index),
                None => all.remove(&device),
            };
        }
        all
    }

    fn link_on(&self, port: u32, device: &str) -> Option<u32> {
        let target = self.target(&self.pins.link(port, device)).ok()?;
        (target.interface != 0).then_some(target.interface)
    }

    /// Sees to it that a link which is on the interface of a configured name has that name: it
    /// was made under another. Its program stays where it is. A link that has the name
    /// already gets the other one; each keeps its port, or the name does where both are known.
    /// `port`: the device's, unless it is to have the link's.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or a pin cannot be renamed.
    pub fn rename(&mut self, device: &str, port: Option<u32>) -> Result<(), DatapathError> {
        let Some(found) = interface::query(device)? else {
            return Ok(());
        };
        let links = self.links();
        let on_it = links.iter().find(|(port, name)| {
            let target = self.target(&self.pins.link(*port, name));
            target.is_ok_and(|target| target.interface == found.index)
        });
        let Some((from, before)) = on_it.filter(|(_, name)| name != device) else {
            return Ok(());
        };
        tracing::info!("the program on `{device}` was pinned for `{before}`, and stays");
        let other = links.iter().find(|(_, name)| name == device);
        let other = other.map(|(port, _)| *port);
        let to = port.or(other).unwrap_or(*from);
        let link = |port: u32, name: &str| self.pins.link(port, name);
        // None of these names is taken at its turn, and each leads a start to the link.
        let mut moves = vec![(link(*from, before), link(*from, device))];
        moves.extend(other.map(|port| (link(port, device), link(port, before))));
        moves.push((link(*from, device), link(to, device)));
        moves.extend(other.map(|port| (link(port, before), link(*from, before))));
        for folder in [GUARDS, FILTERS] {
            let guard = |name: &str| self.pins.guard(folder, name);
            // One that is in the way belongs to another interface, and is put there anew.
            if guard(before).exists() && !guard(device).exists() {
                moves.push((guard(before), guard(device)));
            }
        }
        for (from, to) in moves {
            self.rename_pin(&from, &to).map_err(|e| {
                let what = format!("rename {} to {}", from.display(), to.display());
                DatapathError::new(what, e)
            })?;
        }
        for name in [before, device] {
            self.attached.remove(name);
            self.guards.remove(name);
        }
        Ok(())
    }

    /// Interfaces that were a device until another one got the name, and that nobody polices.
    pub fn left(&self, device: &str) -> impl Iterator<Item = Interface> {
        let left = self.left.get(device).into_iter().flatten();
        let left = left.filter_map(|index| interface::query_index(*index).ok()?);
        let is_policed = |(_, id): &(Attached, u32)| self.attached.values().any(|ours| ours == id);
        left.filter(move |left| !left.xdp.as_ref().is_some_and(is_policed))
    }

    /// Attaches the program to a device by a pinned link, or takes over the link
    /// that is pinned for it, in whatever mode that is. Idempotent. Needs a live generation.
    ///
    /// # Errors
    /// When another program is there, tags are hidden, or the mode is not to be had.
    pub fn attach(
        &mut self,
        device: &str,
        port: u32,
        mode: Mode,
        manage_offload: bool,
    ) -> Result<Attached, DatapathError> {
        let what = || format!("attach to `{device}`");
        let Some(found) = self.find(device)? else {
            return Err(DatapathError::new(what(), "there is no such interface"));
        };
        if let Some((how, id)) = found.xdp
            && self.attached.get(device) == Some(&id)
        {
            return Ok(how);
        }
        // What is to be taken over may have lost its pin, which is said elsewhere.
        let _ = self.pin_again();
        let adopted = self.adopt(device, port, &found)?;
        if adopted {
            self.retire();
        } else {
            // What would see nothing is not attached at all.
            offload::keep_tags(&found, manage_offload)?;
            // It may be another device that has the name now.
            self.guards.remove(device);
            if let Some((how, id)) = found.xdp {
                return Err(DatapathError::new(
                    what(),
                    foreign::describe(device, how, id),
                ));
            }
            let program = self.load(port)?;
            self.leave(device, port, &found)?;
            self.attach_new(device, port, mode, &found, program)?;
        }
        self.note(device)
    }

    /// Gives up the link of a device that went away, or has another name: its name came back.
    fn leave(&mut self, device: &str, port: u32, found: &Interface) -> Result<(), DatapathError> {
        let pin = self.pins.link(port, device);
        let before = self.linked(device).filter(|index| *index != found.index);
        if let Some(index) = before
            && let Some(before) = interface::query_index(index)?
        {
            tracing::warn!("{}", left(device, &before.name));
            let left = self.left.entry(device.into()).or_default();
            // Where the name is back, the other one never was the device for long.
            match left.remove(&found.index) {
                true => left.remove(&index),
                false => left.insert(index),
            };
        }
        self.attached.remove(device);
        self.unpin(&pin)
            .map_err(|e| DatapathError::new(format!("remove {}", pin.display()), e))
    }

    /// Notes that what is on a device now is this controller's.
    fn note(&mut self, device: &str) -> Result<Attached, DatapathError> {
        let now = self.find(device)?.and_then(|interface| interface.xdp);
        let Some((how, id)) = now else {
            return Err(DatapathError::new(
                format!("attach to `{device}`"),
                "the interface went away meanwhile",
            ));
        };
        self.note_attached(device, id);
        Ok(how)
    }

    /// Takes over the link that is pinned for a device: its program is replaced
    /// by one of this controller, atomically. `false`: there is none that is on it.
    pub(super) fn adopt(
        &mut self,
        device: &str,
        port: u32,
        found: &Interface,
    ) -> Result<bool, DatapathError> {
        let what = || format!("take over the link of `{device}`");
        let pin = self.pins.link(port, device);
        if !pin.exists() {
            return Ok(false);
        }
        let on_it = link_target(&pin)
            .map_err(|e| DatapathError::new(what(), not_ours(&pin, &e)))?
            .program;
        if found.xdp.map(|(_, id)| id) != Some(on_it) {
            return Ok(false);
        }
        reach(Step::Adopt)?;
        let mut ebpf = self.load(port)?;
        let program = program(&mut ebpf, FAST)?;
        let link = PinnedLink::from_pin(&pin).map_err(|e| DatapathError::new(what(), e))?;
        let link = FdLink::from(link);
        let link = XdpLink::try_from(link).map_err(|e| DatapathError::new(what(), e))?;
        self.replaces();
        let id = program
            .attach_to_link(link)
            .map_err(|e| DatapathError::new(what(), e))?;
        // The pin keeps the link, and what is held does; this one must not end it.
        self.hold(pin).map_err(|e| DatapathError::new(what(), e))?;
        drop(program.take_link(id));
        let id = program
            .info()
            .map_err(|e| DatapathError::new(what(), e))?
            .id();
        self.note_attached(device, id);
        Ok(true)
    }

    fn attach_new(
        &mut self,
        device: &str,
        port: u32,
        mode: Mode,
        found: &Interface,
        mut loaded: aya::Ebpf,
    ) -> Result<(), DatapathError> {
        let what = || format!("attach to `{device}`");
        reach(Step::Attach)?;
        let program = program(&mut loaded, FAST)?;
        let modes: &[Attached] = match mode {
            Mode::Auto => &[Attached::Native, Attached::Generic],
            Mode::Native => &[Attached::Native],
            Mode::Generic => &[Attached::Generic],
            Mode::Tc => &[],
        };
        let descriptor = program.fd().map_err(|e| DatapathError::new(what(), e))?;
        let mut result = Err(DatapathError::new(what(), "no mode was tried"));
        self.replaces();
        for mode in modes {
            if *mode == Attached::Generic || found.kind == Kind::Bridge {
                offload::sees_tags(found, Attached::Generic)?;
            }
            let flags = match mode {
                Attached::Native => XDP_FLAGS_DRV_MODE,
                Attached::Generic => XDP_FLAGS_SKB_MODE,
            };
            match attach_xdp(descriptor.as_fd(), found.index, flags) {
                Ok(link) => {
                    result = Ok(link);
                    break;
                }
                Err(e) => {
                    let first = modes.len() > 1 && *mode == modes[0];
                    if first {
                        tracing::info!(device, "no native mode, trying generic: {e}");
                    }
                    let what = format!("attach to `{device}` in {} mode", mode.as_str());
                    result = Err(DatapathError::new(what, e));
                }
            }
        }
        let link = result.map_err(DatapathError::costly)?;
        self.hold_and_pin(self.pins.link(port, device), link);
        Ok(())
    }

    /// The live tier's program, for one port. The slow path is in place by then.
    fn load(&mut self, port: u32) -> Result<aya::Ebpf, DatapathError> {
        let Some(maps) = self.maps.as_ref().filter(|maps| maps.generation.is_some()) else {
            return Err(DatapathError::new(
                "load the program",
                "there are no rules in the kernel yet",
            ));
        };
        let source = maps.source(&self.pins, self.told);
        if !self.slow.as_ref().is_some_and(|slow| slow.is_of(maps)) {
            let preloaded = self.preload.as_mut().and_then(|p| p.slow(maps.tier));
            self.slow = Some(Slow::new(source, preloaded, maps, &self.counting)?);
        }
        let ahead = self.ahead.remove(&port);
        let ahead = ahead.or_else(|| self.preload.as_mut()?.fast(maps.tier, port));
        if let Some(ebpf) = ahead
            && is_over(&ebpf, FAST, maps, &self.counting)?
        {
            return Ok(ebpf);
        }
        let ebpf = source.fast(port)?;
        match is_over(&ebpf, FAST, maps, &self.counting)? {
            true => Ok(ebpf),
            false => Err(unpinned()),
        }
    }

    /// Removes maps of other tiers and layout versions, once no program uses them.
    pub(super) fn retire(&mut self) {
        self.forget_dead_links();
        let Some(maps) = &self.maps else { return };
        let all_ours = self
            .pins
            .devices()
            .iter()
            .all(|(_, device)| self.attached.contains_key(device));
        if all_ours {
            for folder in self.pins.others(maps.tier) {
                match remove_folder(&folder) {
                    Ok(left) if left.is_empty() => {
                        tracing::info!("removed {}, which nothing uses any more", folder.display());
                    }
                    Ok(_) => tracing::debug!("{} has foreign things in it", folder.display()),
                    Err(e) => tracing::warn!("cannot remove {}: {e}", folder.display()),
                }
            }
        }
    }

    /// The link of a device that went away keeps its program, and that its maps, although
    /// nothing is judged by them and no device ever comes back to it.
    fn forget_dead_links(&mut self) {
        for (port, device) in self.pins.devices() {
            let pin = self.pins.link(port, &device);
            let is_dead = link_target(&pin).is_ok_and(|target| target.interface == 0);
            if is_dead && let Err(e) = self.unpin(&pin) {
                tracing::warn!("cannot remove {}: {e}", pin.display());
            }
        }
    }

    /// Takes the program off a device that is no longer configured.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&mut self, device: &str) -> Result<(), DatapathError> {
        let _ = self.pin_again();
        for (port, name) in self.pins.devices() {
            if name == device {
                let pin = self.pins.link(port, device);
                detach_link(&pin)
                    .and_then(|()| self.unpin(&pin))
                    .map_err(|e| {
                        let what = format!("take the program off `{device}`");
                        DatapathError::new(what, not_ours(&pin, &e))
                    })?;
            }
        }
        self.attached.remove(device);
        self.unguard(device)
    }

    /// Gives an interface its program anew: in place, for a driver that has forgotten that it
    /// has one; or by a new link, with a gap in which its frames are not judged.
    ///
    /// # Errors
    /// As `attach`.
    pub fn renew(
        &mut self,
        device: &str,
        port: u32,
        mode: Mode,
        manage_offload: bool,
        link: bool,
    ) -> Result<Attached, DatapathError> {
        let _ = self.pin_again();
        let pin = self.pins.link(port, device);
        if link
            && pin.exists()
            && let Some(found) = self.find(device)?
        {
            // What can fail or take long does before the one that is there goes.
            offload::keep_tags(&found, manage_offload)?;
            let program = self.load(port)?;
            detach_link(&pin)
                .and_then(|()| self.unpin(&pin))
                .map_err(|e| DatapathError::new(format!("remove {}", pin.display()), e))?;
            self.attached.remove(device);
            self.attach_new(device, port, mode, &found, program)?;
            return self.note(device);
        }
        self.attached.remove(device);
        self.attach(device, port, mode, manage_offload)
    }

    /// Why no program in XDP would see the tags on an interface, whatever the mode; `None`: one may,
    /// or is there.
    #[must_use]
    pub fn hides_tags(&self, found: &Interface, manage_offload: bool) -> Option<String> {
        // Of a bridge, frames that it forwards itself come past nothing that is on it.
        if found.xdp.is_some() || found.kind == Kind::Bridge {
            return None;
        }
        let seen = offload::keep_tags(found, manage_offload);
        seen.err().map(|e| e.to_string())
    }

    /// Looks whether VLAN tags can be in the frames that the program on an interface is
    /// shown. Returns whether something had to be switched off for that.
    ///
    /// # Errors
    /// When they cannot, with the cure.
    pub fn examine(
        &self,
        found: &Interface,
        how: Attached,
        manage_offload: bool,
    ) -> Result<bool, DatapathError> {
        offload::sees_tags(found, how)?;
        offload::keep_tags(found, manage_offload)
    }

    /// Devices with a pinned link or guard of this instance, whether they still exist or not.
    #[must_use]
    pub fn pinned_devices(&self) -> Vec<String> {
        let links = self.pins.devices().into_iter().map(|(_, device)| device);
        let mut devices: Vec<_> = links.chain(self.pins.guarded()).collect();
        devices.sort();
        devices.dedup();
        devices
    }

    /// Whether this controller's program is on the device, and how; asks the kernel.
    #[must_use]
    pub fn attached(&self, device: &str) -> Option<Attached> {
        let (how, id) = self.find(device).ok()??.xdp?;
        (self.attached.get(device) == Some(&id)).then_some(how)
    }
}

/// An interface is policed no longer, because another one has its name.
#[must_use]
pub fn left(device: &str, before: &str) -> String {
    format!(
        "another interface is called `{device}` now: the program moves to it, and `{before}`, \
         which was `{device}`, is not policed any more"
    )
}
