//! Archives that broke other programs, each with something outside that must stay as it is.
//!
//! Most patterns are tried on a naive extractor too, which does what those programs did: there the
//! attack must succeed, or the archive would prove nothing.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::forge::{Block, Forge};
use super::limits::Limits;
use super::pipeline::in_one_thread;
use super::write::Written;

/// A directory to extract into, and beside it what an attacker is after.
pub struct Scene {
    top: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Scene {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("root")).unwrap();
        fs::create_dir(top.path().join("outside")).unwrap();
        fs::write(top.path().join("outside/secret"), "secret").unwrap();
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(top.path().join("outside"), private).unwrap();
        Scene { top }
    }

    pub fn root(&self) -> PathBuf {
        self.top.path().join("root")
    }

    pub fn outside(&self) -> PathBuf {
        self.top.path().join("outside")
    }

    pub fn extract(&self, archive: &[u8]) -> Result<Written, Error> {
        self.extract_within(archive, &Limits::default())
    }

    pub fn extract_within(&self, archive: &[u8], limits: &Limits) -> Result<Written, Error> {
        rustix::process::umask(rustix::fs::Mode::empty());
        let root = File::open(self.root()).unwrap();
        in_one_thread(archive, root.as_fd(), limits)
    }

    /// Whether nothing outside was touched, and the secret has no second name.
    pub fn is_safe(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let outside = self.outside();
        let names: Vec<_> = fs::read_dir(&outside)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        let secret = fs::symlink_metadata(outside.join("secret"));
        names == ["secret"]
            && fs::read(outside.join("secret")).unwrap() == b"secret"
            && secret.unwrap().nlink() == 1
            && fs::metadata(&outside).unwrap().mode() & 0o777 == 0o700
            && fs::read_dir(self.top.path()).unwrap().count() == 2
    }

    /// The archive is refused, and everything outside is as it was.
    fn withstands(archive: &[u8]) -> String {
        let scene = Scene::new();
        let error = scene.extract(archive).unwrap_err();
        assert!(scene.is_safe(), "{error}");
        error.to_string()
    }

    /// The same, and a naive extractor falls for it.
    fn withstands_and_others_do_not(make: impl Fn(&Scene) -> Vec<u8>) -> String {
        let scene = Scene::new();
        naive(&make(&scene), &scene.root());
        assert!(!scene.is_safe(), "the archive harms nobody");
        let scene = Scene::new();
        let error = scene.extract(&make(&scene)).unwrap_err();
        assert!(scene.is_safe(), "{error}");
        error.to_string()
    }
}

/// Joins names to the root and trusts the system calls that take paths, as libraries without openat
/// do. Errors are passed over.
fn naive(archive: &[u8], root: &Path) {
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0);
        String::from_utf8(field[..end.unwrap_or(field.len())].to_vec()).unwrap()
    };
    let octal = |field: &[u8]| u64::from_str_radix(&text(field), 8).unwrap_or(0);
    let (mut at, mut long_link) = (0, None);
    while archive.get(at).is_some_and(|byte| *byte != 0) {
        let header = &archive[at..at + 512];
        let size = usize::try_from(octal(&header[124..136])).unwrap();
        let data = &archive[at + 512..at + 512 + size];
        at += 512 + size.next_multiple_of(512);
        let path = root.join(text(&header[..100]));
        let link = long_link.take().unwrap_or_else(|| text(&header[157..257]));
        let mode = u32::try_from(octal(&header[100..108])).unwrap();
        let _ = path.parent().map(fs::create_dir_all);
        match header[156] {
            b'x' => {
                let text = String::from_utf8_lossy(data).into_owned();
                long_link = text
                    .split_once("linkpath=")
                    .map(|(_, link)| link.trim().to_owned());
            }
            b'5' => {
                let _ = fs::create_dir(&path);
                if path.is_dir() {
                    let _ = fs::set_permissions(&path, fs::Permissions::from_mode(mode));
                }
            }
            b'2' => {
                let _ = symlink(link, &path);
            }
            b'1' => {
                // link(2) follows the links on the way to the last component.
                let _ = fs::hard_link(root.join(link), &path);
            }
            _ => {
                let _ = fs::write(&path, data);
            }
        }
    }
}

#[test]
fn cve_2026_33056_a_directory_entry_does_not_change_what_a_link_points_to() {
    let error = Scene::withstands_and_others_do_not(|scene| {
        let outside = scene.outside();
        Forge::new()
            .symlink("d", outside.to_str().unwrap())
            .push(Block::new(b'5', "d").mode(0o777), b"")
            .end()
    });
    assert!(error.contains("something else"), "{error}");
}

#[test]
fn cve_2026_33055_a_size_that_is_stated_twice_differently_is_refused() {
    // Who believes the header sees "hidden", who believes PAX sees a file of 1024 bytes.
    let inner = Forge::new().file("hidden", b"").0;
    let archive = Forge::new()
        .pax(&[("size", b"1024")])
        .push(Block::new(b'0', "shown").size(512), &[b'.'; 512])
        .data(&inner)
        .end();
    let error = Scene::withstands(&archive);
    assert!(error.contains("stated twice"), "{error}");
}

