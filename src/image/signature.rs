//! The first pass: minisign over the whole archive.
//!
//! Every byte is read and hashed before one is interpreted. The hash, BLAKE2b-512, is the very digest
//! that minisign signs (its prehashed form), and it is kept: the second pass hashes what it extracts
//! and compares, so that an archive that changed in between is noticed.

use std::path::Path;

use minisign_verify::{PublicKey, Signature};

use super::archive::Archive;
use super::base64;
use super::error::{Doing, Error, Result};
use super::progress::Progress;
use super::read::hash;
use crate::sys::Context;

/// Bytes of a signature at the most; minisign's have about 300.
pub const SIGNATURE_MAX: u64 = 4096;
/// Kept free beyond what an archive declares, in bytes.
const RESERVE: u64 = 64 << 20;

/// The public keys that are trusted.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: [u8; 8],
    key: PublicKey,
}

/// How an archive is to be trusted.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// One of the keys must have signed it.
    Signed {
        /// The keys.
        keys: &'a Keys,
        /// The text of the .minisig file.
        signature: &'a str,
    },
    /// Somebody with the right to decide that has said that no signature is asked for.
    Unsigned,
}

impl<'a> Trust<'a> {
    /// What a recovery kernel with these keys, whose policy allows unsigned archives or not, asks of an
    /// archive with this signature; `None` where it refuses an archive for having none.
    pub fn of(keys: &'a Keys, signature: Option<&'a str>, unsigned: bool) -> Option<Trust<'a>> {
        match signature {
            // Where there is no key, nobody can say whose it is.
            Some(signature) if !(unsigned && keys.is_empty()) => {
                Some(Trust::Signed { keys, signature })
            }
            _ => unsigned.then_some(Trust::Unsigned),
        }
    }
}

/// An archive every byte of which was read, and whose signature holds where one was asked for. Only
/// [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    archive: Archive,
    digest: [u8; 64],
    signer: Option<String>,
    /// `bytes=N` in the trusted comment.
    commented: Option<u64>,
}

impl Keys {
    /// Keys from texts, each with a name for messages: what minisign writes to a .pub file, or the
    /// line of base64 in it alone.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn parse(texts: &[(String, String)]) -> Result<Keys> {
        let keys = texts.iter().map(|(name, text)| {
            let wrong = |why: &str| Error::Key {
                name: name.clone(),
                why: why.to_owned(),
            };
            let line = text
                .lines()
                .map(str::trim)
                .find(is_key_line)
                .ok_or_else(|| wrong("it holds no key"))?;
            let keys = text.lines().map(str::trim).filter(is_key_line).count();
            if keys > 1 {
                return Err(wrong("it holds more than one key"));
            }
            let key = PublicKey::from_base64(line).map_err(|error| wrong(&error.to_string()))?;
            let bytes = base64::decode(line.as_bytes()).unwrap_or_default();
            let id = key_id(&bytes).ok_or_else(|| wrong("it is too short"))?;
            Ok(Key { id, key })
        });
        Ok(Keys(keys.collect::<Result<_>>()?))
    }

    /// The keys among these texts; `skipped` gets the error of each that is none. To trust fewer is no
    /// danger, and one bad file must not take the others' trust.
    pub fn among(texts: &[(String, String)], skipped: &mut dyn FnMut(Error)) -> Keys {
        let mut keys = Keys::default();
        for text in texts {
            match Keys::parse(std::slice::from_ref(text)) {
                Ok(key) => keys.0.extend(key.0),
                Err(error) => skipped(error),
            }
        }
        keys
    }

    /// Every `*.pub` in a directory, sorted by name; a missing directory is no keys. `skipped` as in
    /// [`Keys::among`].
    ///
    /// # Errors
    /// [`Error::System`] when the directory or a file in it cannot be read.
    pub fn read(directory: &Path, skipped: &mut dyn FnMut(Error)) -> Result<Keys> {
        let shown = directory.display().to_string();
        let doing = || format!("reading the public keys in {shown}");
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Keys::default());
            }
            Err(error) => {
                return Err(error)
                    .call(|| format!("opendir({shown:?})"))
                    .doing(doing);
            }
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry
                .call(|| format!("readdir({shown:?})"))
                .doing(doing)?
                .path();
            if path.extension().is_some_and(|extension| extension == "pub") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut texts = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path)
                .call(|| format!("read({name:?})"))
                .doing(doing)?;
            texts.push((name, text));
        }
        Ok(Keys::among(&texts, skipped))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Verified {
    /// Bytes of the archive after decompression, as they are stated: by `bytes=N` in the signed
    /// comment, else by the file itself (zstd's first frame, xz's index, a plain archive's length).
    /// Nothing depends on its being right.
    pub fn declared_size(&self) -> Option<u64> {
        self.commented.or_else(|| self.archive.stated_size())
    }

    /// Bytes that must be free before it is extracted: what is declared, and a reserve for metadata, and so
    /// that the machine is not left on a full disk.
    pub fn room(&self) -> u64 {
        self.declared_size().unwrap_or(0).saturating_add(RESERVE)
    }

    /// The archive's name, for messages.
    pub fn name(&self) -> &str {
        self.archive.name()
    }

    /// The id of the key that signed it, in hexadecimal as minisign shows it; `None` when no signature
    /// was asked for.
    pub fn signer(&self) -> Option<String> {
        self.signer.clone()
    }

    /// Whether this signature of one of these keys holds: of the bytes that were read, which are not read
    /// again.
    pub fn is_signed_by(&self, keys: &Keys, signature: &str) -> bool {
        Claims::read(&self.archive, keys, signature)
            .and_then(|claims| claims.check(&self.archive, &self.digest))
            .is_ok()
    }

    /// BLAKE2b-512 of the whole file.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }

    pub(super) fn archive(&self) -> &Archive {
        &self.archive
    }
}

