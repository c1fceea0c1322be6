//! `/usr/lib/backstay/layout.toml`: what the datasets are and where they are mounted.
//!
//! ```toml
//! [[dataset]]
//! name = "system"
//! kind = "system"
//! live = "@rootfs"
//! mount = "/"
//!
//! [[dataset]]
//! name = "config"
//! kind = "config"
//! live = "@config"
//! mount = "/var/lib/backstay/config"
//! paths = ["/etc/appliance"]
//!
//! [[dataset]]
//! name = "data"
//! kind = "data"
//! live = "@data"
//! mount = "/srv/data"
//! ```

use crate::record::layout::{Dataset, Layout, MAX_DATA, MAX_PATHS, MountPath, Name};
use crate::store::place::STORE;
use serde::Deserialize;
use thiserror::Error;

/// Where a system may keep it, below its root; the first one that is there holds.
pub use crate::transaction::check::LAYOUTS as PATHS;

/// What the system starts from: a dataset mounted over one of these would hide it.
const OF_THE_SYSTEM: [&str; 17] = [
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/sbin",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/libx32",
    "/usr/sbin",
    "/usr/share",
];
/// What the running system mounts over, with all that lies below.
const NOT_ON_DISK: [&str; 6] = ["/dev", "/proc", "/run", "/sys", "/tmp", "/var/run"];

/// A layout that cannot be used, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// There is no file.
    #[error(
        "{0} is missing: write one, with a [[dataset]] of kind \"system\" at least (see \
         backstay(8))"
    )]
    Missing(String),
    /// Not TOML, or a field that is not known.
    #[error("layout.toml: {0}")]
    Syntax(String),
    /// A value is wrong.
    #[error("layout.toml, dataset {name:?}: {what}")]
    Dataset {
        /// Which dataset.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The datasets do not fit together.
    #[error("layout.toml: {0}")]
    Whole(String),
    /// It does not fit what the store holds.
    #[error(
        "layout.toml {0}, but the snapshots of this store were made with it: put it back as it was"
    )]
    Changed(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    dataset: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    System,
    Config,
    Data,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    kind: Kind,
    live: String,
    mount: String,
    #[serde(default)]
    paths: Vec<String>,
}

/// Reads a layout. All that is wrong is refused; nothing is guessed.
pub fn parse(text: &str) -> Result<Layout, LayoutError> {
    let document: Document = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or_default();
            before.matches('\n').count() + 1
        });
        let message = error.message().replace('\n', " ");
        LayoutError::Syntax(match line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        })
    })?;
    let mut system = None;
    let mut config = None;
    let mut data = heapless::Vec::new();
    let mut config_paths = heapless::Vec::new();
    for entry in &document.dataset {
        let dataset = dataset(entry)?;
        if entry.kind != Kind::Config && !entry.paths.is_empty() {
            return wrong(entry, "only the config dataset has paths");
        }
        match entry.kind {
            Kind::System if entry.mount != "/" => {
                return wrong(entry, "the system is mounted at \"/\"");
            }
            Kind::Config | Kind::Data if entry.mount == "/" => {
                return wrong(entry, "only the system is mounted at \"/\"");
            }
            Kind::Config | Kind::Data if is_of_the_system(&entry.mount) => {
                let elsewhere = match entry.kind {
                    Kind::Config => {
                        "mount it at \"/var/lib/backstay/config\" and name its 'paths' one by one"
                    }
                    _ => "mount it elsewhere, such as \"/srv/data\"",
                };
                let mount = &entry.mount;
                return wrong(
                    entry,
                    &format!(
                        "mounted at {mount:?} it would hide what the system needs: {elsewhere}"
                    ),
                );
            }
            Kind::System if system.replace(dataset.clone()).is_some() => {
                return whole("there are two datasets of kind \"system\"; only one root boots");
            }
            Kind::Config if config.replace(dataset.clone()).is_some() => {
                return whole("there are two datasets of kind \"config\"; declare one");
            }
            Kind::Data if data.push(dataset.clone()).is_err() => {
                return whole(&format!("at most {MAX_DATA} datasets of kind \"data\""));
            }
            _ => {}
        }
        for path in &entry.paths {
            if config_paths.push(config_path(entry, path)?).is_err() {
                return wrong(entry, &format!("at most {MAX_PATHS} paths"));
            }
        }
    }
    distinct(&document.dataset)?;
    let Some(system) = system else {
        return whole("no dataset of kind \"system\": declare the one that is mounted at \"/\"");
    };
    Ok(Layout {
        system,
        config,
        config_paths,
        data,
    })
}

