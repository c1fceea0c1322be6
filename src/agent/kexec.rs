//! Finding a root's own kernel and loading it.
//!
//! A root that was promoted usually needs another kernel than the one that is running: `boot/vmlinuz`
//! (else `vmlinuz`) in it, a link that names the release, with `initrd.img` beside it. That is compared
//! with the version inside the image itself, because a link can lie.
//!
//! Nothing is written; loading allocates memory until the next boot.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::record::sums;
use crate::sys::{self, Context, kexec as sys_kexec, mount as sys_mount};

/// Where a root keeps its kernel, and the initramfs beside it.
const PLACES: [(&str, &str); 3] = [
    ("boot/vmlinuz", "boot/initrd.img"),
    ("vmlinuz", "initrd.img"),
    // Where /boot is a file system of its own.
    (
        "usr/lib/backstay/boot/vmlinuz",
        "usr/lib/backstay/boot/initrd.img",
    ),
];

/// A root's own kernel: its files are open, so that what was checked is what is loaded.
#[derive(Debug)]
pub struct RootKernel {
    /// As `uname -r` will print it.
    pub release: String,
    /// Path of the image, inside the root, links resolved.
    pub path: PathBuf,
    /// Whether there is an initramfs beside it.
    pub has_initrd: bool,
    kernel: File,
    initrd: Option<File>,
    /// The longest command line that the image takes, in bytes.
    cmdline_max: usize,
}

/// Why a root's kernel cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No kernel at all.
    #[error("this root has no kernel: neither boot/vmlinuz nor vmlinuz")]
    None,
    /// The name says nothing about the release.
    #[error("the kernel {0:?} has no release in its name: it should be vmlinuz-RELEASE")]
    NoRelease(PathBuf),
    /// A directory, a FIFO, a device.
    #[error("{0:?} is not a regular file")]
    NotFile(PathBuf),
    /// Its bytes are not those that were installed.
    #[error("{0:?} is damaged: run 'backstay recovery install'")]
    Damaged(PathBuf),
    /// Not an x86 kernel image.
    #[error("{0:?} is not a Linux kernel image")]
    NotKernel(PathBuf),
    /// Name and contents differ.
    #[error("{path:?} is a kernel of release {inside}, not {named} as its name says")]
    WrongRelease {
        /// The file.
        path: PathBuf,
        /// The release in its name.
        named: String,
        /// The release inside it.
        inside: String,
    },
    /// It could not mount the root.
    #[error("this root has no initramfs beside its kernel {0}")]
    NoInitrd(String),
    /// The kernel could not load a driver.
    #[error("this root has no modules for its kernel {0}: lib/modules/{0} is missing")]
    NoModules(String),
    /// Longer than the kernel takes.
    #[error("the command line has {length} bytes, the kernel takes {max}")]
    CommandLine {
        /// Its length.
        length: usize,
        /// The kernel's limit.
        max: usize,
    },
    /// This machine does not permit it: restart through GRUB instead.
    #[error("kexec is not permitted here ({0}): the machine has to restart through GRUB")]
    Forbidden(Forbidden),
    /// A system call failed.
    #[error(transparent)]
    Call(#[from] sys::Error),
}

/// Why a kexec is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The running kernel was built without it.
    #[error("this kernel was built without it")]
    NotBuilt,
    /// `kernel.kexec_load_disabled` is set, until the next boot.
    #[error("kernel.kexec_load_disabled is set")]
    Disabled,
    /// `EPERM`: lockdown, or no capability.
    #[error("the kernel is locked down, or refuses")]
    NotPermitted,
    /// A signature is wanted and is missing or wrong.
    #[error("the image has no signature that this kernel accepts")]
    Signature,
}

