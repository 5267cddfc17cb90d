//! The terminal, and the threads: one asks the daemon, one waits for keys, one draws.
//!
//! The daemon may take a second to answer, and a terminal that is gone makes the library that reads
//! keys go round in circles; neither keeps the screen from ending.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEvent},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
};

use super::{
    Poll, Source,
    block::Order,
    draw,
    health::Moment,
    keys,
    model::{Model, Wish},
    theme::Theme,
};

/// Between two pictures: ten a second are enough, and a slow line keeps up.
const FRAME: Duration = Duration::from_millis(100);
/// Between two pictures where nothing happens: the clock goes on, and answers grow old.
const TICK: Duration = Duration::from_secs(1);
/// How long a thread waits before it looks whether it should end.
const LOOK: Duration = Duration::from_millis(200);
/// An answer is good for five seconds: there must be another before that.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(4));

/// What happened.
enum News {
    Key(KeyEvent),
    /// Another size, say.
    Other,
    Answer(Result<Poll, String>, Moment, Instant),
    Blocked(Result<String, String>),
    /// Keys cannot be read any more.
    NoKeys(io::Error),
    /// The thread that asks has ended.
    NoAnswers,
}

/// Shows the screen until somebody ends it. `interval` is between two questions, from 0.1 to 4 s.
///
/// The thread that asks is not waited for: it ends after the question that it asks at that moment.
///
/// # Errors
///
/// If standard output is no terminal, or cannot be written or read any more. A daemon that does not
/// answer is no error.
pub fn run(source: impl Source + Send + 'static, interval: Duration) -> io::Result<()> {
    if !io::stdout().is_terminal() {
        return Err(io::Error::other(
            "standard output is no terminal: `kordon top` is for people, `kordon watch` for pipes",
        ));
    }
    let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let signals = Signals::new()?;
    // Whatever happens from here on, the terminal is given back. A panic does so, too.
    let _restored = Restored;
    let terminal = ratatui::try_init()?;
    let (news, happened) = mpsc::channel();
    let (orders, ordered) = mpsc::channel();
    let ends = Arc::new(AtomicBool::new(false));
    let _ended = Ended(Arc::clone(&ends));
    let asker = news.clone();
    let interval = interval.clamp(INTERVALS.0, INTERVALS.1);
    thread::Builder::new()
        .name("top-ask".to_owned())
        .spawn(move || ask(source, interval, &asker, &ordered))?;
    thread::Builder::new()
        .name("top-keys".to_owned())
        .spawn(move || read(&news, &ends))?;
    let screen = Screen {
        terminal,
        theme: Theme { has_colours },
        model: Model::new(Moment::now()),
        orders,
    };
    screen.show(&happened, &signals)
}

/// Gives the terminal back.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // If it is gone, there is nobody to tell.
        let _ = ratatui::try_restore();
    }
}

/// Tells the thread that reads keys to end.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Signals that would end the process with the terminal as it is.
struct Signals {
    came: Arc<AtomicBool>,
    /// Nobody looks at `came` any more: they do what they did before.
    over: Arc<AtomicBool>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let signals = Self {
            came: Arc::default(),
            over: Arc::default(),
        };
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&signals.over))?;
            flag::register(signal, Arc::clone(&signals.came))?;
        }
        Ok(signals)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Asks, and blocks. Ends when nobody wants to know any more.
