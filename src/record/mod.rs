//! What is on disk, apart from the datasets themselves.
//!
//! ```text
//! @backstay/state     two slots of 4 KiB   what is live, the history, a waiting request
//! @backstay/journal   two slots of 4 KiB   the one transaction that is open, if any
//! @backstay/layout    one block            the datasets of this machine and their names
//! …/manifest          one block            what a sealed set is and how to recognise it
//! ```
//!
//! Every block carries a magic, a format version, a sequence number and a CRC-32. The two slots of
//! a file are written in turn and in place (NOCOW, never truncated): a power cut during a write
//! leaves the other slot, which is the older value, whole. All lists are bounded, because these
//! bytes are read before anything is trusted.

pub mod block;
pub mod grubenv;
pub mod journal;
pub mod layout;
pub mod manifest;
pub mod request;
pub mod slots;
pub mod state;
pub mod sums;

use serde::{Deserialize, Serialize};

/// The UUID of a subvolume, as the file system keeps it (16 bytes, big-endian text order).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Nobody's: in place of the UUID of what is not there.
    pub const NONE: Uuid = Uuid([0; 16]);
}

impl core::fmt::Display for Uuid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl core::fmt::Debug for Uuid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// What identifies a sealed dataset: equal values mean that it was never written since.
///
/// `ctransid` is read after the read-only flag was set and the file system was synced; any write
/// changes it, while snapshots of it, read-only mounts, scrubs and balances do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The subvolume's own UUID; a clone has another one.
    pub uuid: Uuid,
    /// The transaction that changed its content last.
    pub ctransid: u64,
}
