//! How one source is asked for: what a server and a proxy get to see, when it is asked
//! again, and when not.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Result;
use kordon::asn::fetch::{
    FetchError, Fetched, Fetching, Header, Progress, Remote, Validators, fetch,
};
use kordon_tests::{
    lab::Namespace,
    server::{Mood, Server},
};

struct Lab {
    namespace: Namespace,
    folder: tempfile::TempDir,
    options: Fetching,
    progress: Progress,
}

impl Lab {
    fn new(name: &str) -> Result<Self> {
        let namespace = Namespace::create(&format!("kordon-{}-{name}", std::process::id()))?;
        namespace.ip("link set lo up")?;
        Ok(Self {
            namespace,
            folder: tempfile::tempdir()?,
            options: Fetching {
                retries: 0,
                timeout: Duration::from_secs(1),
                ..Fetching::default()
            },
            progress: Progress::default(),
        })
    }

    fn get(&self, url: &str, known: Option<&Validators>) -> Result<Fetched, FetchError> {
        let remote = Remote {
            url: url.parse().unwrap(),
            checksum: None,
            every: Duration::from_secs(1),
            user_agent: None,
            headers: Vec::new(),
        };
        let folder = self.folder.path();
        self.namespace
            .run(|| Ok(fetch(&remote, known, folder, &self.options, &self.progress)))
            .unwrap()
    }
}

fn new(fetched: Result<Fetched, FetchError>) -> (Vec<u8>, Validators) {
    match fetched {
        Ok(Fetched::New(file, known)) => (std::fs::read(file.path()).unwrap(), known),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_is_down_for_a_moment_is_asked_again() -> Result<()> {
    let mut lab = Lab::new("again")?;
    lab.options.retries = 2;
    let bad_days = [Mood::Status(503), Mood::Closed];
    let then = |last: Mood| Mood::Then([&bad_days[..], &[last]].concat());
    let server = Server::start(&lab.namespace, then(Mood::Serve(b"good".to_vec())))?;
    let start = Instant::now();
    assert_eq!(new(lab.get(&server.url("a"), None)).0, b"good");
    // A second and two, each half as long at least and half as much longer at most.
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1500), "{took:?}");
    assert_eq!(server.requests().len(), 3);
    let transfers = lab.progress.transfers();
    assert_eq!(transfers.len(), 1);
    assert!(transfers[0].done && transfers[0].received == 4 && transfers[0].total == Some(4));

    // Once too often.
    server.set(then(Mood::Status(500)));
    let error = lab.get(&server.url("a"), None).unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert_eq!(server.requests().len(), 3);
    // What will not get better is not asked for again.
    server.set(Mood::Status(404));
    lab.get(&server.url("a"), None).unwrap_err();
    assert_eq!(server.requests().len(), 1);
    Ok(())
}

#[test]
fn what_a_server_has_to_know() -> Result<()> {
    const DATE: &str = "Tue, 10 Nov 2026 08:00:00 GMT";
    let lab = Lab::new("known")?;
    let server = Server::start(&lab.namespace, Mood::Dated(b"good".to_vec(), DATE))?;
    let (_, known) = new(lab.get(&server.url("a"), None));
    assert_eq!(known.last_modified.as_deref(), Some(DATE));
    assert!(matches!(
        lab.get(&server.url("a"), Some(&known)),
        Ok(Fetched::Unchanged)
    ));
    let heads = server.requests();
    assert!(!heads[0].to_lowercase().contains("if-modified-since"));
    let asked = format!("if-modified-since: {DATE}").to_lowercase();
    assert!(heads[1].to_lowercase().contains(&asked), "{heads:?}");
    let agent = format!("user-agent: kordon/{}", env!("CARGO_PKG_VERSION"));
    for head in &heads {
        assert!(head.to_lowercase().contains(&agent), "{head}");
    }
    // A server that forgets whom it is talking to is no reason to have nothing.
    server.set(Mood::Status(304));
    let error = lab.get(&server.url("a"), None).unwrap_err();
    assert!(error.to_string().contains("304"), "{error}");
    Ok(())
}

