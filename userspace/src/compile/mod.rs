//! Policy and ASN database in, the image of a generation out.

pub mod amend;
pub mod directory;
pub mod generation;
pub mod partition;
pub mod plane;
pub mod table;
