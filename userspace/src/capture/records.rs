//! Packets of pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng).
//!
//! Read here and not by a library, because a verdict needs five fields and captures carry a lot
//! more: comments in any encoding, names, time zones, secrets, options without an end. What is not
//! needed is skipped by its length, so that it cannot stop a replay.

use std::io::{self, ErrorKind, Read};

/// A packet is at most this long in a capture; a length above is damage, and no
/// memory is asked for because of it.
const LONGEST_PACKET: u32 = 16 << 20;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
/// Obsolete, and still written.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Why there are no more packets.
#[derive(Debug)]
pub(super) enum Ended {
    /// It cannot be read.
    Io(io::Error),
    /// Inside a packet or block.
    Truncated,
    /// What it says cannot be.
    Damaged(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

fn damaged<T>(what: impl Into<String>) -> Result<T, Ended> {
    Err(Ended::Damaged(what.into()))
}

/// One packet as the capture has it.
#[derive(Debug)]
pub(super) struct Packet {
    /// LINKTYPE of the interface that it was captured on.
    pub(super) link_type: u32,
    /// What was kept of it.
    pub(super) data: Vec<u8>,
    /// Its length on the wire.
    pub(super) length: u32,
}

/// How numbers are written.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self.big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        }
    }

    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self.big {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        }
    }
}

fn array<const N: usize>(input: &mut impl Read) -> Result<[u8; N], Ended> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// As [`array`]; `None` where the input has ended before it.
fn array_or_end<const N: usize>(input: &mut impl Read) -> Result<Option<[u8; N]>, Ended> {
    let mut bytes = Vec::with_capacity(N);
    input.by_ref().take(N as u64).read_to_end(&mut bytes)?;
    match bytes.len() {
        0 => Ok(None),
        _ => match bytes.try_into() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) => Err(Ended::Truncated),
        },
    }
}

fn bytes(input: &mut impl Read, length: u32) -> Result<Vec<u8>, Ended> {
    if length > LONGEST_PACKET {
        return damaged(format!("a packet of {length} bytes"));
    }
    let mut data = Vec::new();
    input.by_ref().take(length.into()).read_to_end(&mut data)?;
    if data.len() < length as usize {
        return Err(Ended::Truncated);
    }
    Ok(data)
}

fn skip(input: &mut impl Read, length: u32) -> Result<(), Ended> {
    let skipped = io::copy(&mut input.by_ref().take(length.into()), &mut io::sink())?;
    match skipped == u64::from(length) {
        true => Ok(()),
        false => Err(Ended::Truncated),
    }
}

/// A pcap file.
pub(super) struct Pcap {
    order: Order,
    /// With what the upper bits say of the FCS.
    pub(super) link_type: u32,
}

impl Pcap {
    /// The file's header, behind its first four bytes.
    pub(super) fn open(magic: [u8; 4], input: &mut impl Read) -> Result<Self, Ended> {
        let order = Order {
            big: magic[0] == 0xa1,
        };
        // Version, time zone and accuracy, the longest packet.
        array::<16>(input)?;
        Ok(Self {
            order,
            link_type: order.u32(array(input)?),
        })
    }

    /// The next packet; `None` at the end.
    pub(super) fn next(&mut self, input: &mut impl Read) -> Result<Option<Packet>, Ended> {
        // Its time.
        if array_or_end::<8>(input)?.is_none() {
            return Ok(None);
        }
        let kept = self.order.u32(array(input)?);
        let length = self.order.u32(array(input)?);
        Ok(Some(Packet {
            link_type: self.link_type,
            data: bytes(input, kept)?,
            length,
        }))
    }
}

/// What is needed of an interface.
struct Interface {
    link_type: u16,
    /// Most that is kept of a packet; 0: all.
    snap: u32,
}

/// A pcapng file.
pub(super) struct PcapNg {
    order: Order,
    interfaces: Vec<Interface>,
}

impl PcapNg {
    /// The first section's header, behind its first four bytes.
    pub(super) fn open(input: &mut impl Read) -> Result<Self, Ended> {
        let mut file = Self {
            order: Order { big: false },
            interfaces: Vec::new(),
        };
        let length = array(input)?;
        file.section(length, input)?;
        Ok(file)
    }

