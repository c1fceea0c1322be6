//! The parameters that every user of Linux knows, as far as the agent needs them.

use crate::token::{raw_tokens, same_name};
use crate::{Device, token};

/// The general parameters of a command line. Of a repeated one the last wins, as in the kernel.
///
/// A value that is not UTF-8, or not a number where one belongs, counts as not given: an earlier
/// value of the same parameter does not come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot<'a> {
    /// `root=`: see [`Boot::root_device`].
    pub root: Option<&'a str>,
    /// `rootflags=`: the mount options; see [`Boot::subvolume`].
    pub rootflags: Option<&'a str>,
    /// `rootfstype=`: one name, or several with commas.
    pub rootfstype: Option<&'a str>,
    /// `ro` is `Some(false)`, `rw` is `Some(true)`; the last of the two wins.
    pub writable: Option<bool>,
    /// `rootwait`: wait for the device for ever. `rootwait=SECONDS` sets `rootwait_seconds` too.
    pub rootwait: bool,
    /// `rootwait=SECONDS` (Linux 6.6 and later).
    pub rootwait_seconds: Option<u32>,
    /// `rootdelay=`: seconds to wait before (kernel) or for (initramfs-tools) the device.
    pub rootdelay: Option<u32>,
    /// `init=`: the program to run in the root. (`rdinit=` has done its work when we run.)
    pub init: Option<&'a str>,
    /// `resume=`: where a hibernation image may lie; see [`Boot::resume_device`].
    pub resume: Option<&'a str>,
    /// `resume_offset=`: where in it, in pages.
    pub resume_offset: Option<u64>,
    /// `noresume`: do not resume, wherever it stands.
    pub noresume: bool,
    /// `nohibernate` or `hibernate=no`: this kernel cannot resume at all.
    pub nohibernate: bool,
    /// The last `console=`, which /dev/console is; with its options, as `ttyS0,115200n8`.
    pub console: Option<&'a str>,
    /// `quiet`.
    pub quiet: bool,
    /// `debug`.
    pub debug: bool,
    /// `panic=`: seconds until the reboot after a panic; 0 never, less than 0 at once.
    pub panic: Option<i32>,
}

impl<'a> Boot<'a> {
    /// Reads them from a command line as /proc/cmdline gives it. What is after `--` is init's.
    #[must_use]
    pub fn read(line: &'a [u8]) -> Self {
        let mut boot = Self::default();
        for token in raw_tokens(line) {
            if token.is_separator() {
                break;
            }
            boot.take(&token);
        }
        boot
    }

    fn take(&mut self, token: &token::RawToken<'a>) {
        let is = |name: &str| same_name(token.key, name.as_bytes());
        let text = token
            .value
            .and_then(|value| core::str::from_utf8(value).ok());
        match token.value {
            // The kernel takes these two only as bare words.
            None if is("ro") => self.writable = Some(false),
            None if is("rw") => self.writable = Some(true),
            None if is("rootwait") => (self.rootwait, self.rootwait_seconds) = (true, None),
            // These stand for themselves, whatever value is added.
            _ if is("noresume") => self.noresume = true,
            _ if is("nohibernate") => self.nohibernate = true,
            _ if is("quiet") => self.quiet = true,
            _ if is("debug") => self.debug = true,
            None => {}
            Some(_) if is("root") => self.root = text,
            Some(_) if is("rootflags") => self.rootflags = text,
            Some(_) if is("rootfstype") => self.rootfstype = text,
            Some(_) if is("rootwait") => {
                (self.rootwait, self.rootwait_seconds) =
                    (true, text.and_then(|it| it.parse().ok()));
            }
            Some(_) if is("rootdelay") => self.rootdelay = text.and_then(|it| it.parse().ok()),
            Some(_) if is("init") => self.init = text,
            Some(_) if is("resume") => self.resume = text,
            Some(_) if is("resume_offset") => {
                self.resume_offset = text.and_then(|it| it.parse().ok());
            }
            Some(value) if is("hibernate") => self.nohibernate |= value == b"no",
            Some(_) if is("console") => self.console = text,
            Some(_) if is("panic") => self.panic = text.and_then(|it| it.parse().ok()),
            Some(_) => {}
        }
    }

