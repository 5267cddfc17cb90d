//! Frames of a capture, pcap or pcapng, one after the other.
//!
//! [`records`] reads the two formats; what is here decides what counts as a frame:
//! Ethernet only, and bytes that the capture left out (`tcpdump -s`) are filled with
//! zeros, because a packet that was whole on the wire must not be judged as a truncated one.

mod records;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use self::records::{Ended, Packet, Pcap, PcapNg};
use crate::diagnostic::{Problem, quoted};

/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;
/// The upper bits of a link type say how long the FCS behind each frame is.
const LINK_TYPE: u32 = 0x03ff_ffff;
/// No IP packet is larger; what a broken capture claims to have left out is not
/// made up beyond this.
const LARGEST: usize = 14 + 8 * 4 + 40 + 65535;

type Input = Box<dyn Read>;

fn unreadable(file: &str, error: &io::Error) -> Problem {
    Problem::new(
        format!("capture {} cannot be read: {error}", quoted(file)),
        "check the path and its permissions",
    )
}

fn not_ethernet(file: &str, link_type: u32) -> Problem {
    let file = quoted(file);
    Problem::new(
        format!("capture {file} is not of Ethernet frames (link type {link_type})"),
        "capture on the trunk itself, not on `any`, a tunnel or a wireless monitor",
    )
}

/// One frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Its bytes from the destination address on.
    pub bytes: Vec<u8>,
    /// The capture left out the end; it is zeros here.
    pub cut: bool,
}

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// An open capture.
pub struct Capture {
    file: String,
    input: BufReader<Input>,
    format: Format,
    /// Packets so far.
    packets: u64,
}

impl Capture {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, is no capture, or not of Ethernet.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let file = path.display().to_string();
        let input: Input = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(|error| unreadable(&file, &error))?)
        };
        Self::read(file, input)
    }

    /// As [`Self::open`]; `file` is for messages.
    ///
    /// # Errors
    /// As there.
    pub fn read(file: String, input: Input) -> Result<Self, Problem> {
        let mut input = BufReader::new(input);
        let mut magic = Vec::new();
        if let Err(error) = input.by_ref().take(4).read_to_end(&mut magic) {
            return Err(unreadable(&file, &error));
        }
        let not_capture = |what: &str| {
            Problem::new(
                format!("{} is not a capture: {what}", quoted(&file)),
                "give a pcap or pcapng file, as `tcpdump -w` or Wireshark write them",
            )
        };
        let header = |e: Ended| match e {
            Ended::Io(error) => unreadable(&file, &error),
            _ => not_capture("its header is damaged"),
        };
        let format = match magic[..] {
            [0x0a, 0x0d, 0x0d, 0x0a] => Format::PcapNg(PcapNg::open(&mut input).map_err(header)?),
            // Microseconds and nanoseconds, both byte orders.
            [a @ 0xa1, b @ 0xb2, c @ 0xc3, d @ 0xd4]
            | [a @ 0xd4, b @ 0xc3, c @ 0xb2, d @ 0xa1]
            | [a @ 0xa1, b @ 0xb2, c @ 0x3c, d @ 0x4d]
            | [a @ 0x4d, b @ 0x3c, c @ 0xb2, d @ 0xa1] => {
                Format::Pcap(Pcap::open([a, b, c, d], &mut input).map_err(header)?)
            }
            [0x1f, 0x8b, ..] => return Err(not_capture("it is compressed, decompress it first")),
            [] => return Err(not_capture("it is empty")),
            _ => return Err(not_capture("it starts like neither pcap nor pcapng")),
        };
        // Said at once: of pcap all packets are of one kind.
        if let Format::Pcap(Pcap { link_type, .. }) = format
            && link_type & LINK_TYPE != ETHERNET
        {
            return Err(not_ethernet(&file, link_type));
        }
        Ok(Self {
            file,
            input,
            format,
            packets: 0,
        })
    }

    /// The next frame; `None` at the end. After an error there is nothing more.
    ///
    /// # Errors
    /// When the file ends inside a packet, is damaged, or the packet is not Ethernet.
    pub fn next_frame(&mut self) -> Result<Option<Captured>, Problem> {
        let found = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.input),
            Format::PcapNg(pcapng) => pcapng.next(&mut self.input),
        };
        let packet = self.packets + 1;
        let found = found.map_err(|ended| {
            let file = quoted(&self.file);
            let message = match ended {
                Ended::Io(error) => return unreadable(&self.file, &error),
                Ended::Truncated => format!("capture {file} ends in the middle of packet {packet}"),
                Ended::Damaged(what) => {
                    format!("capture {file} is damaged at packet {packet}: {what}")
                }
            };
            let help = "packets before it were judged; capture again, or copy the file whole";
            Problem::new(message, help)
        })?;
        let Some(found) = found else { return Ok(None) };
        self.packets = packet;
        if found.link_type & LINK_TYPE != ETHERNET {
            return Err(not_ethernet(&self.file, found.link_type));
        }
        Ok(Some(captured(found)))
    }
}

