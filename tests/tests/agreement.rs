//! The library, the program in the kernel and the reference interpreter say the
//! same of random frames under random policies and databases.
//!
//! `KORDON_CASES` is the number of cases of a campaign (without it: as many as fit
//! in some seconds), `KORDON_SEED` the first seed.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use fastrand::Rng;
use kordon::{
    asn::{self, AsnDb},
    compile::{
        directory::Directory,
        generation::{Environment, PortSpec},
    },
    datapath::probe::Prober,
    judge::{self, Engine, Image, Judge},
    policy::{self, Bundle, Context, Overlay, model::Policy},
    prove::{Budget, Claim, prove},
};
use kordon_ebpf::{
    layout::{Action, ProbeOutput},
    packet::Frame,
    verdict::{Work, decide},
};
use kordon_tests::{
    generate::{self, Pool, Sources},
    known::Live,
    reference::{Interpreter, Router, Row, Table},
};

/// How often each kind of difference was met, and the first of it.
type Differences = BTreeMap<String, (usize, String)>;

/// A short name of a difference, so that one mistake is not reported for each frame.
fn kind(expected: &Row, said: &anyhow::Result<Row>) -> String {
    let Ok(said) = said else {
        return format!("{} {}: an error", expected.action, expected.reason);
    };
    let mut kind = format!(
        "{} {} / {} {}:",
        expected.action, expected.reason, said.action, said.reason
    );
    for (name, differs) in [
        ("zone", expected.zone != said.zone),
        ("rule", expected.rule != said.rule),
        ("src", expected.src != said.src),
        ("dst", expected.dst != said.dst),
        ("judged", expected.judged != said.judged),
        ("origins", expected.origins != said.origins),
        ("asn", expected.asn != said.asn),
        ("country", expected.country != said.country),
    ] {
        if differs {
            kind = kind + " " + name;
        }
    }
    kind
}

/// The program in the kernel, loaded once for all cases: as it proves, and as it is attached.
#[derive(Default)]
struct Kernel {
    prober: Option<Prober>,
    live: Option<Live>,
    work: Work,
}

impl Kernel {
    fn install(&mut self, image: &Image) {
        let loaded = self.prober.take().filter(|p| p.tier() == image.tier);
        let mut prober = loaded.unwrap_or_else(|| Prober::load(image.tier).unwrap());
        prober.install(&image.rules, &image.table).unwrap();
        self.prober = Some(prober);
        let loaded = self.live.take().filter(|live| live.tier() == image.tier);
        let mut live = loaded.unwrap_or_else(|| Live::load(image.tier).unwrap());
        live.install(&image.rules, &image.table).unwrap();
        self.live = Some(live);
    }

    /// Whether it says of a frame what the library says.
    fn agrees(&mut self, image: &Image, frame: &[u8]) -> anyhow::Result<()> {
        // The kernel takes no shorter ones.
        if frame.len() < 14 {
            return Ok(());
        }
        let library = decide(frame, 0, image, &mut self.work, &mut ());
        let library = ProbeOutput::from(&library);
        let prober = self.prober.as_mut().expect("an image was installed");
        let kernel = prober.run(frame, 0)?;
        anyhow::ensure!(
            kernel == library,
            "the kernel says {kernel:?}, the library {library:?}"
        );
        let live = self.live.as_mut().expect("an image was installed");
        let action = if library.action == Action::Drop as u8 {
            1
        } else {
            2
        };
        // The flow of the next one may be known.
        for time in ["first", "second"] {
            let said = live.run(frame)?;
            anyhow::ensure!(
                said == action,
                "the {time} time the live program says {said}, the library {library:?}"
            );
        }
        Ok(())
    }
}

/// A frame as tc has it, with its outermost tag beside it.
struct Beside {
    frame: Vec<u8>,
    vid: u16,
}

