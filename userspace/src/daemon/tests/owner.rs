//! The thread that owns the core, held busy, asked too much and made to panic.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::{Duration, Instant},
};

use kordon_ebpf::layout::Action;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    sync::Notify,
    time::sleep,
};

use super::{House, POLICY, by};
use crate::{
    control::{
        peer::Peer,
        protocol::{Answer, Request},
        server::Call,
    },
    coverage::Seen,
    daemon::{
        core::{Core, delay},
        links::router::{Facts, Look},
        owner::{Owner, WAITING},
        refusal::Refusal,
        requests::{received::Received, turns::Turns, update},
        run::{commands, end, page},
    },
    datapath::publish::tests::{DATABASE, GOOD},
    policy::Bundle,
};

const HELD: Duration = Duration::from_secs(40);
const LONGEST: Duration = Duration::from_millis(100);

/// What a client gets who is not root.
async fn asked(owner: &Owner, turns: &Arc<Turns>, request: Request) -> serde_json::Value {
    match told(owner, turns, request).await {
        Answer::Ok(value) => value,
        other => panic!("{other:?}"),
    }
}

async fn told(owner: &Owner, turns: &Arc<Turns>, request: Request) -> Answer {
    let call = Call {
        request,
        peer: Peer {
            uid: 4_000_000_001,
            gid: 0,
            pid: None,
            name: "somebody".into(),
            login: None,
        },
        files: Vec::new(),
    };
    let done = Arc::new(Notify::new());
    commands::answer(owner.clone(), done, Arc::clone(turns), call).await
}

