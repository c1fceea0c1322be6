//! The menu on the console as a person works it, and as a program does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::fault::digest;
use super::rollback::{TINY_DATA, after_previous, untouched};
use super::steps::{
    MENU_OPENS, NOT_THE_WORD, QUESTION, START_IT, WORD, agent_begins, agent_says, answer_word,
    asks_for, at_menu, at_question, boot_recovery_on, boot_recovery_with, change_at_menu, menu,
    three_versions, three_versions_and, version_row,
};
use super::store::Store;
use super::{Context, Scenario};
use crate::image::{Fixture, System};
use crate::vm::{Vm, VmConfig};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "menu-rollback",
        "somebody looks around in the menu, and goes back to a version that he chose there",
        rollback,
    )
    .core(),
    Scenario::tiny(
        "menu-boot-once",
        "a snapshot is started once from the menu; the next start returns",
        boot_once,
    ),
    Scenario::tiny(
        "menu-reset-system-typed-word",
        "the factory's system by the menu, and the word that it wants",
        reset_system,
    ),
    Scenario::tiny(
        "menu-wrong-word-does-nothing",
        "the word in small letters, another change's, none, control-C, or typed ahead: not a byte of the disk changes",
        wrong_word,
    ),
    Scenario::tiny(
        "menu-times-out-and-boots",
        "nobody types, or somebody leaves in the middle of a line: the system starts",
        times_out,
    )
    .core(),
    Scenario::tiny(
        "menu-by-key",
        "an ordinary start by the system's own initramfs: the key opens the menu",
        by_key,
    ),
    Scenario::tiny(
        "menu-password-required-and-delays",
        "changes need the password: each wrong one costs twice the time, and nobody ever sees it",
        password,
    ),
    Scenario::tiny(
        "menu-on-two-consoles-first-wins",
        "whoever enters the first line has the menu; the other console is told, and takes it over",
        two_consoles,
    ),
    Scenario::tiny(
        "menu-shell-and-back",
        "the policy gives a shell: a whole one, with its terminal, and 'exit' comes back",
        shell,
    ),
    Scenario::tiny(
        "menu-json",
        "a program rolls the machine back, one JSON object a line",
        by_program,
    ),
];

/// Chooses the menu in GRUB's, up to its announcement.
fn open(vm: &mut Vm) -> Result<()> {
    vm.grub().choose(&[menu::RECOVERY])?;
    opens(vm)
}

/// Waits for the announcement of a menu that was asked for.
pub(super) fn opens(vm: &mut Vm) -> Result<()> {
    agent_begins(vm, "the recovery menu was asked for")?;
    agent_says(vm, &[MENU_OPENS])
}

/// A rollback to snapshot 2, and version 2 runs.
pub(super) fn roll_back(ctx: &Context, vm: &mut Vm) -> Result<()> {
    change_at_menu(ctx, vm, "rollback 2", "ROLLBACK")?;
    agent_says(vm, &["done: roll back to snapshot 2"])?;
    start(ctx, vm, ["2", "2"])
}

/// What is live now starts, after a change.
fn start(ctx: &Context, vm: &mut Vm, [system, config]: [&str; 2]) -> Result<()> {
    vm.serial().expect_line(START_IT)?;
    at_menu(ctx, vm, "boot")?;
    agent_says(vm, &["starting the system"])?;
    vm.tiny()?.expect(system, config, TINY_DATA)
}

/// Switches it off at the menu.
pub(super) fn switch_off(ctx: &Context, vm: &mut Vm) -> Result<()> {
    at_menu(ctx, vm, "poweroff")?;
    agent_says(vm, &["switching the machine off"])?;
    vm.wait_off(Duration::from_secs(60))
}

/// The rows of the snapshots of [`three_versions`].
pub(super) fn lists(ctx: &Context, vm: &mut Vm) -> Result<()> {
    at_menu(ctx, vm, "list")?;
    version_row(vm, "< 2 ", "version 2")?;
    version_row(vm, "  1 ", "version 1")?;
    version_row(vm, "  factory ", "")
}

