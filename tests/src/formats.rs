//! Writers of the formats that the controller only reads: MaxMind DB files and MRT
//! RIBs, from their specifications; and a few rows of every text format. They share
//! no code with the readers.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A value in a MaxMind DB file.
#[derive(Clone, Debug)]
pub enum Value {
    /// UTF-8.
    Text(String),
    /// `uint16`.
    Short(u16),
    /// `uint32`.
    Number(u32),
    /// `uint64`.
    Long(u64),
    /// `map`.
    Map(Vec<(&'static str, Value)>),
    /// `array`.
    List(Vec<Value>),
}

impl Value {
    /// As it stands in the data section; never a pointer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                control(2, text.len(), out);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Short(number) => unsigned(5, (*number).into(), out),
            Self::Number(number) => unsigned(6, (*number).into(), out),
            Self::Long(number) => unsigned(9, *number, out),
            Self::Map(entries) => {
                control(7, entries.len(), out);
                for (key, value) in entries {
                    Self::Text((*key).to_owned()).put(out);
                    value.put(out);
                }
            }
            Self::List(values) => {
                control(11, values.len(), out);
                for value in values {
                    value.put(out);
                }
            }
        }
    }
}

/// Without the zero bytes before it.
fn unsigned(kind: u8, number: u64, out: &mut Vec<u8>) {
    let skip = number.leading_zeros() as usize / 8;
    control(kind, 8 - skip, out);
    out.extend_from_slice(&number.to_be_bytes()[skip..]);
}

fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (short, more): (u8, Vec<u8>) = match size {
        0..29 => (size as u8, vec![]),
        29..285 => (29, vec![(size - 29) as u8]),
        285..65821 => (30, ((size - 285) as u16).to_be_bytes().to_vec()),
        _ => (31, ((size - 65821) as u32).to_be_bytes()[1..].to_vec()),
    };
    if kind < 8 {
        out.push(kind << 5 | short);
    } else {
        out.extend([short, kind - 7]);
    }
    out.extend(more);
}

/// A MaxMind DB file while it is built.
pub struct Mmdb {
    v6: bool,
    nodes: Vec<[Edge; 2]>,
    data: Vec<u8>,
    offsets: HashMap<Vec<u8>, usize>,
}

#[derive(Clone, Copy)]
enum Edge {
    Nothing,
    Node(usize),
    Data(usize),
}

impl Mmdb {
    /// With a tree of 32 or 128 bits; in the latter IPv4 is under ::/96.
    #[must_use]
    pub fn new(v6: bool) -> Self {
        Self {
            v6,
            nodes: vec![[Edge::Nothing; 2]],
            data: Vec::new(),
            offsets: HashMap::new(),
        }
    }

    fn place(&self, net: IpNet) -> (u128, u8) {
        match (net.network(), self.v6) {
            (IpAddr::V4(addr), true) => (u32::from(addr).into(), 96 + net.prefix_len()),
            (IpAddr::V4(addr), false) => (u128::from(u32::from(addr)) << 96, net.prefix_len()),
            (IpAddr::V6(addr), _) => (addr.into(), net.prefix_len()),
        }
    }

