//! A start from the root's device on: the store is opened, what is asked is done, a person is asked where that must be.

use super::{NOT_STARTED, mixed_aloud};
use crate::agent::act::{self, Next, can_boot};
use crate::agent::asked::Asked;
use crate::agent::device::Found;
use crate::agent::hibernation::Image;
use crate::agent::menu::{self, Choice, Early};
use crate::agent::pid1::{End, WorkerMode};
use crate::agent::session::{self, Session};
use crate::agent::{kernel, options, root};
use crate::policy::Wish;
use crate::record::layout::Layout;
use crate::record::slots::Slots;
use crate::say;
use crate::store::Store;
use crate::transaction::records::read_state;
use kernel_cmdline::Boot;

/// One start, from the root's device on.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) line: &'a [u8],
    pub(super) boot: &'a Boot<'a>,
    pub(super) asked: &'a Asked,
    pub(super) found: &'a Found,
    /// Another initramfs mounts the root.
    pub(super) host: bool,
}

/// What the menu opens with.
#[derive(Default)]
pub(super) struct Opening<'a> {
    pub(super) session: Option<Session>,
    pub(super) image: Option<&'a Image>,
    /// Whether there is something to start where the store cannot be read.
    pub(super) starts_without: bool,
    pub(super) why: Option<String>,
    pub(super) disk: Option<String>,
}

