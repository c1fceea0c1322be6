//! The confined child: what it may do, what it may not, and what its parent learns.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backstay::image::{Error, Limits, extract};
use backstay::sys::process;

use super::forge::{Block, Forge, zstd_stored, zstd_zeros};
use super::{Place, Test, peak_of_children, verified};

pub const TESTS: &[Test] = &[
    // First, because the largest child of all before it counts.
    (
        "a_hundred_gigabytes_of_zeros_are_refused_in_bounded_memory",
        a_hundred_gigabytes_of_zeros_are_refused_in_bounded_memory,
    ),
    (
        "a_million_empty_files_are_refused_in_bounded_memory",
        a_million_empty_files_are_refused_in_bounded_memory,
    ),
    (
        "ten_thousand_levels_are_refused_in_bounded_memory",
        ten_thousand_levels_are_refused_in_bounded_memory,
    ),
    (
        "owners_devices_and_special_modes_are_made",
        owners_devices_and_special_modes_are_made,
    ),
    (
        "an_archive_that_changes_after_it_was_verified_is_refused",
        an_archive_that_changes_after_it_was_verified_is_refused,
    ),
    (
        "the_child_filters_its_calls_and_leaves_nothing_open",
        the_child_filters_its_calls_and_leaves_nothing_open,
    ),
    (
        "many_files_in_few_bytes_are_told_of_while_they_are_made",
        many_files_in_few_bytes_are_told_of_while_they_are_made,
    ),
    (
        "the_child_ends_with_its_parent",
        the_child_ends_with_its_parent,
    ),
    (
        "an_error_of_the_child_arrives_as_itself",
        an_error_of_the_child_arrives_as_itself,
    ),
    (
        "an_absolute_link_leads_out_of_nothing",
        an_absolute_link_leads_out_of_nothing,
    ),
];

/// More than the child may hold, in KiB.
const MEMORY: i64 = 64 * 1024;

fn a_hundred_gigabytes_of_zeros_are_refused_in_bounded_memory() {
    // 60 GB would fit the limit: the zeros go into a file until a lower one ends it.
    let header = Block::new(b'0', "zeros")
        .gnu()
        .raw(124, &[0x80, 0, 0, 0])
        .raw(128, &60_000_000_000u64.to_be_bytes());
    let archive = zstd_zeros(&Forge::new().push(header, b"").0, 800_000);
    let place = Place::fresh();
    let limits = Limits {
        bytes: 200 << 20,
        ..Limits::default()
    };
    let error = place.extract(&archive, &limits).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    // After the end of the archive, as padding: 800,000 blocks of 128 KiB are read in vain.
    let archive = zstd_zeros(&Forge::new().file("f", b"").end(), 800_000);
    let error = Place::fresh().extract(&archive, &limits).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    assert!(peak_of_children() < MEMORY, "{} KiB", peak_of_children());
}

