//! What rules ask of destinations, answered for each class: which classes a target has. Classes with the
//! same answers are one kind (`generation`).

use super::{
    ClassKey, FIRST_LIST_BIT, MULTICAST_BIT, PRIVATE_BIT, Partition, PartitionError, ROUTER_BIT,
    SPECIAL_BIT, inputs::Space,
};
use crate::{
    asn::{AsnDb, Country, range::within},
    policy::model::{Policy, SetId, Target},
};

impl Partition {
    /// For every class, a bit for each question: whether it is part of what that is about.
    /// Classes, one after the other, have as many words as the bits need.
    pub(in crate::compile) fn signatures(&self, questions: &[Question]) -> Vec<u64> {
        let words = questions.len().div_ceil(64);
        let add = |bits: &mut [u64], is: &dyn Fn(&Question) -> bool| {
            for (bit, question) in questions.iter().enumerate() {
                bits[bit / 64] |= u64::from(is(question)) << (bit % 64);
            }
        };
        // Few origins are named, and most classes are in few combinations of lists. What has
        // none is behind the last.
        let named = Named::new(questions);
        let mut by_origins = vec![0; (self.origins.len() + 1) * words];
        for (asns, bits) in self.origins.iter().zip(by_origins.chunks_exact_mut(words)) {
            if asns.iter().any(|asn| named.may_have(*asn)) {
                add(bits, &|question| question.names_any(asns));
            }
        }
        let mut by_membership = vec![0; self.memberships.len() * words];
        let memberships = by_membership.chunks_exact_mut(words);
        for (lists, bits) in self.memberships.iter().zip(memberships) {
            add(bits, &|question| {
                question.any || question.bit.is_some_and(|bit| is_set(lists, bit))
            });
        }
        let more: Vec<(usize, &Question)> = (questions.iter().enumerate())
            .filter(|(_, question)| !question.countries.is_empty() || question.unrouted)
            .collect();
        let mut signatures = Vec::with_capacity(self.classes.len() * words);
        for key in &self.classes {
            let start = signatures.len();
            let origins = key.origins.map_or(self.origins.len(), |id| id as usize);
            let membership = key.membership as usize;
            for word in 0..words {
                signatures.push(
                    by_origins[origins * words + word] | by_membership[membership * words + word],
                );
            }
            for (bit, question) in &more {
                if self.by_place(question, key) {
                    signatures[start + bit / 64] |= 1 << (bit % 64);
                }
            }
        }
        signatures
    }

    /// Whether a class is part of what a question is about.
    pub(in crate::compile) fn answers(&self, question: &Question, key: &ClassKey) -> bool {
        let origins = key.origins.and_then(|id| self.origins.get(id));
        question.any
            || self.by_place(question, key)
            || origins.is_some_and(|asns| question.names_any(asns))
    }

    /// Everything but origins and `any`.
    fn by_place(&self, question: &Question, key: &ClassKey) -> bool {
        let is_in = |bit| self.is_in(key, bit);
        question.bit.is_some_and(is_in)
            || key.country.is_some_and(|c| question.countries.contains(&c))
            || question.unrouted
                && key.origins.is_none()
                && ![PRIVATE_BIT, MULTICAST_BIT, SPECIAL_BIT]
                    .into_iter()
                    .any(is_in)
    }

    fn is_in(&self, key: &ClassKey, bit: usize) -> bool {
        let bits = self.memberships.get(key.membership as usize);
        bits.is_some_and(|bits| is_set(bits, bit))
    }

    pub(in crate::compile) fn question(
        &self,
        target: Target,
        policy: &Policy,
        db: &AsnDb,
    ) -> Result<Question, PartitionError> {
        let mut question = Question::default();
        match target {
            Target::Any => question.any = true,
            Target::Private => question.bit = Some(PRIVATE_BIT),
            Target::Multicast => question.bit = Some(MULTICAST_BIT),
            Target::Router => question.bit = Some(ROUTER_BIT),
            Target::Unrouted => question.unrouted = true,
            Target::Set(id) => return self.question_set(id, policy, db),
        }
        Ok(question)
    }

    fn question_set(
        &self,
        id: SetId,
        policy: &Policy,
        db: &AsnDb,
    ) -> Result<Question, PartitionError> {
        let other_policy = |set| PartitionError::OtherPolicy { set };
        let set = policy
            .sets
            .get(id)
            .ok_or_else(|| other_policy(id.to_string()))?;
        let is_cut = |country| self.countries.binary_search(country).is_ok();
        if !set.countries.iter().all(is_cut) {
            return Err(other_policy(set.name.clone()));
        }
        let bit = if set.prefixes.is_empty() {
            None
        } else {
            let list = Space::new(set.prefixes.iter().copied());
            let place = self.lists.binary_search(&list);
            Some(FIRST_LIST_BIT + place.map_err(|_| other_policy(set.name.clone()))?)
        };
        Ok(Question {
            bit,
            countries: set.countries.clone(),
            asns: set.origins(db),
            ..Question::default()
        })
    }
}

fn is_set(bits: &[u64], bit: usize) -> bool {
    bits.get(bit / 64)
        .is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// ASNs that some question names: a bitmap, because all that there are are asked for. Those
/// above [`LOW_ASNS`], which are few, may be.
struct Named(Vec<u64>);

/// Almost all ASNs are below this.
const LOW_ASNS: u32 = 1 << 20;

impl Named {
    fn new(questions: &[Question]) -> Self {
        let mut low = vec![0u64; LOW_ASNS as usize / 64];
        for (first, last) in questions.iter().flat_map(|question| &question.asns) {
            for asn in *first..(*last).saturating_add(1).min(LOW_ASNS) {
                low[asn as usize / 64] |= 1 << (asn % 64);
            }
        }
        Self(low)
    }

    fn may_have(&self, asn: u32) -> bool {
        asn >= LOW_ASNS || is_set(&self.0, asn as usize)
    }
}

/// A target, resolved.
#[derive(Clone, Debug, Default)]
pub(in crate::compile) struct Question {
    any: bool,
    unrouted: bool,
    bit: Option<usize>,
    countries: Vec<Country>,
    /// Sorted, disjoint, inclusive.
    asns: Vec<(u32, u32)>,
}

impl Question {
    /// One of several origins is enough.
    fn names_any(&self, origins: &[u32]) -> bool {
        origins.iter().any(|&asn| within(&self.asns, asn))
    }
}