    /// The device that `root=` names.
    #[must_use]
    pub fn root_device(&self) -> Option<Device<'a>> {
        self.root.map(Device::new)
    }

    /// The device that `resume=` names.
    #[must_use]
    pub fn resume_device(&self) -> Option<Device<'a>> {
        self.resume.map(Device::new)
    }

    /// The subvolume that `rootflags=` names with `subvol=`.
    #[must_use]
    pub fn subvolume(&self) -> Option<&'a str> {
        mount_option(self.rootflags?, "subvol").flatten()
    }

    /// The subvolume that `rootflags=` names by its number, with `subvolid=`.
    #[must_use]
    pub fn subvolume_id(&self) -> Option<&'a str> {
        mount_option(self.rootflags?, "subvolid").flatten()
    }
}

/// Looks a mount option up in a list with commas; the last one wins.
///
/// `None`: not there. `Some(None)`: there without a value. `Some(Some(value))`: there with one.
#[must_use]
pub fn mount_option<'a>(options: &'a str, name: &str) -> Option<Option<&'a str>> {
    options
        .rsplit(',')
        .find_map(|option| match option.split_once('=') {
            Some((key, value)) => (key == name).then_some(Some(value)),
            None => (option == name).then_some(None),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_is_the_default() {
        assert_eq!(Boot::read(b""), Boot::default());
        assert_eq!(
            Boot::read(b"BOOT_IMAGE=/vmlinuz a b=c -- root=x quiet"),
            Boot::default()
        );
    }

    #[test]
    fn an_appliances_line_is_read() {
        let line = b"BOOT_IMAGE=/@rootfs/vmlinuz root=UUID=0a rootflags=noatime,subvol=@rootfs ro \
                     rootfstype=btrfs console=tty0 console=ttyS0,115200 quiet panic=10 rootwait \
                     rootdelay=5 init=/sbin/init resume=/dev/vda2 resume_offset=38912 noresume\n";
        let boot = Boot::read(line);
        assert_eq!(boot.root_device(), Some(Device::Uuid("0a")));
        assert_eq!(boot.subvolume(), Some("@rootfs"));
        assert_eq!(boot.rootfstype, Some("btrfs"));
        assert_eq!(boot.writable, Some(false));
        assert_eq!((boot.rootwait, boot.rootdelay), (true, Some(5)));
        assert_eq!(boot.console, Some("ttyS0,115200"));
        assert_eq!((boot.quiet, boot.panic), (true, Some(10)));
        assert_eq!(boot.init, Some("/sbin/init"));
        assert_eq!(boot.resume_device(), Some(Device::Path("/dev/vda2")));
        assert_eq!((boot.resume_offset, boot.noresume), (Some(38912), true));
    }

    #[test]
    fn the_last_one_wins() {
        assert_eq!(Boot::read(b"root=a root=b").root, Some("b"));
        assert_eq!(Boot::read(b"root=a root=").root, Some(""));
        assert_eq!(Boot::read(b"ro rw").writable, Some(true));
        assert_eq!(Boot::read(b"rw ro ro=1").writable, Some(false));
        assert_eq!(Boot::read(b"panic=5 panic=-1").panic, Some(-1));
        assert_eq!(Boot::read(b"rootwait=9 rootwait").rootwait_seconds, None);
        assert!(Boot::read(b"noresume resume=/dev/x").noresume);
    }

    #[test]
    fn an_unreadable_value_does_not_bring_an_earlier_one_back() {
        assert_eq!(Boot::read(b"root=a root=\xff").root, None);
        assert_eq!(Boot::read(b"panic=5 panic=soon").panic, None);
    }

    #[test]
    fn names_are_compared_as_the_kernel_does() {
        assert_eq!(Boot::read(b"resume-offset=7").resume_offset, Some(7));
        assert_eq!(
            Boot::read(b"\"root=LABEL=a b\"").root_device(),
            Some(Device::Label("a b"))
        );
        assert_eq!(Boot::read(b"ROOT=a").root, None);
        assert!(Boot::read(b"hibernate=no").nohibernate);
        assert!(!Boot::read(b"hibernate=noresume").nohibernate);
    }

    #[test]
    fn the_last_mount_option_wins() {
        assert_eq!(
            mount_option("subvol=a,ro,subvol=b", "subvol"),
            Some(Some("b"))
        );
        assert_eq!(mount_option("ro,subvol=a", "ro"), Some(None));
        assert_eq!(mount_option("subvolid=5", "subvol"), None);
        let both = Boot::read(b"rootflags=subvolid=5,subvol=a,subvolid=257");
        assert_eq!(
            (both.subvolume(), both.subvolume_id()),
            (Some("a"), Some("257"))
        );
        assert_eq!(Boot::read(b"rootflags=subvol=a").subvolume_id(), None);
        assert_eq!(mount_option("", "subvol"), None);
    }
}