fn rollback(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    ctx.step("the first screen");
    vm.serial().expect_lines(&[
        &format!("backstay {} - menu", env!("CARGO_PKG_VERSION")),
        "Somebody asked for this menu.",
    ])?;
    vm.serial().expect_text("Live: ")?;
    vm.serial()
        .expect_text("go back to snapshot 2; asks first")?;
    vm.serial()
        .expect_line("Without a command for 60 seconds the system starts.")?;
    ctx.step("look around");
    at_menu(ctx, &mut vm, "help")?;
    at_question(ctx, vm.serial(), "-- Enter: more, q: stop -- ", "")?;
    lists(ctx, &mut vm)?;
    at_menu(ctx, &mut vm, "show 2")?;
    vm.serial().expect_text("Snapshot 2: ")?;
    vm.serial().expect_text("go back to it, for good")?;
    at_menu(ctx, &mut vm, "look 2 /etc/appliance-release")?;
    vm.serial().expect_line("2")?;
    at_menu(ctx, &mut vm, "look live /etc/appliance-release")?;
    vm.serial().expect_line("3")?;
    at_menu(ctx, &mut vm, "diff 2 /etc")?;
    vm.serial().expect_text("* /etc/appliance-release")?;
    vm.serial().expect_text(" added, ")?;
    at_menu(ctx, &mut vm, "show 9")?;
    vm.serial().expect_text("There is no snapshot 9;")?;
    at_menu(ctx, &mut vm, "rm -rf /")?;
    vm.serial()
        .expect_line("'rm' is no command here; 'help' lists them.")?;
    at_menu(ctx, &mut vm, "rollback 2")?;
    vm.serial().expect_lines(&[
        "roll back to snapshot 2",
        "  configuration: becomes a clone of snapshot 2",
        "  system: becomes a clone of snapshot 2",
        "  data: stays as it is",
    ])?;
    asks_for(&mut vm, "ROLLBACK")?;
    answer_word(ctx, &mut vm, "ROLLBACK")?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    start(ctx, &mut vm, ["2", "2"])?;
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn boot_once(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    change_at_menu(ctx, &mut vm, "once 1", "ONCE")?;
    agent_says(
        &mut vm,
        &[
            "done: boot a clone of snapshot 1 once",
            "it lasts for one boot: the next boot returns to the present system",
        ],
    )?;
    vm.serial().expect_line(START_IT)?;
    ctx.step("nothing more is changed before that start");
    at_menu(ctx, &mut vm, "rollback 2")?;
    vm.serial()
        .expect_text("Nothing can be changed: a snapshot is started once:")?;
    at_menu(ctx, &mut vm, "boot")?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "1", TINY_DATA)?;
    tiny.restart()?;
    agent_says(
        &mut vm,
        &["done: return from the snapshot that was booted once"],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &untouched().snapshot(3, ["1", "1", "1"]))?;
    Ok(())
}

