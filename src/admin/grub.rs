//! GRUB's files in the store: the menu, which is the same on every machine, the settings, and the
//! spare hint for a full disk.

use super::error::{Error, Result};
use super::files::replace;
use super::request::SPARE;
use crate::record::Uuid;
use crate::store::place::STORE;
use crate::transaction::execute::ARMED;
use std::path::Path;

/// The entries, the same on every machine.
const ENTRIES: &str = include_str!("../../grub-entries/menu.cfg");
/// The whole menu of an appliance.
const MENU: &str = concat!(
    include_str!("../../grub-entries/appliance.cfg"),
    include_str!("../../grub-entries/menu.cfg")
);
const HEAD: &str = "# What GRUB's menu needs to know about this machine. 'backstay init' writes the\n\
                    # lines below and leaves all others alone.\n";

/// Writes the menu, the settings and the spare. Lines of the settings that are not ours stay. On disk after
/// the next sync. Says whether the settings were no text and were put aside.
pub fn install(top: &Path, uuid: Uuid, live: &str, cmdline: Option<&str>) -> Result<bool> {
    let directory = top.join(STORE).join("grub");
    std::fs::create_dir_all(&directory).map_err(Error::file("making", &directory))?;
    let path = directory.join("backstay.cfg");
    let mut garbled = false;
    let old = match read(&path)? {
        Some(Ok(text)) => text,
        // No line of it can be kept, but nothing of the owner's is thrown away.
        Some(Err(bytes)) => {
            replace(&directory.join("backstay.cfg.garbled"), &bytes)?;
            garbled = true;
            HEAD.to_owned()
        }
        None => HEAD.to_owned(),
    };
    replace(&path, settings(&old, uuid, live, cmdline).as_bytes())?;
    replace(&top.join(STORE).join(SPARE), ARMED)?;
    let menu = directory.join("grub.cfg");
    match read(&menu)? {
        // The distribution's: it has the entries by /etc/grub.d/09_backstay.
        Some(Ok(text)) if is_generated(&text) => {}
        _ => replace(&menu, MENU.as_bytes())?,
    }
    Ok(garbled)
}

/// Whether grub-mkconfig made the menu, which says so in its head.
fn is_generated(menu: &str) -> bool {
    menu.contains("grub-mkconfig")
}

/// The entries for a menu that grub-mkconfig makes. Before them the script has set `backstay_device` to the device that
/// the store lies on, and `backstay_boot_dir` to where /boot lies; `on_boot`: the recovery kernel is there, and GRUB sees
/// nothing of the store. `cmdline` is quoted for GRUB by whoever wrote it, as the distribution's own entries take it.
pub fn entries(
    uuid: Uuid,
    live: &str,
    on_boot: bool,
    title: &str,
    cmdline: &str,
) -> Result<String> {
    check_raw(cmdline)?;
    let store = match on_boot {
        true => "$backstay_boot_dir",
        false => "($backstay_device)",
    };
    let unreadable = if on_boot { "yes" } else { "no" };
    let title: String = title.chars().filter(|c| !c.is_control()).collect();
    Ok(format!(
        "insmod regexp\n\
         set backstay_uuid=\"{uuid}\"\n\
         set backstay_live=\"{live}\"\n\
         set backstay_title={}\n\
         set backstay_store=\"{store}\"\n\
         set backstay_unreadable={unreadable}\n\
         set backstay_at=\"$backstay_store/@backstay\"\n\
         set backstay_note=\"\"\n\
         set backstay_pick=\"\"\n\
         set fallback=backstay-system\n\
         if [ -f \"$backstay_at/armed/armed.cfg\" ]; then\n  set default=backstay-armed\nfi\n\n\
         function backstay_linux {{\n  \
           set backstay_image=\"$1\"\n  \
           shift\n  \
           linux \"$backstay_image\" \"root=UUID=$backstay_uuid\" \"rootflags=subvol=$backstay_live\" ro {cmdline} $@\n\
         }}\n\n{ENTRIES}",
        quoted(&title)
    ))
}

/// In single quotes, as GRUB's shell has them.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Whether parameters leave the menu whole in which they stand unquoted.
fn check_raw(cmdline: &str) -> Result<()> {
    if cmdline.contains(char::is_control) {
        return Err(Error::GrubParameters(
            "they have a line break or another control character",
        ));
    }
    let mut open = None;
    let mut chars = cmdline.chars();
    while let Some(c) = chars.next() {
        match (open, c) {
            (None | Some('"'), '\\') => drop(chars.next()),
            (None, '\'' | '"') => open = Some(c),
            (Some(quote), c) if quote == c => open = None,
            // They would end the command.
            (None, ';' | '{' | '}' | '&' | '|' | '<' | '>' | '#') => {
                return Err(Error::GrubParameters(
                    "one of ;{}&|<># stands outside of quotes",
                ));
            }
            _ => {}
        }
    }
    match open {
        Some(_) => Err(Error::GrubParameters("a quote is not closed")),
        None => Ok(()),
    }
}

