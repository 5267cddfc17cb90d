//! The daemon and its metrics.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use crate::{
    control::{
        client::{self, ClientError},
        protocol::Request,
    },
    doctor::facts::{Daemon, Known, Sample},
};

/// A page of metrics takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon answers to `status`.
pub(super) fn status(socket: &Path) -> Daemon {
    match client::ask(socket, &Request::Status) {
        Ok(status) => Daemon::Answers(Box::new(status)),
        Err(ClientError::NoDaemon { source, .. }) => {
            Daemon::Silent(format!("`{}`: {source}", socket.display()))
        }
        Err(e) => Daemon::Unknown(e.to_string()),
    }
}

/// Its metrics, where it serves them.
pub(super) fn metrics(daemon: &Daemon, listen: Option<SocketAddr>) -> Known<Vec<Sample>> {
    if daemon.status().is_none() {
        return Err("no daemon answers, and only it counts".to_owned());
    }
    let listen = listen.ok_or("metrics are off (`listen = \"off\"`)")?;
    let fail = |e: std::io::Error| format!("metrics at {listen} cannot be read: {e}");
    let mut stream = TcpStream::connect_timeout(&listen, PATIENCE).map_err(fail)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {listen}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map_err(fail)?;
    Ok(page.lines().filter_map(sample).collect())
}

/// A line such as `name{label="value"} 3`. Labels of kordon have no quotes in them but escaped.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
    let mut rest = labels.strip_suffix('}')?;
    let mut labels = BTreeMap::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let (mut text, mut end) = (String::new(), None);
        let mut chars = after.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = Some(at);
                    break;
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        labels.insert(label.to_owned(), text);
        rest = after.get(end? + 1..)?.trim_start_matches(',');
    }
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_as_they_are_written() {
        let read = sample(r#"a_total{zone="x,y",rule="say \"no\"="} 3"#).unwrap();
        assert_eq!((read.name.as_str(), read.value), ("a_total", 3.0));
        assert_eq!(read.labels["zone"], "x,y");
        assert_eq!(read.labels["rule"], "say \"no\"=");
        assert_eq!(sample("kordon_enforcing 1").unwrap().labels.len(), 0);
        for line in ["# HELP a b", "", "HTTP/1.1 200 OK", "a{b=\"c} 1", "a{b 1"] {
            assert_eq!(sample(line), None, "{line}");
        }
    }
}
