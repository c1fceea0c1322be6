//! The lines of an fstab, see fstab(5).

use super::mountinfo::unescape;

/// A line that mounts something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which line it is, from 0.
    pub line: usize,
    /// What is mounted, such as `UUID=…`.
    pub spec: String,
    /// Where; without a slash at its end, which mount(8) ignores.
    pub point: String,
    /// The file system's type.
    pub fs: String,
    /// The options, with commas.
    pub options: String,
}

impl Entry {
    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let of = |option: &'_ str| option.split_once('=').is_some_and(|(key, _)| key == name);
        let found = self.options.split(',').rfind(|option| of(option))?;
        found.split_once('=').map(|(_, value)| value)
    }
}

/// What is mounted.
pub fn entries(text: &str) -> Vec<Entry> {
    let read = |(line, text): (usize, &str)| {
        let text = text.trim_start();
        if text.starts_with('#') {
            return None;
        }
        let mut fields = text.split_ascii_whitespace();
        Some(Entry {
            line,
            spec: unescape(fields.next()?),
            point: without_slash(&unescape(fields.next()?)),
            fs: fields.next()?.to_owned(),
            options: fields.next().unwrap_or("defaults").to_owned(),
        })
    };
    text.lines().enumerate().filter_map(read).collect()
}

fn without_slash(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" if path.starts_with('/') => "/".to_owned(),
        plain => plain.to_owned(),
    }
}

/// Whether something is mounted there.
pub fn has(text: &str, point: &str) -> bool {
    entries(text).iter().any(|entry| entry.point == point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_their_fields_without_escapes_and_their_lines() {
        let text = "\
            # a comment\n\
            UUID=1\t/  btrfs\tdefaults,subvolid=256,subvol=/@rootfs 0 1\n\
            \n\
            UUID=1 /my\\040home btrfs subvolid=257\n\
            UUID=1 /short\n\
            UUID=1 /srv/ btrfs subvol=@srv\n\
            UUID=1 // btrfs subvolid=258\n";
        let all = entries(text);
        assert_eq!(all.len(), 4);
        let [root, home] = [&all[0], &all[1]];
        assert_eq!(root.point, "/");
        assert_eq!(root.option("subvolid"), Some("256"));
        assert_eq!(root.option("subvol"), Some("/@rootfs"));
        assert_eq!(root.option("defaults"), None);
        assert_eq!((home.point.as_str(), home.line), ("/my home", 3));
        assert_eq!(all[3].point, "/");
        assert!(has(text, "/my home") && has(text, "/srv") && !has(text, "/home"));
    }
}