impl Beside {
    /// `None`: it has no tag that Linux knows, or not all of it.
    fn of(frame: &[u8]) -> Option<Self> {
        let (addresses, tagged) = frame.split_at_checked(12)?;
        let (tag, rest) = tagged.split_at_checked(4)?;
        (matches!(tag, [0x81, 0, ..] | [0x88, 0xa8, ..]) && rest.len() >= 2).then(|| Self {
            frame: [addresses, rest].concat(),
            vid: u16::from_be_bytes([tag[2], tag[3]]) & 0xfff,
        })
    }
}

impl Frame for Beside {
    type View<const N: usize> = [u8; N];

    fn len(&self) -> u32 {
        Frame::len(&*self.frame)
    }

    fn beside(&self) -> Option<u16> {
        Some(self.vid)
    }

    fn view<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.frame.view(at)
    }
}

/// One policy, database and router.
struct Case {
    seed: u64,
    text: String,
    policy: Policy,
    sources: Sources,
    db: AsnDb,
    table: Table,
    router: Router,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let sources = generate::sources(&mut rng);
        let dir = tempfile::tempdir().unwrap();
        let write = |kind: &str, texts: &[String]| -> Vec<_> {
            let file = |(number, text)| {
                let path = dir.path().join(format!("{kind}-{number}.csv"));
                std::fs::write(&path, text).unwrap();
                path
            };
            texts.iter().enumerate().map(file).collect()
        };
        let files = (
            write("asn", &sources.asn),
            write("country", &sources.country),
        );
        let (db, _) = asn::import(&files.0, &files.1)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{sources:#?}"));
        let text = generate::policy(&mut rng);
        let (policy, found) = policy::parse(
            &Bundle::from_text("p.toml", &text),
            &Overlay::default(),
            &Context::now(Some(&db)),
        );
        let policy = policy.unwrap_or_else(|| panic!("seed {seed}: {:#?}\n{text}", found.errors));
        Self {
            seed,
            text,
            policy,
            table: Table::read(&sources.asn, &sources.country),
            sources,
            db,
            router: generate::router(&mut rng),
        }
    }

    fn frames(&self, count: usize) -> impl Iterator<Item = Vec<u8>> {
        let pool = Pool::new(&self.policy, &self.table, &self.router);
        let mut rng = Rng::with_seed(self.seed ^ 0x5eed);
        (0..count).map(move |_| generate::frame(&mut rng, &pool))
    }

    /// Adds what differs, each kind once, with everything that shows it again.
    fn check(&self, kernel: &mut Option<Kernel>, frames: usize, differences: &mut Differences) {
        let router = judge::Router {
            ports: vec![PortSpec {
                logical: self.router.interface.clone().unwrap_or_default(),
                drop_unknown: false,
            }],
            addresses: self.router.addresses.clone(),
            connected: judge::Router::connected_everywhere(&self.policy, &self.router.connected),
        };
        let mut judge = Judge::new(&self.policy, &self.db, &router, Engine::Reference)
            .unwrap_or_else(|error| panic!("seed {}: {error:#}\n{}", self.seed, self.text));
        if let Some(kernel) = kernel {
            kernel.install(judge.image());
        }
        let now = jiff::Timestamp::now();
        let interpreter = Interpreter::new(&self.policy, &self.table, &self.router, now);
        let mut work = Work::default();
        for (number, frame) in self.frames(frames).enumerate() {
            let expected = interpreter.row(&frame);
            let mut said = judge.row(&frame).map(|(row, _)| Row::from(&row));
            if let Some(beside) = Beside::of(&frame) {
                let whole = decide(&frame[..], 0, judge.image(), &mut work, &mut ());
                let apart = decide(&beside, 0, judge.image(), &mut work, &mut ());
                if whole != apart {
                    let words = format!("with the tag beside it {apart:?} instead of {whole:?}");
                    said = Err(anyhow::Error::msg(words));
                }
            }
            if let Some(kernel) = kernel
                && let Err(error) = kernel.agrees(judge.image(), &frame)
            {
                said = Err(error);
            }
            if said.as_ref().ok() != Some(&expected) {
                let kind = kind(&expected, &said);
                let entry = differences.entry(kind);
                entry
                    .or_insert_with(|| (0, self.report(number, &frame, &expected, &said)))
                    .0 += 1;
            }
        }
    }

