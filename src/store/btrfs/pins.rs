//! Lines of an fstab that would mount something else than what was promoted.

use crate::record::layout::Layout;

/// A line that pins a mount point of ours to one subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Number of the line, from 1.
    pub line: usize,
    /// The mount point.
    pub mount: String,
    /// The option, such as `subvolid=256`.
    pub option: String,
}

/// Finds them. `subvolid=` names a subvolume that an exchange moves away; `subvol=` must name the
/// dataset's live name, which stays. Mount points that no dataset has are not looked at.
pub fn find(fstab: &str, layout: &Layout) -> Vec<Pin> {
    let mut pins = Vec::new();
    for (index, line) in fstab.lines().enumerate() {
        let mut fields = line.split_whitespace();
        let (Some(device), Some(mount), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if device.starts_with('#') || !matches!(kind, "btrfs" | "auto") {
            continue;
        }
        let trimmed = |path: &str| path.trim_matches('/').to_owned();
        let Some(dataset) = [&layout.system]
            .into_iter()
            .chain(&layout.config)
            .chain(&layout.data)
            .find(|dataset| trimmed(&dataset.mount) == trimmed(mount))
        else {
            continue;
        };
        let pinned = options
            .split(',')
            .filter(|option| match option.split_once('=') {
                Some(("subvolid", _)) => true,
                Some(("subvol", name)) => trimmed(name) != dataset.live.as_str(),
                _ => false,
            });
        pins.extend(pinned.map(|option| Pin {
            line: index.saturating_add(1),
            mount: mount.to_owned(),
            option: option.to_owned(),
        }));
    }
    pins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::layout::Dataset;

    fn dataset(name: &str, live: &str, mount: &str) -> Dataset {
        Dataset {
            name: name.try_into().unwrap(),
            live: live.try_into().unwrap(),
            mount: mount.try_into().unwrap(),
        }
    }

    #[test]
    fn what_an_exchange_would_not_change_is_found() {
        let layout = Layout {
            system: dataset("system", "@rootfs", "/"),
            config: None,
            config_paths: heapless::Vec::new(),
            data: [dataset("data", "@data", "/srv/data")]
                .into_iter()
                .collect(),
        };
        for (fstab, want) in [
            ("UUID=x / btrfs subvol=@rootfs,ro 0 0", None),
            ("UUID=x / btrfs defaults,subvol=/@rootfs 0 0", None),
            ("UUID=x / btrfs defaults 0 0", None),
            ("UUID=x / btrfs subvol=@old 0 0", Some("subvol=@old")),
            (
                "UUID=x / btrfs subvolid=256,subvol=/@rootfs 0 0",
                Some("subvolid=256"),
            ),
            (
                "UUID=x /srv/data/ auto ro,subvol=/snap/@data 0 0",
                Some("subvol=/snap/@data"),
            ),
            ("UUID=x /home btrfs subvolid=300 0 0", None),
            ("#UUID=x / btrfs subvolid=256 0 0", None),
            ("UUID=x / ext4 subvolid=256 0 0", None),
            ("UUID=x / btrfs", None),
            ("", None),
        ] {
            let found = find(&format!("# comment\n{fstab}\n"), &layout);
            assert_eq!(
                found.first().map(|pin| pin.option.as_str()),
                want,
                "{fstab}"
            );
            assert!(found.iter().all(|pin| pin.line == 2));
        }
    }
}
