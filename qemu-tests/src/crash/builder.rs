//! Builds the small machine whose power is cut: the real layout, made by the real admin command.
//!
//! Every dataset of every version has contents of its own, so that a mixture shows.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};
use backstay::admin::layout_file;
use backstay::agent::kexec::running_release;
use backstay::record::state::{Kexec, State};
use backstay::store::btrfs::Btrfs;
use backstay::store::place::STORE;
use backstay::sys::btrfs as ioctl;
use backstay::transaction::records::Records;
use rustix::fs::{XattrFlags, setxattr};

use super::act::Stage;
use super::converter;
use super::helper::admin;

/// The system's live name.
pub const SYSTEM: &str = "@rootfs";
/// The data's live name.
pub const DATA: &str = "@data";
/// A subvolume inside the live system, as systemd makes it.
pub const NESTED: &str = "@rootfs/var/lib/machines";
/// One inside the live data.
pub const VAULT: &str = "@data/vault";

/// What the default tarball has as the system and as the configuration.
pub const TARBALL: &str = "@tarball";
/// See [`TARBALL`].
pub const TARBALL_CONFIG: &str = "@tarball-config";

/// Where the configuration is mounted in the system.
pub const CONFIG: &str = "var/lib/backstay/config";
/// The same of the data.
pub const DATA_SEEN: &str = "srv/data";

const LAYOUT: &str = r#"
[[dataset]]
name = "system"
kind = "system"
live = "@rootfs"
mount = "/"

[[dataset]]
name = "config"
kind = "config"
live = "@config"
mount = "/var/lib/backstay/config"
paths = ["/etc/appliance"]

[[dataset]]
name = "data"
kind = "data"
live = "@data"
mount = "/srv/data"
"#;

