//! Whether a tree was ever booted: what a first boot leaves behind, and what belongs to an owner.
//!
//! A factory snapshot with a machine id or host keys would give them to every machine made from
//! it, and a reset would hand one owner's identity to the next.

use super::error::Result;
use crate::store::place::Place;
use crate::store::{Node, Store};

/// Files that only a system that ran has. Removing them is the remedy.
const FILES: [&str; 8] = [
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/timesync/clock",
    "var/lib/NetworkManager/secret_key",
    "var/lib/urandom/random-seed",
    "var/log/wtmp.db",
    "root/.bash_history",
    "var/lib/dbus/machine-id",
];

/// Directories that are empty before the first boot, with the names that count: prefix, suffix.
const DIRECTORIES: [(&str, &str, &str); 7] = [
    ("etc/ssh", "ssh_host_", "_key"),
    ("etc/ssh", "ssh_host_", "_key.pub"),
    ("var/log/journal", "", ""),
    ("var/lib/dhcp", "", ".leases"),
    ("var/lib/dhcpcd", "", ".lease"),
    ("var/lib/NetworkManager", "", ".lease"),
    ("var/lib/systemd/coredump", "", ""),
];

/// What a tree holds that only a booted one has, each with its remedy; empty when it is pristine.
pub fn traces<S: Store>(store: &S, place: Place) -> Result<Vec<String>> {
    let mut traces = Vec::new();
    if let Some(id) = store.content(place, "etc/machine-id")? {
        let id = String::from_utf8_lossy(&id);
        if !matches!(id.trim(), "" | "uninitialized") {
            traces.push("etc/machine-id (write 'uninitialized' into it)".to_owned());
        }
    }
    for path in FILES {
        if store.node(place, path)? == Some(Node::File)
            && store
                .content(place, path)?
                .is_some_and(|content| !content.is_empty())
        {
            traces.push(format!("{path} (remove it)"));
        }
    }
    for (directory, prefix, suffix) in DIRECTORIES {
        if store.node(place, directory)? != Some(Node::Directory) {
            continue;
        }
        let mut names = store.names(place, directory)?;
        names.sort_unstable();
        for name in names {
            if name.starts_with(prefix) && name.ends_with(suffix) {
                traces.push(format!("{directory}/{name} (remove it)"));
            }
        }
    }
    Ok(traces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::layout::Part;
    use crate::store::memory::Content;
    use crate::transaction::model::machine;

    fn with(entries: &[(&str, &str)]) -> Vec<String> {
        let (mut store, _) = machine();
        let place = Place::Live(Part::System);
        store.edit(|world, _| {
            let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
            for (path, text) in entries {
                for (at, _) in path.match_indices('/') {
                    tree.insert(path[..at].to_owned(), Content::Directory);
                }
                tree.insert((*path).to_owned(), Content::File(text.as_bytes().to_vec()));
            }
        });
        traces(&store, place).unwrap()
    }

    #[test]
    fn a_tree_that_was_never_booted_has_no_traces() {
        for entries in [
            &[][..],
            &[("etc/machine-id", "")],
            &[("etc/machine-id", "uninitialized\n")],
            &[("etc/ssh/sshd_config", "x"), ("var/log/dpkg.log", "x")],
            &[("var/lib/dbus/machine-id", "")],
        ] {
            assert_eq!(with(entries), Vec::<String>::new());
        }
    }

    #[test]
    fn each_trace_of_a_boot_is_named_with_its_remedy() {
        for path in FILES.into_iter().chain([
            "etc/machine-id",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/ssh_host_ed25519_key.pub",
            "var/log/journal/0123/system.journal",
            "var/lib/dhcp/dhclient.eth0.leases",
            "var/lib/NetworkManager/a.lease",
        ]) {
            let found = with(&[(path, "8f3ad1")]);
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            let named = found[0].split(' ').next().unwrap();
            assert!(path.starts_with(named), "{found:?}");
            assert!(found[0].ends_with(')'), "{found:?}");
        }
    }
}
