//! What a client sends: lines of bounded length, and files that it opened itself and
//! passes beside them (`SCM_RIGHTS`). So the daemon reads what the client may read, and
//! opens nothing that a client names.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::AsFd as _,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::UnixStream,
    sync::{Semaphore, SemaphorePermit},
};

use super::protocol::MAX_FILES;

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;
/// A request of up to this size needs no permit.
const SMALL: usize = 64 << 10;

/// What one client may send.
pub(super) struct Allowance<'a> {
    /// Longest line, bytes.
    pub(super) longest: usize,
    /// Whether files may come with it; those of others are closed unseen.
    pub(super) files: bool,
    /// For lines that are not small.
    pub(super) large: &'a Semaphore,
}

/// A request as it came.
pub(super) struct Received<'a> {
    pub(super) line: Vec<u8>,
    pub(super) files: Vec<File>,
    /// Held until the request is done with.
    pub(super) _permit: Option<SemaphorePermit<'a>>,
}

/// A connection, and what came behind the last line.
pub(super) struct Connection {
    stream: UnixStream,
    rest: Vec<u8>,
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    /// The next line, and the files that came with it; `None` at the end.
    pub(super) async fn receive<'a>(
        &mut self,
        allowance: &Allowance<'a>,
    ) -> io::Result<Option<Received<'a>>> {
        let mut line = std::mem::take(&mut self.rest);
        let mut files = Vec::new();
        let mut permit = None;
        let mut searched = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let end = line[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| searched + end + 1)
                && end <= allowance.longest
            {
                self.rest = line.split_off(end);
                return Ok(Some(Received {
                    line,
                    files,
                    _permit: permit,
                }));
            }
            if line.len() >= allowance.longest {
                return Err(wrong(format!(
                    "the request is longer than {} bytes",
                    allowance.longest
                )));
            }
            searched = line.len();
            if line.len() > SMALL && permit.is_none() {
                permit = allowance.large.acquire().await.ok();
            }
            let (count, more) = self.read(&mut chunk, allowance.files).await?;
            files.extend(more);
            if files.len() > MAX_FILES {
                return Err(wrong(format!("more than {MAX_FILES} files come with it")));
            }
            if count == 0 {
                return if line.is_empty() {
                    Ok(None)
                } else {
                    Err(wrong("the request ends in the middle"))
                };
            }
            line.extend_from_slice(&chunk[..count]);
        }
    }

    async fn read(&self, chunk: &mut [u8], with_files: bool) -> io::Result<(usize, Vec<File>)> {
        let read = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
            let mut beside =
                RecvAncillaryBuffer::new(if with_files { &mut space } else { &mut [] });
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let buffer = &mut [IoSliceMut::new(chunk)];
            let message = recvmsg(self.stream.as_fd(), buffer, &mut beside, flags)?;
            let files = beside.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            });
            let files: Vec<File> = files.flatten().map(File::from).collect();
            let cut = with_files && message.flags.contains(ReturnFlags::CTRUNC);
            Ok((message.bytes, files, cut))
        };
        let (count, files, cut) = self.stream.async_io(Interest::READABLE, read).await?;
        if cut {
            return Err(wrong(format!(
                "more than {MAX_FILES} files come with it, or the daemon has no room for them"
            )));
        }
        Ok((count, files))
    }

    /// Says a line.
    pub(super) async fn say(&mut self, line: &[u8]) -> io::Result<()> {
        self.stream.write_all(line).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive(sent: &[u8], longest: usize) -> io::Result<Option<Vec<u8>>> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(sent).await.unwrap();
        drop(theirs);
        let large = Semaphore::new(1);
        let allowance = Allowance {
            longest,
            files: true,
            large: &large,
        };
        let received = Connection::new(ours).receive(&allowance).await?;
        Ok(received.map(|received| received.line))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_are_bounded() {
        assert_eq!(receive(b"ab\nc", 3).await.unwrap(), Some(b"ab\n".to_vec()));
        assert_eq!(receive(b"", 3).await.unwrap(), None);
        let error = receive(b"abc\n", 3).await.unwrap_err().to_string();
        assert_eq!(error, "the request is longer than 3 bytes");
        let error = receive(b"abc", 9).await.unwrap_err().to_string();
        assert_eq!(error, "the request ends in the middle");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn two_lines_at_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"one\ntwo\n").await.unwrap();
        let large = Semaphore::new(1);
        let allowance = Allowance {
            longest: 10,
            files: false,
            large: &large,
        };
        let mut connection = Connection::new(ours);
        for expected in [b"one\n", b"two\n"] {
            let received = connection.receive(&allowance).await.unwrap().unwrap();
            assert_eq!(received.line, expected);
        }
    }
}
