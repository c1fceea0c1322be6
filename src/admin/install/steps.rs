//! What `backstay init` does to an installed system: proposed as data, said, and then done.
//!
//! Each step looks first whether it was done, so that the command can be run again after a failure or a power cut.
//! At every instant the system boots: what GRUB and fstab name is there before they name it.

use super::super::error::{Error, Result};
use super::super::files::replace;
use super::super::fstab;
use super::super::layout_file;
use super::super::machine::Machine;
use super::judge::{Weight, findings};
use super::survey::{GRUB, Survey};
use super::tools;
use crate::record::layout::MAX_DATA;
use crate::store::place::STORE;
use crate::sys::btrfs;
use std::path::Path;

/// Where the layout of an installed system is kept.
pub const LAYOUT: &str = "/etc/backstay/layout.toml";
const FSTAB: &str = "/etc/fstab";

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Takes `subvolid=` out of fstab's entry for this mount point.
    Unpin(String),
    /// Makes a directory of the root a dataset of its own.
    Move {
        /// The directory.
        path: String,
        /// The subvolume in the top level.
        live: String,
    },
    /// Writes [`LAYOUT`].
    Layout(String),
    /// Makes the store, with the recovery kernel.
    Store,
    /// Moves GRUB's modules and menu out of the root.
    Prefix,
    /// Adds the entries to GRUB's menu.
    Menu,
}

impl Step {
    /// For people.
    pub fn describe(&self, live: &str) -> String {
        match self {
            Step::Unpin(point) => format!("take subvolid= out of the entry for {point} in {FSTAB}"),
            Step::Move { path, live } => {
                format!(
                    "make {path} a dataset of its own, {live}, which stays when the system goes back"
                )
            }
            Step::Layout(_) => {
                format!("write {LAYOUT}: what goes back with the system, and what stays")
            }
            Step::Store => format!(
                "make the store {STORE}, with a recovery kernel made of {live}'s own kernel"
            ),
            Step::Prefix => format!(
                "move GRUB's modules and menu to {STORE}/grub, mounted at {GRUB}, and install GRUB anew"
            ),
            Step::Menu => {
                "add 'Roll back', 'Factory reset' and the snapshots to GRUB's menu".to_owned()
            }
        }
    }
}

/// What the owner decides.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Directories to move although that is not the default.
    pub moved: Vec<String>,
    /// Directories to leave where they are although that is not the default.
    pub left: Vec<String>,
    /// What was decided before.
    pub layout: Option<String>,
}

/// What is proposed for a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// In this order.
    pub steps: Vec<Step>,
    /// What goes back with the system.
    pub covered: Vec<String>,
    /// What stays: datasets and where they are mounted.
    pub stays: Vec<String>,
}

struct Data {
    name: String,
    live: String,
    mount: String,
}

