//! The main job, shown: on a person's own terminal, or played by itself.
//!
//! Both use the small disk (version 1 of an appliance, sealed as its factory snapshot); with
//! `--debian` a person gets the real Debian, which takes a minute to boot under emulation.

pub mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::check::command::target;
use crate::image::{self, Fixture, System, layers};
use crate::scenario::steps::{agent_says, choose_and_confirm, menu};
use crate::scenario::{Context, runner};
use crate::story::Story;
use crate::vm::{Vm, VmConfig};

/// An older version as a snapshot, an upgraded one live, the factory, and time to read GRUB's menu.
const APPLIANCE: &str = "
admin snapshot --title 'version 1, before the upgrade'
set_version 2
echo 2 > /mnt/@config/etc/appliance/version
echo 'set backstay_timeout=60' >> /mnt/@backstay/grub/backstay.cfg
";

/// What a person is told before the menu comes.
const FIVE_LINES: &str = "\
1. 'Roll back to the version before', then ESC when it asks: version 1 runs.
2. At its prompt: 'backstay list', 'backstay status', 'backstay forward --reboot'
3. 'Snapshots (boot once)': look at a version; the next boot returns by itself.
4. 'Factory reset', 'Reset the system', ESC: as built, the data still there.
5. Ctrl-] leaves at any time; the machine goes off and its disk is forgotten.";

/// Puts a person before the GRUB menu of a small appliance, on their own terminal.
///
/// # Errors
/// When there is no terminal, or the machine cannot be made or started.
pub fn interactive(system: System) -> Result<()> {
    if !terminal::is_there() {
        anyhow::bail!("no terminal here: 'cargo demo --auto' plays the story by itself");
    }
    let accel = runner::prepare()?;
    println!("making the appliance: version 1 as a snapshot, version 2 live, a factory snapshot");
    let disk = disk(&Fixture::new(system, "demo", APPLIANCE))?;
    println!("\n{FIVE_LINES}\n");
    if system == System::Debian {
        println!("(Debian: about a minute to its login prompt; root's password is 'backstay')\n");
    }
    // GRUB clears the screen: the five lines must have been read before.
    println!("Press Enter to switch the machine on.");
    std::io::stdin().read_line(&mut String::new())?;
    let mut config = VmConfig::disk(accel, disk, directory()?.join("console.log"));
    config.echo = Some(Box::new(std::io::stdout()));
    let mut vm = Vm::start(config, &Story::new(Duration::from_secs(24 * 3600)))?;
    let left = terminal::connect(&mut vm)?;
    let why = match left {
        terminal::Left::Asked => "you left; the machine is switched off",
        terminal::Left::Off => "the machine was powered off",
        terminal::Left::Signal => "a signal ended it; the machine is switched off",
    };
    println!("\nThe demo is over: {why}. 'cargo demo --auto' plays the whole story by itself.");
    Ok(())
}

/// Plays the same story unattended and shows what an operator sees.
///
/// # Errors
/// When the story does not go as it must; the text names the step.
pub fn auto() -> Result<()> {
    let accel = runner::prepare()?;
    let directory = directory()?;
    let image = layers::layer2(System::Tiny)?;
    let mut ctx = Context::new(directory, accel, Duration::from_secs(1500), true)?;
    play(&mut ctx, &image.path)?;
    println!(
        "\n\
         ------------------------------------------------------------------\n\
         upgrade        version 1 kept as snapshot 1, version 2 ran\n\
         roll back      GRUB's entry and ESC: version 1 ran again\n\
         forward        'backstay forward' and a reboot: version 2 ran again\n\
         factory reset  GRUB's entry and ESC: version 1 as built, data kept\n\
         all four as they must be; took {} seconds\n",
        ctx.story().elapsed().as_secs()
    );
    Ok(())
}

fn play(ctx: &mut Context, image: &std::path::Path) -> Result<()> {
    const DATA: &str = "made_by_the_customer";
    let disk = ctx.copy_disk(image, "disk.raw")?;
    let mut vm = ctx.boot(&disk)?;
    ctx.step("version 1 runs; upgrade it to version 2");
    let mut tiny = vm.tiny()?;
    tiny.expect("1", "1", DATA)?;
    tiny.succeed("backstay snapshot --title 'version 1'")?;
    tiny.succeed("echo 2 > /etc/appliance-release")?;
    tiny.succeed("echo 2 > /etc/appliance/version")?;
    tiny.restart()?;
    ctx.step("version 2 starts; in the menu, choose to roll back and confirm with ESC");
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    ctx.step("version 1 runs again; ask it to go forward");
    let mut tiny = vm.tiny()?;
    tiny.expect("1", "1", DATA)?;
    tiny.succeed("backstay list")?;
    tiny.succeed("backstay forward")?;
    tiny.restart()?;
    agent_says(&mut vm, &["done: roll forward to snapshot 2"])?;
    ctx.step("version 2 runs again; restart and choose the factory reset of the system");
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", DATA)?;
    tiny.restart()?;
    choose_and_confirm(&mut vm, &[menu::RESET, menu::RESET_SYSTEM])?;
    agent_says(
        &mut vm,
        &["done: reset system and configuration to the factory version, keep data"],
    )?;
    ctx.step("the factory version runs, and the customer's data is still there");
    let mut tiny = vm.tiny()?;
    tiny.expect("1", "1", DATA)?;
    tiny.succeed("backstay status")?;
    tiny.power_off()
}

fn directory() -> Result<PathBuf> {
    let directory = target().join("demo");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn disk(fixture: &Fixture) -> Result<PathBuf> {
    let disk = directory()?.join("disk.raw");
    image::copy(&fixture.image()?.path, &disk)?;
    Ok(disk)
}
