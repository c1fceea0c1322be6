//! `backstay init`: a store on the file system of a system.
//!
//! Every step looks first whether it was done, so the command can be run again: after a power cut,
//! after a change of layout.toml, after an update. The state is written last: until then the agent
//! takes the machine for one that was never set up, and only boots it.

use super::cli::Init;
use super::error::{Error, Result};
use super::machine::Machine;
use super::recovery::{self, Recovery};
use super::state::unlabelled;
use super::{grub, layout_file, list, repair, request};
use crate::record::block;
use crate::record::layout::{Layout, Part};
use crate::record::manifest::Release;
use crate::record::slots::Slots;
use crate::record::state::{Kexec, Live, State};
use crate::store::btrfs::{Btrfs, Remade};
use crate::store::place::{File, Place, Set};
use crate::store::{Access, Store};
use crate::sys::Context;
use crate::transaction::records::{Records, read_state};
use crate::transaction::{self, catalogue, check};
use rustix::fs::{Gid, Mode, Uid, chmod, chown, stat};
use std::path::{Path, PathBuf};

/// Makes what is missing. On disk on return. `say` gets a line for each thing that is done.
pub fn init(machine: &Machine, args: &Init, say: &mut dyn FnMut(&str)) -> Result<Btrfs> {
    if let Some(cmdline) = &args.cmdline {
        grub::check_cmdline(cmdline)?;
    }
    let layout = layout(machine, args)?;
    if let Some(cmdline) = &args.cmdline {
        grub::check_length(cmdline, &layout.system.live)?;
    }
    let mut store = machine.store_with(layout.clone())?;
    present(&store)?;
    if let Some(old) = machine.recorded_layout()? {
        let sets = !store.ids()?.is_empty() || catalogue::manifest(&store, Set::Factory)?.is_some();
        if sets {
            layout_file::compatible(&old, &layout)?;
        }
        // What is open or waits was made with the old one, and is finished with the recorded one.
        if old != layout
            && let Ok(records) = Records::open(&store)
        {
            request::idle(&records)?;
        }
    }
    if machine.recorded_layout()?.is_some() {
        for line in list::unusable(&store)? {
            say(&format!("note: {line}"));
        }
    }
    for note in notes(&store)? {
        say(&format!("note: {note}"));
    }
    let remade = store.create_store()?;
    for Remade { file, lost } in &remade {
        say(&match lost {
            true => format!("{} was lost, and is made anew", file.path()),
            false => format!(
                "{} could not be overwritten in place: made again, with what it held",
                file.path()
            ),
        });
    }
    write_layout(&mut store, &layout, say)?;
    defaults(&mut store, args.repair, say)?;
    templates(&mut store, &machine.top, say)?;
    let uuid = store.file_system_uuid()?;
    let live = layout.system.live.as_str();
    if grub::install(&machine.top, uuid, live, args.cmdline.as_deref())? {
        say(
            "grub/backstay.cfg was no text: it is kept as backstay.cfg.garbled; give --cmdline again",
        );
    }
    let kernel = recovery_kernel(&mut store, &machine.recovery, args.agent.as_deref(), say)?;
    store.sync()?;
    // A state that is whole again is repaired enough.
    let whole = matches!(read_state(&store)?, Slots::Valid { .. });
    if args.repair && (!whole || remade.is_empty()) {
        let state = repair::repair(&mut store, kernel.clone())?;
        say(&format!(
            "the state was rebuilt: {} snapshots in the history, the next number is {}",
            state.older.len(),
            state.next_id
        ));
        if let Some(parked) = state.parked {
            say(&format!(
                "the next boot returns to the system parked as {parked}"
            ));
        }
    }
    write_state(&mut store, kernel, say)?;
    store.sync()?;
    // What fresh data is in is written where it becomes live; what was there before, its owner knows.
    for it in unlabelled::all(&store)?
        .iter()
        .filter(|it| !it.reads_unknown)
    {
        say(&format!("note: {it}"));
    }
    Ok(store)
}

/// Installs the recovery kernel where it is missing; gives its release, if it is a new one. Where it is there
/// and no state says which one it is (a cut came between the two, or the state is lost), it is the live
/// system's, or is made again if that is possible.
fn recovery_kernel(
    store: &mut Btrfs,
    recovery: &Recovery,
    agent: Option<&Path>,
    say: &mut dyn FnMut(&str),
) -> Result<Option<Release>> {
    if recovery.missing().is_some() {
        return recovery::install(store, recovery, agent, say).map(|it| Some(it.release));
    }
    if matches!(read_state(store)?, Slots::Valid { value, .. } if value.recovery_kernel.is_some()) {
        return Ok(None);
    }
    match recovery.of_live(store)? {
        Some(release) => Ok(Some(release)),
        None => match recovery::install(store, recovery, agent, say) {
            Ok(installed) => Ok(Some(installed.release)),
            Err(error) => {
                say(&format!(
                    "note: the recovery kernel stays as it is, and which one it is is not known: {error}"
                ));
                Ok(None)
            }
        },
    }
}

/// Where a root has its layout.
pub fn declared(root: &Path) -> Option<PathBuf> {
    let mut places = layout_file::PATHS.iter().map(|path| root.join(path));
    places.find(|path| path.exists())
}

/// The layout that the live system declares.
fn layout(machine: &Machine, args: &Init) -> Result<Layout> {
    let system = machine.booted.as_deref().unwrap_or(&args.system);
    let missing = || layout_file::LayoutError::Missing(format!("layout.toml of {system}"));
    let path = match &args.layout {
        Some(path) => path.clone(),
        None => declared(&machine.top.join(system)).ok_or_else(missing)?,
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(layout_file::LayoutError::Missing(path.display().to_string()).into());
        }
        Err(error) => return Err(Error::file("reading", path)(error)),
    };
    let layout = layout_file::parse(&text)?;
    if layout.system.live != system {
        let what = match machine.booted {
            Some(_) => format!("but this system was booted from {system}"),
            None => format!("but --system says {system}"),
        };
        return Err(layout_file::LayoutError::Whole(format!(
            "the system's live name is {}, {what}",
            layout.system.live
        ))
        .into());
    }
    Ok(layout)
}

