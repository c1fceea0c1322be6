//! From arguments to verbs: opens and locks the store, calls, prints, logs.

use super::cli::{App, Cli, Command, Init, Initramfs, Recovery, Uninstall};
use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::output::{self, json, now, size};
use super::own_kernel::{self, Kept};
use super::status::Around;
use super::{
    app, fence, grub, init, initramfs, install, list, menu, packages, password, recovery, request,
    run_ask, run_factory, run_good, run_prune, run_state, run_trial, run_upgrade, snapshot, status,
    tarball,
};
use crate::conversion::held;
use crate::record::manifest::title as title_of;
use crate::record::slots::Slots;
use crate::record::state::{Kexec, Verb};
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::STORE;
use crate::transaction::history_log;
use crate::transaction::records::{Records, read_state};
use crate::transaction::recover::Recovered;
use serde::Serialize;
use std::path::Path;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It did what was asked, or it was done already.
    Done,
    /// There was nothing to do.
    Nothing,
    /// It was done, and found something that is wrong.
    Unwell,
}

/// Where the agent leaves what it said, for the running system.
pub(super) const BOOT_LOG: &str = "/run/backstay/boot.log";
/// Lines of it that `status` shows.
const BOOT_LINES: usize = 8;

/// Bytes that must be free for a snapshot. It takes less, but it keeps what is deleted from now on,
/// and what is kept in reserve is for rolling back.
const SNAPSHOT_ROOM: u64 = 32 << 20;

/// Does what the arguments say.
pub fn run(cli: &Cli) -> Result<Ended> {
    let out = Out { json: cli.json };
    let root = cli.root.as_deref();
    match &cli.command {
        Command::Init(args) => set_up(root, args, out),
        Command::Doctor => examine(root, out),
        Command::Uninstall(args) => take_down(root, args, out),
        Command::Snapshot { title, data } => take(root, title, *data, out),
        Command::Prune(args) => run_prune::run(root, args, out),
        Command::Factory { command } => run_factory::run(root, command, out),
        Command::Recovery {
            command: Recovery::Install { agent },
        } => install(root, agent.as_deref(), out),
        Command::List => show_list(root, out),
        Command::Status => show_status(root, out),
        Command::Menu => menu::run(root, out),
        Command::Rollback { id, agreed, how } => {
            run_ask::ask(root, Verb::Rollback(*id), agreed.consent(), *how, out)
        }
        Command::Forward { agreed, how } => {
            run_ask::ask(root, Verb::Forward, agreed.consent(), *how, out)
        }
        Command::Select { id, how } => {
            run_ask::ask(root, Verb::Select(*id), Default::default(), *how, out)
        }
        Command::Reset(args) => run_ask::reset(root, args, out),
        Command::Convert { fence, how } => run_ask::convert(root, *fence, *how, out),
        Command::Upgrade(args) => run_upgrade::upgrade(root, args, out),
        Command::Cancel => run_ask::cancel(root, out),
        Command::Try => run_trial::try_live(root, out),
        Command::MarkBad { reboot } => run_trial::mark_bad(root, *reboot, out),
        Command::StartFailed => run_trial::start_failed(root, out),
        Command::MarkGood(args) => {
            if args.check {
                run_trial::healthy(root, out)?;
            }
            run_good::mark(root, args, out)
        }
        Command::State { command } => run_state::run(root, command, out),
        Command::Fence { command } => fence::run(root, command, out),
        Command::Initramfs(args) => archive(args, out),
        Command::Password(args) => password::run(args, out),
        Command::App { command } => match command {
            App::Check(args) => app::check(root, args, out),
            App::Guard => packages::guard(root),
        },
        Command::KeepKernel => {
            let kept = own_kernel::keep()?;
            if let Kept::Now(release) = &kept {
                out.say(&format!(
                    "kernel {release} is kept in the system, beside its modules"
                ));
            }
            Ok(match kept {
                Kept::Now(_) => Ended::Done,
                Kept::Already | Kept::NotNeeded => Ended::Nothing,
            })
        }
        Command::GrubEntries(args) => {
            let machine = Machine::open(root, Lock::None)?;
            let layout = machine.store()?.layout().clone();
            let live = layout.system.live.as_str();
            output::out(grub::entries(
                machine.uuid()?,
                live,
                machine.recovery.is_on_boot(),
                &args.title,
                &args.cmdline,
            )?);
            Ok(Ended::Done)
        }
        Command::Completions { shell } => {
            let mut command = super::command();
            clap_complete::generate(*shell, &mut command, "backstay", &mut std::io::stdout());
            Ok(Ended::Done)
        }
    }
}

/// Where lines for people go: beside the JSON, not into it.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) json: bool,
}

impl Out {
    pub(super) fn say(self, line: &str) {
        match self.json {
            true => eprintln!("{line}"),
            false => output::out(format_args!("{line}\n")),
        }
    }

