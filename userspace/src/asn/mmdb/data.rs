//! The data section of a MaxMind DB file: maps, texts and numbers that may be anywhere in
//! it, because pointers lead from one to the other.
//!
//! Maps whose pointers lead to each other can say in some hundred bytes what takes for
//! ever to read. So a pointer is followed only to what is asked for, the rest is passed over
//! where it stands, and every value that is looked at is paid for.

use std::ops::Range;

/// Values that may be looked at for each byte of the section. A record of some ten values
/// has a few bytes at least.
const EACH_BYTE: u64 = 64;
/// Values of a small section.
const AT_LEAST: u64 = 1 << 16;
/// Values of any section: some seconds.
const AT_MOST: u64 = 1 << 30;
/// Keys and maps inside a map that are asked for, at most.
const MAX_DEPTH: usize = 4;

/// What kinds of value there are, as far as that matters.
enum Kind {
    Pointer(usize),
    Text(Range<usize>),
    Number(Range<usize>),
    /// With so many pairs.
    Map(usize),
    /// With so many values.
    Array(usize),
    /// Its end is known.
    Other,
}

/// A number or a text.
#[derive(Clone, Copy)]
pub(super) enum Scalar<'a> {
    Number(u64),
    Text(&'a [u8]),
}

/// Something that is looked for, and where it was found.
pub(super) struct Wanted<'a> {
    /// Keys of maps inside each other, by preference.
    paths: &'static [&'static [&'static str]],
    found: [Option<Scalar<'a>>; 5],
}

impl<'a> Wanted<'a> {
    pub(super) fn new(paths: &'static [&'static [&'static str]]) -> Self {
        Self {
            paths,
            found: [None; 5],
        }
    }

    /// The first of what was found that is of use.
    pub(super) fn first<T>(&self, of_use: impl Fn(Scalar<'a>) -> Option<T>) -> Option<T> {
        self.found
            .iter()
            .flatten()
            .find_map(|&scalar| of_use(scalar))
    }
}

/// The section.
pub(super) struct Data<'a> {
    bytes: &'a [u8],
    /// Values that may still be looked at.
    left: u64,
}

impl<'a> Data<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let worth = (bytes.len() as u64).saturating_mul(EACH_BYTE);
        Self {
            bytes,
            left: worth.clamp(AT_LEAST, AT_MOST),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether more was looked at than the section is worth.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Looks for several things in the map at a place. `None`: there is none, or it is
    /// damaged.
    pub(super) fn look(&mut self, at: usize, wanted: &mut [Wanted<'a>]) -> Option<()> {
        self.map(at, &mut Vec::with_capacity(MAX_DEPTH), wanted)
    }

    fn map(
        &mut self,
        at: usize,
        keys: &mut Vec<&'a [u8]>,
        wanted: &mut [Wanted<'a>],
    ) -> Option<()> {
        let (Kind::Map(pairs), mut at) = self.followed(at)? else {
            return None;
        };
        for _ in 0..pairs {
            let (key, value) = self.value(at)?;
            let key = match key {
                Kind::Text(text) => text,
                Kind::Pointer(to) => match self.value(to)? {
                    (Kind::Text(text), _) => text,
                    _ => return None,
                },
                _ => return None,
            };
            keys.push(&self.bytes[key]);
            self.entry(value, keys, wanted)?;
            keys.pop();
            at = self.end(value)?;
        }
        Some(())
    }

    /// The value of some keys, if it is asked for.
    fn entry(
        &mut self,
        at: usize,
        keys: &mut Vec<&'a [u8]>,
        wanted: &mut [Wanted<'a>],
    ) -> Option<()> {
        let mut inner = false;
        for wanted in &mut *wanted {
            for (path, found) in wanted.paths.iter().zip(&mut wanted.found) {
                let mut same = path.iter().zip(&*keys);
                if path.len() < keys.len() || !same.all(|(a, b)| a.as_bytes() == *b) {
                    continue;
                }
                if path.len() > keys.len() {
                    inner = true;
                } else if found.is_none() {
                    *found = self.scalar(at)?;
                }
            }
        }
        if inner && matches!(self.followed(at)?.0, Kind::Map(_)) {
            self.map(at, keys, wanted)?;
        }
        Some(())
    }

    /// Outer `None`: damaged. Inner `None`: neither a number nor a text.
    fn scalar(&mut self, at: usize) -> Option<Option<Scalar<'a>>> {
        Some(match self.followed(at)?.0 {
            Kind::Text(text) => Some(Scalar::Text(&self.bytes[text])),
            Kind::Number(bytes) => {
                let bytes = &self.bytes[bytes];
                let number = bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b));
                Some(Scalar::Number(number))
            }
            _ => None,
        })
    }

    /// A value, or what a pointer there leads to: that is never another pointer.
    fn followed(&mut self, at: usize) -> Option<(Kind, usize)> {
        match self.value(at)? {
            (Kind::Pointer(to), _) => match self.value(to)? {
                (Kind::Pointer(_), _) => None,
                value => Some(value),
            },
            value => Some(value),
        }
    }

    /// Where the value at a place ends, and what is inside of it.
    fn end(&mut self, at: usize) -> Option<usize> {
        let mut at = at;
        let mut values = 1_usize;
        while values > 0 {
            let (kind, next) = self.value(at)?;
            values -= 1;
            values += match kind {
                Kind::Map(pairs) => 2 * pairs,
                Kind::Array(values) => values,
                _ => 0,
            };
            at = next;
        }
        Some(at)
    }

    /// The value at a place, and where the next one stands: of maps and arrays the
    /// first in it.
    fn value(&mut self, at: usize) -> Option<(Kind, usize)> {
        self.left = self.left.checked_sub(1)?;
        let byte = |at: usize| self.bytes.get(at).map(|&byte| usize::from(byte));
        let number = |range: Range<usize>| {
            let bytes = self.bytes.get(range)?;
            Some(bytes.iter().fold(0, |n, &b| n << 8 | usize::from(b)))
        };
        let control = byte(at)?;
        let mut next = at + 1;
        let mut kind = control >> 5;
        if kind == 1 {
            // 11, 19, 27 or 32 bits, each form behind the reach of the one before.
            let more = (control >> 3 & 3) + 1;
            let low = number(next..next + more)?;
            let high = (control & 7) << (8 * more);
            let to = match more {
                1 => high | low,
                2 => (high | low) + 2048,
                3 => (high | low) + 526_336,
                _ => low,
            };
            return Some((Kind::Pointer(to), next + more));
        }
        if kind == 0 {
            kind = byte(next)? + 7;
            next += 1;
        }
        let (base, more) = match control & 31 {
            29 => (29, 1),
            30 => (285, 2),
            31 => (65_821, 3),
            size => (size, 0),
        };
        let size = base + number(next..next + more)?;
        next += more;
        let inside = next..next + size;
        let kind = match kind {
            7 => return Some((Kind::Map(size), next)),
            11 => return Some((Kind::Array(size), next)),
            // A boolean is its size.
            14 if size < 2 => return Some((Kind::Other, next)),
            2 => Kind::Text(inside.clone()),
            // 16, 32 and 64 bits without a sign.
            5 if size <= 2 => Kind::Number(inside.clone()),
            6 if size <= 4 => Kind::Number(inside.clone()),
            9 if size <= 8 => Kind::Number(inside.clone()),
            3 if size == 8 => Kind::Other,
            8 | 15 if size <= 4 => Kind::Other,
            10 if size <= 16 => Kind::Other,
            4 => Kind::Other,
            _ => return None,
        };
        (inside.end <= self.bytes.len()).then_some((kind, inside.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASN: &[&[&str]] = &[&["asn"], &["traits", "asn"]];

    fn asn(data: &mut Data<'_>, at: usize) -> Option<Option<u64>> {
        let mut wanted = [Wanted::new(ASN)];
        data.look(at, &mut wanted)?;
        Some(wanted[0].first(|scalar| match scalar {
            Scalar::Number(number) => Some(number),
            Scalar::Text(_) => None,
        }))
    }

    #[test]
    fn pointers_are_followed_to_what_is_asked_for() {
        // {x: -> 0, asn: -> 13}, and the number there.
        let bytes = b"\xe2\x41x\x20\x00\x43asn\x20\x0d\x00\x00\xa1\x07";
        let mut data = Data::new(bytes);
        assert_eq!(asn(&mut data, 0), Some(Some(7)));
        // A pointer to a map is as good as the map, one to a pointer is none.
        let bytes = b"\x20\x02\xe1\x43asn\xa1\x07\x20\x00";
        assert_eq!(asn(&mut Data::new(bytes), 0), Some(Some(7)));
        assert_eq!(asn(&mut Data::new(bytes), 9), None);
        // {traits: {asn: 7}}
        let bytes = b"\xe1\x46traits\xe1\x43asn\xa1\x07";
        assert_eq!(asn(&mut Data::new(bytes), 0), Some(Some(7)));
        // Cut anywhere, it is damaged.
        for len in 0..bytes.len() {
            assert_eq!(asn(&mut Data::new(&bytes[..len]), 0), None, "{len}");
        }
    }

    /// Maps over the same bytes, each read again: no more than the section is worth.
    #[test]
    fn what_is_read_again_is_paid_for() {
        let mut bytes = vec![0xe1; 1000];
        bytes.extend(b"\x41x".repeat(1000));
        let mut nested: Vec<u8> = Vec::new();
        for _ in 0..2000 {
            nested.extend(b"\xe1\x41x");
        }
        nested.extend(b"\xa1\x07");
        for bytes in [bytes, nested] {
            let mut data = Data::new(&bytes);
            let mut looks = 0;
            while !data.is_spent() && looks < 1_000_000 {
                let _ = asn(&mut data, 3 * (looks % 600));
                looks += 1;
            }
            assert!(data.is_spent(), "{looks}");
            assert_eq!(asn(&mut data, 0), None);
        }
    }
}