fn wrong<T>(entry: &Entry, what: &str) -> Result<T, LayoutError> {
    Err(LayoutError::Dataset {
        name: entry.name.clone(),
        what: what.to_owned(),
    })
}

fn whole<T>(what: &str) -> Result<T, LayoutError> {
    Err(LayoutError::Whole(what.to_owned()))
}

fn dataset(entry: &Entry) -> Result<Dataset, LayoutError> {
    // The names become parts of paths, of kernel parameters and of GRUB's variables.
    let plain = |text: &str, more: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if entry.name.is_empty() || !plain(&entry.name, "_-") {
        return wrong(entry, "a name has letters, digits, '-' and '_' only");
    }
    let dots = matches!(entry.live.as_str(), "" | "." | "..");
    if dots || !plain(&entry.live, "@._-") {
        return wrong(
            entry,
            "'live' is a name in the store's top level, of letters, digits and @._-, such as \
             \"@data\"",
        );
    }
    if entry.live == STORE {
        return wrong(entry, "the name \"@backstay\" is the store's own");
    }
    let long = |what: &str| format!("{what} is too long");
    let (Ok(name), Ok(live)) = (
        Name::try_from(entry.name.as_str()),
        Name::try_from(entry.live.as_str()),
    ) else {
        return wrong(entry, &long("the name"));
    };
    Ok(Dataset {
        name,
        live,
        mount: path(entry, &entry.mount)?,
    })
}

fn path(entry: &Entry, text: &str) -> Result<MountPath, LayoutError> {
    let rest = text.strip_prefix('/');
    let whole = rest.is_some_and(|rest| {
        rest.is_empty()
            || rest
                .split('/')
                .all(|name| !matches!(name, "" | "." | "..") && !name.contains(char::is_control))
    });
    match MountPath::try_from(text) {
        Ok(path) if whole => Ok(path),
        _ => wrong(
            entry,
            &format!("{text:?} is not a plain absolute path of at most 120 bytes"),
        ),
    }
}