fn ask(mut source: impl Source, interval: Duration, news: &Sender<News>, orders: &Receiver<Order>) {
    // A source that panics must not leave a screen that waits for ever.
    let _last = LastWord(news);
    loop {
        let asked = Moment::now();
        let answer = source.poll();
        if news
            .send(News::Answer(answer, asked, Instant::now()))
            .is_err()
        {
            return;
        }
        let rest = interval.saturating_sub(asked.instant.elapsed());
        match orders.recv_timeout(rest) {
            Ok(order) => {
                let result = source.block(&order.target, &order.zone);
                if news.send(News::Blocked(result)).is_err() {
                    return;
                }
                // And asks at once: who blocked something wants to see it.
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Says that the thread ended, however it did.
struct LastWord<'a>(&'a Sender<News>);

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        let _ = self.0.send(News::NoAnswers);
    }
}

/// Reads keys.
fn read(news: &Sender<News>, ends: &AtomicBool) {
    while !ends.load(Ordering::Relaxed) {
        let event = match event::poll(LOOK) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let (piece, is_last) = match event {
            Ok(Event::Key(key)) => (News::Key(key), false),
            Ok(_) => (News::Other, false),
            Err(error) => (News::NoKeys(error), true),
        };
        if news.send(piece).is_err() || is_last {
            return;
        }
    }
}

struct Screen {
    terminal: DefaultTerminal,
    theme: Theme,
    model: Model,
    orders: Sender<Order>,
}

impl Screen {
    fn show(mut self, happened: &Receiver<News>, signals: &Signals) -> io::Result<()> {
        let (mut drawn, mut is_old) = (None::<Instant>, true);
        loop {
            let age = drawn.map(|drawn| drawn.elapsed());
            if age.is_none_or(|age| age >= TICK || (is_old && age >= FRAME)) {
                // Keys of a terminal that is gone never come, and its size is never another one.
                if !io::stdout().is_terminal() {
                    return Err(io::Error::other("the terminal is gone"));
                }
                self.draw()?;
                (drawn, is_old) = (Some(Instant::now()), false);
            }
            let wait = match is_old {
                true => FRAME.saturating_sub(age.unwrap_or_default()),
                false => LOOK,
            };
            match happened.recv_timeout(wait) {
                Ok(piece) => {
                    is_old = true;
                    if self.take(piece)? {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(no_answers()),
            }
            if signals.came.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// Takes what happened; whether that is the end.
    fn take(&mut self, piece: News) -> io::Result<bool> {
        match piece {
            News::Other => {}
            News::Answer(answer, asked, at) => self.model.answered(answer, asked, at),
            News::Blocked(result) => self.model.blocked(result),
            News::NoKeys(error) => return Err(error),
            News::NoAnswers => return Err(no_answers()),
            News::Key(key) => {
                let Some(action) = keys::action(self.model.mode(), key) else {
                    return Ok(false);
                };
                match self.model.act(action, Moment::now()) {
                    Some(Wish::Quit) => return Ok(true),
                    Some(Wish::Redraw) => self.terminal.clear()?,
                    Some(Wish::Block(order)) => {
                        self.orders.send(order).map_err(|_| no_answers())?;
                    }
                    None => {}
                }
            }
        }
        Ok(false)
    }

    fn draw(&mut self) -> io::Result<()> {
        let now = Moment::now();
        self.terminal
            .draw(|frame| draw::draw(frame, &mut self.model, self.theme, now))?;
        Ok(())
    }
}

fn no_answers() -> io::Error {
    io::Error::other("what asks the daemon has ended; this is a bug of kordon")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers, until it panics.
    struct Daemon {
        polls: u32,
    }

    impl Source for Daemon {
        fn poll(&mut self) -> Result<Poll, String> {
            self.polls = self.polls.checked_sub(1).expect("a source with a bug");
            Ok(Poll::default())
        }

        fn block(&mut self, target: &str, zone: &str) -> Result<String, String> {
            Ok(format!("{target} in {zone}"))
        }
    }

    fn start(polls: u32) -> (Sender<Order>, Receiver<News>, thread::JoinHandle<()>) {
        let (news, happened) = mpsc::channel();
        let (orders, ordered) = mpsc::channel();
        let asks =
            thread::spawn(move || ask(Daemon { polls }, Duration::from_secs(60), &news, &ordered));
        (orders, happened, asks)
    }

    fn order() -> Order {
        Order {
            target: "AS1".to_owned(),
            zone: "z".to_owned(),
            about: String::new(),
        }
    }

    #[test]
    fn it_asks_again_after_a_block_and_ends_with_the_screen() {
        let (orders, happened, asks) = start(2);
        assert!(matches!(happened.recv(), Ok(News::Answer(Ok(_), ..))));
        orders.send(order()).expect("it listens");
        assert!(matches!(happened.recv(), Ok(News::Blocked(Ok(words))) if words == "AS1 in z"));
        assert!(matches!(happened.recv(), Ok(News::Answer(Ok(_), ..))));
        drop(orders);
        asks.join().expect("it ends");
        assert!(matches!(happened.recv(), Ok(News::NoAnswers)));
    }

    #[test]
    fn a_source_with_a_bug_is_the_end() {
        let (orders, happened, asks) = start(1);
        assert!(matches!(happened.recv(), Ok(News::Answer(..))));
        orders.send(order()).expect("it listens");
        assert!(matches!(happened.recv(), Ok(News::Blocked(_))));
        assert!(matches!(happened.recv(), Ok(News::NoAnswers)));
        assert!(asks.join().is_err());
    }
}
