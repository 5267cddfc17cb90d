//! The routes in a BGP UPDATE (RFC 4271, RFC 4760): which prefixes go, which come, and
//! from whom.
//!
//! What is wrong with it is treated as RFC 7606 has it. A bad attribute makes a withdrawal
//! of all that is announced beside it, as far as it is sure what that is; where it is not,
//! the session cannot go on. Only attributes that are read are judged: what the router
//! itself takes from its peers has been through its own checks.
//!
//! | attribute | treated as a withdrawal | ends the session |
//! |---|---|---|
//! | all (3, 4) | flags of another kind; cut, with routes behind the attributes | the same without any |
//! | AS_PATH (7.2) | segments that are unknown, empty or cut; absent beside routes | |
//! | MP_REACH_NLRI (7.11) | | a next hop of another length, prefixes that cannot be, a second one |
//! | MP_UNREACH_NLRI (7.12) | | prefixes that cannot be, a second one |
//! | AS4_PATH (RFC 6793, 6) | never: it is left out | |
//!
//! Of attributes that are there twice the first counts (3, g).

use super::message::{AddPath, Family, bgp};
use crate::asn::path::{Origins, Reader, Width};
use crate::asn::range::{Address, host_mask};

/// A prefix and its path identifier, 0 where there is none.
pub type Key<A> = (A, u8, u32);

/// What one UPDATE changes. Kept between messages, so that reading allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// IPv4 prefixes that are gone.
    pub gone_v4: Vec<Key<u32>>,
    /// IPv6 prefixes that are gone.
    pub gone_v6: Vec<Key<u128>>,
    /// IPv4 prefixes that `origins` announces.
    pub here_v4: Vec<Key<u32>>,
    /// IPv6 prefixes that `origins` announces.
    pub here_v6: Vec<Key<u128>>,
    /// Sorted, each once. Empty: nobody that can be named.
    pub origins: Vec<u32>,
    /// The peer has sent all it has (End-of-RIB, RFC 4724).
    pub end: Option<Family>,
    /// Routes that are not for unicast, or too short to be anything but a default.
    pub ignored: u64,
    path: Origins,
    has_path: bool,
}

/// The session's side of an UPDATE.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    /// Octets of an ASN in a path.
    pub width: Width,
    /// Which routes have path identifiers.
    pub add_path: AddPath,
    /// The peer's AS: the origin of what has an empty path.
    pub asn: u32,
}

impl Update {
    fn clear(&mut self) {
        self.gone_v4.clear();
        self.gone_v6.clear();
        self.here_v4.clear();
        self.here_v6.clear();
        self.origins.clear();
        self.path.clear();
        self.has_path = false;
        self.end = None;
        self.ignored = 0;
    }

    /// Reads a whole BGP message. Returns what is wrong with it where it is treated as a
    /// withdrawal for that.
    ///
    /// # Errors
    /// What is wrong with it, where it is not sure which routes it is about; what was read
    /// until then is not to be used.
    pub fn read(
        &mut self,
        message: &[u8],
        session: &Session,
    ) -> Result<Option<&'static str>, &'static str> {
        self.clear();
        let mut left = Reader(message);
        let body = bgp(&mut left, 2)?;
        if !left.0.is_empty() {
            return Err("its BGP message is longer than it says");
        }
        let mut left = Reader(body);
        let size = left.u16()?;
        let withdrawn = left.take(size.into())?;
        let size = left.u16()?;
        let attributes = left.take(size.into())?;
        let announced = left.0;
        let ids = session.add_path;
        prefixes(withdrawn, ids.v4, &mut self.gone_v4, &mut self.ignored)?;
        prefixes(announced, ids.v4, &mut self.here_v4, &mut self.ignored)?;
        let (reaches, bad) = self.attributes(attributes, session)?;
        if body == [0; 4] {
            self.end = Some(Family::V4);
        }
        let bad = bad.or_else(|| {
            let nobody = !self.has_path && (reaches || !announced.is_empty());
            nobody.then_some("its routes have no AS path")
        });
        if let Some(bad) = bad {
            // Routes may have been in what could not be read (RFC 7606, 5.2).
            if !reaches && announced.is_empty() {
                return Err(bad);
            }
            self.gone_v4.append(&mut self.here_v4);
            self.gone_v6.append(&mut self.here_v6);
            return Ok(Some(bad));
        }
        if self.here_v4.is_empty() && self.here_v6.is_empty() {
            return Ok(None);
        }
        self.origins.extend_from_slice(self.path.asns());
        if self.path.is_local() && !crate::asn::path::is_nobody(session.asn) {
            self.origins.push(session.asn);
        }
        self.origins.sort_unstable();
        self.origins.dedup();
        Ok(None)
    }