/// Proposes. `taken` says whether a name is taken in the top level.
///
/// # Errors
/// What stands in the way, with its remedy.
pub fn propose(
    survey: &Survey,
    choices: &Choices,
    taken: impl Fn(&str) -> bool,
) -> Result<Proposal> {
    let found = findings(survey);
    if let Some(stop) = found.iter().find(|finding| finding.weight == Weight::Stop) {
        return Err(Error::Install(format!("{}: {}", stop.what, stop.remedy)));
    }
    let mut steps = Vec::new();
    for entry in survey.entries() {
        let of_us = survey
            .mounts
            .iter()
            .any(|mount| mount.point == entry.point && mount.device == survey.device);
        if of_us && entry.fs == "btrfs" && entry.option("subvolid").is_some() {
            steps.push(Step::Unpin(entry.point.clone()));
        }
    }
    let mut data = match &choices.layout {
        Some(text) => declared(text)?,
        None => mounted(survey),
    };
    let known = data.len();
    for path in chosen(survey, choices)? {
        let name = path.trim_start_matches('/').replace('/', "-");
        let live = match survey.live.starts_with('@') {
            true => format!("@{name}"),
            false => name.clone(),
        };
        if taken(&live) {
            return Err(Error::Install(format!(
                "{path} cannot become the dataset {live}, since there is something of that name in the top level: \
                 mount it at {path}, or say --leave {path}"
            )));
        }
        steps.push(Step::Move {
            path: path.clone(),
            live: live.clone(),
        });
        data.push(Data {
            name,
            live,
            mount: path,
        });
    }
    if data.len() > MAX_DATA {
        return Err(Error::Install(format!(
            "there are {} datasets beside the root, and at most {MAX_DATA} are possible: write {LAYOUT} with those \
             that a reset may empty (backstay(8)), then run 'backstay init' again",
            data.len()
        )));
    }
    let text = match &choices.layout {
        Some(text) => format!("{text}{}", datasets(data.get(known..).unwrap_or_default())),
        None => layout(survey, &data),
    };
    layout_file::parse(&text)?;
    if choices.layout.as_ref() != Some(&text) {
        steps.push(Step::Layout(text));
    }
    steps.push(Step::Store);
    if survey.is_in_root(GRUB) {
        steps.push(Step::Prefix);
    }
    steps.push(Step::Menu);
    let mut covered = vec![format!("/ ({})", survey.live)];
    let left = survey
        .inside
        .iter()
        .filter(|inside| !inside.is_empty && !data.iter().any(|data| data.mount == inside.path));
    covered.extend(left.map(|inside| inside.path.to_owned()));
    Ok(Proposal {
        steps,
        covered,
        stays: data
            .iter()
            .map(|data| format!("{} ({})", data.mount, data.live))
            .collect(),
    })
}

/// Other subvolumes of the top level that are mounted, where data can be.
fn mounted(survey: &Survey) -> Vec<Data> {
    let all = survey.datasets().into_iter();
    all.filter(|(_, mount)| layout_file::is_for_data(mount))
        .map(|(live, mount)| Data {
            name: live.trim_start_matches('@').to_owned(),
            live,
            mount,
        })
        .collect()
}

/// The data datasets of a layout.
fn declared(text: &str) -> Result<Vec<Data>> {
    let layout = layout_file::parse(text)?;
    let data = layout.data.iter().map(|dataset| Data {
        name: dataset.name.to_string(),
        live: dataset.live.to_string(),
        mount: dataset.mount.to_string(),
    });
    Ok(data.collect())
}

/// The directories that become datasets.
fn chosen(survey: &Survey, choices: &Choices) -> Result<Vec<String>> {
    for path in choices.moved.iter().chain(&choices.left) {
        if !survey.inside.iter().any(|inside| inside.path == path) {
            let known: Vec<&str> = survey.inside.iter().map(|inside| inside.path).collect();
            return Err(Error::Install(format!(
                "{path} is no directory of data in the root that is known here; there are: {}",
                known.join(" ")
            )));
        }
    }
    let wanted = |inside: &&super::survey::Inside| {
        let named = |list: &[String]| list.iter().any(|path| path == inside.path);
        // What was decided before stays decided.
        let by_default = inside.by_default && choices.layout.is_none();
        (by_default || named(&choices.moved)) && !named(&choices.left)
    };
    let paths = survey.inside.iter().filter(wanted);
    Ok(paths.map(|inside| inside.path.to_owned()).collect())
}

fn layout(survey: &Survey, data: &[Data]) -> String {
    let mut text = String::from(
        "# What goes back with the system, and what stays. Written by 'backstay init'; see backstay(8).\n",
    );
    text += &dataset("system", "system", &survey.live, "/");
    text + &datasets(data)
}

fn datasets(data: &[Data]) -> String {
    let each = data.iter();
    each.map(|data| dataset(&data.name, "data", &data.live, &data.mount))
        .collect()
}

fn dataset(name: &str, kind: &str, live: &str, mount: &str) -> String {
    format!("\n[[dataset]]\nname = {name:?}\nkind = {kind:?}\nlive = {live:?}\nmount = {mount:?}\n")
}

