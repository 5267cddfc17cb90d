//! One record for somebody who has nothing but the log's public key.
//!
//! The text is a C2SP `tlog-proof`: the index, the hashes of an inclusion proof (RFC 6962, section 2.1.1) and the signed
//! checkpoint. The record itself is its `extra` line, so one file is enough. C2SP gives `extra` no meaning and does not
//! protect it; here it is hashed, and the hash is what is proven, so it cannot be exchanged either.

use std::{io, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use tlog_tiles::{Hash, check_record, prove_record, record_hash};

use super::{
    checkpoint::{Fault, Key, NEWEST, Signed},
    files,
    tree::Tiles,
};

const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// How often a proof is begun again because the writer has replaced the tiles meanwhile.
const TRIES: usize = 5;

/// Why a record could not be proven, or a proof not be believed.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A file could not be read.
    #[error("cannot read `{0}`: {1}")]
    Io(String, io::Error),
    /// The newest checkpoint does not cover the record (yet).
    #[error("record {index} is not signed: the checkpoint is for {size} records")]
    Unsigned {
        /// The record asked for.
        index: u64,
        /// Records that are signed.
        size: u64,
    },
    /// The record is not in the files any more.
    #[error("record {0} is not in the log's files")]
    Missing(u64),
    /// The checkpoint is not one of the key.
    #[error("the checkpoint {0}")]
    Checkpoint(#[from] Fault),
    /// The hashes do not lead from the record to the root that was signed.
    #[error("record {index} is not the one that was signed: {why}")]
    False {
        /// The record.
        index: u64,
        /// What the check said.
        why: tlog_tiles::Error,
    },
    /// The text is no proof, or the key no key.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// Place of the record in the log.
    pub index: u64,
    /// The record, without `\n`.
    pub record: Vec<u8>,
    /// The checkpoint that covers it.
    pub checkpoint: Signed,
}

/// Makes the proof of a record, as a text. It has passed its own check, save for the signature, when it is returned.
///
/// # Errors
///
/// Any [`ProofError`]; [`ProofError::False`] says that the log has been tampered with: see [`super::verify`].
pub fn prove(folder: &Path, index: u64) -> Result<String, ProofError> {
    let mut result = attempt(folder, index);
    for _ in 1..TRIES {
        // A checkpoint replaces the tiles of the one before.
        if !matches!(result, Err(ProofError::False { .. })) {
            break;
        }
        result = attempt(folder, index);
    }
    result
}

fn attempt(folder: &Path, index: u64) -> Result<String, ProofError> {
    let text = files::read_text(&folder.join(NEWEST))
        .map_err(|error| ProofError::Io(NEWEST.to_owned(), error))?
        .ok_or(ProofError::Malformed("there is no `checkpoint`"))?;
    let signed = Signed::parse(&text)?;
    let size = signed.size;
    if index >= size {
        return Err(ProofError::Unsigned { index, size });
    }
    let record = record(folder, index)?;
    let wrong = |why| ProofError::False { index, why };
    let hashes = prove_record(size, index, &Tiles { folder, size }).map_err(wrong)?;
    check_record(&hashes, size, signed.root, index, record_hash(&record)).map_err(wrong)?;

    let mut proof = format!(
        "{MAGIC}\nextra {}\nindex {index}\n",
        BASE64_STANDARD.encode(record)
    );
    for hash in hashes {
        proof.push_str(&BASE64_STANDARD.encode(hash.0));
        proof.push('\n');
    }
    proof.push('\n');
    proof.push_str(&text);
    Ok(proof)
}

/// Reads one record. It is looked for in the one file that can have it.
fn record(folder: &Path, index: u64) -> Result<Vec<u8>, ProofError> {
    let failed = |error| ProofError::Io(folder.display().to_string(), error);
    let (firsts, _) = files::list(folder).map_err(failed)?;
    let first = firsts
        .into_iter()
        .rfind(|first| *first <= index)
        .ok_or(ProofError::Missing(index))?;
    let (mut at, mut found) = (first, None);
    let mut look = |line: &[u8], whole: bool| -> io::Result<()> {
        if at == index && whole {
            found = Some(line.to_owned());
        }
        at += 1;
        Ok(())
    };
    files::lines(&folder.join(files::name(first)), &mut look).map_err(failed)?;
    found.ok_or(ProofError::Missing(index))
}

/// Checks a proof with nothing but the log's public key (the text of `key.pub`).
///
/// # Errors
///
/// [`ProofError::Malformed`], [`ProofError::Checkpoint`], [`ProofError::Unsigned`] and [`ProofError::False`].
pub fn check(proof: &str, key: &str) -> Result<Checked, ProofError> {
    let key = Key::parse(key).map_err(|_| ProofError::Malformed("the key is no verifier key"))?;
    let broken = ProofError::Malformed;
    let (head, checkpoint) = proof.split_once("\n\n").ok_or(broken("no empty line"))?;
    let mut lines = head.lines();
    if lines.next() != Some(MAGIC) {
        return Err(broken("the first line is not `c2sp.org/tlog-proof@v1`"));
    }
    let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
    let record = extra
        .and_then(|text| BASE64_STANDARD.decode(text).ok())
        .ok_or(broken("no record in its `extra` line"))?;
    let index = lines.next().and_then(|line| line.strip_prefix("index "));
    let index: u64 = index
        .and_then(|text| text.parse().ok())
        .ok_or(broken("no `index` line"))?;
    let hashes = lines
        .map(|line| Hash::parse_hash(line).map_err(|_| broken("a line is no hash")))
        .collect::<Result<Vec<_>, _>>()?;

    let checkpoint = Signed::parse(checkpoint)?;
    checkpoint.check(&key)?;
    let size = checkpoint.size;
    if index >= size {
        return Err(ProofError::Unsigned { index, size });
    }
    check_record(&hashes, size, checkpoint.root, index, record_hash(&record))
        .map_err(|why| ProofError::False { index, why })?;
    Ok(Checked {
        index,
        record,
        checkpoint,
    })
}