/// The recovery kernel in a directory: a kernel and its initramfs, whatever their release.
///
/// # Errors
/// One is missing, damaged or no kernel; loading it failed.
pub fn load_recovery(directory: &Path, cmdline: &str) -> Result<(), Error> {
    if sums::hold(directory).is_ok_and(|hold| !hold) {
        return Err(Error::Damaged(directory.to_owned()));
    }
    // The store is root's own: nothing lies there that must not be opened.
    let there = |name: &str| {
        let path = directory.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some((file, path))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(sys::Error::from_io(format!("open({path:?})"), &error)),
        }
    };
    let (mut kernel, path) = there("vmlinuz")?.ok_or(Error::None)?;
    let image = read_image(&mut kernel)?.ok_or(Error::NotKernel(path.clone()))?;
    let Some((initrd, _)) = there("initrd.img")? else {
        return Err(Error::NoInitrd(image.release));
    };
    RootKernel {
        release: image.release,
        path,
        has_initrd: true,
        kernel,
        initrd: Some(initrd),
        cmdline_max: image.cmdline_max,
    }
    .load(cmdline)
}

impl Error {
    /// Whether the machine, or the command line, is in the way, and not the kernel that was to be loaded.
    pub fn is_of_the_machine(&self) -> bool {
        match self {
            Error::Call(error) => !matches!(error.errno, Errno::NOEXEC | Errno::INVAL | Errno::IO),
            Error::CommandLine { .. } | Error::Forbidden(_) => true,
            _ => false,
        }
    }
}

impl RootKernel {
    /// Finds and checks the kernel of the root mounted at `root`.
    ///
    /// # Errors
    /// Anything but [`Error::Forbidden`] and [`Error::CommandLine`].
    pub fn find(root: &Path) -> Result<Self, Error> {
        let dir = sys_mount::open_dir_path(root)?;
        for (kernel, initrd) in PLACES {
            let Some((kernel, path)) = open(root, dir.as_fd(), Path::new(kernel))? else {
                continue;
            };
            let initrd = open(root, dir.as_fd(), Path::new(initrd))?.map(|(file, _)| file);
            return Self::check(dir.as_fd(), kernel, path, initrd);
        }
        Err(Error::None)
    }

    fn check(
        root: BorrowedFd<'_>,
        mut kernel: File,
        path: PathBuf,
        initrd: Option<File>,
    ) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(release) = name.strip_prefix("vmlinuz-").filter(|r| !r.is_empty()) else {
            return Err(Error::NoRelease(path));
        };
        let release = release.to_owned();
        let Some(image) = read_image(&mut kernel)? else {
            return Err(Error::NotKernel(path));
        };
        if image.release != release {
            return Err(Error::WrongRelease {
                path,
                named: release,
                inside: image.release,
            });
        }
        if !has_modules(root, &release) {
            return Err(Error::NoModules(release));
        }
        let cmdline_max = image.cmdline_max;
        Ok(Self {
            release,
            path,
            has_initrd: initrd.is_some(),
            kernel,
            initrd,
            cmdline_max,
        })
    }

    /// Loads it with `cmdline`, ready for the jump.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::CommandLine`], or the call's.
    pub fn load(&self, cmdline: &str) -> Result<(), Error> {
        // The kernel's limit counts the NUL.
        if cmdline.len() >= self.cmdline_max {
            return Err(Error::CommandLine {
                length: cmdline.len(),
                max: self.cmdline_max - 1,
            });
        }
        if let Some(forbidden) = forbidden_here() {
            return Err(Error::Forbidden(forbidden));
        }
        let initrd = self.initrd.as_ref().map(AsFd::as_fd);
        sys_kexec::load(self.kernel.as_fd(), initrd, cmdline).map_err(|error| {
            match forbidden(error.errno) {
                Some(why) => Error::Forbidden(why),
                None => Error::Call(error),
            }
        })
    }
}

/// The running kernel's release, as `uname -r` prints it.
pub fn running_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// True if the root behind `root` has the modules of `release`.
pub fn has_modules(root: BorrowedFd<'_>, release: &str) -> bool {
    ["lib/modules", "usr/lib/modules"]
        .iter()
        .any(|place| sys_mount::open_in_root(root, &Path::new(place).join(release)).is_ok())
}

