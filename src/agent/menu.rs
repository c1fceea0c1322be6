//! The menu in early boot: the store of this start, on every console.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kernel_cmdline::Boot;
use rustix::fd::AsFd;

use super::act::by_hand;
use super::block::{self, Places};
use super::consoles::Consoles;
use super::device::Found;
use super::hibernation::{self, Image};
use super::mount::Rung;
use super::session::{self, Session};
use super::{act, kernel_keys, log as agent_log, policy, watchdog};
use crate::console::command::{Log, Way};
use crate::console::guard::Guard;
use crate::console::machine::{Answer, Changed, Look, Machine, Situation, Stage};
pub use crate::console::menu::Choice;
use crate::console::menu::{self, Settings};
use crate::console::versions::{self, Version};
use crate::console::{inside, json};
use crate::policy::refusal::Refusal;
use crate::record::journal::Journal;
use crate::record::slots::Slots;
use crate::record::state::{Consent, State, Verb};
use crate::say;
use crate::store::place::File;
use crate::store::{Store, StoreError};
use crate::sys::{console, kmsg, process};
use crate::transaction::explain::Explanation;
use crate::transaction::records::{read_journal, read_state};
use crate::transaction::recover;

/// Seconds of silence after which the boot goes on, where the command line gives none.
pub const SECONDS: u32 = 60;
/// A shell that an initramfs may hold; ours holds none unless the builder was told to add one.
const SHELL: &str = "/bin/sh";

/// What is said when it opens, on every console.
pub const OPENS: &str = "the menu opens: Enter shows what can be done";

/// What wrong passwords cost lasts as long as this worker, however often the menu opens.
static GUARD: Mutex<Option<Guard>> = Mutex::new(None);

/// What the menu opens with.
pub struct Early<'a> {
    /// The root's devices, where they came.
    pub found: Option<&'a Found>,
    /// The command line.
    pub boot: &'a Boot<'a>,
    /// Where the default tarball lies, if not in the store.
    pub tarball: Option<&'a str>,
    /// The mounted store.
    pub session: Option<Session>,
    /// A hibernated system: nothing may be changed or mounted.
    pub image: Option<&'a Image>,
    /// Whether what boots can be started without the store.
    pub starts_without: bool,
    /// Why it opens, in lines.
    pub why: Vec<String>,
    /// Why the disk does not mount.
    pub disk: Option<String>,
    /// Another initramfs mounts the root, and its boot goes on.
    pub host: bool,
    /// Programs are at the other end.
    pub json: bool,
}

/// Opens it; the session comes back as it is then. `seconds`: `None` where it waits for a person; `silent`: what follows from
/// silence.
pub fn open(early: Early<'_>, seconds: Option<u32>, silent: Choice) -> (Choice, Option<Session>) {
    watchdog::stop();
    kernel_keys::off();
    say!("{OPENS}");
    let mut early = early;
    let mut consoles = Consoles::open(early.json);
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    let guard = guard.get_or_insert_with(|| Guard::new(&policy::of_initramfs()));
    let settings = Settings {
        seconds,
        silent,
        or_restart: !early.host && early.image.is_none(),
        after_change: SECONDS,
    };
    let run = if early.json { json::run } else { menu::run };
    let choice = run(&mut early, &mut consoles, guard, settings);
    drop(consoles);
    kernel_keys::restore();
    say!(
        "{}",
        match choice {
            Choice::Boot => "starting the system",
            Choice::Reboot => "restarting the machine",
            Choice::PowerOff => "switching the machine off",
        }
    );
    (choice, early.session)
}

impl<'a> Early<'a> {
    fn state(&self) -> Option<State> {
        match read_state(&self.session.as_ref()?.store) {
            Ok(Slots::Valid { value, .. }) => Some(value),
            _ => None,
        }
    }

    fn session(&mut self) -> Answer<&mut Session> {
        let none = match self.found {
            Some(_) => "The disk is not mounted: 'disk' says why, and how else it can be.",
            None => {
                "The root's disk has not come: check its cable and power; 'reboot' looks for it again."
            }
        };
        self.session.as_mut().ok_or_else(|| none.to_owned())
    }

