//! Only in tests: makes the cutting of an address space take as long as on a slow machine with the
//! whole Internet's table, on the thread that says so.

use std::{cell::Cell, thread::sleep, time::Duration};

thread_local! {
    static DELAY: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// From now on.
pub(in crate::daemon) fn set(delay: Duration) {
    DELAY.set(delay);
}

pub(super) fn pass() {
    sleep(DELAY.get());
}
