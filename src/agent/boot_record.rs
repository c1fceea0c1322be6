//! What this boot was asked for and did, for the booted system: `/run/backstay/boot.json`.
//!
//! `/run` is memory: what has to last is in the state and in the store's log. A kernel that was started by kexec
//! writes its own, with what the agent before it has left in the store.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::log as agent_log;
use crate::record::Uuid;
use crate::record::state::State;
use crate::store::Store;
use crate::store::place::File;

/// Where it lies.
pub const PATH: &str = "/run/backstay/boot.json";
/// What is said at a login, where something happened: pam_motd(8) shows it.
const MOTD: &str = "/run/motd.d/backstay";
/// The form of the file; a new field does not change it.
const SCHEMA: u32 = 1;

static NOW: Mutex<Happened> = Mutex::new(Happened::NOTHING);

/// What is carried through a kexec.
#[derive(Serialize, Deserialize)]
struct Carried {
    seq: u32,
    happened: Happened,
    /// What was said, for boot.log.
    said: String,
}

/// What happened in this boot so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Happened {
    /// What the command line, or a request, asked for; absent: nothing.
    requested: Option<String>,
    /// Why that, or something else, was not done.
    refused: Option<String>,
    /// What was done, in words, in this order.
    done: Vec<String>,
    /// How the last of it is undone.
    undo: Option<String>,
    /// Why the hardware was reset, where a watchdog knows.
    reset_reason: Option<String>,
}

impl Happened {
    const NOTHING: Happened = Happened {
        requested: None,
        refused: None,
        done: Vec::new(),
        undo: None,
        reset_reason: None,
    };
}

/// The file. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct BootRecord {
    schema: u32,
    version: &'static str,
    /// The kernel that wrote it.
    kernel: String,
    /// Whether it is the one that the live system has, as GRUB starts it, and not the recovery kernel.
    own_kernel: bool,
    #[serde(flatten)]
    happened: Happened,
    /// The start of the live system, if it is on trial.
    attempt: Option<Attempt>,
    /// The last time that the machine fell back by itself, until somebody changes what is live.
    fell_back: Option<FellBack>,
}

/// Start `n` of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Attempt {
    n: u8,
    of: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct FellBack {
    /// The snapshot in which what failed lies.
    from: u32,
    /// The snapshot whose clone was started instead.
    to: u32,
    /// Starts of what failed.
    starts: u8,
    /// Seconds since 1970, by a clock that may have been wrong.
    at: u64,
}

/// Where the worker of this boot notes the start that it has counted: a second worker is another process.
const COUNTED: &str = "/run/backstay/counted";

/// This start, the `n`th of the system, is counted.
pub fn counted(system: Uuid, n: u8) {
    if let Err(error) = put(COUNTED, counted_line(system, n).as_bytes()) {
        log::warn!("write({COUNTED:?}): {error}");
    }
}

/// Whether the `n`th start of the system was counted in this boot.
pub fn was_counted(system: Uuid, n: u8) -> bool {
    std::fs::read_to_string(COUNTED).is_ok_and(|text| text == counted_line(system, n))
}

fn counted_line(system: Uuid, n: u8) -> String {
    format!("{system} {n}\n")
}

