//! Live BGP over BMP (RFC 7854, Loc-RIB of RFC 9069): what the router's own BGP
//! daemon has in its tables, as it changes.
//!
//! [`message`] cuts a stream into messages and [`update`] reads the routes of one; both
//! take every byte as hostile. A [`rib`] keeps the routes of each peer (`routes`, with each
//! set of origins once, `sets`), [`overlay`]
//! decides when a change takes effect (what tightens at once, what loosens after the
//! hold time; [`stakes`] says which is which), [`layers`] keeps what the router accepted
//! apart from what it may have refused, [`combine`] lays the outcome over the imported
//! database, and [`feed`] ties them together behind one lock; [`found`] is what it tells,
//! `recent` who had what just before, `keep` what a restart has of it.
//!
//! The parser is not a general one: of each path only its origin is read, and routes
//! of sessions with several paths for a prefix (RFC 7911) have to be told apart. The
//! libraries that there are build all attributes, and take no notice of path
//! identifiers.
//!
//! Architecture invariant: nothing here knows of sockets, of BPF, or of what a policy
//! says beyond [`overlay::Stakes`].

mod combine;
pub mod feed;
pub mod found;
mod keep;
mod layers;
pub mod message;
pub mod overlay;
mod recent;
pub mod rib;
mod routes;
mod sets;
mod stakes;
#[cfg(test)]
pub(crate) mod tests;
pub mod update;
