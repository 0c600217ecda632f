//! Values that are told again and again, each kept once.
//!
//! In: values by a key. Out: the one that is the same, if there was one. What is too much is forgotten: it is then
//! kept a second time, which changes no output.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

/// How many values are kept, and how many of one key.
const VALUES_MAX: usize = 65_536;
const SAME_KEY_MAX: usize = 16;

/// Values by a key.
pub(super) struct Shared<K, T> {
    values: HashMap<K, Vec<Arc<T>>, foldhash::fast::RandomState>,
    count: usize,
}

impl<K, T> Default for Shared<K, T> {
    fn default() -> Self {
        Self {
            values: HashMap::default(),
            count: 0,
        }
    }
}

impl<K: Hash + Eq, T> Shared<K, T> {
    /// The value of a key that is the wanted one.
    pub(super) fn find<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Option<Arc<T>> {
        let mut values = self.values.get(key)?.iter();
        values.find(|value| is_wanted(value)).cloned()
    }

    /// Keeps a value that was not found.
    pub(super) fn keep(&mut self, key: K, value: T) -> Arc<T> {
        if self.count >= VALUES_MAX {
            self.values.clear();
            self.count = 0;
        }
        let value = Arc::new(value);
        let values = self.values.entry(key).or_default();
        if values.len() >= SAME_KEY_MAX {
            values.remove(0);
            self.count -= 1;
        }
        values.push(Arc::clone(&value));
        self.count += 1;
        value
    }
}