impl Start<'_> {
    pub(super) fn with_store(&self, mode: WorkerMode) -> End {
        let mut session = match Session::open(self.found, self.boot) {
            Ok(session) => session,
            Err(session::Error::NotMounted(error)) => {
                say!("{error}");
                return match self.without_root(error.to_string()) {
                    Ok(session) => self.go(Some(session)),
                    Err(end) => end,
                };
            }
            Err(error) => {
                if self.asked.wish != Wish::Boot {
                    say!("refused: {error}");
                } else if matches!(error, session::Error::NoStore) {
                    log::info!("{error}");
                } else {
                    say!("{error}");
                }
                return self.go(None);
            }
        };
        if !session.rung.is_plain() {
            say!(
                "the file system is damaged: it mounts only {}",
                session.rung
            );
        }
        let next = match mode {
            WorkerMode::Menu => {
                say!("{NOT_STARTED}");
                Next::Menu(Some(menu::SECONDS), NOT_STARTED.to_owned())
            }
            // The agent that handed over has done everything.
            _ if self.is_handed_over(Some(&session)) => Next::Boot,
            _ => act::aloud(&mut session, self.asked),
        };
        match self.ready(session, next) {
            Ok(session) => self.go(Some(session)),
            Err(end) => end,
        }
    }

    /// Turns to what is on the disk, and opens the menu where that is wanted or must be. `Ok`: what is live
    /// may be started.
    pub(super) fn ready(&self, mut session: Session, mut next: Next) -> Result<Session, End> {
        loop {
            session = match session.settled() {
                Ok(session) => session,
                // What nobody can look at is not started by itself.
                Err(error) => {
                    say!("{error}");
                    self.without_root(error.to_string())?
                }
            };
            let mixed = mixed_aloud(&session);
            if mixed {
                let why = "a change is half done: starting now would mix two versions";
                next = Next::Menu(None, why.to_owned());
            }
            let Next::Menu(seconds, why) = next else {
                return Ok(session);
            };
            let seconds = seconds.unwrap_or(menu::SECONDS);
            // A host's boot goes on, whatever comes of it.
            let silence = (self.host || can_boot(&session)).then_some(seconds);
            let opening = Opening {
                session: Some(session),
                why: Some(why),
                ..Opening::default()
            };
            let (choice, now) = self.menu(opening, silence, Choice::Boot);
            session = match after_menu(choice, now, true) {
                // It must not wait for ever, even if what it starts is half of one version.
                Goes::On(session) if mixed && self.host => {
                    return Err(end(Some(session), End::GoOn));
                }
                Goes::On(session) => session,
                _ if self.host && choice == Choice::Boot => return Err(End::GoOn),
                Goes::OnWithoutStore => return Err(End::Reboot),
                Goes::Ends(session, ended) => return Err(end(session, ended)),
            };
            next = Next::Boot;
        }
    }

    /// The disk does not mount. `Ok`: a person has found a way in which it does, and wants to start what is there.
    pub(super) fn without_root(&self, disk: String) -> Result<Session, End> {
        if self.host {
            return Err(End::GoOn);
        }
        let opening = Opening {
            why: Some(match self.found.lacks_a_device() {
                true => {
                    "a disk of the file system is missing: 'disk' says what can be done".to_owned()
                }
                false => "the disk does not mount".to_owned(),
            }),
            disk: Some(disk),
            ..Opening::default()
        };
        let seconds = self.asked.attempt.is_some().then_some(menu::SECONDS);
        match self.menu(opening, seconds, Choice::Reboot) {
            // What waits on the disk was not looked at: it is not done before somebody asks again.
            (Choice::Boot, Some(session)) => self.ready(session, Next::Boot),
            (Choice::Boot | Choice::Reboot, session) => Err(end(session, End::Reboot)),
            (Choice::PowerOff, session) => Err(end(session, End::PowerOff)),
        }
    }

    /// Opens the menu; the session comes back as it is then.
    pub(super) fn menu(
        &self,
        opening: Opening<'_>,
        seconds: Option<u32>,
        silent: Choice,
    ) -> (Choice, Option<Session>) {
        let early = Early {
            found: Some(self.found),
            boot: self.boot,
            tarball: self.asked.tarball.as_deref(),
            session: opening.session,
            image: opening.image,
            starts_without: opening.starts_without,
            why: opening.why.map(sentence).into_iter().collect(),
            disk: opening.disk,
            host: self.host,
            json: self.asked.json,
        };
        menu::open(early, seconds, silent)
    }

    pub(super) fn is_handed_over(&self, session: Option<&Session>) -> bool {
        handed_over(self.asked, session)
    }

    /// Mounts the system and hands over.
    pub(super) fn go(&self, session: Option<Session>) -> End {
        let layout = session.as_ref().map(layout_of);
        self.go_on(session, layout)
    }

    pub(super) fn go_on(&self, mut session: Option<Session>, layout: Option<Layout>) -> End {
        let mut failed = false;
        loop {
            let why;
            // A disk that a person has mounted without all its devices is the root's, too.
            let flags = session
                .as_ref()
                .filter(|session| session.is_degraded_by_hand())
                .map(|_| options::join(&[self.boot.rootflags.unwrap_or_default(), "degraded"]));
            let boot = Boot {
                rootflags: flags.as_deref().or(self.boot.rootflags),
                ..*self.boot
            };
            let damaged = session.as_ref().is_some_and(|it| !it.rung.is_plain());
            match root::mount_btrfs(self.found, &boot, layout.as_ref(), damaged) {
                Ok(root) => match self.hand_over(&root, session, flags.as_deref()) {
                    Ok(end) => return end,
                    // What is live now is another system, or the same one, not on trial any more.
                    Err(again) => {
                        session = match self.ready(again.0, again.1) {
                            Ok(session) => Some(session),
                            Err(end) => return end,
                        };
                        continue;
                    }
                },
                Err(error) => {
                    say!("{error}");
                    why = error.to_string();
                }
            }
            if !failed && session.as_ref().is_some_and(is_on_trial) {
                failed = true;
                if let Some(mut left) = session.take() {
                    if self.is_handed_over(Some(&left)) {
                        left.close();
                        return match self.without_root(why) {
                            Ok(left) => self.go_on(Some(left), layout),
                            Err(end) => end,
                        };
                    }
                    let next = act::failed_at_once(&mut left);
                    session = match self.ready(left, next) {
                        Ok(session) => Some(session),
                        Err(end) => return end,
                    };
                }
                continue;
            }
            if self.host {
                return End::GoOn;
            }
            let had_store = session.is_some();
            let opening = Opening {
                session,
                starts_without: !had_store,
                why: Some(why.clone()),
                disk: Some(why),
                ..Opening::default()
            };
            let (choice, now) = self.menu(opening, None, Choice::Boot);
            session = match after_menu(choice, now, had_store) {
                // What was done there may have gone wrong.
                Goes::On(session) => match self.ready(session, Next::Boot) {
                    Ok(session) => Some(session),
                    Err(end) => return end,
                },
                Goes::OnWithoutStore => None,
                Goes::Ends(session, ended) => return end(session, ended),
            };
        }
    }
}

