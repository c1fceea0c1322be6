//! `backstay upgrade`, from arguments to what is printed.
//!
//! In place, the store is not locked while COMMAND runs, so that scripts of packages can say what becomes of the data
//! ('backstay state'); a lock of its own keeps a second upgrade out.

use super::cli::Upgrade;
use super::data_snapshots::Settings;
use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::output::{now, out as print};
use super::run::{Ended, Open, Out, has_room, note, open};
use super::upgrade::command::{self, Commands, Ran, Runner};
use super::upgrade::in_place::{self, Begun, Undone};
use super::upgrade::{ready, ticket};
use super::{own_kernel, reboot, request, run_ask, run_convert, run_staged, snapshot};
use crate::record::layout::Part;
use crate::record::state::{Consent, Verb};
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::{Place, STORE};
use crate::sys::{Context, mountinfo, signals};
use crate::transaction::explain::explain_for;
use crate::transaction::plan::Plan;
use crate::transaction::records::Records;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// The title of the snapshot from before an upgrade.
const BEFORE: &str = "before upgrade";

/// Where the data is not converted in the running system.
const BY_THE_BOOT: &str =
    "The next boot converts the data that the new version does not read; nothing is lost by that.";

/// How often it is looked whether another upgrade goes on, and the time between two looks.
const LOOKS: u8 = 5;
const LOOK: Duration = Duration::from_millis(100);

/// What was done, as `--json` gives it. Field names are stable.
#[derive(Debug, Serialize)]
pub(super) struct Upgraded<'a> {
    /// `in-place` or `staged`.
    pub(super) mode: &'static str,
    /// `on-trial`, `converts`, `forward`, `sealed`, `nothing`, `failed`; with --dry-run `planned`.
    pub(super) outcome: &'static str,
    /// In place: the snapshot from before it. Staged: the new version.
    pub(super) snapshot: Option<u32>,
    /// What was run.
    pub(super) command: String,
    /// Whether something waits for the next boot.
    pub(super) reboot_due: bool,
    /// Starts until the machine falls back, and the snapshot that it falls back to.
    pub(super) trial: Option<&'a super::trial::Tried>,
    /// Datasets of which a clone was converted already, which the next boot puts in their place.
    pub(super) converted: Vec<String>,
    /// Why it failed, and what the next boot does about it.
    pub(super) undone: Option<&'a Undone>,
    /// Why the next boot does not go forward to what was staged: what the fence says.
    pub(super) refused: Vec<String>,
}

impl Upgraded<'_> {
    pub(super) fn of(args: &Upgrade, outcome: &'static str) -> Upgraded<'static> {
        Upgraded {
            mode: if args.staged { "staged" } else { "in-place" },
            outcome,
            snapshot: None,
            command: Commands::of(&args.command).to_string(),
            reboot_due: false,
            trial: None,
            converted: Vec::new(),
            undone: None,
            refused: Vec::new(),
        }
    }
}

/// Upgrades.
pub fn upgrade(root: Option<&Path>, args: &Upgrade, out: Out) -> Result<Ended> {
    if root.is_some() {
        return Err(Error::UpgradeNeedsRunning);
    }
    if args.staged && boot_is_apart()? {
        return Err(Error::StagedBoot);
    }
    if args.dry_run {
        return dry_run(args, out);
    }
    let _busy = Busy::take()?;
    // Nothing that was begun is left without its end.
    signals::catch()?;
    match args.staged {
        true => run_staged::stage(args, out),
        false => upgrade_in_place(args, out),
    }
}

/// Held while an upgrade goes on; it ends with this process.
struct Busy(#[expect(dead_code, reason = "it holds the lock")] OwnedFd);

impl Busy {
    fn take() -> Result<Busy> {
        let machine = Machine::open(None, Lock::None)?;
        let fd = directory(&machine)?;
        for _ in 0..LOOKS {
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                // Perhaps somebody who only looks, which takes no time.
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOOK),
                other => {
                    other.call(|| format!("flock({STORE}, LOCK_EX|LOCK_NB)"))?;
                    return Ok(Busy(fd));
                }
            }
        }
        Err(Error::Upgrading)
    }
}