#[test]
fn through_a_proxy() -> Result<()> {
    let mut lab = Lab::new("proxy")?;
    let proxy = Server::start(&lab.namespace, Mood::Serve(b"good".to_vec()))?;
    let address = proxy.url("").trim_end_matches('/').to_owned();
    lab.options.proxy = Some(address.replace("http://", "http://me:secret@"));
    // There is no such host, and nobody but the proxy is asked.
    let url = "http://sources.invalid/asn.csv?license=key";
    assert_eq!(new(lab.get(url, None)).0, b"good");
    let heads = proxy.requests();
    let [head] = heads.as_slice() else {
        panic!("{heads:?}");
    };
    // As curl does it: many proxies allow CONNECT to port 443 alone.
    assert!(
        head.starts_with(&format!("GET {url} HTTP/1.1\r\n")),
        "{head}"
    );
    let small = head.to_lowercase();
    assert!(small.contains("\r\nhost: sources.invalid\r\n"), "{head}");
    // `me:secret`.
    assert!(
        head.to_lowercase()
            .contains("\r\nproxy-authorization: basic bwu6c2vjcmv0\r\n"),
        "{head}"
    );
    // Where that leads, the proxy is asked too; what is secure goes through a tunnel, which
    // this one does not speak.
    proxy.set(Mood::Then(vec![
        Mood::Leads("http://other.invalid:8080/b.csv".to_owned()),
        Mood::Serve(b"more".to_vec()),
    ]));
    assert_eq!(new(lab.get(url, None)).0, b"more");
    let heads = proxy.requests();
    assert!(
        heads[1].starts_with("GET http://other.invalid:8080/b.csv HTTP/1.1\r\n"),
        "{heads:?}"
    );
    lab.get("https://sources.invalid/asn.csv", None)
        .unwrap_err();
    assert!(proxy.requests()[0].starts_with("CONNECT sources.invalid:443 HTTP/1.1\r\n"));
    lab.options.proxy = Some("http://127.0.0.1:1".to_owned());
    let error = lab.get(url, None).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("refused"), "{error}");
    assert!(!error.contains("key"), "{error}");
    Ok(())
}

#[test]
fn servers_that_never_come_to_an_end() -> Result<()> {
    let mut lab = Lab::new("slow")?;
    lab.options.max_bytes = 1 << 20;
    let server = Server::start(&lab.namespace, Mood::Silent)?;
    for (mood, words) in [
        (Mood::Silent, "timeout"),
        (Mood::Drip, "too slowly"),
        // Six KiB a second, and so 24 days for two GiB.
        (Mood::Trickle(600), "too slowly"),
        (Mood::Endless, "larger than 1 MiB"),
    ] {
        server.set(mood);
        let start = Instant::now();
        let error = lab.get(&server.url("a"), None).unwrap_err().to_string();
        assert!(error.contains(words), "no {words:?} in {error}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(6), "{words}: {took:?}");
    }
    // Fast enough, and never done.
    lab.options.max_time = Duration::from_secs(3);
    server.set(Mood::Trickle(4 << 10));
    let error = lab.get(&server.url("a"), None).unwrap_err().to_string();
    assert!(error.contains("took too long"), "{error}");
    assert_eq!(std::fs::read_dir(lab.folder.path())?.count(), 0);
    Ok(())
}

#[test]
fn servers_are_asked_when_they_want_it() -> Result<()> {
    let mut lab = Lab::new("later")?;
    lab.options.retries = 2;
    let good = Mood::Serve(b"good".to_vec());
    let server = Server::start(
        &lab.namespace,
        Mood::Then(vec![Mood::Busy("3"), good.clone()]),
    )?;
    let start = Instant::now();
    assert_eq!(new(lab.get(&server.url("a"), None)).0, b"good");
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(3), "{took:?}");
    // For so long nobody waits here: it is said, and left to the clock.
    server.requests();
    server.set(Mood::Then(vec![Mood::Busy("7200"), good]));
    let start = Instant::now();
    let error = lab.get(&server.url("a"), None).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(error.wait(), Some(Duration::from_secs(7200)));
    assert!(error.to_string().contains("429"), "{error}");
    assert_eq!(server.requests().len(), 1);
    Ok(())
}

