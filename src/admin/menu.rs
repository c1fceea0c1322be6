//! `backstay menu`: the menu of early boot, in the running system.
//!
//! It looks without a lock, and opens the store anew each time, so that nobody waits for whoever reads a page. A plan and
//! a change take the lock for as long as they need it, and never while a word is waited for: between the two another
//! command may come, so a change is planned once more before it is written down. A power cut leaves what
//! [`super::request`] says.

use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::output::{self, now, size};
use super::run::{BOOT_LOG, Ended, Open, Out, open};
use super::terminal::{HAS_SHELL, Person, Program};
use super::{reboot, request, run_ask};
use crate::agent::policy::Policy;
use crate::console::command::{Log, Way};
use crate::console::guard::Guard;
use crate::console::machine::{self, Answer, Changed, Look, Situation, Stage};
use crate::console::menu::{self, Choice, Settings};
use crate::console::versions::{self, Version};
use crate::console::{inside, json};
use crate::policy;
use crate::policy::refusal::Refusal;
use crate::policy::terms::{Conversions, Terms};
use crate::record::slots::Slots;
use crate::record::state::{Consent, State, Verb};
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::File;
use crate::sys::raw_terminal::RawTerminal;
use crate::sys::{kmsg, mountinfo};
use crate::transaction::catalogue;
use crate::transaction::explain::Explanation;
use crate::transaction::plan::Plan;
use crate::transaction::records::{Records, read_state};
use rustix::fd::AsFd;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;

/// Shows it until somebody leaves it, and does what was chosen then.
pub fn run(root: Option<&Path>, out: Out) -> Result<Ended> {
    let input = std::io::stdin();
    let is_terminal = input.is_terminal() && std::io::stdout().is_terminal();
    if !(out.json || is_terminal) {
        return Err(Error::MenuNeedsTerminal);
    }
    let mut running = Running {
        root,
        out,
        shown: None,
    };
    // Where there is nothing to show, it is said as every command says it.
    running.opened()?;
    // Whoever is root here can do all of it without a menu.
    let mut guard = Guard::new(&Policy::default());
    let settings = Settings {
        seconds: None,
        silent: Choice::Boot,
        or_restart: false,
        after_change: 0,
    };
    let mut say = |text: &str| {
        output::out(text);
        !output::lost()
    };
    let choice = if out.json {
        let mut lines = input.lock();
        let mut program = Program::new(&mut lines, &mut say);
        json::run(&mut running, &mut program, &mut guard, settings)
    } else {
        let raw = RawTerminal::begin(input.as_fd())?;
        let mut person = Person::new(input.as_fd(), &mut say);
        let choice = menu::run(&mut running, &mut person, &mut guard, settings);
        drop(raw);
        choice
    };
    match choice {
        Choice::Boot if output::lost() => return Err(Error::MenuUnread),
        Choice::Boot => return Ok(Ended::Done),
        // What was asked for is another machine's.
        _ if root.is_some() => return Err(Error::NotThisMachine),
        Choice::Reboot => reboot::restart(),
        Choice::PowerOff => reboot::power_off(),
    }
    .map_err(Error::StaysOn)?;
    Ok(Ended::Done)
}

/// The running system, or the store that --root names.
struct Running<'a> {
    root: Option<&'a Path>,
    out: Out,
    /// The plan that was shown last.
    shown: Option<Shown>,
}

/// What was seen of a plan that loses something by a conversion, or does not.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shown {
    verb: Verb,
    consent: Consent,
    loss: bool,
}