    pub(super) fn show<T: Serialize + core::fmt::Display>(self, value: &T) {
        match self.json {
            true => json(value),
            false => output::out(value),
        }
    }

    pub(super) fn result<T: Serialize>(self, value: &T) {
        if self.json {
            json(value);
        }
    }
}

/// The store, locked, with its records; what an interrupted snapshot left is settled first.
pub(super) struct Open {
    pub(super) machine: Machine,
    pub(super) store: Btrfs,
    pub(super) records: Records,
}

pub(super) fn open(root: Option<&Path>, lock: Lock, out: Out) -> Result<Open> {
    open_with(root, lock, out, Records::open)
}

/// The same with another way to the records.
pub(super) fn open_with(
    root: Option<&Path>,
    lock: Lock,
    out: Out,
    records: fn(&Btrfs) -> core::result::Result<Records, crate::transaction::Error>,
) -> Result<Open> {
    let machine = Machine::open(root, lock)?;
    // Before what an interrupted command left is settled, which writes.
    machine.refuse_copies()?;
    let mut store = machine.store()?;
    let mut records = records(&store)?;
    match request::settle(&mut store, &mut records)? {
        Recovered::Nothing => {}
        Recovered::Undone(id) => out.say(&format!("an interrupted change ({id}) was undone")),
        Recovered::Finished(id, done) => {
            out.say(&format!("an interrupted change ({id}) was finished"));
            done.lines(id).iter().for_each(|line| out.say(line));
        }
    }
    Ok(Open {
        machine,
        store,
        records,
    })
}

pub(super) fn note<S: Store>(store: &mut S, text: &str) {
    history_log::append(store, now(), text);
}

fn set_up(root: Option<&Path>, args: &Init, out: Out) -> Result<Ended> {
    let machine = Machine::open(root, Lock::Try)?;
    machine.refuse_copies()?;
    let say = &mut |line: &str| out.say(line);
    let store = match install::is_wanted(&machine, args) {
        true => install::set_up(&machine, args, say)?,
        false => Some(init::init(&machine, args, say)?),
    };
    // Only the proposal was wanted.
    let Some(mut store) = store else {
        return Ok(Ended::Done);
    };
    let what = if args.repair { "init --repair" } else { "init" };
    note(&mut store, what);
    out.result(&Done { done: what });
    Ok(Ended::Done)
}

fn examine(root: Option<&Path>, out: Out) -> Result<Ended> {
    if root.is_some() {
        return Err(Error::Install(
            "doctor looks at the running system, which is not the one that --root names".to_owned(),
        ));
    }
    let machine = Machine::open(None, Lock::None)?;
    match install::doctor(&machine, out.json)? {
        true => Ok(Ended::Done),
        false => Ok(Ended::Unwell),
    }
}

fn take_down(root: Option<&Path>, args: &Uninstall, out: Out) -> Result<Ended> {
    if root.is_some() {
        return Err(Error::Install(
            "uninstall takes down the running system's store, which is not the one that --root names".to_owned(),
        ));
    }
    let Open {
        machine,
        mut store,
        records,
    } = open(None, Lock::Try, out)?;
    request::idle(&records)?;
    if records.state.value.live_trial().is_some() {
        return Err(Error::Install(
            "the live system is on trial, and what it falls back to goes with the store: if it is well, run 'backstay \
             mark-good' first, if not, 'backstay rollback'"
                .to_owned(),
        ));
    }
    install::take_down(&machine, &mut store, args, &mut |line| out.say(line))?;
    if !args.dry_run {
        out.result(&Done { done: "uninstall" });
    }
    Ok(Ended::Done)
}

#[derive(Serialize)]
struct Done {
    done: &'static str,
}

#[derive(Serialize)]
pub(super) struct Made {
    pub(super) id: u32,
    pub(super) title: String,
}

#[derive(Serialize)]
struct Taken {
    #[serde(flatten)]
    made: Made,
    /// The data datasets that it has.
    data: Vec<String>,
}

/// Refuses a snapshot where little is free.
pub(super) fn has_room(store: &Btrfs) -> Result<()> {
    let free = store.space()?.available;
    match free < SNAPSHOT_ROOM {
        true => Err(Error::NoRoom(size(free))),
        false => Ok(()),
    }
}