#[test]
fn what_one_server_is_told_is_not_told_to_another() -> Result<()> {
    let lab = Lab::new("headers")?;
    let good = Mood::Serve(b"good".to_vec());
    let other = Server::start(&lab.namespace, good.clone())?;
    let server = Server::start(
        &lab.namespace,
        Mood::Then(vec![
            Mood::Leads("/here".to_owned()),
            Mood::Leads(other.url("there")),
        ]),
    )?;
    let remote = Remote {
        url: server.url("a").parse()?,
        checksum: None,
        every: Duration::from_secs(1),
        user_agent: Some("us".to_owned()),
        headers: vec![Header {
            name: "Authorization".to_owned(),
            value: "Bearer secret".to_owned(),
        }],
    };
    let folder = lab.folder.path();
    let fetched = lab
        .namespace
        .run(|| Ok(fetch(&remote, None, folder, &lab.options, &lab.progress)))?;
    assert_eq!(new(fetched).0, b"good");
    let heads = server.requests();
    assert!(heads[1].starts_with("GET /here "), "{heads:?}");
    for head in &heads {
        let head = head.to_lowercase();
        assert!(head.contains("authorization: bearer secret"), "{head}");
        assert!(head.contains("user-agent: us\r\n"), "{head}");
    }
    let head = other.requests().remove(0).to_lowercase();
    assert!(
        !head.contains("secret") && head.contains("user-agent: us"),
        "{head}"
    );
    Ok(())
}

/// A web server that speaks TLS; it ends when this is dropped.
struct Secure(Child);

impl Secure {
    fn start(lab: &Lab, port: u16) -> Result<Self> {
        let folder = lab.folder.path();
        for more in [
            "-subj /CN=authority -keyout ca.key -out ca.pem",
            "-subj /CN=server -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE",
        ] {
            let mut request = Command::new("openssl");
            request.current_dir(folder);
            request.args("req -x509 -newkey rsa:2048 -nodes -days 2".split(' '));
            request.args(more.split_whitespace());
            let made = request.stderr(Stdio::null()).status()?;
            assert!(made.success(), "no certificate");
        }
        // The answer as it goes out.
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
        std::fs::write(folder.join("asn.csv"), answer)?;
        let mut server = Command::new("openssl");
        server.current_dir(folder);
        server.args("s_server -quiet -HTTP -key key.pem -cert cert.pem -accept".split(' '));
        server.arg(format!("127.0.0.1:{port}"));
        server
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(lab.namespace.spawn(&mut server)?))
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn servers_are_who_they_say() -> Result<()> {
    if !Path::new("/usr/bin/openssl").exists() {
        println!("SKIPPED: openssl is not installed: `cargo xtask setup` brings it");
        return Ok(());
    }
    let mut lab = Lab::new("tls")?;
    let _server = Secure::start(&lab, 8443)?;
    let url = "https://127.0.0.1:8443/asn.csv";
    // It may not listen yet.
    let end = Instant::now() + Duration::from_secs(10);
    let mut refusal = lab.get(url, None).unwrap_err();
    while refusal.to_string().to_lowercase().contains("refused") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        refusal = lab.get(url, None).unwrap_err();
    }
    assert!(refusal.to_string().contains("is not trusted"), "{refusal}");
    assert!(refusal.help().contains("`ca`"), "{}", refusal.help());
    lab.options.ca = Some(lab.folder.path().join("ca.pem"));
    lab.options.timeout = Duration::from_secs(5);
    assert_eq!(new(lab.get(url, None)).0, b"good");
    // What was asked for in confidence is not fetched from anybody.
    let plain = Server::start(&lab.namespace, Mood::Serve(b"forged".to_vec()))?;
    let leads = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        plain.url("asn.csv")
    );
    std::fs::write(lab.folder.path().join("leads"), leads)?;
    let error = lab.get("https://127.0.0.1:8443/leads", None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a redirect leads from `https` to `http://"),
        "{error}"
    );
    assert!(plain.requests().is_empty());
    Ok(())
}