fn a_million_empty_files_are_refused_in_bounded_memory() {
    use std::io::Write;
    let place = Place::fresh();
    // What this process holds when it forks counts as the child's, so nothing is held.
    let mut zstd = Command::new("zstd")
        .args(["-q", "-1", "-o"])
        .arg(place.path("archive"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = zstd.stdin.take().unwrap();
    for number in 0..1_000_000 {
        let file = Forge::new().file(&format!("d/{number}"), b"");
        to.write_all(&file.0).unwrap();
    }
    to.write_all(&[0; 1024]).unwrap();
    drop(to);
    assert!(zstd.wait().unwrap().success());
    let limits = Limits {
        entries: 20_000,
        ..Limits::default()
    };
    let verified = verified(&place.path("archive"));
    let error = place.extract_verified(&verified, &limits).unwrap_err();
    assert!(error.to_string().contains("more entries"), "{error}");
    assert!(peak_of_children() < MEMORY, "{} KiB", peak_of_children());
}

fn ten_thousand_levels_are_refused_in_bounded_memory() {
    let mut forge = Forge::new();
    let mut path = String::new();
    for level in 0..10_000 {
        path.push_str("d/");
        // Later paths pass the limit of a path, too; the archive stays small.
        if level < 1000 {
            forge = forge.pax(&[("path", path.as_bytes())]).directory("d");
        }
    }
    forge = forge.pax(&[("path", path.as_bytes())]).directory("d");
    let error = Place::fresh().extract(&forge.end(), &Limits::default());
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("directories in one another"),
        "{error}"
    );
    assert!(peak_of_children() < MEMORY, "{} KiB", peak_of_children());
}

fn owners_devices_and_special_modes_are_made() {
    let archive = Forge::new()
        .push(Block::new(b'5', ".").mode(0o755).owner(0, 0), b"")
        .push(Block::new(b'5', "tmp").mode(0o1777).owner(0, 0), b"")
        .push(Block::new(b'5', "mail").mode(0o2775).owner(0, 8), b"")
        .push(
            Block::new(b'0', "mail/box")
                .mode(0o600)
                .owner(1000, 8)
                .size(1),
            b"x",
        )
        .push(Block::new(b'0', "su").mode(0o4755).owner(0, 0), b"")
        .push(Block::new(b'0', "wall").mode(0o2755).owner(0, 5), b"")
        .push(Block::new(b'3', "null").mode(0o666).device(1, 3), b"")
        .push(
            Block::new(b'4', "disk")
                .mode(0o660)
                .owner(0, 6)
                .device(259, 65536),
            b"",
        )
        .push(Block::new(b'6', "fifo").mode(0o600).owner(7, 7), b"")
        .push(Block::new(b'2', "link").link("su").owner(1000, 1000), b"")
        .end();
    let place = Place::fresh();
    place.extract(&archive, &Limits::default()).unwrap();
    for (name, mode, uid, gid) in [
        ("tmp", 0o041_777, 0, 0),
        ("mail", 0o042_775, 0, 8),
        ("mail/box", 0o100_600, 1000, 8),
        ("su", 0o104_755, 0, 0),
        ("wall", 0o102_755, 0, 5),
        ("null", 0o020_666, 0, 0),
        ("disk", 0o060_660, 0, 6),
        ("fifo", 0o010_600, 7, 7),
        ("link", 0o120_777, 1000, 1000),
    ] {
        let made = fs::symlink_metadata(place.root().join(name)).unwrap();
        assert_eq!(
            (made.mode(), made.uid(), made.gid()),
            (mode, uid, gid),
            "{name}"
        );
        assert_eq!(made.mtime(), 1_700_000_000, "{name}");
    }
    let disk = fs::symlink_metadata(place.root().join("disk")).unwrap();
    assert!(disk.file_type().is_block_device());
    assert_eq!(disk.rdev(), rustix::fs::makedev(259, 65536));
}

fn an_archive_that_changes_after_it_was_verified_is_refused() {
    let content = vec![b'a'; 5 << 20];
    let whole = Forge::new().file("first", b"1").file("f", &content).end();
    let last = whole.len() - 2000;
    type Change = fn(&mut Vec<u8>, usize);
    let changes: [(&str, Change); 5] = [
        ("a byte", |bytes, at| bytes[at] ^= 1),
        ("the first header", |bytes, _| bytes[0] ^= 1),
        ("shorter", |bytes, at| bytes.truncate(at)),
        ("longer", |bytes, _| bytes.extend([0; 512])),
        ("empty", |bytes, _| bytes.clear()),
    ];
    for packed in [whole.clone(), zstd_stored(&whole)] {
        for (what, change) in changes {
            let place = Place::fresh();
            let verified = place.verified(&packed);
            let mut bytes = packed.clone();
            change(&mut bytes, last);
            fs::write(place.path("archive"), &bytes).unwrap();
            let extracted = place.extract_verified(&verified, &Limits::default());
            assert!(
                matches!(extracted, Err(Error::Changed { .. })),
                "{what}: {extracted:?}"
            );
        }
    }
    // Another file by the same name changes nothing: it is open.
    let place = Place::fresh();
    let verified = place.verified(&whole);
    fs::remove_file(place.path("archive")).unwrap();
    fs::write(place.path("archive"), "another").unwrap();
    place
        .extract_verified(&verified, &Limits::default())
        .unwrap();
}

fn the_child_filters_its_calls_and_leaves_nothing_open() {
    let place = Place::fresh();
    let extracted = place.extract(&Forge::new().file("f", b"").end(), &Limits::default());
    let extracted = extracted.unwrap();
    assert!(extracted.filtered, "this kernel has no seccomp");
    assert_eq!(extracted.entries, 1);
    // The child is gone: there is no other.
    assert!(nix::sys::wait::wait().is_err());
}

fn many_files_in_few_bytes_are_told_of_while_they_are_made() {
    let place = Place::fresh();
    let many = (0..100_000).fold(Forge::new(), |forge, number| {
        forge.file(&format!("d/{number}"), b"")
    });
    fs::write(place.path("archive"), many.end()).unwrap();
    let packed = Command::new("zstd")
        .args(["-q", "-1", "--rm"])
        .arg(place.path("archive"))
        .status();
    assert!(packed.unwrap().success());
    let verified = verified(&place.path("archive.zst"));
    let root = File::open(place.root()).unwrap();
    let start = Instant::now();
    let (mut told, mut longest, mut made) = (start, Duration::ZERO, 0);
    extract(&verified, root.as_fd(), &Limits::default(), &mut |now| {
        longest = longest.max(told.elapsed());
        (told, made) = (Instant::now(), now.made);
    })
    .unwrap();
    longest = longest.max(told.elapsed());
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    // What takes no second has nothing to tell.
    assert!(made > 0 || start.elapsed() < Duration::from_secs(2));
}

fn the_child_ends_with_its_parent() {
    // Minutes of work that leave nothing on the disk.
    let archive = zstd_zeros(&Forge::new().file("f", b"").end(), 800_000);
    let place = Place::fresh();
    let verified = place.verified(&archive);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let parent = process::fork(|| {
        let limits = Limits {
            bytes: u64::MAX,
            ..Limits::default()
        };
        let root = File::open(place.root()).unwrap();
        let _ = extract(&verified, root.as_fd(), &limits, &mut |_| {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        });
        0
    });
    let killed = process::Ended::Signal(libc::SIGKILL);
    assert_eq!(process::reap(), Ok((parent.unwrap(), killed)));
    let (_, child) = process::reap().unwrap();
    rustix::process::set_child_subreaper(None).unwrap();
    assert_eq!(child, killed);
}

fn an_error_of_the_child_arrives_as_itself() {
    let place = Place::fresh();
    fs::write(place.root().join("theirs"), "").unwrap();
    let archive = Forge::new().end();
    let extracted = place.extract(&archive, &Limits::default());
    assert_eq!(extracted, Err(Error::NotEmpty));
    let archive = Forge::new().file("../f", b"").end();
    let error = Place::fresh().extract(&archive, &Limits::default());
    assert!(matches!(error, Err(Error::Refused { .. })), "{error:?}");
}

fn an_absolute_link_leads_out_of_nothing() {
    let place = Place::fresh();
    fs::write(place.path("secret"), "secret").unwrap();
    let secret = place.path("secret");
    for target in [secret.to_str().unwrap(), "/etc"] {
        let place = Place::fresh();
        let archive = Forge::new()
            .symlink("out", target)
            .file("out/owned", b"")
            .end();
        let extracted = place.extract(&archive, &Limits::default());
        assert!(
            matches!(extracted, Err(Error::Refused { .. })),
            "{extracted:?}"
        );
    }
    assert_eq!(fs::read(secret).unwrap(), b"secret");
    assert!(!fs::exists("/etc/owned").unwrap());
}
