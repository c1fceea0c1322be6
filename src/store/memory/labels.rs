//! Labels in memory: bounded and named as on disk, carried by clones, and part of a world that a power cut may lose.

use super::{Memory, absent};
use crate::store::place::Place;
use crate::store::{Result, StoreError, label};
use std::collections::BTreeMap;

/// A dataset's labels.
pub type Labels = BTreeMap<String, Vec<u8>>;

impl Memory {
    pub(super) fn label_at(&self, place: Place, name: &str) -> Result<Option<Vec<u8>>> {
        self.look()?;
        label::check_name(name)?;
        Ok(self.at(place)?.labels.get(name).cloned())
    }

    pub(super) fn labels_at(&self, place: Place) -> Result<Vec<String>> {
        self.look()?;
        Ok(self.at(place)?.labels.keys().cloned().collect())
    }

    /// Removing one takes room, too: the kernel reserves as much for it.
    pub(super) fn set_label_at(
        &mut self,
        place: Place,
        name: &str,
        value: Option<&[u8]>,
    ) -> Result<()> {
        label::check_name(name)?;
        label::check_value(name, value.unwrap_or_default())?;
        let found = self.at(place)?;
        if found.dataset.read_only {
            return Err(StoreError::Place(format!("{place:?} is sealed")));
        }
        if value.is_none() && !found.labels.contains_key(name) {
            return Ok(());
        }
        self.change_with_room(|world| {
            let subvolume = world
                .datasets
                .get_mut(&place)
                .ok_or_else(|| absent(place))?;
            match value {
                Some(value) => subvolume.labels.insert(name.to_owned(), value.to_vec()),
                None => subvolume.labels.remove(name),
            };
            subvolume.dataset.identity.ctransid += 1;
            Ok(())
        })
    }
}
