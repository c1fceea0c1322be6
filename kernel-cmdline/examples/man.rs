//! Prints the manual page backstay-cmdline(7).

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let mut page = String::new();
    kernel_cmdline::man::page(&mut page).map_err(io::Error::other)?;
    io::stdout().write_all(page.as_bytes())
}
