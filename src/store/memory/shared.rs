//! A value that is cheap to clone and remembers its hash: copied only when it is changed.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

/// Shared until it is written to.
#[derive(Clone, Debug, Default)]
pub struct Shared<T>(Arc<Kept<T>>);

#[derive(Clone, Debug, Default)]
struct Kept<T> {
    value: T,
    digest: OnceLock<u64>,
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Shared<T> {
        let digest = OnceLock::new();
        Shared(Arc::new(Kept { value, digest }))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        let kept = Arc::make_mut(&mut self.0);
        kept.digest = OnceLock::new();
        &mut kept.value
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.value == other.0.value
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest().hash(state);
    }
}

impl<T: Hash> Shared<T> {
    /// The hash of the value; computed once.
    pub fn digest(&self) -> u64 {
        *self.0.digest.get_or_init(|| digest(&self.0.value))
    }
}

/// A hash of anything, the same within one run of the program.
pub fn digest<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
