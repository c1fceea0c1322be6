//! What a tree holds that a factory version should not: what a first boot leaves behind, and what
//! belongs to an owner.
//!
//! A factory snapshot with a machine id or host keys would give them to every machine made from it,
//! and a reset would hand one owner's identity to the next. One table says what is looked for, for
//! `factory seal` and for `factory pack`. A trace of a boot stops `factory seal`; what an image builder
//! may have put there on purpose (a password, a key) is a warning, as everything is at `factory pack`,
//! which also packs roots for other purposes.

use super::error::Result;
use crate::store::Store;
use crate::store::place::Place;

/// Bytes of a file that are looked at.
pub const LOOKED_AT: u64 = 1 << 20;

/// A tree that can be looked at; no symbolic link is followed.
pub trait Tree {
    /// The first [`LOOKED_AT`] bytes of a regular file; `None` where there is none.
    fn content(&self, path: &str) -> Result<Option<Vec<u8>>>;
    /// The names in a directory; empty where there is none.
    fn names(&self, path: &str) -> Result<Vec<String>>;
}

/// A dataset of a store.
pub struct Inside<'a, S>(pub &'a S, pub Place);

impl<S: Store> Tree for Inside<'_, S> {
    fn content(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.content(self.1, path)?)
    }

    fn names(&self, path: &str) -> Result<Vec<String>> {
        Ok(self.0.names(self.1, path)?)
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: String,
    /// What to do about it.
    pub remedy: String,
    /// Only a system that ran has it: it is never sealed.
    pub booted: bool,
}

impl core::fmt::Display for Finding {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(to, "{} ({})", self.path, self.remedy)
    }
}

