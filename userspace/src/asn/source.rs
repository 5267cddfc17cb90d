//! Lines of a file, whatever it is compressed with, in bounded memory.
//!
//! A decompressor keeps at most [`MAX_WINDOW`]; what comes out of it is a stream, and may
//! not be out of all proportion to what went in.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::rc::Rc;

use liblzma::stream::{CONCATENATED, Stream};

use super::snapshot;

/// Longest line that is kept.
const MAX_LINE: usize = 64 * 1024;

/// Most bytes that are read from one file, after decompression. A small file that
/// expands without end stops here. Text sources have some tens of megabytes; a RIB
/// of a collector has some thousand.
const MAX_TEXT: u64 = 2 << 30;
const MAX_RIB: u64 = 32 << 30;
/// A MaxMind DB file has to be in memory; the largest have some hundred megabytes.
const MAX_MMDB: u64 = 512 << 20;

/// What a decompressor may keep of what it wrote, logarithm: `zstd --long` and
/// `--ultra -22` want 128 MiB, `xz -9` wants 64.
const WINDOW_LOG: u32 = 27;
/// As bytes, with what xz needs beside its dictionary.
const MAX_WINDOW: u64 = (1 << WINDOW_LOG) + (1 << 20);

/// A stream that has come to more than this is looked at for what it cost.
const FREE: u64 = 16 << 20;
/// Decompressed bytes for each compressed one, at most. Tables of routes come to 5 to 30.
const MAX_EXPANSION: u64 = 250;

/// Bytes that are looked at to tell what a file is.
const HEAD: usize = 4096;

/// Why a file cannot be read as lines.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("cannot open it: {0}")]
    Open(io::Error),
    #[error("it is {0}, which is not read")]
    Foreign(&'static str, &'static str),
    #[error("the {0} ends too early")]
    Truncated(&'static str),
    #[error("the {0} is corrupt: {1}")]
    Corrupt(&'static str, io::Error),
    #[error("the {0} grows to more than {MAX_EXPANSION} times its size")]
    Bomb(&'static str),
    #[error("the {what} needs more than {} MiB of memory", MAX_WINDOW >> 20)]
    Window { what: &'static str },
    #[error("cannot read it: {0}")]
    Read(io::Error),
    #[error("it holds more than {} MiB", .0 >> 20)]
    TooMuch(u64),
}

impl SourceError {
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Open(_) | Self::Read(_) => "check the path and its permissions",
            Self::Foreign(_, help) => help,
            Self::Truncated(_) => "the download was cut short: fetch it again",
            Self::Corrupt(..) => "fetch it again",
            Self::Bomb(_) => "no table compresses like that: look at what it holds",
            Self::Window { .. } => "compress it with a smaller window, as `zstd -19` or `xz -6` do",
            Self::TooMuch(_) => "a source of the whole Internet has less than 200 MiB",
        }
    }
}

/// Beginnings of files that are not sources: magic, what, cure.
const FOREIGN: &[(&[u8], &str, &str)] = &[
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
    (
        snapshot::MAGIC,
        "a snapshot of kordon",
        "a snapshot is given alone, and is not imported again",
    ),
];

/// One line, without its end.
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// It was longer than is kept; `bytes` is its beginning.
    pub(super) too_long: bool,
    /// The file ends here, without a line end.
    pub(super) cut: bool,
}

/// What is read, decompressed.
pub(super) struct Input {
    reader: Box<dyn BufRead>,
    encoding: Option<&'static str>,
    head: Vec<u8>,
}

impl Input {
    /// Opens a file; its first bytes say how it is compressed.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(SourceError::Open)?;
        Self::new(file)
    }

    /// As [`Self::open`]. Never seeks: pipes are sources too.
    pub(super) fn new(mut file: impl Read + 'static) -> Result<Self, SourceError> {
        let mut head = Vec::new();
        file.by_ref()
            .take(8)
            .read_to_end(&mut head)
            .map_err(SourceError::Read)?;
        for &(magic, what, help) in FOREIGN {
            if head.starts_with(magic) {
                return Err(SourceError::Foreign(what, help));
            }
        }
        let gzip = head.starts_with(b"\x1f\x8b");
        let bzip2 = matches!(head[..], [b'B', b'Z', b'h', b'1'..=b'9', ..]);
        // Data frames and skippable frames (RFC 8878).
        let zstd = head.starts_with(b"\x28\xb5\x2f\xfd")
            || head.first().is_some_and(|b| b & 0xf0 == 0x50)
                && head.get(1..4) == Some(b"\x2a\x4d\x18");
        let xz = head.starts_with(b"\xfd7zXZ");
        let taken = Rc::new(Cell::new(0));
        let raw = Taken {
            input: Cursor::new(head).chain(file),
            count: Rc::clone(&taken),
        };
        let (reader, encoding): (Box<dyn BufRead>, _) = if gzip {
            let decoder = flate2::read::MultiGzDecoder::new(raw);
            (expanding(decoder, taken), Some("gzip stream"))
        } else if bzip2 {
            let decoder = bzip2::read::MultiBzDecoder::new(raw);
            (expanding(decoder, taken), Some("bzip2 stream"))
        } else if zstd {
            let mut decoder = zstd::Decoder::new(raw).map_err(SourceError::Read)?;
            decoder
                .window_log_max(WINDOW_LOG)
                .map_err(SourceError::Read)?;
            (expanding(decoder, taken), Some("zstd stream"))
        } else if xz {
            let stream = Stream::new_stream_decoder(MAX_WINDOW, CONCATENATED);
            let stream = stream.map_err(|e| SourceError::Read(e.into()))?;
            let decoder = liblzma::read::XzDecoder::new_stream(raw, stream);
            (expanding(decoder, taken), Some("xz stream"))
        } else {
            (buffered(raw), None)
        };
        let mut input = Self {
            reader,
            encoding,
            head: Vec::new(),
        };
        // What was read before the stream broke still says what it is.
        let mut head = Vec::new();
        let result = input
            .reader
            .by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut head);
        if let Err(error) = result {
            if head.is_empty() {
                return Err(fault(encoding, error));
            }
            let broken = Broken(Some(error));
            input.reader = Box::new(BufReader::new(broken));
        }
        input.head = head;
        Ok(input)
    }

    /// The beginning.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// As text.
    pub(super) fn lines(self) -> Lines {
        Lines {
            input: self.bytes(MAX_TEXT),
            buffer: Vec::new(),
            number: 0,
            after_cr: false,
        }
    }

    /// As a document of JSON.
    pub(super) fn document(self) -> Bytes {
        self.bytes(MAX_TEXT)
    }

    /// As a RIB.
    pub(super) fn rib(self) -> Bytes {
        self.bytes(MAX_RIB)
    }

    /// All of it, in memory.
    pub(super) fn whole(self) -> Result<Vec<u8>, SourceError> {
        const STEP: u64 = 8 << 20;
        let mut input = self.bytes(MAX_MMDB);
        let mut bytes = Vec::new();
        loop {
            // Doubling would take twice what there may be.
            bytes.reserve_exact(STEP as usize);
            let read = (&mut input).take(STEP).read_to_end(&mut bytes);
            match read.map_err(|error| input.fault(error))? {
                0 if input.is_spent() => return Err(SourceError::TooMuch(MAX_MMDB)),
                0 => return Ok(bytes),
                _ => {}
            }
        }
    }

    fn bytes(self, most: u64) -> Bytes {
        Bytes {
            input: (Box::new(Cursor::new(self.head).chain(self.reader)) as Box<dyn BufRead>)
                .take(most),
            encoding: self.encoding,
            most,
        }
    }
}

