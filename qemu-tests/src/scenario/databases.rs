//! Two applications with real data, for the stories of the fence: books in PostgreSQL, notes in SQLite.
//!
//! Version 1 of the machine has PostgreSQL 15 and schema 1 of the notes, version 2 has 17 and schema 2, with converters in both
//! directions. The way back loses which notes were pinned, and nothing else. What a story knows of the data it asks of the
//! programs themselves, each of which runs on its own format only; a label is never taken for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::Context;
use super::steps::agent_says;
use super::store::{CUSTOMER, Store};
use crate::guest::TinyPrompt;
use crate::image::Fixture;
use crate::vm::Vm;

/// Version 1 is live, with its data.
pub const VERSION_1: &str = "label_data 1\n";

/// Version 2 is live, with its data; snapshot 1 is version 1.
pub const VERSION_2: &str = "
label_data 1
admin snapshot --title 'version 1'
take_version 2
set_defaults 2
put_data 2
label_data 2
";

/// Version 1 is live, with its data; snapshot 1 is version 2.
pub const VERSION_1_BEFORE_2: &str = "
take_version 2
set_defaults 2
admin snapshot --title 'version 2'
take_version 1
set_defaults 1
label_data 1
";

/// As [`VERSION_2`], but the books are PostgreSQL 15's in both: nothing takes long.
pub const NOTES_2: &str = "
label_data 1
admin snapshot --title 'version 1'
take_version 2 1
set_defaults 2
put_data 1 2
label_data 1 2
";

/// As [`VERSION_1_BEFORE_2`], but the books are PostgreSQL 15's in both.
pub const NOTES_1_BEFORE_2: &str = "
take_version 2 1
set_defaults 2
admin snapshot --title 'version 2'
take_version 1
set_defaults 1
label_data 1
";

/// What follows a script: snapshot 1 is asked for, and the first start converts the data for it. A story spares the start before.
pub const ASK_FOR_1: &str = "admin rollback 1 --fence convert\n";

/// A disk with databases, made by one of these scripts and what follows it.
#[must_use]
pub fn disk(name: &str, script: &str, more: &str) -> Fixture {
    Fixture::with_databases(format!("databases-{name}"), format!("{script}\n{more}\n"))
}

/// The rows that both applications must have.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Account, cents and details of each entry, in the order of their ids, which begin at 1.
    books: Vec<(String, i64, String)>,
    /// Author and text of each note, in the order of their ids, which begin at 1.
    notes: Vec<(String, String)>,
    pinned: usize,
}

impl Rows {
    /// Those that every disk begins with (`images/databases/layer1.sh`).
    #[must_use]
    pub fn first() -> Self {
        let entry = |n: i64| {
            let account = format!("account {}", n % 7);
            (account, n % 50 * 100 + 1, format!("{{\"n\": {n}}}"))
        };
        let notes = [
            ("Anna", "it's full"),
            ("Ben", "call back"),
            ("Anna", "done"),
        ];
        Self {
            books: (1..=1000).map(entry).collect(),
            notes: notes.map(|(by, text)| (by.into(), text.into())).into(),
            pinned: 0,
        }
    }

    /// One more entry of the books.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn enter(&mut self, at: &mut TinyPrompt<'_>, account: &str, cents: i64) -> Result<()> {
        at.succeed(&format!("ledger add '{account}' {cents}"))?;
        self.entered(account, cents);
        Ok(())
    }

    /// One more entry was made.
    pub fn entered(&mut self, account: &str, cents: i64) {
        self.books.push((account.into(), cents, "{}".into()));
    }

    /// One more note.
    ///
    /// # Errors
    /// When the program does not take it.
    pub fn note(&mut self, at: &mut TinyPrompt<'_>, author: &str, text: &str) -> Result<()> {
        at.succeed(&format!("notes add '{author}' '{text}'"))?;
        self.noted(author, text);
        Ok(())
    }

    /// One more note was made.
    pub fn noted(&mut self, author: &str, text: &str) {
        self.notes.push((author.into(), text.into()));
    }

    /// A note is pinned.
    ///
    /// # Errors
    /// When this version knows no pins.
    pub fn pin(&mut self, at: &mut TinyPrompt<'_>, id: u32) -> Result<()> {
        at.succeed(&format!("notes pin {id}"))?;
        self.pinned += 1;
        Ok(())
    }

    /// Which ones were pinned is lost.
    pub const fn unpin(&mut self) {
        self.pinned = 0;
    }

    /// What the books say of themselves where they are run by this PostgreSQL.
    #[must_use]
    pub fn books_on(&self, postgresql: u8) -> String {
        let rows = self.books.len();
        let sum: i64 = self.books.iter().map(|(_, cents, _)| cents).sum();
        let lines = self.books.iter().zip(1..);
        let lines = lines
            .map(|((account, cents, details), id)| format!("{id}|{account}|{cents}|{details}\n"));
        let digest = digest(&lines.collect::<String>());
        format!("ledger: PostgreSQL {postgresql}, {rows} rows, {sum} cents, digest {digest}\n")
    }

    /// What the notes say of themselves where they have this schema.
    #[must_use]
    pub fn notes_in(&self, schema: u8) -> String {
        let rows = self.notes.len();
        let lines = self.notes.iter().zip(1..);
        let lines = lines.map(|((author, text), id)| format!("{id}|{author}|{text}\n"));
        let digest = digest(&lines.collect::<String>());
        let pinned = self.pinned;
        format!("notes: schema {schema}, {rows} rows, {pinned} pinned, digest {digest}\n")
    }

    /// Ends the story unless both applications run, in these formats, and have exactly these rows.
    ///
    /// # Errors
    /// When one does not run, or has others.
    pub fn are_in(
        &self,
        ctx: &Context,
        at: &mut TinyPrompt<'_>,
        [postgresql, schema]: [u8; 2],
    ) -> Result<()> {
        let found = at.run("ledger show; notes show")?;
        let wanted = self.books_on(postgresql) + &self.notes_in(schema);
        ctx.check(found.status == 0 && found.output == wanted, || {
            format!("the data must be\n{wanted}but is\n{}", found.output)
        })
    }
}

