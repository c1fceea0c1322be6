//! The admin command; see `backstay --help` and backstay(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    backstay::admin::main()
}
