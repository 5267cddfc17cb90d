//! The guard on interfaces: a tc program behind the XDP program, which counts once more what
//! goes on to the stack. To it all tags are visible, so that the two counts show what
//! was hidden from the XDP program, or never given to it; what it calls then ([`super::guard_paths`])
//! drops what that would have dropped.
//!
//! From Linux 6.6 it has a pinned link (TCX), as the XDP program has. Before, it is a
//! filter of the `clsact` qdisc with a priority and a handle of its own, and its program is
//! pinned: that is how any later controller knows whose it is. Neither touches programs
//! or filters of others, nor does it end them: what it does not drop it lets go on.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::programs::{
    Link as _, LinkOrder, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{NlOptions, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use kordon_ebpf::{
    layout::{COUNTER_PAGE, Counter},
    seen::{By, KINDS, Kind, slot},
};

use super::{
    Attached, DatapathError, chain,
    filter::{self, PRIORITY},
    guard_paths::{GuardPaths, are_in_place},
    interface::{self, Interface},
    kernel::Datapath,
    loader::Loader,
    maps::uses,
    pins::{FILTERS, GUARDS, PATHS, not_ours},
    programs, refused,
    system::{detach_link, identity, maps_of, page, pin_object},
};
pub use super::{
    filter::HANDLE,
    guard_paths::{Guarded, is_judged},
};

/// How a guard is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// By a link, from Linux 6.6.
    Tcx,
    /// By a filter.
    Clsact,
}

impl Hook {
    /// The word in `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Frames of an interface that went on to the stack, by [`Kind`]: what the XDP program
/// had counted before the guard's counts were read and after, so that what was on its way
/// meanwhile is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// By the XDP program.
    pub before: [u64; KINDS],
    /// By the guard.
    pub guard: [u64; KINDS],
    /// By the XDP program.
    pub after: [u64; KINDS],
}

