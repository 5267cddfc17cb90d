//! Two ends of a socket: what is answered, and what silent, slow and greedy clients cost.

use std::{
    io::{BufRead as _, BufReader as StdReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::Instant,
};

use tokio::task::spawn_blocking;

use super::{guest::request, *};
use crate::control::{
    OTHER_VERSION,
    client::{ClientError, ask, ask_with},
    protocol::{Change, MAX_QUESTION},
    refusal::Refusal,
};

/// A group that is on every machine.
const GROUP: &str = "daemon";
/// Longer than a socket's buffers.
const LONG: usize = 16 << 20;

#[test]
fn versions_are_checked_before_requests() {
    let answer = request(br#"{"version":99,"request":{"do":"dance"}}"#).unwrap_err();
    let Answer::Error(Refusal { message, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert!(message.starts_with(OTHER_VERSION), "{message}");
    assert!(request(br#"{"version":2,"request":{"do":"dance"}}"#).is_err());
    assert!(request(b"\xff").is_err());
    assert!(request(b"{}").is_err());
    let good = request(br#"{"version":2,"request":{"do":"status"}}"#).unwrap();
    assert_eq!(good.request, Request::Status);
}

fn serve(test: impl FnOnce(&Path) + Send + 'static) {
    serve_within(TIMES, test);
}

/// What the handler of these tests says.
async fn say(mut call: Call) -> Answer {
    match call.request {
        Request::Status => Answer::Ok(serde_json::json!({"enforcing": true})),
        Request::History => Answer::Ok("x".repeat(LONG).into()),
        Request::AsndbImport { .. } => {
            let mut all = String::new();
            for file in &mut call.files {
                file.read_to_string(&mut all).unwrap();
            }
            Answer::Ok(all.into())
        }
        _ => error("no", Some("ask something else")),
    }
}

fn serve_within(times: Times, test: impl FnOnce(&Path) + Send + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    // What a killed daemon leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::bind(&path, "no-such-group", GROUP).unwrap();
        let second = Server::bind(&path, "no-such-group", "no-such-group").unwrap_err();
        assert!(matches!(second, ServerError::Taken(_)), "{second}");
        let client = path.clone();
        let client = spawn_blocking(move || test(&client));
        tokio::select! {
            () = server.serve_within(times, Arc::new(|call| Box::pin(say(call)))) => {}
            result = client => result.unwrap(),
        }
    });
    assert!(!path.exists() && !read_socket(&path).exists());
}

#[test]
fn what_is_in_the_way_of_the_second_socket_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let read = read_socket(&path);
    std::fs::create_dir(&read).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::bind(&path, "no-such-group", GROUP).unwrap();
        let client = spawn_blocking(move || {
            assert_eq!(ask(&path, &Request::Status).unwrap()["enforcing"], true);
            assert!(ask(&read, &Request::Status).is_err());
            std::fs::remove_dir(&read).unwrap();
            let start = Instant::now();
            while ask(&read, &Request::Status).is_err() {
                assert!(start.elapsed() < AGAIN * 5, "nobody listens there");
                thread::sleep(Duration::from_millis(50));
            }
        });
        tokio::select! {
            () = server.serve_within(TIMES, Arc::new(|call| Box::pin(say(call)))) => {}
            result = client => result.unwrap(),
        }
    });
}

#[test]
fn questions_are_answered() {
    serve(|path| {
        assert_eq!(ask(path, &Request::Status).unwrap()["enforcing"], true);
        let refused = ask(path, &Request::Confirm).unwrap_err();
        assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    });
}

#[test]
fn nonsense_is_answered_and_the_connection_goes_on() {
    serve(|path| {
        let mut stream = UnixStream::connect(path).unwrap();
        let mut read = StdReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        for question in ["nonsense\n", "{\"version\":3}\n"] {
            stream.write_all(question.as_bytes()).unwrap();
            line.clear();
            read.read_line(&mut line).unwrap();
            assert!(line.starts_with("{\"error\""), "{line}");
        }
        let question = b"{\"version\":2,\"request\":{\"do\":\"status\"}}\n";
        stream.write_all(question).unwrap();
        line.clear();
        read.read_line(&mut line).unwrap();
        assert_eq!(line, "{\"ok\":{\"enforcing\":true}}\n");
        stream.write_all(b"half").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        line.clear();
        read.read_to_string(&mut line).unwrap();
        assert!(line.contains("ends in the middle"), "{line}");
    });
}

#[test]
fn nobody_there() {
    let folder = tempfile::tempdir().unwrap();
    let error = ask(&folder.path().join("s"), &Request::Status).unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
    assert!(error.to_string().contains("systemctl start"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { Server::bind(&file, "g", "g").unwrap_err() });
    assert!(matches!(error, ServerError::NoSocket(_)), "{error}");
    // Something in place of the other socket keeps nobody from changing things.
    let path = folder.path().join("s.sock");
    std::fs::create_dir(read_socket(&path)).unwrap();
    let server = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { Server::bind(&path, "no-such-group", GROUP).unwrap() });
    assert!(server.read.is_none() && path.exists());
}

const QUICK: Times = Times {
    client: Duration::from_millis(400),
    groups: Duration::from_secs(5),
};

/// Waits for the end, and returns what came before it and how long it took.
fn rest(stream: &mut UnixStream) -> (usize, Duration) {
    let start = Instant::now();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("not cut off: {e}"),
    }
    (all.len(), start.elapsed())
}

fn status_at_once(path: &Path) {
    let start = Instant::now();
    assert_eq!(ask(path, &Request::Status).unwrap()["enforcing"], true);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// Ten of them made `status` wait for thirty seconds.
#[test]
fn silent_clients_delay_nobody() {
    serve(|path| {
        let mut silent: Vec<_> = (0..300)
            .map(|_| UnixStream::connect(path).unwrap())
            .collect();
        status_at_once(path);
        // There is room for so many; the oldest made way.
        assert_eq!(rest(&mut silent[0]).0, 0);
        let last = silent.last_mut().unwrap();
        let question = b"{\"version\":2,\"request\":{\"do\":\"status\"}}\n";
        last.write_all(question).unwrap();
        let mut line = String::new();
        StdReader::new(last).read_line(&mut line).unwrap();
        assert_eq!(line, "{\"ok\":{\"enforcing\":true}}\n");
    });
}

#[test]
fn silent_and_slow_clients_are_cut_off() {
    serve_within(QUICK, |path| {
        let mut silent = UnixStream::connect(path).unwrap();
        let mut slow = UnixStream::connect(path).unwrap();
        let mut sender = slow.try_clone().unwrap();
        let dribble = thread::spawn(move || {
            let mut sent = 0;
            // Never the end of a line.
            while sender.write_all(b" ").is_ok() {
                sent += 1;
                assert!(sent < 400, "it goes on and on");
                thread::sleep(Duration::from_millis(50));
            }
        });
        for stream in [&mut silent, &mut slow] {
            let (bytes, took) = rest(stream);
            assert_eq!(bytes, 0);
            assert!(took < Duration::from_secs(10), "{took:?}");
        }
        dribble.join().unwrap();
    });
}

#[test]
fn who_never_reads_the_answer_is_cut_off() {
    serve_within(QUICK, |path| {
        let mut stuck: Vec<_> = (0..20)
            .map(|_| UnixStream::connect(path).unwrap())
            .collect();
        for stream in &mut stuck {
            let question = b"{\"version\":2,\"request\":{\"do\":\"history\"}}\n";
            stream.write_all(question).unwrap();
        }
        status_at_once(path);
        thread::sleep(QUICK.client * 4);
        for stream in &mut stuck {
            let (bytes, _) = rest(stream);
            assert!(bytes < LONG, "{bytes}");
        }
        // Who reads gets all of it.
        let all = ask(path, &Request::History).unwrap();
        assert_eq!(all.as_str().map(str::len), Some(LONG));
    });
}

#[test]
fn who_may_ask_changes_nothing() {
    serve(|path| {
        let read = read_socket(path);
        let file = std::fs::metadata(&read).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o660);
        let group = Group::from_name(GROUP).unwrap().unwrap();
        assert_eq!(
            std::os::unix::fs::MetadataExt::gid(&file),
            group.gid.as_raw()
        );
        assert_eq!(ask(&read, &Request::Status).unwrap()["enforcing"], true);
        let change = Change {
            target: "AS1".into(),
            zone: "z".into(),
            for_seconds: None,
            note: None,
            yes: false,
        };
        for (request, command) in [
            (Request::Block(change), "block"),
            (Request::Confirm, "confirm"),
            (Request::Detach { bpffs: None }, "detach"),
        ] {
            let refused = ask(&read, &request).unwrap_err().to_string();
            let expected = format!(
                "members of the group `daemon` may ask, and `{command}` is more than a question"
            );
            assert_eq!(refused, expected);
        }
        let long = Request::Lookup {
            query: "x".repeat(MAX_QUESTION),
            limit: None,
        };
        let refused = ask(&read, &long).unwrap_err().to_string();
        assert!(refused.contains("longer than 65536 bytes"), "{refused}");
        let refused = ask(path, &long).unwrap_err().to_string();
        assert_eq!(refused, "no");
    });
}

#[test]
fn files_come_as_the_client_opened_them() {
    serve(|path| {
        let folder = tempfile::tempdir().unwrap();
        let open = |text: &str| {
            let path = folder.path().join(text);
            std::fs::write(&path, text).unwrap();
            File::open(path).unwrap()
        };
        let import = |names: usize| Request::AsndbImport {
            // Longer than what goes at once.
            asn: vec!["x".repeat(1 << 20); names],
            countries: Vec::new(),
            accept: false,
            unsigned: false,
        };
        let files = [open("one "), open("two")];
        let all = ask_with(path, &import(2), &files).unwrap();
        assert_eq!(all, "one two");
        let many: Vec<_> = (0..17).map(|n| open(&n.to_string())).collect();
        let refused = ask_with(path, &import(1), &many).unwrap_err().to_string();
        assert!(refused.contains("17 files are more than 16"), "{refused}");
    });
}
