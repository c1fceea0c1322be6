//! `/etc/fstab`: read, and changed line by line, so that all else in it stays as it is; see fstab(5).

use super::error::{Error, Result};
use super::files::replace;
use crate::agent::options;
pub use crate::sys::fstab::{Entry, entries, has};
use std::path::Path;

/// Where it is.
pub const PATH: &str = "/etc/fstab";

/// The text in which one entry names a subvolume by its path, and by nothing else.
pub fn naming(text: &str, entry: &Entry, subvolume: &str) -> String {
    let others = options::without(&entry.options, &["subvolid", "subvol"]);
    let left = options::join(&[&others, &format!("subvol={subvolume}")]);
    let change = |(at, line): (usize, &str)| match at == entry.line {
        // The options are the only field that has them.
        true => line.replacen(&entry.options, &left, 1),
        false => line.to_owned(),
    };
    joined(text.lines().enumerate().map(change))
}

/// The text with one more line.
pub fn with_line(text: &str, line: &str) -> String {
    joined(text.lines().map(str::to_owned).chain([line.to_owned()]))
}

/// The text without the entries of btrfs that mount something there.
pub fn without_mount(text: &str, point: &str) -> String {
    let gone: Vec<usize> = entries(text)
        .into_iter()
        .filter(|entry| entry.point == point && entry.fs == "btrfs")
        .map(|entry| entry.line)
        .collect();
    let lines = text.lines().enumerate();
    let stays = lines.filter(|(at, _)| !gone.contains(at));
    joined(stays.map(|(_, line)| line.to_owned()))
}

fn joined(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

/// The text of [`PATH`]; empty where there is none.
pub fn read() -> Result<String> {
    match std::fs::read_to_string(PATH) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(Error::file("reading", PATH)),
    }
}

/// Replaces [`PATH`]; on disk on return.
pub fn write(text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    replace(Path::new(PATH), text.as_bytes())?;
    // Everybody may read it.
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(PATH, mode).map_err(Error::file("changing", PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        # a comment\n\
        UUID=1\t/  btrfs\tdefaults,subvolid=256,subvol=/@rootfs 0 1\n\
        \n\
        UUID=1 /my\\040home btrfs subvolid=257\n\
        /dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n";

    #[test]
    fn a_number_gives_way_to_a_name_and_all_else_stays() {
        let all = entries(TEXT);
        let [root, home] = [&all[0], &all[1]];
        let text = naming(TEXT, root, "@rootfs");
        assert_eq!(
            text,
            TEXT.replace("subvolid=256,subvol=/@rootfs", "subvol=@rootfs")
        );
        let text = naming(&text, home, "@home");
        assert!(text.contains("/my\\040home btrfs subvol=@home\n"), "{text}");
    }

    #[test]
    fn a_line_that_was_added_can_be_taken_out_again() {
        let line = "UUID=1 /home btrfs subvol=@home 0 0";
        let more = with_line(TEXT, line);
        assert!(more.starts_with(TEXT) && more.ends_with(&format!("{line}\n")));
        // Whoever has changed its options meanwhile.
        let changed = more.replace("subvol=@home", "noatime,subvol=@home");
        assert_eq!(without_mount(&changed, "/home"), TEXT);
        assert_eq!(without_mount(TEXT, "/media/cdrom0"), TEXT);
        assert_eq!(with_line("", line), format!("{line}\n"));
    }
}
