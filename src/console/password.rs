//! The console's password: its hash, as `policy.toml` has it, and what is typed.
//!
//! The hash is a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`) of argon2id, RFC 9106. Nobody sees
//! it here: neither `Debug` nor an error shows it, nor anything that was typed.
//! What is typed, and the memory that the hash was worked out in, is zeroed.

use argon2::password_hash::{Output, PasswordHash, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::Deserialize;
use zeroize::Zeroize;

/// Bytes of a password at the most.
pub const LONGEST: usize = 256;
/// Bytes of the salt: RFC 9106, section 3.1.
pub const SALT: usize = 16;

/// KiB of memory of a new hash; with [`TIMES`] and [`LANES`] the least that OWASP recommends for argon2id (Password
/// Storage Cheat Sheet: "a minimum configuration of 19 MiB of memory, an iteration count of 2, and 1 degree of
/// parallelism").
const MEMORY: u32 = 19_456;
/// Passes over it.
const TIMES: u32 = 2;
/// Lanes.
const LANES: u32 = 1;

/// KiB that a hash may need: small machines have no more to spare before their root is mounted.
const MEMORY_MAX: u32 = 64 << 10;
/// Passes that it may need, so that an answer comes within seconds.
const TIMES_MAX: u32 = 10;
/// Lanes that it may need; here they are worked out one after the other.
const LANES_MAX: u32 = 4;
/// Bytes of the result at the least: 128 bits.
const RESULT_MIN: usize = 16;

/// How a hash that can be used is come by.
const REMEDY: &str = "make one with 'backstay password'";

/// Why a text is no hash that counts here. None of them holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not of that form.
    #[error("password is no hash ($argon2id$...): {REMEDY}")]
    NoHash,
    /// bcrypt, argon2i and others.
    #[error("password is a hash of another kind than argon2id: {REMEDY}")]
    OtherKind,
    /// More than an initramfs can bear.
    #[error(
        "password needs more than an initramfs can bear (64 MiB, t=10, p=4 at the most): {REMEDY}"
    )]
    TooMuch,
    /// No salt, or a result that is guessed.
    #[error("password is a hash without salt or too short: {REMEDY}")]
    TooShort,
}

/// There is not as much memory as the hash needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is not enough memory to check the password")]
pub struct NoMemory;

/// The hash of a password, looked at: it can be worked out here.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Hash(String);

impl core::fmt::Debug for Hash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Hash(hidden)")
    }
}

impl TryFrom<String> for Hash {
    type Error = Fault;

    fn try_from(text: String) -> Result<Hash, Fault> {
        Hash::parse(&text)
    }
}

impl Hash {
    /// Reads a PHC string.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn parse(text: &str) -> Result<Hash, Fault> {
        let hash = PasswordHash::new(text).map_err(|_| Fault::NoHash)?;
        if hash.algorithm != argon2::ARGON2ID_IDENT {
            return Err(Fault::OtherKind);
        }
        let mut salt = [0; 64];
        let salt = hash.salt.and_then(|it| it.decode_b64(&mut salt).ok());
        let result = hash.hash.as_ref().map_or(0, Output::len);
        if salt.is_none_or(|it| it.len() < argon2::MIN_SALT_LEN) || result < RESULT_MIN {
            return Err(Fault::TooShort);
        }
        let version = hash.version.map(Version::try_from).transpose();
        let known = |name: &str| matches!(name, "m" | "t" | "p");
        if version.is_err() || !hash.params.iter().all(|(name, _)| known(name.as_str())) {
            return Err(Fault::NoHash);
        }
        for (name, max) in [("m", MEMORY_MAX), ("t", TIMES_MAX), ("p", LANES_MAX)] {
            match hash.params.get_decimal(name) {
                None => return Err(Fault::NoHash),
                Some(value) if value > max => return Err(Fault::TooMuch),
                Some(_) => {}
            }
        }
        Params::try_from(&hash).map_err(|_| Fault::NoHash)?;
        Ok(Hash(text.to_owned()))
    }

    /// Makes the hash of a password. `None`: there are not 19 MiB of memory.
    pub fn make(password: &[u8], salt: &[u8; SALT]) -> Option<Hash> {
        let params = Params::new(MEMORY, TIMES, LANES, Some(Params::DEFAULT_OUTPUT_LEN)).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut result = [0; Params::DEFAULT_OUTPUT_LEN];
        work_out(&argon2, password, salt, &mut result).ok()?;
        let salt = SaltString::encode_b64(salt).ok()?;
        let hash = PasswordHash {
            algorithm: argon2::ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: argon2.params().try_into().ok()?,
            salt: Some(salt.as_salt()),
            hash: Some(Output::new(&result).ok()?),
        };
        Hash::parse(&hash.to_string()).ok()
    }

    /// Whether it is the hash of this password; compared in constant time.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn is_of(&self, password: &[u8]) -> Result<bool, NoMemory> {
        // Both were possible when it was parsed.
        let Ok(hash) = PasswordHash::new(&self.0) else {
            return Ok(false);
        };
        let (Some(salt), Some(wanted), Ok(params)) =
            (hash.salt, &hash.hash, Params::try_from(&hash))
        else {
            return Ok(false);
        };
        let mut bytes = [0; 64];
        let Ok(salt) = salt.decode_b64(&mut bytes) else {
            return Ok(false);
        };
        let version = hash.version.map(Version::try_from).transpose();
        let version = version.ok().flatten().unwrap_or_default();
        let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
        let mut result = [0; Output::MAX_LENGTH];
        let Some(result) = result.get_mut(..wanted.len()) else {
            return Ok(false);
        };
        work_out(&argon2, password, salt, result)?;
        // Output compares in constant time.
        Ok(Output::new(result).is_ok_and(|result| result == *wanted))
    }

    /// The PHC string, for whoever writes it into policy.toml.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Works a hash out in memory that is asked for first, and zeroed afterwards.
