//! One verb on one machine: what it writes, what is right after a cut, and the check of a state.

use anyhow::{Context as _, Result, ensure};
use backstay::sys::probe::btrfs::{Checksum, OFFSET, SIZE, parse};

use super::act::{Act, Answer, Stage};
use super::builder::{DATA, SYSTEM, data_of, version_of};
use super::cut::Cut;
use super::disk::Disk;
use super::helper::WAITS;
use super::machine::{Machine, Mounted};
use super::recording::Recording;
use super::right::{LiveSet, NAMES, Right, is_on_the_way};
use super::verbs::{Interrupted, LIVE, Live, Step, Verb};
use super::view::{BALLAST, Known, Lines, View, differences};

/// Lines of a difference that are shown.
const SHOWN: usize = 12;

/// The end where the verb was carried out.
pub(super) const AFTER: &str = "as after it";
/// The end where it was not.
const BEFORE: &str = "as before it";
/// The recovery kernel that GRUB starts.
const KERNEL: &str = "@backstay/kernels/recovery";

/// What a disk may be after the recovery.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) name: &'static str,
    /// As the undisturbed verb or machine came to it.
    pub(super) lines: Lines,
    /// As the row says.
    pub(super) right: Right,
}

/// A verb, recorded.
#[derive(Debug)]
pub struct Lab {
    /// The row.
    pub verb: &'static Verb,
    /// Where its code runs.
    pub machine: Machine,
    /// What the act wrote.
    pub recording: Recording,
    pub(super) known: Known,
    /// The disk before the verb, and after it, before any recovery.
    pub(super) start: View,
    pub(super) done: View,
    /// What a disk may be after the recovery.
    pub(super) ends: Vec<End>,
    /// What may be found at the system's live name before.
    systems: Vec<Lines>,
    /// From which live set to which other one the machine may be on its way then.
    ways: Vec<(LiveSet, LiveSet)>,
    /// Systems that may be started, each with its configuration and data.
    starts: Vec<[String; 3]>,
}

/// What came of a state.
#[derive(Debug, Default)]
pub struct Played {
    /// What was wrong; empty: it passed.
    pub wrong: Vec<String>,
    /// Which of the right ends it came to.
    pub end: &'static str,
    /// On a full disk: the verb was, before any recovery.
    pub carried_out: bool,
    /// What an admin command said when it refused to do it.
    pub refusal: Option<String>,
    /// What was said on the console meanwhile.
    pub console: String,
    /// What the recovery wrote.
    pub recovery: Option<Recording>,
    /// The kernel mounted it only after the agent had mended it.
    pub mended: bool,
    /// After the recovery the kernel went on with deletions.
    pub settled: bool,
}

impl Lab {
    /// Builds the machine, records the verb, and finds out what is right after it.
    ///
    /// # Errors
    /// Where the machine cannot be built, or the undisturbed verb does not do what its row says.
    pub fn new(verb: &'static Verb) -> Result<Self> {
        let mut machine = Machine::new()?;
        machine.must(&Act::Build(verb.stage))?;
        for (number, step) in verb.before.iter().enumerate() {
            match verb.interrupted {
                Some(Interrupted::StartSays(words)) if number + 1 == verb.before.len() => {
                    interrupt(&mut machine, *step, words)?;
                }
                _ => drop(machine.must(&step.act())?),
            }
        }
        if verb.interrupted.is_none() {
            machine.settle()?;
        }
        let base = Disk::over(machine.device.medium.disk().into_base());
        machine.device.medium.insert(base.clone());
        machine.device.medium.record();
        machine.must(&verb.act.act())?;
        let recording = Recording::new(base, &machine.device.medium.recorded());
        Self::over(verb, machine, recording)
    }

