//! Any bytes as a system's archive, decompressed, parsed and extracted into a fresh directory.
//!
//! As root the process first makes a directory its root, so that nothing else can be harmed. In the top
//! directory, `cargo test --test image -- --seeds fuzz/corpus/archive` (once), then
//! `ASAN_OPTIONS=detect_leaks=0 cargo +nightly fuzz run archive fuzz/corpus/archive -- -max_len=65536
//! -rss_limit_mb=1024 -print_funcs=0`: the corpus by a relative path, and nothing that looks at /proc, because
//! of the new root.
//!
//! A header's checksum is mended before it is tried, or hardly an input would come past it: the first
//! byte says whether.

#![no_main]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use backstay::image::{Limits, in_one_thread};
use libfuzzer_sys::fuzz_target;

/// A directory that is the process's root where it may be, on a file system in memory.
fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        rustix::process::umask(rustix::fs::Mode::empty());
        let shared = Path::new("/dev/shm");
        let under = if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() };
        let top = tempfile::tempdir_in(under).unwrap().keep();
        std::fs::create_dir(top.join("outside")).unwrap();
        std::fs::write(top.join("outside/secret"), "secret").unwrap();
        if rustix::process::geteuid().is_root() {
            // The current directory stays where it is, outside: the engine's corpus and what it finds
            // are named from there.
            rustix::process::chroot(&top).unwrap();
            return PathBuf::from("/");
        }
        top
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((mend, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mend & 1 == 1 {
        mend_checksums(&mut bytes);
    }
    let place = place();
    let root = place.join("root");
    std::fs::create_dir(&root).unwrap();
    let limits = Limits {
        entries: 200,
        bytes: 4 << 20,
        // tmpfs has its own limits
        file_length: 1 << 30,
        window: 1 << 20,
        ..Limits::default()
    };
    let directory = File::open(&root).unwrap();
    let extracted = in_one_thread(&bytes, directory.as_fd(), &limits);
    if let Err(error) = extracted {
        let text = error.to_string();
        assert!(text.len() < 2000 && !text.contains('\n'), "{text}");
    }
    let outside = place.join("outside");
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(place).unwrap().count(), 2);
    remove(&root);
});

/// Gives every block that looks like a header the checksum that it should have.
fn mend_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// Removes a tree whose directories may have any mode.
fn remove(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700));
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
    }
    std::fs::remove_dir_all(root).unwrap();
}