/// The line of fstab for a subvolume. Its number is never named.
fn fstab_line(survey: &Survey, path: &str, subvolume: &str) -> String {
    // As fstab(5) wants it; the options of the root are the file system's anyway.
    format!("UUID={} {path} btrfs subvol={subvolume} 0 0", survey.uuid)
}

/// Does what needs no store. On disk on return.
pub fn prepare(machine: &Machine, survey: &Survey, step: &Step) -> Result<()> {
    match step {
        Step::Unpin(point) => {
            let text = read_fstab()?;
            let entries = fstab::entries(&text);
            let pinned = entries
                .iter()
                .find(|entry| entry.point == *point && entry.option("subvolid").is_some());
            match pinned {
                Some(entry) => write_fstab(&fstab::without_option(&text, entry, "subvolid")),
                None => Ok(()),
            }
        }
        Step::Move { path, live } => to_dataset(machine, survey, path, live),
        Step::Layout(text) => {
            let directory = Path::new(LAYOUT).parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(directory).map_err(Error::file("making", directory))?;
            replace(Path::new(LAYOUT), text.as_bytes())
        }
        Step::Store | Step::Prefix | Step::Menu => Ok(()),
    }
}

/// Copies a directory into a new subvolume, and mounts that over it. What was there stays below the mount.
fn to_dataset(machine: &Machine, survey: &Survey, path: &str, live: &str) -> Result<()> {
    let made = machine.top.join(live);
    let part = machine.top.join(format!("{live}.part"));
    if !made.exists() {
        tools::discard(&part)?;
        create(machine, &format!("{live}.part"))?;
        tools::copy_tree(Path::new(path), &part)?;
        tools::sync(&machine.top)?;
        std::fs::rename(&part, &made).map_err(Error::file("renaming", &part))?;
        tools::sync(&machine.top)?;
    }
    mount(survey, path, live)
}

/// Names a subvolume in fstab, and mounts it.
fn mount(survey: &Survey, path: &str, subvolume: &str) -> Result<()> {
    let line = fstab_line(survey, path, subvolume);
    let text = read_fstab()?;
    let there = fstab::entries(&text)
        .iter()
        .any(|entry| entry.point == path);
    if !there {
        write_fstab(&fstab::with_line(&text, &line))?;
    }
    tools::daemon_reload();
    tools::mount(path)
}

/// GRUB's directory in the store, from the top level. Of an installed system it is a subvolume, mounted at [`GRUB`].
pub fn prefix() -> String {
    format!("{STORE}/grub")
}

/// Makes the subvolume that will be mounted at [`GRUB`], before the store is made around it.
pub fn make_room_for_grub(machine: &Machine) -> Result<()> {
    for name in [STORE.to_owned(), prefix()] {
        let there = machine.top.join(&name);
        if there.is_dir() && !is_subvolume(&there) {
            return Err(Error::Install(format!(
                "{name} is a directory, made for an appliance: move it away, then run 'backstay init' again"
            )));
        }
        if !there.exists() {
            create(machine, &name)?;
        }
    }
    Ok(())
}

/// Moves GRUB's directory into the store, mounts it, and installs GRUB so that it is found there.
pub fn move_prefix(machine: &Machine, survey: &Survey) -> Result<()> {
    let name = prefix();
    tools::copy_tree(Path::new(GRUB), &machine.top.join(&name))?;
    tools::sync(&machine.top)?;
    mount(survey, GRUB, &name)?;
    tools::grub_install(survey)
}

/// Undoes [`move_prefix`]: what is in the store's goes back into the root, and GRUB is installed to find it there.
pub fn move_prefix_back(machine: &Machine, survey: &Survey) -> Result<()> {
    let name = prefix();
    let mounted = survey.holding(GRUB);
    if mounted.is_none_or(|mount| mount.directory != format!("/{name}")) {
        return Ok(());
    }
    tools::unmount(GRUB)?;
    // As it was, under the mount, when it was moved; GRUB does not read it until it is installed anew.
    tools::copy_tree(&machine.top.join(&name), Path::new(GRUB))?;
    let text = fstab::without_line(&read_fstab()?, &fstab_line(survey, GRUB, &name));
    write_fstab(&text)?;
    tools::daemon_reload();
    tools::sync(Path::new("/"))?;
    tools::grub_install(survey)
}

