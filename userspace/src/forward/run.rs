//! One destination: reads the log from where it was left, sends, and keeps how far it has got.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    config::{Destination, Start, Target},
    fault::Fault,
    pace::Pace,
    position::{Anchor, Kept, Place, Position},
    record::Message,
    source::{self, Item, Source},
    syslog::Syslog,
    troubles::{Part, Troubles},
    unsent::{Marks, Reached},
    wait::Stop,
    wire::Wire,
};

/// What is sent at once: so many records, or so many bytes.
const RECORDS: usize = 64;
const BYTES: usize = 64 << 10;
/// What is read at once of records that are not to be sent.
const SKIPPED: usize = 4096;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Log(#[from] source::Trouble),
}

impl From<io::Error> for End {
    fn from(e: io::Error) -> Self {
        Self::Log(e.into())
    }
}

/// What was read of the log.
struct Batch {
    messages: Vec<Message>,
    /// Also those that are not to be sent.
    records: u32,
    reached: Option<Reached>,
}

/// One destination.
pub(super) struct Runner {
    folder: PathBuf,
    destination: Destination,
    pace: Pace,
    stop: Arc<Stop>,
    troubles: Arc<Troubles>,
    /// Of the file with the position.
    path: PathBuf,
    /// `None`: nobody has looked yet.
    position: Option<Position>,
    /// The log has what the position says.
    is_found: bool,
    kept: Instant,
    is_kept: bool,
    syslog: Syslog,
    /// Until it is tried again.
    wait: Duration,
}

impl Runner {
    pub(super) fn new(
        folder: &Path,
        destination: Destination,
        pace: Pace,
        stop: Arc<Stop>,
        troubles: Arc<Troubles>,
    ) -> Self {
        Self {
            path: folder.join(destination.to.file()),
            folder: folder.to_owned(),
            syslog: Syslog::new(destination.facility),
            wait: pace.first,
            destination,
            pace,
            stop,
            troubles,
            position: None,
            is_found: false,
            kept: Instant::now(),
            is_kept: true,
        }
    }

    pub(super) fn run(mut self) {
        while !self.stop.is_told() {
            let end = match self.go() {
                Ok(()) | Err(End::Fault(Fault::Over)) => break,
                Err(end) => end,
            };
            match &end {
                End::Log(source::Trouble::Changed) => self.is_found = false,
                End::Log(e) => {
                    let words = format!("the log cannot be read to be forwarded: {e}");
                    self.troubles.is(Part::Reading, words);
                }
                End::Fault(e) => {
                    let words = format!("records are not forwarded: {e}");
                    self.troubles.is(Part::Reaching, words);
                }
            }
            self.stop.wait(self.wait);
            self.wait = self.wait.saturating_mul(2).min(self.pace.most);
        }
        self.keep();
    }

    /// Sends until something is wrong, or it is over.
    fn go(&mut self) -> Result<(), End> {
        let next = self.find()?;
        let mut wire = Wire::open(&self.destination, &self.stop, &self.pace)?;
        let mut source = Source::new(&self.folder, next);
        let mut marks = Marks::new(self.margin());
        let mut opened = Some(Instant::now());
        let mut settled = Instant::now();
        while !self.stop.is_over() {
            let is_told = self.stop.is_told();
            wire.check()?;
            let batch = self.read(&mut source)?;
            let Self {
                syslog,
                destination,
                stop,
                pace,
                ..
            } = self;
            wire.send(&batch.messages, syslog, destination, stop, pace)?;
            if let Some(reached) = batch.reached {
                marks.push(Instant::now(), wire.written(), reached);
            }
            if is_told || settled.elapsed() >= self.pace.idle {
                settled = Instant::now();
                // Only where it matters: it is a whole table that is read.
                let taken = if marks.is_taken() {
                    Some(0)
                } else {
                    wire.taken()
                };
                let arrived = marks.settle(settled, taken);
                self.arrived(arrived);
                source.check()?;
                self.troubles.is_over(Part::Reading);
            }
            if opened.is_some_and(|opened| opened.elapsed() >= self.pace.proven) {
                opened = None;
                self.wait = self.pace.first;
                self.troubles.is_over(Part::Reaching);
            }
            if self.kept.elapsed() >= self.pace.keep {
                self.keep();
            }
            match batch.records {
                0 if is_told && marks.is_taken() => break,
                0 if is_told => thread::sleep(Duration::from_millis(20)),
                0 => self.stop.wait(self.pace.idle),
                sum => self.stop.wait(self.spacing() * sum),
            }
        }
        wire.end();
        self.arrived(marks.end());
        Ok(())
    }

