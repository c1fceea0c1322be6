//! How far it is, for a person who waits.

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The archive is read and hashed, and its signature checked.
    Verify,
    /// It is extracted.
    Extract,
}

/// How far: bytes of the archive as it lies there, compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes that are done.
    pub done: u64,
    /// Bytes of the whole.
    pub total: u64,
    /// Entries that were extracted: small files and directories take time without taking bytes.
    pub made: u64,
}
