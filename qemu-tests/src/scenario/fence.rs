//! A version that cannot read the data is not started: it is explained, converted for, returned from, or passed over.

use anyhow::Result;

use super::databases::{
    ASK_FOR_1, BOOKS_DOWN, FIRST, NOTES_1_BEFORE_2, NOTES_2, NOTES_DOWN, NOTES_UP, Rows, SECOND,
    SECOND_NOTES, VERSION_2, ask, converts, disk, exactly, is_left, refused, runs, start,
    start_with,
};
use super::steps::{agent_begins, agent_says, choose_and_confirm, menu};
use super::store::Store;
use super::trial::UNIT;
use super::{Context, Scenario};
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "rollback-refused-by-fence",
        "GRUB's entry, the command and the explanation refuse to go back below a conversion, word for word, and change nothing",
        by_fence,
    )
    .with_databases()
    .core(),
    Scenario::tiny(
        "rollback-restores-old-data-on-consent",
        "who agrees to lose what came since gets the version before with its rows of then; and those that came since, once he goes back",
        restores,
    )
    .with_databases()
    .usually(180),
    Scenario::tiny(
        "fallback-skips-fenced-target",
        "the newest good version reads only what a lossy conversion makes: the machine falls back to the one before it, with all rows",
        skips,
    )
    .with_databases()
    .usually(180),
    Scenario::tiny(
        "roll-forward-finds-unconverted-data",
        "rows that the old version wrote after the rollback are in its format: forward asks first, converts, and has them",
        unconverted,
    )
    .with_databases()
    .usually(180),
    Scenario::tiny(
        "factory-reset-old-factory-new-data",
        "the factory version gets the data of a newer one: not without consent, and then converted, with every row",
        factory,
    )
    .with_databases()
    .usually(180),
    Scenario::tiny(
        "config-defaults-differ-between-versions",
        "a reset of the configuration gives each version its own default of the same setting, where the program reads it",
        defaults,
    )
    .with_databases(),
];

/// Why version 1, as snapshot 1, is not gone to.
const EXPLAINED: [&str; 8] = [
    "snapshot 1: refused, its applications cannot run on the data",
    "  ledger (dataset data, state pg17): refused, since that version reads pg15",
    "      with fence=convert: convert by this path, nothing is lost:",
    "        pg17 to pg15 by down of the live system, cost 10",
    "  notes (dataset data, state 2): refused, since that version reads 1",
    "      with fence=convert: convert by this path, SOMETHING IS LOST:",
    "        2 to 1 by convert of the live system, cost 1, LOSES SOMETHING",
    "  nothing is changed; fence=convert goes to snapshot 1",
];
const REFUSED: &str = "refused: snapshot 1 cannot run on the data as it is; \
    fence=convert, of a copy of it, goes there";

fn by_fence(ctx: &mut Context) -> Result<()> {
    let (store, mut vm) = start(ctx, &disk("version-2", VERSION_2, ""))?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_begins(
        &mut vm,
        "going to roll back to the version before (confirmed)",
    )?;
    agent_says(
        &mut vm,
        &[REFUSED, "nothing was changed; starting the system"],
    )?;
    let rows = Rows::first();
    runs(ctx, &mut vm, ["2", "2"], &rows, SECOND)?;
    let line = format!("backstay: {REFUSED}");
    for command in ["backstay rollback", "backstay rollback --fence restore"] {
        let said = refused(ctx, &mut vm, command)?;
        exactly(ctx, "the refusal", &said, &[&line])?;
    }
    let said = refused(ctx, &mut vm, "backstay fence explain")?;
    exactly(ctx, "the explanation", &said, &EXPLAINED)?;
    ctx.step("nothing waits for the next start");
    let waits = vm.at_prompt().run("backstay cancel")?;
    ctx.check(waits.status == 3, || format!("cancel says {waits:?}"))?;
    rows.are_in(ctx, &mut vm.at_prompt(), SECOND)?;
    let untouched = Store::live("2", "2", "2").snapshot(1, ["1", "1", "1"]);
    is_left(ctx, vm, &store, &untouched)
}

/// What is asked for is refused with both ways out, in one line.
fn both_ways(ctx: &Context, vm: &mut Vm, command: &str) -> Result<()> {
    let said = refused(ctx, vm, command)?;
    let line = "backstay: refused: snapshot 2 cannot run on the data as it is; \
        fence=convert (of a copy) or fence=restore (loses what came since) goes there";
    exactly(ctx, "the refusal", &said, &[line])
}

