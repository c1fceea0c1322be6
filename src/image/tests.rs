//! Whole archives, without root: what is made, and how what is no archive ends.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use super::archive::Form;
use super::attacks::Scene;
use super::error::Error;
use super::forge::{Block, Forge, zstd_stored, zstd_zeros};
use super::limits::Limits;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::fast();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn several() -> Forge {
    Forge::new()
        .push(Block::new(b'5', "./").mode(0o751).mtime(7), b"")
        .directory("etc")
        .push(
            Block::new(b'0', "etc/passwd").mode(0o600).size(5).mtime(9),
            b"root\n",
        )
        .symlink("etc/mtab", "../proc/self/mounts")
        .hard_link("etc/passwd-", "etc/passwd")
        .file("implied/by/name", &[b'x'; 70_000])
        .push(Block::new(b'6', "pipe").mode(0o622), b"")
        .push(Block::new(b'5', "etc").mode(0o700).mtime(8), b"")
}

#[test]
fn what_is_in_an_archive_is_made_with_its_metadata() {
    let scene = Scene::new();
    let written = scene.extract(&several().end()).unwrap();
    assert_eq!(written.entries, 8);
    let root = scene.root();
    let look = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    assert_eq!((look("").mode() & 0o7777, look("").mtime()), (0o751, 7));
    assert_eq!(
        (look("etc").mode() & 0o7777, look("etc").mtime()),
        (0o700, 8)
    );
    let file = look("etc/passwd");
    assert_eq!(
        (file.mode() & 0o7777, file.mtime(), file.nlink()),
        (0o600, 9, 2)
    );
    assert_eq!(look("etc/passwd-").ino(), file.ino());
    assert_eq!(look("implied").mode() & 0o777, 0o700);
    assert_eq!(look("implied/by/name").len(), 70_000);
    assert_eq!(look("pipe").mode(), 0o010_622);
    assert_eq!(
        fs::read_link(root.join("etc/mtab")).unwrap().to_str(),
        Some("../proc/self/mounts")
    );
}

#[test]
fn a_link_or_a_pipe_may_have_several_names() {
    let scene = Scene::new();
    let archive = Forge::new()
        .symlink("l", "nowhere")
        .push(Block::new(b'6', "pipe"), b"")
        .directory("d")
        .hard_link("d/l", "l")
        .hard_link("d/pipe", "pipe")
        .end();
    scene.extract(&archive).unwrap();
    for name in ["l", "pipe"] {
        let look = |path: String| fs::symlink_metadata(scene.root().join(path)).unwrap();
        let (one, other) = (look(name.to_owned()), look(format!("d/{name}")));
        assert_eq!((one.ino(), one.nlink()), (other.ino(), 2), "{name}");
        assert_eq!(one.mtime(), 1_700_000_000, "{name}");
    }
}

#[test]
fn each_form_of_compression_and_their_concatenation_is_the_same_archive() {
    let plain = several().end();
    let (start, rest) = plain.split_at(plain.len() / 3);
    let skippable = [b"\x50\x2a\x4d\x18\x03\0\0\0abc", &zstd_stored(&plain)[..]].concat();
    for archive in [
        zstd_stored(&plain),
        [zstd_stored(start), zstd_stored(rest)].concat(),
        skippable,
        gzip(&plain),
        [gzip(start), gzip(rest)].concat(),
        // gzip pads with zeros to a tape's block.
        [gzip(&plain), vec![0; 300]].concat(),
        [&plain[..], &[0; 9000]].concat(),
    ] {
        assert_eq!(Scene::new().extract(&archive).unwrap().entries, 8);
    }
}

#[test]
fn an_archive_that_is_cut_short_anywhere_is_refused() {
    let plain = several().end();
    // The second of the two blocks of zeros is an end, too.
    for (whole, must) in [
        (plain.clone(), plain.len() - 512),
        (zstd_stored(&plain), usize::MAX),
        (gzip(&plain), usize::MAX),
    ] {
        let step = whole.len() / 150 + 1;
        let near_the_end = whole.len() - 40..whole.len();
        for cut in (512..whole.len()).step_by(step).chain(near_the_end) {
            let extracted = Scene::new().extract(&whole[..cut]);
            assert!(
                extracted.is_err(),
                "{cut} of {} bytes ({must})",
                whole.len()
            );
        }
    }
}

#[test]
fn what_follows_the_end_is_refused_and_not_passed_over() {
    let plain = several().end();
    let second = [&plain[..], &plain].concat();
    let one_block = [&several().0[..], &[0; 512], &plain].concat();
    for archive in [
        second.clone(),
        one_block,
        zstd_stored(&second),
        [&zstd_stored(&plain)[..], b"x"].concat(),
        [&zstd_stored(&plain)[..], b"garbage behind"].concat(),
        [&zstd_stored(&plain)[..], &[0; 16]].concat(),
        [&gzip(&plain)[..], b"garbage"].concat(),
    ] {
        let error = Scene::new().extract(&archive).unwrap_err();
        assert!(matches!(error, Error::Trailing { .. }), "{error}");
    }
}

