//! Where systemd noted in the firmware that it hibernates to (sleep.conf(5), since version 254): the one record of an
//! image in a swap file that no `resume=` names.

use crate::agent::modules::Modules;
use crate::agent::mount;
use crate::sys::mount::{self as sys_mount, MountFlags};
use serde::Deserialize;
use std::path::Path;

const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// The variable, with systemd's vendor UUID.
const VARIABLE: &str = "HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67";
/// efivarfs puts the variable's attributes before its value.
const ATTRIBUTES: usize = 4;

/// Where an image may be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Location {
    /// The UUID of the swap area, or of the swap file's file system.
    pub uuid: String,
    /// In pages.
    pub offset: u64,
}

/// Makes [`location`] work.
pub fn prepare(modules: &mut Modules) {
    if Path::new(EFIVARS).exists() && !mount::is_mount_point(Path::new(EFIVARS)) {
        modules.load("efivarfs");
    }
}

/// What the firmware says. A variable that cannot be read says nothing: systemd would not find an image by it either.
pub fn location() -> Option<Location> {
    let at = Path::new(EFIVARS);
    if !at.exists() {
        return None;
    }
    let is_ours = !mount::is_mount_point(at);
    if is_ours {
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if let Err(error) = sys_mount::mount("efivarfs", at, "efivarfs", flags, "") {
            log::warn!("the firmware's variables cannot be read: {error}");
            return None;
        }
    }
    let value = std::fs::read(at.join(VARIABLE));
    if is_ours && let Err(error) = mount::unmount(at) {
        log::warn!("{error}");
    }
    match value {
        Ok(value) => {
            let location = parse(&value);
            if location.is_none() {
                log::warn!("the firmware's HibernateLocation is not understood, and ignored");
            }
            location
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            log::warn!("the firmware's HibernateLocation cannot be read: {error}");
            None
        }
    }
}

/// JSON in UTF-16, that a NUL may end.
fn parse(value: &[u8]) -> Option<Location> {
    let (units, _) = value.get(ATTRIBUTES..)?.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let text = String::from_utf16(&units).ok()?;
    serde_json::from_str(text.trim_end_matches('\0')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(text: &str) -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [7, 0, 0, 0].into_iter().chain(units).collect()
    }

    #[test]
    fn the_variable_names_a_file_system_and_an_offset_in_pages() {
        let text = r#"{"uuid":"570c4000-5702-4000-8000-00000000b575","offset":69632,"kernelVersion":"6.12.1","osReleaseId":"debian"}"#;
        let location = Location {
            uuid: "570c4000-5702-4000-8000-00000000b575".to_owned(),
            offset: 69632,
        };
        assert_eq!(parse(&variable(text)), Some(location.clone()));
        assert_eq!(parse(&variable(&format!("{text}\0"))), Some(location));
    }

    #[test]
    fn what_is_no_location_is_none() {
        for value in [
            vec![],
            vec![7, 0, 0],
            variable(""),
            variable("{}"),
            variable(r#"{"uuid":"x"}"#),
            variable(r#"{"uuid":"x","offset":-1}"#),
            [variable(r#"{"uuid":"x","offset":1"#), vec![0]].concat(),
            // Half of a surrogate pair.
            vec![7, 0, 0, 0, 0, 0xd8],
        ] {
            assert_eq!(parse(&value), None, "{value:?}");
        }
    }
}
