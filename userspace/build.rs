//! Compiles the BPF programs that the binary carries.
fn main() {}