/// Leaves what happened so far in the store for the agent of the kernel that is started by kexec: its `/run` is
/// another one. `seq` ties it to the state. Where it cannot be written, that agent knows less.
pub fn carry<S: Store>(store: &mut S, seq: u32) {
    let happened = NOW.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let written = match serde_json::to_vec(&Carried {
        seq,
        happened,
        said: agent_log::said(),
    }) {
        Ok(text) => store
            .replace(File::Carried, &text)
            .map_err(|it| it.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = written {
        log::warn!("what was done is not carried through the kexec: {error}");
    }
}

/// Takes over what the agent before this one left.
pub fn take_over<S: Store>(store: &S, seq: u32) {
    let Ok(Some(text)) = store.read(File::Carried) else {
        return;
    };
    match serde_json::from_slice::<Carried>(&text) {
        Ok(carried) if carried.seq == seq => {
            agent_log::precede(&carried.said);
            note(|now| {
                let reset_reason = now.reset_reason.take();
                *now = carried.happened;
                now.reset_reason = now.reset_reason.take().or(reset_reason);
            });
        }
        // Another boot's.
        Ok(_) => {}
        Err(error) => log::warn!("what was carried through the kexec cannot be read: {error}"),
    }
}

/// Whether something was done in this boot.
pub fn has_changed() -> bool {
    let now = NOW.lock().unwrap_or_else(PoisonError::into_inner);
    !now.done.is_empty()
}

fn note(change: impl FnOnce(&mut Happened)) {
    change(&mut NOW.lock().unwrap_or_else(PoisonError::into_inner));
}

/// This was asked for.
pub fn requested(what: &str) {
    note(|now| now.requested = Some(what.to_owned()));
}

/// Something was not done.
pub fn refused(why: &str) {
    note(|now| now.refused = Some(why.to_owned()));
}

/// Something was done.
pub fn done(what: &str, undo: &str) {
    note(|now| {
        now.done.push(what.to_owned());
        now.undo = Some(undo.to_owned());
    });
}

/// The hardware was reset for this reason.
pub fn reset(reason: Option<&'static str>) {
    note(|now| now.reset_reason = reason.map(str::to_owned));
}

/// Writes the file, with what the state knows. Where it cannot be written, the boot goes on without.
pub fn write(state: Option<&State>, own_kernel: bool) {
    let happened = NOW.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let record = record(happened, state, own_kernel);
    let written = serde_json::to_vec_pretty(&record)
        .map_err(std::io::Error::from)
        .and_then(|text| put(PATH, &text));
    if let Err(error) = written {
        log::warn!("write({PATH:?}): {error}");
    }
    if let Some(text) = motd(&record)
        && let Err(error) = put(MOTD, text.as_bytes())
    {
        log::warn!("write({MOTD:?}): {error}");
    }
}

/// One line for whoever logs in, where something happened that they may not know of.
fn motd(record: &BootRecord) -> Option<String> {
    let BootRecord {
        happened,
        fell_back,
        ..
    } = record;
    let what = match (fell_back, &happened.refused, happened.done.last()) {
        (Some(it), ..) => format!(
            "this machine fell back to snapshot {} by itself: what is now snapshot {} did not come up",
            it.to, it.from
        ),
        (None, Some(why), _) => format!("at this start something was not done: {why}"),
        (None, None, Some(done)) => format!("at this start: {done}"),
        (None, None, None) => return None,
    };
    Some(format!("backstay: {what}. See 'backstay status'.\n"))
}

fn put(path: &str, text: &[u8]) -> std::io::Result<()> {
    if let Some(directory) = Path::new(path).parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, text)
}

/// Whether the kernel that runs is the live system's own, as the agent of this boot found; `None` where none was in it.
pub fn own_kernel_runs() -> Option<bool> {
    let text = std::fs::read(PATH).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
    record.get("own_kernel")?.as_bool()
}

fn record(happened: Happened, state: Option<&State>, own_kernel: bool) -> BootRecord {
    BootRecord {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        kernel: super::kexec::running_release(),
        own_kernel,
        happened,
        attempt: state.and_then(State::live_trial).map(|trial| Attempt {
            n: trial.begun,
            of: trial.tries,
        }),
        fell_back: state.and_then(|state| state.fell_back).map(|it| FellBack {
            from: it.from,
            to: it.to,
            starts: it.begun,
            at: it.at,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::state::{FellBack as Recorded, Live, Trial};

    #[test]
    fn every_field_is_there_in_every_boot() {
        let live = Live {
            system: Uuid([7; 16]),
            clone_of: Some(3),
        };
        let mut state = State::new(live);
        let plain = record(Happened::default(), Some(&state), true);
        state.trial = Some(Trial {
            system: live.system,
            tries: 3,
            begun: 1,
            condemned: false,
            fallback: true,
            clone_of: Some(3),
            data_of: None,
            guarded: true,
        });
        state.fell_back = Some(Recorded {
            from: 4,
            to: 3,
            begun: 3,
            at: 1_800_000_000,
        });
        assert_eq!(super::motd(&plain), None);
        let happened = Happened {
            done: vec!["fall back to snapshot 3".to_owned()],
            undo: Some("to undo it: roll back".to_owned()),
            reset_reason: Some("the watchdog reset the machine".to_owned()),
            ..Happened::default()
        };
        let full = record(happened, Some(&state), false);
        let value = |record: &BootRecord| serde_json::to_value(record).unwrap();
        let (plain, full) = (value(&plain), value(&full));
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&plain), keys(&full));
        assert_eq!(full["attempt"], serde_json::json!({"n": 1, "of": 3}));
        assert_eq!(
            full["fell_back"],
            serde_json::json!({"from": 4, "to": 3, "starts": 3, "at": 1_800_000_000_u64})
        );
        assert_eq!(full["done"][0], "fall back to snapshot 3");
        let motd = motd(&record(Happened::default(), Some(&state), true)).unwrap();
        assert!(motd.contains("snapshot 3 by itself") && motd.lines().count() == 1);
        assert!(plain["attempt"].is_null() && plain["fell_back"].is_null());
    }
}
