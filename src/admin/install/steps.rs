//! What `backstay init` does to an installed system: proposed as data, said, and then done.
//!
//! Each step looks first whether it was done, so that the command can be run again after a failure or a power cut.
//! At every instant the system boots: what GRUB and fstab name is there before they name it.

use super::super::error::{Error, Result};
use super::super::files::replace;
use super::super::fstab;
use super::super::layout_file;
use super::super::machine::Machine;
use super::dataset;
use super::judge::{Weight, findings};
use super::survey::{GRUB, Survey};
use crate::record::layout::MAX_DATA;
use crate::store::place::STORE;
use std::path::Path;

/// Where the layout of an installed system is kept.
pub const LAYOUT: &str = "/etc/backstay/layout.toml";
const FSTAB: &str = fstab::PATH;

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
    Store {
        /// Whether it is there.
        again: bool,
    },
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
            Step::Store { again: true } => {
                format!("look at the store {STORE}, and make what it lacks; its snapshots stay")
            }
            Step::Store { again: false } => format!(
                "make the store {STORE}, with a recovery kernel made of {live}'s own kernel"
            ),
            Step::Prefix => format!(
                "move GRUB's modules and menu to {STORE}/grub, mounted at {GRUB}, and install GRUB anew"
            ),
            Step::Menu => {
                "make GRUB's menu, with 'Roll back', 'Factory reset' and the snapshots".to_owned()
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
    let again = survey.has_store;
    steps.push(Step::Store { again });
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

/// Does what needs no store. On disk on return.
pub fn prepare(machine: &Machine, survey: &Survey, step: &Step) -> Result<()> {
    match step {
        Step::Unpin { point, live } => {
            let text = fstab::read()?;
            let entries = fstab::entries(&text);
            let pinned = entries
                .iter()
                .find(|entry| entry.point == *point && entry.option("subvolid").is_some());
            match pinned {
                Some(entry) => fstab::write(&fstab::naming(&text, entry, live)),
                None => Ok(()),
            }
        }
        Step::Move { path, live } => dataset::make(machine, survey, path, live),
        Step::Layout(text) => {
            let directory = Path::new(LAYOUT).parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(directory).map_err(Error::file("making", directory))?;
            replace(Path::new(LAYOUT), text.as_bytes())
        }
        Step::Store { .. } | Step::Prefix | Step::Menu => Ok(()),
    }
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
