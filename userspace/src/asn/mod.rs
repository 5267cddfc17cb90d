//! The ASN database: which networks announce an address.
pub mod model;