/// True if the root mounted at `root` has the modules of the running kernel.
///
/// # Errors
/// The root cannot be opened.
pub fn fits_running_kernel(root: &Path) -> sys::Result<bool> {
    Ok(has_modules(
        sys_mount::open_dir_path(root)?.as_fd(),
        &running_release(),
    ))
}

/// Why no kernel can be loaded here, as far as that is known before one is tried. The setting is there
/// in every kernel that was built with kexec (kernel/kexec_core.c).
pub fn forbidden_here() -> Option<Forbidden> {
    match std::fs::read_to_string("/proc/sys/kernel/kexec_load_disabled") {
        Ok(text) => (text.trim() == "1").then_some(Forbidden::Disabled),
        Err(_) => Some(Forbidden::NotBuilt),
    }
}

/// Why no kernel can be started by kexec here, found out by loading the recovery kernel in `directory` and dropping it
/// again: only then does a kernel that is locked down say whether it takes the signature. What somebody else has
/// loaded (`systemctl kexec`) is left alone, and nothing is found out.
pub fn forbidden_by_trial(directory: &Path) -> Option<Forbidden> {
    const LOADED: &str = "/sys/kernel/kexec_loaded";
    let loaded = std::fs::read_to_string(LOADED).is_ok_and(|text| text.trim() != "0");
    let known = forbidden_here();
    if known.is_some() || loaded {
        return known;
    }
    match load_recovery(directory, "") {
        Ok(()) => {
            if let Err(error) = sys_kexec::unload() {
                log::warn!("the recovery kernel stays loaded: {error}");
            }
            None
        }
        Err(Error::Forbidden(why)) => Some(why),
        // That says nothing about kexec.
        Err(_) => None,
    }
}

fn forbidden(errno: Errno) -> Option<Forbidden> {
    match errno {
        Errno::NOSYS => Some(Forbidden::NotBuilt),
        Errno::PERM | Errno::ACCESS => Some(Forbidden::NotPermitted),
        Errno::KEYREJECTED | Errno::NOKEY | Errno::NODATA | Errno::BADMSG => {
            Some(Forbidden::Signature)
        }
        _ => None,
    }
}

/// Opens a file of the root for reading, links resolved inside it, and tells its path there.
fn open(root: &Path, dir: BorrowedFd<'_>, path: &Path) -> Result<Option<(File, PathBuf)>, Error> {
    let found: OwnedFd = match sys_mount::open_in_root(dir, path) {
        Ok(found) => found,
        Err(error) if error.errno == Errno::NOENT => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    let absolute = std::fs::read_link(&link)
        .map_err(|error| sys::Error::from_io(format!("readlink({link:?})"), &error))?;
    let root = std::fs::canonicalize(root)
        .map_err(|error| sys::Error::from_io(format!("realpath({root:?})"), &error))?;
    let inside = absolute.strip_prefix(&root).unwrap_or(&absolute).to_owned();
    // The opening of a FIFO would wait for ever.
    let mode = rustix::fs::fstat(&found)
        .call(|| format!("fstat({absolute:?})"))?
        .st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Err(Error::NotFile(inside));
    }
    let file = File::open(&link)
        .map_err(|error| sys::Error::from_io(format!("open({absolute:?})"), &error))?;
    Ok(Some((file, inside)))
}

struct Image {
    release: String,
    cmdline_max: usize,
}

/// Reads the header of a bzImage: Documentation/arch/x86/boot.rst, fields `header` (0x202),
/// `kernel_version` (0x20e, from 0x200), `cmdline_size` (0x238).
fn read_image(file: &mut File) -> Result<Option<Image>, Error> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.by_ref().take(0x10000).read_to_end(&mut head))
        .map_err(|error| sys::Error::from_io("read(kernel image)", &error))?;
    Ok(parse_image(&head))
}

