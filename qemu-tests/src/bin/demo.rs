//! `cargo demo`: backstay in a virtual machine, on your own terminal.

use std::time::Duration;

use anyhow::Result;
use qemu_tests::check::command::target;
use qemu_tests::demo::terminal;
use qemu_tests::image;
use qemu_tests::scenario::runner;
use qemu_tests::story::Story;
use qemu_tests::vm::{Vm, VmConfig};

fn main() -> Result<()> {
    let accel = runner::prepare()?;
    let disk = target().join("demo/disk.raw");
    std::fs::create_dir_all(target().join("demo"))?;
    image::copy(&image::tiny_layer1()?.path, &disk)?;
    let mut config = VmConfig::disk(accel, disk, target().join("demo/console.log"));
    config.echo = Some(Box::new(std::io::stdout()));
    let mut vm = Vm::start(config, &Story::new(Duration::from_secs(1 << 30)))?;
    let left = terminal::connect(&mut vm)?;
    println!("{left:?}");
    Ok(())
}