#[test]
fn ghsa_3pv8_6f4r_ffg2_an_extended_header_is_for_the_entry_and_not_for_its_long_name() {
    // Applied to the long name's own header, the size would swallow the file's header.
    let name = format!("{}/file", "d".repeat(120));
    let archive = Forge::new()
        .pax(&[("size", b"512")])
        .long(b'L', &name)
        .push(Block::new(b'0', "short").gnu(), &[b'x'; 512])
        .end();
    let scene = Scene::new();
    assert_eq!(scene.extract(&archive).unwrap().entries, 1);
    assert_eq!(fs::read(scene.root().join(&name)).unwrap(), [b'x'; 512]);
    assert_eq!(fs::read_dir(scene.root()).unwrap().count(), 1);
    // Two long names in two dialects: which one is it?
    let both = Forge::new()
        .pax(&[("path", b"one")])
        .long(b'L', "two")
        .file("three", b"")
        .end();
    assert!(Scene::withstands(&both).contains("of both kinds"));
}

#[test]
fn cve_2025_62518_an_archive_within_an_archive_stays_a_files_content() {
    let inner = Forge::new().file("smuggled", b"evil").end();
    let size = inner.len().to_string();
    let archive = Forge::new()
        .pax(&[("size", size.as_bytes())])
        .push(Block::new(b'0', "inner.tar"), &inner)
        .file("after", b"")
        .end();
    let scene = Scene::new();
    assert_eq!(scene.extract(&archive).unwrap().entries, 2);
    assert_eq!(fs::read(scene.root().join("inner.tar")).unwrap(), inner);
    assert!(!scene.root().join("smuggled").exists());
    // Who believes the header's size of 0 finds the smuggled file.
    let naive_scene = Scene::new();
    naive(&archive, &naive_scene.root());
    assert!(naive_scene.root().join("smuggled").exists());
    // A size in base 256 whose upper bytes a reader drops, and a negative one.
    for size in [
        &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[0xff; 12][..],
    ] {
        let archive = Forge::new()
            .push(Block::new(b'0', "f").gnu().raw(124, size), b"")
            .end();
        assert!(Scene::withstands(&archive).contains("no number"));
    }
}

#[test]
fn cve_2026_23745_a_hard_link_to_an_absolute_or_upward_name_is_refused() {
    Scene::withstands_and_others_do_not(|scene| {
        let secret = scene.outside().join("secret");
        Forge::new()
            .pax(&[("linkpath", secret.to_str().unwrap().as_bytes())])
            .push(Block::new(b'1', "steal"), b"")
            .end()
    });
    Scene::withstands_and_others_do_not(|_| {
        Forge::new().hard_link("steal", "../outside/secret").end()
    });
    // A link that is no hard link may point where it likes: nothing here follows it.
    let scene = Scene::new();
    let archive = Forge::new().symlink("etc", "/etc").end();
    scene.extract(&archive).unwrap();
    assert_eq!(
        fs::read_link(scene.root().join("etc")).unwrap(),
        Path::new("/etc")
    );
}

#[test]
fn cve_2026_26960_a_hard_link_through_links_is_refused() {
    let error = Scene::withstands_and_others_do_not(|_| {
        Forge::new()
            .directory("a")
            .directory("a/b")
            .symlink("a/b/up", "../..")
            .symlink("way", "a/b/up/..")
            .hard_link("steal", "way/outside/secret")
            .end()
    });
    assert!(error.contains("no file that came"), "{error}");
    // A hard link to a link is a second name of the link, and never of what the link leads to.
    let scene = Scene::new();
    let to_link = Forge::new()
        .symlink("l", "../outside/secret")
        .hard_link("steal", "l")
        .end();
    scene.extract(&to_link).unwrap();
    assert!(scene.is_safe());
    assert!(scene.root().join("steal").is_symlink());
}

