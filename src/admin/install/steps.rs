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
use super::survey::{GRUB, Survey, core_image_mark, prefix};
use super::tools;
use crate::agent::root::plain_name;
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
    /// Names a subvolume in fstab that was mounted by its number.
    Unpin {
        /// Where it is mounted.
        point: String,
        /// Its path in the top level.
        live: String,
    },
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
            Step::Unpin { point, live } => {
                format!("write subvol={live} instead of subvolid= for {point} in {FSTAB}")
            }
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
    for (entry, live) in survey.by_number() {
        let point = entry.point;
        steps.push(Step::Unpin { point, live });
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
        let mut inside = survey.inside.iter();
        let holds = inside.find(|inside| inside.path == path);
        if let Some(below) = holds.and_then(|inside| inside.holds.as_deref()) {
            return Err(Error::Install(format!(
                "{path} cannot become the dataset {live}, since {below} in it is a subvolume or a mount of its own and \
                 would stay behind: say --leave {path}, or move it by hand and mount it in {FSTAB}"
            )));
        }
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
    if survey.is_in_root(GRUB) || (survey.grub_is_moved() && !survey.core_image) {
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
        Step::Unpin { point, live } => {
            let text = read_fstab()?;
            let entries = fstab::entries(&text);
            let pinned = entries
                .iter()
                .find(|entry| entry.point == *point && entry.option("subvolid").is_some());
            match pinned {
                Some(entry) => write_fstab(&fstab::naming(&text, entry, live)),
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

/// In a new dataset until fstab names it: nothing has used it yet.
const UNFINISHED: &str = ".backstay-unfinished";

/// Whether a name in the top level is one that an interrupted run left, or free.
pub fn is_free(machine: &Machine, name: &str) -> bool {
    let there = machine.top.join(name);
    let is_empty = || std::fs::read_dir(&there).is_ok_and(|mut it| it.next().is_none());
    !there.exists() || there.join(UNFINISHED).exists() || is_empty()
}

/// Copies a directory, as it is at one instant, into a new subvolume, and mounts that over it. What was there stays
/// below the mount.
fn to_dataset(machine: &Machine, survey: &Survey, path: &str, live: &str) -> Result<()> {
    let made = machine.top.join(live);
    let is_named = fstab::entries(&read_fstab()?)
        .iter()
        .any(|entry| entry.point == path);
    if !is_named {
        if !is_free(machine, live) {
            return Err(Error::Install(format!(
                "{live} is there meanwhile: run 'backstay init' again"
            )));
        }
        tools::discard(&made)?;
        create(machine, live)?;
        let mark = made.join(UNFINISHED);
        std::fs::write(&mark, "").map_err(Error::file("writing", &mark))?;
        tools::sync(&machine.top)?;
        let instant = tools::Instant::of(&machine.top, &survey.live, live)?;
        let copied = tools::copy_tree(&instant.path.join(path.trim_start_matches('/')), &made);
        instant.discard()?;
        copied?;
        tools::sync(&machine.top)?;
    }
    mount(survey, path, live)?;
    remove(&made.join(UNFINISHED))?;
    tools::sync(&machine.top)
}

/// The programs that have files open in a directory that is moved, where they would go on writing to the old ones. In
/// /home and /var/log that is as good as always so, and little is lost: a restart ends it.
pub fn in_use(step: &Step) -> Result<()> {
    let Step::Move { path, .. } = step else {
        return Ok(());
    };
    if ["/home", "/root", "/var/log"].contains(&path.as_str()) {
        return Ok(());
    }
    let users = tools::users_of(path);
    match users.is_empty() {
        true => Ok(()),
        false => Err(Error::Install(format!(
            "{path} is in use by {}, and what they write after the copy would be lost: stop them, then run \
             'backstay init' again and restart the machine, or say --leave {path}",
            users.join(", ")
        ))),
    }
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

/// Moves GRUB's directory into the store, mounts it, and installs GRUB so that it is found there. What was done before
/// an interruption is not done again.
pub fn move_prefix(machine: &Machine, survey: &Survey) -> Result<()> {
    let name = prefix();
    let directory = machine.top.join(&name);
    if !survey.grub_is_moved() {
        let text = read_fstab()?;
        let mut entries = fstab::entries(&text).into_iter();
        // Once fstab names it, what is there is newer than what lies below the mount.
        if !entries.any(|entry| entry.point == GRUB) {
            tools::copy_tree(Path::new(GRUB), &directory)?;
            // One that an uninstall left there.
            remove(&machine.top.join(core_image_mark()))?;
            tools::sync(&machine.top)?;
        }
        mount(survey, GRUB, &name)?;
    }
    tools::grub_install(survey)?;
    // Below the mount, for a core image elsewhere that was not made anew: a second disk's, a removable one's.
    let old = machine.top.join(&survey.live).join("boot/grub/grub.cfg");
    if old.exists() {
        replace(&old, forwarding(survey).as_bytes())?;
    }
    tools::sync(&machine.top)?;
    let mark = machine.top.join(core_image_mark());
    let text = "GRUB was installed to read this directory.\n";
    replace(&mark, text.as_bytes())
}

/// A menu for a core image that still reads GRUB's old directory: its modules are those that lie beside it.
fn forwarding(survey: &Survey) -> String {
    let Survey { uuid, .. } = survey;
    format!(
        "# GRUB's menu lies in {name}, mounted at {GRUB}; see backstay(8).\n\
         insmod btrfs\nsearch --no-floppy --fs-uuid --set=backstay_moved {uuid}\n\
         configfile ($backstay_moved)/{name}/grub.cfg\n",
        name = prefix()
    )
}

/// Undoes [`move_prefix`], mounted or not: what is in the store's goes back into the root, and GRUB is installed to find
/// it there. Nothing in fstab names the store after that.
pub fn move_prefix_back(machine: &Machine, survey: &Survey) -> Result<()> {
    let directory = machine.top.join(prefix());
    if is_subvolume(&directory) {
        if survey.grub_is_moved() {
            tools::unmount(GRUB)?;
        }
        // As it was, under the mount, when it was moved; GRUB does not read it until it is installed anew.
        tools::copy_tree(&directory, Path::new(GRUB))?;
        write_fstab(&fstab::without_mount(&read_fstab()?, GRUB))?;
        tools::daemon_reload();
        tools::sync(Path::new("/"))?;
        tools::grub_install(survey)?;
    }
    let text = read_fstab()?;
    let in_store = |entry: &fstab::Entry| {
        let named = entry.option("subvol").map(plain_name);
        named.is_some_and(|it| it == STORE || it.starts_with(&format!("{STORE}/")))
    };
    match fstab::entries(&text).into_iter().find(in_store) {
        Some(entry) => Err(Error::Install(format!(
            "{FSTAB} mounts {} from the store: take that line out, then run 'backstay uninstall' again",
            entry.point
        ))),
        None => Ok(()),
    }
}

/// Removes a file; one that is not there is removed already.
fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", file)(error))
        }
        _ => Ok(()),
    }
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
            holds: None,
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
        survey.inside[0].holds = Some("/home/somebody".to_owned());
        let holds = propose(&survey, &choices, |_| false).unwrap_err();
        assert!(
            holds.to_string().contains("/home/somebody in it"),
            "{holds}"
        );
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
    fn what_was_interrupted_goes_on_and_numbers_become_names() {
        let steps = |survey: &Survey| {
            let proposal = propose(survey, &Choices::default(), |_| false).unwrap();
            proposal.steps
        };
        let mut survey = survey("@rootfs");
        assert!(!steps(&survey).contains(&Step::Prefix));
        survey.core_image = false;
        assert!(steps(&survey).contains(&Step::Prefix));
        let mut home = survey.mounts[0].clone();
        (home.directory, home.point) = ("/@home".into(), "/home".into());
        survey.mounts.push(home);
        survey.fstab += "UUID=1 /home btrfs subvolid=257 0 0\n";
        let unpin = Step::Unpin {
            point: "/home".to_owned(),
            live: "@home".to_owned(),
        };
        assert_eq!(steps(&survey).first(), Some(&unpin));
        let menu = forwarding(&survey);
        let there = "configfile ($backstay_moved)/@backstay/grub/grub.cfg\n";
        assert!(menu.ends_with(there), "{menu}");
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