/// A file as text, or its bytes where it is none; `None` when it is missing or empty.
fn read(path: &Path) -> Result<Option<std::result::Result<String, Vec<u8>>>> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => Ok(Some(
            String::from_utf8(bytes).map_err(|error| error.into_bytes()),
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("reading", path)(error)),
    }
}

/// What is wrong with GRUB's files, each with its remedy; nothing when all is well. Writes nothing.
pub fn problems(top: &Path, uuid: Uuid, live: &str) -> Result<Vec<String>> {
    let directory = top.join(STORE).join("grub");
    let again = "run 'backstay init'";
    let mut problems = Vec::new();
    match read(&directory.join("grub.cfg"))? {
        None => problems.push(format!("grub.cfg is missing: {again}")),
        Some(Ok(text)) if text == MENU => {}
        Some(Ok(text)) if is_generated(&text) => {
            if !text.contains(ENTRIES) {
                problems
                    .push("GRUB's menu has not this version's entries: run update-grub".to_owned());
            }
            // The settings are in it.
            return Ok(problems);
        }
        Some(_) => problems.push(format!("grub.cfg is not this version's: {again}")),
    }
    let settings = match read(&directory.join("backstay.cfg"))? {
        None => {
            problems.push(format!(
                "backstay.cfg is missing, GRUB uses defaults: {again}"
            ));
            return Ok(problems);
        }
        Some(Err(_)) => {
            problems.push(format!("backstay.cfg is garbled: {again}"));
            return Ok(problems);
        }
        Some(Ok(text)) => text,
    };
    let open = |line: &str| !line.starts_with('#') && line.matches('"').count() % 2 == 1;
    if let Some(at) = settings.lines().position(open) {
        problems.push(format!(
            "backstay.cfg has an open quote in line {}: correct that line",
            at + 1
        ));
    }
    for (name, value) in [
        ("backstay_uuid", uuid.to_string()),
        ("backstay_live", live.to_owned()),
    ] {
        // GRUB takes the last one.
        let prefix = format!("set {name}=");
        let mut set = settings
            .lines()
            .rev()
            .filter_map(|line| line.strip_prefix(&prefix));
        if set.next().map(|it| it.trim_matches('"')) != Some(value.as_str()) {
            problems.push(format!(
                "backstay.cfg does not set {name} to {value}: {again}"
            ));
        }
    }
    Ok(problems)
}

fn settings(old: &str, uuid: Uuid, live: &str, cmdline: Option<&str>) -> String {
    let text = set(old, "backstay_uuid", &uuid.to_string());
    let text = set(&text, "backstay_live", live);
    match cmdline {
        Some(cmdline) => set(&text, "backstay_cmdline", cmdline),
        None => text,
    }
}

/// Replaces the line that sets a variable, or adds one.
fn set(text: &str, name: &str, value: &str) -> String {
    let line = format!("set {name}=\"{value}\"");
    let prefix = format!("set {name}=");
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with(&prefix))
        .collect();
    let at = text.lines().position(|line| line.starts_with(&prefix));
    lines.insert(at.unwrap_or(lines.len()).min(lines.len()), &line);
    format!("{}\n", lines.join("\n"))
}

/// Whether GRUB's menu would pass these parameters on; it drops what it cannot quote.
pub fn check_cmdline(cmdline: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ._:/@=,+%~!-".contains(c);
    if let Some(c) = cmdline.chars().find(|c| !plain(*c)) {
        return Err(Error::Cmdline(format!(
            "{cmdline:?} has {c:?}, which GRUB would not pass on: letters, digits, blanks and \
             ._:/@=,+%~!- are possible"
        )));
    }
    let ours = |word: &&str| *word == "--" || word.starts_with("backstay.");
    if let Some(word) = cmdline.split(' ').find(ours) {
        return Err(Error::Cmdline(format!(
            "{cmdline:?} has {word:?}: leave it out, GRUB's menu adds what backstay needs"
        )));
    }
    // These come after the menu's own, and would hold instead of them at every start.
    let root = |word: &&str| {
        ["root=", "rootflags=", "init="]
            .iter()
            .any(|name| word.starts_with(name))
    };
    if let Some(word) = cmdline.split(' ').find(root) {
        return Err(Error::Cmdline(format!(
            "{cmdline:?} has {word:?}: leave it out, backstay sets root= and rootflags= and starts the \
             live system's own init; for one start press 'e' in GRUB's menu"
        )));
    }
    Ok(())
}

