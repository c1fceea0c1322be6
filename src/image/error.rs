//! What may go wrong with an archive, each with its way out.
//!
//! The errors are made in a confined child and read by its parent, so they cross a pipe: they hold
//! text and numbers only.

use crate::sys;
use rustix::io::Errno;

/// What this module returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an archive was not verified or not extracted. After any of them the directory that was to hold
/// the system holds a part of it at most, and is to be thrown away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Error {
    /// It cannot be opened.
    #[error("{name} cannot be opened: {source}; {}", way_to(.source))]
    Open {
        /// The archive.
        name: String,
        /// The call.
        #[serde(with = "wire")]
        source: sys::Error,
    },
    /// It is a directory, a device, a pipe: something that may answer differently when read again.
    #[error("{name} is not a regular file: copy the archive to a file and name that")]
    NotAFile {
        /// The archive.
        name: String,
    },
    /// Nothing is in it.
    #[error("{name} is empty: the download or the copy failed, get it again")]
    Empty {
        /// The archive.
        name: String,
    },
    /// It begins as no archive that is known here.
    #[error(
        "{name} is neither a tar archive nor one compressed by zstd, gzip or xz: pack it with one of them"
    )]
    Unknown {
        /// The archive.
        name: String,
    },
    /// A file that should hold a public key.
    #[error("the key {name} cannot be used: {why}; replace it by the .pub file that minisign made")]
    Key {
        /// The file.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// No key is there to trust.
    #[error(
        "no public key is installed, so no signature can be checked: put the vendor's .pub file into \
         /etc/backstay/keys"
    )]
    NoKeys,
    /// The signature itself cannot be read.
    #[error("the signature of {name} is damaged or cut short ({why}): get the .minisig file again")]
    SignatureUnreadable {
        /// The archive.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A signature of the old form, which cannot be checked without the whole archive in memory.
    #[error(
        "the signature of {name} is of minisign's old form (not prehashed): sign it again with minisign 0.8 or later, without -l"
    )]
    SignatureLegacy {
        /// The archive.
        name: String,
    },
    /// Made by a key that is not trusted here.
    #[error(
        "{name} is signed by key {key}, which is not trusted here: install that key's .pub file if you trust it, or get the archive from your vendor"
    )]
    SignatureKey {
        /// The archive.
        name: String,
        /// The key's id, in hexadecimal.
        key: String,
    },
    /// The archive is not what was signed.
    #[error(
        "the signature of {name} does not match (key {key}): the archive or its .minisig was changed or damaged, get both again"
    )]
    SignatureWrong {
        /// The archive.
        name: String,
        /// The key's id, in hexadecimal.
        key: String,
    },
    /// Reading it a second time gave something else.
    #[error(
        "{name} changed while it was being extracted: nothing of it is used; keep other programs away from it, check its disk, and try again"
    )]
    Changed {
        /// The archive.
        name: String,
    },
    /// The compressed stream is broken.
    #[error("the archive's {form} data is damaged ({why}): get it or make it again")]
    Compressed {
        /// zstd, gzip, xz.
        form: String,
        /// What the decoder said.
        why: String,
    },
    /// Decompressing would take more memory than there may be.
    #[error(
        "the archive needs {needed} to be decompressed, more than the {limit} MiB that are kept for it: pack it without {remedy}"
    )]
    Window {
        /// MiB, or 'more'.
        needed: String,
        /// MiB.
        limit: u64,
        /// The options of the compressor that do it.
        remedy: String,
    },
    /// The tar archive ends too early.
    #[error("the archive ends in the middle{}: it was cut short, get it or make it again", at(.entry))]
    Short {
        /// The entry that was being read, or nothing.
        entry: String,
    },
    /// A header that is none.
    #[error("the archive cannot be read after {bytes} bytes: {why}; get it or make it again")]
    Damaged {
        /// Bytes of the decompressed archive before it.
        bytes: u64,
        /// What is wrong.
        why: String,
    },
    /// A tar archive as it was before POSIX.
    #[error(
        "it is a tar archive of the old form (v7), which is not taken: pack it with 'tar --format=posix' or \
         'backstay factory pack'"
    )]
    OldForm,
    /// Something follows the end of the archive.
    #[error(
        "something follows the end of the archive ({}): archives that were joined are not taken; pack it as one", .what
    )]
    Trailing {
        /// What it is.
        what: String,
    },
    /// An entry that no honest archive of a system holds, or that cannot be made as it is meant.
    #[error("the archive's entry {entry:?} is refused: {why}")]
    Refused {
        /// The name in the archive, shortened.
        entry: String,
        /// What is wrong, with the remedy.
        why: String,
    },
    /// More than an archive may ask for.
    #[error(
        "the archive{} asks for more {what} than the limit of {limit}: pack it without that", at(.entry)
    )]
    Limit {
        /// The entry, or nothing.
        entry: String,
        /// What there is too much of.
        what: String,
        /// How much there may be.
        limit: u64,
    },
    /// The directory to extract into holds something.
    #[error("the directory to extract into is not empty: make a fresh subvolume for it")]
    NotEmpty,
    /// The system said no.
    #[error("{doing}: {source}{}", remedy(.source))]
    System {
        /// What was being done.
        doing: String,
        /// The call.
        #[serde(with = "wire")]
        source: sys::Error,
    },
    /// The child that extracts did not say how it went.
    #[error(
        "the process that extracts {how}: see the kernel's log, and report it with the archive"
    )]
    Child {
        /// How it ended.
        how: String,
    },
}

