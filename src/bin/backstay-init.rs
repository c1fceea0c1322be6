//! backstay-init: the agent. As /init of an initramfs it is PID 1; another initramfs runs `backstay-init host`.

use backstay::agent::{asked, flow, host, setup};

fn main() {
    match std::env::args_os().nth(1) {
        Some(word) if word == "host" && !rustix::process::getpid().is_init() => host::run(),
        _ => setup::run(asked::first_line, flow::work),
    }
}
