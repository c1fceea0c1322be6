//! `cargo vm`: plays scenarios on virtual machines.

use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;
use qemu_tests::check::command::target;
use qemu_tests::random::Random;
use qemu_tests::report;
use qemu_tests::scenario::runner::{self, Options};

const HELP: &str = "\
cargo vm [NAME...]   plays these scenarios (or groups of them) on virtual machines; all without a name
  --list             names all scenarios and says what each shows
  --jobs N           plays N at once (2)
  --seed N           plays them in the order that N makes of them
  --keep             leaves the disks and transcripts of those that passed, too
  --show             shows the consoles while they are played, one scenario at a time
";

struct Arguments {
    names: Vec<String>,
    list: bool,
    jobs: usize,
    seed: Option<u64>,
    keep: bool,
    show: bool,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut found = Arguments {
        names: Vec::new(),
        list: false,
        jobs: 2,
        seed: None,
        keep: false,
        show: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("list") => found.list = true,
            Long("keep") => found.keep = true,
            Long("show") => found.show = true,
            Long("jobs") | Short('j') => found.jobs = parser.value()?.parse()?,
            Long("seed") => found.seed = Some(parser.value()?.parse()?),
            Long("help") | Short('h') => return Ok(None),
            Value(name) => found.names.push(name.string()?),
            other => bail!(
                "{} ('cargo vm --help' says what there is)",
                other.unexpected()
            ),
        }
    }
    if found.jobs == 0 {
        bail!("--jobs 0: at least one scenario must be played at a time");
    }
    Ok(Some(found))
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo vm: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let Some(arguments) = arguments()? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    if arguments.list {
        print!("{}", report::list());
        return Ok(ExitCode::SUCCESS);
    }
    let mut scenarios = runner::by_names(&arguments.names)?;
    if let Some(seed) = arguments.seed {
        Random::new(seed).shuffle(&mut scenarios);
    }
    let options = Options {
        directory: target().join("vm"),
        accel: runner::prepare()?,
        jobs: arguments.jobs,
        keep: arguments.keep,
        show: arguments.show,
        until: None,
    };
    runner::build_disks(&scenarios)?;
    println!("{} scenarios, {} at a time", scenarios.len(), options.jobs);
    let outcomes = runner::play(&scenarios, &options, |outcome| {
        println!("{}", report::outcome(outcome))
    });
    let failed: Vec<&str> = outcomes
        .iter()
        .filter(|o| o.failure.is_some())
        .map(|o| o.scenario.name)
        .collect();
    if !failed.is_empty() {
        println!("failed: {}", failed.join(" "));
    }
    println!(
        "{}",
        report::counts(outcomes.len() - failed.len(), failed.len())
    );
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
