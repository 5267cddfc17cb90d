//! The policy language.
pub mod model;
