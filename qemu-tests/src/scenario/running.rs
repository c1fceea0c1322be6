//! Conversions in the running system: a server of PostgreSQL under systemd, whose converters may not run before boot.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::databases::{Rows, start};
use super::packages::{has, installs, packages, runs};
use super::steps::agent_says;
use super::trial::{read, same};
use super::{Context, Scenario};
use crate::guest::Debian;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "converts-in-the-running-system",
        "no converter of the books may run before boot: they are converted behind a stopped server, forward and back, and a cancel starts it again",
        converts,
    )
    .with_databases()
    .usually(900)
    .within(Duration::from_secs(2400)),
];

/// PostgreSQL 15 in snapshot 1, and a newer package at hand, which names its server and says of no converter that it is early.
const BOOKS: &str = "
sed -i -e '/^early/d' -e '/^state/aservices = [\"ledger.service\"]' /in/databases/ledger-2.toml
package ledger 1
package ledger 2
repository
install_packages ledger=1
first_books
admin state set ledger pg15 --dataset data
admin snapshot --title 'PostgreSQL 15'
";

/// What the server is, and whether somebody can write to the books.
fn server(debian: &mut Debian<'_>) -> Result<String> {
    let asked = "systemctl is-active ledger; systemctl is-enabled ledger; \
        touch /srv/data/written && echo writable || echo read-only";
    Ok(debian.run(&format!("({asked}) 2> /dev/null"))?.output)
}

const BACK: &str = "backstay rollback 1 --fence convert";
const RUNS: &str = "active\nstatic\nwritable\n";
const HELD: &str = "inactive\nmasked-runtime\nread-only\n";

fn is(ctx: &Context, debian: &mut Debian<'_>, wanted: &str) -> Result<()> {
    let found = server(debian)?;
    ctx.check(found == wanted, || {
        format!("the server must be\n{wanted}but is\n{found}")
    })
}

/// Asks for it; then a clone is converted, and the server stays stopped until the reboot.
fn converted(ctx: &Context, debian: &mut Debian<'_>, command: &str) -> Result<()> {
    let said = debian.succeed(command)?;
    for line in [
        "stopped until the reboot: ledger.service",
        "Until then the data that was converted is read-only, and what writes to it is stopped.",
    ] {
        ctx.check(said.lines().any(|it| it == line), || {
            format!("it must say '{line}', but says\n{said}")
        })?;
    }
    is(ctx, debian, HELD)?;
    let status = read(&debian.succeed("backstay status --json")?)?;
    same(ctx, &status, "/converted", json!(["data"]))?;
    same(ctx, &status, "/held/mounts", json!(["/srv/data"]))
}

fn converts(ctx: &mut Context) -> Result<()> {
    let (_, mut vm) = start(ctx, &packages("ledger-running", BOOKS))?;
    let mut debian = vm.debian()?;
    let mut rows = Rows::first();
    runs(ctx, &mut debian, ["ledger", "1"], &rows.books_on(15))?;
    ctx.step("the new package runs on PostgreSQL 17, and leaves the books to backstay");
    // The server of 15 goes on until it is stopped for the conversion.
    installs(ctx, &mut debian, "ledger=2")?;
    debian.succeed("systemctl daemon-reload")?;
    converted(ctx, &mut debian, "backstay convert")?;
    debian.restart()?;
    agent_says(
        &mut vm,
        &["done: convert the data that the present version does not read, keep the version"],
    )?;
    let mut debian = vm.debian()?;
    runs(ctx, &mut debian, ["ledger", "2"], &rows.books_on(17))?;
    is(ctx, &mut debian, RUNS)?;

    ctx.step("a way back that is withdrawn leaves a server that runs");
    debian.succeed("ledger add 'on 17' 34")?;
    rows.entered("on 17", 34);
    converted(ctx, &mut debian, BACK)?;
    debian.succeed("backstay cancel")?;
    is(ctx, &mut debian, RUNS)?;
    debian.succeed("ledger add 'after the cancel' 7")?;
    rows.entered("after the cancel", 7);
    has(ctx, &mut debian, ["ledger", "2"], &rows.books_on(17))?;

    ctx.step("and back, with what came since");
    converted(ctx, &mut debian, BACK)?;
    debian.restart()?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    let mut debian = vm.debian()?;
    runs(ctx, &mut debian, ["ledger", "1"], &rows.books_on(15))?;
    is(ctx, &mut debian, RUNS)?;
    debian.power_off()
}
