//! Labels of a dataset: extended attributes of its root directory.
//!
//! In the `trusted` namespace: whoever may write the data, and is not root, can neither read nor write what is said of
//! it. A snapshot's root directory has them because it is the same inode; `btrfs send` carries them.
//!
//! A power cut leaves the old value or the new one, and before the next sync it may be either.

use super::{Btrfs, Doing, Result};
use crate::store::{StoreError, label};
use crate::sys::Context;
use crate::sys::btrfs as ioctl;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// What the attributes' names begin with. Changing it is a format break.
const PREFIX: &str = "trusted.backstay.";

/// Bytes that a list of names has at the most (`XATTR_LIST_MAX`, linux/limits.h).
const LIST: usize = 65536;

impl Btrfs {
    pub(super) fn label_at(&self, path: &str, name: &str) -> Result<Option<Vec<u8>>> {
        label::check_name(name)?;
        let root = self.present(path)?;
        let attribute = format!("{PREFIX}{name}");
        let mut value = vec![0; label::MAX];
        match fgetxattr(&root, attribute.as_str(), value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(Errno::RANGE) => Err(StoreError::Label(format!(
                "the attribute {attribute} of {path} is longer than {} bytes, so it is not ours: look at it with \
                 'getfattr -n {attribute}', and remove it with 'setfattr -x {attribute}'",
                label::MAX
            ))),
            Err(errno) => Err(errno)
                .call(|| format!("fgetxattr({path:?}, {attribute:?})"))
                .doing(|| format!("reading the label {name} of {path}")),
        }
    }

    pub(super) fn labels_at(&self, path: &str) -> Result<Vec<String>> {
        let root = self.present(path)?;
        let mut list = vec![0; LIST];
        let length = flistxattr(&root, list.as_mut_slice())
            .call(|| format!("flistxattr({path:?})"))
            .doing(|| format!("listing the labels of {path}"))?;
        list.truncate(length);
        let mut names: Vec<String> = list
            .split(|byte| *byte == 0)
            .filter_map(|attribute| core::str::from_utf8(attribute).ok()?.strip_prefix(PREFIX))
            // Another one was not written here, and could not be read.
            .filter(|name| label::is_name(name))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn set_label_at(&self, path: &str, name: &str, value: Option<&[u8]>) -> Result<()> {
        label::check_name(name)?;
        label::check_value(name, value.unwrap_or_default())?;
        let root = self.present(path)?;
        let doing = || format!("writing the label {name} of {path}");
        // The kernel leaves this to the file system, and before Linux 6.0 btrfs let it pass.
        if ioctl::info(&root).doing(doing)?.read_only {
            return Err(StoreError::Place(format!(
                "{path} is sealed: its labels stay as they are"
            )));
        }
        let attribute = format!("{PREFIX}{name}");
        match value {
            Some(value) => fsetxattr(&root, attribute.as_str(), value, XattrFlags::empty())
                .call(|| format!("fsetxattr({path:?}, {attribute:?}, {} bytes)", value.len()))
                .doing(doing),
            None => match fremovexattr(&root, attribute.as_str()) {
                Ok(()) | Err(Errno::NODATA) => Ok(()),
                Err(errno) => Err(errno)
                    .call(|| format!("fremovexattr({path:?}, {attribute:?})"))
                    .doing(doing),
            },
        }
    }
}
