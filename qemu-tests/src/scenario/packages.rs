//! Applications with real data as Debian packages: apt, unattended upgrades, and a package that would not read the data.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::databases::{BOOKS_UP, Rows, converts, exactly, start};
use super::steps::{agent_begins, agent_says};
use super::trial::{counted, falls_back, read, same};
use super::{Context, Scenario};
use crate::guest::{Answer, Debian};
use crate::image::{Fixture, System};
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "apt-downgrade-stopped",
        "a package's script converts the data; apt then refuses the package before it, word for word, until the data is converted back",
        downgrade,
    )
    .with_databases()
    .usually(300)
    .within(LONG),
    Scenario::debian(
        "unattended-upgrade-healthy",
        "nobody is there: apt brings PostgreSQL 17 into a clone, the restart converts the books, and what comes up marks itself good",
        healthy,
    )
    .with_databases()
    .usually(660)
    .within(LONG),
    Scenario::debian(
        "unattended-upgrade-broken-returns-with-data",
        "nobody is there: the new package converts its data and does not run; the old one is back, with the data that it reads",
        broken,
    )
    .with_databases()
    .usually(660)
    .within(LONG),
];

/// Their disks are made within it.
const LONG: Duration = Duration::from_secs(2400);

/// What every Debian with these packages has.
const APT: &str = concat!(
    "put_libraries /mnt/@rootfs\nset_defaults 1\n",
    "cat > /apt.conf <<'END'\n",
    include_str!("../../../packaging/apt.conf"),
    "END\n"
);
/// Once nothing is installed from outside any more: apt asks the fence, and the system is good.
const GUARDED: &str = "
cp /apt.conf /mnt/@rootfs/etc/apt/apt.conf.d/20backstay
admin mark-good
";
/// What backstay's timer starts.
const UPGRADE: &str = concat!(
    "cat > /mnt/@rootfs/usr/lib/systemd/system/backstay-upgrade.service <<'END'\n",
    include_str!("../../../systemd/backstay-upgrade.service"),
    "END\n"
);

pub fn packages(name: &str, script: &str) -> Fixture {
    let script = format!("{APT}{UPGRADE}{script}{GUARDED}");
    Fixture::new(System::Debian, format!("packages-{name}"), script).with_database_programs()
}

/// The whole system is up, and so is what it is for: as [`has`].
pub fn runs(ctx: &Context, debian: &mut Debian<'_>, app: [&str; 2], line: &str) -> Result<()> {
    let state = debian.run("systemctl is-system-running --wait")?.output;
    ctx.check(state.trim() == "running", || {
        format!("systemd says {state}")
    })?;
    debian.succeed("systemctl is-active backstay-mark-good")?;
    has(ctx, debian, app, line)
}

/// This version is installed, and what it says of its data is this line.
pub fn has(
    ctx: &Context,
    debian: &mut Debian<'_>,
    [app, version]: [&str; 2],
    line: &str,
) -> Result<()> {
    let found = debian.run(&format!(
        "dpkg-query -W -f '${{Version}}\\n' {app}; {app} show"
    ))?;
    ctx.check(found.output == format!("{version}\n{line}"), || {
        format!("{app} must be {version}, and say\n{line}but is\n{found:?}")
    })
}

/// Version 2 of the notes converts their data when it is installed.
const CONVERTS_ITSELF: &str = "
cat > /postinst <<'END'
#!/bin/sh
set -e
if backstay --json state get notes | grep -q '\"state\": \"1\"'; then
    backstay state begin notes 1 2
    BACKSTAY_FROM=1 BACKSTAY_DATA=/srv/data /usr/lib/notes/convert up
    backstay state commit notes
fi
END
package notes 2
rm /postinst
package notes 1
repository
install_packages notes=1
first_notes
admin state set notes 1 --dataset data
";

/// Without its progress, which is drawn over itself.
fn install(debian: &mut Debian<'_>, what: &str) -> Result<Answer> {
    debian.run(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y {what} 2>&1 > /dev/null"
    ))
}

/// The same, and it must succeed.
pub fn installs(ctx: &Context, debian: &mut Debian<'_>, what: &str) -> Result<()> {
    let answer = install(debian, what)?;
    ctx.check(answer.status == 0, || {
        format!("installing {what}: {answer:?}")
    })
}

