//! What is mounted where: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Its number in the mount name space, as in `/proc/<pid>/fdinfo`.
    pub id: u64,
    /// What tells file systems apart, such as `0:29`: the same for all subvolumes of a btrfs.
    pub number: String,
    /// Whether this mount takes no writes, whatever the file system does.
    pub read_only: bool,
    /// The file system's type, such as `btrfs`.
    pub fs: String,
    /// The device it was mounted from.
    pub device: String,
    /// Which directory of the file system is mounted; `/@rootfs` for a subvolume of that name.
    pub directory: String,
    /// Where.
    pub point: String,
}

/// All mounts, those that lie on others after them.
pub fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(line).collect()
}

/// The topmost mount at a directory.
pub fn at(mountinfo: &str, point: &str) -> Option<Mount> {
    let mut all = mounts(mountinfo).into_iter().rev();
    all.find(|mount| mount.point == point)
}

/// The mount that a path lies on.
pub fn holding<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
    let inside = |mount: &&Mount| {
        let point = mount.point.trim_end_matches('/');
        let rest = path.strip_prefix(point);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // Of those at the same directory the last one is on top.
    let found = mounts.iter().filter(inside);
    found.max_by_key(|mount| mount.point.trim_end_matches('/').len())
}

fn line(line: &str) -> Option<Mount> {
    let (mount, fs) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let (id, _, number) = (fields.next()?, fields.next()?, fields.next()?);
    let (directory, point) = (fields.next()?, fields.next()?);
    let options = fields.next()?;
    let mut fields = fs.split(' ');
    Some(Mount {
        id: id.parse().ok()?,
        number: number.to_owned(),
        read_only: options.split(',').any(|option| option == "ro"),
        fs: fields.next()?.to_owned(),
        device: unescape(fields.next()?),
        directory: unescape(directory),
        point: unescape(point),
    })
}

/// The kernel, and fstab(5), write blank, tab, newline and backslash as `\ooo`.
pub fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        1 1 0:2 / / rw - rootfs rootfs rw\n\
        22 1 0:20 / /proc rw,nosuid shared:12 - proc proc rw\n\
        23 1 0:29 /@root\\040fs / rw,noatime shared:1 master:2 - btrfs /dev/disk\\134x rw,ssd\n\
        24 23 0:29 /@data /srv/data rw - btrfs /dev/vda2 rw\n";

    #[test]
    fn the_root_is_the_topmost_mount_at_the_root() {
        assert_eq!(
            at(TEXT, "/"),
            Some(Mount {
                id: 23,
                number: "0:29".into(),
                read_only: false,
                fs: "btrfs".into(),
                device: "/dev/disk\\x".into(),
                directory: "/@root fs".into(),
                point: "/".into(),
            })
        );
        assert_eq!(at("", "/"), None);
        assert_eq!(at("garbage\nmore - x", "/"), None);
    }

    #[test]
    fn a_path_lies_on_the_mount_that_is_nearest_to_it() {
        let all = mounts(TEXT);
        for (path, directory) in [
            ("/srv/data", "/@data"),
            ("/srv/data/x", "/@data"),
            ("/srv/database", "/@root fs"),
            ("/", "/@root fs"),
            ("/proc/1", "/"),
        ] {
            let found = holding(&all, path).unwrap();
            assert_eq!(found.directory, directory, "{path}");
        }
    }
}