/// Whether a directory is a subvolume of its own.
pub fn is_subvolume(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|it| it.is_dir() && it.ino() == 256)
}

fn create(machine: &Machine, name: &str) -> Result<()> {
    let path = machine.top.join(name);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let directory = std::fs::File::open(parent).map_err(Error::file("opening", parent))?;
    Ok(btrfs::create_subvolume(
        &directory,
        &name.to_string_lossy(),
    )?)
}

fn read_fstab() -> Result<String> {
    match std::fs::read_to_string(FSTAB) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(Error::file("reading", FSTAB)),
    }
}

fn write_fstab(text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    replace(Path::new(FSTAB), text.as_bytes())?;
    // Everybody may read it.
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(FSTAB, mode).map_err(Error::file("changing", FSTAB))
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::survey;
    use super::super::survey::Inside;
    use super::*;

    fn inside(path: &'static str, by_default: bool) -> Inside {
        Inside {
            path,
            by_default,
            is_empty: false,
        }
    }

    #[test]
    fn data_in_the_root_becomes_datasets_and_the_rest_is_named_as_covered() {
        let mut survey = survey("@rootfs");
        survey.inside = vec![
            inside("/home", true),
            inside("/var/log", true),
            inside("/root", false),
            inside("/var/lib/postgresql", false),
        ];
        let choices = Choices {
            moved: vec!["/var/lib/postgresql".to_owned()],
            left: vec!["/var/log".to_owned()],
            layout: None,
        };
        let proposal = propose(&survey, &choices, |_| false).unwrap();
        assert_eq!(
            proposal.stays,
            ["/home (@home)", "/var/lib/postgresql (@var-lib-postgresql)"]
        );
        assert_eq!(proposal.covered, ["/ (@rootfs)", "/var/log", "/root"]);
        let Some(Step::Layout(text)) = proposal.steps.get(2) else {
            panic!("{proposal:?}");
        };
        let layout = layout_file::parse(text).unwrap();
        assert_eq!(layout.data.len(), 2);
        assert_eq!(layout.system.live, "@rootfs");
        assert_eq!(proposal.steps.last(), Some(&Step::Menu));
        let again = Choices {
            moved: vec!["/root".to_owned()],
            left: Vec::new(),
            layout: Some(text.clone()),
        };
        let more = propose(&survey, &again, |_| false).unwrap();
        assert_eq!(more.stays.last().unwrap(), "/root (@root)");
        let unmoved = |step: &&Step| matches!(step, Step::Move { .. });
        assert_eq!(more.steps.iter().filter(unmoved).count(), 1, "{more:?}");
        let taken = propose(&survey, &choices, |name| name == "@home").unwrap_err();
        assert!(taken.to_string().contains("--leave /home"), "{taken}");
    }

    #[test]
    fn what_is_a_dataset_already_is_declared_as_it_is() {
        let mut survey = survey("root");
        let mut home = survey.mounts[0].clone();
        (home.directory, home.point) = ("/home".into(), "/home".into());
        let mut boot = home.clone();
        (boot.directory, boot.point) = ("/boot".into(), "/boot".into());
        survey.mounts.extend([home, boot]);
        survey.inside = vec![inside("/srv", true)];
        let proposal = propose(&survey, &Choices::default(), |_| false).unwrap();
        assert_eq!(proposal.stays, ["/home (home)", "/srv (srv)"]);
    }

    #[test]
    fn a_root_that_cannot_go_back_is_refused_with_the_reason() {
        let error = propose(&survey("roots/debian"), &Choices::default(), |_| false).unwrap_err();
        assert!(error.to_string().contains("top level"), "{error}");
        let choices = Choices {
            left: vec!["/nothing".to_owned()],
            ..Choices::default()
        };
        let error = propose(&survey("@"), &choices, |_| false).unwrap_err();
        assert!(error.to_string().contains("/nothing is no"), "{error}");
    }
}
