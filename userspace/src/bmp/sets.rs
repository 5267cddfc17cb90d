//! Origin sets, each once and counted: a table has a million routes and some ten
//! thousand sets.

use std::collections::HashMap;

/// A set in [`Sets`]. Below 2^31, so that users may keep a bit beside it.
pub(super) type SetId = u32;

/// See the module. Ids are given anew once nobody holds them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    all: Vec<(Box<[u32]>, u32)>,
    ids: HashMap<Box<[u32]>, SetId>,
    free: Vec<SetId>,
}

impl Sets {
    /// The id of a sorted set, held once more.
    pub(super) fn hold(&mut self, set: &[u32]) -> SetId {
        if let Some(&id) = self.ids.get(set) {
            self.all[id as usize].1 += 1;
            return id;
        }
        let boxed: Box<[u32]> = set.into();
        let id = match self.free.pop() {
            Some(id) => {
                self.all[id as usize] = (boxed.clone(), 1);
                id
            }
            None => {
                // Each is held by a route, and routes are far fewer than 2^31.
                let id = self.all.len() as SetId;
                self.all.push((boxed.clone(), 1));
                id
            }
        };
        self.ids.insert(boxed, id);
        id
    }

    /// Holds it once less.
    pub(super) fn release(&mut self, id: SetId) {
        let (set, count) = &mut self.all[id as usize];
        *count -= 1;
        if *count == 0 {
            self.ids.remove(&*std::mem::take(set));
            self.free.push(id);
        }
    }

    /// Its members, sorted.
    pub(super) fn get(&self, id: SetId) -> &[u32] {
        &self.all[id as usize].0
    }

    /// All by their ids; those that nobody holds are empty.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.all.iter().map(|(set, _)| &**set)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}