    /// A section has its own byte order and its own interfaces.
    fn section(&mut self, length: [u8; 4], input: &mut impl Read) -> Result<(), Ended> {
        self.order = match array(input)? {
            [0x1a, 0x2b, 0x3c, 0x4d] => Order { big: true },
            [0x4d, 0x3c, 0x2b, 0x1a] => Order { big: false },
            _ => return damaged("a section without its byte order"),
        };
        self.interfaces.clear();
        let body = self.body(length)?;
        match body.checked_sub(4) {
            Some(rest) => skip(input, rest)?,
            None => return damaged("a section's header that is too short"),
        }
        self.end(length, input)
    }

    /// Length of a block without its type and its two lengths.
    fn body(&self, length: [u8; 4]) -> Result<u32, Ended> {
        let length = self.order.u32(length);
        match length.checked_sub(12) {
            Some(body) if length.is_multiple_of(4) => Ok(body),
            _ => damaged(format!("a block of {length} bytes")),
        }
    }

    /// The length is there twice.
    fn end(&self, length: [u8; 4], input: &mut impl Read) -> Result<(), Ended> {
        match array(input)? == length {
            true => Ok(()),
            false => damaged("a block with two lengths"),
        }
    }

    /// The next packet; `None` at the end.
    pub(super) fn next(&mut self, input: &mut impl Read) -> Result<Option<Packet>, Ended> {
        loop {
            let Some(kind) = array_or_end(input)? else {
                return Ok(None);
            };
            let length = array(input)?;
            // The same in both byte orders.
            if self.order.u32(kind) == SECTION {
                self.section(length, input)?;
                continue;
            }
            let body = self.body(length)?;
            let mut block = Body::new(input, body);
            let packet = match self.order.u32(kind) {
                INTERFACE => {
                    let [link_type, _] = block.halves(self.order)?;
                    let snap = block.word(self.order)?;
                    self.interfaces.push(Interface { link_type, snap });
                    None
                }
                ENHANCED_PACKET | PACKET => {
                    let old = self.order.u32(kind) == PACKET;
                    let interface = match old {
                        true => block.halves(self.order)?[0].into(),
                        false => block.word(self.order)?,
                    };
                    // Its time.
                    block.word(self.order)?;
                    block.word(self.order)?;
                    let kept = block.word(self.order)?;
                    let length = block.word(self.order)?;
                    let data = block.data(kept)?;
                    Some((interface, data, length))
                }
                SIMPLE_PACKET => {
                    let length = block.word(self.order)?;
                    // What was kept is not said, only how much at most: the rest is padding.
                    let snap = match self.interfaces.first() {
                        Some(Interface { snap: 1.., .. }) => self.interfaces[0].snap,
                        _ => u32::MAX,
                    };
                    let kept = length.min(snap).min(block.left);
                    let data = block.data(kept)?;
                    Some((0, data, length))
                }
                _ => None,
            };
            block.skip_rest()?;
            self.end(length, input)?;
            let Some((interface, data, length)) = packet else {
                continue;
            };
            let Some(described) = self.interfaces.get(interface as usize) else {
                return damaged(format!(
                    "a packet of interface {interface}, which is not described"
                ));
            };
            return Ok(Some(Packet {
                link_type: described.link_type.into(),
                data,
                length,
            }));
        }
    }
}

/// A block's body while it is read: nothing is taken from beyond it.
struct Body<'a, R> {
    input: &'a mut R,
    left: u32,
}

impl<'a, R: Read> Body<'a, R> {
    fn new(input: &'a mut R, left: u32) -> Self {
        Self { input, left }
    }

    fn take(&mut self, length: u32) -> Result<(), Ended> {
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => damaged("a block that is too short for what is in it"),
        }
    }

    fn word(&mut self, order: Order) -> Result<u32, Ended> {
        self.take(4)?;
        Ok(order.u32(array(self.input)?))
    }

    fn halves(&mut self, order: Order) -> Result<[u16; 2], Ended> {
        self.take(4)?;
        let [a, b, c, d] = array(self.input)?;
        Ok([order.u16([a, b]), order.u16([c, d])])
    }

    fn data(&mut self, length: u32) -> Result<Vec<u8>, Ended> {
        self.take(length)?;
        bytes(self.input, length)
    }

    /// Padding and options.
    fn skip_rest(self) -> Result<(), Ended> {
        skip(self.input, self.left)
    }
}
