//! Evidence that lasts: an append-only log of JSON lines that can be proven to somebody who does not trust the machine it is
//! on.
//!
//! The log is a folder. The records are plain text, one JSON object a line, to be read with `less` and `jq`. Beside
//! them are the hashes of a Merkle tree over the lines (RFC 6962, section 2.1), laid out as C2SP `tlog-tiles`, and a
//! signed statement of the tree's size and root (C2SP `tlog-checkpoint` and `signed-note`, Ed25519). Whoever keeps a
//! copy of such a checkpoint elsewhere can tell later whether a line from before it was changed, removed or inserted.
//!
//! - [`log`] writes: [`log::Log::append`] makes a record survive the death of the process, [`log::Log::checkpoint`]
//!   makes it survive the loss of power and signs it. `open` finds out where to go on, `tree` has the hashes,
//!   [`checkpoint`] signs, [`error`] says what went wrong.
//! - [`verify`] recomputes everything from the records (`walk`) and names what does not fit (`diff`, `accuse`), by file and line ([`finding`]).
//! - [`proof`] hands one record to somebody else with all that is needed to believe it.
//! - [`read`]: its records (`files`, and what the log itself looks at in a `record`); [`gaps`]: when nobody wrote.
//! - [`archive`]: what was in force, beside it.
//! - [`accounts`]: what of the ledger is in it already.
//!
//! What the log cannot do: whoever holds the key can write another log. It is only by checkpoints that others hold
//! that this is found. What was appended after the newest checkpoint is not signed yet.
//!
//! Architecture invariant: nothing here knows of policies, sockets or BPF. Only [`log`] writes in the folder; what verifies and
//! proves only reads and takes no lock, so that it works on a copy, on a read-only mount, and while the daemon writes.

pub mod accounts;
mod accuse;
pub mod archive;
pub mod checkpoint;
mod diff;
pub mod error;
pub(crate) mod files;
pub mod finding;
pub mod gaps;
pub mod log;
mod open;
pub mod proof;
pub mod read;
mod record;
mod tree;
pub mod verify;
mod walk;