fn parse_image(head: &[u8]) -> Option<Image> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = head.get(at..at + length)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| (sum << 8) | usize::from(*byte)),
        )
    };
    if head.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let version = head.get(number(0x20e, 2)? + 0x200..)?;
    let release = version.split(|byte| matches!(byte, b' ' | 0)).next()?;
    Some(Image {
        release: std::str::from_utf8(release).ok()?.to_owned(),
        // Protocol 2.06: without the NUL. kexec_file_load compares it with a length that counts the
        // NUL (arch/x86/kernel/kexec-bzimage64.c), so a line loaded that way is one byte shorter.
        cmdline_max: number(0x238, 4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn image(release: &str) -> Vec<u8> {
        let mut head = vec![0_u8; 0x1000];
        head[0x202..0x206].copy_from_slice(b"HdrS");
        head[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
        head[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
        let text = format!("{release} (builder@host) #1 SMP");
        head[0x500..0x500 + text.len()].copy_from_slice(text.as_bytes());
        head
    }

    fn root(named: &str, inside: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("boot")).unwrap();
        std::fs::create_dir_all(dir.path().join("usr/lib/modules").join(inside)).unwrap();
        std::fs::write(dir.path().join("boot").join(named), image(inside)).unwrap();
        symlink(named, dir.path().join("boot/vmlinuz")).unwrap();
        dir
    }

    #[test]
    fn the_kernel_is_the_one_that_the_link_names_if_it_says_so_itself() {
        let dir = root("vmlinuz-6.12.1-amd64", "6.12.1-amd64");
        let kernel = RootKernel::find(dir.path()).unwrap();
        assert_eq!(kernel.release, "6.12.1-amd64");
        assert_eq!(kernel.path, Path::new("boot/vmlinuz-6.12.1-amd64"));
        assert!(!kernel.has_initrd);
        assert_eq!(kernel.cmdline_max, 2047);
        assert!(matches!(
            kernel.load(&"x".repeat(2047)),
            Err(Error::CommandLine { max: 2046, .. })
        ));
    }

    #[test]
    fn a_wrong_kernel_is_refused_by_name() {
        let lying = root("vmlinuz-6.12.1", "6.12.2");
        assert!(matches!(
            RootKernel::find(lying.path()),
            Err(Error::WrongRelease { .. })
        ));
        let nameless = root("kernel", "6.12.2");
        assert!(matches!(
            RootKernel::find(nameless.path()),
            Err(Error::NoRelease(_))
        ));
        let bare = root("vmlinuz-6.12.2", "6.12.2");
        std::fs::remove_dir_all(bare.path().join("usr")).unwrap();
        assert!(matches!(
            RootKernel::find(bare.path()),
            Err(Error::NoModules(_))
        ));
        let text = root("vmlinuz-6.12.2", "6.12.2");
        std::fs::write(text.path().join("boot/vmlinuz-6.12.2"), "no kernel").unwrap();
        assert!(matches!(
            RootKernel::find(text.path()),
            Err(Error::NotKernel(_))
        ));
        let fifo = root("vmlinuz-6.12.2", "6.12.2");
        let path = fifo.path().join("boot/vmlinuz-6.12.2");
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(
            RootKernel::find(fifo.path()),
            Err(Error::NotFile(_))
        ));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(RootKernel::find(empty.path()), Err(Error::None)));
    }

    #[test]
    fn a_link_that_leads_out_of_the_root_stays_inside() {
        let dir = root("vmlinuz-6.12.1", "6.12.1");
        std::fs::remove_file(dir.path().join("boot/vmlinuz")).unwrap();
        symlink("/boot/vmlinuz-6.12.1", dir.path().join("boot/vmlinuz")).unwrap();
        assert_eq!(RootKernel::find(dir.path()).unwrap().release, "6.12.1");
    }

    #[test]
    fn what_the_kernel_forbids_is_told_from_what_fails() {
        for (errno, expected) in [
            (Errno::PERM, Some(Forbidden::NotPermitted)),
            (Errno::NOSYS, Some(Forbidden::NotBuilt)),
            (Errno::KEYREJECTED, Some(Forbidden::Signature)),
            (Errno::NOMEM, None),
            (Errno::NOEXEC, None),
        ] {
            assert_eq!(forbidden(errno), expected, "{errno:?}");
        }
    }
}