/// Whether `one` is `other`, or lies in it.
fn inside(one: &str, other: &str) -> bool {
    one.strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a dataset of data can be mounted there.
pub fn is_for_data(mount: &str) -> bool {
    mount != "/" && !is_of_the_system(mount)
}

fn is_of_the_system(path: &str) -> bool {
    OF_THE_SYSTEM.contains(&path) || NOT_ON_DISK.iter().any(|it| inside(path, it))
}

fn config_path(entry: &Entry, text: &str) -> Result<MountPath, LayoutError> {
    if matches!(text, "/" | "/var" | "/var/lib") || is_of_the_system(text) {
        return wrong(
            entry,
            &format!(
                "{text:?} as a whole cannot be kept apart from the system; name what the machine's \
                 owner changes, such as \"/etc/appliance\""
            ),
        );
    }
    path(entry, text)
}

fn distinct(entries: &[Entry]) -> Result<(), LayoutError> {
    for (i, entry) in entries.iter().enumerate() {
        for other in entries.iter().take(i) {
            for (one, two, what) in [
                (&entry.name, &other.name, "name"),
                (&entry.live, &other.live, "live"),
                (&entry.mount, &other.mount, "mount"),
            ] {
                if one == two {
                    return wrong(entry, &format!("{what} {one:?} is used twice"));
                }
            }
            let (one, two) = (&entry.mount, &other.mount);
            if inside(one, two) || inside(two, one) {
                let name = &other.name;
                return wrong(
                    entry,
                    &format!(
                        "it is mounted at {one:?} and {name:?} at {two:?}, so that one would hide \
                         the other: mount them beside each other"
                    ),
                );
            }
        }
        for (j, path) in entry.paths.iter().enumerate() {
            for (k, other) in entry.paths.iter().enumerate() {
                if j != k && inside(path, other) {
                    return wrong(entry, &format!("path {path:?} lies in path {other:?}"));
                }
            }
        }
    }
    Ok(())
}

/// Whether a store that has snapshots made with `old` can go on with `new`: datasets may be added,
/// but neither renamed, reordered nor removed, because snapshots name their members by kind and
/// order.
pub fn compatible(old: &Layout, new: &Layout) -> Result<(), LayoutError> {
    let changed = |what: String| Err(LayoutError::Changed(what));
    if old.system.live != new.system.live {
        return changed(format!("renames the live system {}", old.system.live));
    }
    match (&old.config, &new.config) {
        (Some(_), None) => return changed("has no config dataset any more".to_owned()),
        (Some(old), Some(new)) if old.live != new.live => {
            return changed(format!("renames the live configuration {}", old.live));
        }
        _ => {}
    }
    for (i, old) in old.data.iter().enumerate() {
        let same = new
            .data
            .get(i)
            .is_some_and(|new| new.name == old.name && new.live == old.live);
        if !same {
            return changed(format!(
                "removes, renames or moves the dataset {}",
                old.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
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
        paths = ["/etc/appliance", "/etc/hosts"]
        [[dataset]]
        name = "data"
        kind = "data"
        live = "@data"
        mount = "/srv/data"
    "#;

    #[test]
    fn the_documented_layout_is_read() {
        let layout = parse(GOOD).unwrap();
        assert_eq!(layout.system.live, "@rootfs");
        assert_eq!(layout.config.unwrap().mount, "/var/lib/backstay/config");
        assert_eq!(layout.config_paths.len(), 2);
        assert_eq!(layout.data[0].live, "@data");
    }

    #[test]
    fn every_wrong_layout_is_refused_with_what_is_wrong() {
        for (from, to, says) in [
            ("live = \"@data\"", "live = \"@rootfs\"", "used twice"),
            ("name = \"data\"", "name = \"config\"", "used twice"),
            (
                "\"/srv/data\"",
                "\"/var/lib/backstay/config\"",
                "used twice",
            ),
            (
                "live = \"@data\"",
                "live = \"@backstay\"",
                "the store's own",
            ),
            ("live = \"@data\"", "live = \"..\"", "top level"),
            ("live = \"@data\"", "live = \"a/b\"", "top level"),
            ("live = \"@data\"", "live = \"\"", "top level"),
            ("name = \"data\"", "name = \"a b\"", "letters"),
            ("name = \"data\"", "name = \"../x\"", "letters"),
            ("\"/srv/data\"", "\"srv/data\"", "absolute"),
            ("\"/srv/data\"", "\"/srv/../data\"", "absolute"),
            ("\"/srv/data\"", "\"/srv//data\"", "absolute"),
            ("\"/srv/data\"", "\"/\"", "only the system"),
            ("mount = \"/\"\n", "mount = \"/x\"\n", "mounted at \"/\""),
            ("kind = \"data\"", "kind = \"system\"", "mounted at \"/\""),
            ("kind = \"data\"", "kind = \"config\"", "two datasets"),
            ("kind = \"system\"", "kind = \"data\"", "only the system"),
            ("kind = \"data\"", "kind = \"date\"", "line"),
            (
                "kind = \"data\"",
                "kind = \"data\"\npaths = [\"/x\"]",
                "paths",
            ),
            ("\"/etc/hosts\"", "\"/etc\"", "such as \"/etc/appliance\""),
            ("\"/etc/hosts\"", "\"/\"", "as a whole"),
            ("\"/etc/hosts\"", "\"/lib64\"", "as a whole"),
            ("\"/etc/hosts\"", "\"/var\"", "as a whole"),
            ("\"/etc/hosts\"", "\"/run/x\"", "as a whole"),
            ("\"/etc/hosts\"", "\"/etc/appliance/x\"", "lies in"),
            ("\"/etc/hosts\"", "\"/etc/appliance\"", "lies in"),
            ("\"/etc/hosts\"", "\"etc/hosts\"", "absolute"),
            ("[[dataset]]", "[[datasets]]", "unknown field"),
            ("mount = \"/\"\n", "", "missing field"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{to}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(parse("").unwrap_err().to_string().contains("no dataset"));
    }

    #[test]
    fn no_dataset_is_mounted_over_what_the_system_starts_from() {
        for mount in OF_THE_SYSTEM.iter().chain(&NOT_ON_DISK) {
            for (place, says) in [
                ("\"/srv/data\"", "such as \"/srv/data\""),
                ("\"/var/lib/backstay/config\"", "'paths' one by one"),
            ] {
                let text = GOOD.replace(place, &format!("{mount:?}"));
                let error = parse(&text).unwrap_err().to_string();
                assert!(error.contains(says), "{mount}: {error}");
                assert!(error.contains(mount) && !error.contains('\n'), "{error}");
            }
        }
        for (mount, good) in [
            ("/run/media/x", false),
            ("/runs", true),
            ("/usr/local", true),
            ("/etc/appliance-data", true),
            ("/home", true),
            ("/var/lib/postgresql", true),
        ] {
            let text = GOOD.replace("\"/srv/data\"", &format!("{mount:?}"));
            assert_eq!(parse(&text).is_ok(), good, "{mount}");
        }
    }

    #[test]
    fn no_dataset_is_mounted_inside_another_one() {
        let media = |mount: &str| {
            format!(
                "{GOOD}\n[[dataset]]\nname=\"media\"\nkind=\"data\"\nlive=\"@media\"\n\
                 mount={mount:?}"
            )
        };
        for (mount, good) in [
            ("/srv", false),
            ("/srv/data/media", false),
            ("/var/lib/backstay", false),
            ("/var/lib/backstay/config/media", false),
            ("/srv/data2", true),
            ("/srv/media", true),
            ("/var/lib/backstay/media", true),
        ] {
            match parse(&media(mount)) {
                Ok(_) => assert!(good, "{mount}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!good && text.contains("beside each other"), "{text}");
                    assert!(text.contains(mount) && !text.contains('\n'), "{text}");
                }
            }
        }
        // Another way of writing the same is refused as such.
        for mount in ["/srv//data", "/srv/data/", "//srv/data", "/srv/./data"] {
            let error = parse(&media(mount)).unwrap_err().to_string();
            assert!(error.contains("plain absolute path"), "{error}");
        }
    }

    #[test]
    fn a_store_with_snapshots_takes_added_datasets_only() {
        let old = parse(GOOD).unwrap();
        let more = format!(
            "{GOOD}\n[[dataset]]\nname=\"media\"\nkind=\"data\"\nlive=\"@media\"\nmount=\"/m\""
        );
        let new = parse(&more).unwrap();
        assert_eq!(compatible(&old, &new), Ok(()));
        assert!(compatible(&new, &old).is_err());
        let renamed = parse(&GOOD.replace("@data", "@other")).unwrap();
        assert!(compatible(&old, &renamed).is_err());
        let renamed = parse(&GOOD.replace("@rootfs", "@other")).unwrap();
        assert!(compatible(&old, &renamed).is_err());
    }
}
