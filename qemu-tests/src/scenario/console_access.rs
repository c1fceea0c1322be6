//! Whose the menu is: who has the password, which console, a shell, a program.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::console::{lists, open, opens, roll_back};
use super::rollback::{TINY_DATA, after_previous, untouched};
use super::steps::{
    NOT_THE_WORD, QUESTION, START_IT, WORD, agent_begins, agent_says, answer_word, at_menu,
    at_question, boot_recovery_on, boot_recovery_with, three_versions, three_versions_and,
};
use super::{Context, Scenario};
use crate::image::{Fixture, System};
use crate::vm::{Vm, VmConfig};

pub(super) const SCENARIOS: &[Scenario] = &[
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
        "menu-worker-killed-goes-on",
        "in the shell of the menu somebody kills what has opened it: the machine starts, with the kernel's own keys as they were",
        worker_killed,
    )
    .usually(180),
    Scenario::tiny(
        "menu-json",
        "a program rolls the machine back, one JSON object a line",
        by_program,
    ),
];

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
            .expect_text(&format!("The next try is taken in {seconds} s."))?;
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
    vm.serial().expect_text(QUESTION)?;
    vm.second()?.send_line("rollback 1")?;
    vm.second()?.expect_line(&in_use("ttyS0"))?;
    ctx.step("the other one takes it over");
    vm.second()?.send_line("take")?;
    vm.serial().expect_line(&in_use("hvc0"))?;
    vm.second()?.expect_text("Somebody asked for this menu.")?;
    vm.second()?.expect_text(QUESTION)?;
    vm.serial().send_line("reset everything")?;
    vm.serial().expect_line(&in_use("hvc0"))?;
    vm.second()?.send_line("rollback 2")?;
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

/// The prompt of busybox's shell for root.
const PROMPT: &str = "# ";

/// A policy that gives a shell, and the recovery kernel's initramfs with one in it.
fn with_shell() -> Fixture {
    let more = "cd /mnt/@backstay/kernels/recovery
         /in/backstay initramfs --kernel \"$release\" --root-dir /mnt/@rootfs --shell /usr/bin/busybox \
             --output \"$PWD/initrd.img\"
         sha256sum vmlinuz initrd.img > sums
         cd /";
    with_policy("with-shell", "[console]\nshell = \"open\"", more)
}

fn shell(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&with_shell())?;
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

/// Which of the kernel's own commands may be given by a key.
const KERNEL_KEYS: &str = "cat /proc/sys/kernel/sysrq";
/// Ends every process between the shell and PID 1, and the shell.
const KILL: &str = "p=$PPID; k=; while [ $p -gt 1 ]; do k=\"$k $p\"; read -r a b c p d < /proc/$p/stat; done; \
     kill -9 $k; exit";

fn worker_killed(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&with_shell())?;
    let mut vm = ctx.boot(&disk)?;
    ctx.step("an ordinary start: what the kernel has");
    let mut tiny = vm.tiny()?;
    let keys = tiny.succeed(KERNEL_KEYS)?;
    ctx.check(keys.trim() != "0", || {
        "this kernel takes no such key anyway".to_owned()
    })?;
    tiny.restart()?;
    open(&mut vm)?;
    at_menu(ctx, &mut vm, "shell")?;
    ctx.step("while the menu is open no key is the kernel's own");
    at_question(ctx, vm.serial(), PROMPT, KERNEL_KEYS)?;
    vm.serial().expect_line("0")?;
    at_question(ctx, vm.serial(), PROMPT, KILL)?;
    ctx.step("PID 1 goes on without it");
    vm.serial().expect_text("backstay: the worker (")?;
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    let after = tiny.succeed(KERNEL_KEYS)?;
    ctx.check(after == keys, || {
        format!(
            "sysrq is {} in the booted system, and {} after an ordinary start",
            after.trim(),
            keys.trim()
        )
    })?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &untouched())?;
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