/// A stream that broke while its beginning was read.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Counts what is read of a file.
struct Taken<R> {
    input: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Taken<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// What comes out of a decompressor, in proportion to what went in.
struct Expanding<R> {
    input: R,
    taken: Rc<Cell<u64>>,
    given: u64,
}

impl<R: Read> Read for Expanding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.given += read as u64;
        if self.given > FREE && self.given / MAX_EXPANSION > self.taken.get() {
            return Err(io::Error::other(Bomb));
        }
        Ok(read)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it grows too much")]
struct Bomb;

fn expanding(input: impl Read + 'static, taken: Rc<Cell<u64>>) -> Box<dyn BufRead> {
    buffered(Expanding {
        input,
        taken,
        given: 0,
    })
}

/// Bytes, and no more than there may be.
pub(super) struct Bytes {
    input: io::Take<Box<dyn BufRead>>,
    encoding: Option<&'static str>,
    most: u64,
}

impl Bytes {
    /// Whether all was read that may be.
    pub(super) fn is_spent(&self) -> bool {
        self.input.limit() == 0
    }

    /// What an error of reading means.
    pub(super) fn fault(&self, error: io::Error) -> SourceError {
        if self.is_spent() {
            SourceError::TooMuch(self.most)
        } else {
            fault(self.encoding, error)
        }
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl BufRead for Bytes {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }
}

fn fault(encoding: Option<&'static str>, error: io::Error) -> SourceError {
    match encoding {
        None => SourceError::Read(error),
        Some(what) if error.get_ref().is_some_and(|inner| inner.is::<Bomb>()) => {
            SourceError::Bomb(what)
        }
        Some(what) if needs_memory(&error) => SourceError::Window { what },
        Some(what) if error.kind() == io::ErrorKind::UnexpectedEof => SourceError::Truncated(what),
        Some(what) => SourceError::Corrupt(what, error),
    }
}

/// Whether a decompressor says that its window would be larger than it may be.
fn needs_memory(error: &io::Error) -> bool {
    let lzma = error.get_ref().and_then(|e| e.downcast_ref());
    matches!(lzma, Some(liblzma::stream::Error::MemLimit))
        // Of zstd there is no more than a text.
        || error.to_string().contains("too much memory")
}

/// Reads lines. CR, LF and CRLF end one.
pub(super) struct Lines {
    input: Bytes,
    buffer: Vec<u8>,
    /// The last line ended with a CR.
    after_cr: bool,
    /// Number of the line last returned, from 1.
    pub(super) number: usize,
}

impl Lines {
    /// The next line.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, SourceError> {
        self.buffer.clear();
        let (mut ended, mut length) = (false, 0);
        while !ended {
            let chunk = match self.input.fill_buf() {
                Ok([]) => break,
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.input.fault(error)),
            };
            // The other half of a CRLF.
            if std::mem::take(&mut self.after_cr) && chunk[0] == b'\n' {
                self.input.consume(1);
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', chunk);
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let room = MAX_LINE.saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(&part[..part.len().min(room)]);
            length += part.len();
            let mut used = part.len();
            if let Some(end) = end {
                ended = true;
                self.after_cr = chunk[end] == b'\r';
                used += 1;
            }
            self.input.consume(used);
        }
        if !ended && length == 0 {
            return if self.input.is_spent() {
                Err(SourceError::TooMuch(MAX_TEXT))
            } else {
                Ok(None)
            };
        }
        self.number += 1;
        let too_long = length > MAX_LINE;
        let mut bytes = self.buffer.as_slice();
        if self.number == 1 {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        Ok(Some(Line {
            bytes,
            too_long,
            cut: !ended && !too_long,
        }))
    }
}

fn buffered(input: impl Read + 'static) -> Box<dyn BufRead> {
    Box::new(BufReader::with_capacity(128 * 1024, input))
}
