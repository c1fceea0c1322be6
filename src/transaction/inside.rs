//! Data that lies in a system, and so goes back with it, where it is no dataset of its own.

use super::Error;
use crate::store::place::Place;
use crate::store::{Node, Store};

/// Data that people do not expect to go back with the system: where it lies, and whether `backstay init` makes it a
/// dataset of its own unless somebody says no.
pub const DATA: [(&str, bool); 12] = [
    ("/home", true),
    ("/srv", true),
    ("/var/log", true),
    ("/root", false),
    ("/opt", false),
    ("/var/mail", false),
    ("/var/www", false),
    ("/var/lib/postgresql", false),
    ("/var/lib/mysql", false),
    ("/var/lib/docker", false),
    ("/var/lib/containers", false),
    ("/var/lib/libvirt", false),
];

/// The directories of [`DATA`] in a system that are not empty, and neither datasets nor subvolumes, which stay.
pub fn inside<S: Store>(store: &S, system: Place) -> Result<Vec<&'static str>, Error> {
    let layout = store.layout().clone();
    let datasets = || layout.config.iter().chain(&layout.data);
    let nested = store.nested(system)?;
    let mut found = Vec::new();
    for (path, _) in DATA {
        let below = path.trim_start_matches('/');
        let is_dataset = datasets().any(|dataset| dataset.mount.as_str() == path);
        let is_nested = nested.iter().any(|nested| nested.path == below.as_bytes());
        if is_dataset || is_nested || store.node(system, below)? != Some(Node::Directory) {
            continue;
        }
        // A directory that a dataset is mounted on, or lies above one, holds nothing itself.
        let leads_to_dataset = |name: &String| {
            let inner = format!("{path}/{name}");
            datasets().any(|dataset| {
                let rest = dataset.mount.strip_prefix(inner.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        if !store.names(system, below)?.iter().all(leads_to_dataset) {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::layout::Part;
    use crate::store::memory::Content;
    use crate::transaction::model::machine;

    #[test]
    fn only_what_goes_along_with_the_system_is_named() {
        let (mut store, _) = machine();
        let system = Place::Live(Part::System);
        assert_eq!(inside(&store, system).unwrap(), [""; 0]);
        store.edit(|world, _| {
            let tree = &mut world.datasets.get_mut(&system).unwrap().tree;
            for (path, content) in [
                ("root", Content::Directory),
                ("root/notes", Content::File(b"x".to_vec())),
                ("opt", Content::Directory),
                ("var/lib/mysql", Content::Link("/elsewhere".into())),
            ] {
                tree.insert(path.into(), content);
            }
        });
        assert_eq!(inside(&store, system).unwrap(), ["/root"]);
    }
}