fn restores(ctx: &mut Context) -> Result<()> {
    let fixture = disk("notes-1-asked-for-2", NOTES_1_BEFORE_2, ASK_FOR_1);
    let (store, mut vm) = start(ctx, &fixture)?;
    let before = Rows::first();
    converts(&mut vm, &[NOTES_UP])?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    let mut since = before.clone();
    runs(ctx, &mut vm, ["2", "2"], &since, SECOND_NOTES)?;
    since.enter(&mut vm.at_prompt(), "since then", 12)?;
    since.note(&mut vm.at_prompt(), "Dora", "since then")?;
    since.pin(&mut vm.at_prompt(), 2)?;
    both_ways(ctx, &mut vm, "backstay rollback 2")?;

    ctx.step("agree to lose what came since");
    let plan = vm
        .at_prompt()
        .succeed("backstay rollback 2 --fence restore")?;
    ctx.check(plan.contains("WHAT CAME SINCE IS LOST"), || {
        format!("the plan is {plan}")
    })?;
    vm.serial().forbid("converting a copy");
    vm.at_prompt().restart()?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    runs(ctx, &mut vm, ["1", "1"], &before, FIRST)?;

    ctx.step("it was kept, and comes back by the same consent");
    ask(&mut vm, "backstay rollback 3 --fence restore")?;
    agent_says(&mut vm, &["done: roll back to snapshot 3"])?;
    runs(ctx, &mut vm, ["2", "2"], &since, SECOND_NOTES)?;
    let wanted = Store::live("2", "2", "2")
        .snapshot(1, ["2", "2", "2"])
        .snapshot_and_data(2, ["1", "1", "1"])
        .snapshot_and_data(3, ["2", "2", "2"])
        .snapshot_and_data(4, ["1", "1", "1"]);
    is_left(ctx, vm, &store, &wanted)
}

/// Version 3 is live; snapshot 1 is version 2, which reads its data, and snapshot 2, the newest, is version 1, which does
/// not. All are good. The way from 2 to 1 loses something.
const SKIPPED: &str = "
take_version 2 1
set_defaults 2
put_data 1 2
label_data 1 2
admin mark-good
admin snapshot --title 'version 2'
take_version 1
set_defaults 1
admin snapshot --title 'version 1'
take_version 2 1
set_version 3
for config in /mnt/@config /mnt/@backstay/defaults; do echo 3 > $config/etc/appliance/version; done
";

fn skips(ctx: &mut Context) -> Result<()> {
    let (store, mut vm, mut rows) = start_with(
        ctx,
        &disk("skipped", UNIT, SKIPPED),
        ["3", "3"],
        SECOND_NOTES,
    )?;
    rows.enter(&mut vm.at_prompt(), "by version 3", 3)?;
    rows.note(&mut vm.at_prompt(), "Dora", "by version 3")?;
    rows.pin(&mut vm.at_prompt(), 4)?;
    ctx.step("what it would fall back to is not the newest one");
    let why = refused(ctx, &mut vm, "backstay fence explain 2 --by itself")?;
    exactly(
        ctx,
        "the explanation",
        &why,
        &[
            "snapshot 2: refused, its applications cannot run on the data",
            "  ledger (dataset data, state pg15): no conversion needed",
            "  notes (dataset data, state 2): refused, since that version reads 1",
            "      with fence=convert: convert by this path, SOMETHING IS LOST:",
            "        2 to 1 by convert of the live system, cost 1, LOSES SOMETHING",
            "  nothing is changed; nobody was there to agree; fence=convert goes to",
            "    snapshot 2",
        ],
    )?;
    vm.at_prompt().succeed("backstay try")?;
    vm.at_prompt().succeed("backstay mark-bad")?;
    vm.serial().forbid("converting a copy");
    vm.at_prompt().restart()?;
    agent_says(
        &mut vm,
        &[
            "snapshot 2 was good, but cannot run on the data as it is: not taken",
            "done: fall back to snapshot 1, the newest good one",
        ],
    )?;
    runs(ctx, &mut vm, ["2", "2"], &rows, SECOND_NOTES)?;
    vm.at_prompt().succeed("backstay mark-good")?;
    let wanted = Store::live("2", "2", "2")
        .snapshot(1, ["2", "2", "2"])
        .snapshot(2, ["1", "1", "1"])
        .snapshot(3, ["3", "3", "3"]);
    is_left(ctx, vm, &store, &wanted)
}

/// The last note by version 2, and the way back asked for: the first start converts the data for it.
const BACK_ASKED_FOR: &str = "
in_system notes add Dora 'by version 2'
admin rollback --fence convert
";

