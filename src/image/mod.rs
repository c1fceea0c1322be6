//! The default tarball: a system image as an archive, from which the factory snapshot is made.
//!
//! ```text
//! archive.rs     the file and its compression
//! signature.rs   first pass: minisign over the whole archive → Verified
//! extract.rs     second pass, in a confined child: read, hash again, decompress, write
//!   confine.rs     what the child gives up before it looks at the archive
//!   pipeline.rs    its threads, and chunks.rs between them
//!   read.rs        end to end, for both passes
//!   decompress.rs  zstd, gzip, xz
//!   tar/           bytes → entries
//!   write.rs       entries → files; tree.rs finds the place, metadata.rs the rest; acl.rs
//! limits.rs      what an archive may ask for
//! error.rs       what may be wrong with it, and the way out
//! pack.rs        the way back: a root directory becomes a deterministic archive
//! compress.rs    … compressed by its name's suffix
//! sign.rs        … and signed
//! copy.rs        paths of an extracted root, into the config datasets
//! fill.rs        a verified archive into the datasets of a set
//! keep.rs        a verified archive as a file somewhere else
//! meter.rs       progress as lines
//! walk.rs        a tree in a fixed order, attributes.rs: extended attributes of any entry
//! ```
//!
//! Nothing here commits anything: after an error, or a power cut, the directory that was extracted
//! into holds a part of a system and is thrown away by whoever made it.

mod acl;
pub mod archive;
#[cfg(test)]
mod attacks;
pub mod attributes;
mod base64;
mod chunks;
pub mod compress;
mod confine;
pub mod copy;
mod decompress;
pub mod error;
pub mod extract;
pub mod fill;
#[cfg(test)]
mod forge;
mod keep;
pub mod limits;
mod metadata;
mod meter;
pub mod pack;
mod pipeline;
pub mod progress;
mod read;
pub mod sign;
pub mod signature;
pub(crate) mod tar;
#[cfg(test)]
mod tests;
mod tree;
pub mod walk;
mod write;

pub use archive::{Archive, Form};
pub use error::Error;
pub use extract::{Extracted, extract};
pub use limits::Limits;
pub use meter::Meter;
#[doc(hidden)]
pub use pipeline::in_one_thread;
pub use progress::{Phase, Progress};
pub use signature::{Keys, Trust, Verified, verify};