    fn report(
        &self,
        number: usize,
        frame: &[u8],
        expected: &Row,
        said: &anyhow::Result<Row>,
    ) -> String {
        let mut hex = String::new();
        for byte in frame {
            write!(hex, "{byte:02x}").unwrap();
        }
        format!(
            "seed {}, frame {number}: {hex}\nreference: {expected:?}\nkordon:    {said:?}\n\
             {:?}\n--- policy\n{}\n--- ASN sources\n{}\n--- country lists\n{}",
            self.seed,
            self.router,
            self.text,
            self.sources.asn.join("---\n"),
            self.sources.country.join("---\n"),
        )
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is not a number")),
    )
}

fn fail_on(differences: &Differences) {
    if differences.is_empty() {
        return;
    }
    for (kind, (count, first)) in differences {
        println!("=== {kind} ({count} times)\n{first}\n");
    }
    for (kind, (count, _)) in differences {
        println!("{count:6} {kind}");
    }
    panic!("{} kinds of differences, see above", differences.len());
}

/// Cases from the first seed on: as many as were asked for, else some seconds long.
fn campaign(mut kernel: Option<Kernel>, frames: usize) {
    let first = number("KORDON_SEED").unwrap_or(1);
    let cases = number("KORDON_CASES");
    let start = Instant::now();
    let mut differences = Differences::new();
    let mut done = 0;
    while cases.map_or(start.elapsed() < Duration::from_secs(12), |cases| {
        done < cases
    }) {
        Case::new(first + done).check(&mut kernel, frames, &mut differences);
        done += 1;
    }
    println!("{done} cases of {frames} frames");
    fail_on(&differences);
}

#[test]
fn library_and_reference_agree() {
    campaign(None, 300);
}

/// It takes the kernel a while to change maps, so more is asked of each case.
#[test]
fn kernel_library_and_reference_agree() {
    campaign(Some(Kernel::default()), 2000);
}

/// The proof that comes before a policy is live refuses none that is right.
#[test]
fn every_policy_is_proven() {
    let first = number("KORDON_SEED").unwrap_or(1);
    let cases = number("KORDON_CASES");
    let start = Instant::now();
    let mut kernel = Kernel::default();
    let (mut done, mut packets) = (0, 0);
    while cases.map_or(start.elapsed() < Duration::from_secs(12), |cases| {
        done < cases
    }) {
        let case = Case::new(first + done);
        let mut rng = Rng::with_seed(first + done);
        let mut port = |logical: &str| PortSpec {
            logical: logical.into(),
            drop_unknown: rng.bool(),
        };
        let ports = vec![port("lan"), port(""), port("trunk")];
        let environment = Environment {
            router: case.router.addresses.clone(),
            connected: judge::Router::connected_everywhere(&case.policy, &case.router.connected),
            ports,
        };
        let mut directory = Directory::default();
        let image = Image::compile(&case.policy, &case.db, &environment, &mut directory)
            .unwrap_or_else(|error| panic!("seed {}: {error}\n{}", case.seed, case.text));
        kernel.install(&image);
        let claim = Claim {
            policy: &case.policy,
            db: &case.db,
            environment: &environment,
            directory: &directory,
            changed: &[],
        };
        let prober = kernel.prober.as_mut().expect("an image was installed");
        // With every table there is more of the same.
        let budget = if done % 8 == 0 {
            Budget::Table
        } else {
            Budget::Rules
        };
        match prove(&claim, budget, prober) {
            Ok(proof) => packets += proof.packets,
            Err(error) => panic!(
                "seed {}: {error}\n{environment:?}\n{}\n--- ASN sources\n{}\n--- country lists\n{}",
                case.seed,
                case.text,
                case.sources.asn.join("---\n"),
                case.sources.country.join("---\n"),
            ),
        }
        done += 1;
    }
    println!("{done} policies, {packets} packets");
}
