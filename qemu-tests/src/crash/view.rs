//! What lies on a mounted disk, in lines that can be compared: every file of every subvolume.
//!
//! What differs from one run to the next without meaning (UUIDs of what a verb made, times) is
//! replaced by what it stands for. What must never change (the identity of the snapshots that were there
//! before) is kept. So a disk after a cut is equal to the one or the other end of the verb, or it is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use backstay::record::block::{Block, decode};
use backstay::record::journal::Journal;
use backstay::record::layout::Part;
use backstay::record::manifest::{Kind, Manifest};
use backstay::record::slots::Slots;
use backstay::record::state::State;
use backstay::record::{Identity, Uuid};
use backstay::store::Store as _;
use backstay::store::btrfs::{Btrfs, open_top};
use backstay::store::place::{Place, STORE};
use backstay::sys::btrfs as ioctl;
use backstay::transaction::records::{read_journal, read_state};
use sha2::{Digest as _, Sha256};

use super::builder::SYSTEM;
use super::full::FILL;
use crate::compare;

/// Room that is given up on a full disk.
pub const BALLAST: &str = "@backstay/ballast";

/// The line of the default subvolume.
pub(super) const DEFAULT: &str = "(default subvolume)";
/// The inode of a subvolume's root.
const SUBVOLUME: u64 = 256;
/// The inode of what a snapshot has where a subvolume lay (`BTRFS_EMPTY_SUBVOL_DIR_OBJECTID`).
const STUB: u64 = 2;
/// Files that are read as records, or may differ: the log, and what an interrupted replacement of the log
/// or of the hint leaves, which the next one overwrites.
const APART: [&str; 6] = [
    "@backstay/state",
    "@backstay/journal",
    "@backstay/log",
    "@backstay/.log.new",
    "@backstay/armed/.armed.cfg.new",
    FILL,
];

/// Paths and what lies there.
pub type Lines = BTreeMap<String, String>;

/// A disk as it was read.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) lines: Lines,
    pub(super) subvolumes: BTreeMap<String, Subvolume>,
    /// When files were changed last; of directories it has no meaning: what is carried changes them.
    pub(super) times: BTreeMap<String, (i64, i64)>,
    /// The directories of sets; `None`: the manifest cannot be read.
    pub(super) manifests: BTreeMap<String, Option<Manifest>>,
    pub(super) state: Option<State>,
    /// A transaction is.
    pub(super) open: bool,
}

/// A subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// By which it is known.
    pub identity: Identity,
    /// Whether it is sealed.
    pub read_only: bool,
    id: u64,
}

/// The sealed datasets that were there before, by their identity.
pub type Known = BTreeSet<(Uuid, u64)>;

impl View {
    /// Reads the top level that is mounted at `top`.
    ///
    /// # Errors
    /// Whatever cannot be read: on a whole file system nothing.
    pub fn read(top: &Path) -> Result<Self> {
        let mut view = Self {
            lines: Lines::new(),
            subvolumes: BTreeMap::new(),
            times: BTreeMap::new(),
            manifests: BTreeMap::new(),
            state: None,
            open: false,
        };
        view.directory(top, "")?;
        view.default(top)?;
        view.records(top)?;
        Ok(view)
    }

    /// The identities of what is sealed.
    #[must_use]
    pub fn sealed(&self) -> Known {
        let sealed = self.subvolumes.values().filter(|found| found.read_only);
        sealed
            .map(|found| (found.identity.uuid, found.identity.ctransid))
            .collect()
    }

    /// The live system as GRUB and a stock initramfs find it: without subvolumes inside it, which
    /// need not be there to boot. Empty: there is none.
    #[must_use]
    pub fn system(&self) -> Lines {
        let prefix = format!("{SYSTEM}/");
        let nested = |path: &str| {
            self.subvolumes
                .keys()
                .any(|nested| nested.starts_with(&prefix) && path.starts_with(nested.as_str()))
        };
        let inside = self.lines.iter().filter(|(path, line)| {
            path.starts_with(&prefix) && !nested(path) && line.as_str() != "stub"
        });
        inside
            .map(|(path, line)| (path.clone(), line.clone()))
            .collect()
    }

    /// All lines, with the identities of what is in `known` and of nothing else.
    #[must_use]
    pub fn normal(&self, known: &Known) -> Lines {
        let mut lines = self.lines.clone();
        for (path, found) in &self.subvolumes {
            let Identity { uuid, ctransid } = found.identity;
            let who = match known.contains(&(uuid, ctransid)) {
                true => format!("{uuid} {ctransid}"),
                false => "new".to_owned(),
            };
            let access = if found.read_only {
                "sealed"
            } else {
                "writable"
            };
            lines.insert(format!("{path} (subvolume)"), format!("{access} {who}"));
        }
        lines
    }