fn unconverted(ctx: &mut Context) -> Result<()> {
    let fixture = disk("notes-2-asked-back", NOTES_2, BACK_ASKED_FOR);
    let (store, mut vm) = start(ctx, &fixture)?;
    let mut rows = Rows::first();
    rows.noted("Dora", "by version 2");
    converts(&mut vm, &[NOTES_DOWN])?;
    runs(ctx, &mut vm, ["1", "1"], &rows, FIRST)?;
    ctx.step("the old version writes on, in its own format");
    rows.note(
        &mut vm.at_prompt(),
        "Emil",
        "by version 1, after the rollback",
    )?;
    rows.enter(&mut vm.at_prompt(), "after the rollback", 99)?;
    both_ways(ctx, &mut vm, "backstay forward")?;
    ask(&mut vm, "backstay forward --fence convert")?;
    converts(&mut vm, &[NOTES_UP])?;
    agent_says(&mut vm, &["done: roll forward to snapshot 2"])?;
    runs(ctx, &mut vm, ["2", "2"], &rows, SECOND_NOTES)?;
    rows.pin(&mut vm.at_prompt(), 5)?;
    rows.are_in(ctx, &mut vm.at_prompt(), SECOND_NOTES)?;
    let wanted = Store::live("2", "2", "2")
        .snapshot(1, ["1", "1", "1"])
        .snapshot_and_data(2, ["2", "2", "2"])
        .snapshot_and_data(3, ["1", "1", "1"]);
    is_left(ctx, vm, &store, &wanted)
}

fn factory(ctx: &mut Context) -> Result<()> {
    let (store, mut vm, mut rows) =
        start_with(ctx, &disk("version-2", VERSION_2, ""), ["2", "2"], SECOND)?;
    rows.enter(&mut vm.at_prompt(), "by version 2", 4711)?;
    rows.note(&mut vm.at_prompt(), "Dora", "by version 2")?;
    rows.pin(&mut vm.at_prompt(), 3)?;
    let said = refused(ctx, &mut vm, "backstay reset system --yes")?;
    let line = "backstay: refused: the factory version cannot run on the data as it is; \
        fence=convert, of a copy of it, goes there";
    exactly(ctx, "the refusal", &said, &[line])?;
    let plan = vm
        .at_prompt()
        .succeed("backstay reset system --fence convert --yes")?;
    for part in [
        "LOST: in the data that becomes live",
        "pg17 to pg15 by down of the live system, cost 10",
        "2 to 1 by convert of the live system, cost 1, LOSES SOMETHING",
    ] {
        ctx.check(plan.contains(part), || format!("the plan is {plan}"))?;
    }
    vm.at_prompt().restart()?;
    converts(&mut vm, &[BOOKS_DOWN, NOTES_DOWN])?;
    agent_says(
        &mut vm,
        &["done: reset system and configuration to the factory version, keep data"],
    )?;
    rows.unpin();
    runs(ctx, &mut vm, ["1", "1"], &rows, FIRST)?;
    rows.enter(&mut vm.at_prompt(), "by the factory version", -4711)?;
    rows.are_in(ctx, &mut vm.at_prompt(), FIRST)?;
    let wanted = Store::live("1", "1", "1")
        .snapshot(1, ["1", "1", "1"])
        .snapshot_and_data(2, ["2", "2", "2"]);
    is_left(ctx, vm, &store, &wanted)
}

/// Version 2 is live, and snapshot 1 is version 1, with one format of all data. The setting is 1 by default in version 1, 2 in
/// version 2, and was set to 3 in both. The reset of the live one is asked for.
const DEFAULTS: &str = "
label_data 1
echo lines=3 > /mnt/@config/etc/appliance/notes.conf
admin snapshot --title 'version 1'
set_version 2
set_defaults 2
echo lines=3 > /mnt/@config/etc/appliance/notes.conf
admin reset config --yes
";

fn defaults(ctx: &mut Context) -> Result<()> {
    const RESET: &str = "done: reset the configuration to this version's defaults";
    // As many notes as it says, of the three that there are.
    let lists = |ctx: &Context, vm: &mut Vm, lines: u8| -> Result<()> {
        let found = vm.at_prompt().succeed("notes list | wc -l")?;
        ctx.check(found.trim() == lines.to_string(), || {
            format!("notes must list {lines}, and lists {found}")
        })
    };
    let (store, mut vm) = start(ctx, &disk("defaults", DEFAULTS, ""))?;
    let rows = Rows::first();
    agent_says(&mut vm, &[RESET])?;
    runs(ctx, &mut vm, ["2", "2"], &rows, FIRST)?;
    lists(ctx, &mut vm, 2)?;
    ctx.step("the version before has its own configuration, and its own default");
    ask(&mut vm, "backstay rollback 1")?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    runs(ctx, &mut vm, ["1", "1"], &rows, FIRST)?;
    lists(ctx, &mut vm, 3)?;
    ask(&mut vm, "backstay reset config --yes")?;
    agent_says(&mut vm, &[RESET])?;
    runs(ctx, &mut vm, ["1", "1"], &rows, FIRST)?;
    lists(ctx, &mut vm, 1)?;
    let wanted = Store::live("1", "1", "1")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["2", "2", "2"])
        .snapshot(4, ["1", "1", "1"]);
    is_left(ctx, vm, &store, &wanted)
}
