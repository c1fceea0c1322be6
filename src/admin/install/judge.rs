//! What stands in the way of going back, each in one line with its remedy. Pure: from a [`Survey`] alone.

use super::survey::{GRUB, Survey};
use crate::agent::kexec::Forbidden;
use crate::agent::root::plain_name;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// backstay cannot be set up here.
    Stop,
    /// A rollback would not do what it says.
    Problem,
    /// To be known.
    Note,
}

/// Something that was found. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub weight: Weight,
    /// A name for programs.
    pub id: &'static str,
    /// For people.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let weight = match self.weight {
            Weight::Stop | Weight::Problem => "problem",
            Weight::Note => "note",
        };
        write!(f, "{weight}: {}", self.what)?;
        match self.remedy.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.remedy),
        }
    }
}

/// `backstay init` does it.
const INIT: &str = "'backstay init' mends it";

fn finding(weight: Weight, id: &'static str, what: String, remedy: impl Into<String>) -> Finding {
    Finding {
        weight,
        id,
        what,
        remedy: remedy.into(),
    }
}

/// Everything, the worst first.
pub fn findings(survey: &Survey) -> Vec<Finding> {
    let mut all: Vec<Finding> = stops(survey).into_iter().collect();
    all.extend(pins(survey));
    all.extend(grub(survey));
    all.extend(inside(survey));
    all.sort_by_key(|finding| finding.weight);
    all
}