fn reset_system(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    at_menu(ctx, &mut vm, "reset")?;
    vm.serial().expect_text("It is written: reset config | ")?;
    at_menu(ctx, &mut vm, "reset system")?;
    vm.serial().expect_lines(&[
        "  configuration: becomes a clone of the factory snapshot",
        "  system: becomes a clone of the factory snapshot",
        "  data: stays as it is",
    ])?;
    asks_for(&mut vm, "RESET")?;
    answer_word(ctx, &mut vm, "RESET")?;
    agent_says(
        &mut vm,
        &["done: reset system and configuration to the factory version, keep data"],
    )?;
    start(ctx, &mut vm, ["1", "1"])?;
    vm.at_prompt().power_off()?;
    let wanted = Store::live("1", "1", "1")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn wrong_word(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let before = digest(&disk)?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    for (command, word, others) in [
        (
            "rollback 2",
            "ROLLBACK",
            &["rollback", "FORWARD", "ROLLBACK 2", "yes", ""][..],
        ),
        ("once 1", "ONCE", &["ROLLBACK"]),
        (
            "reset everything",
            "RESET EVERYTHING",
            &["RESET", "reset everything"],
        ),
    ] {
        for other in others {
            change_as(ctx, &mut vm, command, word, other)?;
        }
    }
    ctx.step("control-C at the word");
    at_menu(ctx, &mut vm, "rollback 2")?;
    vm.serial().expect_text(WORD)?;
    vm.serial().send(b"\x03")?;
    vm.serial().expect_line(NOT_THE_WORD)?;
    ctx.step("the word typed before it is asked for");
    at_menu(ctx, &mut vm, "rollback 2\rROLLBACK")?;
    answer_word(ctx, &mut vm, "")?;
    vm.serial().expect_line(NOT_THE_WORD)?;
    switch_off(ctx, &mut vm)?;
    let after = digest(&disk)?;
    ctx.check(before == after, || {
        "the disk is not byte for byte what it was before the menu".to_owned()
    })?;
    let mut vm = ctx.boot(&disk)?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &untouched())?;
    Ok(())
}

/// A command, and another word than the one that it asks for.
fn change_as(ctx: &Context, vm: &mut Vm, command: &str, word: &str, other: &str) -> Result<()> {
    at_menu(ctx, vm, command)?;
    asks_for(vm, word)?;
    answer_word(ctx, vm, other)?;
    vm.serial().expect_line(NOT_THE_WORD)
}

fn times_out(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    for half in ["", "rollback 2", "\x1b["] {
        ctx.step(format!("somebody types {half:?}, and no Enter"));
        boot_recovery_with(&mut vm, System::Tiny, "backstay.menu=5 backstay.end")?;
        opens(&mut vm)?;
        vm.serial()
            .expect_line("Without a command for 5 seconds the system starts.")?;
        vm.serial().expect_text(QUESTION)?;
        vm.serial().send(half.as_bytes())?;
        vm.serial().expect_line("Nothing was typed.")?;
        agent_says(&mut vm, &["starting the system"])?;
        vm.tiny()?.expect("3", "3-changed", TINY_DATA)?;
        match half {
            "\x1b[" => vm.at_prompt().power_off()?,
            _ => vm.at_prompt().restart()?,
        }
    }
    ctx.expect_store(&disk, &untouched())?;
    Ok(())
}

