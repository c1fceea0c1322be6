//! What the recovery kernel in a store trusts: the keys and the policy that are in its initramfs, and not
//! those of a system, which it would have if it were made anew.

use super::build::text;
use super::error::Result;
use super::recovery::Recovery;
use crate::agent::policy;
use crate::image::{Keys, Trust, Verified};

/// The keys and the policy of a recovery kernel.
#[derive(Debug)]
pub struct Trusted {
    /// Those that can be used; the agent leaves the others out, too.
    pub keys: Keys,
    /// Whether it takes a tarball without a signature.
    pub unsigned: bool,
}

/// What the recovery kernel trusts; `None` where there is none.
pub fn by_recovery_kernel(recovery: &Recovery) -> Result<Option<Trusted>> {
    if recovery.missing().is_some() {
        return Ok(None);
    }
    let settings = recovery.settings()?;
    let mut keys = Vec::new();
    let mut unsigned = false;
    for (name, bytes) in settings {
        if name.starts_with("keys/") {
            keys.push((name, text(bytes)));
        } else if name == "policy.toml" {
            unsigned = policy::parse(&text(bytes)).is_ok_and(|policy| policy.tarball.unsigned);
        }
    }
    Ok(Some(Trusted {
        keys: Keys::among(&keys, &mut |_| {}),
        unsigned,
    }))
}

impl Trusted {
    /// Why the agent would refuse the archive, with the way out.
    pub fn refusal(&self, archive: &Verified, signature: Option<&str>) -> Option<String> {
        match Trust::of(&self.keys, signature, self.unsigned) {
            Some(Trust::Unsigned) => None,
            Some(Trust::Signed { keys, signature }) => {
                (!archive.is_signed_by(keys, signature)).then(|| self.untrusted(archive))
            }
            None => Some(
                "is not signed: sign it, or write 'unsigned = true' below '[tarball]' in \
                 /etc/backstay/policy.toml and run 'backstay recovery install'; then keep it again"
                    .to_owned(),
            ),
        }
    }

    fn untrusted(&self, archive: &Verified) -> String {
        let whose = match self.keys.is_empty() {
            true => "is signed, and it trusts no key",
            false => "is signed by a key that it does not trust",
        };
        let signer = archive.signer().unwrap_or_default();
        format!(
            "{whose}: put the key {signer} into /etc/backstay/keys and run 'backstay recovery install'; \
             then keep it again"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Archive, verify};
    use minisign::KeyPair;
    use std::io::Write;
    use std::path::Path;

    fn archive(here: &Path, key: &KeyPair) -> (Verified, String) {
        let path = here.join("a.tar");
        std::fs::write(&path, [0; 1024]).unwrap();
        let signed = minisign::sign(Some(&key.pk), &key.sk, &[0; 1024][..], None, None);
        let signature = signed.unwrap().to_string();
        let keys = Keys::parse(&[("k".into(), public(key))]).unwrap();
        let trust = Trust::Signed {
            keys: &keys,
            signature: &signature,
        };
        let archive = verify(Archive::open(&path).unwrap(), &trust, &mut |_| {}).unwrap();
        (archive, signature)
    }

    fn public(key: &KeyPair) -> String {
        key.pk.to_box().unwrap().to_string()
    }

    /// A store whose recovery kernel's initramfs holds these files.
    fn store(here: &Path, files: &[(&str, &str)]) {
        let directory = here.join("@backstay/kernels/recovery");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("vmlinuz"), "a kernel").unwrap();
        let mut image = std::fs::File::create(directory.join("initrd.img")).unwrap();
        for (name, text) in [("init", "the agent")].iter().chain(files) {
            let entry = cpio::newc::Builder::new(name).mode(0o100_644);
            let mut entry = entry.write(&mut image, u32::try_from(text.len()).unwrap());
            entry.write_all(text.as_bytes()).unwrap();
            entry.finish().unwrap();
        }
        cpio::newc::trailer(image).unwrap();
    }

    #[test]
    fn what_counts_is_in_the_recovery_kernel_and_not_in_a_system() {
        let here = tempfile::tempdir().unwrap();
        let top = here.path();
        let recovery = Recovery::in_store(top);
        assert!(by_recovery_kernel(&recovery).unwrap().is_none());
        store(top, &[]);
        std::fs::write(recovery.directory().join("initrd.img"), "no archive").unwrap();
        let unread = by_recovery_kernel(&recovery).unwrap_err().to_string();
        assert!(unread.contains("'backstay recovery install'"), "{unread}");
        let [key, other] = [(); 2].map(|()| KeyPair::generate_unencrypted_keypair().unwrap());
        let (archive, signature) = archive(top, &key);
        let refusal = |files: &[(&str, &str)], signature: Option<&str>| {
            store(top, files);
            let trusted = by_recovery_kernel(&recovery).unwrap().unwrap();
            trusted.refusal(&archive, signature)
        };
        let signature = Some(signature.as_str());
        let (own, others) = (public(&key), public(&other));
        let trusts = ("etc/backstay/keys/a.pub", own.as_str());
        let does_not = ("etc/backstay/keys/a.pub", others.as_str());
        let lax = ("etc/backstay/policy.toml", "[tarball]\nunsigned = true\n");
        let garbage = ("etc/backstay/keys/0.pub", "no key");
        // One that cannot be used takes nothing from the others.
        assert_eq!(refusal(&[trusts, garbage], signature), None);
        let text = refusal(&[does_not], signature).unwrap();
        assert!(text.contains("does not trust: put the key"), "{text}");
        assert!(refusal(&[], signature).unwrap().contains("trusts no key"));
        assert!(
            refusal(&[trusts], None)
                .unwrap()
                .contains("'unsigned = true'")
        );
        assert_eq!(refusal(&[lax], None), None);
        // A signature that is there must hold, unless there is no key to say whose it is.
        assert!(refusal(&[lax, does_not], signature).is_some());
        assert_eq!(refusal(&[lax], signature), None);
    }
}
