//! Real databases, converted before boot: PostgreSQL by its own programs, forward and back; a converter that fails, and one
//! that is cut short.

use std::time::Duration;

use anyhow::Result;

use super::databases::{
    ASK_FOR_1, BOOKS_DOWN, BOOKS_UP, FIRST, NOTES_DOWN, NOTES_UP, Rows, SECOND, VERSION_1,
    VERSION_1_BEFORE_2, VERSION_2, ask, converts, disk, is_left, runs, start, start_with,
};
use super::steps::{agent_begins, agent_says};
use super::store::Store;
use super::trial::UNIT;
use super::{Context, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "upgrade-converts-forward",
        "an upgrade of a clone brings PostgreSQL 17: the next boot converts the books of 15 by pg_upgrade, and every row is there",
        forward,
    )
    .with_databases()
    .usually(240)
    .within(LONG),
    Scenario::tiny(
        "rollback-converts-back-keeps-new-rows",
        "rows that came after the upgrade are dumped by PostgreSQL 17 and loaded by 15: the version before has all of them",
        back,
    )
    .with_databases()
    .usually(180)
    .within(LONG)
    .core(),
    Scenario::tiny(
        "converter-fails-nothing-changed",
        "one of two converters fails on a row that the new schema forbids: system and data are as before, the converted ones too",
        failed,
    )
    .with_databases()
    .usually(240)
    .within(LONG),
    Scenario::tiny(
        "converter-killed-by-power-cut",
        "the power goes while pg_upgrade is at work: the old version runs on its data, and a second attempt converts it",
        killed,
    )
    .with_databases()
    .usually(360)
    .within(LONG),
];

/// A conversion of PostgreSQL takes a minute under emulation, and some on a busy machine.
const LONG: Duration = Duration::from_secs(1200);

/// Version 2 as files in the live system, and what an administrator runs to install it.
const PACKED: &str = "
cp -a --reflink=always /mnt/versions/2 /mnt/@rootfs/root/version-2
cat > /mnt/@rootfs/root/install <<'END'
#!/bin/sh
set -e
cp -af /root/version-2/. /
echo 2 > /etc/appliance-release
sed -i 's/^IMAGE_VERSION=.*/IMAGE_VERSION=2/' /usr/lib/os-release
END
chmod 755 /mnt/@rootfs/root/install
admin mark-good
";

fn forward(ctx: &mut Context) -> Result<()> {
    let fixture = disk("packed", VERSION_1, &format!("{UNIT}{PACKED}"));
    let (store, mut vm, mut rows) = start_with(ctx, &fixture, ["1", "1"], FIRST)?;
    rows.enter(&mut vm.at_prompt(), "rent", 70_000)?;
    rows.note(&mut vm.at_prompt(), "Cleo", "before the upgrade")?;
    ctx.step("while the clone is upgraded, the live version goes on");
    let told = vm
        .at_prompt()
        .succeed("backstay upgrade --staged --title 'version 2' -- /root/install")?;
    ctx.check(told.contains("converted clone of itself"), || {
        format!("the plan is {told}")
    })?;
    rows.enter(&mut vm.at_prompt(), "while it waits", -1)?;
    rows.are_in(ctx, &mut vm.at_prompt(), FIRST)?;
    vm.at_prompt().restart()?;
    converts(&mut vm, &[BOOKS_UP, NOTES_UP])?;
    agent_says(
        &mut vm,
        &[
            "done: roll forward to snapshot 1",
            "to undo it: roll back (what was live is kept as snapshot 2); with fence=restore the data is as it was",
            "this system is on trial: start 1 of 3 before it is marked good",
        ],
    )?;
    runs(ctx, &mut vm, ["2", "1"], &rows, SECOND)?;
    ctx.step("the new version goes on from there");
    rows.enter(&mut vm.at_prompt(), "after the upgrade", 500)?;
    rows.note(&mut vm.at_prompt(), "Anna", "now with pins")?;
    rows.pin(&mut vm.at_prompt(), 5)?;
    ask(&mut vm, "backstay mark-good")?;
    runs(ctx, &mut vm, ["2", "1"], &rows, SECOND)?;
    let wanted = Store::live("2", "1", "1")
        .snapshot(1, ["2", "1", "1"])
        .snapshot_and_data(2, ["1", "1", "1"]);
    is_left(ctx, vm, &store, &wanted)
}

