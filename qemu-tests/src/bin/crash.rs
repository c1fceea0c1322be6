//! `cargo crash`: cuts the power at every point of every verb, on a real btrfs.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use lexopt::prelude::*;
use qemu_tests::check::command::target;
use qemu_tests::crash::boots::{self, Booted};
use qemu_tests::crash::cut::Name;
use qemu_tests::crash::hardship::Hardship;
use qemu_tests::crash::keep::Keep;
use qemu_tests::crash::lab::{Lab, Played};
use qemu_tests::crash::machine::HELPER;
use qemu_tests::crash::progress::Progress;
use qemu_tests::crash::run::{self, Choice, Tally};
use qemu_tests::crash::verbs::{self, CONTROLS, Verb, named};
use qemu_tests::crash::{converter, helper, host, report, selfcheck};
use signal_hook::consts::{SIGINT, SIGTERM};

const HELP: &str = "\
cargo crash [VERB...]  cuts the power at many points of these verbs, of all without a name
  --list               names the verbs
  --sample N           about N states in all (2000); at least 15 a verb
  --all                everything: 22000 states, at least 600 a verb; goes on where an earlier run was interrupted,
                       and writes docs/crash-report.md
  --boots N            starts about N of the disks in a virtual machine, too (none; with --all those on both
                       sides of each exchange, and at least 60)
  --seed N             chooses the states that N chooses
  --control            plays the deliberate bugs alone, each of which must fail
  --state NAME         plays one state again that failed in the last run of VERB
  --jobs N             verbs at a time (2)
Needs root, FUSE, loop devices and btrfs in the running kernel.
";

/// States of a full run, in all and of one verb at least.
const FULL: usize = 22_000;
const FULL_OF_ONE: usize = 600;
/// States of one verb at least, whatever sample is asked for.
const SAMPLE_OF_ONE: usize = 15;
/// Starts of a full run, at least.
const BOOTS: usize = 60;
/// States of a control.
const CONTROL_STATES: usize = 60;

/// What is played again.
#[derive(Clone)]
enum State {
    Cut(Name),
    Hardship(Hardship),
}

impl std::str::FromStr for State {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse()
            .map(State::Hardship)
            .or_else(|_| text.parse().map(State::Cut))
    }
}

struct Arguments {
    verbs: Vec<&'static Verb>,
    list: bool,
    sample: usize,
    all: bool,
    boots: Option<usize>,
    seed: Option<u64>,
    control: bool,
    state: Option<State>,
    jobs: usize,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut found = Arguments {
        verbs: Vec::new(),
        list: false,
        sample: 2000,
        all: false,
        boots: None,
        seed: None,
        control: false,
        state: None,
        jobs: 2,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("list") => found.list = true,
            Long("sample") => found.sample = parser.value()?.parse()?,
            Long("all") => found.all = true,
            Long("boots") => found.boots = Some(parser.value()?.parse()?),
            Long("seed") => found.seed = Some(parser.value()?.parse()?),
            Long("control") => found.control = true,
            Long("state") => found.state = Some(parser.value()?.parse()?),
            Long("jobs") | Short('j') => found.jobs = parser.value()?.parse()?,
            Long("help") | Short('h') => return Ok(None),
            Value(name) => {
                let name = name.string()?;
                let verb = named(&name);
                found.verbs.push(verb.with_context(|| {
                    format!("there is no verb {name:?}: 'cargo crash --list' names them")
                })?);
            }
            other => bail!(
                "{} ('cargo crash --help' says what there is)",
                other.unexpected()
            ),
        }
    }
    if found.all && !found.verbs.is_empty() {
        bail!("--all plays every verb: name none, or leave --all out");
    }
    if found.state.is_some() && found.verbs.len() != 1 {
        bail!("--state needs the one verb that it is a state of");
    }
    if found.jobs == 0 {
        bail!("--jobs 0: at least one verb must be played at a time");
    }
    Ok(Some(found))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let result = match words.as_slice() {
        [_, hidden, disk] if hidden == HELPER => helper::main(disk).map(|()| true),
        _ => run(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo crash: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is as it should be.
fn run() -> Result<bool> {
    let Some(arguments) = arguments()? else {
        print!("{HELP}");
        return Ok(true);
    };
    if arguments.list {
        verbs::all().for_each(|verb| println!("{}", verb.name));
        return Ok(true);
    }
    converter::build()?;
    host::prepare()?;
    selfcheck::run().context("the recorder does not see what is written")?;
    let keep = Keep::below(target().join("crash"));
    if let (Some(state), [verb]) = (&arguments.state, arguments.verbs.as_slice()) {
        return again(verb, state, &keep);
    }
    let verbs: Vec<&Verb> = match arguments.verbs.as_slice() {
        [] if arguments.control => Vec::new(),
        [] => verbs::all().collect(),
        named => named.to_vec(),
    };
    let seed = arguments.seed.map_or_else(clock, Ok)?;
    let choice = Choice {
        states: match arguments.all {
            true => FULL.div_ceil(verbs::all().count()).max(FULL_OF_ONE),
            false => (arguments.sample / verbs.len().max(1)).max(SAMPLE_OF_ONE),
        },
        seed,
    };
    // A process that dies while it serves what it has mounted hangs: each state is played to its end.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    // Of the start: somebody may commit meanwhile.
    let commit = report::commit();
    let mut progress = None;
    let mut choice = choice;
    if arguments.all {
        let loaded = Progress::load(choice, arguments.seed.is_some());
        choice = loaded.choice();
        progress = Some(loaded);
    }
    println!("seed {} ({} states a verb)", choice.seed, choice.states);
    println!("{}", report::head());
    let (tallies, mut progress, broken) =
        play(&verbs, &choice, &keep, progress, arguments.jobs, &stop);
    not_stopped(&stop)?;
    if tallies.len() > 1 {
        println!("{}", report::line(&report::sum(&tallies)));
    }
    for tally in &tallies {
        for said in &tally.refusals {
            println!("on a full disk {} is refused: {said}", tally.verb);
        }
    }
    let mut checked = Vec::new();
    for (verb, bug) in CONTROLS {
        let tally = control(verb, choice.seed, &keep, &stop)?;
        println!("{}", report::control(bug, &tally));
        checked.push((bug, tally));
    }
    let caught = checked.iter().all(|(_, tally)| !tally.failures.is_empty());
    if !caught {
        println!("a deliberate bug was NOT caught: nothing above proves anything");
    }
    let wanted = boots::Wanted {
        count: arguments
            .boots
            .unwrap_or(if arguments.all { BOOTS } else { 0 }),
        every_side: arguments.all,
        seed: choice.seed,
        jobs: arguments.jobs,
    };
    let booted = match wanted.count {
        0 => Booted::default(),
        _ => start(wanted, progress.as_mut(), &stop)?,
    };
    if booted.tried > 0 {
        println!("{booted}");
    }
    if arguments.all && !broken {
        println!(
            "written: {}",
            report::write(&tallies, &checked, &booted, &choice, &commit)?.display()
        );
    }
    let failures: usize = tallies.iter().map(|tally| tally.failures.len()).sum();
    println!("{} states, {failures} failed", report::sum(&tallies).all());
    Ok(failures == 0 && !broken && caught && booted.failures.is_empty())
}

fn not_stopped(stop: &AtomicBool) -> Result<()> {
    ensure!(
        !stop.load(Ordering::Relaxed),
        "interrupted; --all goes on after the last verb that ended"
    );
    Ok(())
}

/// Starts states for real; what failed is started again by the next run.
fn start(
    wanted: boots::Wanted,
    progress: Option<&mut Progress>,
    stop: &AtomicBool,
) -> Result<Booted> {
    let known = progress
        .as_ref()
        .map_or_else(Vec::new, |progress| progress.started.clone());
    let mut progress = progress;
    let mut keep = |booted: &Booted| {
        if let Some(progress) = &mut progress
            && booted.failures.is_empty()
        {
            progress.keep_started(booted.clone())?;
        }
        not_stopped(stop)
    };
    let directory = target().join("crash/boots");
    boots::play(wanted, &known, &directory, &mut keep, &|text| {
        println!("{text}");
    })
}

fn clock() -> Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_secs())
}