impl Datapath {
    /// Sees to it that the guard is on a device: attaches it, takes over one that an
    /// earlier controller attached, puts it back where somebody removed it, and has it judge as
    /// soon as that is to be had; before it is attached where it is alone. Idempotent.
    /// `hooks`: what to try, in this order.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn guard(
        &mut self,
        device: &str,
        found: &Interface,
        who: Guarded<'_>,
        hooks: &[Hook],
    ) -> Result<Hook, DatapathError> {
        self.tend_paths(who.is_alone())?;
        if who.is_alone() && !self.guards_judge(None) {
            let what = format!("police `{device}` in tc");
            let why = self
                .guards_failed()
                .unwrap_or("there are no rules in the kernel yet");
            return Err(DatapathError::new(what, why.to_owned()));
        }
        self.keep_port(device, who)?;
        if let Some((hook, program)) = self.guard_on(device, found)? {
            if self.guards.get(device) == Some(&(program, who.behind)) {
                return Ok(hook);
            }
            self.take_over(device, found, who, hook)?;
            self.hold_guard(device, hook);
            return Ok(hook);
        }
        if self.guards.remove(device).is_some() {
            tracing::warn!("somebody took the guard off `{device}`: it is put back");
        }
        let mut result = Err(DatapathError::new("attach the guard", "no way was tried"));
        for hook in hooks {
            result = self.put(device, found, who, *hook);
            match &result {
                Ok(()) => {
                    self.hold_guard(device, *hook);
                    return Ok(*hook);
                }
                Err(e) => tracing::debug!("{}: {e}", hook.as_str()),
            }
        }
        result.map(|()| Hook::Tcx)
    }

    /// Sees to it that guards judge by what is live; `wait`: see [`GuardPaths::tend`].
    fn tend_paths(&mut self, wait: bool) -> Result<(), DatapathError> {
        let Some(maps) = self.maps.as_ref().filter(|maps| maps.generation.is_some()) else {
            return Ok(());
        };
        let paths = match &mut self.guard_paths {
            Some(paths) => paths,
            none => none.insert(GuardPaths::open(&self.pins)?),
        };
        let source = maps.source(&self.pins, self.told);
        paths.tend(source, maps, &self.counting, wait)
    }

    /// Whether guards behind this judge what they see, by programs of this controller or of the
    /// one before, or only count it.
    #[must_use]
    pub fn guards_judge(&self, behind: Option<Attached>) -> bool {
        let paths = self.guard_paths.as_ref();
        is_judged(behind) && paths.is_some_and(|paths| are_in_place(paths.array()))
    }

    /// Why they only count, if loading what they judge by failed.
    #[must_use]
    pub fn guards_failed(&self) -> Option<&str> {
        self.guard_paths.as_ref()?.failed()
    }

    /// Remembers the port of an interface without a link, whose pin would say it.
    fn keep_port(&self, device: &str, who: Guarded<'_>) -> Result<(), DatapathError> {
        let pin = self.pins.alone(who.port, device);
        if !who.is_alone() {
            return self.forget_port(device);
        }
        if !pin.exists() {
            self.forget_port(device)?;
            let array = self.guard_paths.as_ref().map(GuardPaths::array);
            let pinned = array.map_or(Ok(()), |array| pin_object(&pin, array.fd().as_fd()));
            pinned.map_err(|e| DatapathError::new(format!("pin {}", pin.display()), e))?;
        }
        Ok(())
    }

    fn forget_port(&self, device: &str) -> Result<(), DatapathError> {
        for (port, name) in self.pins.alone_devices() {
            if name == device {
                let pin = self.pins.alone(port, device);
                std::fs::remove_file(&pin)
                    .map_err(|e| DatapathError::new(format!("remove {}", pin.display()), e))?;
            }
        }
        Ok(())
    }

    /// Keeps it although its pin goes. Where that was faster, it is put back at the next look.
    fn hold_guard(&mut self, device: &str, hook: Hook) {
        let folder = match hook {
            Hook::Tcx => GUARDS,
            Hook::Clsact => FILTERS,
        };
        if let Err(e) = self.hold(self.pins.guard(folder, device)) {
            tracing::debug!("cannot hold the guard of `{device}`: {e}");
        }
    }

    /// How a device's guard is attached, and the id of its program. Removes pins of what is
    /// on no interface any more.
    fn guard_on(
        &mut self,
        device: &str,
        found: &Interface,
    ) -> Result<Option<(Hook, u32)>, DatapathError> {
        let what = || format!("look at the guard of `{device}`");
        let pin = self.pins.guard(GUARDS, device);
        if self.is_there(&pin) {
            let target = self
                .target(&pin)
                .map_err(|e| DatapathError::new(what(), not_ours(&pin, &e)))?;
            if target.interface == found.index {
                return Ok(Some((Hook::Tcx, target.program)));
            }
            self.unpin(&pin)
                .map_err(|e| DatapathError::new(what(), e))?;
        }
        let pin = self.pins.guard(FILTERS, device);
        if self.is_there(&pin) {
            let program = match self.held.get(&pin) {
                Some(held) => identity(held.as_raw_fd()).map(|(_, id)| id),
                None => filter::program_id(&pin),
            };
            let program = program.map_err(|e| DatapathError::new(what(), not_ours(&pin, &e)))?;
            if interface::filter(found.index, PRIORITY, HANDLE)? == Some(program) {
                return Ok(Some((Hook::Clsact, program)));
            }
            // A filter goes on without a pin, on the interface that had the name before.
            filter::remove_of(program)
                .and_then(|()| self.unpin(&pin))
                .map_err(|e| DatapathError::new(what(), e))?;
        }
        Ok(None)
    }

    /// The number of the interface that a device's guard is on, whatever that is called now.
    pub(super) fn guarded_on(&self, device: &str) -> Option<u32> {
        let link = self.pins.guard(GUARDS, device);
        if self.is_there(&link) {
            let on = self.target(&link).ok()?.interface;
            return (on != 0).then_some(on);
        }
        let program = filter::program_id(&self.pins.guard(FILTERS, device)).ok()?;
        let found = interface::with_filter(PRIORITY, HANDLE, program).ok()?;
        Some(found.first()?.index)
    }

    /// Puts this controller's guard in place of an earlier one's.
    fn take_over(
        &mut self,
        device: &str,
        found: &Interface,
        who: Guarded<'_>,
        hook: Hook,
    ) -> Result<(), DatapathError> {
        let what = || format!("take over the guard of `{device}`");
        self.with_program(device, who, |program| {
            let link = match hook {
                Hook::Tcx => {
                    let pin = self.pins.guard(GUARDS, device);
                    let link = PinnedLink::from_pin(&pin).map_err(|e| text(what(), &e))?;
                    FdLink::from(link)
                        .try_into()
                        .map_err(|e| text(what(), &e))?
                }
                Hook::Clsact => filter::link(&found.name).map_err(|e| text(what(), &e))?,
            };
            let id = program.attach_to_link(link).map_err(|e| text(what(), &e))?;
            let link = program.take_link(id).map_err(|e| text(what(), &e))?;
            match hook {
                // The pin keeps the link.
                Hook::Tcx => drop(link),
                Hook::Clsact => {
                    filter::keep(link);
                    let pin = self.pins.guard(FILTERS, device);
                    std::fs::remove_file(&pin).map_err(|e| text(what(), &e))?;
                    program.pin(&pin).map_err(|e| text(what(), &e))?;
                }
            }
            Ok(())
        })
        .map(|id| {
            self.guards.insert(device.to_owned(), (id, who.behind));
        })
    }

    /// Attaches it anew.
    fn put(
        &mut self,
        device: &str,
        found: &Interface,
        who: Guarded<'_>,
        hook: Hook,
    ) -> Result<(), DatapathError> {
        let what = || {
            format!(
                "attach the guard to `{device}`, which would notice hidden tags ({})",
                hook.as_str()
            )
        };
        self.with_program(device, who, |program| {
            let options = match hook {
                Hook::Tcx => TcAttachOptions::TcxOrder(LinkOrder::first()),
                Hook::Clsact => {
                    // Fails where there is one, which is as good.
                    let _ = qdisc_add_clsact(&found.name);
                    // Left by a controller that ended before it could pin the program.
                    let there = interface::filter(found.index, PRIORITY, HANDLE)?;
                    if there.is_some_and(filter::is_guard) {
                        filter::link(&found.name)
                            .and_then(|link| link.detach().map_err(io::Error::other))
                            .map_err(|e| text(what(), &e))?;
                    }
                    TcAttachOptions::Netlink(NlOptions {
                        priority: PRIORITY,
                        handle: TcHandle::from(HANDLE),
                        classid: None,
                    })
                }
            };
            let id = program
                .attach_with_options(&found.name, TcAttachType::Ingress, options)
                .map_err(|e| text(what(), &e))?;
            let link = program.take_link(id).map_err(|e| text(what(), &e))?;
            match hook {
                Hook::Tcx => {
                    let link: FdLink = link.try_into().map_err(|e| text(what(), &e))?;
                    let pin = self.pins.guard(GUARDS, device);
                    link.pin(pin).map_err(|e| text(what(), &e))?;
                }
                Hook::Clsact => {
                    let pin = self.pins.guard(FILTERS, device);
                    // Without the pin nobody would know whose it is: it goes again.
                    program.pin(&pin).map_err(|e| text(what(), &e))?;
                    filter::keep(link);
                }
            }
            Ok(())
        })
        .map(|id| {
            self.guards.insert(device.to_owned(), (id, who.behind));
        })
    }

    /// Loads the guard of an interface for `attach`; returns the program's id.
    fn with_program(
        &self,
        device: &str,
        who: Guarded<'_>,
        attach: impl FnOnce(&mut SchedClassifier) -> Result<(), DatapathError>,
    ) -> Result<u32, DatapathError> {
        let what = || format!("load the guard of `{device}`");
        let slot = self.directory.known_port(who.name).ok_or_else(|| {
            DatapathError::new(
                what(),
                "the interface has no counters before a policy is live",
            )
        })?;
        // Where its counters are makes no other instructions.
        let which = ("guard", "guard", 0, 0);
        refused::check(&what(), which)?;
        let (alone, judges) = (u32::from(who.is_alone()), u32::from(who.is_judged()));
        let mut ebpf = Loader::of(programs::GUARD)
            .constant("SLOT", slot)
            .constant("PORT", who.port)
            .constant("ALONE", alone)
            .constant("JUDGES", judges)
            .pin("COUNTERS", self.pins.shared("counters"))
            .pin("PATHS", self.pins.shared(PATHS))
            .load()
            .map_err(|e| text(what(), &e))?;
        let program = ebpf
            .program_mut("guard")
            .ok_or_else(|| DatapathError::new(what(), "it is not in the object"))?;
        let program: &mut SchedClassifier = program.try_into().map_err(|e| text(what(), &e))?;
        refused::loaded(&what(), which, || program.load())?;
        let info = program.info().map_err(|e| text(what(), &e))?;
        let opened = program.fd().map_err(|e| text(what(), &e))?;
        let used = maps_of(opened.as_fd()).map_err(|e| text(what(), &e))?;
        let array = self.guard_paths.as_ref().map(GuardPaths::array);
        if !uses(&used, &self.counting.counters) || array.is_some_and(|array| !uses(&used, array)) {
            let why = "somebody removed pins of its maps meanwhile";
            return Err(DatapathError::new(what(), why).costly());
        }
        attach(program).map_err(DatapathError::costly)?;
        Ok(info.id())
    }

    /// Frames that the guard of an interface has dropped, because the XDP program had not. `name`:
    /// the interface's in policies.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn stopped(&self, name: &str) -> Result<u64, DatapathError> {
        match self.directory.known_port(name) {
            Some(first) => Ok(self.counted(first, By::Stopped)?.iter().sum()),
            None => Ok(0),
        }
    }

    /// Takes the guard off a device, if it has one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unguard(&mut self, device: &str) -> Result<(), DatapathError> {
        self.guards.remove(device);
        self.forget_port(device)?;
        for (folder, off) in [
            (GUARDS, detach_link as fn(&Path) -> io::Result<()>),
            (FILTERS, filter::remove),
        ] {
            let pin = self.pins.guard(folder, device);
            if pin.exists() {
                off(&pin).and_then(|()| self.unpin(&pin)).map_err(|e| {
                    let what = format!("take the guard off `{device}`");
                    DatapathError::new(what, not_ours(&pin, &e))
                })?;
            }
        }
        Ok(())
    }

    /// Frames that went on to the stack. `name`: the interface's in policies. `None`: it
    /// has no counters yet.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn seen(&self, name: &str, mode: Attached) -> Result<Option<Seen>, DatapathError> {
        let Some(first) = self.directory.known_port(name) else {
            return Ok(None);
        };
        let by = match mode {
            // Aggregates are made behind a program in the driver, and before one in the stack.
            Attached::Native => By::Guard,
            Attached::Generic => By::GuardWhole,
        };
        let before = self.passed(first)?;
        let guard = self.counted(first, by)?;
        Ok(Some(Seen {
            before,
            guard,
            after: self.passed(first)?,
        }))
    }

    /// Frames that the XDP program has passed on an interface.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn passed_on(&self, name: &str) -> Result<[u64; KINDS], DatapathError> {
        match self.directory.known_port(name) {
            Some(first) => self.passed(first),
            None => Ok([0; KINDS]),
        }
    }

    fn passed(&self, first: u32) -> Result<[u64; KINDS], DatapathError> {
        let mut sums = self.counted(first, By::NoZone)?;
        for (sum, zone) in sums.iter_mut().zip(self.counted(first, By::Zone)?) {
            *sum += zone;
        }
        Ok(sums)
    }

    fn counted(&self, first: u32, by: By) -> Result<[u64; KINDS], DatapathError> {
        let mut counts = [0; KINDS];
        let mut read: Option<(u32, Vec<Counter>)> = None;
        for kind in Kind::ALL {
            let at = first + slot(by, kind);
            let (index, offset) = (at / COUNTER_PAGE, at % COUNTER_PAGE);
            let counters = match read.take() {
                Some((page, counters)) if page == index => counters,
                _ => page(&self.counting.counters, index)
                    .map_err(|e| DatapathError::new("read the counters of an interface", e))?,
            };
            counts[kind as usize] = counters[offset as usize].packets;
            read = Some((index, counters));
        }
        Ok(counts)
    }
}

fn text(what: String, error: &dyn std::error::Error) -> DatapathError {
    DatapathError::new(what, chain(error))
}