/// Reads and hashes the whole archive, and checks its signature if one is asked for.
///
/// # Errors
/// One of the signature's; [`Error::Changed`] when the file's length changes meanwhile;
/// [`Error::System`] when it cannot be read.
pub fn verify(
    archive: Archive,
    trust: &Trust<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verified> {
    // What can be told from the signature alone is told before gigabytes are read.
    let claims = match trust {
        Trust::Signed { keys, signature } => Some(Claims::read(&archive, keys, signature)?),
        Trust::Unsigned => None,
    };
    let digest = hash(&archive, progress)?;
    let (signer, commented) = match claims {
        Some(claims) => {
            let claim = claims.check(&archive, &digest)?;
            (Some(claim.signer), claim.commented)
        }
        None => (None, None),
    };
    Ok(Verified {
        archive,
        digest,
        signer,
        commented,
    })
}

/// Whether a text has the form of a signature; not whose, nor of what.
pub fn is_signature(text: &str) -> bool {
    Signature::decode(text).is_ok()
}

/// A signature that can be read, and the keys whose id it bears.
struct Claim<'a> {
    keys: Vec<&'a Key>,
    /// Over the digest, as a signature of the old form: see [`Claim::read`].
    signature: Signature,
    signer: String,
    commented: Option<u64>,
}

/// The claims of a file of signatures; each has four lines. There are two while one archive takes the place
/// of another.
struct Claims<'a>(Vec<Claim<'a>>);

