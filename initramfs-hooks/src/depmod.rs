//! What depmod(8) wrote beside the modules: which file a name is, what it needs, which device wants it.
//!
//! The builder reads a root's `lib/modules/RELEASE` to choose what goes into the initramfs, the agent
//! reads the reduced copy in it. Formats: modules.dep(5) and the comments that depmod itself writes.
//! Lines of an unknown shape are left out: a newer depmod adds kinds of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module file and what must be loaded before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// The file, relative to the directory of the release.
    pub path: PathBuf,
    /// Names of the modules that it needs, in the order of `modules.dep`.
    pub needs: Vec<String>,
}

/// Modules that `modules.softdep` wants around another one, where they exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Soft {
    /// To be loaded before it: names or aliases.
    pub before: Vec<String>,
    /// To be loaded after it: names or aliases.
    pub after: Vec<String>,
}

/// All that depmod wrote about one kernel's modules.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// By module name.
    pub modules: BTreeMap<String, Module>,
    /// Pattern and module name, in the order of `modules.alias`.
    pub aliases: Vec<(String, String)>,
    /// By module name.
    pub soft: BTreeMap<String, Soft>,
    /// Names of modules that are part of the kernel.
    pub builtin: BTreeSet<String>,
}

/// A module's name as the kernel knows it: the file's name up to `.ko`, with `_` for `-`.
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Index {
    /// Reads the index of one release. Only `modules.dep` must be there.
    ///
    /// # Errors
    /// `modules.dep` cannot be read.
    pub fn read(dir: &Path) -> std::io::Result<Self> {
        let optional = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        Ok(Self {
            modules: parse_dep(&std::fs::read_to_string(dir.join("modules.dep"))?),
            aliases: parse_alias(&optional("modules.alias")),
            soft: parse_softdep(&optional("modules.softdep")),
            builtin: optional("modules.builtin")
                .lines()
                .map(module_name)
                .collect(),
        })
    }

    /// Names of the modules that `name` stands for: itself where it is a module, else all whose alias
    /// matches it. Built-in ones are not among them: they need no loading.
    pub fn resolve(&self, name: &str) -> Vec<String> {
        let plain = name.replace('-', "_");
        if self.modules.contains_key(&plain) {
            return vec![plain];
        }
        if self.builtin.contains(&plain) {
            return Vec::new();
        }
        let mut found: Vec<String> = Vec::new();
        for (pattern, module) in &self.aliases {
            if !found.contains(module) && crate::glob::matches(pattern, name) {
                found.push(module.clone());
            }
        }
        found
    }

    /// Whether the kernel has it, as a module or built in.
    pub fn knows(&self, name: &str) -> bool {
        self.builtin.contains(&name.replace('-', "_")) || !self.resolve(name).is_empty()
    }

    /// `names` (modules or aliases) and all that they need, hard and soft, each once and in the order
    /// in which they load. What does not exist is left out.
    pub fn load_order<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut walk = Walk {
            index: self,
            seen: BTreeSet::new(),
            order: Vec::new(),
        };
        for name in names {
            for module in self.resolve(name) {
                walk.visit(&module);
            }
        }
        walk.order
    }
}

/// Depth first, each module once: a circle in soft dependencies ends where it began.
struct Walk<'a> {
    index: &'a Index,
    seen: BTreeSet<String>,
    order: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, name: &str) {
        let Some(module) = self.index.modules.get(name) else {
            return;
        };
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        let soft = self.index.soft.get(name).cloned().unwrap_or_default();
        self.visit_aliases(&soft.before);
        // modules.dep lists what a module needs with the deepest last.
        for need in module.needs.iter().rev() {
            self.visit(need);
        }
        self.order.push(name.to_owned());
        self.visit_aliases(&soft.after);
    }

    fn visit_aliases(&mut self, names: &[String]) {
        for name in names {
            for module in self.index.resolve(name) {
                self.visit(&module);
            }
        }
    }
}

/// `path: path path`, one module a line.
pub fn parse_dep(text: &str) -> BTreeMap<String, Module> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| {
            let needs = needs.split_whitespace().map(module_name).collect();
            (
                module_name(path),
                Module {
                    path: PathBuf::from(path),
                    needs,
                },
            )
        })
        .collect()
}

/// `alias PATTERN MODULE`.
pub fn parse_alias(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("alias ")?.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.replace('-', "_")))
        })
        .collect()
}

/// `softdep MODULE pre: NAME… post: NAME…`.
pub fn parse_softdep(text: &str) -> BTreeMap<String, Soft> {
    let mut all: BTreeMap<String, Soft> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("softdep"), Some(module)) = (words.next(), words.next()) else {
            continue;
        };
        let soft = all.entry(module.replace('-', "_")).or_default();
        let mut after = false;
        for word in words {
            match word {
                "pre:" => after = false,
                "post:" => after = true,
                name if after => soft.after.push(name.to_owned()),
                name => soft.before.push(name.to_owned()),
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index {
            modules: parse_dep(
                "kernel/fs/btrfs/btrfs.ko.xz: kernel/lib/raid6/raid6_pq.ko.xz kernel/crypto/xor.ko.xz\n\
                 kernel/lib/raid6/raid6_pq.ko.xz:\n\
                 kernel/crypto/xor.ko.xz:\n\
                 kernel/crypto/crc32c-intel.ko.xz:\n\
                 kernel/a.ko: kernel/b.ko kernel/c.ko\n\
                 kernel/b.ko: kernel/c.ko\n\
                 kernel/c.ko:\n",
            ),
            aliases: parse_alias(
                "# Aliases\nalias fs-btrfs btrfs\nalias crc32c crc32c-intel\nalias virtio:d00000002v* virtio_blk\n",
            ),
            soft: parse_softdep("softdep btrfs pre: crc32c post: gone\nsoftdep b pre: a\n"),
            builtin: ["kernel/drivers/virtio/virtio-pci.ko"]
                .iter()
                .map(|p| module_name(p))
                .collect(),
        }
    }

    #[test]
    fn names_are_as_the_kernel_has_them() {
        for (path, name) in [
            ("kernel/drivers/virtio/virtio-pci.ko.zst", "virtio_pci"),
            ("btrfs.ko", "btrfs"),
            ("crc32c-intel.ko.gz", "crc32c_intel"),
        ] {
            assert_eq!(module_name(path), name);
        }
    }

    #[test]
    fn what_is_needed_comes_first_and_each_once() {
        let index = index();
        assert_eq!(
            index.load_order(["fs-btrfs"]),
            ["crc32c_intel", "xor", "raid6_pq", "btrfs"]
        );
        assert_eq!(index.load_order(["a", "c"]), ["c", "b", "a"]);
    }

    #[test]
    fn a_circle_of_soft_dependencies_ends() {
        let order = index().load_order(["b"]);
        assert_eq!(order.len(), 3);
    }

    #[test]
    fn built_in_and_unknown_names_stand_for_nothing_to_load() {
        let index = index();
        assert!(index.resolve("virtio-pci").is_empty());
        assert!(index.resolve("nothing").is_empty());
        assert_eq!(index.resolve("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert!(index.load_order(["virtio:d00000002v00001AF4"]).is_empty());
    }
}