impl Running<'_> {
    /// For looking.
    fn opened(&self) -> Result<(Machine, Btrfs)> {
        let machine = Machine::open(self.root, Lock::None)?;
        let store = machine.store()?;
        Ok((machine, store))
    }

    fn store(&self) -> Answer<Btrfs> {
        Ok(self.opened().map_err(said)?.1)
    }

    /// Under the lock: what may be done now.
    fn planned(&self, verb: Verb, terms: impl Into<Terms>) -> Result<(Open, Plan, Explanation)> {
        let mut open = open(self.root, Lock::Try, self.out)?;
        let planned = run_ask::plan(&mut open, verb, terms);
        if let (Err(Error::Refused(Refusal::Fenced(..))), None) = (&planned, self.root)
            && let Some(command) = by_command(&open.store, &open.records, verb)
        {
            return Err(Error::ByCommand(command));
        }
        let (plan, explanation) = planned?;
        Ok((open, plan, explanation))
    }

    /// What the file system was mounted from.
    fn device(&self) -> Answer<String> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let at = match self.root {
            None => "/".to_owned(),
            Some(root) => {
                let whole = std::fs::canonicalize(root).map_err(|error| error.to_string())?;
                whole.to_string_lossy().into_owned()
            }
        };
        let mounts = mountinfo::mounts(&text);
        let mount = mountinfo::holding(&mounts, &at);
        Ok(mount.map_or("unknown".to_owned(), |mount| mount.device.clone()))
    }

    fn looked_at(&self) -> Result<Situation> {
        let (machine, store) = self.opened()?;
        let hindrance = match (machine.is_copied()?, machine.recovery.missing()) {
            (true, _) => Some(Refusal::CopiedDisk.to_string()),
            (false, Some(what)) => Some(Error::NoRecoveryKernel(what).to_string()),
            (false, None) => None,
        };
        Ok(situation(&store, hindrance))
    }
}

impl Shown {
    fn of(plan: &Plan, verb: Verb, consent: Consent) -> Shown {
        Shown {
            verb,
            consent,
            loss: plan.converts_with_loss(),
        }
    }

    /// On which terms a change is asked for after this was shown.
    fn terms(shown: Option<Shown>, verb: Verb, consent: Consent) -> Terms {
        let loss = true;
        Terms {
            loss: shown
                == Some(Shown {
                    verb,
                    consent,
                    loss,
                }),
            ..Terms::from(consent)
        }
    }
}

/// The command that does what the menu cannot: it converts in the running system, by converters that are not early, too.
fn by_command<S: Store>(store: &S, records: &Records, verb: Verb) -> Option<String> {
    let words = match verb {
        Verb::Rollback(Some(id)) => format!("rollback {id}"),
        Verb::Rollback(None) => "rollback".to_owned(),
        Verb::Forward => "forward".to_owned(),
        Verb::ResetSystem { keep_config: false } => "reset system".to_owned(),
        Verb::ResetSystem { keep_config: true } => "reset system --keep config".to_owned(),
        _ => return None,
    };
    let possible = |conversions| {
        let terms = Terms {
            conversions,
            ..Terms::from(Consent::Convert)
        };
        request::planned(store, records, verb, terms, now()).is_ok()
    };
    let only = !possible(Conversions::BeforeBoot) && possible(Conversions::Running);
    only.then(|| format!("backstay {words} --fence convert"))
}

fn said(error: impl core::fmt::Display) -> String {
    error.to_string()
}

fn state<S: Store>(store: &S) -> Option<State> {
    match read_state(store) {
        Ok(Slots::Valid { value, .. }) => Some(value),
        _ => None,
    }
}

/// How things stand, with what hinders changes outside the records.
fn situation<S: Store>(store: &S, hindrance: Option<String>) -> Situation {
    let state = state(store);
    let mut waits = state.as_ref().map_or_else(Vec::new, versions::waits);
    let unchangeable = match may_ask(store) {
        Ok(left_over) => {
            waits.extend(left_over.map(str::to_owned));
            hindrance
        }
        Err(error) => hindrance.or(Some(error.to_string())),
    };
    Situation {
        live: versions::live(store, state.as_ref()),
        waits,
        readable: true,
        unchangeable,
        back: state.as_ref().and_then(|it| it.older.last().copied()),
        ahead: state.as_ref().and_then(|it| it.newer.first().copied()),
        config: store.layout().config.is_some(),
        data: !store.layout().data.is_empty(),
        starts: true,
        ..Situation::default()
    }
}

