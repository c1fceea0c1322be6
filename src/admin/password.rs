//! `backstay password`: the hash of a password for the console, as `policy.toml` has it.
//!
//! It needs no privilege and writes nothing: whoever calls puts the lines where they belong.

use super::cli::Password;
use super::consent;
use super::error::{Error, Result};
use super::output;
use super::run::{Ended, Out};
use crate::console::password::{Hash, LONGEST, SALT};
use crate::sys::Context;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use std::fs::File;
use std::io::{IsTerminal, Read};
use zeroize::Zeroizing;

/// The bytes of a password, zeroed when they go.
type Bytes = Zeroizing<Vec<u8>>;

/// What `--json` gives.
#[derive(Serialize)]
struct Made<'a> {
    hash: &'a str,
}

/// Asks for the password and prints the hash, alone on standard output; what to do with it goes beside that.
pub(super) fn run(args: &Password, out: Out) -> Result<Ended> {
    let hash = hash(args)?;
    out.result(&Made {
        hash: hash.reveal(),
    });
    if !out.json {
        output::out(format_args!("{}\n", hash.reveal()));
        eprint!("{}", advice(&hash));
    }
    Ok(Ended::Done)
}

/// Asks for it, twice, or reads it, and works the hash out.
fn hash(args: &Password) -> Result<Hash> {
    let password = match args.password_fd {
        Some(number) => File::open(format!("/proc/self/fd/{number}"))
            .and_then(line)
            .map_err(|error| Error::PasswordUnread(format!("--password-fd {number}: {error}")))?,
        None if std::io::stdin().is_terminal() => twice()?,
        None => line(std::io::stdin().lock())
            .map_err(|error| Error::PasswordUnread(format!("standard input: {error}")))?,
    };
    may_be(&password)?;
    Hash::make(&password, &salt()?).ok_or(Error::PasswordMemory)
}

/// What a person does with it.
fn advice(hash: &Hash) -> String {
    format!(
        "put these lines into /etc/backstay/policy.toml, and see that only root reads it (chmod 600):\n\
         \n\
         [console]\n\
         change = \"password\"\n\
         password = \"{}\"\n\
         \n\
         then run 'backstay recovery install', and where the host's own initramfs has the agent, 'update-initramfs -u \
         -k all' or 'dracut --force' before that; until then the password before this one counts\n",
        hash.reveal()
    )
}

fn twice() -> Result<Bytes> {
    let ask = |prompt| {
        consent::secret(prompt)
            .map(|text| Zeroizing::new(text.into_bytes()))
            .map_err(|error| Error::PasswordUnread(format!("the terminal: {error}")))
    };
    let first = ask("Password of the console: ")?;
    may_be(&first)?;
    match *first == *ask("The same again: ")? {
        true => Ok(first),
        false => Err(Error::PasswordDiffers),
    }
}

/// Whether somebody can type it at a console.
fn may_be(password: &[u8]) -> Result<()> {
    match password {
        [] => Err(Error::PasswordEmpty),
        _ if password.len() > LONGEST => Err(Error::PasswordTooLong(LONGEST)),
        _ if !password.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
            Err(Error::PasswordUntypable)
        }
        _ => Ok(()),
    }
}

/// One line, and nothing of what comes after it: byte by byte, into memory that does not move.
fn line(mut from: impl Read) -> std::io::Result<Bytes> {
    let mut read = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    let mut byte = Zeroizing::new([0]);
    // One byte more than fits says that it is too long; one more may be the line's end.
    while read.len() <= LONGEST + 1 {
        match from.read(byte.as_mut_slice()) {
            Ok(0) => break,
            Ok(_) if *byte == *b"\n" => break,
            Ok(_) => read.extend_from_slice(byte.as_slice()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if read.last() == Some(&b'\r') {
        read.pop();
    }
    Ok(read)
}

fn salt() -> Result<[u8; SALT]> {
    let mut salt = [0; SALT];
    // Up to 256 bytes come whole (getrandom(2)); with the kernel's pool filled, which it waits for.
    let got =
        getrandom(&mut salt, GetRandomFlags::empty()).call(|| format!("getrandom({SALT})"))?;
    match got == SALT {
        true => Ok(salt),
        false => Err(Error::PasswordUnread(format!(
            "getrandom gave {got} of {SALT} bytes"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// The hash of what a file has, read by its descriptor.
    fn of(content: &[u8]) -> Result<Hash> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, content).unwrap();
        let file = File::open(path).unwrap();
        let password_fd = u32::try_from(file.as_raw_fd()).ok();
        hash(&Password { password_fd })
    }

    #[test]
    fn the_first_line_of_a_descriptor_is_the_password() {
        for content in ["a word", "a word\n", "a word\r\n", "a word\nanother\n"] {
            let hash = of(content.as_bytes()).unwrap();
            assert_eq!(hash.is_of(b"a word"), Ok(true), "{content:?}");
        }
        assert_ne!(of(b"a word").unwrap(), of(b"a word").unwrap());
    }

    #[test]
    fn what_nobody_could_type_is_refused() {
        let long = |length: usize, end: &str| of(("x".repeat(length) + end).as_bytes());
        for end in ["", "\n", "\r\n"] {
            assert!(long(LONGEST, end).is_ok());
            for length in [LONGEST + 1, LONGEST + 2, 9 * LONGEST] {
                let refused = long(length, end).unwrap_err();
                assert!(matches!(refused, Error::PasswordTooLong(256)), "{length}");
            }
        }
        for empty in ["", "\n", "\r\n", "\nsecond\n"] {
            let refused = of(empty.as_bytes()).unwrap_err();
            assert!(matches!(refused, Error::PasswordEmpty), "{empty:?}");
        }
        for odd in ["a\tb", "a\x1b[A", "a\x7f", "\0", "k\u{f6}nig"] {
            let refused = of(odd.as_bytes()).unwrap_err();
            assert!(matches!(refused, Error::PasswordUntypable), "{odd:?}");
            assert!(!refused.to_string().contains(odd));
        }
    }

    #[test]
    fn the_lines_that_are_advised_are_a_policy_of_that_password() {
        let hash = of(b"a word").unwrap();
        let advice = advice(&hash);
        let (_, lines) = advice.split_once("\n\n").unwrap();
        let (lines, rest) = lines.split_once("\n\n").unwrap();
        assert_eq!(lines.lines().count(), 3);
        let console = crate::agent::policy::parse(lines).unwrap().console;
        assert_eq!(console.password, Some(hash));
        assert!(rest.contains("recovery install") && rest.contains("update-initramfs"));
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_named() {
        let password_fd = Some(999_999);
        let refused = hash(&Password { password_fd }).unwrap_err().to_string();
        assert!(refused.contains("--password-fd 999999"), "{refused}");
    }
}