    fn directory(&mut self, top: &Path, path: &str) -> Result<()> {
        let at = top.join(path);
        let mut entries = fs::read_dir(&at)?.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = match path {
                "" => name,
                above => format!("{above}/{name}"),
            };
            self.entry(top, path).with_context(|| format!("{at:?}"))?;
        }
        Ok(())
    }

    fn entry(&mut self, top: &Path, path: String) -> Result<()> {
        let at = top.join(&path);
        let stat = fs::symlink_metadata(&at)?;
        let kind = stat.file_type();
        if APART.contains(&path.as_str()) {
            return Ok(());
        }
        if kind.is_dir() && stat.ino() == STUB {
            self.lines.insert(path, "stub".into());
            return Ok(());
        }
        if kind.is_dir() && stat.ino() == SUBVOLUME {
            let info = ioctl::info(File::open(&at)?)?;
            let found = Subvolume {
                identity: Identity {
                    uuid: Uuid(info.uuid),
                    ctransid: info.ctransid,
                },
                read_only: info.read_only,
                id: info.id,
            };
            self.subvolumes.insert(path.clone(), found);
        }
        let what = if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link to {}", fs::read_link(&at)?.display())
        } else if kind.is_file() {
            let content = fs::read(&at)?;
            match path.strip_suffix("/manifest") {
                Some(directory) if directory.starts_with(STORE) => {
                    self.lines.insert(path.clone(), manifest(&content));
                    return Ok(());
                }
                _ => format!("file {} {}", content.len(), short(&content)),
            }
        } else {
            format!("{kind:?}")
        };
        let line = format!(
            "{what} {:o} {}:{}{}",
            stat.mode() & 0o7777,
            stat.uid(),
            stat.gid(),
            attributes(&at)?
        );
        self.lines.insert(path.clone(), line);
        if !kind.is_dir() {
            let time = (stat.mtime(), stat.mtime_nsec());
            self.times.insert(path.clone(), time);
        }
        // What the ballast is made of is of no interest.
        if kind.is_dir() && path != BALLAST {
            self.directory(top, &path)?;
        }
        Ok(())
    }

    /// Where the subvolume lies that is mounted where none is named.
    fn default(&mut self, top: &Path) -> Result<()> {
        let id = ioctl::default_subvolume(File::open(top)?)?;
        let found = self.subvolumes.iter().find(|(_, found)| found.id == id);
        let path = match found {
            Some((path, _)) => path.clone(),
            None if id == ioctl::TOP_LEVEL => "the top level".to_owned(),
            None => "none that is there".to_owned(),
        };
        self.lines.insert(DEFAULT.into(), path);
        Ok(())
    }

    /// State, journal and manifests, and whether they fit what lies there.
    fn records(&mut self, top: &Path) -> Result<()> {
        let fd = open_top(top)?;
        let layout = match Btrfs::recorded_layout(&fd)? {
            Some(Block::Valid { value, .. }) => value,
            // 'init' was not run, or not to its end.
            None => return Ok(()),
            Some(_) => bail!("the record of the datasets cannot be read"),
        };
        let store = Btrfs::open(fd, layout)?;
        let journal = read_journal(&store)?;
        self.open = matches!(
            journal,
            Slots::Valid {
                value: Journal::Preparing(_) | Journal::Committing(_),
                ..
            }
        );
        let journal = match journal {
            Slots::Empty
            | Slots::Valid {
                value: Journal::Closed,
                ..
            } => "closed".to_owned(),
            other => format!("{other:?}"),
        };
        self.lines.insert("(journal)".into(), journal);
        let live = store.dataset(Place::Live(Part::System))?;
        let live = live.map(|dataset| dataset.identity.uuid);
        let state = match read_state(&store)? {
            Slots::Valid { value, .. } => {
                if let Some(id) = store.ids()?.into_iter().find(|id| *id >= value.next_id) {
                    self.lines.insert(
                        format!("(id {id})"),
                        "taken, though the state has not given it".into(),
                    );
                }
                self.state = Some(value.clone());
                format!("{:?}", timeless(value, live))
            }
            Slots::Empty => "empty".to_owned(),
            other => format!("{other:?}"),
        };
        self.lines.insert("(state)".into(), state);
        self.members(top)
    }

    /// Every member of a manifest lies there with the recorded identity, and everything that lies in the
    /// store is a member of one.
    fn members(&mut self, top: &Path) -> Result<()> {
        let mut named: BTreeSet<String> = [STORE, "@backstay/defaults"].map(str::to_owned).into();
        let sets: Vec<String> = self
            .lines
            .keys()
            .filter_map(|path| path.strip_suffix("/manifest"))
            .map(str::to_owned)
            .collect();
        let fd = open_top(top)?;
        let layout = match Btrfs::recorded_layout(fd)? {
            Some(Block::Valid { value, .. }) => value,
            _ => bail!("the record of the datasets cannot be read"),
        };
        for part in layout.data_parts() {
            named.extend(Place::Template(part).path(&layout));
        }
        for directory in sets {
            let content = fs::read(top.join(&directory).join("manifest"))?;
            let Block::Valid { value, .. } = decode::<Manifest>(&content) else {
                self.manifests.insert(directory, None);
                continue;
            };
            self.manifests.insert(directory, Some(value.clone()));
            for member in &value.members {
                let set = match value.id {
                    0 => Place::Factory(member.part),
                    id => Place::Snapshot(id, member.part),
                };
                let Some(path) = set.path(&layout) else {
                    continue;
                };
                let found = self.subvolumes.get(&path);
                // What is parked is not sealed: it is the same subvolume, and goes on changing.
                let fits = found.is_some_and(|found| match value.kind {
                    Kind::Parked => !found.read_only && found.identity.uuid == member.identity.uuid,
                    _ => found.read_only && found.identity == member.identity,
                });
                if !fits {
                    let line = format!("the manifest says {member:?}, there is {found:?}");
                    self.lines.insert(format!("(member {path})"), line);
                }
                named.insert(path);
            }
        }
        let stray = self.subvolumes.keys().filter(|path| {
            path.starts_with(STORE)
                && !named.iter().any(|named| {
                    *path == named || (named != STORE && path.starts_with(&format!("{named}/")))
                })
        });
        for path in stray.cloned().collect::<Vec<_>>() {
            self.lines.insert(
                format!("(stray {path})"),
                "neither a manifest nor the state names it".into(),
            );
        }
        Ok(())
    }
}