/// Refuses while nothing at all can be asked for; says what is left over for GRUB.
fn may_ask<S: Store>(store: &S) -> Result<Option<&'static str>> {
    let records = Records::open(store)?;
    let left_over = request::look(store, &records)?;
    request::idle(&records)?;
    let facts = catalogue::facts(store, None, false)?;
    match policy::is_behind(&records.state.value, &facts) {
        true => Err(Error::StateBehind),
        false => Ok(left_over),
    }
}

impl machine::Machine for Running<'_> {
    fn stage(&self) -> Stage {
        Stage::Running
    }

    fn situation(&mut self) -> Situation {
        self.looked_at().unwrap_or_else(|error| Situation {
            why: vec![format!("The store cannot be read: {error}")],
            unchangeable: Some(error.to_string()),
            starts: true,
            ..Situation::default()
        })
    }

    fn versions(&mut self) -> Answer<Vec<Version>> {
        let store = self.store()?;
        let all = versions::list(&store, state(&store).as_ref());
        all.map_err(|error| format!("the snapshots cannot be listed: {error}"))
    }

    fn plan(&mut self, verb: Verb, consent: Consent) -> Answer<Explanation> {
        self.shown = None;
        let (_, plan, explanation) = self.planned(verb, consent).map_err(said)?;
        self.shown = Some(Shown::of(&plan, verb, consent));
        Ok(explanation)
    }

    fn carry_out(&mut self, verb: Verb, consent: Consent) -> Answer<String> {
        // Between the two others may have been at work: what loses something by now was not shown.
        let terms = Shown::terms(self.shown.take(), verb, consent);
        let (mut open, plan, _) = self.planned(verb, terms).map_err(said)?;
        run_ask::submit(&mut open, &plan, verb, consent).map_err(said)?;
        Ok(match self.root {
            None => "It is asked for: the next start does it. 'reboot' restarts now; 'backstay cancel' withdraws it.",
            Some(_) => "It is asked for: the next start of that system does it. 'backstay cancel' with the same --root withdraws it.",
        }
        .to_owned())
    }

    fn compare(
        &mut self,
        version: u32,
        path: &str,
        found: &mut dyn FnMut(Changed) -> ControlFlow<()>,
    ) -> Answer<()> {
        let mut store = self.store()?;
        // What was written lately is in the trees only then.
        store.sync().map_err(|error| error.to_string())?;
        inside::compare(&store, version, path, found)
    }

    fn look(&mut self, version: Option<u32>, path: &str) -> Answer<Look> {
        inside::look(&self.store()?, version, path)
    }

    fn disk(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.device() {
            Ok(device) => lines.push(format!("{device}: btrfs")),
            Err(error) => lines.push(format!("its device is not known: {error}")),
        }
        match self.opened() {
            Ok((machine, store)) => {
                match machine.uuid() {
                    Ok(uuid) => lines.push(format!("UUID {uuid}")),
                    Err(error) => lines.push(error.to_string()),
                }
                match store.space() {
                    Ok(space) => lines.push(format!(
                        "{} of {} are free",
                        size(space.available),
                        size(space.total)
                    )),
                    Err(error) => lines.push(error.to_string()),
                }
                if machine.is_copied().unwrap_or(false) {
                    lines.push(Refusal::CopiedDisk.to_string());
                }
            }
            Err(error) => lines.push(error.to_string()),
        }
        if self.root.is_none() {
            lines.push(
                "The running system is on it, so it is mounted in no other way from here."
                    .to_owned(),
            );
        }
        lines
    }

    fn mount(&mut self, _way: Way) -> Answer<()> {
        Err("the running system is on this disk: mount it in another way from a rescue system, as docs/recovery.md says".to_owned())
    }

    fn log(&mut self, which: Log) -> Answer<Vec<String>> {
        let lines = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.lines().map(str::to_owned).collect()
        };
        match which {
            Log::Agent if self.root.is_some() => {
                Err("that is said at a start, and this system was not started here; 'log disk' has what was done to it".to_owned())
            }
            Log::Agent => match std::fs::read(BOOT_LOG) {
                Ok(said) => Ok(lines(&said)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err("the agent left no log: this start went without it".to_owned())
                }
                Err(error) => Err(format!("{BOOT_LOG}: {error}")),
            },
            Log::Store => {
                let log = self.store()?.read(File::Log).map_err(said)?;
                Ok(lines(&log.unwrap_or_default()))
            }
            Log::Kernel => kmsg::records().map_err(said),
        }
    }

    fn forget(&mut self) -> Answer<()> {
        Err("this system runs, so none lies hibernated on its disk".to_owned())
    }

    fn shell(&mut self, _terminal: &Path, _: &mut dyn FnMut()) -> Answer<()> {
        Err(HAS_SHELL.to_owned())
    }

    /// The log has what was asked for, and a shell's history what was typed.
    fn note(&mut self, _line: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::names::Version;
    use crate::fence::tests::{declare, label};
    use crate::record::block::BLOCK;
    use crate::record::layout::Part;
    use crate::store::place::Place;
    use crate::transaction::execute;
    use crate::transaction::model::machine;

    #[test]
    fn where_nothing_waits_everything_is_offered() {
        let (store, _) = machine();
        let situation = situation(&store, None);
        assert_eq!(situation.unchangeable, None);
        assert_eq!((situation.back, situation.ahead), (Some(2), None));
        assert!(situation.readable && situation.starts && situation.config && situation.data);
        assert!(!situation.mounts && !situation.hibernated && !situation.degraded);
        assert_eq!(situation.waits, Vec::<String>::new());
        assert!(
            situation.live[0].contains("kernel 6.12"),
            "{:?}",
            situation.live
        );
    }

    #[test]
    fn what_is_wrong_outside_the_records_hinders_every_change() {
        let (store, _) = machine();
        let copied = Refusal::CopiedDisk.to_string();
        let situation = situation(&store, Some(copied.clone()));
        assert_eq!(situation.unchangeable, Some(copied));
        assert!(situation.readable);
    }

    #[test]
    fn a_request_that_waits_is_named_with_what_withdraws_it() {
        let (mut store, mut records) = machine();
        let verb = Verb::Rollback(None);
        request::submit(
            &mut store,
            &mut records,
            verb,
            Default::default(),
            [7; 16],
            1,
            &request::no_spare,
        )
        .unwrap();
        let waiting = situation(&store, None);
        assert!(waiting.unchangeable.unwrap().contains("'backstay cancel'"));
        assert!(
            waiting.waits[0].contains("roll back"),
            "{:?}",
            waiting.waits
        );
        request::cancel(&mut store, &mut records).unwrap();
        assert_eq!(situation(&store, None).unchangeable, None);
    }

    #[test]
    fn a_snapshot_that_is_booted_once_goes_before_everything_else() {
        let (mut store, mut records) = machine();
        let mut state = records.state.value.clone();
        state.parked = Some(2);
        records.state.write(&mut store, state).unwrap();
        store.replace(File::Armed, execute::ARMED).unwrap();
        let why = situation(&store, None).unchangeable.unwrap();
        assert!(why.contains("parked as 2"), "{why}");
    }

    #[test]
    fn a_damaged_state_hinders_changes_and_hides_nothing_else() {
        let (mut store, _) = machine();
        for slot in 0..2 {
            store.write_slot(File::State, slot, &[0xa5; BLOCK]).unwrap();
        }
        let situation = situation(&store, None);
        assert!(situation.unchangeable.unwrap().contains("--repair"));
        assert!(situation.readable && !situation.live.is_empty());
        assert_eq!((situation.back, situation.ahead), (None, None));
        assert_eq!(
            versions::list(&store, state(&store).as_ref())
                .unwrap()
                .len(),
            3
        );
    }

    #[test]
    fn a_loss_that_came_into_the_plan_after_it_was_shown_is_not_asked_for() {
        let (mut store, records) = machine();
        let (verb, consent) = (Verb::Rollback(Some(2)), Consent::Convert);
        let writes = |state: &str| format!("dataset = \"data\"\nstate = \"{state}\"\n");
        let down = |lossless: bool| {
            format!(
                "{}[[converter]]\nfrom = [\"3\"]\nto = \"2\"\ncommand = [\"/usr/bin/down\"]\nearly = true\n\
                 lossless = {lossless}\n",
                writes("3")
            )
        };
        declare(&mut store, Version::Snapshot(2), &writes("2"));
        label(&mut store, Place::Live(Part::Data(0)), "3");
        let mut shown = |lossless, terms: Terms| {
            declare(&mut store, Version::Live, &down(lossless));
            request::planned(&store, &records, verb, terms, 1).map(|(plan, _)| plan)
        };
        let at_first = Terms::from(consent);
        for (was, is, goes) in [
            (true, true, true),
            (true, false, false),
            (false, false, true),
        ] {
            let plan = shown(was, at_first).unwrap();
            let seen = Some(Shown::of(&plan, verb, consent));
            let then = shown(is, Shown::terms(seen, verb, consent));
            match goes {
                true => assert_eq!(then.unwrap().converts_with_loss(), !is),
                false => assert!(matches!(
                    then,
                    Err(Error::Refused(Refusal::Unseen(Version::Snapshot(2))))
                )),
            }
        }
        // What was shown of something else is nothing that was shown of this.
        let plan = shown(false, at_first).unwrap();
        let other = Some(Shown::of(&plan, Verb::Forward, consent));
        for seen in [None, other] {
            let then = shown(false, Shown::terms(seen, verb, consent));
            assert!(matches!(then, Err(Error::Refused(Refusal::Unseen(_)))));
        }
    }

    #[test]
    fn while_another_command_is_at_work_nothing_can_be_changed_and_it_is_left_alone() {
        let mut open = 0;
        for power in 0..12 {
            let (mut store, mut records) = machine();
            store.power = Some(power);
            let _ = crate::admin::snapshot::snapshot(&mut store, &mut records, "", 1, &mut |_| {});
            for left in store.after_power_cut() {
                let closed = request::look(&left, &Records::open(&left).unwrap()).is_ok();
                let before = left.world().files.clone();
                let why = situation(&left, None).unchangeable;
                assert_eq!(why.is_none(), closed, "{why:?}");
                assert_eq!(left.world().files, before);
                if !closed {
                    assert!(why.unwrap().contains("another backstay"));
                    open += 1;
                }
            }
        }
        assert!(open > 0);
    }

    #[test]
    fn what_only_the_running_system_converts_is_refused_with_the_command_that_does_it() {
        use crate::transaction::model::machine_to_convert;
        let (mut store, records, _) = machine_to_convert();
        let back = Verb::Rollback(Some(2));
        let command = by_command(&store, &records, back).unwrap();
        assert_eq!(command, "backstay rollback 2 --fence convert");
        let text = Error::ByCommand(command).to_string();
        assert!(
            text.contains("'backstay rollback 2 --fence convert'"),
            "{text}"
        );
        // Nothing leads there at all, or before boot does.
        assert_eq!(by_command(&store, &records, Verb::Rollback(Some(1))), None);
        let early = "dataset = \"data\"\nstate = \"3\"\n[[converter]]\nfrom = [\"3\"]\nto = \"2\"\n\
                     command = [\"/usr/bin/down\"]\nlossless = true\nearly = true\n";
        declare(&mut store, Version::Live, early);
        assert_eq!(by_command(&store, &records, back), None);
    }
}
