//! How a device is named in `root=` and `resume=`.

/// A device as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device<'a> {
    /// `UUID=`: the file system's.
    Uuid(&'a str),
    /// `LABEL=`: the file system's.
    Label(&'a str),
    /// `PARTUUID=`: the partition's.
    PartUuid(&'a str),
    /// `PARTLABEL=`: the partition's.
    PartLabel(&'a str),
    /// An absolute path, usually below /dev.
    Path(&'a str),
    /// None of these: a bare major:minor, `nfs`, a dracut word such as `live:`, …
    Other(&'a str),
}

impl<'a> Device<'a> {
    /// Reads a name. The tags' names are matched as the kernel does, in capitals; a tag whose value
    /// stands in single or double quotes (as people write for the shell) loses these.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let bare = |value: &'a str| {
            let unquoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
            unquoted('"').or_else(|| unquoted('\'')).unwrap_or(value)
        };
        match text.split_once('=') {
            Some(("UUID", value)) => Self::Uuid(bare(value)),
            Some(("LABEL", value)) => Self::Label(bare(value)),
            Some(("PARTUUID", value)) => Self::PartUuid(bare(value)),
            Some(("PARTLABEL", value)) => Self::PartLabel(bare(value)),
            _ if text.starts_with('/') => Self::by_link(text),
            _ => Self::Other(text),
        }
    }

    /// The links that udev makes say the same as the tags, and need no udev when read as these.
    fn by_link(path: &'a str) -> Self {
        // udev writes `\x20` and the like into link names: such a path stays what it is.
        let plain = |prefix| {
            path.strip_prefix(prefix)
                .filter(|name: &&str| !name.contains('\\'))
        };
        if let Some(uuid) = plain("/dev/disk/by-uuid/") {
            Self::Uuid(uuid)
        } else if let Some(label) = plain("/dev/disk/by-label/") {
            Self::Label(label)
        } else if let Some(uuid) = plain("/dev/disk/by-partuuid/") {
            Self::PartUuid(uuid)
        } else if let Some(label) = plain("/dev/disk/by-partlabel/") {
            Self::PartLabel(label)
        } else {
            Self::Path(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_people_name_them() {
        for (text, device) in [
            ("UUID=0a-b", Device::Uuid("0a-b")),
            ("LABEL=my disk", Device::Label("my disk")),
            ("LABEL='x'", Device::Label("x")),
            ("LABEL=\"x\"", Device::Label("x")),
            ("LABEL='", Device::Label("'")),
            ("PARTUUID=1/PARTNROFF=2", Device::PartUuid("1/PARTNROFF=2")),
            ("PARTLABEL=root", Device::PartLabel("root")),
            ("/dev/vda1", Device::Path("/dev/vda1")),
            ("/dev/disk/by-uuid/0a", Device::Uuid("0a")),
            ("/dev/disk/by-label/a", Device::Label("a")),
            (
                "/dev/disk/by-label/a\\x20b",
                Device::Path("/dev/disk/by-label/a\\x20b"),
            ),
            ("/dev/disk/by-partuuid/1", Device::PartUuid("1")),
            ("/dev/disk/by-partlabel/r", Device::PartLabel("r")),
            (
                "/dev/disk/by-path/pci-0",
                Device::Path("/dev/disk/by-path/pci-0"),
            ),
            ("8:1", Device::Other("8:1")),
            ("uuid=1", Device::Other("uuid=1")),
            ("", Device::Other("")),
        ] {
            assert_eq!(Device::new(text), device, "{text}");
        }
    }
}