#[test]
fn flipped_bits_never_reach_outside_and_never_panic() {
    let plain = several().end();
    for whole in [zstd_stored(&plain), gzip(&plain), plain] {
        for at in (0..whole.len()).step_by(whole.len() / 200 + 1) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let scene = Scene::new();
            let _ = scene.extract(&flipped);
            assert!(scene.is_safe());
        }
    }
}

#[test]
fn a_window_that_is_too_large_is_refused_before_it_is_allocated() {
    // 0xa8: 2 GiB; 0x80: 64 MiB.
    for window in [0xa8, 0x80] {
        let mut frame = zstd_zeros(&Forge::new().end(), 1);
        frame[5] = window;
        let error = Scene::new().extract(&frame).unwrap_err();
        assert!(matches!(error, Error::Window { .. }), "{error}");
        assert!(error.to_string().contains("without --long"), "{error}");
    }
}

#[test]
fn entries_that_mean_nothing_or_two_things_are_refused() {
    let file = || Block::new(b'0', "f");
    let cases = [
        (Forge::new().file("f", b"").file("f", b""), "the same name"),
        (Forge::new().directory("f").file("f", b""), "the same name"),
        (Forge::new().file("f", b"").directory("f"), "something else"),
        (
            Forge::new().file("f", b"").file("f/g", b""),
            "something else",
        ),
        (Forge::new().hard_link("g", "f"), "no file that came"),
        (
            Forge::new().directory("d").hard_link("g", "d"),
            "no file that came",
        ),
        (
            Forge::new()
                .push(Block::new(b'7', "f").size(0), b"")
                .hard_link("f", "f"),
            "the same name",
        ),
        (Forge::new().file("f/", b""), "ends in '/'"),
        (Forge::new().file(".", b""), "the root and no directory"),
        (
            Forge::new().push(Block::new(b'5', "d").size(512), &[0; 512]),
            "said to have data",
        ),
        (
            Forge::new().push(Block::new(b'1', "l").link("f").size(3), b"abc"),
            "said to have data",
        ),
        (
            Forge::new().push(Block::new(b'V', "volume"), b""),
            "without --label (-V)",
        ),
        (
            Forge::new().push(Block::new(b'V', "volume").raw(257, &[0; 8]), b""),
            "without --label (-V)",
        ),
        (Forge::new().push(Block::new(b'M', "part"), b""), "its type"),
        (
            Forge::new().push(Block::new(b'A', "solaris"), b""),
            "its type",
        ),
        (
            Forge::new().push(file().raw(108, b"-000001\0"), b""),
            "its owner",
        ),
        (
            Forge::new().push(file().raw(100, b"rw-r--r-"), b""),
            "its mode",
        ),
        (
            Forge::new()
                .directory("d")
                .push(file().raw(257, b"\0\0\0\0\0\0\0\0"), b""),
            "--format=posix",
        ),
        (
            Forge::new().push(Block::new(b'3', "dev").device(0x1000, 0), b""),
            "larger than Linux",
        ),
        (Forge::new().pax(&[("path", b"a")]), "belongs to nothing"),
        (Forge::new().symlink("l", ""), "no possible name"),
    ];
    for (forge, words) in cases {
        let scene = Scene::new();
        let error = scene.extract(&forge.end()).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
        assert!(scene.is_safe());
    }
    let before_posix = Forge::new().push(file().raw(257, &[0; 8]), b"").end();
    for archive in [before_posix.clone(), gzip(&before_posix)] {
        let error = Form::recognise(&archive).map(|_| Scene::new().extract(&archive).unwrap_err());
        let error = error.unwrap().to_string();
        assert!(error.contains("'tar --format=posix'"), "{error}");
    }
    let label = Block::new(b'g', "label").size(27);
    let label = Forge::new().push(label, b"27 GNU.volume.label=system\n");
    let error = Scene::new().extract(&label.end()).unwrap_err().to_string();
    assert!(error.contains("without --label (-V)"), "{error}");
    let key = Block::new(b'x', "x").size(25);
    let key = Forge::new().push(key, b"25 SCHILY.xattr.user.\xe9=1\n");
    let key = key.file("etc/cafe", b"").end();
    let error = Scene::new().extract(&key).unwrap_err().to_string();
    assert!(
        error.contains("etc/cafe") && error.contains("--xattrs-exclude"),
        "{error}"
    );
    let mut sum = Forge::new().file("f", b"").end();
    sum[0] = b'g';
    let error = Scene::new().extract(&sum).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
    let filled = Scene::new();
    fs::write(filled.root().join("x"), "").unwrap();
    assert_eq!(filled.extract(&several().end()), Err(Error::NotEmpty));
}

