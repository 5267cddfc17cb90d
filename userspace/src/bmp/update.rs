//! The routes in a BGP UPDATE (RFC 4271, RFC 4760): which prefixes go, which come, and
//! from whom.

use super::message::{AddPath, Family, bgp};
use crate::asn::path::{Origins, Reader, Width};
use crate::asn::range::{Address, host_mask};

/// A prefix and its path identifier, 0 where there is none.
pub(super) type Key<A> = (A, u8, u32);

/// What one UPDATE changes. Kept between messages, so that reading allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// IPv4 prefixes that are gone.
    pub(super) gone_v4: Vec<Key<u32>>,
    /// IPv6 prefixes that are gone.
    pub(super) gone_v6: Vec<Key<u128>>,
    /// IPv4 prefixes that `origins` announces.
    pub(super) here_v4: Vec<Key<u32>>,
    /// IPv6 prefixes that `origins` announces.
    pub(super) here_v6: Vec<Key<u128>>,
    /// Sorted, each once. Empty: nobody that can be named.
    pub(super) origins: Vec<u32>,
    /// The peer has sent all it has (End-of-RIB, RFC 4724).
    pub(super) end: Option<Family>,
    /// Routes that are not for unicast, or too short to be anything but a default.
    pub(super) ignored: u64,
    path: Origins,
}

/// The session's side of an UPDATE.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    /// Octets of an ASN in a path.
    pub(crate) width: Width,
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
        self.end = None;
        self.ignored = 0;
    }

    /// Reads a whole BGP message.
    ///
    /// # Errors
    /// What is wrong with it; what was read until then is not to be used.
    pub fn read(&mut self, message: &[u8], session: &Session) -> Result<(), &'static str> {
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
        self.attributes(attributes, session)?;
        if body == [0; 4] {
            self.end = Some(Family::V4);
        }
        if self.here_v4.is_empty() && self.here_v6.is_empty() {
            return Ok(());
        }
        self.origins.extend_from_slice(self.path.asns());
        if self.path.is_local() && !crate::asn::path::is_nobody(session.asn) {
            self.origins.push(session.asn);
        }
        self.origins.sort_unstable();
        self.origins.dedup();
        Ok(())
    }

    fn attributes(&mut self, attributes: &[u8], session: &Session) -> Result<(), &'static str> {
        let mut left = Reader(attributes);
        let mut as4_path = None;
        let mut only = 0;
        while let Some((kind, value)) = left.attribute()? {
            only += 1;
            match kind {
                2 => self.path.as_path(value, session.width)?,
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
        match as4_path {
            Some(value) if session.width == Width::Two => self.path.as4_path(value),
            _ => Ok(()),
        }
    }

    /// MP_REACH_NLRI.
    fn reach(&mut self, value: &[u8], ids: AddPath) -> Result<(), &'static str> {
        let mut left = Reader(value);
        let (afi, safi) = (left.u16()?, left.u8()?);
        let next_hop = left.u8()?;
        left.take(next_hop.into())?;
        left.u8()?;
        match Family::of(afi, safi) {
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