    /// The node at a prefix, made where it is not there.
    fn node(&mut self, bits: u128, len: u8) -> usize {
        let mut at = 0;
        for depth in 0..len {
            let side = (bits >> (127 - depth) & 1) as usize;
            at = match self.nodes[at][side] {
                Edge::Node(next) => next,
                Edge::Nothing => {
                    self.nodes.push([Edge::Nothing; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[at][side] = Edge::Node(next);
                    next
                }
                Edge::Data(_) => panic!("prefixes overlap"),
            };
        }
        at
    }

    /// Adds a prefix that overlaps no other.
    pub fn insert(&mut self, net: IpNet, value: &Value) {
        let encoded = value.encode();
        let offset = match self.offsets.get(&encoded) {
            Some(&offset) => offset,
            None => {
                let offset = self.data.len();
                self.data.extend_from_slice(&encoded);
                self.offsets.insert(encoded, offset);
                offset
            }
        };
        self.set(net, Edge::Data(offset));
    }

    fn set(&mut self, net: IpNet, edge: Edge) {
        let (bits, len) = self.place(net);
        let parent = self.node(bits, len - 1);
        let side = (bits >> (128 - len) & 1) as usize;
        assert!(
            matches!(self.nodes[parent][side], Edge::Nothing),
            "{net} is there already"
        );
        self.nodes[parent][side] = edge;
    }

    /// Lets a prefix lead to where IPv4 is, as 6to4 does.
    pub fn alias(&mut self, net: IpNet) {
        let ipv4 = self.node(0, 96);
        self.set(net, Edge::Node(ipv4));
    }

    /// Lets a prefix lead to the root: a circle.
    pub fn circle(&mut self, net: IpNet) {
        self.set(net, Edge::Node(0));
    }

    /// The file; records have 24, 28 or 32 bits.
    #[must_use]
    pub fn finish(&self, size: u8) -> Vec<u8> {
        let nodes = self.nodes.len();
        let mut out = Vec::new();
        for node in &self.nodes {
            let [left, right] = node.map(|edge| match edge {
                Edge::Nothing => nodes as u32,
                Edge::Node(node) => node as u32,
                Edge::Data(offset) => (nodes + 16 + offset) as u32,
            });
            assert!(left >> size.min(31) <= 1 && right >> size.min(31) <= 1);
            match size {
                24 => {
                    out.extend_from_slice(&left.to_be_bytes()[1..]);
                    out.extend_from_slice(&right.to_be_bytes()[1..]);
                }
                28 => {
                    out.extend_from_slice(&left.to_be_bytes()[1..]);
                    out.push((left >> 24 << 4 | right >> 24) as u8);
                    out.extend_from_slice(&right.to_be_bytes()[1..]);
                }
                _ => {
                    out.extend_from_slice(&left.to_be_bytes());
                    out.extend_from_slice(&right.to_be_bytes());
                }
            }
        }
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&self.data);
        out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        let text = |text: &str| Value::Text(text.to_owned());
        let metadata = Value::Map(vec![
            ("node_count", Value::Number(nodes as u32)),
            ("record_size", Value::Short(size.into())),
            ("ip_version", Value::Short(if self.v6 { 6 } else { 4 })),
            ("database_type", text("Test-ASN")),
            ("languages", Value::List(vec![text("en")])),
            ("binary_format_major_version", Value::Short(2)),
            ("binary_format_minor_version", Value::Short(0)),
            ("build_epoch", Value::Long(1_700_000_000)),
            ("description", Value::Map(vec![("en", text("a test"))])),
        ]);
        out.extend(metadata.encode());
        out
    }
}

/// A segment of an AS path.
#[derive(Clone, Copy, Debug)]
pub enum Segment<'a> {
    /// AS_SET.
    Set(&'a [u32]),
    /// AS_SEQUENCE.
    Sequence(&'a [u32]),
    /// AS_CONFED_SEQUENCE.
    Confederation(&'a [u32]),
}

/// An MRT RIB while it is written.
pub struct Rib {
    out: Vec<u8>,
    sequence: u32,
    path_ids: bool,
}

impl Rib {
    /// With its table of peers. Entries may have path identifiers (RFC 8050).
    #[must_use]
    pub fn new(peers: u16, path_ids: bool) -> Self {
        let mut rib = Self {
            out: Vec::new(),
            sequence: 0,
            path_ids,
        };
        let mut body = vec![192, 0, 2, 1, 0, 4];
        body.extend_from_slice(b"test");
        body.extend(peers.to_be_bytes());
        for peer in 0..peers {
            // Every second one with an IPv6 address, all with long AS numbers.
            body.push(2 | (peer as u8 & 1));
            body.extend([10, 0, (peer >> 8) as u8, peer as u8]);
            body.extend(std::iter::repeat_n(9, if peer & 1 == 1 { 16 } else { 4 }));
            body.extend(u32::from(peer).to_be_bytes());
        }
        rib.record(1, &body);
        rib
    }

    /// Any record of TABLE_DUMP_V2.
    pub fn record(&mut self, subtype: u16, body: &[u8]) {
        self.out.extend(1_700_000_000u32.to_be_bytes());
        self.out.extend(13u16.to_be_bytes());
        self.out.extend(subtype.to_be_bytes());
        self.out.extend((body.len() as u32).to_be_bytes());
        self.out.extend_from_slice(body);
    }

    /// A prefix, as peers see it.
    pub fn prefix(&mut self, net: IpNet, paths: &[(u16, &[Segment<'_>])]) {
        let mut body = self.sequence.to_be_bytes().to_vec();
        self.sequence += 1;
        body.push(net.prefix_len());
        let bytes = usize::from(net.prefix_len().div_ceil(8));
        let v6 = match net.network() {
            IpAddr::V4(addr) => {
                body.extend_from_slice(&addr.octets()[..bytes]);
                false
            }
            IpAddr::V6(addr) => {
                body.extend_from_slice(&addr.octets()[..bytes]);
                true
            }
        };
        body.extend((paths.len() as u16).to_be_bytes());
        for (peer, segments) in paths {
            body.extend(peer.to_be_bytes());
            body.extend(1_600_000_000u32.to_be_bytes());
            if self.path_ids {
                body.extend(7u32.to_be_bytes());
            }
            let mut path = Vec::new();
            for segment in *segments {
                let (kind, asns) = match segment {
                    Segment::Set(asns) => (1, asns),
                    Segment::Sequence(asns) => (2, asns),
                    Segment::Confederation(asns) => (3, asns),
                };
                path.extend([kind, asns.len() as u8]);
                for asn in *asns {
                    path.extend(asn.to_be_bytes());
                }
            }
            // ORIGIN, AS_PATH with a long length, NEXT_HOP.
            let mut attributes = vec![0x40, 1, 1, 0, 0x50, 2];
            attributes.extend((path.len() as u16).to_be_bytes());
            attributes.extend(path);
            attributes.extend([0x40, 3, 4, 192, 0, 2, 1]);
            body.extend((attributes.len() as u16).to_be_bytes());
            body.extend(attributes);
        }
        let subtype = if v6 { 4 } else { 2 };
        self.record(subtype + if self.path_ids { 6 } else { 0 }, &body);
    }

    /// The file.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// A few rows of every text format.
pub const SAMPLES: [&str; 18] = [
    "1.0.0.0,1.0.0.255,13335,\"Cloudflare, Inc.\"\n2001:db8::,2001:db8::ff,4608,APNIC\n",
    "1.0.0.0\t1.0.0.255\t13335\tUS\tCLOUDFLARENET\n1.0.1.0\t1.0.3.255\t0\tNone\tNot routed\n",
    "1.0.0.0,1.0.0.255,AU\n2001:db8::/32,NO\n",
    "1.0.0.0\t24\t13335\n1.0.4.0\t22\t38803_56203\n2001:db8::\t32\t1,2\n",
    "% RIS\n13335\t1.0.0.0/24\t370\n{1,2}\t1.0.4.0/22\t300\n7\t1.0.5.0/24\t3\n4608\t2001:db8::/32\t10\n",
    "1.0.0.0/24 13335\n2001:db8::/32 4608\n",
    "{\"CIDR\":\"1.0.0.0/24\",\"ASN\":13335,\"Hits\":1500}\n{\"CIDR\":\"2001:db8::/32\",\"ASN\":4608,\"Hits\":9}\n",
    "network,autonomous_system_number,autonomous_system_organization\n1.0.0.0/24,13335,\"A \"\"B\"\"\"\n",
    "geoname_id,locale_code,continent_code,continent_name,country_iso_code\n2077456,en,OC,Oceania,AU\n",
    "network,country,country_code,continent,continent_code,asn,as_name,as_domain\n1.0.0.0/24,Australia,AU,Oceania,OC,AS13335,\"Cloudflare, Inc.\",cloudflare.com\n1.0.1.7,China,CN,Asia,AS,,,\n",
    "2|apnic|20260101|8|19830613|20260101|+1000\napnic|*|asn|*|3|summary\napnic|JP|asn|173|2|20020801|allocated|A9\napnic|AU|ipv4|1.0.0.0|768|20110811|assigned|A9\napnic|NO|ipv6|2001:db8::|32|19990813|allocated|A9\n",
    "# format:org_id|changed|org_name|country|source\nLVLT-ARIN|20120130|Level 3|US|ARIN\n# format:aut|changed|aut_name|org_id|opaque_id|source\n1|20120224|LVLT-1|LVLT-ARIN|x|ARIN\n",
    "{\"name\":\"Level 3\",\"organizationId\":\"LVLT-ARIN\",\"country\":\"US\"}\n{\"asn\":\"1\",\"name\":\"L\",\"organizationId\":\"LVLT-ARIN\"}\n",
    "ASN,IP Prefix,Max Length,Trust Anchor,Expires\nAS13335,1.0.0.0/24,24,apnic,1700000000\nAS0,2001:db8::/32,48,apnic,1\n",
    "{\"metadata\":{\"vrps\":1},\"roas\":[{\"asn\":\"AS13335\",\"prefix\":\"1.0.0.0/24\",\"maxLength\":24,\"ta\":\"apnic\"},{\"asn\":0,\"prefix\":\"2001:db8::/32\",\"maxLength\":48}],\"aspas\":[{\"a\":[1]}]}",
    "{\"network\":\"1.0.0.0/24\",\"country\":\"Australia\",\"country_code\":\"AU\",\"asn\":\"AS13335\",\"as_name\":\"Cloudflare\"}\n{\"network\":\"2001:db8::1\",\"country_code\":\"NO\",\"asn\":\"\"}\n",
    "[\n{\"start_ip\":\"1.0.0.0\",\"end_ip\":\"1.0.0.255\",\"country\":\"AU\",\"asn\":13335},\n{\"cidr\":\"2001:db8::/32\",\"asn\":\"AS4608\"}\n]\n",
    "16777216,16777471,13335,Cloudflare\n42540766411282592856903984951653826560,42540766490510755371168322545197776895,4608,APNIC\n",
];

/// A small MaxMind DB file with everything that publishers write into one.
#[must_use]
pub fn small_mmdb(size: u8) -> Vec<u8> {
    let text = |text: &str| Value::Text(text.to_owned());
    let net = |net: &str| net.parse().expect("it is a prefix");
    let mut file = Mmdb::new(true);
    for (prefix, value) in [
        (
            "1.0.0.0/24",
            vec![
                ("autonomous_system_number", Value::Number(13335)),
                ("autonomous_system_organization", text("Cloudflare, Inc.")),
            ],
        ),
        (
            "1.0.4.0/22",
            vec![
                ("asn", text("AS38803")),
                ("as_name", text("Wirefreebroadband")),
                ("country_code", text("AU")),
            ],
        ),
        (
            "1.0.8.0/24",
            vec![
                ("country", Value::Map(vec![("iso_code", text("CN"))])),
                ("is_anycast", Value::List(vec![Value::Number(1)])),
            ],
        ),
        ("1.0.9.0/24", vec![("country", text("NO"))]),
        (
            "1.0.10.0/24",
            vec![(
                "registered_country",
                Value::Map(vec![("iso_code", text("SE"))]),
            )],
        ),
        (
            "28.0.0.0/7",
            vec![("autonomous_system_number", Value::Number(749))],
        ),
        (
            "2001:db8::/32",
            vec![("autonomous_system_number", Value::Number(4608))],
        ),
    ] {
        file.insert(net(prefix), &Value::Map(value));
    }
    file.alias(net("2002::/16"));
    file.alias(net("::ffff:0:0/96"));
    file.finish(size)
}

/// A small RIB with every kind of path.
#[must_use]
pub fn small_rib(path_ids: bool) -> Vec<u8> {
    use Segment::{Confederation, Sequence, Set};
    let net = |net: &str| net.parse().expect("it is a prefix");
    let mut rib = Rib::new(4, path_ids);
    rib.prefix(
        net("1.0.0.0/24"),
        &[
            (0, &[Sequence(&[3356, 13335])]),
            (1, &[Sequence(&[174, 13335, 13335])]),
        ],
    );
    rib.prefix(
        net("1.0.4.0/22"),
        &[
            (0, &[Sequence(&[3356, 38803])]),
            (1, &[Sequence(&[174, 56203])]),
            (2, &[Sequence(&[38803])]),
            (3, &[Sequence(&[56203])]),
        ],
    );
    let set: &[Segment<'_>] = &[Sequence(&[3356, 7]), Set(&[1, 2])];
    rib.prefix(net("1.0.8.0/24"), &[(0, set), (1, set)]);
    let private: &[Segment<'_>] = &[Sequence(&[3356, 64666, 7, 65001])];
    rib.prefix(net("1.0.9.0/24"), &[(0, private), (1, private)]);
    let nobody: &[Segment<'_>] = &[Sequence(&[3356, 9, 23456])];
    rib.prefix(net("1.0.10.0/24"), &[(0, nobody), (1, nobody)]);
    let inside: &[Segment<'_>] = &[Sequence(&[3356, 11]), Confederation(&[65001, 65002])];
    rib.prefix(net("1.0.11.0/24"), &[(0, inside), (1, inside)]);
    // One peer of four.
    rib.prefix(net("1.0.12.0/24"), &[(0, &[Sequence(&[3356, 12])])]);
    // The router's own.
    rib.prefix(net("1.0.13.0/24"), &[(0, &[]), (1, &[])]);
    let v6: &[Segment<'_>] = &[Sequence(&[3356, 4608])];
    rib.prefix(net("2001:db8::/32"), &[(0, v6), (1, v6)]);
    rib.prefix(net("0.0.0.0/0"), &[(0, v6), (1, v6)]);
    rib.record(6, b"another family");
    rib.finish()
}