    /// What may be mounted in this way now.
    fn mountable(&self, way: Way, places: &Places) -> Answer<&'a Found> {
        let Some(found) = self.found.filter(|_| self.image.is_none()) else {
            return Err("nothing is mounted from here now; 'disk' says why".to_owned());
        };
        // A disk with the image may have come since it was looked for; only this way replays no log.
        if way != Way::NoReplay && hibernation::is_on_any_disk(places) {
            return Err(
                "a hibernated system lies on a disk that came since: 'disk noreplay' writes nothing; 'reboot' and look again"
                    .to_owned(),
            );
        }
        Ok(found)
    }

    /// The device of the file system that takes no writes, and what to do about it.
    fn write_protected(&self, places: &Places) -> Option<String> {
        let mut devices = self.found?.devices.iter();
        let device = devices.find(|device| block::is_write_protected(places, device))?;
        Some(format!(
            "{} is write-protected: take the protection off, then 'reboot'",
            device.path.display()
        ))
    }

    fn unchangeable(&self) -> Option<String> {
        if self.image.is_some() {
            return Some("a hibernated system lies on the disk".to_owned());
        }
        let Some(session) = &self.session else {
            return Some("the disk is not mounted".to_owned());
        };
        if session.is_copied() {
            return Some(Refusal::CopiedDisk.to_string());
        }
        if !session.rung.is_writable()
            && let Some(why) = self.write_protected(&Places::default())
        {
            return Some(why);
        }
        if let Some(why) = session.hindrance() {
            return Some(why.to_string());
        }
        if !session.rung.is_writable() && !session.rung.is_plain() {
            return Some(format!("the disk is mounted {}", session.rung));
        }
        if session.has_failed() {
            return Some(StoreError::Disk("it takes no more writes".to_owned()).to_string());
        }
        let open =
            |journal| matches!(journal, Slots::Valid { value, .. } if value != Journal::Closed);
        let half_done = |store| -> Result<bool, crate::transaction::Error> {
            Ok(open(read_journal(store)?) || recover::live_set_is_mixed(store)?)
        };
        match half_done(&session.store) {
            Ok(false) => {}
            Ok(true) => {
                return Some("a change is half done; 'reboot' tries to finish it".to_owned());
            }
            Err(error) => return Some(error.to_string()),
        }
        match read_state(&session.store) {
            Ok(Slots::Valid { value, .. }) if value.parked.is_some() => Some(
                "a snapshot is started once: 'boot' starts it, the start after it returns"
                    .to_owned(),
            ),
            Ok(Slots::Valid { .. }) => None,
            Ok(Slots::Empty) => Some(Refusal::NoState.to_string()),
            Ok(Slots::Newer(version)) => Some(Refusal::NewerFormat(version).to_string()),
            Ok(Slots::Damaged) => Some(Refusal::StateDamaged.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Machine for Early<'_> {
    fn stage(&self) -> Stage {
        Stage::EarlyBoot
    }

    fn situation(&mut self) -> Situation {
        let state = self.state();
        let session = self.session.as_ref();
        let layout = session.map(|session| session.store.layout().clone());
        Situation {
            why: self.why.clone(),
            live: session.map_or_else(Vec::new, |it| versions::live(&it.store, state.as_ref())),
            waits: state.as_ref().map_or_else(Vec::new, versions::waits),
            readable: session.is_some(),
            unchangeable: self.unchangeable(),
            back: state.as_ref().and_then(|state| state.older.last().copied()),
            ahead: state
                .as_ref()
                .and_then(|state| state.newer.first().copied()),
            config: layout
                .as_ref()
                .is_some_and(|layout| layout.config.is_some()),
            data: layout.is_some_and(|layout| !layout.data.is_empty()),
            starts: session.map_or(self.starts_without, act::can_boot),
            hibernated: self.image.is_some(),
            mounts: self.found.is_some() && self.image.is_none(),
            degraded: self.found.is_some_and(Found::lacks_a_device),
            policy: None,
        }
    }

    fn versions(&mut self) -> Answer<Vec<Version>> {
        let state = self.state();
        let session = self.session()?;
        let all = versions::list(&session.store, state.as_ref());
        all.map_err(|error| format!("the snapshots cannot be listed: {error}"))
    }

    fn plan(&mut self, verb: Verb, consent: Consent) -> Answer<Explanation> {
        let tarball = self.tarball.is_some();
        by_hand::plan_of(self.session()?, verb, consent, tarball)
    }

    fn carry_out(&mut self, verb: Verb, consent: Consent) -> Answer<String> {
        let tarball = self.tarball;
        let session = self.session()?;
        let done = by_hand::change(session, verb, consent, tarball);
        // What failed half-way is on the disk as it is: that is what counts from now on.
        if let Some(session) = self.session.take() {
            match session.settled() {
                Ok(session) => self.session = Some(session),
                Err(error) => {
                    say!("{error}");
                    self.disk = Some(error.to_string());
                }
            }
        }
        done.map(|()| "Type 'boot' to start it.".to_owned())
    }

    fn compare(
        &mut self,
        version: u32,
        path: &str,
        found: &mut dyn FnMut(Changed) -> ControlFlow<()>,
    ) -> Answer<()> {
        let session = self.session()?;
        if session.rung.is_writable() {
            // What was written lately is in the trees only then.
            session.store.sync().map_err(|error| error.to_string())?;
        }
        inside::compare(&session.store, version, path, found)
    }

    fn look(&mut self, version: Option<u32>, path: &str) -> Answer<Look> {
        inside::look(&self.session()?.store, version, path)
    }

    fn disk(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(found) = self.found else {
            lines.push("The root's disk has not come:".to_owned());
            lines.extend(self.disk.clone());
            lines.push(
                "Check its cable and the controller; 'reboot' looks for it again.".to_owned(),
            );
            return lines;
        };
        for device in &found.devices {
            lines.push(format!(
                "{}: {}",
                device.path.display(),
                device.content.fs_type().unwrap_or("nothing known")
            ));
        }
        let lacks = found.lacks_a_device();
        if lacks {
            lines.push(
                "A device of this file system is missing: 'disk degraded' goes on without it."
                    .to_owned(),
            );
        }
        match (&self.session, self.image) {
            (_, Some(_)) => {
                lines.push(
                    "A hibernated system lies on it: nothing is mounted writable before FORGET."
                        .to_owned(),
                );
            }
            (Some(session), _) if session.rung.is_writable() => {
                let takes = session.store.takes_writes().unwrap_or(false);
                lines.push(match takes {
                    true => "It is mounted writable.".to_owned(),
                    false => "It was mounted writable and takes no more writes: the disk fails, or is full to the last block.".to_owned(),
                });
            }
            (Some(session), _) => {
                let then = match (self.write_protected(&Places::default()), session.rung) {
                    (Some(why), _) => format!("; nothing can be changed: {why}"),
                    (None, rung) if rung.is_plain() => {
                        "; it is mounted writable when something is changed".to_owned()
                    }
                    (None, _) => "; nothing can be changed".to_owned(),
                };
                lines.push(format!("It is mounted {}{then}.", session.rung));
            }
            (None, _) => {
                lines.push("It is not mounted:".to_owned());
                lines.extend(self.disk.clone());
                lines.push("Check its cable and power first.".to_owned());
                let advice = match lacks {
                    true => {
                        "Where it comes back, 'reboot'. A mirror works without it; no other way than 'disk degraded' holds."
                    }
                    false => {
                        "Read-only ways change nothing and often still show the snapshots: 'disk noreplay', then 'disk backup'. \
                         Copy the data off, then 'btrfs check' from a rescue system; 'log kernel' has the kernel's reasons."
                    }
                };
                lines.push(advice.to_owned());
            }
        }
        lines
    }

    fn mount(&mut self, way: Way) -> Answer<()> {
        let found = self.mountable(way, &Places::default())?;
        if let Some(session) = self.session.take() {
            session.close();
        }
        let rungs: &[Rung] = match way {
            Way::Again | Way::Degraded if found.has_log() => &Rung::LADDER,
            Way::Again | Way::Degraded => &Rung::READ_ONLY,
            Way::ReadOnly => &[Rung::ReadOnly],
            Way::NoReplay => &[Rung::NoReplay],
            Way::BackupRoot => &[Rung::BackupRoot],
        };
        let flags = self.boot.rootflags.unwrap_or_default();
        match Session::by_hand(found, flags, rungs, way == Way::Degraded) {
            Ok(session) => {
                say!("the disk is mounted {}", session.rung);
                self.session = Some(session);
                self.disk = None;
                Ok(())
            }
            Err(error) => {
                self.disk = Some(error.to_string());
                Err(match error {
                    session::Error::NotMounted(error) => {
                        format!("It does not mount this way: {}", error.reasons())
                    }
                    other => other.to_string(),
                })
            }
        }
    }

    fn log(&mut self, which: Log) -> Answer<Vec<String>> {
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        match which {
            Log::Agent => Ok(lines(&agent_log::said())),
            Log::Kernel => kmsg::records().map_err(|error| error.to_string()),
            Log::Store => {
                let text = self.session()?.store.read(File::Log);
                let text = text.map_err(|error| error.to_string())?.unwrap_or_default();
                Ok(lines(&String::from_utf8_lossy(&text)))
            }
        }
    }

    fn forget(&mut self) -> Answer<()> {
        let image = self.image.ok_or("no hibernated system lies on the disks")?;
        let failed = |error| format!("it could not be given up: {error}; run mkswap there");
        image.forget().map_err(failed)?;
        say!("the hibernated system is given up: restarting, so that you can ask again");
        Ok(())
    }

    fn shell(&mut self, terminal: &Path, meanwhile: &mut dyn FnMut()) -> Answer<()> {
        if !Path::new(SHELL).exists() {
            return Err(format!("This initramfs holds no shell ({SHELL})."));
        }
        say!("a shell is open; 'exit' comes back to the menu");
        let failed = |error| format!("the shell did not start: {error}");
        let terminal = terminal.to_owned();
        let child = process::fork(move || {
            if let Ok(terminal) = console::acquire_terminal(&terminal) {
                let _ = console::as_stdio(terminal.as_fd());
            }
            let error = process::exec(Path::new(SHELL), &[String::from("-sh")]);
            say!("the shell did not start: {error}");
            1
        })
        .map_err(failed)?;
        loop {
            agent_log::alive();
            meanwhile();
            match process::has_ended(child) {
                Ok(None) => std::thread::sleep(Duration::from_millis(200)),
                Ok(Some(_)) => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn note(&mut self, line: &str) {
        agent_log::keep(&format!("menu: {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn early<'a>(found: Option<&'a Found>, boot: &'a Boot<'a>) -> Early<'a> {
        Early {
            found,
            boot,
            tarball: None,
            session: None,
            image: None,
            starts_without: false,
            why: Vec::new(),
            disk: None,
            host: false,
            json: false,
        }
    }

    fn all_of(places: &Places) -> Found {
        Found {
            devices: block::list(places),
            copies: Vec::new(),
            missing: 0,
        }
    }

    #[test]
    fn once_a_hibernated_system_lies_on_a_disk_only_what_replays_no_log_mounts() {
        let (_directory, places) = block::tests::machine();
        let found = all_of(&places);
        let boot = Boot::default();
        let early = early(Some(&found), &boot);
        let all = [
            Way::Again,
            Way::ReadOnly,
            Way::NoReplay,
            Way::BackupRoot,
            Way::Degraded,
        ];
        for way in all {
            assert_eq!(early.mountable(way, &places), Ok(&found), "{way:?}");
        }
        // The disk with the image comes.
        let mut swap = vec![0; 4096];
        swap[4086..4095].copy_from_slice(b"S1SUSPEND");
        std::fs::write(places.dev.join("vda"), swap).unwrap();
        for way in all {
            match early.mountable(way, &places) {
                Ok(_) => assert_eq!(way, Way::NoReplay),
                Err(why) => {
                    assert_ne!(way, Way::NoReplay);
                    assert!(why.contains("'disk noreplay' writes nothing"), "{why}");
                }
            }
        }
    }

    #[test]
    fn a_disk_that_takes_no_writes_is_known_before_anything_is_written() {
        let (directory, places) = block::tests::machine();
        let found = all_of(&places);
        let boot = Boot::default();
        let early = early(Some(&found), &boot);
        let ro = directory.path().join("devices/vda/vda1/ro");
        assert_eq!(early.write_protected(&places), None);
        std::fs::write(&ro, "0\n").unwrap();
        assert_eq!(early.write_protected(&places), None);
        std::fs::write(&ro, "1\n").unwrap();
        let why = early.write_protected(&places).unwrap();
        assert!(why.contains("vda1 is write-protected"), "{why}");
    }

    #[test]
    fn without_a_disk_it_is_said_what_can_be_done() {
        let boot = Boot::default();
        let none = early(None, &boot).versions().unwrap_err();
        assert!(
            none.contains("cable") && none.contains("'reboot'"),
            "{none}"
        );
        assert!(!none.contains("how else"), "{none}");
    }

    #[test]
    fn without_the_store_that_was_read_nothing_is_started_or_changed() {
        let boot = Boot::default();
        let situation = early(None, &boot).situation();
        assert!(!situation.starts && !situation.readable);
        assert_eq!(
            situation.unchangeable.as_deref(),
            Some("the disk is not mounted")
        );
    }
}