#[test]
fn cve_2025_4517_a_path_too_long_to_be_resolved_leads_nowhere() {
    // Links that shorten a path of long directories, until what is checked is longer than PATH_MAX
    // and what is used is not.
    let error = Scene::withstands_and_others_do_not(|_| {
        let long = "d".repeat(200);
        let mut forge = Forge::new();
        let mut path = String::new();
        for step in "abcdefghijklmnop".chars() {
            forge = forge
                .pax(&[("path", format!("{path}{long}").as_bytes())])
                .push(Block::new(b'5', &format!("{path}{}", "d".repeat(60))), b"")
                .symlink(&format!("{path}{step}"), &"d".repeat(60));
            path = format!("{path}{step}/");
        }
        let up = "../".repeat(16);
        forge
            .symlink(&format!("{path}{}", "l".repeat(50)), &up)
            .symlink("escape", &format!("{path}{}/../outside", "l".repeat(50)))
            .file("escape/owned", b"evil")
            .end()
    });
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn two_hops_of_links_that_each_look_harmless_lead_nowhere() {
    let error = Scene::withstands_and_others_do_not(|_| {
        Forge::new()
            .symlink("one", ".")
            .symlink("one/two", "..")
            .file("one/two/outside/owned", b"evil")
            .end()
    });
    assert!(error.contains("something else"), "{error}");
    Scene::withstands_and_others_do_not(|_| {
        Forge::new()
            .directory("d")
            .symlink("d/up", "..")
            .symlink("far", "d/up/../outside")
            .file("far/owned", b"evil")
            .end()
    });
}

#[test]
fn a_file_does_not_replace_a_link_or_go_through_it() {
    Scene::withstands_and_others_do_not(|_| {
        Forge::new()
            .symlink("f", "../outside/secret")
            .file("f", b"evil")
            .end()
    });
    Scene::withstands_and_others_do_not(|_| Forge::new().file("../outside/owned", b"").end());
    Scene::withstands_and_others_do_not(|scene| {
        let name = scene.outside().join("owned");
        let name = name.to_str().unwrap().to_owned();
        Forge::new().file(&name, b"").end()
    });
}

#[test]
fn cve_2026_32288_a_sparse_map_without_end_is_refused_within_bounds() {
    let limits = Limits {
        stretches: 1000,
        ..Limits::default()
    };
    let mut descriptors = Vec::new();
    let mut forge = Forge::new().push(
        Block::new(b'S', "sparse")
            .gnu()
            .raw(482, b"\x01")
            .raw(483, b"00007777777\0"),
        b"",
    );
    for block in 0..100 {
        let mut extension = [0u8; 512];
        for slot in 0..21 {
            let offset = format!("{:011o}\0", block * 21 + slot);
            extension[slot * 24..slot * 24 + 12].copy_from_slice(offset.as_bytes());
            extension[slot * 24 + 12..slot * 24 + 24].copy_from_slice(b"00000000000\0");
        }
        extension[504] = 1;
        descriptors.extend(extension);
    }
    forge = forge.data(&descriptors);
    let scene = Scene::new();
    let error = scene.extract_within(&forge.end(), &limits).unwrap_err();
    assert!(matches!(error, Error::Limit { limit: 1000, .. }), "{error}");
    // The same in each of PAX's forms.
    let many: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
    let map = Forge::new()
        .pax(&[("GNU.sparse.map", many.join(",").as_bytes())])
        .file("f", b"")
        .end();
    let one_zero = Forge::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"9"),
        ])
        .file("f", &[&b"99999999999\n"[..], &[0; 500]].concat())
        .end();
    for archive in [map, one_zero] {
        let error = Scene::new().extract_within(&archive, &limits).unwrap_err();
        assert!(
            error.to_string().contains("more than 1000 stretches"),
            "{error}"
        );
    }
}

#[test]
fn ten_thousand_levels_and_names_beyond_bounds_are_refused() {
    let deep = "d/".repeat(10_000);
    let name = "n".repeat(300);
    for path in [deep.as_str(), &"d/".repeat(300), &name] {
        let archive = Forge::new()
            .pax(&[("path", path.as_bytes())])
            .directory("x")
            .end();
        let error = Scene::new().extract(&archive).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
    }
    let mut forge = Forge::new();
    for _ in 0..2000 {
        forge = forge.pax(&[("path", b"p")]);
    }
    assert!(Scene::withstands(&forge.end()).contains("in a row"));
    let huge = Forge::new()
        .push(Block::new(b'x', "x").size(1 << 31), b"")
        .end();
    assert!(matches!(
        Scene::new().extract(&huge),
        Err(Error::Limit { .. })
    ));
}

#[test]
fn a_hundred_gigabytes_and_more_entries_than_allowed_are_refused() {
    let huge = Forge::new().push(
        Block::new(b'0', "zeros").gnu().raw(124, &{
            let mut size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            size[4..].copy_from_slice(&100_000_000_000u64.to_be_bytes());
            size
        }),
        b"",
    );
    let archive = super::forge::zstd_zeros(&huge.0, 800_000);
    assert!(archive.len() < 4_000_000);
    let error = Scene::new().extract(&archive).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    // Zeros after the end are padding, and bounded too.
    let limits = Limits {
        bytes: 10 << 20,
        ..Limits::default()
    };
    let archive = super::forge::zstd_zeros(&Forge::new().end(), 1000);
    let error = Scene::new().extract_within(&archive, &limits).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    let limits = Limits {
        entries: 10,
        ..Limits::default()
    };
    let many = (0..11).fold(Forge::new(), |forge, number| {
        forge.file(&number.to_string(), b"")
    });
    let error = Scene::new()
        .extract_within(&many.end(), &limits)
        .unwrap_err();
    assert!(error.to_string().contains("more entries"), "{error}");
    let limits = Limits {
        directories: 1000,
        ..Limits::default()
    };
    let many = (0..50).fold(Forge::new(), |forge, number| {
        forge.directory(&number.to_string())
    });
    let error = Scene::new()
        .extract_within(&many.end(), &limits)
        .unwrap_err();
    assert!(error.to_string().contains("for directories"), "{error}");
}