fn take(root: Option<&Path>, title: &str, data: bool, out: Out) -> Result<Ended> {
    let Open {
        mut store,
        mut records,
        ..
    } = open(root, Lock::Try, out)?;
    has_room(&store)?;
    if root.is_none() {
        own_kernel::keep()?;
    }
    let layout = store.layout().clone();
    let names: Vec<String> = match data {
        true => layout.data.iter().map(|it| it.name.to_string()).collect(),
        false => Vec::new(),
    };
    if data && names.is_empty() {
        return Err(Error::NoData);
    }
    let take = match data {
        true => snapshot::snapshot_with_data,
        false => snapshot::snapshot,
    };
    let id = take(&mut store, &mut records, title, now(), &mut |_| {})?;
    let with = match data {
        true => format!(", with the data of {}", names.join(", ")),
        false => String::new(),
    };
    note(&mut store, &format!("snapshot {id} made{with}, {title:?}"));
    for path in snapshot::left_out(&store)?.iter().filter(|_| data) {
        out.say(&format!(
            "the subvolume {path} is not in it: no snapshot has those inside"
        ));
    }
    let kept = title_of(title);
    if kept.as_str() != title {
        out.say(&format!(
            "its title is {kept:?}: GRUB shows letters, digits and \" ._:,+()/-\", and {} of them",
            kept.capacity()
        ));
    }
    if !out.json {
        out.say(&format!(
            "snapshot {id} made{with}: 'backstay rollback {id}' returns to it"
        ));
    }
    out.result(&Taken {
        made: Made {
            id,
            title: title.to_owned(),
        },
        data: names,
    });
    Ok(Ended::Done)
}

fn install(root: Option<&Path>, agent: Option<&Path>, out: Out) -> Result<Ended> {
    let Open {
        machine,
        mut store,
        mut records,
    } = open(root, Lock::Try, out)?;
    let installed = recovery::install(&mut store, &machine.recovery, agent, &mut |line| {
        out.say(line)
    })?;
    let kernel = installed.release;
    let kexec = records.state.value.kexec;
    if kexec == Kexec::Fails || (installed.is_new && kexec != Kexec::Unknown) {
        let mut state = records.state.value.clone();
        // This one may be able to; and somebody may know better than what was found.
        state.kexec = Kexec::Unknown;
        records.state.write(&mut store, state)?;
    }
    init::remember_kernel(&mut store, &mut records, Some(kernel.clone()))?;
    if installed.is_new {
        note(&mut store, &format!("recovery kernel {kernel} installed"));
    }
    if !out.json {
        out.say(&match installed.is_new {
            true => format!("recovery kernel {kernel} installed; the one before it is kept"),
            false => format!("the recovery kernel is {kernel} already: nothing was changed"),
        });
    }
    out.result(&Done {
        done: "recovery install",
    });
    Ok(Ended::Done)
}

fn show_list(root: Option<&Path>, out: Out) -> Result<Ended> {
    let store = Machine::open(root, Lock::None)?.store()?;
    let state = match read_state(&store)? {
        Slots::Valid { value, .. } => Some(value),
        Slots::Empty => None,
        // The snapshots are there all the same.
        Slots::Damaged | Slots::Newer(_) => {
            eprintln!(
                "backstay: the state cannot be read, so no history is shown: 'backstay status'"
            );
            None
        }
    };
    out.show(&list::listing(&store, state.as_ref())?);
    Ok(Ended::Done)
}

fn show_status(root: Option<&Path>, out: Out) -> Result<Ended> {
    let machine = Machine::open(root, Lock::None)?;
    let store = machine.store()?;
    let space = store.space()?;
    let boot_log = match machine.booted {
        Some(_) => std::fs::read(BOOT_LOG).unwrap_or_default(),
        None => Vec::new(),
    };
    let boot_log = String::from_utf8_lossy(&boot_log);
    let lines: Vec<&str> = boot_log.lines().collect();
    let around = Around {
        booted: machine.booted.clone(),
        free: space.available,
        size: space.total,
        ballast: machine.top.join(STORE).join("ballast").is_dir(),
        grub: grub::problems(
            &machine.top,
            store.file_system_uuid()?,
            &store.layout().system.live,
        )?,
        copied_disk: machine.is_copied()?,
        upgrading: run_upgrade::goes_on(&machine)?,
        tarball: tarball::present(&store, &machine.top)?,
        recovery_missing: machine.recovery.missing().map(str::to_owned),
        recovery_is_hosts: machine.recovery.is_hosts,
        held: match machine.booted {
            Some(_) => held::Held::read(Path::new(held::PATH)).unwrap_or_default(),
            None => None,
        },
        boot_log: lines
            .iter()
            .skip(lines.len().saturating_sub(BOOT_LINES))
            .map(ToString::to_string)
            .collect(),
    };
    out.show(&status::status(&store, around)?);
    Ok(Ended::Done)
}

#[derive(Serialize)]
struct Archive<'a> {
    output: &'a Path,
    bytes: u64,
}

fn archive(args: &Initramfs, out: Out) -> Result<Ended> {
    let own = args.root_dir.join(initramfs::AGENT);
    let bytes = initramfs::full(&backstay_initramfs::Options {
        root: args.root_dir.clone(),
        release: args.kernel.clone(),
        agent: args.agent.clone().unwrap_or(own),
        output: args.output.clone(),
        extra_modules: args.modules.clone(),
        shell: args.shell.clone(),
    })?;
    if !out.json {
        out.say(&format!(
            "{} for kernel {}: {}",
            args.output.display(),
            args.kernel,
            size(bytes)
        ));
    }
    out.result(&Archive {
        output: &args.output,
        bytes,
    });
    Ok(Ended::Done)
}