fn captured(packet: Packet) -> Captured {
    let mut bytes = packet.data;
    let whole = (packet.length as usize).min(LARGEST);
    let cut = bytes.len() < whole;
    if cut {
        bytes.resize(whole, 0);
    }
    Captured { bytes, cut }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn pcap(link_type: u32, packets: &[(&[u8], u32)]) -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        file.extend([0; 8]);
        file.extend(65535u32.to_le_bytes());
        file.extend(link_type.to_le_bytes());
        for (bytes, whole) in packets {
            file.extend([0; 8]);
            file.extend((bytes.len() as u32).to_le_bytes());
            file.extend(whole.to_le_bytes());
            file.extend(*bytes);
        }
        file
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes(), &length[..], &body, &length].concat()
    }

    fn section() -> Vec<u8> {
        let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        body.extend([1, 0, 0, 0]);
        body.extend([0xff; 8]);
        block(0x0a0d_0d0a, &body)
    }

    fn interface(link_type: u16) -> Vec<u8> {
        let [a, b] = link_type.to_le_bytes();
        block(1, &[a, b, 0, 0, 0, 0, 4, 0])
    }

    fn packet(interface: u32, data: &[u8]) -> Vec<u8> {
        let mut body = interface.to_le_bytes().to_vec();
        body.extend([0; 8]);
        body.extend((data.len() as u32).to_le_bytes());
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(data);
        block(6, &body)
    }

    fn all(bytes: Vec<u8>) -> (Vec<Captured>, Option<String>) {
        let mut frames = Vec::new();
        let opened = Capture::read("c".into(), Box::new(Cursor::new(bytes)));
        let mut capture = match opened {
            Ok(capture) => capture,
            Err(e) => return (frames, Some(e.to_string())),
        };
        loop {
            match capture.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(e) => return (frames, Some(e.to_string())),
            }
        }
    }

    fn whole(bytes: &[u8]) -> Captured {
        Captured {
            bytes: bytes.to_vec(),
            cut: false,
        }
    }

    #[test]
    fn classic() {
        let file = pcap(1, &[(b"abc", 3), (b"", 0), (b"de", 4)]);
        let cut = Captured {
            bytes: b"de\0\0".to_vec(),
            cut: true,
        };
        assert_eq!(all(file), (vec![whole(b"abc"), whole(b""), cut], None));
        // An FCS behind each frame is trailing bytes.
        assert_eq!(all(pcap(0x2400_0001, &[(b"x", 1)])).0.len(), 1);
        assert_eq!(all(pcap(1, &[])), (vec![], None));
    }

    #[test]
    fn next_generation() {
        let file = [section(), interface(1), packet(0, b"abc"), packet(0, b"")].concat();
        assert_eq!(all(file), (vec![whole(b"abc"), whole(b"")], None));
        let file = [
            section(),
            interface(1),
            interface(113),
            packet(0, b"a"),
            packet(1, b"b"),
        ];
        let (frames, error) = all(file.concat());
        assert_eq!(frames.len(), 1);
        assert_eq!(
            error.unwrap(),
            "capture `c` is not of Ethernet frames (link type 113)"
        );
        let (_, error) = all([section(), packet(3, b"a")].concat());
        assert!(
            error
                .unwrap()
                .starts_with("capture `c` is damaged at packet 1")
        );
    }

    /// What was whole comes out, then the error; nothing panics.
    #[test]
    fn cut_at_every_byte() {
        let classic = pcap(1, &[(b"abcdefgh", 8), (b"ijk", 3)]);
        let ng = [section(), interface(1), packet(0, b"abc"), packet(0, b"de")].concat();
        for file in [classic, ng] {
            for end in 0..file.len() {
                let (frames, error) = all(file[..end].to_vec());
                assert!(frames.len() < 2, "{end}");
                let boundary = all(file[..end].to_vec()).1.is_none();
                assert_eq!(error.is_none(), boundary);
            }
        }
        let file = pcap(1, &[(b"abcdefgh", 8), (b"ijk", 3)]);
        let (frames, error) = all(file[..file.len() - 1].to_vec());
        assert_eq!(frames.len(), 1);
        assert_eq!(error.unwrap(), "capture `c` ends in the middle of packet 2");
    }

    #[test]
    fn other_files() {
        for (bytes, what) in [
            (&b""[..], "it is empty"),
            (b"PK\x03\x04rest", "it starts like neither pcap nor pcapng"),
            (b"\x1f\x8b\x08", "it is compressed, decompress it first"),
            (b"\xd4\xc3\xb2\xa1\x02", "its header is damaged"),
        ] {
            let (_, error) = all(bytes.to_vec());
            assert_eq!(error.unwrap(), format!("`c` is not a capture: {what}"));
        }
        assert_eq!(
            all(pcap(101, &[])).1.unwrap(),
            "capture `c` is not of Ethernet frames (link type 101)"
        );
    }

    /// Mutations of good files never panic and never end in a loop.
    #[test]
    fn damaged() {
        let mut rng = fastrand::Rng::with_seed(7);
        let classic = pcap(1, &[(b"abcdefgh", 8), (b"ijk", 3)]);
        let ng = [section(), interface(1), packet(0, b"abc"), packet(0, b"de")].concat();
        for round in 0..4000 {
            let mut file = if round % 2 == 0 { &classic } else { &ng }.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(4..file.len());
                file[at] = rng.u8(..);
            }
            let (frames, _) = all(file);
            assert!(frames.len() < 10);
        }
    }
}
