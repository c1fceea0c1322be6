//! Mount options as a person writes them in `rootflags=`: some are the kernel's flags, the rest is the
//! file system's own text.

use crate::sys::mount::MountFlags;

/// Options that mount(8) turns into flags: name, flag, whether it sets or clears it.
const FLAGS: [(&str, MountFlags, bool); 17] = [
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("dirsync", MountFlags::DIRSYNC, true),
];

/// Splits an option list into flags and the file system's own options. `defaults` says nothing.
pub fn split(options: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options
        .split(',')
        .filter(|option| !option.is_empty() && *option != "defaults")
    {
        match FLAGS.iter().find(|(name, _, _)| *name == option) {
            Some((_, flag, set)) => flags.set(*flag, *set),
            None => data.push(option),
        }
    }
    (flags, data.join(","))
}

/// `options` without those of the given names.
pub fn without(options: &str, names: &[&str]) -> String {
    let kept: Vec<&str> = options
        .split(',')
        .filter(|option| !names.contains(&option.split('=').next().unwrap_or_default()))
        .collect();
    kept.join(",")
}

/// One list of several, the empty ones left out.
pub fn join(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_the_file_systems_own_options_are_told_apart_and_the_last_word_counts() {
        let none = MountFlags::empty();
        for (text, flags, data) in [
            ("", none, ""),
            ("defaults", none, ""),
            (
                "subvol=@rootfs,compress=zstd:3",
                none,
                "subvol=@rootfs,compress=zstd:3",
            ),
            (
                "noatime,subvol=@,nodev",
                MountFlags::NOATIME | MountFlags::NODEV,
                "subvol=@",
            ),
            ("ro,rw", none, ""),
            (",,x,", none, "x"),
        ] {
            assert_eq!(split(text), (flags, data.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_subvolume_pin_is_taken_out_whatever_its_value() {
        assert_eq!(
            without(
                "subvolid=257,compress=zstd,subvol=/@x",
                &["subvol", "subvolid"]
            ),
            "compress=zstd"
        );
        assert_eq!(join(&["a", "", "b"]), "a,b");
    }
}
