//! Archives byte for byte, as no honest program would write them. For tests, also those in tests/image,
//! so it depends on nothing of this crate.

/// An archive that grows.
#[derive(Default, Clone)]
pub struct Forge(pub Vec<u8>);

/// A header block.
#[derive(Clone)]
pub struct Block([u8; 512]);

impl Block {
    /// A POSIX header of this type and name, mode 0644 (directories 0755), owned by who runs the test.
    pub fn new(kind: u8, name: &str) -> Block {
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        Block([0; 512])
            .raw(0, name.as_bytes())
            .raw(156, &[kind])
            .raw(257, b"ustar\x0000")
            .mode(mode)
            .owner(
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            )
            .mtime(1_700_000_000)
            .size(0)
    }

    /// The old GNU form of it.
    pub fn gnu(self) -> Block {
        self.raw(257, b"ustar  \0")
    }

    /// Bytes at an offset.
    pub fn raw(mut self, at: usize, bytes: &[u8]) -> Block {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Octal digits that fill a field.
    fn octal(self, at: usize, length: usize, value: u64) -> Block {
        self.raw(
            at,
            format!("{value:0width$o}\0", width = length - 1).as_bytes(),
        )
    }

    /// The stated size.
    pub fn size(self, size: u64) -> Block {
        self.octal(124, 12, size)
    }

    /// The mode.
    pub fn mode(self, mode: u32) -> Block {
        self.octal(100, 8, mode.into())
    }

    /// Owner and group.
    pub fn owner(self, user: u32, group: u32) -> Block {
        self.octal(108, 8, user.into()).octal(116, 8, group.into())
    }

    /// The time.
    pub fn mtime(self, seconds: u64) -> Block {
        self.octal(136, 12, seconds)
    }

    /// The target of a link.
    pub fn link(self, target: &str) -> Block {
        self.raw(157, target.as_bytes())
    }

    /// Major and minor number.
    pub fn device(self, major: u32, minor: u32) -> Block {
        self.octal(329, 8, major.into()).octal(337, 8, minor.into())
    }
}

impl Forge {
    /// Nothing yet.
    pub fn new() -> Forge {
        Forge::default()
    }

    /// A header as it is, with its checksum, and data padded to blocks, whatever the header says.
    pub fn push(mut self, block: Block, data: &[u8]) -> Forge {
        let block = block.raw(148, b"        ");
        let sum: u64 = block.0.iter().map(|byte| u64::from(*byte)).sum();
        let block = block.raw(148, format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block.0);
        self.data(data)
    }

    /// Data alone, padded to blocks.
    pub fn data(mut self, data: &[u8]) -> Forge {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A file.
    pub fn file(self, name: &str, data: &[u8]) -> Forge {
        self.push(Block::new(b'0', name).size(data.len() as u64), data)
    }

    /// A directory.
    pub fn directory(self, name: &str) -> Forge {
        self.push(Block::new(b'5', name), b"")
    }

    /// A symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Forge {
        if target.len() > 100 {
            let pax = self.pax(&[("linkpath", target.as_bytes())]);
            return pax.push(Block::new(b'2', name), b"");
        }
        self.push(Block::new(b'2', name).link(target), b"")
    }

    /// A hard link.
    pub fn hard_link(self, name: &str, target: &str) -> Forge {
        self.push(Block::new(b'1', name).link(target), b"")
    }

    /// An extended header.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Forge {
        let data: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        let header = Block::new(b'x', "PaxHeaders/x").size(data.len() as u64);
        self.push(header, &data)
    }

    /// A GNU long name ('L') or long link ('K').
    pub fn long(self, kind: u8, name: &str) -> Forge {
        let data = [name.as_bytes(), b"\0"].concat();
        let header = Block::new(kind, "././@LongLink").gnu();
        self.push(header.size(data.len() as u64), &data)
    }

    /// With the two blocks of zeros that end an archive.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// A PAX record.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length += 1;
    }
    let start = format!("{length} {key}=");
    [start.as_bytes(), value, b"\n"].concat()
}

/// A zstd frame of raw blocks, without compression: what any decoder must take.
pub fn zstd_stored(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    let mut parts = bytes.chunks(100_000).peekable();
    while let Some(part) = parts.next() {
        zstd_block(&mut frame, 0, part.len(), part, parts.peek().is_none());
    }
    frame
}

/// A zstd frame: `start`, then `blocks` times 128 KiB of zeros, in four bytes each.
pub fn zstd_zeros(start: &[u8], blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    zstd_block(&mut frame, 0, start.len(), start, false);
    for block in 0..blocks {
        zstd_block(&mut frame, 1, 128 << 10, &[0], block + 1 == blocks);
    }
    frame
}

fn zstd_block(frame: &mut Vec<u8>, kind: u32, size: usize, content: &[u8], last: bool) {
    let header = u32::try_from(size).unwrap() << 3 | kind << 1 | u32::from(last);
    frame.extend(&header.to_le_bytes()[..3]);
    frame.extend(content);
}
