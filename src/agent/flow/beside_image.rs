//! The start of a system beside the image of a hibernated one.

use super::NOT_STARTED;
use super::start::{Opening, Start, end, layout_of};
use crate::agent::hibernation::{Image, Met};
use crate::agent::menu::{self, Choice};
use crate::agent::pid1::{End, WorkerMode};
use crate::agent::session::Session;
use crate::agent::{boot_record, kernel, mount, root};
use crate::policy::Wish;
use crate::record::slots::Slots;
use crate::record::state::Kexec;
use crate::say;
use crate::transaction::records::read_state;

impl Start<'_> {
    /// Nothing may be changed. A person who wants the menu, or whose system does not start, may give the image up.
    pub(super) fn start_beside(&self, met: &Met, mode: WorkerMode) -> End {
        let (Met::StartsUnchanged(image) | Met::MayBeLive(image)) = met;
        if let Wish::Change { verb, .. } = self.asked.wish {
            boot_record::requested(&verb.to_string());
        }
        boot_record::refused("a hibernated system lies on the disk");
        if mode == WorkerMode::Menu {
            say!("{NOT_STARTED}");
        }
        if mode == WorkerMode::Menu || matches!(self.asked.wish, Wish::Menu(_)) {
            match self.ask_beside(image, "a hibernated system lies on the disk", Choice::Boot) {
                Choice::Boot => {}
                Choice::Reboot => return End::Reboot,
                Choice::PowerOff => return End::PowerOff,
            }
        }
        if matches!(met, Met::MayBeLive(_)) {
            return self.by_its_own_initramfs(image);
        }
        boot_record::write(None, !kernel::is_recovery(self.line));
        // Where no other initramfs mounts them, configuration and data are ours to mount.
        let session = Session::open(self.found, self.boot).ok();
        let layout = session.as_ref().map(layout_of);
        if let Some(session) = session {
            session.close();
        }
        self.go_on(None, layout)
    }

    /// Opens the menu beside an image: what is on the disk can be read, and nothing changed. `silent`: what follows from
    /// silence.
    fn ask_beside(&self, image: &Image, why: &str, silent: Choice) -> Choice {
        let opening = Opening {
            session: Session::untouched(self.found, self.boot).ok(),
            image: Some(image),
            starts_without: true,
            why: Some(why.to_owned()),
            ..Opening::default()
        };
        let (choice, session) = self.menu(opening, Some(menu::SECONDS), silent);
        // No other mount of the disk is possible while it is held.
        end(session, End::GoOn);
        choice
    }

    /// Starts the system's own kernel with its own initramfs, which knows whether it is the one that is hibernated.
    /// Nothing is written, so nothing can be noted: that kernel never comes back here.
    fn by_its_own_initramfs(&self, image: &Image) -> End {
        match self.load_own_untouched() {
            Ok(release) => {
                say!("starting the system's own kernel {release}, whose initramfs knows its image");
                End::Kexec
            }
            Err(error) => {
                say!("the system's own kernel, which would know, was not started: {error}");
                let why = format!("a hibernated system lies on the disk, and {error}");
                match self.ask_beside(image, &why, Choice::Reboot) {
                    Choice::PowerOff => End::PowerOff,
                    Choice::Boot | Choice::Reboot => End::Reboot,
                }
            }
        }
    }

    fn load_own_untouched(&self) -> Result<String, String> {
        if let Ok(session) = Session::untouched(self.found, self.boot) {
            let state = read_state(&session.store);
            session.close();
            if matches!(state, Ok(Slots::Valid { value, .. }) if value.kexec == Kexec::Fails) {
                return Err("kexec does not work on this machine".to_owned());
            }
        }
        let root = root::mount_untouched(self.found, self.boot).map_err(|it| it.to_string())?;
        let flags = root::flags_naming(self.boot, root.subvolume.as_deref());
        let loaded = kernel::load_own(&root.at, self.line, flags.as_deref(), 1, None);
        mount::clear(&root.at);
        loaded.map_err(|error| error.to_string())
    }
}