    /// Whether there is an MP_REACH_NLRI, and what makes a withdrawal of it all.
    fn attributes(
        &mut self,
        attributes: &[u8],
        session: &Session,
    ) -> Result<(bool, Option<&'static str>), &'static str> {
        let mut left = Reader(attributes);
        let mut seen = [false; 256];
        let (mut as4_path, mut bad) = (None, None);
        let mut only = 0;
        loop {
            let flags = left.0.first().copied().unwrap_or_default();
            let (kind, value) = match left.attribute() {
                Ok(Some(attribute)) => attribute,
                Ok(None) => break,
                // Where they end is known, and so is where the routes are.
                Err(_) => {
                    bad = Some("its path attributes are cut");
                    break;
                }
            };
            only += 1;
            if std::mem::replace(&mut seen[usize::from(kind)], true) {
                if matches!(kind, 14 | 15) {
                    return Err("it has MP_REACH_NLRI or MP_UNREACH_NLRI twice");
                }
                continue;
            }
            // Optional and transitive.
            let expected = match kind {
                2 => 0x40,
                14 | 15 => 0x80,
                _ => flags & 0xc0,
            };
            if flags & 0xc0 != expected {
                bad = bad.or(Some("a path attribute has flags of another kind"));
            }
            match kind {
                2 => {
                    self.has_path = true;
                    let read = self.path.as_path(value, session.width);
                    let read = read.and_then(|()| whole_segments(value, session.width));
                    bad = bad.or(read.err());
                }
                14 => self.reach(value, session.add_path)?,
                15 => {
                    let family = self.unreach(value, session.add_path)?;
                    // The only thing in the message, and nothing in it.
                    if only == 1 && left.0.is_empty() && value.len() == 3 {
                        self.end = family;
                    }
                }
                17 => as4_path = Some(value),
                _ => {}
            }
        }
        if let Some(value) = as4_path
            && session.width == Width::Two
            && whole_segments(value, Width::Four).is_ok()
        {
            // One that cannot be read is left out.
            let _ = self.path.as4_path(value);
        }
        Ok((seen[14], bad))
    }

    /// MP_REACH_NLRI.
    fn reach(&mut self, value: &[u8], ids: AddPath) -> Result<(), &'static str> {
        let mut left = Reader(value);
        let (afi, safi) = (left.u16()?, left.u8()?);
        let next_hop = left.u8()?;
        let family = Family::of(afi, safi);
        // Of IPv6 with or without a link-local one (RFC 2545); IPv4 may have either
        // (RFC 8950).
        match (family, next_hop) {
            (Some(Family::V4), 4) | (Some(_), 16 | 32) | (None, _) => {}
            _ => return Err("a next hop is no address"),
        }
        left.take(next_hop.into())?;
        left.u8()?;
        match family {
            Some(Family::V4) => prefixes(left.0, ids.v4, &mut self.here_v4, &mut self.ignored),
            Some(Family::V6) => prefixes(left.0, ids.v6, &mut self.here_v6, &mut self.ignored),
            None => {
                self.ignored += 1;
                Ok(())
            }
        }
    }

    /// MP_UNREACH_NLRI.
    fn unreach(&mut self, value: &[u8], ids: AddPath) -> Result<Option<Family>, &'static str> {
        let mut left = Reader(value);
        let family = Family::of(left.u16()?, left.u8()?);
        match family {
            Some(Family::V4) => prefixes(left.0, ids.v4, &mut self.gone_v4, &mut self.ignored)?,
            Some(Family::V6) => prefixes(left.0, ids.v6, &mut self.gone_v6, &mut self.ignored)?,
            None => self.ignored += 1,
        }
        Ok(family)
    }
}

/// Whether each segment of a path has somebody in it, and none is cut (RFC 7606, 7.2).
fn whole_segments(value: &[u8], width: Width) -> Result<(), &'static str> {
    let mut left = Reader(value);
    while !left.0.is_empty() {
        let [_, count] = left.array()?;
        if count == 0 {
            return Err("its AS path has an empty segment");
        }
        let size = if width == Width::Two { 2 } else { 4 };
        left.take(usize::from(count) * size)?;
    }
    Ok(())
}

/// Prefixes shorter than this are defaults, as in files.
pub(super) fn is_default<A: Address>(len: u8) -> bool {
    len < if A::BITS == 32 { 8 } else { 16 }
}

fn prefixes<A: Address>(
    bytes: &[u8],
    path_ids: bool,
    out: &mut Vec<Key<A>>,
    ignored: &mut u64,
) -> Result<(), &'static str> {
    let mut left = Reader(bytes);
    while !left.0.is_empty() {
        let id = if path_ids { left.u32()? } else { 0 };
        let len = left.u8()?;
        if len > A::BITS {
            return Err("a prefix is longer than an address");
        }
        let octets = left.take(usize::from(len.div_ceil(8)))?;
        let mut wide = [0; 16];
        let from = 16 - usize::from(A::BITS / 8);
        wide[from..from + octets.len()].copy_from_slice(octets);
        // What is behind the prefix is to be ignored (RFC 4271, 4.3).
        let address = A::narrow(u128::from_be_bytes(wide) & !host_mask::<A>(len));
        if is_default::<A>(len) {
            *ignored += 1;
        } else {
            out.push((address, len, id));
        }
    }
    Ok(())
}