impl<'a> Claims<'a> {
    /// At least one; an error where none can be read, and that of the first.
    fn read(archive: &Archive, keys: &'a Keys, text: &str) -> Result<Claims<'a>> {
        let lines: Vec<&str> = text.lines().collect();
        let mut claims = Vec::new();
        let mut first = None;
        // A text without a line is a signature that lacks all of them.
        for lines in lines.chunks(4).chain(lines.is_empty().then_some(&[][..])) {
            match Claim::read(archive, keys, lines) {
                Ok(claim) => claims.push(claim),
                Err(error) => first = first.or(Some(error)),
            }
        }
        match first.filter(|_| claims.is_empty()) {
            Some(error) => Err(error),
            None => Ok(Claims(claims)),
        }
    }

    /// The claim that holds; an error where none does, and that of the first.
    fn check(self, archive: &Archive, digest: &[u8; 64]) -> Result<Claim<'a>> {
        let mut first = None;
        for claim in self.0 {
            match claim.check(archive, digest) {
                Ok(()) => return Ok(claim),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(Error::NoKeys))
    }
}

impl<'a> Claim<'a> {
    fn read(archive: &Archive, keys: &'a Keys, lines: &[&str]) -> Result<Claim<'a>> {
        let name = || archive.name().to_owned();
        let unreadable = |why: &str| Error::SignatureUnreadable {
            name: name(),
            why: why.to_owned(),
        };
        if keys.is_empty() {
            return Err(Error::NoKeys);
        }
        let [untrusted, line, comment, global] = lines else {
            return Err(unreadable("it has fewer than four lines"));
        };
        let line = line.trim_end();
        let bytes = base64::decode(line.as_bytes()).unwrap_or_default();
        let Some(id) = key_id(&bytes) else {
            return Err(unreadable("its second line is no signature"));
        };
        let signer = shown_id(id);
        match bytes.get(..2) {
            Some(b"ED") => {}
            Some(b"Ed") => return Err(Error::SignatureLegacy { name: name() }),
            _ => return Err(unreadable("it is of a kind that minisign does not make")),
        }
        let trusted: Vec<&Key> = keys.0.iter().filter(|key| key.id == id).collect();
        if trusted.is_empty() {
            return Err(Error::SignatureKey {
                name: name(),
                key: signer,
            });
        }
        // A prehashed signature ("ED", base64 RU…) of a file is a signature of the old form ("Ed",
        // RW…) of the file's BLAKE2b-512. Written so, minisign-verify checks a digest that we
        // computed, and the archive is hashed once and not twice.
        let old = line.replacen("RU", "RW", 1);
        let lines = [untrusted.trim_end(), &old, comment, global.trim_end()];
        let signature = Signature::decode(&lines.join("\n"))
            .map_err(|error| unreadable(&error.to_string().to_lowercase()))?;
        let commented = signature
            .trusted_comment()
            .split_whitespace()
            .find_map(|word| word.strip_prefix("bytes=")?.parse().ok());
        Ok(Claim {
            keys: trusted,
            signature,
            signer,
            commented,
        })
    }

    fn check(&self, archive: &Archive, digest: &[u8; 64]) -> Result<()> {
        let holds = |key: &&Key| key.key.verify(digest, &self.signature, true).is_ok();
        if self.keys.iter().any(holds) {
            return Ok(());
        }
        Err(Error::SignatureWrong {
            name: archive.name().to_owned(),
            key: self.signer.clone(),
        })
    }
}

/// Two bytes of the algorithm, eight of the id, then the key or the signature.
fn key_id(bytes: &[u8]) -> Option<[u8; 8]> {
    bytes.get(2..10)?.try_into().ok()
}

fn is_key_line(line: &&str) -> bool {
    !line.is_empty() && !line.starts_with("untrusted comment:")
}

/// As minisign shows it.
fn shown_id(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::forge::Forge;
    use crate::image::progress::Phase;
    use minisign::KeyPair;

    fn archive(bytes: &[u8]) -> Archive {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Archive::from_file(file, "factory.tar".into()).unwrap()
    }

    fn signed(key: &KeyPair, bytes: &[u8], comment: &str) -> String {
        let signature = minisign::sign(Some(&key.pk), &key.sk, bytes, Some(comment), None);
        signature.unwrap().to_string()
    }

    fn trusting(keys: &[&KeyPair]) -> Keys {
        let text = |key: &&KeyPair| ("vendor.pub".into(), key.pk.to_box().unwrap().to_string());
        Keys::parse(&keys.iter().map(text).collect::<Vec<_>>()).unwrap()
    }

    fn check(bytes: &[u8], keys: &Keys, signature: &str) -> Result<Verified> {
        verify(
            archive(bytes),
            &Trust::Signed { keys, signature },
            &mut |_| {},
        )
    }

    #[test]
    fn a_signed_archive_is_verified_and_says_by_whom_and_how_large_it_is() {
        let (other, key) = (
            KeyPair::generate_unencrypted_keypair().unwrap(),
            KeyPair::generate_unencrypted_keypair().unwrap(),
        );
        let bytes = Forge::new().file("f", &vec![7; 3 << 20]).end();
        let signature = signed(&key, &bytes, "timestamp:1 bytes=12345\tfile:x");
        let mut last = 0;
        let keys = trusting(&[&other, &key]);
        let trust = Trust::Signed {
            keys: &keys,
            signature: &signature,
        };
        let verified = verify(archive(&bytes), &trust, &mut |progress| {
            assert!(progress.phase == Phase::Verify && progress.done > last);
            last = progress.done;
        })
        .unwrap();
        assert_eq!(last, bytes.len() as u64);
        assert_eq!(verified.declared_size(), Some(12345));
        assert_eq!(verified.digest(), blake2b_simd::blake2b(&bytes).as_bytes());
        // As minisign shows it: the id is in the box's comment.
        let shown = key.pk.to_box().unwrap().to_string();
        assert!(shown.contains(&verified.signer().unwrap()), "{shown}");
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let key = KeyPair::generate_unencrypted_keypair().unwrap();
        let keys = trusting(&[&key]);
        let bytes = Forge::new().file("f", b"content").end();
        let signature = signed(&key, &bytes, "c");
        check(&bytes, &keys, &signature).unwrap();
        for at in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            // The magic may be hit, which is another error.
            if (257..262).contains(&at) {
                continue;
            }
            let error = check(&flipped, &keys, &signature).unwrap_err();
            assert!(matches!(error, Error::SignatureWrong { .. }), "{error}");
            let cut = &bytes[..at.max(512)];
            let error = check(cut, &keys, &signature).unwrap_err();
            assert!(matches!(error, Error::SignatureWrong { .. }), "{error}");
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert!(check(&longer, &keys, &signature).is_err());
        for at in 0..signature.len() {
            // The first comment is not signed, as it says itself; nor is the newline at the end.
            let mut flipped = signature.clone().into_bytes();
            flipped[at] ^= 1;
            let Ok(flipped) = String::from_utf8(flipped) else {
                continue;
            };
            let first = signature.find('\n').unwrap();
            let checked = check(&bytes, &keys, &flipped);
            assert!(
                checked.is_err() || at < first || at + 1 == signature.len(),
                "{flipped}"
            );
            assert!(check(&bytes, &keys, &signature[..at.saturating_sub(1)]).is_err());
        }
    }

    #[test]
    fn each_kind_of_wrong_signature_has_its_own_words_and_remedy() {
        let (key, other) = (
            KeyPair::generate_unencrypted_keypair().unwrap(),
            KeyPair::generate_unencrypted_keypair().unwrap(),
        );
        let bytes = Forge::new().end();
        let good = signed(&key, &bytes, "c");
        // Minisign's old form differs in the algorithm, which is the second letter's bits.
        let legacy = good.replacen("\nRU", "\nRW", 1);
        let comment = good.replace("trusted comment: c", "trusted comment: bytes=1");
        let wrong = signed(&key, b"another archive", "c");
        let foreign = signed(&other, &bytes, "c");
        let keys = trusting(&[&key]);
        let cases = [
            (&keys, legacy.as_str(), "without -l"),
            (&keys, &comment, "does not match"),
            (&keys, &wrong, "does not match"),
            (&keys, &foreign, "not trusted here"),
            (&keys, "", "fewer than four lines"),
            (
                &keys,
                &good[..good.len() / 2],
                "get the .minisig file again",
            ),
            (&keys, "a\nb\nc\nd\n", "no signature"),
            (&Keys::default(), &good, "no public key is installed"),
        ];
        for (keys, signature, words) in cases {
            let error = check(&bytes, keys, signature).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let verified = verify(archive(&bytes), &Trust::Unsigned, &mut |_| {}).unwrap();
        assert_eq!(verified.signer(), None);
        assert_eq!(verified.declared_size(), Some(bytes.len() as u64));
    }

    #[test]
    fn keys_are_read_from_a_directory_and_a_file_that_is_none_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let mut skipped = Vec::new();
            let mut skip = |error: Error| skipped.push(error.to_string());
            let keys = Keys::read(&directory.path().join(name), &mut skip).unwrap();
            (keys.0.len(), skipped)
        };
        assert_eq!(read("none"), (0, Vec::new()));
        let key = KeyPair::generate_unencrypted_keypair().unwrap();
        let text = key.pk.to_box().unwrap().to_string();
        std::fs::write(directory.path().join("a.pub"), &text).unwrap();
        std::fs::write(directory.path().join("b.pub"), key.pk.to_base64()).unwrap();
        std::fs::write(directory.path().join("README"), "no key").unwrap();
        assert_eq!(read(""), (2, Vec::new()));
        // One that cannot be used, or is not clear, takes nothing from the others.
        std::fs::write(directory.path().join("0.pub"), "rubbish").unwrap();
        std::fs::write(directory.path().join("c.pub"), format!("{text}{text}")).unwrap();
        let (keys, skipped) = read("");
        assert_eq!((keys, skipped.len()), (2, 2));
        assert!(skipped[0].contains("0.pub") && skipped[1].contains("more than one"));
    }

    #[test]
    fn of_several_signatures_one_must_hold_and_one_that_cannot_be_read_is_no_matter() {
        let [key, other] = [(); 2].map(|()| KeyPair::generate_unencrypted_keypair().unwrap());
        let bytes = Forge::new().end();
        let good = signed(&key, &bytes, "c ");
        let stale = signed(&key, b"another archive", "c");
        let foreign = signed(&other, &bytes, "c");
        let keys = trusting(&[&key]);
        for before in [&stale, &foreign, "a\nb\nc\nd\n"] {
            for text in [format!("{before}{good}"), format!("{good}{before}")] {
                let verified = check(&bytes, &keys, &text).unwrap();
                assert!(verified.is_signed_by(&keys, &text));
            }
        }
        for text in [format!("{stale}{foreign}"), format!("{foreign}{stale}")] {
            assert!(check(&bytes, &keys, &text).is_err());
        }
    }
}
