//! GRUB's own password before its entries, as docs/grub.md has it set.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::steps::{agent_says, choose_and_confirm, menu};
use super::stock::{LONG, RESET};
use super::{Context, Scenario};
use crate::grub_menu::Menu;
use crate::guest::Debian;
use crate::image::Stock;
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::debian(
    "grub-password",
    "a password before GRUB's entries, as docs/grub.md says: a wrong one does nothing, the right one resets, the default asks nobody",
    password,
)
.usually(900)
.within(LONG)];

const PAGE: &str = include_str!("../../../docs/grub.md");
/// Where the page has it put.
const FILE: &str = "/etc/grub.d/01_users";
/// What the page names before it is known.
const PLACEHOLDER: &str = "grub.pbkdf2.sha512.10000....";
const USER: &str = "operator";
const SECRET: &str = "open sesame 42";
const ASKS_USER: &str = "Enter username:";
const ASKS_PASSWORD: &str = "Enter password:";
/// Of a distribution that keeps its own `grub.cfg`, after backstay's.
const DISTRIBUTION: &str = "Debian GNU/Linux";

/// The script that the page shows for a distribution, line by line.
fn script() -> Result<Vec<&'static str>> {
    let script = || {
        let (_, section) = PAGE.split_once("\n## Locking entries\n")?;
        let (_, script) = section.split_once("\n```\n#!")?;
        let (script, _) = script.split_once("\n```\n")?;
        Some(std::iter::once("#!/bin/sh").chain(script.lines().skip(1)))
    };
    let lines: Vec<_> = script().context("docs/grub.md shows no script")?.collect();
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    (has(PLACEHOLDER) && has(USER) && PAGE.contains(&format!("`{FILE}`, mode 0700")))
        .then_some(lines)
        .context("docs/grub.md shows another script than this story knows")
}

/// Does what the page says.
fn lock(debian: &mut Debian<'_>) -> Result<()> {
    let lines: Vec<String> = script()?.iter().map(|line| format!("'{line}'")).collect();
    debian.succeed(&format!("printf '%s\\n' {} > {FILE}", lines.join(" ")))?;
    let hash =
        "printf '%s\\n%s\\n' \"$P\" \"$P\" | grub-mkpasswd-pbkdf2 | sed -n 's/^PBKDF2.* //p'";
    debian.succeed(&format!("P='{SECRET}'; H=$({hash}); [ ${{#H}} -gt 200 ]"))?;
    debian.succeed(&format!("sed -i \"s|{PLACEHOLDER}|$H|\" {FILE}"))?;
    debian.succeed(&format!("chmod 0700 {FILE}; update-grub"))?;
    // "readable to root alone"
    debian.succeed("[ \"$(stat -c %a%U /boot/grub/grub.cfg)\" = 600root ]")?;
    Ok(())
}

/// GRUB asks who it is, and is told.
fn answer(ctx: &Context, vm: &mut Vm, user: &str, secret: &str) -> Result<()> {
    ctx.step(format!("GRUB asks for a password: {user}, {secret}"));
    vm.serial().expect_text(ASKS_USER)?;
    vm.serial().send_line(user)?;
    vm.serial().expect_text(ASKS_PASSWORD)?;
    vm.serial().send_line(secret)
}

/// GRUB lets nobody in, and its menu is there again.
fn refused(ctx: &Context, vm: &mut Vm) -> Result<()> {
    vm.serial().expect_text("access denied")?;
    let shown = vm.grub().wait()?;
    let first = |title: &String| title.contains("what is live");
    ctx.check(shown.titles.first().is_some_and(first), || {
        format!("after a wrong password GRUB shows {shown:?}")
    })
}

/// The menu is left alone, and the system comes up.
fn starts_by_itself<'a>(ctx: &Context, vm: &'a mut Vm) -> Result<Debian<'a>> {
    let shown = vm.grub().wait()?;
    ctx.check(shown.current().contains("what is live"), || {
        format!("GRUB would start {:?}", shown.current())
    })?;
    ctx.step("leave the menu alone");
    vm.serial().forbid(ASKS_USER);
    vm.debian()
}

fn password(ctx: &mut Context) -> Result<()> {
    let disk = ctx.copy_disk(&Stock::DEBIAN.installed()?, "disk.raw")?;
    let mut vm = ctx.boot(&disk)?;
    let mut debian = vm.debian()?;
    lock(&mut debian)?;
    debian.succeed("backstay factory baseline")?;
    debian.succeed("touch /etc/changed /home/kept")?;
    debian.restart()?;

    const LOADING: &str = "Loading ";
    vm.serial().forbid(LOADING);
    for key in ["c", "e"] {
        vm.grub().wait()?;
        ctx.step(format!("press {key}"));
        vm.serial().skip();
        vm.serial().send(key.as_bytes())?;
        answer(ctx, &mut vm, "nobody", SECRET)?;
        refused(ctx, &mut vm)?;
    }
    for title in [
        menu::SNAPSHOTS,
        menu::ROLL_BACK,
        menu::RESET,
        menu::RECOVERY,
        DISTRIBUTION,
    ] {
        vm.grub().choose(&[title])?;
        answer(ctx, &mut vm, USER, "wrong horse")?;
        refused(ctx, &mut vm)?;
    }
    vm.serial().allow(LOADING);
    vm.grub().choose(&[menu::RESET])?;
    answer(ctx, &mut vm, USER, SECRET)?;
    ctx.step("the submenu opens, and asks nobody again");
    let opened = |menu: &Menu| menu.current() == menu::RESET_CONFIG;
    vm.serial()
        .watch(Duration::from_secs(120), |console| {
            Menu::read(console.screen()).filter(opened)
        })
        .context("the submenu of the resets does not open")?;
    choose_and_confirm(&mut vm, &[menu::RESET_SYSTEM])?;
    agent_says(&mut vm, &[RESET])?;
    let mut debian = vm.debian()?;
    let state = debian.run("systemctl is-system-running --wait; ls -1 /etc/changed /home/kept")?;
    ctx.check(
        state.output.starts_with("running\n")
            && state.output.ends_with("/home/kept\n")
            && !state.output.contains("\n/etc/changed\n"),
        || format!("after the reset: {state:?}"),
    )?;
    debian.restart()?;
    starts_by_itself(ctx, &mut vm)?.power_off()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_script_that_is_played() {
        let lines = script().unwrap();
        assert_eq!(lines.first(), Some(&"#!/bin/sh"));
        assert_eq!(lines.last(), Some(&"EOF"));
        assert!(lines.iter().all(|line| !line.contains('\'')), "{lines:?}");
    }
}