async fn scraped(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

#[test]
fn nobody_who_asks_waits_for_the_core() {
    let house = House::new();
    let metrics = house.folder().join("metrics.json");
    let (mut house, ()) = house.shared(|owner| {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(held(owner, metrics));
    });
    house.core.tick();
    assert_eq!(house.reasons(), Vec::<String>::new());
}

async fn held(owner: &Owner, metrics: std::path::PathBuf) {
    const PORT: u16 = 19_410;
    let page = page::serve(
        ([127, 0, 0, 1], PORT).into(),
        (10, 10),
        metrics,
        owner.clone(),
    );
    let page = tokio::spawn(page);
    sleep(Duration::from_millis(300)).await;
    owner.request("the tick", Core::tick).await.unwrap();
    let (begun, begins) = std_mpsc::channel();
    let keeper = owner.clone();
    let kept = tokio::spawn(async move {
        let work = move |_: &mut Core| {
            begun.send(()).unwrap();
            thread::sleep(HELD);
        };
        keeper.request("`apply` of root", work).await
    });
    while begins.try_recv().is_err() {
        sleep(Duration::from_millis(1)).await;
    }
    let turns = Arc::new(Turns::new());
    let start = Instant::now();
    let (mut took, mut said) = (Vec::new(), Vec::new());
    while start.elapsed() < HELD - Duration::from_secs(1) {
        // What the event loop has every second.
        tokio::spawn(owner.clone().tick());
        tokio::spawn(owner.clone().tend());
        let mut status = serde_json::Value::Null;
        let lookup = Request::Lookup {
            query: "AS64500".into(),
            limit: None,
        };
        for request in [lookup, Request::History, Request::Status] {
            let asking = Instant::now();
            status = asked(owner, &turns, request).await;
            took.push(asking.elapsed());
        }
        let asking = Instant::now();
        let page = scraped(PORT).await.unwrap();
        took.push(asking.elapsed());
        let old = (
            status["notices"]
                .to_string()
                .contains("`apply` of root has been under way"),
            status["enforcing"] == false,
        );
        assert_eq!(page.contains("kordon_enforcing 0"), old.1, "{status}");
        if said.last().is_none_or(|(_, last)| *last != old) {
            said.push((start.elapsed().as_secs(), old));
        }
        sleep(Duration::from_millis(200)).await;
    }
    let ending = Instant::now();
    assert_eq!(end(owner).await, None);
    let ending = ending.elapsed();
    took.sort_unstable();
    let (answers, longest) = (took.len(), took[took.len() - 1]);
    // Of other tests that run meanwhile one may be in the way.
    let most = took[answers * 99 / 100];
    println!(
        "{answers} answers, 99 of 100 in {most:?}, all in {longest:?}, end {ending:?}, {said:?}"
    );
    assert!(most < LONGEST && longest < LONGEST * 10 && ending < LONGEST * 2);
    // The age is that of the last tick, before this began.
    let [
        (_, (false, false)),
        (notice, (true, false)),
        (reason, (false, true)),
    ] = said[..]
    else {
        panic!("{said:?}");
    };
    assert!(notice <= 5 && (23..=27).contains(&(reason - notice)));
    // All that the event loop wanted meanwhile is one tick and one look.
    assert!(owner.jobs.capacity() >= WAITING - 4);
    kept.await.unwrap().unwrap();
    page.abort();
    let _ = page.await;
}

#[test]
fn a_panic_is_an_answer_and_a_reason() {
    let (house, ()) = House::new().shared(|owner| {
        let live = owner.view().generation;
        let reasons = |owner: &Owner| owner.view().reasons(None);
        for _ in 0..2 {
            let refusal = owner.ask("`apply` of root", |_| panic!("on purpose"));
            let refusal: Result<(), Refusal> = refusal;
            assert!(refusal.unwrap_err().message.contains("failed inside"));
            // The answer may come a moment before the new view.
            owner.ask("nothing", |_| ()).unwrap();
            assert!(
                reasons(owner)[0].contains("`apply` of root failed inside the daemon"),
                "{:?}",
                reasons(owner)
            );
            assert_eq!(owner.view().generation, live);
        }
        // The next tick proves what is live again.
        owner.ask("the tick", Core::tick).unwrap();
        assert_eq!(reasons(owner), Vec::<String>::new());
        assert!(owner.view().generation > live);
        owner
            .ask("a change", |core| {
                core.apply(Bundle::from_text("policy.toml", POLICY), None, &by())
                    .map(drop)
            })
            .unwrap()
            .unwrap();
    });
    assert_eq!(house.reasons(), Vec::<String>::new());
}

/// What is made of a database before the core has it takes as long as the whole Internet's does
/// on a slow machine: interfaces are looked after meanwhile.
#[test]
fn a_program_comes_back_while_a_table_is_made() {
    const MAKING: Duration = Duration::from_secs(12);
    let (house, ()) = House::new().shared(|owner| {
        owner.ask("the tick", Core::tick).unwrap();
        let folder = owner.view().config.state_dir.clone();
        let importing = owner.clone();
        // Wherever it is made.
        owner.ask("a delay", |_| delay::set(MAKING)).unwrap();
        let import = thread::spawn(move || {
            delay::set(MAKING);
            let file = folder.with_file_name("new.csv");
            fs::write(&file, DATABASE.replace("64501", "64500")).unwrap();
            let name = file.display().to_string();
            let files = vec![File::open(&file).unwrap()];
            let asn = [name];
            let files = Received::copy(&std::env::temp_dir(), &asn, &[], files).unwrap();
            update::import(&importing, &files, true, false, &by())
        });
        thread::sleep(Duration::from_secs(1));
        let generation = owner.view().generation;
        // Somebody takes the program off, by its link.
        owner
            .ask("a hand", |core| core.enforced.datapath.release("in"))
            .unwrap()
            .unwrap();
        let start = Instant::now();
        let mut back = None;
        while back.is_none() && start.elapsed() < MAKING * 2 {
            owner.ask("the tick", Core::tick).unwrap();
            let attached = owner.view().reader.attached("in").is_some();
            back = attached.then(|| start.elapsed());
        }
        let now = owner.view().generation;
        assert_eq!(now, generation, "the table was made already");
        let back = back.unwrap();
        println!("attached again after {back:?}, while a table was made for {MAKING:?}");
        import.join().unwrap().unwrap();
        assert!(owner.view().generation > generation);
    });
    assert_eq!(house.judges(GOOD), Action::Drop);
    assert_eq!(house.reasons(), Vec::<String>::new());
}

/// Commands and events of links, a thousand of each in a second: nothing piles up.
#[test]
fn a_thousand_commands_and_events_leave_no_trace() {
    let (house, ()) = House::new().shared(|owner| {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(crowd(owner));
    });
    assert_eq!(house.reasons(), Vec::<String>::new());
}

async fn crowd(owner: &Owner) {
    let field = |name: &str| -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.unwrap().parse().unwrap()
    };
    let turns = Arc::new(Turns::new());
    let (mut most, mut memory) = (Vec::new(), Vec::new());
    for second in 0..5_u8 {
        let start = Instant::now();
        let mut commands = Vec::new();
        for number in 0..1000_u16 {
            tokio::spawn(owner.clone().tend());
            let facts = Facts {
                links: BTreeMap::new(),
                addresses: vec![(u32::from(number), "192.0.2.1/24".parse().unwrap())],
            };
            let seen = Seen::default();
            tokio::spawn(owner.clone().network_seen(Look { facts, seen }));
            let (owner, turns) = (owner.clone(), Arc::clone(&turns));
            let request = match number % 3 {
                0 => Request::Status,
                1 => Request::History,
                _ => Request::Confirm,
            };
            commands.push(tokio::spawn(
                async move { told(&owner, &turns, request).await },
            ));
        }
        tokio::task::yield_now().await;
        most.push(field("Threads:"));
        for command in commands {
            command.await.unwrap();
        }
        owner.request("nothing", |_| ()).await.unwrap();
        memory.push(field("VmRSS:") >> 10);
        println!(
            "{second}: {:?} for 1000 commands and 2000 events",
            start.elapsed()
        );
    }
    println!("threads {most:?}, MiB {memory:?}");
    assert!(most.iter().all(|threads| *threads < 64), "{most:?}");
    assert!(memory[4] <= memory[1] + 16, "{memory:?}");
    assert!(owner.jobs.capacity() >= WAITING - 2);
}