    /// The same over a recording that was kept.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn kept(verb: &'static Verb, recording: Recording) -> Result<Self> {
        Self::over(verb, Machine::with(recording.start())?, recording)
    }

    fn over(verb: &'static Verb, machine: Machine, recording: Recording) -> Result<Self> {
        let base = recording.start();
        let start = read(&machine, &base)?;
        let mut lab = Self {
            verb,
            known: start.sealed(),
            done: read(&machine, &recording.end)?,
            start,
            machine,
            recording,
            ends: Vec::new(),
            systems: Vec::new(),
            ways: Vec::new(),
            starts: Vec::new(),
        };
        lab.expect(&base)?;
        Ok(lab)
    }

    /// Learns from undisturbed runs what is right, and holds that against the row.
    fn expect(&mut self, base: &Disk) -> Result<()> {
        let end = self.recording.end.clone();
        self.systems = vec![self.start.system(), self.done.system()];
        if self.verb.without_live {
            self.systems.push(Lines::new());
        }
        // A change that is refused leaves what was there. Of one that was interrupted that may be a mixture; then
        // it is what was there before that.
        let before = match self.verb.interrupted {
            None => self.live(base)?,
            // The row's paths are those of the machine as it was before that.
            Some(_) => {
                let found = self.live(base)?;
                ensure!(
                    found == LIVE.texts(),
                    "it was interrupted too late: {found:?}"
                );
                found
            }
        };
        let mut starts = vec![matched(self.live(&end)?), matched(before)];
        let verb = self.verb;
        let mut disks = vec![(AFTER, end, verb.new), (BEFORE, base.clone(), verb.old)];
        if let Some((steps, right)) = verb.or {
            self.machine.device.medium.insert(base.clone());
            for step in steps {
                self.machine.must(&step.act())?;
            }
            let disk = self.machine.device.medium.disk();
            disks.push(("as if it was given up", disk, right));
        }
        let before = NAMES.contents(&self.start);
        let done = NAMES.contents(&self.done);
        self.ways.push((before.clone(), done.clone()));
        for (name, start, right) in disks {
            self.machine.device.medium.insert(start);
            if let Some(failure) = self.recover()?.failure {
                anyhow::bail!("the recovery of an undisturbed disk, {name}: {failure}");
            }
            let disk = self.machine.device.medium.disk();
            let view = self.view(&disk)?;
            self.systems.push(view.system());
            let live = self.live(&disk)?;
            ensure!(
                !self.ends.is_empty() || live == self.verb.says.texts(),
                "the live set after it is {live:?}, its row says {:?}",
                self.verb.says
            );
            starts.push(matched(live));
            let wrong = right.wrong(&self.start, &view);
            ensure!(
                wrong.is_empty(),
                "undisturbed, and the disk {name}:\n    {}",
                wrong.join("\n    ")
            );
            let from = match name {
                AFTER => done.clone(),
                _ => before.clone(),
            };
            self.ways.push((from, NAMES.contents(&view)));
            if name == BEFORE {
                // Where a return comes first, this lies between.
                self.ways.push((NAMES.contents(&view), done.clone()));
            }
            self.ends.push(End {
                name,
                lines: view.normal(&self.known),
                right,
            });
        }
        if self.verb.on_a_full_disk() {
            give_up_ballast(&mut self.ends);
        }
        if verb.stage == Stage::Bare {
            // Nobody has said yet that there is a configuration, or data, to mount.
            let nothing = std::io::Error::from(rustix::io::Errno::NOENT).to_string();
            starts.push([verb.says.system.to_owned(), nothing.clone(), nothing]);
        }
        // From here on a start of anything else is a failure.
        self.starts = starts;
        Ok(())
    }

    /// Does something; to start what does not belong together is a failure.
    pub(super) fn act(&mut self, act: &Act) -> Result<Answer> {
        let mut answer = self.machine.act(act)?;
        if let Some(started) = &answer.started
            && !self.starts.is_empty()
            && !self.starts.contains(started)
        {
            answer.failure = Some(format!("it starts {}", started.join(" with ")));
        }
        Ok(answer)
    }

    pub(super) fn view(&self, disk: &Disk) -> Result<View> {
        read(&self.machine, disk)
    }

    /// What the live datasets say they are.
    fn live(&self, disk: &Disk) -> Result<[String; 4]> {
        self.machine.device.medium.insert(disk.clone());
        let at = Mounted::at(&self.machine.device.node, false, "subvolid=5")?;
        let [system, config, defaults, data] =
            ["@rootfs", "@config", "@backstay/defaults", DATA].map(|name| at.path().join(name));
        let [system, config, defaults] = [system, config, defaults].map(|at| version_of(&at));
        Ok([system, config, defaults, data_of(&data)])
    }

    /// What follows a cut, in order; the answer of the first step that failed, or of all. An admin command
    /// may say that there is nothing left to do.
    fn recover(&mut self) -> Result<Answer> {
        let mut said = String::new();
        for step in self.verb.recovery {
            let mut answer = self.act(&step.act())?;
            said.push_str(&answer.console);
            let failed = answer.failure.as_ref().is_some_and(|failure| {
                let done = self.verb.done.iter().any(|said| failure.contains(said));
                match step {
                    Step::Boot(_) => !(self.verb.may_ask && failure == WAITS),
                    _ => !done,
                }
            });
            if failed {
                answer.console = said;
                return Ok(answer);
            }
        }
        Ok(Answer {
            failure: None,
            console: said,
            started: None,
        })
    }

    /// Plays a state: what lies there, the recovery, what lies there then, a start that writes nothing.
    ///
    /// # Errors
    /// Where the rig itself breaks; what is wrong with the state is in the result.
    pub fn play(&mut self, disk: &Disk) -> Result<Played> {
        let ends = self.ends.clone();
        self.play_to(disk, &ends)
    }

    /// The same, where these are the right ends.
    pub(super) fn play_to(&mut self, disk: &Disk, ends: &[End]) -> Result<Played> {
        let mut played = Played::default();
        let mut block = vec![0; SIZE];
        disk.read(OFFSET, &mut block);
        match parse(&block) {
            Some(superblock) if superblock.checksum == Checksum::Good => {
                self.before(disk, superblock.log_root != 0, &mut played);
            }
            _ => played.mended = true,
        }
        let medium = self.machine.device.medium.clone();
        medium.insert(disk.clone());
        medium.record();
        let answer = self.recover()?;
        played.recovery = Some(Recording::new(disk.clone(), &medium.recorded()));
        played.console = answer.console;
        if let Some(failure) = answer.failure {
            played.wrong.push(failure);
            return Ok(played);
        }
        let after = medium.disk();
        match self.view(&after) {
            Err(error) => played.wrong.push(format!("after the recovery: {error:#}")),
            Ok(view) => self.compare(&view, ends, &mut played),
        }
        if medium.disk().digest() != after.digest() {
            played
                .wrong
                .push("after the recovery there was a log to replay".into());
            medium.insert(after.clone());
        }
        self.again(&mut played)?;
        Ok(played)
    }

    /// What stock GRUB and a stock initramfs find.
    fn before(&self, disk: &Disk, log: bool, played: &mut Played) {
        let views: &[(&str, &str)] = match log {
            // GRUB never replays the log tree; a stock initramfs does, by mounting.
            true => &[
                ("GRUB", "subvolid=5,rescue=nologreplay"),
                ("a stock initramfs", "subvolid=5"),
            ],
            false => &[("GRUB and a stock initramfs", "subvolid=5")],
        };
        for (who, options) in views {
            self.machine.device.medium.insert(disk.clone());
            let view = Mounted::at(&self.machine.device.node, false, options)
                .and_then(|at| View::read(at.path()));
            match view {
                Err(error) => played.wrong.push(format!("{who}: {error:#}")),
                Ok(view) => played.wrong.extend(self.unready(who, &view)),
            }
        }
        if !log && self.machine.device.medium.disk().digest() != disk.digest() {
            played
                .wrong
                .push("a read-only mount without a log to replay wrote to the disk".into());
        }
    }

    /// What is wrong with a disk on which nothing was recovered yet.
    fn unready(&self, who: &str, view: &View) -> Vec<String> {
        let mut wrong = view.unguarded();
        let system = view.system();
        if !self.systems.contains(&system) {
            match system.is_empty() {
                true => wrong.push(format!("there is no {SYSTEM}")),
                false => wrong.push(format!("the {SYSTEM} is of two versions")),
            }
            wrong.extend(nearest(&system, self.systems.iter()));
        } else if !is_on_the_way(&NAMES.contents(view), &self.ways) {
            wrong.push(format!(
                "what is live beside the {SYSTEM} is of neither set, or not of the new one, which that is"
            ));
        }
        let kernel = view.untimed(KERNEL);
        if [&self.start, &self.done]
            .iter()
            .all(|right| right.untimed(KERNEL) != kernel)
        {
            wrong.push("the recovery kernel is neither the old nor the new one".into());
        }
        wrong.iter().map(|line| format!("{who}: {line}")).collect()
    }

    /// Which end it is. Where these have no ballast, it may have been given up or not.
    fn compare(&self, view: &View, ends: &[End], played: &mut Played) {
        let mut found = view.normal(&self.known);
        if ends.iter().all(|end| !end.lines.contains_key(BALLAST)) {
            found.remove(BALLAST);
        }
        if let Some(end) = ends.iter().find(|end| end.lines == found) {
            played.end = end.name;
            played.wrong.extend(end.right.wrong(&self.start, view));
            return;
        }
        let names: Vec<&str> = ends.iter().map(|end| end.name).collect();
        played.wrong.push(format!(
            "after the recovery it is neither {}:",
            names.join(" nor ")
        ));
        let wanted = ends.iter().map(|end| &end.lines);
        played.wrong.extend(nearest(&found, wanted));
    }

    /// One more start: nothing is left to do, so not one byte changes.
    fn again(&mut self, played: &mut Played) -> Result<()> {
        let medium = self.machine.device.medium.clone();
        for settled in [false, true] {
            let before = medium.disk().digest();
            let answer = self.act(&Act::plain_boot())?;
            if let Some(failure) = answer.failure {
                played
                    .wrong
                    .push(format!("the start after the recovery: {failure}"));
                return Ok(());
            }
            if medium.disk().digest() == before {
                return Ok(());
            }
            if settled {
                played
                    .wrong
                    .push("the start after the recovery wrote to the disk".into());
                played.console.push_str(&answer.console);
                return Ok(());
            }
            // The kernel goes on deleting what was destroyed as soon as the file system is writable.
            played.settled = true;
            self.machine.settle()?;
        }
        Ok(())
    }
}

