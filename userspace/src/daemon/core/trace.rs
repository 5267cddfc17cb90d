//! What the programs in the kernel log, for `kordon run --debug-log`: one line for
//! every packet of a zone. They log into a ring; what does not fit until the next
//! look is lost, which is right for looking on and wrong for evidence.

use std::collections::HashMap;

use aya_log::EbpfLogger;

/// Readers of the programs' rings, by program id.
#[derive(Default)]
pub(crate) struct Traces(HashMap<u32, Box<dyn FnMut() + Send>>);

impl Traces {
    /// Passes on what was logged since the last call.
    pub(crate) fn tend(&mut self, programs: &[u32]) {
        self.0.retain(|id, _| programs.contains(id));
        for id in programs {
            if !self.0.contains_key(id) {
                match EbpfLogger::init_from_id(*id) {
                    Ok(mut logger) => {
                        self.0.insert(*id, Box::new(move || logger.flush()));
                    }
                    Err(e) => tracing::warn!("cannot read what program {id} logs: {e}"),
                }
            }
        }
        for flush in self.0.values_mut() {
            flush();
        }
    }
}