/// Why it cannot be set up at all.
fn stops(survey: &Survey) -> Option<Finding> {
    let live = survey.live.as_str();
    let stop = |id, what: String, remedy: &str| Some(finding(Weight::Stop, id, what, remedy));
    if live.contains("/.snapshots/") || live.starts_with(".snapshots/") {
        return stop(
            "root-of-snapper",
            format!(
                "the root is {live}, one of snapper's snapshots, and which one boots changes by its number"
            ),
            "backstay needs a root of one constant name in the top level; snapper's own rollback works here",
        );
    }
    if live.contains('/') {
        return stop(
            "root-below-top-level",
            format!("the root {live} does not lie in the top level of its btrfs"),
            "backstay needs a root such as @rootfs there: install it anew so, or move it from a rescue system",
        );
    }
    if let Some(path) = survey.packages_apart {
        return stop(
            "packages-apart",
            format!(
                "{path}, the list of installed packages, lies outside the root: after a rollback it would name \
                     versions that are not there"
            ),
            "give that directory back to the root, and mount those of data, such as /var/log, on subvolumes instead",
        );
    }
    if let Some(path) = &survey.swap_in_root {
        return stop(
            "swap-in-root",
            format!(
                "{path} is swap in a file of the root, and btrfs makes no snapshot of a root with one"
            ),
            "swapoff it, and put it into a subvolume of its own",
        );
    }
    if let Some(value) = survey.grub_default.as_deref().filter(|it| is_numbered(it)) {
        return stop(
            "grub-default-number",
            format!(
                "GRUB_DEFAULT={value} counts GRUB's entries, and backstay's come before the others"
            ),
            "write 0 or the entry's id (the text after $menuentry_id_option in /boot/grub/grub.cfg) in \
             /etc/default/grub",
        );
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._-".contains(c);
    if !live.chars().all(plain) {
        return stop(
            "root-name",
            format!("the root's name {live:?} has characters other than letters, digits and @._-"),
            "rename the subvolume from a rescue system",
        );
    }
    None
}

/// What names another subvolume, or a number, so that a rollback would silently change nothing.
fn pins(survey: &Survey) -> Vec<Finding> {
    let live = survey.live.as_str();
    let mut found = Vec::new();
    let problem = |id, what: String, remedy: String| finding(Weight::Problem, id, what, remedy);
    let flags = survey.rootflags.as_deref().unwrap_or_default();
    let flag = |name: &str| {
        let of = |option: &'_ str| option.split_once('=').is_some_and(|(key, _)| key == name);
        let last = flags.split(',').rfind(|option| of(option))?;
        last.split_once('=').map(|(_, value)| value)
    };
    match (flag("subvol").map(plain_name), flag("subvolid")) {
        (_, Some(id)) => found.push(problem(
            "cmdline-subvolid-pin",
            format!("the kernel command line selects the root by rootflags=subvolid={id}, which after a rollback is \
                     the number of what was put aside"),
            format!("write rootflags=subvol={live} in /etc/default/grub instead, and run update-grub"),
        )),
        (Some(named), None) if named != live => found.push(problem(
            "cmdline-subvol-pin",
            format!("the kernel command line names {named} and the root is {live}"),
            format!("write rootflags=subvol={live} in /etc/default/grub instead, and run update-grub"),
        )),
        (None, None) if survey.default_id == survey.live_id => found.push(finding(
            Weight::Note,
            "root-by-default-subvolume",
            format!("the root is selected as the default subvolume; each exchange makes the new {live} that, and \
                     backstay's entries name it"),
            "",
        )),
        _ => {}
    }
    for entry in survey.entries() {
        let mounted = survey
            .mounts
            .iter()
            .rfind(|mount| mount.point == entry.point);
        let of_us = entry.fs == "btrfs"
            && mounted.is_some_and(|mount| mount.device == survey.device && mount.fs == "btrfs");
        if !of_us {
            continue;
        }
        let point = &entry.point;
        let named = entry.option("subvol").map(plain_name);
        if let Some(named) = named.filter(|named| point == "/" && named != live) {
            found.push(problem(
                "fstab-subvol-pin",
                format!("/etc/fstab names {named} for the root, and the root is {live}"),
                format!("write subvol={live} there"),
            ));
        }
    }
    for (entry, _) in survey.by_number() {
        let (point, id) = (&entry.point, entry.option("subvolid").unwrap_or_default());
        found.push(problem(
            "fstab-subvolid-pin",
            format!("/etc/fstab mounts {point} by subvolid={id}, which after a change is the number of what was \
                     put aside"),
            INIT.to_owned(),
        ));
    }
    found
}

/// Whether GRUB's default is chosen by its place among the entries, and not as the first.
fn is_numbered(default: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    default != "0" && default.split('>').any(is_number)
}

fn grub(survey: &Survey) -> Vec<Finding> {
    let mut found = Vec::new();
    if survey.is_in_root(GRUB) {
        found.push(finding(
            Weight::Problem,
            "grub-prefix-in-root",
            format!("GRUB's modules and menu lie in the root ({GRUB} of {}): after a rollback they would not be those \
                     that its core image was made with, and the machine would not boot", survey.live),
            INIT,
        ));
    } else if survey.grub_is_moved() && !survey.core_image {
        found.push(finding(
            Weight::Problem,
            "grub-not-installed",
            format!("GRUB was not installed anew after its directory was moved to {GRUB}: what starts the machine reads \
                     the old one, which no update changes"),
            INIT,
        ));
    }
    if !survey.unseen_swap.is_empty() {
        found.push(finding(
            Weight::Note,
            "swap-unseen",
            format!("a system that is hibernated in {} is not seen by the recovery kernel", survey.unseen_swap.join(", ")),
            "do not hibernate while a request waits; for a file, name resume= and resume_offset= on the kernel command \
             line",
        ));
    }
    if survey.boot_is_apart() {
        found.push(finding(
            Weight::Note,
            "boot-apart",
            "/boot is a file system of its own: kernels do not go back with the system".to_owned(),
            "",
        ));
    }
    if survey.is_made_of_others {
        let what = match survey.boot_is_apart() {
            true => {
                "the root's device is made by the initramfs (LUKS, LVM or RAID): the recovery kernel lies on /boot, and \
                 GRUB lists no snapshots"
            }
            false => {
                "the root's device is made by the initramfs (LUKS, LVM or RAID): the recovery kernel has the \
                 distribution's own"
            }
        };
        found.push(finding(
            Weight::Note,
            "root-made-by-initramfs",
            what.to_owned(),
            "",
        ));
    }
    found
}

/// What it means that the recovery kernel cannot be started by kexec.
pub fn kexec(survey: &Survey, why: &Forbidden) -> Finding {
    let of_signature = matches!(why, Forbidden::NotPermitted | Forbidden::Signature);
    if survey.secure_boot && of_signature {
        return finding(
            Weight::Problem,
            "recovery-kernel-not-signed",
            "by Secure Boot this machine starts signed kernels alone, and the running kernel does not accept the \
             signature of the recovery kernel: GRUB may refuse it, too, and it carries everything out"
                .to_owned(),
            "start a signed kernel (linux-image-amd64), then run 'backstay recovery install'",
        );
    }
    finding(
        Weight::Note,
        "kexec-forbidden",
        format!("kexec is not permitted here ({why}): a kernel that panics at once is not counted"),
        "",
    )
}

fn inside(survey: &Survey) -> Vec<Finding> {
    let of = |inside: &super::survey::Inside| {
        let remedy = match inside.by_default {
            true => "'backstay init' makes it a dataset of its own".to_owned(),
            false => format!(
                "'backstay init --move {}' makes it a dataset of its own",
                inside.path
            ),
        };
        let what = format!("{} lies in the root and goes back with it", inside.path);
        finding(Weight::Note, "data-in-root", what, remedy)
    };
    let full = survey.inside.iter().filter(|inside| !inside.is_empty);
    full.map(of).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::Uuid;
    use crate::sys::mountinfo::Mount;

    pub(in super::super) fn survey(live: &str) -> Survey {
        let mount = |directory: &str, point: &str| Mount {
            fs: "btrfs".to_owned(),
            device: "/dev/vda2".to_owned(),
            directory: directory.to_owned(),
            point: point.to_owned(),
            ..Mount::default()
        };
        Survey {
            uuid: Uuid([0x11; 16]),
            device: "/dev/vda2".to_owned(),
            live: live.to_owned(),
            live_id: 256,
            default_id: 5,
            rootflags: Some(format!("subvol={live}")),
            mounts: vec![
                mount(&format!("/{live}"), "/"),
                mount("/@backstay/grub", GRUB),
            ],
            fstab: format!("UUID=1 / btrfs defaults,subvol={live} 0 0\n"),
            inside: Vec::new(),
            uefi: false,
            is_made_of_others: false,
            secure_boot: false,
            core_image: true,
            grub_default: Some("0".to_owned()),
            packages_apart: None,
            swap_in_root: None,
            has_store: true,
            unseen_swap: Vec::new(),
        }
    }

    fn ids(survey: &Survey) -> Vec<&'static str> {
        let all = findings(survey);
        for finding in &all {
            let line = finding.to_string();
            assert!(!line.contains('\n') && line.is_ascii(), "{line}");
            assert!(
                finding.weight == Weight::Note || !finding.remedy.is_empty(),
                "{line}"
            );
        }
        all.into_iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn a_system_that_is_as_it_should_be_has_no_findings() {
        assert_eq!(ids(&survey("@rootfs")), [""; 0]);
        assert_eq!(ids(&survey("@")), [""; 0]);
        assert_eq!(ids(&survey("root")), [""; 0]);
    }

    #[test]
    fn roots_that_cannot_be_exchanged_are_named_as_what_they_are() {
        for (live, id) in [
            ("@/.snapshots/1/snapshot", "root-of-snapper"),
            ("roots/debian", "root-below-top-level"),
            ("my root", "root-name"),
        ] {
            assert_eq!(ids(&survey(live)).first(), Some(&id), "{live}");
        }
    }

    #[test]
    fn a_recovery_kernel_without_a_signature_is_a_problem_where_one_is_wanted() {
        let mut survey = survey("@rootfs");
        let refused = Forbidden::NotPermitted;
        assert_eq!(kexec(&survey, &refused).id, "kexec-forbidden");
        survey.secure_boot = true;
        let found = kexec(&survey, &refused);
        assert_eq!(
            (found.id, found.weight),
            ("recovery-kernel-not-signed", Weight::Problem)
        );
        // That says nothing about a signature.
        assert_eq!(kexec(&survey, &Forbidden::Disabled).id, "kexec-forbidden");
    }

    #[test]
    fn every_pin_is_found() {
        type Change = fn(&mut Survey);
        let table: [(Change, &str); 13] = [
            (
                |it| it.rootflags = Some("subvolid=256".into()),
                "cmdline-subvolid-pin",
            ),
            (
                |it| it.rootflags = Some("subvol=@old".into()),
                "cmdline-subvol-pin",
            ),
            (
                |it| (it.rootflags, it.default_id) = (None, 256),
                "root-by-default-subvolume",
            ),
            (
                |it| it.fstab = it.fstab.replace("defaults", "subvolid=256"),
                "fstab-subvolid-pin",
            ),
            (
                |it| it.fstab = it.fstab.replace("@rootfs", "@old"),
                "fstab-subvol-pin",
            ),
            (|it| drop(it.mounts.pop()), "grub-prefix-in-root"),
            (|it| it.is_made_of_others = true, "root-made-by-initramfs"),
            (|it| it.core_image = false, "grub-not-installed"),
            (
                |it| it.grub_default = Some("2".into()),
                "grub-default-number",
            ),
            (
                |it| it.grub_default = Some("gnulinux-advanced-1>2".into()),
                "grub-default-number",
            ),
            (
                |it| it.packages_apart = Some("/var/lib/dpkg"),
                "packages-apart",
            ),
            (|it| it.swap_in_root = Some("/swap".into()), "swap-in-root"),
            (|it| it.unseen_swap.push("/swap".into()), "swap-unseen"),
        ];
        for (change, id) in table {
            let mut survey = survey("@rootfs");
            change(&mut survey);
            assert_eq!(ids(&survey), [id]);
        }
        // A number of another file system is not ours to judge.
        let mut other = survey("@rootfs");
        other.fstab += "UUID=2 /other btrfs subvolid=300 0 0\n";
        // The top level's is always the same.
        let mut top = other.mounts[0].clone();
        (top.directory, top.point) = ("/".to_owned(), "/top".to_owned());
        other.mounts.push(top);
        other.fstab += "UUID=1 /top btrfs subvolid=5 0 0\n";
        other.grub_default = Some("gnulinux-advanced-1>gnulinux-6.12-advanced-1".to_owned());
        assert_eq!(ids(&other), [""; 0]);
    }
}
