//! backstay-init: the agent. As /init of an initramfs it is PID 1.

use backstay::agent::{asked, flow, setup};

fn main() {
    setup::run(asked::first_line, flow::work);
}
