//! Damage: small changes to inputs that were good, one upon another.

pub(crate) mod campaign;

use fastrand::Rng;

/// Headers and pieces of headers.
pub(crate) const HEADERS: &[&[u8]] = &[
    &[0x81, 0, 0, 20],
    &[0x81, 0, 0, 40],
    &[0x81, 0, 0, 50],
    &[0x88, 0xa8, 0, 100],
    &[0x81, 0, 0, 0],
    &[0x08, 0],
    &[0x86, 0xdd],
    &[0x88, 0x64, 0x11, 0, 0, 1],
    &[0, 0x21],
    &[0, 0x57],
    &[0x45, 0, 0, 28],
    &[0x46, 0, 0, 32],
    &[0x60, 0, 0, 0],
    &[131, 3, 4, 0],
    &[198, 51, 100, 9],
    &[203, 0, 113, 9],
    &[127, 0, 0, 1],
    &[0x20, 0x02, 0xc6, 0x33, 0x64, 0x09],
    &[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
    &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
    &[44, 0, 0, 1],
    &[43, 0, 0, 1],
    &[60, 0, 0, 0, 0, 0, 0, 0],
    &[6, 0, 0, 0, 0, 0, 0, 0],
    &[51, 4, 0, 0],
    &[0x20, 0, 8, 0],
    &[0, 23],
    &[0, 80],
];

/// Words of the policy language.
pub(crate) const POLICY_WORDS: &[&str] = &[
    "[zone.a]\n",
    "[zone.a.unparsable]\n",
    "[set.a]\n",
    "[[rule]]\n",
    "vlans = ",
    "interfaces = ",
    "default = ",
    "sources = ",
    "record = ",
    "pppoe = ",
    "tunnels = ",
    "truncated = ",
    "asns = ",
    "asn_countries = ",
    "countries = ",
    "prefixes = ",
    "files = ",
    "sets = ",
    "name = ",
    "from = ",
    "to = ",
    "proto = ",
    "ports = ",
    "action = ",
    "until = ",
    "note = ",
    "nat64 = ",
    "\"drop\"",
    "\"pass\"",
    "\"audit\"",
    "\"inspect\"",
    "\"connected\"",
    "\"*\"",
    "\"any\"",
    "\"router\"",
    "\"private\"",
    "\"30-39\"",
    "\"100.5\"",
    "\"untagged\"",
    "\"AS12389\"",
    "\"64512-4294967295\"",
    "\"RU\"",
    "\"0.0.0.0/0\"",
    "\"::/0\"",
    "\"198.51.100.0/24\"",
    "\"2001:db8:64::/96\"",
    "\"lists/sanctions.txt\"",
    "2027-01-31T00:00:00Z",
    "0-65535",
    "\"0-65535\"",
    "\"tcp\"",
    "4294967296",
    "-1",
    "1e9",
    "true",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "\\u0000",
    "\n",
    "#",
    "=",
    ".",
    ",",
    "ü",
    "\u{feff}",
    "\r\n",
    "\u{202e}",
    "nan",
];

/// Words of the configuration.
pub(crate) const CONFIG_WORDS: &[&str] = &[
    "[[interface]]\n",
    "[asndb]\n",
    "[metrics]\n",
    "policy = ",
    "device = ",
    "name = ",
    "mode = ",
    "unknown_vlans = ",
    "manage_offload = ",
    "sources = ",
    "countries = ",
    "listen = ",
    "fail = ",
    "socket = ",
    "group = ",
    "state_dir = ",
    "bpffs = ",
    "\"auto\"",
    "\"native\"",
    "\"drop\"",
    "\"127.0.0.1:9754\"",
    "\"[::1]:0\"",
    "\"eth1\"",
    "\"closed\"",
    "true",
    "[",
    "]",
    "\"",
    "\n",
    "=",
    "\\u0000",
    "ü",
    "..",
    "/",
    "-1",
    "99999",
];

/// Words of sources.
pub(crate) const ROW_WORDS: &[&str] = &[
    ",",
    "\t",
    "\n",
    "\r\n",
    "\"",
    "\"\"",
    "#",
    "0.0.0.0",
    "255.255.255.255",
    "::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "::ffff:1.2.3.4",
    "1.0.0.0",
    "AS1",
    "4294967295",
    "4294967296",
    "RU",
    "None",
    "-1",
    "1.0.0.0/24",
    "\u{feff}",
    "\u{0}",
    "1.0.0.0,1.0.0.255,1,A\n",
    "1.0.0.0\t1.0.0.255\t1\tRU\tA\n",
];

/// Inputs, and words to put into them.
pub(crate) struct Corpus {
    inputs: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    longest: usize,
}

/// Inputs that are kept, at most.
const MOST: usize = 20_000;

impl Corpus {
    pub(crate) fn new(
        inputs: impl IntoIterator<Item = Vec<u8>>,
        words: impl IntoIterator<Item = Vec<u8>>,
        longest: usize,
    ) -> Self {
        Self {
            inputs: inputs.into_iter().collect(),
            words: words.into_iter().collect(),
            longest,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        self.inputs.get(index).map(Vec::as_slice)
    }

    pub(crate) fn add(&mut self, input: &[u8]) {
        if self.inputs.len() < MOST {
            self.inputs.push(input.to_vec());
        }
    }

    fn any(&self, rng: &mut Rng) -> &[u8] {
        &self.inputs[rng.usize(..self.inputs.len())]
    }

    /// One of the inputs, changed a few times.
    pub(crate) fn mutate(&self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.any(rng).to_vec();
        for _ in 0..=rng.u32(..5) {
            self.change(&mut bytes, rng);
        }
        bytes.truncate(self.longest);
        bytes
    }

    fn change(&self, bytes: &mut Vec<u8>, rng: &mut Rng) {
        // Mostly near the front, where headers are.
        let most = if rng.bool() { 64 } else { usize::MAX };
        let at = rng.usize(..=bytes.len().min(most));
        let length = rng.usize(..=(bytes.len() - at).min(32));
        match rng.u32(..12) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u32(..8),
            1 if at < bytes.len() => bytes[at] = rng.u8(..),
            2 if at < bytes.len() => {
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)];
            }
            3 if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(rng.u8(..3)).wrapping_sub(1);
            }
            4 if at + 1 < bytes.len() => {
                let value = [0u16, 1, 20, 21, 40, 0x2000, 0x1fff, 0xffff][rng.usize(..8)];
                bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            }
            5 => drop(bytes.drain(at..at + length)),
            6 => {
                let again = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
            7 => bytes.truncate(at),
            8 => {
                // The end of another input.
                let other = self.any(rng);
                let from = rng.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            9 => {
                // The middle of another input.
                let other = self.any(rng);
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            10 => bytes.extend(std::iter::repeat_n(rng.u8(..), rng.usize(..40))),
            _ if !self.words.is_empty() => {
                let word = &self.words[rng.usize(..self.words.len())];
                let until = if rng.bool() {
                    at + length.min(word.len())
                } else {
                    at
                };
                bytes.splice(at..until, word.iter().copied());
            }
            _ => {}
        }
    }
}