/// The longest command line that x86 takes, in bytes: `COMMAND_LINE_SIZE` (asm/setup.h) with a NUL.
/// GRUB drops each argument from the first that does not fit, the kernel the bytes.
const LINE: usize = 2047;
/// The longest image that the menu starts, but for the device.
const IMAGE: &str = "/@backstay/kernels/recovery-previous/vmlinuz";
/// The longest name that GRUB has for a device, in parentheses: `lvmid/` with two LVM UUIDs.
const DEVICE: usize = "(lvmid//)".len() + 2 * 38;
/// The longest parameters that the menu adds for the agent. What the agent adds at a kexec, instead of
/// them, is shorter.
const VERB: &str = " backstay.reset=system backstay.keep=config backstay.present backstay.end";

/// Whether what the menu makes of these parameters is passed on whole, whatever it starts.
pub fn check_length(cmdline: &str, live: &str) -> Result<()> {
    let image = IMAGE
        .len()
        .max("/".len() + live.len() + "/boot/vmlinuz".len());
    let root = " root=UUID=".len() + 36 + " rootflags=subvol=".len() + live.len() + " ro ".len();
    let ours = "BOOT_IMAGE=".len() + DEVICE + image + root + VERB.len();
    let limit = LINE - ours;
    if cmdline.len() > limit {
        return Err(Error::Cmdline(format!(
            "has {} bytes, at most {limit} are possible: the kernel takes {LINE} in all, and GRUB's \
             menu adds up to {ours}",
            cmdline.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_would_be_cut_are_refused_with_the_limit() {
        let live = "@rootfs";
        let fits = |length| check_length(&"x".repeat(length), live);
        let limit = (0..LINE).take_while(|length| fits(*length).is_ok()).count() - 1;
        assert!((1600..1800).contains(&limit), "{limit}");
        let error = fits(limit + 1).unwrap_err().to_string();
        for part in [format!("{limit} are"), format!("{} bytes", limit + 1)] {
            assert!(error.contains(&part), "{error}");
        }
        let longer = "@a-longer-name-of-the-live-system";
        assert!(check_length(&"x".repeat(limit), longer).is_err());
    }

    /// Each line that the menu can make, with the longest id, is no longer than what is reckoned with.
    #[test]
    fn what_the_menu_adds_is_reckoned_with() {
        assert!(MENU.contains(
            "linux \"$backstay_image\" \"root=UUID=$backstay_uuid\" \
             \"rootflags=subvol=$backstay_live\" ro $backstay_cmdline $@\n"
        ));
        assert!(MENU.contains("backstay_start_recovery $@ backstay.present backstay.end\n"));
        let mut longest = 0;
        for line in MENU.lines().map(str::trim) {
            if let Some(verb) = line.strip_prefix("backstay_ask ") {
                let verb = verb.replace('"', "").replace("$1", "4294967295");
                longest = longest.max(verb.len() + "  backstay.present backstay.end".len());
            }
            for quoted in line.split('"').filter(|it| it.ends_with("/vmlinuz")) {
                let image = quoted
                    .replace("$backstay_store", "")
                    .replace("$backstay_at", "/@backstay")
                    .replace("$backstay_live", "@rootfs");
                assert!(image.len() <= IMAGE.len(), "{image}");
            }
        }
        assert_eq!(longest, VERB.len());
        let kexec = format!(" backstay.attempt={}:{}", u64::MAX, u32::MAX);
        assert!(kexec.len() < VERB.len());
    }

    #[test]
    fn settings_of_the_owner_stay_and_ours_are_replaced_in_their_place() {
        let uuid = Uuid([0x11; 16]);
        let first = settings(HEAD, uuid, "@rootfs", Some("console=ttyS0,115200"));
        let mine = first.replace(
            "set backstay_live",
            "set backstay_timeout=30\nset backstay_live",
        );
        let second = settings(&mine, Uuid([0x22; 16]), "@rootfs", None);
        assert_eq!(
            second,
            mine.replace(
                "11111111-1111-1111-1111-111111111111",
                "22222222-2222-2222-2222-222222222222"
            )
        );
        assert!(
            second.contains("\nset backstay_cmdline=\"console=ttyS0,115200\"\n"),
            "{second}"
        );
        let third = settings(&second, uuid, "@rootfs", Some("quiet"));
        assert_eq!(third.matches("backstay_cmdline").count(), 1);
    }

    #[test]
    fn parameters_of_the_distribution_stand_in_the_menu_as_they_are_or_not_at_all() {
        let made = |cmdline| entries(Uuid([0x11; 16]), "@rootfs", false, "It's Debian", cmdline);
        for cmdline in [
            "",
            "quiet console=ttyS0",
            r#"dyndbg="file a.c +p; x" a='{b}' c=\{"#,
        ] {
            let text = made(cmdline).unwrap();
            assert!(text.contains(&format!(" ro {cmdline} $@\n")), "{text}");
            assert!(
                text.contains(r"set backstay_title='It'\''s Debian'"),
                "{text}"
            );
            assert!(text.ends_with(ENTRIES));
            assert!(
                text.contains("backstay_store=\"($backstay_device)\"\n"),
                "{text}"
            );
        }
        for cmdline in ["a=\"b", "a=b; reboot", "a\nb", "'", "x # y", "a }"] {
            let error = made(cmdline).unwrap_err().to_string();
            assert!(
                error.starts_with("the parameters in /etc/default/grub"),
                "{error}"
            );
        }
    }

    #[test]
    fn where_the_recovery_kernel_lies_on_boot_nothing_of_the_store_is_looked_for() {
        let text = entries(Uuid([0x11; 16]), "@rootfs", true, "Debian", "").unwrap();
        assert!(
            text.contains("set backstay_store=\"$backstay_boot_dir\"\n"),
            "{text}"
        );
        assert!(text.contains("set backstay_unreadable=yes\n"), "{text}");
    }

    #[test]
    fn a_menu_that_grub_mkconfig_made_is_left_alone() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        let (uuid, live) = (Uuid([0x11; 16]), "@rootfs");
        let directory = top.join(STORE).join("grub");
        std::fs::create_dir_all(&directory).unwrap();
        let head =
            "#\n# DO NOT EDIT THIS FILE\n#\n# It is automatically generated by grub-mkconfig\n";
        let menu = directory.join("grub.cfg");
        std::fs::write(&menu, head).unwrap();
        install(top, uuid, live, None).unwrap();
        assert_eq!(std::fs::read_to_string(&menu).unwrap(), head);
        assert!(
            problems(top, uuid, live)
                .unwrap()
                .join("")
                .contains("update-grub")
        );
        let ours = entries(uuid, live, false, "Debian", "quiet").unwrap();
        std::fs::write(&menu, format!("{head}{ours}")).unwrap();
        assert!(problems(top, uuid, live).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_with_grubs_files_is_said_and_init_mends_it() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        let (uuid, live) = (Uuid([0x11; 16]), "@rootfs");
        let directory = top.join(STORE).join("grub");
        let said = || problems(top, uuid, live).unwrap().join("\n");
        assert!(said().contains("grub.cfg is missing") && said().contains("backstay.cfg is"));
        install(top, uuid, live, Some("quiet")).unwrap();
        assert_eq!(said(), "");
        let good = std::fs::read_to_string(directory.join("backstay.cfg")).unwrap();
        for (file, content, says) in [
            ("grub.cfg", &b""[..], "grub.cfg is missing: run"),
            ("grub.cfg", b"set default=0\n", "not this version's: run"),
            ("backstay.cfg", b"", "backstay.cfg is missing"),
            ("backstay.cfg", b"\xff\xfe\0", "backstay.cfg is garbled: run"),
            ("backstay.cfg", b"set x=1\n", "backstay_uuid to 11111111-1111"),
            (
                "backstay.cfg",
                b"set backstay_uuid=\"11111111-1111-1111-1111-111111111111\"\nset backstay_live=\"@\"\n",
                "backstay_live to @rootfs: run",
            ),
        ] {
            std::fs::write(directory.join(file), content).unwrap();
            assert!(said().contains(says), "{says}: {}", said());
            let garbled = install(top, uuid, live, None).unwrap();
            assert_eq!(garbled, says.contains("garbled"));
            assert_eq!(said(), "", "{says}");
        }
        let kept = std::fs::read(directory.join("backstay.cfg.garbled")).unwrap();
        assert_eq!(kept, b"\xff\xfe\0");
        // A line of the owner's stays, and so does what is wrong with it.
        std::fs::write(directory.join("backstay.cfg"), format!("set a=\"b\n{good}")).unwrap();
        install(top, uuid, live, None).unwrap();
        assert_eq!(
            said(),
            "backstay.cfg has an open quote in line 1: correct that line"
        );
    }

    #[test]
    fn parameters_that_grub_would_drop_are_refused() {
        for good in ["", "console=ttyS0,115200", "quiet rootdelay=3 console=tty0"] {
            check_cmdline(good).unwrap();
        }
        for bad in [
            "a=\"b c\"",
            "a=$b",
            "x*",
            "quiet -- single",
            "backstay.present",
            "root=/dev/sda1",
            "quiet rootflags=subvol=@old",
            "init=/bin/sh quiet",
            "a\nb",
        ] {
            let error = check_cmdline(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("--cmdline") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn the_menu_reads_what_is_written_here() {
        for name in [
            "backstay_uuid",
            "backstay_live",
            "backstay_cmdline",
            "backstay_armed_why",
        ] {
            assert!(MENU.contains(name), "{name}");
        }
    }
}
