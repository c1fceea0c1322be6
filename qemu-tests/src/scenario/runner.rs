//! Plays scenarios, some at a time, and tells how they went.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Context, Machine, Scenario, all};
use crate::accel::Accel;
use crate::cache::Cache;
use crate::image::{self, System};
use crate::{setup, toolbox, toolchain};

/// How often somebody who watches is told what is being played.
const PROGRESS: Duration = Duration::from_secs(30);
/// Lines of the console that a failure shows.
const TAIL: usize = 40;

/// How to play.
#[derive(Clone)]
pub struct Options {
    /// Where each scenario gets a directory of its name.
    pub directory: PathBuf,
    /// How guests run.
    pub accel: Accel,
    /// How many are played at once.
    pub jobs: usize,
    /// Leave disks and transcripts of those that passed, too.
    pub keep: bool,
    /// Show the consoles while they are played (one at a time then).
    pub show: bool,
    /// No scenario is begun that will probably not be over then ([`Scenario::usual`]).
    pub until: Option<Instant>,
}

/// Brings what the host lacks and finds out how guests run here.
///
/// # Errors
/// When something is missing that cannot be brought: the text names the way out.
pub fn prepare() -> Result<Accel> {
    setup::ensure()?;
    toolchain::ensure()?;
    let kernel = || Ok(toolbox::ensure_initramfs()?.kernel);
    let accel = Accel::detect(kernel, Cache::machine()?.dir());
    println!("guests run by {}", accel.name());
    Ok(accel)
}

/// Builds the disks that these scenarios start from, so that none of them has to wait for it.
///
/// # Errors
/// When one cannot be built.
pub fn build_disks(scenarios: &[&'static Scenario]) -> Result<()> {
    for (machine, system) in [
        (Machine::Tiny, System::Tiny),
        (Machine::Debian, System::Debian),
    ] {
        if scenarios.iter().any(|scenario| scenario.machine == machine) {
            image::layer2(system)?;
        }
        if scenarios
            .iter()
            .any(|scenario| scenario.machine == machine && scenario.databases)
        {
            image::databases(system)?;
        }
    }
    Ok(())
}

/// How a scenario went.
pub struct Outcome {
    /// Which one.
    pub scenario: &'static Scenario,
    /// How long it took.
    pub took: Duration,
    /// None: passed. Else what a person needs to know.
    pub failure: Option<String>,
}

/// Finds scenarios by their names, in the order of the table.
///
/// # Errors
/// When there is none of a name; the text has those that are like it.
pub fn by_names(names: &[String]) -> Result<Vec<&'static Scenario>> {
    for name in names {
        if !all().any(|(group, scenario)| scenario.name == name || group == name) {
            let like: Vec<&str> = all()
                .map(|(_, scenario)| scenario.name)
                .filter(|known| {
                    known
                        .split('-')
                        .any(|word| name.split('-').any(|w| w == word))
                })
                .collect();
            let like = if like.is_empty() {
                String::new()
            } else {
                format!("; there is {}", like.join(", "))
            };
            bail!("there is no scenario {name:?}{like} ('cargo vm --list' names all)");
        }
    }
    let wanted = |group: &str, scenario: &Scenario| {
        names.is_empty()
            || names
                .iter()
                .any(|name| name == scenario.name || name == group)
    };
    Ok(all()
        .filter(|(group, scenario)| wanted(group, scenario))
        .map(|(_, s)| s)
        .collect())
}