/// Somebody works on the routes of live BGP: whoever asks hears that, and does not wait.
#[test]
fn nobody_who_asks_waits_for_routes() {
    let house = House::new();
    house.announce("203.0.113.10/32", 64500);
    let (house, ()) = house.shared(|owner| {
        // In place, so that nobody has put the database together yet.
        owner.ask("live BGP", |core| core.catch_up(true)).unwrap();
        let bgp = owner.view().bgp.clone().unwrap();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let turns = Arc::new(Turns::new());
            let lookup = || Request::Lookup {
                query: "203.0.113.10".into(),
                limit: None,
            };
            let before = asked(owner, &turns, Request::Status).await;
            let (begun, begins) = std_mpsc::channel();
            let (release, released) = std_mpsc::channel::<()>();
            let holder = thread::spawn(move || {
                let _feed = bgp.feed();
                begun.send(()).unwrap();
                let _ = released.recv();
            });
            begins.recv().unwrap();
            let start = Instant::now();
            let status = asked(owner, &turns, Request::Status).await;
            assert_eq!(status["bgp"], before["bgp"]);
            let answer = told(owner, &turns, lookup()).await;
            let took = start.elapsed();
            let Answer::Error(refusal) = answer else {
                panic!("{answer:?}")
            };
            assert!(refusal.message.contains("just now"), "{refusal}");
            println!("two answers in {took:?} while the routes are held");
            assert!(took < LONGEST * 5);
            drop(release);
            holder.join().unwrap();
            let found = asked(owner, &turns, lookup()).await;
            assert_eq!(found["live"]["origins"][0], 64500);
        });
    });
    assert_eq!(house.reasons(), Vec::<String>::new());
}