fn back(ctx: &mut Context) -> Result<()> {
    let (store, mut vm, mut rows) =
        start_with(ctx, &disk("version-2", VERSION_2, ""), ["2", "2"], SECOND)?;
    ctx.step("rows that only the new version has seen");
    rows.enter(&mut vm.at_prompt(), "after the upgrade", 12_345)?;
    rows.enter(&mut vm.at_prompt(), "and another", -300)?;
    rows.note(&mut vm.at_prompt(), "Dora", "new in schema 2")?;
    rows.pin(&mut vm.at_prompt(), 1)?;
    rows.are_in(ctx, &mut vm.at_prompt(), SECOND)?;
    let told = vm
        .at_prompt()
        .succeed("backstay rollback --fence convert")?;
    ctx.check(told.contains("the next boot does that"), || {
        format!("a server that runs keeps its data from being converted now, and it says {told}")
    })?;
    vm.at_prompt().restart()?;
    converts(&mut vm, &[BOOKS_DOWN, NOTES_DOWN])?;
    agent_says(
        &mut vm,
        &[
            "done: roll back to snapshot 1",
            "to undo it: roll forward (what was live is kept as snapshot 2); with fence=restore the data is as it was",
        ],
    )?;
    ctx.step("all rows are there; what the old schema has no place for is not");
    rows.unpin();
    runs(ctx, &mut vm, ["1", "1"], &rows, FIRST)?;
    ctx.step("the old server goes on: ids, rights and rules came along");
    rows.enter(&mut vm.at_prompt(), "back again", 1)?;
    rows.are_in(ctx, &mut vm.at_prompt(), FIRST)?;
    let mut at = vm.at_prompt();
    let rights =
        at.succeed("ledger sql \"SELECT has_table_privilege('auditor', 'entry', 'select')\"")?;
    ctx.check(rights == "t\n", || format!("the auditor reads: {rights}"))?;
    let kept = at.run("ledger sql 'DELETE FROM entry'")?;
    ctx.check(
        kept.status != 0 && kept.output.contains("what is in the books stays there"),
        || format!("deleting says {kept:?}"),
    )?;
    let wanted = Store::live("1", "1", "1")
        .snapshot(1, ["1", "1", "1"])
        .snapshot_and_data(2, ["2", "2", "2"]);
    is_left(ctx, vm, &store, &wanted)
}

/// Schema 1 takes an empty note; schema 2 does not.
const EMPTY_NOTE: &str = "in_system notes add Ben ''\n";

fn failed(ctx: &mut Context) -> Result<()> {
    let noted = format!("{EMPTY_NOTE}{ASK_FOR_1}");
    let fixture = disk("asked-for-2-in-vain", VERSION_1_BEFORE_2, &noted);
    let (store, mut vm) = start(ctx, &fixture)?;
    let mut rows = Rows::first();
    rows.noted("Ben", "");
    converts(&mut vm, &[BOOKS_UP])?;
    agent_says(
        &mut vm,
        &[&format!("converting a copy of the data of {NOTES_UP}")],
    )?;
    let said = vm.serial().expect_text(
        "not done: the data of notes was not converted (exit status 1, its last line: ",
    )?;
    ctx.step(format!("it says {said}"));
    vm.serial().expect_text("CHECK constraint failed")?;
    vm.serial()
        .expect_text("it is as it was, and so is all else")?;
    vm.serial().forbid("converting a copy");
    runs(ctx, &mut vm, ["1", "1"], &rows, FIRST)?;
    ctx.step("it is not tried again by itself, and the old version takes new rows");
    vm.at_prompt().restart()?;
    runs(ctx, &mut vm, ["1", "1"], &rows, FIRST)?;
    rows.enter(&mut vm.at_prompt(), "later", 1)?;
    rows.are_in(ctx, &mut vm.at_prompt(), FIRST)?;
    let untouched = Store::live("1", "1", "1").snapshot(1, ["2", "2", "2"]);
    is_left(ctx, vm, &store, &untouched)
}

fn killed(ctx: &mut Context) -> Result<()> {
    let fixture = disk("asked-for-2", VERSION_1_BEFORE_2, ASK_FOR_1);
    let (store, mut vm) = start(ctx, &fixture)?;
    let begins = format!("converting a copy of the data of {BOOKS_UP}");
    agent_says(&mut vm, &[&begins])?;
    std::thread::sleep(Duration::from_secs(3));
    ctx.step("the power goes");
    vm.pull_plug()?;

    let mut vm = ctx.boot(&store)?;
    vm.serial().set_patience(Duration::from_secs(480));
    agent_begins(&mut vm, "starting the system")?;
    agent_says(
        &mut vm,
        &[
            "a change was interrupted before it took effect: undone (2)",
            "the system is as it was before; ask again if you still want the change",
        ],
    )?;
    let mut rows = Rows::first();
    runs(ctx, &mut vm, ["1", "1"], &rows, FIRST)?;
    rows.enter(&mut vm.at_prompt(), "after the cut", 7)?;
    ctx.step("a second attempt");
    ask(&mut vm, "backstay rollback 1 --fence convert")?;
    converts(&mut vm, &[BOOKS_UP, NOTES_UP])?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    runs(ctx, &mut vm, ["2", "2"], &rows, SECOND)?;
    let wanted = Store::live("2", "2", "2")
        .snapshot(1, ["2", "2", "2"])
        .snapshot_and_data(2, ["1", "1", "1"]);
    is_left(ctx, vm, &store, &wanted)
}