/// Plays them; `told` hears of each as it ends. Returns those that were played: with
/// [`Options::until`] they may be fewer.
pub fn play(
    scenarios: &[&'static Scenario],
    options: &Options,
    mut told: impl FnMut(&Outcome),
) -> Vec<Outcome> {
    let waiting = Mutex::new(scenarios.iter().copied().collect::<VecDeque<_>>());
    let running = Mutex::new(Vec::<(&'static str, Instant)>::new());
    let jobs = if options.show { 1 } else { options.jobs.max(1) };
    let (send, receive) = mpsc::channel();
    let mut outcomes = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(scenarios.len()) {
            let (send, waiting, running) = (send.clone(), &waiting, &running);
            scope.spawn(move || {
                loop {
                    let next = take(&mut locked(waiting), options.until);
                    let Some(scenario) = next else { break };
                    locked(running).push((scenario.name, Instant::now()));
                    let outcome = play_one(scenario, options);
                    locked(running).retain(|(name, _)| *name != scenario.name);
                    if send.send(outcome).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        loop {
            match receive.recv_timeout(PROGRESS) {
                Ok(outcome) => {
                    told(&outcome);
                    outcomes.push(outcome);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let now: Vec<String> = locked(&running)
                        .iter()
                        .map(|(name, since)| format!("{name} ({} s)", since.elapsed().as_secs()))
                        .collect();
                    println!("  ... playing {}", now.join(", "));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    outcomes
}

/// The next scenario for which there is time.
fn take(
    waiting: &mut VecDeque<&'static Scenario>,
    until: Option<Instant>,
) -> Option<&'static Scenario> {
    let now = Instant::now();
    let fits = |scenario: &&Scenario| until.is_none_or(|until| now + scenario.usual <= until);
    let index = waiting.iter().position(fits)?;
    waiting.remove(index)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays one scenario to its end.
pub fn play_one(scenario: &'static Scenario, options: &Options) -> Outcome {
    let begun = Instant::now();
    let directory = options.directory.join(scenario.name);
    // What an earlier run left is neither a disk nor a transcript of this one.
    let _ = fs::remove_dir_all(&directory);
    let failure = match Context::new(
        directory.clone(),
        options.accel,
        scenario.limit,
        options.show,
    ) {
        Err(error) => Some(format!("{error:#}")),
        Ok(mut context) => {
            let play = std::panic::AssertUnwindSafe(|| (scenario.play)(&mut context));
            let result = std::panic::catch_unwind(play).unwrap_or_else(|panic| {
                Err(anyhow::anyhow!("the scenario panicked: {}", words(&*panic)))
            });
            result.err().map(|error| describe(&context, &error))
        }
    };
    if failure.is_none() && !options.keep {
        let _ = fs::remove_dir_all(&directory);
    }
    Outcome {
        scenario,
        took: begun.elapsed(),
        failure,
    }
}

/// A line for a failure: menus are drawn without line ends, so blanks are squeezed and only the end of
/// a long line is shown.
fn shown(row: &str) -> String {
    const MOST: usize = 160;
    let words: Vec<&str> = row.split(' ').filter(|word| !word.is_empty()).collect();
    let squeezed = if row.len() > MOST {
        words.join(" ")
    } else {
        row.to_owned()
    };
    let count = squeezed.chars().count();
    let end: String = squeezed.chars().skip(count.saturating_sub(MOST)).collect();
    if count > MOST {
        format!("\u{2026}{end}")
    } else {
        end
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

/// A failure as a person wants to read it: where in the story, what, and the console's end.
fn describe(context: &Context, error: &anyhow::Error) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("  the story:\n");
    for step in context.story().steps() {
        let _ = writeln!(text, "    - {step}");
    }
    let _ = writeln!(text, "  failed there: {error:#}");
    match context.story().line() {
        Some(line) => {
            let _ = writeln!(text, "  the console's last {TAIL} lines:");
            for row in line.tail(TAIL) {
                let _ = writeln!(text, "    | {}", shown(&row));
            }
            let _ = writeln!(
                text,
                "  the whole transcript: {}",
                line.transcript().display()
            );
        }
        None => text.push_str("  no machine was started\n"),
    }
    let _ = write!(text, "  its disks: {}", context.directory().display());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_time_for_is_left_and_what_is_shorter_is_taken() {
        let named = |name: &str| by_names(&[name.to_owned()]).unwrap()[0];
        let mut waiting: VecDeque<_> =
            [named("boots-live"), named("harness-hears-and-types")].into();
        let soon = Some(Instant::now() + Duration::from_secs(60));
        let taken = take(&mut waiting, soon).unwrap();
        assert_eq!(taken.name, "harness-hears-and-types");
        assert!(take(&mut waiting, soon).is_none());
        assert_eq!(take(&mut waiting, None).unwrap().name, "boots-live");
        assert!(take(&mut waiting, None).is_none());
    }

    #[test]
    fn a_wrong_name_is_refused_with_those_that_are_like_it() {
        let error = by_names(&["harness-hears".to_owned()])
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("harness-hears-and-types"), "{error}");
    }
}
