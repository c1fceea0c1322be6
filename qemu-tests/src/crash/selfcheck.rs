//! Whether the recorder sees what the block layer does; tried on a device before anything rests on it.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use anyhow::{Result, ensure};
use rustix::fs::OFlags;

use super::device::Device;
use super::disk::{Disk, PAGE};
use super::recording::Event;

/// Writes to a device in every way that counts and compares the record.
///
/// # Errors
/// What the recorder did not see as it was.
pub fn run() -> Result<()> {
    let device = Device::new(Disk::empty(1 << 20))?;
    sizes_and_order(&device)?;
    cached_writes_come_before_their_flush(&device)?;
    another_disk_is_seen(&device)?;
    writes_fail(&device)
}

/// A buffer at an address that direct I/O takes.
struct Aligned {
    bytes: Vec<u8>,
    from: usize,
}

impl Aligned {
    fn of(byte: u8) -> Self {
        let bytes = vec![byte; 2 * PAGE];
        let from = bytes.as_ptr().align_offset(PAGE);
        Self { bytes, from }
    }

    fn get(&self, length: usize) -> &[u8] {
        &self.bytes[self.from..self.from + length]
    }
}

fn open(device: &Device, direct: bool) -> Result<std::fs::File> {
    let flags = if direct {
        OFlags::DIRECT
    } else {
        OFlags::empty()
    };
    Ok(OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&device.node)?)
}

fn sizes_and_order(device: &Device) -> Result<()> {
    let file = open(device, true)?;
    let (one, two) = (Aligned::of(1), Aligned::of(2));
    device.medium.record();
    file.write_all_at(one.get(512), 512)?;
    file.write_all_at(two.get(PAGE), 8192)?;
    file.sync_all()?;
    file.write_all_at(one.get(512), 8192)?;
    let wanted = [
        write(512, 1, 512),
        write(8192, 2, PAGE),
        Event::Flush,
        write(8192, 1, 512),
    ];
    let found = device.medium.recorded();
    ensure!(
        found == wanted,
        "direct writes were recorded as {}",
        shown(&found)
    );
    Ok(())
}

fn cached_writes_come_before_their_flush(device: &Device) -> Result<()> {
    let file = open(device, false)?;
    device.medium.record();
    file.write_all_at(&[3; PAGE], 0)?;
    file.sync_all()?;
    let found = device.medium.recorded();
    ensure!(
        found == [write(0, 3, PAGE), Event::Flush],
        "a cached write and its fsync were recorded as {}",
        shown(&found)
    );
    Ok(())
}

/// Nothing of the disk before stays in a cache.
fn another_disk_is_seen(device: &Device) -> Result<()> {
    let mut other = Disk::empty(device.size);
    other.write(0, &[4; PAGE]);
    device.medium.insert(other);
    let mut byte = [0];
    open(device, false)?.read_exact_at(&mut byte, 0)?;
    ensure!(
        byte == [4],
        "another disk was inserted, and the device still shows the one before"
    );
    Ok(())
}

fn writes_fail(device: &Device) -> Result<()> {
    let file = open(device, true)?;
    let page = Aligned::of(5);
    device.medium.fail_writes_after(Some(1));
    let written = [0, 4096].map(|at| file.write_all_at(page.get(PAGE), at).is_ok());
    device.medium.fail_writes_after(None);
    ensure!(
        written == [true, false],
        "of two writes the second was to fail, but: {written:?}"
    );
    Ok(())
}

fn write(offset: u64, byte: u8, length: usize) -> Event {
    Event::Write {
        offset,
        bytes: vec![byte; length].into(),
    }
}

fn shown(events: &[Event]) -> String {
    let each = events.iter().map(|event| match event {
        Event::Flush => "flush".to_owned(),
        Event::Write { offset, bytes } => format!("{} bytes at {offset}", bytes.len()),
    });
    each.collect::<Vec<_>>().join(", ")
}
