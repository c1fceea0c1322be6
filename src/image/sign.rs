//! A minisign signature of an archive, as `minisign -S` and rsign make them.
//!
//! Only the admin command signs; the agent has the verifying half, which is another crate. The trusted
//! comment, which the signature covers, holds the archive's length before compression and the number of
//! its entries: the verifier knows both before it extracts. The signature covers a BLAKE2b digest of
//! the file (minisign's prehashed form), so it is made in one pass without the file in memory. The
//! crate mixes random bytes into Ed25519's nonce, against faulty hardware: two signatures of one file
//! differ, and both are good.

use super::base64;
use super::pack::Packed;
use minisign::{PError, PublicKey, SecretKey, SecretKeyBox};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The comment that no signature covers.
const COMMENT: &str = "signature of a backstay factory archive";
/// How a key that is encrypted with a password begins: `Ed`, then scrypt's `Sc`, in base64.
const ENCRYPTED: &str = "RWRTY";

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is another kind of file.
    #[error(
        "{0:?} is no secret key of minisign: 'minisign -G -s FILE' makes one, with -W without a password"
    )]
    NoKey(PathBuf),
    /// The key stayed locked.
    #[error("the secret key {0:?} stays locked: {1}")]
    Locked(PathBuf, PError),
    /// The password could not be asked for.
    #[error("the secret key {0:?} has a password: {1}")]
    NoPassword(PathBuf, std::io::Error),
    /// Signing itself.
    #[error("signing the archive: {0}")]
    Signing(PError),
}

/// Reads a secret key from its file's bytes; `path` is for messages. `password` is asked for one only where the key has one.
pub fn secret_key(
    path: &Path,
    bytes: &[u8],
    password: impl FnOnce() -> std::io::Result<String>,
) -> Result<SecretKey, Error> {
    let no_key = |_| Error::NoKey(path.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NoKey(path.to_owned()))?;
    let encrypted = text
        .lines()
        .nth(1)
        .is_some_and(|line| line.starts_with(ENCRYPTED));
    if !encrypted {
        return open_key(text).ok_or_else(|| Error::NoKey(path.to_owned()));
    }
    let key = SecretKeyBox::from_string(text).map_err(no_key)?;
    let password = password().map_err(|error| Error::NoPassword(path.to_owned(), error))?;
    key.into_secret_key(Some(password))
        .map_err(|error| Error::Locked(path.to_owned(), error))
}

/// A key without a password. The crate's own reader wants a checksum that minisign 0.11 leaves zero; that
/// the two halves of the key belong together is seen when it signs.
fn open_key(text: &str) -> Option<SecretKey> {
    let bytes = base64::decode(text.lines().nth(1)?.trim().as_bytes())?;
    // Ed25519, no key derivation, BLAKE2b.
    match bytes.starts_with(b"Ed\0\0B2") {
        true => SecretKey::from_bytes(&bytes).ok(),
        false => None,
    }
}

/// The signature of what `archive` gives, as the text of a `.minisig` file.
pub fn sign(key: &SecretKey, archive: impl Read, packed: Packed) -> Result<String, Error> {
    let comment = format!("bytes={} entries={}", packed.bytes, packed.entries);
    let public = PublicKey::from_secret_key(key).map_err(Error::Signing)?;
    minisign::sign(Some(&public), key, archive, Some(&comment), Some(COMMENT))
        .map(|signature| signature.to_string())
        .map_err(Error::Signing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisign::KeyPair;

    const PACKED: Packed = Packed {
        entries: 3,
        bytes: 4096,
    };

    #[test]
    fn the_other_crate_accepts_it_and_finds_the_length_in_it() {
        let keys = KeyPair::generate_unencrypted_keypair().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let text = keys.sk.to_box(None).unwrap().to_string();
        std::fs::write(&path, text).unwrap();
        let key = secret_key(&path, &std::fs::read(&path).unwrap(), || {
            panic!("it has no password")
        })
        .unwrap();
        let text = sign(&key, b"archive".as_slice(), PACKED).unwrap();

        let public = minisign_verify::PublicKey::from_base64(&keys.pk.to_base64()).unwrap();
        let signature = minisign_verify::Signature::decode(&text).unwrap();
        assert_eq!(signature.trusted_comment(), "bytes=4096 entries=3");
        // Not the legacy form.
        public.verify(b"archive", &signature, false).unwrap();
        assert!(public.verify(b"archivf", &signature, false).is_err());
    }

    /// Made by `minisign -G -W` for this test.
    const OPEN: &str = "untrusted comment: minisign secret key\nRWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgHcoi4NXj0Aa\
        OYRhoN5oUj51c/jDZvnpoAGaGkxwqy4GVpge7h3XGnsLUgiEuilhZrl0bI+XhqpLNtuoKrvcQ1q5RbANdcTcAAAA\
        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    #[test]
    fn a_key_that_minisign_made_without_a_password_signs_and_a_damaged_one_does_not() {
        let key = open_key(OPEN).unwrap();
        assert!(sign(&key, b"archive".as_slice(), PACKED).is_ok());
        // A bit of the secret half.
        let damaged = open_key(&OPEN.replacen("oN5oUj", "AN5oUj", 1)).unwrap();
        assert!(sign(&damaged, b"archive".as_slice(), PACKED).is_err());
        assert!(open_key("untrusted comment: x\nRWRTY0Iy\n").is_none());
    }

    /// Made by `minisign -G` for this test; its password is `right`.
    const LOCKED: &str = "untrusted comment: minisign encrypted secret key\n\
        RWRTY0IyyNEy/wQfnzyWmg++JgFtLi9ooOLPAvAX/kz6WU/RiPIAAAACAAAAAAAAAEAAAAAAsAlqW/L8RlHKlp+Sqt5D\
        4beC2YNXWBzBDTmCwvXAqZeQ2u5stDFXI//ryzGhWRZzOvf55CZLnlM076fYAC4Uca9oRFHg2m4cpoyyaSIUWQwvO0dc\
        Q2A6ojR8qcR2D1e1hgo6/Moc57g=\n";

    #[test]
    fn a_wrong_password_and_a_wrong_file_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, LOCKED).unwrap();
        let none = || Err(std::io::Error::other("no terminal"));
        assert!(matches!(
            secret_key(&path, &std::fs::read(&path).unwrap(), none),
            Err(Error::NoPassword(..))
        ));
        // Each try costs a second and a GiB: scrypt is meant to. The right one is in cargo image-check.
        let wrong = secret_key(&path, &std::fs::read(&path).unwrap(), || {
            Ok("wrong".to_owned())
        });
        assert!(matches!(wrong, Err(Error::Locked(..))));
        std::fs::write(&path, "no key\nat all\n").unwrap();
        assert!(matches!(
            secret_key(&path, &std::fs::read(&path).unwrap(), none),
            Err(Error::NoKey(..))
        ));
    }
}