fn downgrade(ctx: &mut Context) -> Result<()> {
    const OLD: &str = "--allow-downgrades notes=1";
    let (_, mut vm) = start(ctx, &packages("notes-convert", CONVERTS_ITSELF))?;
    let mut debian = vm.debian()?;
    let rows = Rows::first();
    runs(ctx, &mut debian, ["notes", "1"], &rows.notes_in(1))?;
    installs(ctx, &mut debian, "notes=2")?;
    has(ctx, &mut debian, ["notes", "2"], &rows.notes_in(2))?;

    ctx.step("the old package could not read what the new one has made");
    let stopped = install(&mut debian, OLD)?;
    let said: Vec<&str> = stopped.output.lines().collect();
    let from = said.iter().position(|line| line.starts_with("backstay: "));
    let said = said.get(from.unwrap_or(said.len())..).unwrap_or_default();
    exactly(
        ctx,
        "what apt says from there on",
        &said.join("\n"),
        &[
            "backstay: notes_1_all.deb: notes (dataset data, state 2): refused, since that version reads 1",
            "nothing was installed: keep what is installed ('apt-mark hold PACKAGE'), or go back to a whole version that \
             lives with the data ('backstay list', 'backstay fence explain N')",
            "E: Sub-process test ! -x /usr/bin/backstay || /usr/bin/backstay app guard returned an error code (1)",
            "E: Failure running script test ! -x /usr/bin/backstay || /usr/bin/backstay app guard",
        ],
    )?;
    ctx.check(stopped.status == 100, || format!("apt: {stopped:?}"))?;
    has(ctx, &mut debian, ["notes", "2"], &rows.notes_in(2))?;
    debian.succeed("dpkg --audit && apt-get check")?;

    ctx.step("once the data is converted back, it is let through");
    debian.succeed("backstay state begin notes 2 1")?;
    debian.succeed("BACKSTAY_FROM=2 BACKSTAY_DATA=/srv/data /usr/lib/notes/convert down")?;
    debian.succeed("backstay state commit notes")?;
    installs(ctx, &mut debian, OLD)?;
    has(ctx, &mut debian, ["notes", "1"], &rows.notes_in(1))?;
    debian.power_off()
}

/// The books of PostgreSQL 15, and a newer package at hand.
const BOOKS: &str = "
package ledger 1
package ledger 2
repository
install_packages ledger=1
first_books
admin state set ledger pg15 --dataset data
";

/// What the timer does at night, with nobody there. The machine restarts by itself.
fn unattended(debian: &mut Debian<'_>) -> Result<()> {
    debian.succeed("systemctl start --no-block backstay-upgrade")?;
    Ok(())
}

/// The restart after an upgrade whose data is, or was, converted: the new version is on trial.
fn on_trial(vm: &mut Vm, done: &str) -> Result<()> {
    agent_says(vm, &[&format!("done: {done}")])?;
    counted(vm, 1)
}

fn healthy(ctx: &mut Context) -> Result<()> {
    let (_, mut vm) = start(ctx, &packages("ledger", BOOKS))?;
    let mut debian = vm.debian()?;
    let mut rows = Rows::first();
    runs(ctx, &mut debian, ["ledger", "1"], &rows.books_on(15))?;
    debian.succeed("ledger add 'before the upgrade' 12")?;
    rows.entered("before the upgrade", 12);
    ctx.step("as the package has it: a clone is upgraded, and the machine restarts into it");
    unattended(&mut debian)?;
    let forward = "roll forward to snapshot 1";
    // The server of the books goes on, so the data is not held still, and its converter is early.
    converts(&mut vm, &[BOOKS_UP])?;
    on_trial(&mut vm, forward)?;
    let mut debian = vm.debian()?;
    runs(ctx, &mut debian, ["ledger", "2"], &rows.books_on(17))?;
    let status = read(&debian.succeed("backstay status --json")?)?;
    same(ctx, &status, "/trial", json!(null))?;
    debian.succeed("ledger add 'after the upgrade' 34")?;
    rows.entered("after the upgrade", 34);
    has(ctx, &mut debian, ["ledger", "2"], &rows.books_on(17))?;
    debian.power_off()
}

/// The notes of schema 1, and a newer package whose program looks for a schema that its own converter does not make.
const BROKEN: &str = "
package notes 1
echo 3 > /schema
package notes 2
rm /schema
repository
install_packages notes=1
first_notes
admin state set notes 1 --dataset data
";

fn broken(ctx: &mut Context) -> Result<()> {
    let (_, mut vm) = start(ctx, &packages("notes-broken", BROKEN))?;
    let mut debian = vm.debian()?;
    let mut rows = Rows::first();
    runs(ctx, &mut debian, ["notes", "1"], &rows.notes_in(1))?;
    debian.succeed("notes add Emil 'before the upgrade'")?;
    rows.noted("Emil", "before the upgrade");
    ctx.step("as docs/upgrades.md has it: in place, with the data, since the way back from schema 2 loses something");
    let other = "mkdir -p /etc/systemd/system/backstay-upgrade.service.d; cd /etc/systemd/system/backstay-upgrade.service.d; \
        printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/backstay upgrade --data --reboot\\n' > other.conf; \
        systemctl daemon-reload";
    debian.succeed(other)?;
    unattended(&mut debian)?;
    let convert = "convert the data that the present version does not read, keep the version";
    // Nobody has the notes open, so they were converted before the restart.
    on_trial(&mut vm, convert)?;
    vm.serial()
        .expect_text("start 1 of 3 on trial failed: restarting in 60 s")?;
    ctx.step("it restarts by itself, and goes back");
    agent_begins(&mut vm, "starting the system")?;
    falls_back(&mut vm, 1)?;
    let mut debian = vm.debian()?;
    runs(ctx, &mut debian, ["notes", "1"], &rows.notes_in(1))?;
    debian.succeed("notes add Emil 'after it'")?;
    rows.noted("Emil", "after it");
    has(ctx, &mut debian, ["notes", "1"], &rows.notes_in(1))?;
    let status = debian.succeed("backstay status")?;
    ctx.check(status.contains("fell back"), || status.clone())?;
    debian.power_off()
}