fn by_key(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    for key in [&b"m"[..], b"xyzM"] {
        agent_begins(&mut vm, "starting the system")?;
        agent_says(&mut vm, &["m opens the menu until the system starts"])?;
        vm.serial().send(key)?;
        agent_says(&mut vm, &[MENU_OPENS])?;
        vm.serial().expect_line("Somebody pressed m.")?;
        lists(ctx, &mut vm)?;
        at_menu(ctx, &mut vm, "boot")?;
        let tiny = vm.tiny()?;
        tiny.expect("3", "3-changed", TINY_DATA)?;
        tiny.restart()?;
    }
    ctx.step("another key opens nothing");
    agent_says(&mut vm, &["m opens the menu until the system starts"])?;
    vm.serial().forbid(MENU_OPENS);
    vm.serial().send(b"x")?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    vm.at_prompt().restart()?;
    vm.serial().allow(MENU_OPENS);
    ctx.step("and a change can be made there");
    agent_says(&mut vm, &["m opens the menu until the system starts"])?;
    vm.serial().send(b"m")?;
    roll_back(ctx, &mut vm)?;
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

/// [`three_versions`] with this policy in the live system's initramfs and in that of the recovery kernel; then `more` is
/// done.
fn with_policy(name: &str, policy: &str, more: &str) -> Fixture {
    let script = format!(
        "mkdir -p /mnt/@rootfs/etc/backstay
cat > /mnt/@rootfs/etc/backstay/policy.toml <<'END'
{policy}
END
chmod 600 /mnt/@rootfs/etc/backstay/policy.toml
release=$(ls /mnt/@rootfs/usr/lib/modules)
our_initramfs \"$release\"
admin recovery install
{more}"
    );
    three_versions_and(System::Tiny, name, &script)
}

const PASSWORD: &str = "open sesame 42";
/// Of the same, by argon2id with as little work as there can be: m=8, t=1, p=1.
const HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiBhIHN0b3J5IQ$Ou8OPnzjVtOWBC4c76sFIRywLfBoga7N9jmyVZDzLWI";
/// The menu's question for it.
const ASKS_PASSWORD: &str = "password: ";

fn password(ctx: &mut Context) -> Result<()> {
    /// What is typed instead of it, and what that costs in seconds.
    const WRONG: [(&str, u64); 3] = [("wrong horse", 1), ("battery staple", 2), ("", 4)];
    let policy = format!(
        "[console]\nmenu = \"open\"\nchange = \"password\"\nshell = \"closed\"\npassword = \"{HASH}\""
    );
    let disk = ctx.take(&with_policy("password", &policy, ""))?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    ctx.step("looking needs none");
    lists(ctx, &mut vm)?;
    at_menu(ctx, &mut vm, "shell")?;
    vm.serial()
        .expect_text("The policy of this machine gives no shell here")?;
    for (wrong, seconds) in WRONG {
        at_menu(ctx, &mut vm, "rollback 2")?;
        ctx.step(format!("a wrong password, which costs {seconds} seconds"));
        vm.serial().expect_text(ASKS_PASSWORD)?;
        vm.serial().send_line(wrong)?;
        vm.serial()
            .expect_text(&format!("The next try is taken in {seconds} seconds."))?;
        let told = Instant::now();
        vm.serial().expect_line("Nothing was changed.")?;
        // What was said may have been heard late.
        let least = Duration::from_millis(seconds * 900);
        let waited = told.elapsed();
        ctx.check(waited >= least, || {
            format!("the next question came after {waited:?} instead of {seconds} seconds")
        })?;
    }
    at_menu(ctx, &mut vm, "rollback 2")?;
    ctx.step("the password");
    vm.serial().expect_text(ASKS_PASSWORD)?;
    vm.serial().send_line(PASSWORD)?;
    ctx.step("it does not stand for the word, and is asked for once");
    answer_word(ctx, &mut vm, "")?;
    vm.serial().expect_line(NOT_THE_WORD)?;
    roll_back(ctx, &mut vm)?;
    ctx.step("neither it nor its hash was ever shown, nor is it in any log");
    vm.at_prompt()
        .succeed("cat /run/backstay/boot.log; dmesg")?;
    vm.at_prompt().power_off()?;
    let transcript = std::fs::read(ctx.transcript()).context("read the transcript")?;
    let transcript = String::from_utf8_lossy(&transcript);
    let typed = WRONG.map(|(wrong, _)| wrong);
    let typed = typed.iter().filter(|wrong| !wrong.is_empty());
    for secret in typed.chain(&[PASSWORD, "argon2", "c2FsdCBv", "Ou8OPnzj"]) {
        ctx.check(!transcript.contains(secret), || {
            format!("{secret:?} is in the transcript")
        })?;
    }
    ctx.check(
        transcript.contains("menu: a wrong password was typed"),
        || "the log does not tell of the wrong passwords".to_owned(),
    )?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn two_consoles(ctx: &mut Context) -> Result<()> {
    let in_use =
        |at: &str| format!("The menu is in use at {at}; type 'take' and Enter to have it here.");
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let machine = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    let mut vm = ctx.start(machine.with_second_console())?;
    let consoles = "console=hvc0 console=ttyS0,115200";
    let uuid = System::Tiny.store_uuid();
    boot_recovery_on(&mut vm, uuid, consoles, "backstay.menu backstay.end")?;
    opens(&mut vm)?;
    ctx.step("both are asked; the first one answers");
    vm.second()?.expect_text(QUESTION)?;
    lists(ctx, &mut vm)?;
    vm.second()?.expect_line(&in_use("ttyS0"))?;
    ctx.step("a line at the other one does nothing");
    vm.second()?.send_line("rollback 1")?;
    vm.second()?.expect_line(&in_use("ttyS0"))?;
    ctx.step("the other one takes it over");
    vm.second()?.send_line("take")?;
    vm.serial().expect_line(&in_use("hvc0"))?;
    vm.second()?.expect_text("Somebody asked for this menu.")?;
    vm.serial().send_line("reset everything")?;
    vm.serial().expect_line(&in_use("hvc0"))?;
    at_question(ctx, vm.second()?, QUESTION, "rollback 2")?;
    ctx.step("the word counts where the menu is");
    vm.second()?.expect_text(WORD)?;
    vm.serial().send_line("ROLLBACK")?;
    vm.serial().expect_line(&in_use("hvc0"))?;
    vm.second()?.send_line("no")?;
    vm.second()?.expect_line(NOT_THE_WORD)?;
    at_question(ctx, vm.second()?, QUESTION, "rollback 2")?;
    at_question(ctx, vm.second()?, WORD, "ROLLBACK")?;
    vm.second()?.expect_line(START_IT)?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    at_question(ctx, vm.second()?, QUESTION, "boot")?;
    for serial in [vm.second()?.line().clone(), vm.serial().line().clone()] {
        let closed = "The menu is closed: starting the system.";
        let until = Instant::now() + Duration::from_secs(60);
        while !serial.look(|console| console.text().contains(closed)) {
            ctx.check(Instant::now() < until, || {
                "a console is not told that the menu is closed".to_owned()
            })?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn shell(ctx: &mut Context) -> Result<()> {
    /// The prompt of busybox's shell for root.
    const PROMPT: &str = "# ";
    // The recovery kernel's initramfs once more, with a shell in it.
    let more = "cd /mnt/@backstay/kernels/recovery
         /in/backstay initramfs --kernel \"$release\" --root-dir /mnt/@rootfs --shell /usr/bin/busybox \
             --output \"$PWD/initrd.img\"
         sha256sum vmlinuz initrd.img > sums
         cd /";
    let disk = ctx.take(&with_policy(
        "with-shell",
        "[console]\nshell = \"open\"",
        more,
    ))?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    vm.serial().forbid("job control turned off");
    for _ in 0..2 {
        at_menu(ctx, &mut vm, "shell")?;
        agent_says(&mut vm, &["a shell is open; 'exit' comes back to the menu"])?;
        let serial = vm.serial();
        at_question(ctx, serial, PROMPT, "tty")?;
        serial.expect_line("/dev/ttyS0")?;
        at_question(ctx, serial, PROMPT, "sleep 1000; echo slept-$((20 + 1))")?;
        ctx.step("control-C ends what runs there, and not the shell");
        std::thread::sleep(Duration::from_secs(2));
        serial.send(b"\x03")?;
        at_question(ctx, serial, PROMPT, "echo awake-$((40 + 2))")?;
        serial.expect_line("awake-42")?;
        ctx.check(!serial.seen("slept-21"), || {
            "control-C did not interrupt the whole line".to_owned()
        })?;
        at_question(ctx, serial, PROMPT, "exit")?;
        ctx.step("the menu is there again, and what the agent says is heard");
        serial.expect_text("the versions on this disk")?;
        lists(ctx, &mut vm)?;
    }
    roll_back(ctx, &mut vm)?;
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

/// A line for programs.
fn parse(line: &str) -> Option<Value> {
    let line = line.trim_end();
    let value = || serde_json::from_str(line).ok();
    line.starts_with('{').then(value).flatten()
}

/// The next thing that is not merely a line for people.
fn event(vm: &mut Vm) -> Result<Value> {
    let is_event = |line: &str| parse(line).is_some_and(|it| it["event"] != "line");
    let line = vm
        .serial()
        .expect_where("an event for programs", is_event)?;
    parse(&line).context("read the event")
}

/// Sends an order as soon as it is taken; the answer, which must be of this kind.
fn order(ctx: &Context, vm: &mut Vm, order: &str, answer: &str) -> Result<Value> {
    let ready = event(vm)?;
    ctx.check(ready["event"] == "ready", || {
        format!("it is not ready: {ready}")
    })?;
    ctx.step(format!("send {order}"));
    vm.serial().send_line(order)?;
    let answered = event(vm)?;
    ctx.check(answered["event"] == answer, || {
        format!("not an answer of the kind {answer:?}: {answered}")
    })?;
    Ok(answered)
}

fn by_program(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    let line = "backstay.menu backstay.console=json backstay.end";
    boot_recovery_with(&mut vm, System::Tiny, line)?;
    agent_begins(&mut vm, "the recovery menu was asked for")?;
    let situation = event(&mut vm)?;
    for (field, value) in [
        ("/event", json!("situation")),
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/stage", json!("early-boot")),
        ("/seconds", json!(60)),
        ("/locked", json!(false)),
        ("/situation/back", json!(2)),
        ("/situation/starts", json!(true)),
        ("/situation/unchangeable", json!(null)),
    ] {
        ctx.check(situation.pointer(field) == Some(&value), || {
            format!("{field} is not {value}: {situation}")
        })?;
    }
    let listed = order(ctx, &mut vm, r#"{"do":"list"}"#, "versions")?;
    let ids: Vec<&Value> = listed["versions"]
        .as_array()
        .context("there are no versions")?
        .iter()
        .map(|it| &it["id"])
        .collect();
    ctx.check(ids == [&json!(2), &json!(1), &json!(0)], || {
        format!("these versions are listed: {listed}")
    })?;
    for (wrong, kind) in [
        ("list", "syntax"),
        (r#"{"do":"list","also":1}"#, "syntax"),
        (r#"{"do":"dance"}"#, "command"),
        (r#"{"do":"shell"}"#, "closed"),
        (r#"{"do":"rollback 2","word":"rollback"}"#, "word"),
        (r#"{"do":"rollback 2","word":"FORWARD"}"#, "word"),
        (r#"{"do":"rollback 9","word":"ROLLBACK"}"#, "failed"),
        ("{\"do\":\"\u{7f}\"}\u{1}", "garbled"),
    ] {
        let refused = order(ctx, &mut vm, wrong, "error")?;
        ctx.check(refused["kind"] == kind, || {
            format!("{wrong} is refused by {refused}")
        })?;
    }
    let plan = order(ctx, &mut vm, r#"{"do":"rollback 2"}"#, "plan")?;
    ctx.check(
        plan["word"] == "ROLLBACK" && plan["plan"]["title"] == "roll back to snapshot 2",
        || format!("the plan is {plan}"),
    )?;
    let with_word = r#"{"do":"rollback 2","word":"ROLLBACK"}"#;
    order(ctx, &mut vm, with_word, "done")?;
    let end = order(ctx, &mut vm, r#"{"do":"boot"}"#, "end")?;
    ctx.check(end["with"] == "boot", || format!("it ends with {end}"))?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.step("whatever looked like an object was one, and all lines of the agent were");
    let transcript = std::fs::read(ctx.transcript()).context("read the transcript")?;
    let transcript = String::from_utf8_lossy(&transcript);
    let mut lines = transcript.lines().filter(|line| line.starts_with('{'));
    let broken = lines.find(|line| parse(line).is_none());
    ctx.check(broken.is_none(), || format!("not an object: {broken:?}"))?;
    let says = r#""text":"done: roll back to snapshot 2""#;
    ctx.check(transcript.contains(says), || {
        "what was done is not among the lines".to_owned()
    })?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}