impl Error {
    /// A refused entry.
    pub(super) fn refused(entry: &[u8], why: impl Into<String>) -> Error {
        Error::Refused {
            entry: shown(entry),
            why: why.into(),
        }
    }

    /// A limit that an entry would pass.
    pub(super) fn limit(entry: &[u8], what: &str, limit: u64) -> Error {
        Error::Limit {
            entry: shown(entry),
            what: what.into(),
            limit,
        }
    }

    /// What the stack of readers carried as an I/O error is itself again; anything else is a damaged
    /// stream of this form.
    pub(super) fn from_stream(form: &str, error: std::io::Error) -> Error {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>())
            && let Some(inner) = error.into_inner()
        {
            return match inner.downcast::<Error>() {
                Ok(error) => *error,
                Err(other) => Error::Compressed {
                    form: form.into(),
                    why: other.to_string(),
                },
            };
        }
        Error::Compressed {
            form: form.into(),
            why: "it cannot be read".into(),
        }
    }
}

/// Says what was being done when a call failed.
pub(super) trait Doing<T> {
    /// `text` is evaluated only when there is an error to describe.
    fn doing(self, text: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for sys::Result<T> {
    fn doing(self, text: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::System {
            doing: text(),
            source,
        })
    }
}

/// A name from an archive, for people: one line, not longer than a line.
pub(super) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 160;
    let text = String::from_utf8_lossy(name);
    if text.chars().count() <= LONGEST {
        return text.into_owned();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}...")
}

fn at(entry: &str) -> String {
    if entry.is_empty() {
        String::new()
    } else {
        format!(" ({entry:?})")
    }
}

fn way_to(error: &sys::Error) -> &'static str {
    match error.errno {
        Errno::LOOP => "it is a symbolic link: name the file that it leads to",
        _ => "check the path and that its file system is mounted",
    }
}

fn remedy(error: &sys::Error) -> &'static str {
    match error.errno {
        Errno::NOSPC | Errno::DQUOT => "; free some space and try again",
        // Root is refused what makes no sense, such as a default ACL on a file.
        Errno::PERM | Errno::ACCESS if rustix::process::geteuid().is_root() => {
            "; the kernel does not take this here: pack it without"
        }
        Errno::PERM | Errno::ACCESS => "; it needs root",
        Errno::NOTSUP => "; btrfs stores all that the kernel takes: else pack it without",
        _ => "",
    }
}

/// How a failed call crosses the pipe.
mod wire {
    use crate::sys;
    use rustix::io::Errno;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(error: &sys::Error, to: S) -> Result<S::Ok, S::Error> {
        (&error.call, error.errno.raw_os_error()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<sys::Error, D::Error> {
        let (call, errno) = <(String, i32)>::deserialize(from)?;
        Ok(sys::Error::new(call, Errno::from_raw_os_error(errno)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_a_pipe_and_says_the_same() {
        let error = Error::System {
            doing: "making etc/passwd".into(),
            source: sys::Error::new("openat(\"passwd\")", Errno::NOSPC),
        };
        let there = postcard::to_allocvec(&error).unwrap();
        let back: Error = postcard::from_bytes(&there).unwrap();
        assert_eq!(back, error);
        assert!(back.to_string().ends_with("free some space and try again"));
    }

    #[test]
    fn a_long_or_wild_name_is_shown_as_one_short_line() {
        let error = Error::refused(&[b'\n'; 5000], "no");
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
    }
}