/// Whether an upgrade goes on.
pub(super) fn goes_on(machine: &Machine) -> Result<bool> {
    let fd = directory(machine)?;
    match flock(&fd, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        other => Ok(other
            .call(|| format!("flock({STORE}, LOCK_SH|LOCK_NB)"))
            .map(|()| false)?),
    }
}

fn directory(machine: &Machine) -> Result<OwnedFd> {
    let path = machine.top.join(STORE);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(&path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Err(Error::NotSetUp),
        other => Ok(other.call(|| format!("open({STORE})"))?),
    }
}

fn boot_is_apart() -> Result<bool> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).map_err(Error::file("reading", path))?;
    Ok(mountinfo::at(&text, "/boot").is_some())
}

/// The store, locked, where what runs is what is live.
pub(super) fn open_live(lock: Lock, out: Out) -> Result<Open> {
    let open = open(None, lock, out)?;
    is_live(&open.machine, &open.store)?;
    Ok(open)
}

fn is_live(machine: &Machine, store: &Btrfs) -> Result<()> {
    let live = store.layout().system.live.to_string();
    match &machine.booted {
        Some(booted) if *booted != live => Err(Error::UpgradeNotLive(booted.clone(), live)),
        _ => Ok(()),
    }
}

/// What carries requests out is there.
pub(super) fn has_recovery(machine: &Machine) -> Result<()> {
    match machine.recovery.missing() {
        Some(what) => Err(Error::NoRecoveryKernel(what)),
        None => Ok(()),
    }
}

/// Whether the snapshot from before it holds the data: as it is said, or as the machine's owner has set it.
fn keeps_data(args: &Upgrade, store: &Btrfs) -> Result<bool> {
    let has_data = !store.layout().data.is_empty();
    match args.data {
        true if !has_data => Err(Error::NoData),
        true => Ok(true),
        false => Ok(has_data && Settings::load()?.upgrade),
    }
}

fn dry_run(args: &Upgrade, out: Out) -> Result<Ended> {
    let machine = Machine::open(None, Lock::None)?;
    machine.refuse_copies()?;
    if goes_on(&machine)? {
        return Err(Error::Upgrading);
    }
    let store = machine.store()?;
    let records = Records::open(&store)?;
    is_live(&machine, &store)?;
    has_recovery(&machine)?;
    if let Some(why) = request::look(&store, &records)? {
        out.say(&format!("note: {why}"));
    }
    ready(&store, &records, now())?;
    has_room(&store)?;
    out.result(&Upgraded::of(args, "planned"));
    if !out.json {
        let commands = Commands::of(&args.command);
        let lines = match args.staged {
            true => [
                "clones the live system and its configuration",
                "there, where no data can be reached and no service starts: ",
                "seals it as a snapshot, to which the next boot goes forward; if it fails, the clone is deleted",
            ],
            false => [
                "keeps a snapshot",
                "in the live system: ",
                "puts it on trial; if it fails or is interrupted, the next boot goes back to the snapshot",
            ],
        };
        let data = !args.staged && keeps_data(args, &store)?;
        let with = if data { ", with the data" } else { "" };
        let [first, second, third] = lines;
        out.say(&format!("1. {first}{with}"));
        out.say(&format!("2. {second}{commands}"));
        out.say(&format!("3. {third}"));
        out.say("Nothing was written (--dry-run).");
    }
    Ok(Ended::Done)
}

