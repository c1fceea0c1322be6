//! Where the running system's root comes from: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).

/// The mount at `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The file system's type, such as `btrfs`.
    pub fs: String,
    /// The device it was mounted from.
    pub device: String,
    /// Which directory of the file system is mounted; `/@rootfs` for a subvolume of that name.
    pub directory: String,
}

/// Finds the mount at `/`: the last one, which lies on top.
pub fn root(mountinfo: &str) -> Option<Root> {
    mountinfo.lines().rev().find_map(line)
}

fn line(line: &str) -> Option<Root> {
    let (mount, fs) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (directory, point) = (fields.next()?, fields.next()?);
    if point != "/" {
        return None;
    }
    let mut fields = fs.split(' ');
    Some(Root {
        fs: fields.next()?.to_owned(),
        device: unescape(fields.next()?),
        directory: unescape(directory),
    })
}

/// The kernel writes blank, tab, newline and backslash as `\ooo`.
fn unescape(text: &str) -> String {
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

    #[test]
    fn the_root_is_the_topmost_mount_at_the_root() {
        let text = "\
            1 1 0:2 / / rw - rootfs rootfs rw\n\
            22 1 0:20 / /proc rw,nosuid shared:12 - proc proc rw\n\
            23 1 0:29 /@root\\040fs / rw,noatime shared:1 master:2 - btrfs /dev/disk\\134x rw,ssd\n\
            24 23 0:29 /@data /srv/data rw - btrfs /dev/vda2 rw\n";
        assert_eq!(
            root(text),
            Some(Root {
                fs: "btrfs".into(),
                device: "/dev/disk\\x".into(),
                directory: "/@root fs".into(),
            })
        );
        assert_eq!(root(""), None);
        assert_eq!(root("garbage\nmore - x"), None);
    }
}