/// Every declared dataset is there.
fn present(store: &Btrfs) -> Result<()> {
    let layout = store.layout();
    for part in layout.all().filter(|part| *part != Part::Defaults) {
        if store.dataset(Place::Live(part))?.is_none() {
            let live = layout
                .dataset(part)
                .map_or("", |dataset| dataset.live.as_str());
            return Err(layout_file::LayoutError::Dataset {
                name: layout.title(part).to_owned(),
                what: format!(
                    "there is no subvolume {live} in the top level: make it with 'btrfs subvolume \
                     create', or take the dataset out"
                ),
            }
            .into());
        }
    }
    Ok(())
}

/// What will not work as declared, but does not stand in the way of the store.
fn notes(store: &Btrfs) -> Result<Vec<String>> {
    let layout = store.layout();
    let system = Place::Live(Part::System);
    let mut notes = Vec::new();
    if let Err(transaction::Error::Unbootable(why)) = check::root(store, system) {
        notes.push(format!(
            "the live system does not pass the check that every promoted system must pass: {why}"
        ));
    }
    for dataset in check::lacks_mount(store, system)? {
        let mount = dataset.mount;
        notes.push(format!("the system has no directory {mount} to mount on"));
    }
    for path in &layout.config_paths {
        let below = path.trim_start_matches('/');
        if store.node(Place::Live(Part::Config), below)?.is_none() {
            notes.push(format!(
                "the config dataset has no {below}, which layout.toml declares"
            ));
        }
        if check::resolve(store, system, path)?.is_none() {
            notes.push(format!(
                "the system has no {path}, which layout.toml declares"
            ));
        }
    }
    Ok(notes)
}

fn write_layout(store: &mut Btrfs, layout: &Layout, say: &mut dyn FnMut(&str)) -> Result<()> {
    let block = block::encode(1, layout).map_err(transaction::Error::from)?;
    if store.read(File::Layout)?.as_deref() != Some(block.as_slice()) {
        store.replace(File::Layout, &block)?;
        store.sync()?;
        say(&format!(
            "recorded the layout; datasets: {}",
            layout.all().count()
        ));
    }
    Ok(())
}

/// The configuration as installed. Only right while nobody has changed it, so the line says what is
/// taken for it.
fn defaults(store: &mut Btrfs, repair: bool, say: &mut dyn FnMut(&str)) -> Result<()> {
    let place = Place::Live(Part::Defaults);
    if store.layout().config.is_none() || store.dataset(place)?.is_some() {
        return Ok(());
    }
    store.clone_to(Place::Live(Part::Config), place, Access::Writable)?;
    let known = if repair { "lost, so " } else { "" };
    say(&format!(
        "{known}the present configuration is taken as this version's defaults ('reset config' \
         returns to it)"
    ));
    Ok(())
}

/// An empty dataset for each data dataset, whose root belongs to whom the live one's does.
fn templates(store: &mut Btrfs, top: &Path, say: &mut dyn FnMut(&str)) -> Result<()> {
    let layout = store.layout().clone();
    for part in layout.data_parts() {
        let place = Place::Template(part);
        if store.dataset(place)?.is_some() {
            continue;
        }
        store.create(place)?;
        let [Some(live), Some(template)] =
            [Place::Live(part), place].map(|place| Some(top.join(place.path(&layout)?)))
        else {
            continue;
        };
        let of = stat(&live).call(|| format!("stat({live:?})"))?;
        let (owner, group) = (Uid::from_raw(of.st_uid), Gid::from_raw(of.st_gid));
        chown(&template, Some(owner), Some(group)).call(|| format!("chown({template:?})"))?;
        chmod(&template, Mode::from_raw_mode(of.st_mode))
            .call(|| format!("chmod({template:?})"))?;
        say(&format!(
            "made an empty template of {}, with the owner and mode of the live one",
            layout.title(part)
        ));
    }
    Ok(())
}

/// The first state, or the recovery kernel's release in the present one.
fn write_state(
    store: &mut Btrfs,
    kernel: Option<Release>,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    match read_state(store)? {
        Slots::Empty => {
            if !store.ids()?.is_empty() {
                return Err(Error::Repair(
                    "there are snapshots, but the state is empty: run 'backstay init --repair'"
                        .to_owned(),
                ));
            }
            let Some(live) = store.dataset(Place::Live(Part::System))? else {
                return Err(Error::NotSetUp);
            };
            let state = State {
                recovery_kernel: kernel,
                ..State::new(Live {
                    system: live.identity.uuid,
                    clone_of: None,
                })
            };
            let mut records = Records::fresh(store, state)?;
            records.write_first_state(store)?;
            say("the store is set up");
        }
        _ => {
            let mut records = Records::open(store)?;
            remember_kernel(store, &mut records, kernel)?;
            say("the store was set up before; what was missing was made");
        }
    }
    Ok(())
}

/// Writes the recovery kernel's release into the state.
pub fn remember_kernel<S: Store>(
    store: &mut S,
    records: &mut Records,
    kernel: Option<Release>,
) -> Result<()> {
    if kernel.is_some() {
        let mut state = records.state.value.clone();
        state.recovery_kernel = kernel;
        // Another kernel may be able to.
        state.kexec = Kexec::Unknown;
        records.state.write(store, state)?;
    }
    Ok(())
}