fn upgrade_in_place(args: &Upgrade, out: Out) -> Result<Ended> {
    let commands = Commands::of(&args.command);
    let mut runner = Runner {
        look: &mut command::alone,
        quiet: out.json,
        mode: "in-place",
        environment: &[],
    };
    // Refused before anything is downloaded.
    look(args, out)?;
    match commands.prepare(&mut runner) {
        Ran::Done => {}
        Ran::Nothing => return Ok(nothing(args, out)),
        Ran::Failed(why) => return Err(Error::Upgrade(format!("{why}; nothing was changed"))),
    }
    let begun = begin(args, out)?;
    let ran = commands.run(&mut runner);
    // All of it, on whatever file system, before anything says that it is there.
    rustix::fs::sync();
    let mut open = open_live(Lock::Wait, out).inspect_err(|_| stays(begun, out))?;
    let ended = ended(&mut open, begun, &commands, &ran, out).inspect_err(|_| stays(begun, out))?;
    tell(args, begun, &ended, &mut open, out);
    drop(open);
    if args.reboot && !matches!(ended, in_place::Ended::Unchanged(_)) {
        reboot::reboot()?;
    }
    match ended {
        in_place::Ended::Undone(undone) => Err(Error::Upgrade(failure(&undone))),
        in_place::Ended::Unchanged(why) => Err(Error::Upgrade(format!(
            "the upgrade failed: {why}\nno package was changed, so nothing is to be undone"
        ))),
        in_place::Ended::OnTrial(_) | in_place::Ended::Converts(..) => Ok(Ended::Done),
    }
}

fn look(args: &Upgrade, out: Out) -> Result<()> {
    let Open {
        machine,
        store,
        records,
    } = open_live(Lock::Try, out)?;
    has_recovery(&machine)?;
    ready(&store, &records, now())?;
    keeps_data(args, &store)?;
    has_room(&store)
}

/// Says that there was nothing to upgrade.
pub(super) fn nothing(args: &Upgrade, out: Out) -> Ended {
    out.result(&Upgraded::of(args, "nothing"));
    if !out.json {
        out.say("nothing is to be upgraded, and nothing was changed");
    }
    Ended::Nothing
}

/// The snapshot, and the way back to it.
fn begin(args: &Upgrade, out: Out) -> Result<Begun> {
    let Open {
        machine,
        mut store,
        mut records,
    } = open_live(Lock::Try, out)?;
    let now = now();
    ready(&store, &records, now)?;
    has_room(&store)?;
    own_kernel::keep()?;
    let title = args.title.as_deref().unwrap_or(BEFORE);
    let data = keeps_data(args, &store)?;
    let take = match data {
        true => snapshot::snapshot_with_data,
        false => snapshot::snapshot,
    };
    let before = take(&mut store, &mut records, title, now, &mut |_| {})?;
    let with = if data { ", with the data" } else { "" };
    note(
        &mut store,
        &format!("snapshot {before} made{with}, {title:?}"),
    );
    for path in snapshot::left_out(&store)?.iter().filter(|_| data) {
        out.say(&format!(
            "the subvolume {path} is not in it: no snapshot has those inside"
        ));
    }
    if !out.json {
        out.say(&format!("snapshot {before} made{with}"));
    }
    let verb = Verb::Rollback(Some(before));
    request::preview(&store, &records, verb, Consent::Refuse, now)?;
    let begun = Begun {
        before,
        ticket: ticket(run_ask::ticket()?),
        now,
    };
    let link = run_ask::spare(&machine);
    in_place::begin(&mut store, &mut records, begun, &link)?;
    let commands = Commands::of(&args.command);
    note(&mut store, &format!("upgrade in place begun: {commands}"));
    Ok(begun)
}

fn ended(
    open: &mut Open,
    begun: Begun,
    commands: &Commands,
    ran: &Ran,
    out: Out,
) -> Result<in_place::Ended> {
    let Open {
        machine,
        store,
        records,
    } = open;
    let link = run_ask::spare(machine);
    if let Ran::Failed(why) = ran {
        let before = Place::Snapshot(begun.before, Part::System);
        let before = machine
            .top
            .join(before.path(store.layout()).unwrap_or_default());
        let live = machine.top.join(store.layout().system.live.as_str());
        if commands.changed_nothing(&before, &live) {
            in_place::unchanged(store, records, begun)?;
            return Ok(in_place::Ended::Unchanged(why.clone()));
        }
        let undone = in_place::failed(store, records, begun, why, &link)?;
        return Ok(in_place::Ended::Undone(undone));
    }
    // What is tried is what is in /boot now.
    own_kernel::keep()?;
    let device = machine.device.as_deref();
    let mut convert = |store: &mut Btrfs, records: &Records, plan: &Plan| {
        explain(store, plan, out)?;
        let prepared = run_convert::prepare_on(device, store, records, plan, out)?;
        match signals::taken() {
            None => Ok(prepared),
            Some(caught) => {
                run_convert::give_up(store, records, out);
                let why = format!("it was interrupted (signal {})", caught.number);
                Err(Error::Upgrade(why))
            }
        }
    };
    in_place::end(store, records, begun, &link, &mut convert)
        .inspect_err(|_| run_convert::give_up(store, records, out))
}