/// What follows from a menu that is over; `S` is a [`Session`].
#[derive(Debug, PartialEq, Eq)]
enum Goes<S> {
    On(S),
    /// It began without one, too.
    OnWithoutStore,
    Ends(Option<S>, End),
}

/// Where the store was read and then lost (it failed, or was mounted in another way), what is live is not started without
/// it: it may be half of a change.
fn after_menu<S>(choice: Choice, store: Option<S>, had_store: bool) -> Goes<S> {
    match (choice, store) {
        (Choice::Boot, Some(store)) => Goes::On(store),
        (Choice::Boot, None) if had_store => Goes::Ends(None, End::Reboot),
        (Choice::Boot, None) => Goes::OnWithoutStore,
        (Choice::Reboot, store) => Goes::Ends(store, End::Reboot),
        (Choice::PowerOff, store) => Goes::Ends(store, End::PowerOff),
    }
}

pub(super) fn layout_of(session: &Session) -> Layout {
    session.store.layout().clone()
}

/// Whether an agent has decided, and started this kernel by kexec for it; the state is still as it left it.
fn handed_over(asked: &Asked, session: Option<&Session>) -> bool {
    asked.attempt.is_some_and(|attempt| attempt.n > 0)
        && session.is_none_or(|session| as_it_was_left(asked, session))
}

/// Whether the state is still as the agent left it that started this kernel by kexec.
pub(super) fn as_it_was_left(asked: &Asked, session: &Session) -> bool {
    let seq = kernel::sequence(session);
    asked.attempt.is_some_and(|attempt| attempt.seq == seq)
}

fn is_on_trial(session: &Session) -> bool {
    match read_state(&session.store) {
        Ok(Slots::Valid { value, .. }) => value.live_trial().is_some(),
        _ => false,
    }
}

pub(super) fn end(session: Option<Session>, end: End) -> End {
    if let Some(session) = session {
        session.close();
    }
    end
}

/// As a line of the menu.
fn sentence(text: String) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let mut text: String = first.into_iter().chain(letters).collect();
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_lost_in_the_menu_restarts_the_machine_and_starts_nothing() {
        use Choice::{Boot, PowerOff, Reboot};
        let store = "the store";
        for (choice, now, had, goes) in [
            (Boot, None, true, Goes::Ends(None, End::Reboot)),
            (Boot, None, false, Goes::OnWithoutStore),
            (Boot, Some(store), true, Goes::On(store)),
            // A person has mounted it there.
            (Boot, Some(store), false, Goes::On(store)),
            (Reboot, None, true, Goes::Ends(None, End::Reboot)),
            (
                Reboot,
                Some(store),
                true,
                Goes::Ends(Some(store), End::Reboot),
            ),
            (
                PowerOff,
                Some(store),
                true,
                Goes::Ends(Some(store), End::PowerOff),
            ),
            (PowerOff, None, false, Goes::Ends(None, End::PowerOff)),
        ] {
            assert_eq!(
                after_menu(choice, now, had),
                goes,
                "{choice:?} {now:?} {had}"
            );
        }
    }
}
