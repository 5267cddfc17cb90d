//! The `kordon` binary.
fn main() {}
