//! A generation and its table in this process, readable like those in the kernel.

use kordon_ebpf::{
    layout::{Generation, Nat64, Pair, Port, Prefix, Step, Zone},
    packet::Address,
    verdict::{InMaps, Tables},
};

use crate::{
    asn::model::AsnDb,
    compile::{
        directory::Directory,
        generation::{Environment, Rules, compile},
        partition::Partition,
        table::{FlatTable, Tier, choose_tier},
    },
    policy::model::Policy,
};

/// Everything the kernel needs for one policy and database.
pub struct Image {
    /// From the policy.
    pub rules: Rules,
    /// From the database.
    pub table: FlatTable,
    /// What the table was built from.
    pub partition: Partition,
    /// The smallest tier that holds it.
    pub tier: Tier,
}

impl Image {
    /// Compiles everything anew.
    ///
    /// # Errors
    /// When something does not fit.
    pub fn compile(
        policy: &Policy,
        db: &AsnDb,
        environment: &Environment,
        directory: &mut Directory,
    ) -> anyhow::Result<Self> {
        let partition = Partition::new(policy, db, &environment.router)?;
        let table = FlatTable::build(&partition)?;
        let tier = choose_tier(&table.usage())?;
        let rules = compile(policy, db, environment, &partition, directory)?;
        Ok(Self {
            rules,
            table,
            partition,
            tier,
        })
    }

    fn in_maps(&self) -> InMaps<'_, Generation<0>, FlatTable> {
        InMaps {
            generation: &self.rules.fixed,
            table: &self.table,
        }
    }
}

/// As the kernel's, but for the class words, which stand beside the rest here.
impl Tables for Image {
    fn number(&self) -> u64 {
        self.in_maps().number()
    }
    fn port(&self, port: u32) -> Option<&Port> {
        self.rules.fixed.ports.get(port as usize)
    }
    fn vid(&self, table: u16, vid: u16) -> u16 {
        self.in_maps().vid(table, vid)
    }
    fn pair(&self, slot: u32) -> Option<&Pair> {
        self.rules.fixed.pairs.get(slot as usize)
    }
    fn zone(&self, id: u32) -> Option<&Zone> {
        self.rules.fixed.zones.get(id as usize)
    }
    fn source(&self, index: u32) -> Option<&Prefix> {
        self.rules.fixed.sources.get(index as usize)
    }
    fn nat64_len(&self) -> u32 {
        self.rules.fixed.nat64_len
    }
    fn nat64(&self, index: u32) -> Option<&Nat64> {
        self.rules.fixed.nat64.get(index as usize)
    }
    fn verdict(&self, index: u32) -> Option<u32> {
        self.rules.fixed.verdicts.get(index as usize).copied()
    }
    fn step(&self, index: u32) -> Option<&Step> {
        self.rules.fixed.steps.get(index as usize)
    }
    fn stopped(&self, _zone: u32, _port: u32) -> u32 {
        // Nothing is counted here.
        0
    }
    fn class_word(&self, class: u32) -> Option<u32> {
        self.rules.class_words.get(class as usize).copied()
    }
    fn class(&self, address: Address) -> u32 {
        self.in_maps().class(address)
    }
}
