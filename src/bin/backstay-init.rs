//! backstay-init: the agent. As /init of an initramfs it is PID 1; another initramfs runs `backstay-init host`.

use backstay::agent::{asked, flow, setup};

fn main() {
    match std::env::args_os().nth(1) {
        Some(word) if word == "host" && !rustix::process::getpid().is_init() => {
            setup::run_in_host(asked::first_line, flow::work);
        }
        _ => setup::run(asked::first_line, flow::work),
    }
}
