//! A checksum in the last line of what is kept, so that a file that was cut, emptied or
//! changed by itself is told from one that is as it was written. It finds damage; it is
//! no protection against somebody who may write the file.
//!
//! JSON stays JSON (one value in each line), and TOML stays TOML.

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

/// How the last line looks.
#[derive(Clone, Copy, Debug)]
enum Form {
    Json,
    Toml,
}

impl Form {
    fn line(self, body: &[u8]) -> String {
        let sum = hex::encode(Sha256::digest(body));
        match self {
            Self::Json => format!("{{\"sha256\":\"{sum}\"}}\n"),
            Self::Toml => format!("# sha256 {sum}\n"),
        }
    }

    fn seal(self, mut body: Vec<u8>) -> Vec<u8> {
        if body.last().is_some_and(|byte| *byte != b'\n') {
            body.push(b'\n');
        }
        let line = self.line(&body);
        body.extend_from_slice(line.as_bytes());
        body
    }

    fn open(self, bytes: &[u8]) -> Result<&[u8], &'static str> {
        if bytes.is_empty() {
            return Err("it is empty");
        }
        let length = self.line(&[]).len();
        let whole = bytes.len().checked_sub(length);
        let (body, line) = whole.map_or((bytes, &[][..]), |at| bytes.split_at(at));
        if line != self.line(body).as_bytes() {
            return Err("it is not as it was written: its checksum is missing or wrong");
        }
        Ok(body)
    }
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    Ok(Form::Json.seal(serde_json::to_vec(value)?))
}

/// What [`json`] wrote.
pub(super) fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let body = Form::Json.open(bytes)?;
    serde_json::from_slice(body).map_err(|e| format!("it is of another version: {e}"))
}

/// A TOML text.
pub(super) fn toml(text: String) -> Vec<u8> {
    Form::Toml.seal(text.into_bytes())
}

/// What [`toml`] wrote.
pub(super) fn read_toml(bytes: &[u8]) -> Result<&str, String> {
    let body = Form::Toml.open(bytes)?;
    std::str::from_utf8(body).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_and_every_bit() {
        let whole = json(&["a", "b"]).unwrap();
        assert_eq!(read_json::<Vec<String>>(&whole).unwrap(), ["a", "b"]);
        let text = toml("# nothing\n".to_owned());
        assert_eq!(read_toml(&text).unwrap(), "# nothing\n");
        for length in 0..whole.len() {
            read_json::<Vec<String>>(&whole[..length]).unwrap_err();
        }
        for length in 0..text.len() {
            read_toml(&text[..length]).unwrap_err();
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            read_json::<Vec<String>>(&flipped).unwrap_err();
        }
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            read_toml(&flipped).unwrap_err();
        }
    }
}
