//! Tells whoever writes it down of what is in lines.

use kordon_ebpf::layout::FlowLine;

use super::{
    Keeper, Sum,
    witness::{Seen, Witness},
};
use crate::datapath::DatapathError;

impl Keeper {
    /// From now on all that leaves is told, before anything else is done with it.
    pub fn be_witnessed(&mut self, witness: Box<dyn Witness>) {
        self.witness = Some(witness);
    }

    /// The daemon ends: what leaves its line from now on stays in the ring, for the next one.
    pub fn rest(&mut self) {
        self.naming = None;
    }

    /// What tells this kernel's lines from those of another boot, or of other maps.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.kernel.id()
    }

    /// How many lines there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.kernel.size()
    }

    /// Tells of what is in lines, if somebody wants to know. What left before comes before: the ring is read between
    /// reading lines and telling of them.
    ///
    /// # Errors
    /// As [`Self::read`]; all is told the next time.
    pub fn tell(&mut self, all: bool) -> Result<(), DatapathError> {
        let (Some(witness), Some(naming)) = (&self.witness, self.naming.clone()) else {
            return Ok(());
        };
        if !witness.is_ready() {
            return Ok(());
        }
        let wanted = |(line, held): &(u32, FlowLine)| witness.wants(*line, held, all);
        let lines: Vec<_> = self.kernel.lines().filter(wanted).collect();
        let left = self.left(true)?;
        let clock = self.clock.at(self.kernel.now()?);
        let look = naming.look();
        let marks = look.is_some();
        let look = look.unwrap_or_else(|| naming.glance());
        let lines =
            (lines.into_iter()).filter(|(line, held)| !left.contains(&(*line, held.sequence)));
        let seen = lines.map(|(line, held)| Seen {
            line,
            sequence: held.sequence,
            flow: held.flow,
            network: self.network(line, &held, &*look, marks),
            sum: Sum::of(&held, clock),
            is_last: false,
        });
        let seen: Vec<Seen> = seen.collect();
        // Whoever changes routes waits for live BGP, and must not wait for who writes.
        drop(look);
        for seen in seen {
            if let Some(witness) = &mut self.witness {
                witness.seen(seen);
            }
        }
        Ok(())
    }
}
