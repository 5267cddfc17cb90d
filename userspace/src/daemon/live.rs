//! The policy that is live, and what it is called in the kernel.
//!
//! A generation is named by a hash over all that it is compiled from: the policy, the database,
//! the router's addresses and this program itself. So a daemon that starts anew can tell whether
//! what it finds in the kernel is just what it would make, and takes it over as it is.

use std::sync::Arc;

use kordon_ebpf::layout::LAYOUT_VERSION;
use sha2::{Digest as _, Sha256};

use super::updates::database::Database;
pub(super) use crate::datapath::amend::Names;
use crate::{
    compile::{generation::Environment, partition::partition_key},
    policy::{Policy, policy_hash},
};

/// See the module.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) policy: Arc<Policy>,
    pub(super) hash: [u8; 32],
    pub(super) environment: Arc<Environment>,
    /// Port numbers of the configured interfaces, in their order.
    pub(super) ports: Vec<u32>,
}

impl Live {
    pub(super) fn new(policy: Arc<Policy>, environment: Environment, ports: Vec<u32>) -> Self {
        Self {
            hash: policy_hash(&policy),
            policy,
            environment: Arc::new(environment),
            ports,
        }
    }

    /// As `status` shows it.
    pub(super) fn hash_in_words(&self) -> String {
        hex::encode(self.hash)
    }
}

impl Names {
    pub(super) fn of(policy: &Policy, database: &Database, environment: &Environment) -> Self {
        let table_key = partition_key(policy, database.id(), &environment.router);
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update(LAYOUT_VERSION.to_le_bytes());
        hash.update(policy_hash(policy));
        hash.update(table_key);
        hash.update(database.id());
        // The order of zones is their number.
        for zone in &policy.zones {
            hash.update(&zone.name);
            hash.update([0]);
        }
        hash.update(format!("{environment:?}"));
        Self {
            hash: hash.finalize().into(),
            table_key,
        }
    }
}
