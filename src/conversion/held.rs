//! What is held still until the reboot, in `/run`: it goes with what it tells of.
//!
//! Each thing is written down before it is done, so that one that was killed in the middle can be made up for: to start what
//! runs, or to make writable what is, does no harm.

use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;

/// Where it is.
pub const PATH: &str = "/run/backstay/held.json";

/// A unit that was stopped, and is not started until it is let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Whether it ran, so that it is started again.
    pub ran: bool,
}

/// Everything that is held. Field names are stable, for JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Units.
    pub services: Vec<Unit>,
    /// Where mounts are that were made read-only.
    pub mounts: Vec<String>,
}

impl Held {
    /// What is held by now; `None` for nothing.
    pub fn read(path: &Path) -> std::io::Result<Option<Held>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it down.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, path)
    }

    /// Nothing is held any more.
    pub fn forget(path: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// In one line, for people.
    pub fn told(&self) -> String {
        let mut parts = Vec::new();
        if !self.services.is_empty() {
            let names: Vec<&str> = self.services.iter().map(|it| it.name.as_str()).collect();
            parts.push(format!("stopped: {}", names.join(", ")));
        }
        if !self.mounts.is_empty() {
            parts.push(format!("read-only: {}", self.mounts.join(", ")));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_none_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backstay/held.json");
        assert_eq!(Held::read(&path).unwrap(), None);
        Held::forget(&path).unwrap();
        let unit = |name: &str, ran| Unit {
            name: name.to_owned(),
            ran,
        };
        let held = Held {
            services: vec![unit("shop.service", true), unit("shop.timer", false)],
            mounts: vec!["/srv/data".to_owned()],
        };
        held.write(&path).unwrap();
        assert_eq!(Held::read(&path).unwrap(), Some(held.clone()));
        assert_eq!(
            held.told(),
            "stopped: shop.service, shop.timer; read-only: /srv/data"
        );
        std::fs::write(&path, b"{").unwrap();
        assert!(Held::read(&path).is_err());
        Held::forget(&path).unwrap();
        assert_eq!(Held::read(&path).unwrap(), None);
    }
}
