//! Programs that pack a root and extract an archive.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use backstay::admin::cli::Pack;
use backstay::admin::pack as ours;

/// Who packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packer {
    /// `backstay factory pack`.
    Ours,
    /// GNU tar, POSIX format, ACLs as the attributes that they are: by number.
    GnuPosix,
    /// The same with ACLs as text, in which it writes names of users that the packing machine knows.
    GnuAcls,
    /// GNU tar, its own older format, in which most of Debian's tarballs are.
    GnuOld,
    /// bsdtar, POSIX format.
    Bsd,
}

/// All of them.
pub const PACKERS: [Packer; 5] = [
    Packer::Ours,
    Packer::GnuPosix,
    Packer::GnuAcls,
    Packer::GnuOld,
    Packer::Bsd,
];

impl Packer {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "backstay factory pack",
            Self::GnuPosix => "tar --format=posix --xattrs",
            Self::GnuAcls => "tar --format=posix --xattrs --acls",
            Self::GnuOld => "tar --format=gnu",
            Self::Bsd => "bsdtar --format=pax",
        }
    }

    /// Packs `root` as `output`, compressed by its name, and signs it.
    ///
    /// # Errors
    /// What the program says.
    pub fn pack(self, root: &Path, output: &Path, key: &Key) -> Result<()> {
        let mut command = match self {
            Self::Ours => {
                let args = Pack {
                    root: root.to_owned(),
                    output: output.to_owned(),
                    key: Some(key.secret.clone()),
                    password_fd: None,
                    zstd_level: None,
                };
                ours::pack(&args, &mut |_| {})?;
                return Ok(());
            }
            Self::GnuPosix | Self::GnuAcls | Self::GnuOld => gnu(),
            Self::Bsd => Command::new("bsdtar"),
        };
        let format = match self {
            Self::GnuPosix | Self::GnuAcls => "--format=posix",
            Self::GnuOld => "--format=gnu",
            _ => "--format=pax",
        };
        command.args(["-c", format, "--numeric-owner"]);
        // With attributes GNU tar writes POSIX's format, whatever is asked for.
        match self {
            Self::GnuOld => command.arg("--sparse"),
            Self::GnuPosix => {
                command.args(["--sparse", "--no-acls", "--xattrs", "--xattrs-include=*"])
            }
            Self::GnuAcls => command.args(["--sparse", "--acls", "--xattrs", "--xattrs-include=*"]),
            _ => command.args(["--acls", "--xattrs"]),
        };
        run(command.arg("-f").arg(output).arg("-C").arg(root).arg("."))?;
        key.sign(output)
    }
}

/// Who extracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extractor {
    /// GNU tar.
    Gnu,
    /// bsdtar.
    Bsd,
    /// `image::verify`, then `image::extract`.
    Ours,
}

impl Extractor {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "backstay",
            Self::Gnu => "GNU tar",
            Self::Bsd => "bsdtar",
        }
    }

    /// Extracts `archive` into the empty directory `to`.
    ///
    /// # Errors
    /// What the program says.
    pub fn extract(self, packer: Packer, archive: &Path, to: &Path, key: &Key) -> Result<()> {
        match self {
            Self::Ours => super::ours::extract(archive, to, &key.public).map(drop),
            Self::Gnu => {
                let mut command = gnu();
                command.args(["-x", "-p", "--numeric-owner", "--xattrs"]);
                // It takes an ACL away again that came as an attribute, unless it is told not to look.
                command.arg(match packer {
                    Packer::GnuPosix => "--no-acls",
                    _ => "--acls",
                });
                // bsdtar packs directories in another order than GNU tar expects.
                command.args(["--xattrs-include=*", "--delay-directory-restore"]);
                command.args(["--warning=no-timestamp", "-f"]);
                run(command.arg(archive).arg("-C").arg(to))
            }
            Self::Bsd => {
                let mut command = Command::new("bsdtar");
                command.args(["-x", "-p", "--numeric-owner", "--acls", "--xattrs"]);
                run(command.arg("-f").arg(archive).arg("-C").arg(to))
            }
        }
    }
}

fn gnu() -> Command {
    let mut command = Command::new("tar");
    // Names that are not UTF-8 are bytes.
    command.env("LC_ALL", "C");
    command
}

/// Runs a program to its end; what it says is part of the error.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {:?}", command.get_program()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = said.lines().rev().take(8).collect();
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            end.join("; ")
        );
    }
    Ok(())
}

/// A pair of keys that `minisign -G` made.
pub struct Key {
    /// The secret one.
    pub secret: PathBuf,
    /// The public one.
    pub public: PathBuf,
}

impl Key {
    /// Makes one without a password.
    ///
    /// # Errors
    /// What minisign says.
    pub fn make(directory: &Path) -> Result<Self> {
        let key = Self {
            secret: directory.join("secret.key"),
            public: directory.join("public.key"),
        };
        let mut command = Command::new("minisign");
        command.args(["-G", "-W", "-f", "-s"]).arg(&key.secret);
        run(command.arg("-p").arg(&key.public))?;
        Ok(key)
    }

    /// Signs as the people do who do not use our command, with minisign's own comment.
    ///
    /// # Errors
    /// What minisign says.
    pub fn sign(&self, archive: &Path) -> Result<()> {
        let mut command = Command::new("minisign");
        command.arg("-S").arg("-s").arg(&self.secret);
        run(command.arg("-m").arg(archive))
    }

    /// Lets minisign check a signature.
    ///
    /// # Errors
    /// What minisign says.
    pub fn verify(&self, archive: &Path) -> Result<()> {
        let mut command = Command::new("minisign");
        command.arg("-V").arg("-p").arg(&self.public);
        run(command.arg("-m").arg(archive))
    }
}

/// A program between two files.
pub fn filter(command: &mut Command, from: &Path, to: &Path) -> Result<()> {
    let status = command
        .stdin(File::open(from)?)
        .stdout(File::create(to)?)
        .status()
        .with_context(|| format!("run {:?}", command.get_program()))?;
    match status.success() {
        true => Ok(()),
        false => bail!("{command:?} ended with {status}"),
    }
}