/// Says what is converted, and how.
fn explain(store: &Btrfs, plan: &Plan, out: Out) -> Result<()> {
    if !out.json {
        print(&explain_for(store, plan)?);
    }
    Ok(())
}

/// After an error, what was written before the command is the truth.
fn stays(begun: Begun, out: Out) {
    out.say(&format!(
        "unless 'backstay status' says otherwise, the next boot goes back to snapshot {}",
        begun.before
    ));
}

fn tell(args: &Upgrade, begun: Begun, ended: &in_place::Ended, open: &mut Open, out: Out) {
    let (outcome, trial, undone) = match ended {
        in_place::Ended::OnTrial(tried) => ("on-trial", Some(tried), None),
        in_place::Ended::Converts(tried, _) => ("converts", Some(tried), None),
        in_place::Ended::Undone(undone) => ("failed", None, Some(undone)),
        in_place::Ended::Unchanged(_) => ("failed", None, None),
    };
    let converted = match ended {
        in_place::Ended::Converts(_, prepared) => run_ask::names(&open.store, prepared),
        _ => Vec::new(),
    };
    let converts = match (outcome, converted.is_empty()) {
        ("converts", true) => Some(BY_THE_BOOT),
        ("converts", false) => Some(run_ask::HELD),
        _ => None,
    };
    let unchanged = matches!(ended, in_place::Ended::Unchanged(_));
    let before = begun.before;
    note(
        &mut open.store,
        &match undone {
            Some(undone) => format!("upgrade failed, goes back to {before}: {}", undone.why),
            None if unchanged => "upgrade failed, no package was changed".to_owned(),
            None => format!("upgraded in place ({outcome}); before it: snapshot {before}"),
        },
    );
    out.result(&Upgraded {
        snapshot: Some(before),
        reboot_due: !unchanged,
        trial,
        converted,
        undone,
        ..Upgraded::of(args, outcome)
    });
    if let (false, Some(tried)) = (out.json, trial) {
        say_upgraded(converts, tried, args.reboot, out);
    }
}

fn say_upgraded(converts: Option<&str>, tried: &super::trial::Tried, reboots: bool, out: Out) {
    let to = match tried.fall_back_to {
        Some(id) => format!("falls back to snapshot {id}"),
        None => "opens its menu".to_owned(),
    };
    out.say(&format!(
        "upgraded: unless it is marked good within {} starts, the machine {to}",
        tried.tries
    ));
    if let Some(why) = tried.not_counted {
        out.say(&format!(
            "a kernel that panics before it has started anything is not counted: {why}"
        ));
    }
    if !reboots {
        out.say("Reboot to start the new version.");
    }
    if let Some(what) = converts {
        out.say(what);
    }
}

fn failure(undone: &Undone) -> String {
    let then = match undone.back_to {
        Some(id) if undone.refused.is_empty() => {
            let data = match undone.with_data {
                true => {
                    ", with the data as it was there, since that version does not read what it is now"
                }
                false => "",
            };
            format!("the next boot goes back to snapshot {id}{data}: reboot")
        }
        Some(id) => format!(
            "the next boot cannot go back to snapshot {id} as the data is now, and looks for another way: see 'backstay \
             fence explain {id}':\n{}",
            undone.refused.join("\n")
        ),
        None => {
            "something else was asked for meanwhile, which the next boot does: 'backstay status'"
                .to_owned()
        }
    };
    format!("the upgrade failed: {}\n{then}", undone.why)
}