/// Where something lies.
#[derive(Clone, Copy)]
enum At {
    /// A file that is not empty.
    File(&'static str),
    /// A file that is not empty, in every home: those below /home, and those that etc/passwd names.
    Home(&'static str),
    /// What lies in a directory under a name that begins and ends so.
    In(&'static str, &'static str, &'static str),
    /// A file in which a word stands.
    With(&'static str, &'static str),
    /// Files that are not empty, anywhere below a directory; one finding for all.
    Below(&'static str),
    /// An identity that may be there, empty or not yet made.
    MachineId(&'static str),
    /// Accounts with passwords.
    Accounts(&'static str),
    /// Groups with passwords.
    Groups(&'static str),
}

const REMOVE: &str = "remove it";
const LOGIN: &str = "remove it, or every machine lets its owner in";
const HISTORY: &str = "remove it: what was typed is nobody else's";
const SECRET: &str = "remove it: it is a secret of one machine";
const SIGNS: &str = "remove it: who has it can sign images";
const BACKUP: &str = "remove it: it is a backup";

/// What is looked for: whether only a booted system has it, where, and the remedy.
const TABLE: [(bool, At, &str); 58] = [
    (
        true,
        At::MachineId("etc/machine-id"),
        "write 'uninitialized' into it",
    ),
    (true, At::File("var/lib/systemd/random-seed"), REMOVE),
    (true, At::File("var/lib/systemd/credential.secret"), REMOVE),
    (true, At::File("var/lib/systemd/timesync/clock"), REMOVE),
    (true, At::File("var/lib/NetworkManager/secret_key"), REMOVE),
    (true, At::File("var/lib/urandom/random-seed"), REMOVE),
    (true, At::File("var/log/wtmp.db"), REMOVE),
    (true, At::File("root/.bash_history"), REMOVE),
    (true, At::File("var/lib/dbus/machine-id"), REMOVE),
    (true, At::In("etc/ssh", "ssh_host_", "_key"), REMOVE),
    (
        true,
        At::In("etc/dropbear", "dropbear_", "_host_key"),
        REMOVE,
    ),
    (true, At::In("etc/ssh", "ssh_host_", "_key.pub"), REMOVE),
    (true, At::In("var/log/journal", "", ""), REMOVE),
    (true, At::In("var/lib/dhcp", "", ".leases"), REMOVE),
    (true, At::In("var/lib/dhcpcd", "", ".lease"), REMOVE),
    (true, At::In("var/lib/NetworkManager", "", ".lease"), REMOVE),
    (true, At::In("var/lib/systemd/coredump", "", ""), REMOVE),
    (false, At::Accounts("etc/shadow"), "lock it: 'passwd -l'"),
    (false, At::Accounts("etc/passwd"), "lock it: 'passwd -l'"),
    (false, At::Groups("etc/gshadow"), "remove it: 'gpasswd -r'"),
    (false, At::Accounts("etc/shadow-"), BACKUP),
    (false, At::In("etc", "shadow.", ""), BACKUP),
    (false, At::In("etc", "shadow~", ""), BACKUP),
    (false, At::File("etc/security/opasswd"), "remove it"),
    (false, At::In("etc/backstay", "", ".key"), SIGNS),
    (
        false,
        At::With("etc/backstay/policy.toml", "$argon2"),
        "remove its password line, or every machine's console has the same one",
    ),
    (false, At::In("etc/backstay/keys", "", ".key"), SIGNS),
    (false, At::In("etc/ssl/private", "", ".key"), SECRET),
    (false, At::In("etc/wireguard", "", ".conf"), SECRET),
    (false, At::In("etc/wireguard", "", ".key"), SECRET),
    (false, At::File("etc/krb5.keytab"), SECRET),
    (
        false,
        At::In("etc/NetworkManager/system-connections", "", ""),
        "remove it: it may hold a password",
    ),
    (
        false,
        At::File("etc/iscsi/initiatorname.iscsi"),
        "remove it: two machines must not have the same one",
    ),
    (false, At::In("etc/ssh/authorized_keys.d", "", ""), LOGIN),
    (false, At::Home(".ssh/authorized_keys"), LOGIN),
    (false, At::Home(".ssh/authorized_keys2"), LOGIN),
    (false, At::Home(".ssh/id_rsa"), LOGIN),
    (false, At::Home(".ssh/id_ecdsa"), LOGIN),
    (false, At::Home(".ssh/id_ed25519"), LOGIN),
    (false, At::Home(".ssh/id_dsa"), LOGIN),
    (false, At::Home(".ssh/id_ecdsa_sk"), LOGIN),
    (false, At::Home(".ssh/id_ed25519_sk"), LOGIN),
    (false, At::Home(".bash_history"), HISTORY),
    (false, At::Home(".zsh_history"), HISTORY),
    (false, At::Home(".ash_history"), HISTORY),
    (false, At::Home(".sh_history"), HISTORY),
    (false, At::Home(".python_history"), HISTORY),
    (false, At::Home(".lesshst"), HISTORY),
    (false, At::Home(".viminfo"), HISTORY),
    (false, At::Below("var/log"), "empty or remove them"),
    (false, At::File("var/lib/random-seed"), REMOVE),
    (false, At::File("boot/loader/random-seed"), REMOVE),
    (false, At::File("boot/efi/loader/random-seed"), REMOVE),
    (false, At::File("efi/loader/random-seed"), REMOVE),
    (false, At::File("var/lib/dhcpcd/duid"), REMOVE),
    (false, At::File("var/lib/dhcpcd/secret"), REMOVE),
    (false, At::In("var/lib/systemd/network", "", ""), REMOVE),
    (false, At::In("var/lib/iscsi/nodes", "", ""), REMOVE),
];

/// Everything that a tree holds of the table, in its order, each path once.
pub fn findings(tree: &impl Tree) -> Result<Vec<Finding>> {
    let homes = homes(tree)?;
    let mut findings: Vec<Finding> = Vec::new();
    for (booted, at, remedy) in TABLE {
        for (path, remedy) in found(tree, at, remedy, &homes)? {
            if !findings.iter().any(|earlier| earlier.path == path) {
                findings.push(Finding {
                    path,
                    remedy,
                    booted,
                });
            }
        }
    }
    Ok(findings)
}

fn homes(tree: &impl Tree) -> Result<Vec<String>> {
    let below = sorted(tree, "home")?;
    let below = below.into_iter().map(|name| format!("home/{name}"));
    let passwd = tree.content("etc/passwd")?.unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let named = passwd.lines().filter_map(|line| line.split(':').nth(5));
    let named = named.map(|home| home.trim_matches('/').to_owned());
    let mut homes = vec!["root".to_owned()];
    for home in below.chain(named.filter(|home| !home.is_empty())) {
        if !homes.contains(&home) {
            homes.push(home);
        }
    }
    Ok(homes)
}

/// What there is of one line of the table: paths and remedies.
fn found(
    tree: &impl Tree,
    at: At,
    remedy: &str,
    homes: &[String],
) -> Result<Vec<(String, String)>> {
    let full = |path: &str| -> Result<bool> {
        Ok(tree
            .content(path)?
            .is_some_and(|content| !content.is_empty()))
    };
    let paths: Vec<String> = match at {
        At::File(path) => full(path)?.then(|| path.to_owned()).into_iter().collect(),
        At::With(path, word) => {
            let text = tree.content(path)?.unwrap_or_default();
            let stands = String::from_utf8_lossy(&text).contains(word);
            stands.then(|| path.to_owned()).into_iter().collect()
        }
        At::Home(name) => {
            let mut paths = Vec::new();
            for home in homes {
                let path = format!("{home}/{name}");
                if full(&path)? {
                    paths.push(path);
                }
            }
            paths
        }
        At::In(directory, prefix, suffix) => sorted(tree, directory)?
            .into_iter()
            .filter(|name| name.starts_with(prefix) && name.ends_with(suffix))
            .map(|name| format!("{directory}/{name}"))
            .collect(),
        At::Below(directory) => {
            let mut files = Vec::new();
            below(tree, directory, DEPTH, &mut files)?;
            return Ok(match files.first() {
                Some(first) => vec![(
                    directory.to_owned(),
                    format!("{} files, such as {first}: {remedy}", files.len()),
                )],
                None => Vec::new(),
            });
        }
        At::MachineId(path) => {
            let id = tree.content(path)?.unwrap_or_default();
            let id = String::from_utf8_lossy(&id);
            let none = matches!(id.trim(), "" | "uninitialized");
            (!none).then(|| path.to_owned()).into_iter().collect()
        }
        At::Accounts(path) => {
            let text = tree.content(path)?.unwrap_or_default();
            return Ok(accounts(path, &String::from_utf8_lossy(&text), remedy));
        }
        // A group without a password admits its members only.
        At::Groups(path) => {
            let text = tree.content(path)?.unwrap_or_default();
            let mut found = accounts(path, &String::from_utf8_lossy(&text), remedy);
            found.retain(|(what, _)| what.contains(": password of "));
            return Ok(found);
        }
    };
    Ok(paths
        .into_iter()
        .map(|path| (path, remedy.to_owned()))
        .collect())
}

/// How deep logs are looked for.
const DEPTH: u32 = 8;

fn below(tree: &impl Tree, path: &str, depth: u32, files: &mut Vec<String>) -> Result<()> {
    for name in sorted(tree, path)? {
        let path = format!("{path}/{name}");
        match tree.content(&path)? {
            Some(content) if content.is_empty() => {}
            Some(_) => files.push(path),
            None if depth > 0 => below(tree, &path, depth - 1, files)?,
            None => {}
        }
    }
    Ok(())
}

fn sorted(tree: &impl Tree, path: &str) -> Result<Vec<String>> {
    let mut names = tree.names(path)?;
    names.sort_unstable();
    Ok(names)
}

/// The accounts of a shadow(5) or passwd(5) that somebody can use: those with a hash, and those without
/// a password. A field that crypt(3) never makes, such as `!`, `*` or `x`, fits no password.
fn accounts(path: &str, text: &str, remedy: &str) -> Vec<(String, String)> {
    // The traditional hash has 13 characters; all others begin with `$` or `_` (crypt(5)).
    let is_hash =
        |field: &str| field.starts_with(['$', '_']) || (field.len() >= 13 && is_crypt(field));
    let fields = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.next()?))
    });
    let (mut open, mut hashed) = (Vec::new(), Vec::new());
    for (account, password) in fields {
        match password {
            "" => open.push(account),
            hash if is_hash(hash) => hashed.push(account),
            _ => {}
        }
    }
    let mut found = Vec::new();
    if !hashed.is_empty() {
        let who = hashed.join(", ");
        found.push((
            format!("{path}: password of {who}"),
            format!("every machine has the same one; {remedy}"),
        ));
    }
    if !open.is_empty() {
        let who = open.join(", ");
        found.push((
            format!("{path}: no password for {who}"),
            format!("anybody can log in; {remedy}"),
        ));
    }
    found
}

fn is_crypt(field: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/');
    field.chars().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::layout::Part;
    use crate::store::memory::Content;
    use crate::transaction::model::machine;

    fn with(entries: &[(&str, &str)]) -> Vec<Finding> {
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
        findings(&Inside(&store, place)).unwrap()
    }

    #[test]
    fn a_tree_that_was_never_booted_has_nothing() {
        for entries in [
            &[][..],
            &[("etc/machine-id", "")],
            &[("etc/machine-id", "uninitialized\n")],
            &[("etc/ssh/sshd_config", "x"), ("var/log/dpkg.log", "")],
            &[("var/lib/dbus/machine-id", "")],
            &[(
                "etc/shadow",
                "root:!:20000:0:::::\nbin:*:1\nme:!$y$j9T$x:1\n\n",
            )],
            &[
                ("home/me/.ssh/authorized_keys", ""),
                ("home/me/.ssh/config", "x"),
            ],
            &[("root/.bashrc", "x"), ("home/file", "x")],
            &[("etc/backstay/policy.toml", "[console]\nmenu = \"open\"\n")],
            &[("etc/passwd", "root:x:0:0::/root:/bin/sh\nme:x:1:1::/:\n")],
            &[
                ("etc/shadow", "root:x:1:::::\n"),
                ("etc/gshadow", "root:*::\nme:::\n"),
            ],
        ] {
            assert_eq!(with(entries), []);
        }
    }

    #[test]
    fn each_line_of_the_table_is_found_with_its_remedy() {
        for (booted, at, _) in TABLE {
            let (path, text) = match at {
                At::File(path) | At::MachineId(path) => (path.to_owned(), "8f3ad1"),
                At::With(path, word) => (path.to_owned(), word),
                At::Home(name) => (format!("home/me/{name}"), "x"),
                At::In(directory, prefix, suffix) => (format!("{directory}/{prefix}a{suffix}"), ""),
                At::Below(directory) => (format!("{directory}/apt/history.log"), "x"),
                At::Accounts(path) | At::Groups(path) => {
                    (path.to_owned(), "root:$y$j9T$salt$hash:1::::::\n")
                }
            };
            let found = with(&[(&path, text)]);
            // What lies in the journal is a log as well, and a boot's trace first.
            let first = &found[0];
            assert_eq!(first.booted, booted, "{path}: {found:?}");
            let named = first.path.split(':').next().unwrap();
            assert!(path.starts_with(named), "{found:?}");
            assert!(first.to_string().ends_with(')') && !first.remedy.is_empty());
        }
    }

    #[test]
    fn accounts_with_a_password_and_without_one_are_told_apart() {
        let text = "root:$6$a$b:1\nme::1\nyou:ab01FAX.bQRSU:1\nlocked:!$y$c:1\nnobody:x:1\n";
        let lines: Vec<String> = with(&[("etc/shadow", text)])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            lines,
            [
                "etc/shadow: password of root, you (every machine has the same one; lock it: 'passwd -l')",
                "etc/shadow: no password for me (anybody can log in; lock it: 'passwd -l')",
            ]
        );
    }

    #[test]
    fn homes_are_those_that_accounts_have() {
        let passwd = "root:x:0:0::/root:/bin/sh\nhg:x:9:9::/srv/hg/:/bin/sh\nno:x:8:8:::\n";
        let key = "srv/hg/.ssh/authorized_keys";
        let found = with(&[("etc/passwd", passwd), (key, "ssh-ed25519 x")]);
        assert_eq!(found.iter().map(|one| &one.path).collect::<Vec<_>>(), [key]);
    }

    #[test]
    fn one_finding_stands_for_all_logs() {
        let found = with(&[
            ("var/log/dpkg.log", "x"),
            ("var/log/apt/term.log", "x"),
            ("var/log/lastlog", ""),
        ]);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["var/log (2 files, such as var/log/apt/term.log: empty or remove them)"]
        );
    }
}