#[test]
fn sparse_files_have_holes_and_their_content_is_right_in_each_form() {
    let mut expected = vec![0; 3 << 20];
    expected[1 << 20..(1 << 20) + 4096].fill(b'a');
    expected[2 << 20..(2 << 20) + 4096].fill(b'b');
    let data = [[b'a'; 4096], [b'b'; 4096]].concat();
    let map = "1048576,4096,2097152,4096,3145728,0";
    let numbers: Vec<&str> = map.split(',').collect();
    let pairs: Vec<(&str, &[u8])> = numbers
        .iter()
        .enumerate()
        .map(|(at, number)| {
            let key = ["GNU.sparse.offset", "GNU.sparse.numbytes"][at % 2];
            (key, number.as_bytes())
        })
        .collect();
    let size: (&str, &[u8]) = ("GNU.sparse.size", b"3145728");
    let zero_zero = [&[size, ("GNU.sparse.numblocks", &b"3"[..])][..], &pairs].concat();
    let name: (&str, &[u8]) = ("GNU.sparse.name", b"sparse");
    let zero_one = [size, ("GNU.sparse.map", map.as_bytes()), name];
    let one_zero = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"3145728"),
        name,
    ];
    let mut text = format!("3\n{}\n", map.replace(',', "\n")).into_bytes();
    text.resize(512, 0);
    let mut old = Block::new(b'S', "sparse").gnu().size(8192);
    for (at, number) in numbers.iter().enumerate() {
        let octal = format!("{:011o}\0", number.parse::<u64>().unwrap());
        old = old.raw(386 + 12 * at, octal.as_bytes());
    }
    let old = old.raw(483, b"00014000000\0");
    for forge in [
        Forge::new().pax(&zero_zero).file("sparse", &data),
        Forge::new().pax(&zero_one).file("GNUSparseFile.1/x", &data),
        Forge::new()
            .pax(&one_zero)
            .file("GNUSparseFile.1/x", &[text, data.clone()].concat()),
        Forge::new().push(old, &data),
    ] {
        let scene = Scene::new();
        scene.extract(&forge.end()).unwrap();
        let path = scene.root().join("sparse");
        assert!(fs::read(&path).unwrap() == expected);
        // In blocks of 512: two pages, and what the file system adds.
        assert!(fs::metadata(&path).unwrap().blocks() < 200);
    }
}

#[test]
fn long_names_in_each_form_are_whole() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let target = "t".repeat(300);
    let prefix = Block::new(b'0', "name").raw(345, &[b'p'; 155]);
    let archive = Forge::new()
        .push(prefix, b"")
        .long(b'L', &long)
        .push(Block::new(b'0', "cut").gnu().size(1), b"1")
        .long(b'K', &target)
        .long(b'L', &format!("{long}2"))
        .push(Block::new(b'2', "cut").gnu().link("cut"), b"")
        .pax(&[
            ("path", format!("{long}3").as_bytes()),
            ("linkpath", target.as_bytes()),
        ])
        .symlink("cut", "cut")
        .end();
    let scene = Scene::new();
    scene.extract(&archive).unwrap();
    let root = scene.root();
    assert!(root.join("p".repeat(155)).join("name").exists());
    assert_eq!(fs::read(root.join(&long)).unwrap(), b"1");
    for name in [format!("{long}2"), format!("{long}3")] {
        let link = fs::read_link(root.join(name)).unwrap();
        assert_eq!(link.to_str(), Some(target.as_str()));
    }
}

#[test]
fn times_of_any_century_are_kept_to_the_nanosecond() {
    let cases: [(&[u8], i64, i64); 4] = [
        (b"1700000000.123456789", 1_700_000_000, 123_456_789),
        (b"-1.5", -2, 500_000_000),
        (b"-86400", -86400, 0),
        (b"9999999999", 9_999_999_999, 0),
    ];
    for (text, seconds, nanoseconds) in cases {
        let scene = Scene::new();
        let archive = Forge::new().pax(&[("mtime", text)]).file("f", b"").end();
        scene.extract(&archive).unwrap();
        let made = fs::metadata(scene.root().join("f")).unwrap();
        assert_eq!((made.mtime(), made.mtime_nsec()), (seconds, nanoseconds));
    }
}

#[test]
fn limits_have_defaults_that_a_system_fits_in() {
    let limits = Limits::default();
    assert!(limits.entries > 500_000 && limits.window >= 8 << 20 && limits.depth >= 128);
}