fn digest(lines: &str) -> String {
    let digest = Sha256::digest(lines);
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().chars().take(16).collect()
}

/// The formats of version 1 and of version 2.
pub const FIRST: [u8; 2] = [15, 1];
/// See [`FIRST`].
pub const SECOND: [u8; 2] = [17, 2];
/// Those of version 2 where the books stay with PostgreSQL 15.
pub const SECOND_NOTES: [u8; 2] = [15, 2];

/// A conversion, as the agent and [`converts`] name it.
pub const BOOKS_UP: &str = "ledger: pg15 to pg17";
/// See [`BOOKS_UP`].
pub const BOOKS_DOWN: &str = "ledger: pg17 to pg15";
/// See [`BOOKS_UP`].
pub const NOTES_UP: &str = "notes: 1 to 2";
/// See [`BOOKS_UP`].
pub const NOTES_DOWN: &str = "notes: 2 to 1";

/// These versions of system and configuration come up, and both applications have exactly these rows.
///
/// # Errors
/// When others come up, or they do not have them.
pub fn runs(
    ctx: &Context,
    vm: &mut Vm,
    [system, config]: [&str; 2],
    rows: &Rows,
    formats: [u8; 2],
) -> Result<()> {
    let content = CUSTOMER.replace(' ', "_");
    vm.tiny()?.expect(system, config, &content)?;
    rows.are_in(ctx, &mut vm.at_prompt(), formats)
}

/// A copy of a disk of its own, in a machine that was switched on: on a busy machine a conversion takes minutes.
///
/// # Errors
/// When it cannot be made or started.
pub fn start(ctx: &Context, fixture: &Fixture) -> Result<(PathBuf, Vm)> {
    let disk = ctx.take(fixture)?;
    let mut vm = ctx.boot(&disk)?;
    vm.serial().set_patience(Duration::from_secs(480));
    Ok((disk, vm))
}

/// The same, in which these versions come up with the rows that every disk begins with.
///
/// # Errors
/// When it cannot be started, or others come up.
pub fn start_with(
    ctx: &Context,
    fixture: &Fixture,
    versions: [&str; 2],
    formats: [u8; 2],
) -> Result<(PathBuf, Vm, Rows)> {
    let (disk, mut vm) = start(ctx, fixture)?;
    let rows = Rows::first();
    runs(ctx, &mut vm, versions, &rows, formats)?;
    Ok((disk, vm, rows))
}

/// The end of a story: the machine is powered off, and leaves this store behind.
///
/// # Errors
/// When it stays on, or leaves another one.
pub fn is_left(ctx: &Context, mut vm: Vm, disk: &Path, wanted: &Store) -> Result<()> {
    vm.at_prompt().power_off()?;
    ctx.expect_store(disk, wanted)?;
    Ok(())
}

/// Asks for a change in the running system, and restarts it.
///
/// # Errors
/// When it is refused.
pub fn ask(vm: &mut Vm, command: &str) -> Result<()> {
    vm.at_prompt().succeed(command)?;
    vm.at_prompt().restart()
}

/// The agent converts the data of these applications, in this order: each as `ledger: pg15 to pg17`.
///
/// # Errors
/// When it says something else.
pub fn converts(vm: &mut Vm, all: &[&str]) -> Result<()> {
    for what in all {
        let begins = format!("converting a copy of the data of {what}");
        agent_says(vm, &[&begins, &format!("converted, {what}")])?;
    }
    Ok(())
}

/// Types a command that must be refused, and gives what it says.
///
/// # Errors
/// When it succeeds.
pub fn refused(ctx: &Context, vm: &mut Vm, command: &str) -> Result<String> {
    let answer = vm.at_prompt().run(command)?;
    ctx.check(answer.status == 1, || {
        format!("{command} must be refused, and says {answer:?}")
    })?;
    Ok(answer.output)
}

/// Ends the story unless a text is this one, line for line.
///
/// # Errors
/// When it is another one.
pub fn exactly(ctx: &Context, what: &str, found: &str, wanted: &[&str]) -> Result<()> {
    let found: Vec<&str> = found.lines().collect();
    ctx.check(found == wanted, || {
        let (found, wanted) = (found.join("\n"), wanted.join("\n"));
        format!("{what} must be\n{wanted}\nbut is\n{found}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_are_those_that_the_programs_say() {
        // By PostgreSQL 15 and 17, and by SQLite, of what layer1.sh makes.
        assert_eq!(
            Rows::first().books_on(15),
            "ledger: PostgreSQL 15, 1000 rows, 2451000 cents, digest 806b2fa5d63a7970\n"
        );
        assert_eq!(
            Rows::first().notes_in(2),
            "notes: schema 2, 3 rows, 0 pinned, digest 57501d19ae4151a8\n"
        );
    }
}
