//! The data of an application, and what converts it: several files that are renamed, truncated and written one by one, so
//! that half a conversion is neither the one state nor the other.
//!
//! ```text
//! books/index    "state 3", or "between 3 and 2" while they are converted; then all states that they went through
//! books/NAME.3   an account in state 3; NAME.converting while it is converted
//! ```
//! It is the application's own affair, so nothing of backstay or of this crate is used here: what a version ships
//! (examples/convert-books.rs) is made of this file alone, and so is what that must come to.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

const ACCOUNTS: [&str; 5] = ["cash", "debts", "goods", "loans", "wages"];
/// Entries of an account: more than a file has room for in the metadata, and several pages.
const ENTRIES: usize = 400;
/// When a file is said to have been changed last: with the clock's time no two conversions would end alike.
const CHANGED: Duration = Duration::from_secs(1_000_000_000);

/// Makes books in this state.
///
/// # Errors
/// Those of the file system.
pub fn write(data: &Path, state: &str) -> Result<()> {
    let books = data.join("books");
    fs::create_dir_all(&books)?;
    for name in ACCOUNTS {
        rewrite(
            &books.join(format!("{name}.{state}")),
            &account(name, state, state),
        )?;
    }
    rewrite(&books.join("index"), &index(&in_state(state), state))
}

/// Converts them in place, as a package's script would: what is cut in the middle is of no use to anybody.
///
/// # Errors
/// Where they are not in that state; those of the file system.
pub fn convert(data: &Path, from: &str, to: &str) -> Result<()> {
    let books = data.join("books");
    let (head, way) = read_index(&books)?;
    if head != in_state(from) {
        let text = format!("the books are in {head:?}, not in {from}");
        return Err(Error::new(ErrorKind::InvalidData, text));
    }
    let way = format!("{way} {to}");
    rewrite(
        &books.join("index"),
        &index(&format!("between {from} and {to}"), &way),
    )?;
    for name in ACCOUNTS {
        let [old, meanwhile, new] =
            [from, "converting", to].map(|end| books.join(format!("{name}.{end}")));
        fs::rename(&old, &meanwhile)?;
        rewrite(&meanwhile, &account(name, to, &way))?;
        fs::rename(&meanwhile, &new)?;
        File::open(&books)?.sync_all()?;
    }
    rewrite(&books.join("index"), &index(&in_state(to), &way))
}

/// In which state they are, as far as every file of them says the same; `None`: there are none.
///
/// # Errors
/// Those of the file system.
pub fn state(data: &Path) -> Result<Option<String>> {
    let books = data.join("books");
    if !books.exists() {
        return Ok(None);
    }
    let half = Ok(Some("half converted".to_owned()));
    let Ok((head, way)) = read_index(&books) else {
        return half;
    };
    let Some(state) = head.strip_prefix("state ") else {
        return half;
    };
    for name in ACCOUNTS {
        let text = fs::read_to_string(books.join(format!("{name}.{state}")));
        if text.ok() != Some(account(name, state, &way)) {
            return half;
        }
    }
    match fs::read_dir(&books)?.count() == ACCOUNTS.len() + 1 {
        true => Ok(Some(format!("in state {state}"))),
        false => half,
    }
}

fn in_state(state: &str) -> String {
    format!("state {state}")
}

fn index(head: &str, way: &str) -> String {
    format!("{head}\n{way}\n")
}

fn read_index(books: &Path) -> Result<(String, String)> {
    let text = fs::read_to_string(books.join("index"))?;
    let mut lines = text.lines().map(str::to_owned);
    match (lines.next(), lines.next()) {
        (Some(head), Some(way)) => Ok((head, way)),
        _ => Err(Error::new(ErrorKind::InvalidData, "the index is torn")),
    }
}

fn account(name: &str, state: &str, way: &str) -> String {
    let head = format!("{name} by way of {way}\n");
    let entries = (0..ENTRIES).map(|number| format!("{name} {number} as {state} has it\n"));
    head + &entries.collect::<String>()
}

/// Truncates a file and writes it; on disk on return.
fn rewrite(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_modified(UNIX_EPOCH + CHANGED)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversion_that_stopped_anywhere_is_in_neither_state() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        let now = || state(data).unwrap();
        assert_eq!(now(), None);
        write(data, "3").unwrap();
        assert_eq!(now().as_deref(), Some("in state 3"));
        assert!(convert(data, "2", "3").is_err());
        // A directory in the way of each file in its turn is where the conversion stops.
        for name in ACCOUNTS {
            for in_the_way in ["converting", "2"] {
                let stone = data.join(format!("books/{name}.{in_the_way}/stone"));
                fs::create_dir_all(&stone).unwrap();
                assert!(convert(data, "3", "2").is_err());
                assert_eq!(now().as_deref(), Some("half converted"));
                fs::remove_dir_all(data.join("books")).unwrap();
                write(data, "3").unwrap();
            }
        }
        convert(data, "3", "2").unwrap();
        assert_eq!(now().as_deref(), Some("in state 2"));
        // There and back is not where it began.
        convert(data, "2", "3").unwrap();
        assert_eq!(now().as_deref(), Some("in state 3"));
        let way = fs::read_to_string(data.join("books/index")).unwrap();
        assert_eq!(way, "state 3\n3 2 3\n");
    }
}
