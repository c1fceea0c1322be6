//! What an archive may ask for.

/// Upper bounds, each far above what a system's image needs and far below what would stop a machine.
/// Whoever has a reason raises one; there is no way to switch them off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries. A desktop of Debian has 300,000; each costs the file system about 1 KB of metadata.
    pub entries: u64,
    /// Bytes after decompression, padding included. Zeros are packed 30,000 to one, so the length of
    /// the archive says nothing.
    pub bytes: u64,
    /// Length of a file with its holes, in bytes. Costs nothing by itself, but programs that read the
    /// file later read the holes too.
    pub file_length: u64,
    /// Bytes of a path. What one system call takes (`PATH_MAX` without its NUL): a longer one could
    /// not be opened by its name in the running system.
    pub path: usize,
    /// Bytes of one component of a path: what btrfs and ext4 take.
    pub name: usize,
    /// Directories above an entry. One descriptor is held for each.
    pub depth: usize,
    /// Bytes of one PAX header or one GNU long name. The attributes of one file are in it, and no
    /// attribute that a kernel takes is longer than 64 KiB.
    pub pax: u64,
    /// Extended attributes of one entry.
    pub attributes: usize,
    /// Stretches of data in one sparse file (CVE-2026-32288, CVE-2025-58183): 16 bytes of memory each.
    pub stretches: usize,
    /// Bytes of memory for the metadata of directories, which is applied at the end: their names,
    /// 64 bytes each, and their attributes.
    pub directories: u64,
    /// Bytes of the window (zstd), dictionary (xz): that much memory is held while decompressing.
    /// zstd -19 asks for 8 MiB, xz -8 for 32.
    pub window: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries: 750_000,
            bytes: 64 << 30,
            file_length: 4 << 40,
            path: 4095,
            name: 255,
            depth: 256,
            pax: 1 << 20,
            attributes: 256,
            stretches: 100_000,
            directories: 24 << 20,
            window: 32 << 20,
        }
    }
}
