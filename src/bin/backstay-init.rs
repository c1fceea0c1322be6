//! backstay-init: the agent. As /init of an initramfs it is PID 1.

use backstay::agent::pid1::{End, WorkerMode};
use backstay::agent::{plain, setup};
use backstay::say;

fn main() {
    setup::run(|_| "starting".into(), worker);
}

fn worker(_: WorkerMode) -> End {
    let cmdline = std::fs::read("/proc/cmdline").unwrap_or_default();
    match plain::boot(&cmdline) {
        Ok(end) => end,
        Err(error) => {
            say!("{error}");
            std::process::exit(1)
        }
    }
}
