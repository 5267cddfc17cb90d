//! Reads the kernel's jiffies, the clock of the ledger's lines, by a program that is run and never attached: user space
//! has no call for them.

use aya::{
    Ebpf,
    programs::{TestRun as _, TestRunOptions},
};

use super::{
    DatapathError, chain,
    loader::Loader,
    programs::{self, CLOCK},
};

/// The shortest frame that the kernel runs a program with.
const FRAME: usize = 14;

/// Says what jiffies are.
pub(super) struct Clock(Ebpf);

impl Clock {
    /// Loads it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn load() -> Result<Self, DatapathError> {
        let what = "load the kernel's clock";
        let mut ebpf = Loader::of(programs::CLOCK_OBJECT)
            .load()
            .map_err(|e| DatapathError::new(what, chain(&e)))?;
        programs::load_one(&mut ebpf, CLOCK).map_err(|e| DatapathError::new(what, chain(&e)))?;
        Ok(Self(ebpf))
    }

    /// Jiffies now, all 64 bits.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn now(&mut self) -> Result<u64, DatapathError> {
        let mut frame = [0; FRAME];
        programs::program(&mut self.0, CLOCK)?
            .test_run(TestRunOptions {
                data_in: Some(&[0; FRAME]),
                data_out: Some(&mut frame),
                repeat: 1,
                ..TestRunOptions::default()
            })
            .map_err(|e| DatapathError::new("ask for the kernel's clock", e))?;
        match frame.first_chunk().map(|now| u64::from_ne_bytes(*now)) {
            Some(now) if now != 0 => Ok(now),
            _ => Err(DatapathError::new(
                "ask for the kernel's clock",
                "it says nothing",
            )),
        }
    }
}
