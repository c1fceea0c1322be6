//! A block device with a fresh btrfs, mounted; and what a power cut would leave of it.

use backstay::record::layout::Layout;
use backstay::store::btrfs::Btrfs;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment variable with the device's path.
pub const DEVICE: &str = "BACKSTAY_BTRFS_DEVICE";

/// The device with a fresh file system of this many MiB.
pub struct Scratch {
    pub device: PathBuf,
    pub mib: u64,
    mounted: Vec<PathBuf>,
    places: tempfile::TempDir,
}

impl Scratch {
    /// Makes the file system; single data and metadata, as an appliance's image has them.
    pub fn new(mib: u64) -> Scratch {
        let device = PathBuf::from(std::env::var_os(DEVICE).expect("a device"));
        let output = Command::new("mkfs.btrfs")
            .args([
                "-q",
                "-f",
                "-m",
                "dup",
                "-d",
                "single",
                "-b",
                &format!("{mib}M"),
            ])
            .arg(&device)
            .output()
            .expect("mkfs.btrfs");
        assert!(output.status.success(), "mkfs.btrfs: {output:?}");
        let places = tempfile::tempdir().unwrap();
        Scratch {
            device,
            mib,
            mounted: Vec::new(),
            places,
        }
    }

    /// A path beside the places where it is mounted.
    pub fn path(&self, name: &str) -> PathBuf {
        self.places.path().join(name)
    }

    /// Mounts it, with these options, at a new place.
    pub fn try_mount(&mut self, read_only: bool, options: &str) -> rustix::io::Result<PathBuf> {
        let at = self.places.path().join(self.mounted.len().to_string());
        fs::create_dir_all(&at).unwrap();
        let access = if read_only {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        let options = CString::new(options).unwrap();
        mount(
            &self.device,
            &at,
            "btrfs",
            access | MountFlags::NOATIME,
            Some(options.as_c_str()),
        )?;
        self.mounted.push(at.clone());
        Ok(at)
    }

    /// Mounts the top level to be written.
    pub fn mount(&mut self) -> PathBuf {
        // No commit but those that are asked for.
        self.try_mount(false, "subvolid=5,commit=3600")
            .expect("mount")
    }

    /// Mounts the top level and opens it as a store.
    pub fn open(&mut self, layout: Layout) -> (Btrfs, PathBuf) {
        let top = self.mount();
        (Btrfs::open_path(&top, layout).unwrap(), top)
    }

    /// Unmounts everything; descriptors must be closed.
    pub fn unmount(&mut self) {
        while let Some(at) = self.mounted.pop() {
            unmount(&at, UnmountFlags::empty()).unwrap_or_else(|errno| panic!("{at:?}: {errno}"));
        }
    }

    /// What the device holds now: what the disk would have if the power went.
    pub fn image(&self) -> Image {
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(&self.device)
            .unwrap();
        let mut chunk = Aligned([0; CHUNK]);
        let mut chunks = Vec::new();
        for at in (0..self.mib << 20).step_by(CHUNK) {
            file.read_exact_at(&mut chunk.0, at).unwrap();
            // Word by word: an emulated machine feels the difference.
            let (words, _) = chunk.0.as_chunks::<16>();
            let zero = words.iter().all(|word| u128::from_ne_bytes(*word) == 0);
            chunks.push((!zero).then(|| Box::new(chunk.clone())));
        }
        Image(chunks)
    }

    /// Unmounts, puts the image back as if nothing had been written since, and lets the kernel
    /// forget that it has seen a later state of this device.
    pub fn restore(&mut self, image: &Image) {
        self.unmount();
        let file = fs::OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(&self.device)
            .unwrap();
        // Past the page cache, and zeros without sending them: most of the device is zeros.
        fallocate(&file, FallocateFlags::ZERO_RANGE, 0, self.mib << 20).unwrap();
        for (chunk, at) in image.0.iter().zip((0..).step_by(CHUNK)) {
            if let Some(chunk) = chunk {
                file.write_all_at(&chunk.0, at).unwrap();
            }
        }
        file.sync_all().unwrap();
        drop(file);
        drop_caches();
        forget(&self.device);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        while let Some(at) = self.mounted.pop() {
            unmount(&at, UnmountFlags::DETACH).ok();
        }
    }
}

const CHUNK: usize = 1 << 20;

/// The bytes of a device; pieces of zeros are left out.
#[derive(PartialEq, Eq)]
pub struct Image(Vec<Option<Box<Aligned>>>);

/// As a direct transfer needs it.
#[derive(Clone, PartialEq, Eq)]
#[repr(align(4096))]
struct Aligned([u8; CHUNK]);

fn drop_caches() {
    File::options()
        .write(true)
        .open("/proc/sys/vm/drop_caches")
        .and_then(|mut file| file.write_all(b"3"))
        .unwrap();
}

/// btrfs keeps the newest generation that it saw of a device and refuses an older one.
fn forget(device: &Path) {
    let output = Command::new("btrfs")
        .args(["device", "scan", "--forget"])
        .arg(device)
        .output()
        .expect("btrfs");
    // Not an error: a device that was never registered is forgotten already.
    drop(output);
}