/// The state without times, and with "is live" or "is not" for UUIDs.
fn timeless(mut state: State, live: Option<Uuid>) -> State {
    let known = |uuid: Uuid| Uuid([if Some(uuid) == live { 1 } else { 0xff }; 16]);
    state.live.system = known(state.live.system);
    state.good = state.good.map(known);
    state.rebooted_for = state.rebooted_for.map(known);
    if let Some(destroy) = &mut state.destroy {
        destroy.live = known(destroy.live);
    }
    if let Some(last) = &mut state.last {
        last.at = 0;
    }
    if let Some(trial) = &mut state.trial {
        trial.system = known(trial.system);
        // A start after a power cut is one more.
        trial.begun = 0;
    }
    if let Some(fell_back) = &mut state.fell_back {
        (fell_back.at, fell_back.begun) = (0, 0);
    }
    if let Some(request) = &mut state.request {
        (request.created, request.ticket) = (0, [0; 16]);
    }
    state
}

fn manifest(content: &[u8]) -> String {
    match decode::<Manifest>(content) {
        Block::Valid { value, .. } => {
            let parts: Vec<_> = value.members.iter().map(|member| member.part).collect();
            format!(
                "{} {:?} {:?} {:?} kernel {:?} clone of {:?}: {parts:?}, aside {:?}",
                value.id,
                value.kind,
                value.origin,
                value.title,
                value.kernel,
                value.clone_of,
                value.aside
            )
        }
        _ => "a manifest that cannot be read".to_owned(),
    }
}

/// The labels that tell what a dataset went through: with the time, for people, and nothing is decided by them.
const HISTORY: &[u8] = b"trusted.backstay.history.";

fn attributes(at: &Path) -> Result<String> {
    let attributes = compare::attributes(at)?;
    let texts = attributes
        .iter()
        .filter(|(name, _)| !name.starts_with(HISTORY))
        .map(|(name, value)| format!(" {}={}", String::from_utf8_lossy(name), short(value)));
    Ok(texts.collect())
}

fn short(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How `found` differs from `wanted`, in lines for a person.
#[must_use]
pub fn differences(found: &Lines, wanted: &Lines) -> Vec<String> {
    let mut all = Vec::new();
    let paths: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    for path in paths {
        let (is, should) = (found.get(path), wanted.get(path));
        if is != should {
            let text = |line: Option<&String>| line.map_or("nothing".to_owned(), Clone::clone);
            all.push(format!(
                "{path}: is {}; should be {}",
                text(is),
                text(should)
            ));
        }
    }
    all
}
