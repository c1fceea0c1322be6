//! `cargo check-all`: everything that must hold, in one command.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lexopt::prelude::*;
use qemu_tests::check::command::target;
use qemu_tests::check::full::{self, State};
use qemu_tests::check::{Tally, agent, crash, quick, tarball};
use qemu_tests::random::Random;
use qemu_tests::report;
use qemu_tests::scenario::runner::{self, Options, Outcome};
use qemu_tests::scenario::{Scenario, all};
use qemu_tests::setup;

const HELP: &str = "\
cargo check-all      checks what CI checks, and says what it had no time for
  --minutes N        takes about that long (40); what has begun is played to its end
  --seed N           takes the scenarios besides the fixed ones in the order that N makes of them
  --full             checks everything, goes on where it was interrupted, writes docs/check-report.md
  --jobs N           plays N scenarios at once (2)
";

struct Arguments {
    minutes: u64,
    seed: Option<u64>,
    full: bool,
    jobs: usize,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut found = Arguments {
        minutes: 40,
        seed: None,
        full: false,
        jobs: 2,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("minutes") => found.minutes = parser.value()?.parse()?,
            Long("seed") => found.seed = Some(parser.value()?.parse()?),
            Long("full") => found.full = true,
            Long("jobs") | Short('j') => found.jobs = parser.value()?.parse()?,
            Long("help") | Short('h') => return Ok(None),
            other => bail!(
                "{} ('cargo check-all --help' says what there is)",
                other.unexpected()
            ),
        }
    }
    Ok(Some(found))
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo check-all: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// A sample leaves such scenarios out: each would take the place of many others.
const TOO_LONG: Duration = Duration::from_secs(900);

fn run() -> Result<ExitCode> {
    let begun = Instant::now();
    let Some(arguments) = arguments()? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let accel = runner::prepare()?;
    let mut tally = Tally::default();
    quick::check(&mut tally);
    agent::check(&mut tally);
    let until = (!arguments.full).then(|| begun + Duration::from_secs(arguments.minutes * 60));
    let options = Options {
        directory: target().join("vm"),
        accel,
        jobs: arguments.jobs,
        keep: false,
        show: false,
        until: None,
    };
    let mut state = State::load(&full::version()?);
    let seed = arguments.seed.unwrap_or_else(quick::seed);
    let (mut first, mut then) = chosen(arguments.full, seed, &state);
    if !arguments.full {
        let all = then.len();
        then.retain(|scenario| scenario.usual < TOO_LONG);
        let minutes = TOO_LONG.as_secs() / 60;
        tally.leave_out(format!(
            "{} scenarios that take {minutes} minutes and more: 'cargo check-all --full' plays them",
            all - then.len()
        ));
    }
    for scenarios in [&mut first, &mut then] {
        scenarios.retain(|scenario| {
            let can_be_played = !scenario.needs_root || setup::is_root();
            if !can_be_played {
                let name = scenario.name;
                tally.leave_out(format!(
                    "scenario {name}: it needs root; run 'sudo -E cargo vm {name}'"
                ));
            }
            can_be_played
        });
    }
    let planned: Scenarios = first.iter().chain(&then).copied().collect();
    tally.check("the disk images are built", || {
        runner::build_disks(&planned)?;
        Ok(1)
    });
    let passed_before = all()
        .filter(|(_, scenario)| state.has(scenario.name))
        .count();
    tally.passed += if arguments.full { passed_before } else { 0 };
    crash::check(&mut tally, seed);
    tarball::check(&mut tally);
    // The fixed core is played whatever the time is, the others while there is some.
    for (scenarios, until) in [(first, None), (then, until)] {
        let outcomes = runner::play(
            &scenarios,
            &Options {
                until,
                ..options.clone()
            },
            |outcome| {
                println!("{}", report::outcome(outcome));
                book(&mut tally, &mut state, outcome);
            },
        );
        for scenario in scenarios {
            if !outcomes
                .iter()
                .any(|outcome| outcome.scenario.name == scenario.name)
            {
                tally
                    .not_run
                    .push(format!("scenario {}: no time was left", scenario.name));
            }
        }
    }
    if arguments.full {
        let path = full::report(&tally, &state, options.accel)?;
        println!("the report is {}", path.display());
    }
    Ok(summary(&tally, begun))
}

type Scenarios = Vec<&'static Scenario>;

/// The scenarios that are played in any case, and those for which there must be time. With --full
/// those that passed before are neither.
fn chosen(full: bool, seed: u64, state: &State) -> (Scenarios, Scenarios) {
    let scenarios = all().map(|(_, scenario)| scenario);
    if full {
        let (known, mut open): (Scenarios, Scenarios) = scenarios.partition(|s| state.has(s.name));
        // A long one that is begun last is waited for alone.
        open.sort_by_key(|scenario| std::cmp::Reverse(scenario.usual));
        println!(
            "{} scenarios, {} of them passed before",
            known.len() + open.len(),
            known.len()
        );
        return (open, Vec::new());
    }
    let (core, mut others): (Scenarios, Scenarios) = scenarios.partition(|s| s.core);
    Random::new(seed).shuffle(&mut others);
    println!(
        "{} scenarios that are always played, then as many as there is time for of {} others \
         (their order: --seed {seed})",
        core.len(),
        others.len()
    );
    (core, others)
}

fn book(tally: &mut Tally, state: &mut State, outcome: &Outcome) {
    let name = outcome.scenario.name;
    if outcome.failure.is_some() {
        tally.failed.push(format!("scenario {name}"));
        return;
    }
    tally.passed += 1;
    if let Err(error) = state.keep(name, outcome.took) {
        println!("  it will be played again after an interruption: {error:#}");
    }
}

/// Says how it went; the last line is the counts alone.
fn summary(tally: &Tally, begun: Instant) -> ExitCode {
    println!("\n{} s in all", begun.elapsed().as_secs());
    for (title, list) in [("not run", &tally.not_run), ("failed", &tally.failed)] {
        for line in list {
            println!("{title}: {line}");
        }
    }
    println!("{}", report::counts(tally.passed, tally.failed.len()));
    if tally.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