fn work_out(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    result: &mut [u8],
) -> Result<(), NoMemory> {
    let count = argon2.params().block_count();
    let mut blocks: Vec<Block> = Vec::new();
    blocks.try_reserve_exact(count).map_err(|_| NoMemory)?;
    blocks.resize(count, Block::default());
    let done = argon2.hash_password_into_with_memory(password, salt, result, &mut blocks);
    blocks.iter_mut().for_each(Zeroize::zeroize);
    // Lengths and parameters were looked at before: nothing else is left that can fail.
    done.map_err(|_| NoMemory)
}

/// What is being typed, in memory that never moves and is zeroed when it goes.
pub struct Typed {
    bytes: [u8; LONGEST],
    length: usize,
}

impl core::fmt::Debug for Typed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Typed(hidden)")
    }
}

impl Default for Typed {
    fn default() -> Typed {
        Typed {
            bytes: [0; LONGEST],
            length: 0,
        }
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Typed {
    /// One more byte. False: there is no room, and it is not kept.
    pub fn push(&mut self, byte: u8) -> bool {
        let Some(place) = self.bytes.get_mut(self.length) else {
            return false;
        };
        *place = byte;
        self.length += 1;
        true
    }

    /// Takes all of it back.
    pub fn clear(&mut self) {
        self.bytes.zeroize();
        self.length = 0;
    }

    /// What was typed.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's own tests (phc-winner-argon2, src/test.c): t=2, m=2^16, p=1.
    const REFERENCE: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn the_reference_implementations_hash_is_that_of_its_password() {
        let hash = Hash::parse(REFERENCE).unwrap();
        assert_eq!(hash.is_of(b"password"), Ok(true));
        assert_eq!(hash.is_of(b"passwore"), Ok(false));
        assert_eq!(hash.is_of(b""), Ok(false));
    }

    #[test]
    fn what_is_made_has_owasps_parameters_and_is_of_its_password_alone() {
        let hash = Hash::make("pass wörd".as_bytes(), &[7; SALT]).unwrap();
        let text = hash.reveal();
        let head = "$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$";
        assert!(text.starts_with(head), "{text}");
        assert_eq!(Hash::parse(text), Ok(hash.clone()));
        assert_eq!(hash.is_of("pass wörd".as_bytes()), Ok(true));
        assert_eq!(hash.is_of("pass wörd ".as_bytes()), Ok(false));
        assert_ne!(Hash::make(b"p", &[8; SALT]), Hash::make(b"p", &[9; SALT]));
    }

    #[test]
    fn what_is_no_hash_or_cannot_be_borne_is_refused_with_the_remedy() {
        let with = |from: &str, to: &str| REFERENCE.replace(from, to);
        for (text, fault) in [
            (String::new(), Fault::NoHash),
            ("hunter2".into(), Fault::NoHash),
            (with("m=65536,t=2,p=1", "m=65536"), Fault::NoHash),
            (with("m=65536,t=2,p=1$", ""), Fault::NoHash),
            (with("v=19", "v=20"), Fault::NoHash),
            (with("p=1", "p=0"), Fault::NoHash),
            (with("t=2", "t=0"), Fault::NoHash),
            (with("m=65536", "m=7"), Fault::NoHash),
            (with("p=1", "p=1,data=c29tZQ"), Fault::NoHash),
            (with("argon2id", "argon2i"), Fault::OtherKind),
            (with("argon2id", "argon2d"), Fault::OtherKind),
            (with("argon2id", "scrypt"), Fault::OtherKind),
            (with("m=65536", "m=65537"), Fault::TooMuch),
            (with("m=65536", "m=4294967295"), Fault::TooMuch),
            (with("t=2", "t=11"), Fault::TooMuch),
            (with("p=1", "p=5"), Fault::TooMuch),
            (with("c29tZXNhbHQ", "c29tQQ"), Fault::TooShort),
            (with("5c8y7cJHAph8ArZWb2GRPPc", ""), Fault::TooShort),
            (
                with("$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", ""),
                Fault::TooShort,
            ),
        ] {
            assert_eq!(Hash::parse(&text), Err(fault), "{text}");
            let said = fault.to_string();
            assert!(said.contains("backstay password"), "{said}");
            assert!(!said.contains('\n') && !said.contains("hunter2"), "{said}");
        }
        assert!(Hash::parse(&with("t=2,p=1", "t=10,p=4")).is_ok());
    }

    #[test]
    fn neither_the_hash_nor_what_is_typed_is_shown() {
        let hash = Hash::parse(REFERENCE).unwrap();
        let mut typed = Typed::default();
        b"hunter2"
            .iter()
            .for_each(|byte| assert!(typed.push(*byte)));
        let shown = format!("{hash:?} {hash:#?} {typed:?} {typed:#?}");
        for secret in ["argon2", "CTFh", "c29t", "hunter", "104", "[", "7"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_is_taken_back_is_zeroed_and_no_more_than_the_longest_is_kept() {
        let mut typed = Typed::default();
        for _ in 0..LONGEST {
            assert!(typed.push(b'x'));
        }
        assert!(!typed.push(b'x'));
        assert_eq!(typed.as_bytes(), [b'x'; LONGEST]);
        typed.clear();
        assert_eq!((typed.bytes, typed.length), ([0; LONGEST], 0));
    }
}