    /// How long nothing may go wrong with what was taken until it counts as arrived.
    fn margin(&self) -> Duration {
        match &self.destination.to {
            Target::Journald(_) => Duration::ZERO,
            _ => self.pace.margin,
        }
    }

    /// What a record is given where too many at once would be thrown away on the other side: by a
    /// socket that is full, or by journald, which takes 10,000 in half a minute of a service.
    fn spacing(&self) -> Duration {
        match &self.destination.to {
            Target::Udp(_) => Duration::from_micros(500),
            Target::Journald(_) => Duration::from_millis(4),
            Target::Tcp(_) | Target::Tls(_) => Duration::ZERO,
        }
    }

    fn read(&self, source: &mut Source) -> Result<Batch, source::Trouble> {
        let (mut messages, mut bytes, mut records) = (Vec::new(), 0, 0);
        let mut reached: Option<Reached> = None;
        while messages.len() < RECORDS && bytes < BYTES && (records as usize) < SKIPPED {
            let Some(item) = source.next()? else { break };
            records += 1;
            let message = match item {
                Item::Gap(gap) => {
                    self.troubles.note(format!(
                        "records {} to {}, {} of them, were removed from the log before they could be sent",
                        gap.start,
                        gap.end.saturating_sub(1),
                        gap.end - gap.start
                    ));
                    let last = reached.and_then(|reached| reached.last);
                    reached = Some(Reached {
                        next: gap.end,
                        last,
                    });
                    Message::gap(&gap)
                }
                Item::Record(number, line) => {
                    let last = Some(Anchor::new(number, &line));
                    reached = Some(Reached {
                        next: number + 1,
                        last,
                    });
                    Message::new(number, line)
                }
            };
            let is_record = message.number.is_some();
            let is_wanted = |action| self.destination.wants(action);
            if !is_record || message.action().is_none_or(is_wanted) {
                bytes += message.line.len();
                messages.push(message);
            }
        }
        Ok(Batch {
            messages,
            records,
            reached,
        })
    }

    fn arrived(&mut self, reached: Option<Reached>) {
        if let (Some(reached), Some(position)) = (reached, &mut self.position) {
            position.advance(reached.next, reached.last);
            self.troubles.has_reached(reached.next);
            self.is_kept = false;
        }
    }

    fn keep(&mut self) {
        self.kept = Instant::now();
        let Some(position) = self.position.as_ref().filter(|_| !self.is_kept) else {
            return;
        };
        match position.save(&self.path) {
            Ok(()) => {
                self.is_kept = true;
                self.troubles.is_over(Part::Keeping);
            }
            Err(e) => {
                let words = format!(
                    "how far forwarding has got is not kept, so records would be sent again after a \
                     restart: {}: {e}",
                    self.path.display()
                );
                self.troubles.is(Part::Keeping, words);
            }
        }
    }

    /// Number of the first record that is to be sent.
    fn find(&mut self) -> io::Result<u64> {
        if let Some(position) = self.position.as_ref().filter(|_| self.is_found) {
            return Ok(position.next);
        }
        let before = self.position.clone();
        let position = match self.position.take() {
            Some(position) => position,
            None => self.load()?,
        };
        let next = position.next;
        let position = match position.find(&self.folder) {
            Ok(Place::Same) => position,
            Ok(Place::Back(back)) => {
                self.troubles.note(format!(
                    "the log has lost its end, some of which was sent (until record {next}); what comes \
                     from record {back} on is sent"
                ));
                let mut position = position;
                position.advance(back, None);
                position
            }
            Ok(Place::Other) => {
                let first = self.first()?;
                self.troubles.note(format!(
                    "the log is another one than that of which the first {next} records were sent; what \
                     comes from record {first} on is sent"
                ));
                Position::at(first)
            }
            Err(e) => {
                self.position = before;
                return Err(e);
            }
        };
        let next = position.next;
        self.is_kept &= before.as_ref() == Some(&position);
        self.troubles.has_reached(position.next);
        self.position = Some(position);
        self.is_found = true;
        self.keep();
        Ok(next)
    }

    fn load(&self) -> io::Result<Position> {
        match Position::load(&self.path) {
            Kept::Position(position) => Ok(position),
            Kept::Nothing => Ok(Position::at(self.first()?)),
            Kept::Damaged(why) => {
                let first = self.first()?;
                self.troubles.note(format!(
                    "nobody knows how far forwarding had got: {}: {why}; what comes from record {first} \
                     on is sent",
                    self.path.display()
                ));
                Ok(Position::at(first))
            }
        }
    }

    /// With what it begins where it does not go on.
    fn first(&self) -> io::Result<u64> {
        match self.destination.start {
            Start::Oldest => Ok(source::firsts(&self.folder)?.first().copied().unwrap_or(0)),
            Start::Newest => source::size(&self.folder),
        }
    }
}