/// A deliberate bug; stops at no failure, so that their number says how hard it is to miss.
fn control(verb: &'static Verb, seed: u64, keep: &Keep, stop: &AtomicBool) -> Result<Tally> {
    let choice = Choice {
        states: CONTROL_STATES,
        seed,
    };
    run::verb(verb, &choice, keep, stop, &|_| {})
}

/// Plays the verbs, `jobs` at a time; their books in the order of the table, and whether any broke down.
fn play(
    verbs: &[&'static Verb],
    choice: &Choice,
    keep: &Keep,
    progress: Option<Progress>,
    jobs: usize,
    stop: &AtomicBool,
) -> (Vec<Tally>, Option<Progress>, bool) {
    let earlier: Vec<Tally> = progress
        .as_ref()
        .map_or_else(Vec::new, |progress| progress.done.clone());
    for tally in &earlier {
        println!("{}  (earlier)", report::line(tally));
    }
    let left: Vec<&'static Verb> = verbs
        .iter()
        .copied()
        .filter(|verb| earlier.iter().all(|tally| tally.verb != verb.name))
        .collect();
    let queue = Mutex::new(left.into_iter());
    let book = Mutex::new((earlier, progress, false));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(verb) = next.filter(|_| !stop.load(Ordering::Relaxed)) else {
                        break;
                    };
                    let played = run::verb(verb, choice, keep, stop, &|text| println!("{text}"));
                    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
                    let (tallies, progress, broken) = &mut *book;
                    let kept = played.and_then(|tally| {
                        println!("{}", report::line(&tally));
                        tallies.push(tally.clone());
                        // What failed is played again by the next run.
                        match progress {
                            Some(progress) if tally.failures.is_empty() => progress.keep(tally),
                            _ => Ok(()),
                        }
                    });
                    if let Err(error) = kept {
                        *broken = true;
                        // What an interrupted one says is of no interest.
                        if !stop.load(Ordering::Relaxed) {
                            println!("{}: it cannot be played: {error:#}", verb.name);
                        }
                    }
                }
            });
        }
    });
    let (mut tallies, progress, broken) = book.into_inner().unwrap_or_else(PoisonError::into_inner);
    let place = |tally: &Tally| verbs.iter().position(|verb| verb.name == tally.verb);
    tallies.sort_by_key(place);
    (tallies, progress, broken)
}

/// Plays one state that was kept, and shows what is wrong and the console.
fn again(verb: &'static Verb, state: &State, keep: &Keep) -> Result<bool> {
    let recording = keep.load(verb.name)?;
    let (name, played): (&dyn Display, Played) = match state {
        State::Cut(name) => {
            let disk = keep.load_disk(verb.name, name, &recording)?;
            (name, Lab::kept(verb, recording)?.play(&disk)?)
        }
        State::Hardship(hardship) => (hardship, Lab::kept(verb, recording)?.endure(*hardship)?),
    };
    if played.wrong.is_empty() {
        print!("{}", played.console);
        println!("{} {name}: nothing is wrong", verb.name);
    } else {
        print!("{}", run::told(verb.name, name, &played));
    }
    Ok(played.wrong.is_empty())
}
