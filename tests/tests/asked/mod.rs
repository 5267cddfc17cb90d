//! What the program in the kernel is asked by tests that compare many addresses: a camera's
//! datagram with one tag, as long as its header says, so that it takes the fast path.

/// The frame, and where its destination is.
pub(crate) fn frame(v6: bool) -> (Vec<u8>, u32) {
    let mut frame = vec![2; 12];
    frame.extend([0x81, 0, 0, 20]);
    let at = if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
        frame.extend([0xfd, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        frame.len()
    } else {
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 20, 0, 9]);
        frame.len()
    };
    frame.resize(at + if v6 { 16 } else { 4 }, 0);
    frame.extend([0xc0, 0, 0, 9, 0, 8, 0, 0]);
    (frame, at as u32)
}

/// Addresses as they are written into it.
pub(crate) fn inputs(v6: bool, addresses: &[u128]) -> Vec<[u8; 16]> {
    addresses
        .iter()
        .map(|address| {
            if v6 {
                return address.to_be_bytes();
            }
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&(*address as u32).to_be_bytes());
            bytes
        })
        .collect()
}