/// Lets the ends of a verb be those with the ballast and those without it.
pub(super) fn give_up_ballast(ends: &mut [End]) {
    for end in ends {
        end.lines.remove(BALLAST);
    }
}

fn read(machine: &Machine, disk: &Disk) -> Result<View> {
    machine.device.medium.insert(disk.clone());
    let at = Mounted::at(&machine.device.node, false, "subvolid=5")?;
    View::read(at.path())
}

/// A system, its configuration and its data.
fn matched([system, config, _, data]: [String; 4]) -> [String; 3] {
    [system, config, data]
}

fn nearest<'a>(found: &Lines, wanted: impl Iterator<Item = &'a Lines>) -> Vec<String> {
    let each = wanted.map(|wanted| differences(found, wanted));
    let mut best = each.min_by_key(Vec::len).unwrap_or_default();
    let more = best.len().saturating_sub(SHOWN);
    best.truncate(SHOWN);
    if more > 0 {
        best.push(format!("… and {more} more"));
    }
    best
}

/// Leaves the disk as a power cut in `step` leaves it after which a start says these words: the one
/// between two flushes whose recovery writes most.
fn interrupt(machine: &mut Machine, step: Step, words: &str) -> Result<()> {
    let medium = machine.device.medium.clone();
    let start = medium.disk();
    medium.record();
    machine.must(&step.act())?;
    let recording = Recording::new(start, &medium.recorded());
    let mut best = None;
    let mut writes = 0;
    for epoch in &recording.epochs {
        let cut = Cut::Prefix(writes);
        writes += epoch.writes.len();
        let disk = recording.disk(&cut)?;
        medium.insert(disk.clone());
        medium.record();
        let said = machine.must(&Act::plain_boot())?;
        let wrote = medium.recorded().len();
        if said.contains(words) && best.as_ref().is_none_or(|(most, _)| wrote > *most) {
            best = Some((wrote, disk));
        }
    }
    let (_, disk) = best.with_context(|| format!("no cut after which a start says {words:?}"))?;
    medium.insert(disk);
    Ok(())
}

impl Live {
    fn texts(&self) -> [String; 4] {
        [self.system, self.config, self.defaults, self.data].map(str::to_owned)
    }
}
