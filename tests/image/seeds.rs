//! Archives for the fuzzer to begin with, one of each kind. Its first byte says whether checksums are
//! mended, so that mutations of headers are tried and not only refused.

use std::fs;
use std::path::Path;

use super::forge::{Block, Forge, zstd_stored};

pub fn write(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let sparse = Block::new(b'S', "sparse")
        .gnu()
        .size(5)
        .raw(386, b"00000000100\0");
    let sparse = sparse.raw(398, b"00000000005\0").raw(483, b"00000001000\0");
    let archives = [
        (
            "plain",
            Forge::new()
                .directory("d")
                .file("d/f", b"data")
                .symlink("l", "d/f"),
        ),
        ("links", Forge::new().file("f", b"x").hard_link("g", "f")),
        (
            "long",
            Forge::new().long(b'L', &"n".repeat(130)).file("n", b""),
        ),
        (
            "link",
            Forge::new().long(b'K', &"t".repeat(130)).symlink("n", "t"),
        ),
        ("old-sparse", Forge::new().push(sparse, b"12345")),
        (
            "pax",
            Forge::new()
                .pax(&[
                    ("path", b"p/q"),
                    ("mtime", b"-1.5"),
                    ("size", b"3"),
                    ("SCHILY.xattr.user.a", b"v"),
                    ("LIBARCHIVE.xattr.user.b", b"dg=="),
                    (
                        "SCHILY.acl.access",
                        b"user::rw-,user:1:r--,group::r--,mask::r--,other::---",
                    ),
                ])
                .push(Block::new(b'0', "x"), b"abc"),
        ),
        (
            "sparse-0.1",
            Forge::new()
                .pax(&[("GNU.sparse.size", b"99"), ("GNU.sparse.map", b"5,3,99,0")])
                .file("s", b"abc"),
        ),
        (
            "sparse-1.0",
            Forge::new()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"99"),
                    ("GNU.sparse.name", b"s"),
                ])
                .file("x", &[&b"1\n5\n3\n"[..], &[0; 505], b"abc"].concat()),
        ),
        (
            "global",
            Forge::new().push(Block::new(b'g', "g").size(13), b"13 comment=x\n"),
        ),
        ("fifo", Forge::new().push(Block::new(b'6', "fifo"), b"")),
    ];
    for (name, forge) in archives {
        let plain = forge.end();
        let write = |name: String, bytes: &[u8]| {
            fs::write(directory.join(name), [b"\x01", bytes].concat()).unwrap();
        };
        write(name.to_owned(), &plain);
        write(format!("{name}.zst"), &zstd_stored(&plain));
        let scratch = directory.join("scratch");
        fs::write(&scratch, &plain).unwrap();
        for (tool, extension) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "real.zst")] {
            let packed = std::process::Command::new(tool)
                .arg("-c")
                .arg(&scratch)
                .output()
                .unwrap();
            write(format!("{name}.{extension}"), &packed.stdout);
        }
        fs::remove_file(scratch).unwrap();
    }
}