/// Builds the machine up to `stage` on the empty file system that is mounted at `top`.
///
/// # Errors
/// The admin command's, and those of the file system.
pub fn build(top: &Path, stage: Stage) -> Result<()> {
    let mut store = Btrfs::open_path(top, layout_file::parse(LAYOUT)?)?;
    for name in [SYSTEM, "@config", "@data"] {
        store.create_path(name)?;
    }
    drop(store);
    system(&top.join(SYSTEM)).context("fill the system")?;
    version(top, "factory", &[SYSTEM, "@config"])?;
    let data = top.join("@data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o2750))?;
    chown(&data, Some(33), Some(33))?;
    let agent = top.join("agent");
    fs::write(&agent, static_program(1))?;
    if stage == Stage::Bare {
        return version(top, "live", &["@data"]);
    }
    admin("init --agent /top/agent")?;
    match stage {
        Stage::NewAgent => fs::write(agent, static_program(2))?,
        _ => fs::remove_file(agent)?,
    }
    fs::write(
        top.join("@backstay/data/data/template/fresh"),
        "a fresh data dataset\n",
    )?;
    match stage {
        Stage::Bare | Stage::Empty => Ok(()),
        Stage::NewAgent => version(top, "live", &["@data"]),
        Stage::SetUp => version(top, "live", &["@data"]),
        Stage::FirstBoot => admin("factory seal --first-boot"),
        Stage::Used | Stage::Books => used(top, stage == Stage::Books),
        Stage::Good | Stage::GoodBooks => {
            marks_itself_good(&top.join(SYSTEM))?;
            used(top, stage == Stage::GoodBooks)?;
            admin("mark-good")?;
            without_kexec(top)
        }
        Stage::Tampered => {
            used(top, false)?;
            keep_tarball(top)?;
            tamper(&top.join("@backstay/factory/system"))
        }
        Stage::FirstBootFromTarball => {
            keep_tarball(top)?;
            admin("factory seal --first-boot")?;
            let factory = top.join("@backstay/factory");
            for member in ["system", "config", "defaults"] {
                destroy(&factory.join(member))?;
            }
            Ok(fs::remove_file(factory.join("manifest"))?)
        }
    }
}

/// Packs a clone of the live system as a version of its own, which is the default tarball then. The clone
/// stays as [`TARBALL`], and its configuration alone as [`TARBALL_CONFIG`]: what the tarball must give.
fn keep_tarball(top: &Path) -> Result<()> {
    let clone = |name: &str, of: &str| {
        ioctl::snapshot(
            fs::File::open(top.join(of))?,
            fs::File::open(top)?,
            name,
            false,
        )?;
        anyhow::Ok(top.join(name))
    };
    let packed = clone(TARBALL, SYSTEM)?;
    // Where a nested subvolume goes there is nothing, as in the archive of a system that never ran.
    let stub = packed.join("var/lib/machines");
    if stub.exists() {
        fs::remove_dir(stub)?;
    }
    write_version(&packed, SYSTEM, "tarball")?;
    let config = clone(TARBALL_CONFIG, TARBALL)?;
    for (directory, kept) in [("", "etc"), ("etc", "appliance")] {
        for entry in fs::read_dir(config.join(directory))? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                _ if entry.file_name() == kept => {}
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    admin(&format!(
        "factory pack /top/{TARBALL} --output /top/packed.tar.zst"
    ))?;
    admin("factory keep --from /top/packed.tar.zst --unsigned")?;
    Ok(fs::remove_file(top.join("packed.tar.zst"))?)
}

fn destroy(subvolume: &Path) -> Result<()> {
    let fd = fs::File::open(subvolume)?;
    Ok(ioctl::destroy_subvolume(&fd, ioctl::info(&fd)?.id)?)
}

/// Writes into a sealed dataset, as somebody who can.
fn tamper(dataset: &Path) -> Result<()> {
    let fd = fs::File::open(dataset)?;
    ioctl::set_read_only(&fd, false)?;
    fs::write(dataset.join("etc/tampered"), "with\n")?;
    rustix::fs::syncfs(&fd)?;
    Ok(ioctl::set_read_only(&fd, true)?)
}

/// `books`: the versions have an application that keeps some in the data.
fn used(top: &Path, books: bool) -> Result<()> {
    let install = |version: &str| match books {
        true => converter::install(&top.join(SYSTEM), version),
        false => Ok(()),
    };
    install("factory")?;
    admin("factory seal")?;
    let layout = layout_file::parse(LAYOUT)?;
    let mut store = Btrfs::open_path(top, layout)?;
    for (name, file) in [(NESTED, "image"), (VAULT, "deed")] {
        store.create_path(name)?;
        let text = format!("what lies in {name} ").repeat(700);
        fs::write(top.join(name).join(file), text)?;
    }
    drop(store);
    // A stock initramfs without 'subvol=' on its command line mounts this one.
    let id = ioctl::subvolume_id(fs::File::open(top.join(SYSTEM))?)?;
    ioctl::set_default_subvolume(fs::File::open(top)?, id)?;
    let all = [SYSTEM, "@config", "@data", "@backstay/defaults"];
    for number in ["1", "2"] {
        version(top, number, &all)?;
        install(number)?;
        admin("snapshot")?;
    }
    version(top, "live", &all)?;
    install("live")?;
    match books {
        true => converter::keep_books(top),
        false => Ok(()),
    }
}

/// Writes what tells a version of these datasets from every other.
fn version(top: &Path, name: &str, datasets: &[&str]) -> Result<()> {
    for dataset in datasets {
        write_version(&top.join(dataset), dataset, name)?;
    }
    Ok(())
}

fn write_version(at: &Path, dataset: &str, name: &str) -> Result<()> {
    let etc = at.join("etc/appliance");
    fs::create_dir_all(&etc)?;
    let file = etc.join("version");
    fs::write(&file, format!("{dataset} {name}\n"))?;
    setxattr(&file, "user.version", name.as_bytes(), XattrFlags::empty())?;
    // Too long to lie in the metadata.
    fs::write(etc.join("blob"), format!("{dataset} {name} ").repeat(700))?;
    fs::write(etc.join(format!("only-in-{name}")), "")?;
    symlink(name, etc.join(format!("link-{name}")))?;
    if dataset == SYSTEM {
        let text = format!("PRETTY_NAME=\"appliance {name}\"\n");
        fs::write(at.join("etc/os-release"), text)?;
    }
    Ok(())
}

/// What a dataset says which version it is; a fresh one of data says "fresh".
pub fn version_of(dataset: &Path) -> String {
    match fs::read_to_string(dataset.join("etc/appliance/version")) {
        Ok(text) => text.trim().to_owned(),
        Err(_) if dataset.join("fresh").exists() => "fresh".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The same of data, with what is said of its books.
pub fn data_of(dataset: &Path) -> String {
    let version = version_of(dataset);
    match converter::books_of(dataset) {
        Ok(None) => version,
        Ok(Some(books)) => format!("{version}, {books}"),
        Err(error) => format!("{version}, {error:#}"),
    }
}

/// What a mounted system says which version it is, in the words of [`version_of`]: its own file for that is
/// hidden by the configuration.
pub fn version_of_mounted(root: &Path) -> String {
    let text = fs::read_to_string(root.join("etc/os-release")).unwrap_or_default();
    let name = text.trim().strip_prefix("PRETTY_NAME=\"appliance ");
    let name = name.and_then(|rest| rest.strip_suffix('"'));
    format!("{SYSTEM} {}", name.unwrap_or("of no version"))
}

/// What the agent and the admin command look for in a system.
fn system(root: &Path) -> Result<()> {
    let release = running_release();
    let modules = format!("lib/modules/{release}");
    for name in [
        "boot",
        "etc/backstay",
        "sbin",
        "srv/data",
        CONFIG,
        "usr/lib/backstay",
        &modules,
    ] {
        fs::create_dir_all(root.join(name))?;
    }
    for (name, text) in [
        ("sbin/init", "#!/bin/sh\n"),
        (&format!("boot/vmlinuz-{release}"), "a kernel\n"),
        (&format!("boot/initrd.img-{release}"), "an initramfs\n"),
        (&format!("{modules}/modules.dep"), ""),
        (
            &format!("{modules}/modules.builtin"),
            "kernel/fs/btrfs/btrfs.ko\n",
        ),
        ("usr/lib/backstay/layout.toml", LAYOUT),
        ("etc/backstay/policy.toml", "[tarball]\nunsigned = true\n"),
        ("etc/fstab", "LABEL=root / btrfs subvol=@rootfs 0 0\n"),
        ("etc/machine-id", ""),
    ] {
        fs::write(root.join(name), text)?;
    }
    fs::set_permissions(root.join("sbin/init"), fs::Permissions::from_mode(0o755))?;
    for name in ["vmlinuz", "initrd.img"] {
        symlink(format!("{name}-{release}"), root.join("boot").join(name))?;
    }
    Ok(())
}

/// What a system that marks itself good once it is up is known by.
fn marks_itself_good(root: &Path) -> Result<()> {
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    let declared = root.join("usr/lib/backstay");
    fs::create_dir_all(&wants)?;
    fs::create_dir_all(&declared)?;
    fs::write(declared.join("layout.toml"), "")?;
    Ok(fs::write(wants.join("backstay-mark-good.service"), "")?)
}

/// The kernel that runs here is not to be left, and there is no other one.
fn without_kexec(top: &Path) -> Result<()> {
    edit_state(top, |state| state.kexec = Kexec::Fails)
}

/// Lets the state say that a fallback to this snapshot was tried, as a converter leaves it that takes the machine down.
///
/// # Errors
/// Where the records cannot be read or written.
pub fn tried(top: &Path, to: u32) -> Result<()> {
    edit_state(top, |state| state.remember_failed(to))
}

fn edit_state(top: &Path, change: impl FnOnce(&mut State)) -> Result<()> {
    let mut store = Btrfs::open_path(top, layout_file::parse(LAYOUT)?)?;
    let mut records = Records::open(&store)?;
    let mut state = records.state.value.clone();
    change(&mut state);
    Ok(records.state.write(&mut store, state)?)
}

/// The recovery kernel's agent: here nothing starts it, but it must be a static program to be taken.
fn static_program(number: u8) -> Vec<u8> {
    let mut program = b"\x7fELF\x02\x01".to_vec();
    program.resize(64, 0);
    program.push(number);
    program
}

/// Makes both slots of the state unreadable, in place, as a controller does that forgets where they lay.
///
/// # Errors
/// Those of the file system.
pub fn garble_state(top: &Path) -> Result<()> {
    let state = top.join(STORE).join("state");
    let length = usize::try_from(fs::metadata(&state)?.len())?;
    let mut file = fs::OpenOptions::new().write(true).open(state)?;
    file.write_all(&vec![0x5a; length])?;
    Ok(file.sync_all()?)
}
