//! The origin of an AS path, for every source that has paths: MRT and BMP.
//!
//! Segments of confederations (RFC 5065) are skipped; each member of a last AS_SET
//! counts (RFC 9774 has it that nobody should send one, and an enforcer must not miss
//! it); AS0 (RFC 7607), AS_TRANS (RFC 6793) and the last ASNs (RFC 7300) are nobody;
//! behind a private ASN (RFC 6996) stands whoever let it out: the last public ASN
//! before it counts beside it.

/// AS_TRANS (RFC 6793): stands for an ASN that does not fit into two octets.
const AS_TRANS: u32 = 23456;

/// How many octets an ASN has in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// Of a speaker that knows no others (RFC 4271).
    Two,
    /// RFC 6793.
    #[default]
    Four,
}

/// The origins of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origins {
    asns: Vec<u32>,
    /// The path named nobody at all: it begins where it was read.
    empty: bool,
    /// The path's end did not fit into two octets.
    hidden: bool,
}

impl Origins {
    /// In the order of the path, each maybe more than once.
    pub(crate) fn asns(&self) -> &[u32] {
        &self.asns
    }

    /// Whether the path has no ASN in it: a route of the speaker's own AS.
    pub(crate) fn is_local(&self) -> bool {
        self.empty
    }

    /// Of path attributes with ASNs of four octets.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn read(&mut self, attributes: &[u8]) -> Result<(), &'static str> {
        self.clear();
        let (mut left, mut found) = (Reader(attributes), false);
        while let Some((kind, value)) = left.attribute()? {
            // Of two the first counts (RFC 7606, 3, g).
            if kind == 2 && !std::mem::replace(&mut found, true) {
                self.as_path(value, Width::Four)?;
            }
        }
        Ok(())
    }

    /// Forgets what was read.
    pub(crate) fn clear(&mut self) {
        self.asns.clear();
        self.empty = true;
        self.hidden = false;
    }

    /// Of the value of AS_PATH. Two octets are not enough for every origin:
    /// [`Self::as4_path`] has the others.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn as_path(&mut self, value: &[u8], width: Width) -> Result<(), &'static str> {
        self.clear();
        let size = match width {
            Width::Two => 2,
            Width::Four => 4,
        };
        let mut left = Reader(value);
        let mut public = None;
        while !left.0.is_empty() {
            let [kind, count] = [left.take(1)?[0], left.take(1)?[0]];
            let members = left.take(usize::from(count) * size)?;
            let members = members.chunks_exact(size).map(|asn| match *asn {
                [a, b] => u32::from(u16::from_be_bytes([a, b])),
                [a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
                _ => 0,
            });
            match kind {
                // AS_SET and AS_SEQUENCE.
                1 | 2 => {
                    let members: Vec<u32> = members.collect();
                    public = members
                        .iter()
                        .rfind(|&&asn| !is_nobody(asn) && !is_private(asn))
                        .copied()
                        .or(public);
                    if !members.is_empty() {
                        self.asns.clear();
                        self.empty = false;
                    }
                    let last = if kind == 1 {
                        // 255 at most, and whoever is last would be who hides.
                        &members[..]
                    } else {
                        &members[members.len().saturating_sub(1)..]
                    };
                    self.asns.extend_from_slice(last);
                }
                // AS_CONFED_SEQUENCE and AS_CONFED_SET.
                3 | 4 => {}
                _ => return Err("its AS path has a segment of an unknown kind"),
            }
        }
        let sure = self
            .asns
            .iter()
            .all(|&asn| !is_nobody(asn) && !is_private(asn));
        self.hidden = self.asns.contains(&AS_TRANS);
        self.asns.retain(|&asn| !is_nobody(asn));
        if !sure {
            self.asns.extend(public);
        }
        Ok(())
    }

    /// Of the value of AS4_PATH (RFC 6793), which has the end of the path that
    /// AS_PATH could not say.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn as4_path(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if !self.hidden {
            return Ok(());
        }
        let mut whole = Self::default();
        whole.as_path(value, Width::Four)?;
        if !whole.asns.is_empty() {
            *self = whole;
        }
        Ok(())
    }
}

/// Numbers that no network has: AS0 (RFC 7607), AS_TRANS (RFC 6793), the last ones
/// (RFC 7300).
pub(crate) fn is_nobody(asn: u32) -> bool {
    matches!(asn, 0 | AS_TRANS | 65535 | u32::MAX)
}

/// RFC 6996.
fn is_private(asn: u32) -> bool {
    matches!(asn, 64512..=65534 | 4_200_000_000..=4_294_967_294)
}

const SHORT: &str = "it is shorter than it says";

/// Bytes that are taken from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `size`.
    ///
    /// # Errors
    /// When there are fewer.
    pub(crate) fn take(&mut self, size: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, left) = self.0.split_at_checked(size).ok_or(SHORT)?;
        self.0 = left;
        Ok(bytes)
    }

    /// The next `N`.
    ///
    /// # Errors
    /// When there are fewer.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (bytes, left) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = left;
        Ok(*bytes)
    }

    /// The next one.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two, in network order.
    ///
    /// # Errors
    /// When there are fewer.
    pub(crate) fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// The next four, in network order.
    ///
    /// # Errors
    /// When there are fewer.
    pub(crate) fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// The next path attribute (RFC 4271): its type and its value.
    ///
    /// # Errors
    /// When it is cut.
    pub(crate) fn attribute(&mut self) -> Result<Option<(u8, &'a [u8])>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let [flags, kind] = self.array()?;
        let size = if flags & 0x10 == 0 {
            self.u8()?.into()
        } else {
            self.u16()?
        };
        Ok(Some((kind, self.take(size.into())?)))
    }
}
