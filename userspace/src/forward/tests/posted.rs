//! Checkpoints to a server by HTTPS, which may answer as it likes.

use std::{
    fs,
    io::{Read as _, Write as _},
    sync::{Arc, Mutex},
};

use super::{
    Inbox, Server,
    wires::{Authority, server_config},
};
use crate::forward::post::Post;

const CHECKPOINT: &str = "kordon/router\n7\nhash\n\n\u{2014} kordon/router signature\n";

/// Answers every request with `answer`, and keeps what was asked.
fn server(authority: &Authority, name: &str, answer: &'static str) -> (Server, Arc<Mutex<String>>) {
    let config = server_config(authority, name, None);
    let asked: Arc<Mutex<String>> = Arc::default();
    let into = Arc::clone(&asked);
    let server = Server::new("127.0.0.1:0", &Inbox::default(), move |stream, _, _| {
        let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, stream);
        let (mut request, mut block) = (Vec::new(), [0; 4096]);
        let is_whole = |request: &[u8]| request.ends_with("signature\n".as_bytes());
        while !is_whole(&request) {
            match stream.read(&mut block) {
                Ok(read @ 1..) => request.extend(&block[..read]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
        *into.lock().unwrap() = String::from_utf8(request).unwrap();
        let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    (server, asked)
}

#[test]
fn a_checkpoint_is_taken_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::new("one");
    fs::write(path("ca.pem"), authority.0.pem()).unwrap();
    fs::write(path("token"), "secret\n").unwrap();
    let post = |server: &Server| {
        let mut post = Post::new(&format!("https://{}/log?of=this", server.at)).unwrap();
        post.ca = Some(path("ca.pem"));
        post
    };
    for (answer, why) in [
        ("200 OK", None),
        ("204 No Content", None),
        ("202 Accepted", None),
        ("403 Forbidden", Some("answers 403 Forbidden")),
        ("500 Internal Server Error", Some("answers 500")),
        // It would be asked by GET, or of somebody else.
        ("302 Found\r\nLocation: /other", Some("answers 302")),
        ("nonsense", Some("https://127.0.0.1:")),
    ] {
        let (server, asked) = server(&authority, "127.0.0.1", answer);
        let mut post = post(&server);
        post.token_file = Some(path("token"));
        let sent = post.send(CHECKPOINT);
        match why {
            None => assert_eq!(sent, Ok(()), "{answer}"),
            Some(why) => {
                let said = sent.unwrap_err();
                assert!(said.contains(why) && !said.contains("secret"), "{said}");
            }
        }
        let asked = asked.lock().unwrap();
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /log?of=this HTTP/1.1\r\n"), "{head}");
        assert!(
            head.to_lowercase().contains("authorization: bearer secret"),
            "{head}"
        );
        assert_eq!(body, CHECKPOINT);
    }
    let (one, _) = server(&authority, "127.0.0.1", "200 OK");
    let mut bad = post(&one);
    bad.ca = Some(path("token"));
    assert!(bad.send(CHECKPOINT).unwrap_err().contains("no certificate"));
    let mut bad = post(&one);
    bad.token_file = Some(path("absent"));
    assert!(bad.send(CHECKPOINT).unwrap_err().contains("absent"));
    for (other, name, why) in [
        (Authority::new("other"), "127.0.0.1", "signed by nobody"),
        (authority, "127.0.0.2", "for another name"),
    ] {
        let (server, asked) = server(&other, name, "200 OK");
        let said = post(&server).send(CHECKPOINT).unwrap_err();
        assert!(said.contains(why), "{said}");
        assert_eq!(*asked.lock().unwrap(), "");
    }
}
