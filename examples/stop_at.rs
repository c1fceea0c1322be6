//! Carries out a rollback to the version before, by the very engine that the agent has, and stops right
//! before one of its steps, as a power cut would: for scenarios on virtual machines, never installed.
//!
//! `stop_at MOUNTPOINT commit|exchange-system|seal`, where the top level of a store is mounted. What was
//! done before the step is on the disk once the file system is unmounted, also what the engine had not
//! made durable by itself: what a disk may lose is for the tests of the engine (src/transaction/model.rs).

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use backstay::policy::resolve;
use backstay::record::block::Block;
use backstay::record::layout::Part;
use backstay::record::state::Verb;
use backstay::store::btrfs::{Btrfs, open_top};
use backstay::transaction::plan::{Step, plan};
use backstay::transaction::records::Records;
use backstay::transaction::{catalogue, execute};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [top, step] = arguments.as_slice() else {
        eprintln!("stop_at MOUNTPOINT commit|exchange-system|seal");
        return ExitCode::FAILURE;
    };
    match roll_back(Path::new(top), step) {
        Ok(()) => eprintln!("stop_at: the rollback has no step {step:?}: it was carried out"),
        Err(error) => eprintln!("stop_at: {error}"),
    }
    ExitCode::FAILURE
}

/// Does not come back if it gets to the step.
fn roll_back(top: &Path, stop: &str) -> Result<(), Box<dyn Error>> {
    let Some(Block::Valid { value: layout, .. }) = Btrfs::recorded_layout(open_top(top)?)? else {
        return Err("there is no store with a layout".into());
    };
    let mut store = Btrfs::open_path(top, layout.clone())?;
    let mut records = Records::open(&store)?;
    let state = records.state.value.clone();
    let intent = resolve::intent(Verb::Rollback(None), &state)?;
    let source = match intent.source() {
        Some(set) => catalogue::manifest(&store, set)?,
        None => None,
    };
    let plan = plan(&intent, &state, &layout, source.as_ref(), 0);
    execute::execute(&mut store, &mut records, &plan, 0, &mut |step| {
        if name(step) == Some(stop) {
            println!("stopped before {step:?}");
            std::process::exit(0);
        }
    })?;
    Ok(())
}

fn name(step: &Step) -> Option<&'static str> {
    match step {
        Step::Commit => Some("commit"),
        Step::Exchange { live, .. } if live.part() == Part::System => Some("exchange-system"),
        Step::Seal(_) => Some("seal"),
        _ => None,
    }
}
