//! The end of a start: the root is mounted, its kernel found, the start counted where it is on trial, the record left.

use super::start::{Start, as_it_was_left};
use crate::agent::act::{self, Next};
use crate::agent::asked::Asked;
use crate::agent::consoles::Consoles;
use crate::agent::kernel::{self, Kernel};
use crate::agent::menu;
use crate::agent::pid1::End;
use crate::agent::session::Session;
use crate::agent::{boot_record, mount, plain, root, setup, watchdog};
use crate::policy::Wish;
use crate::record::slots::Slots;
use crate::say;
use crate::transaction::records::read_state;

impl Start<'_> {
    pub(super) fn hand_over(
        &self,
        root: &root::Mounted,
        mut session: Option<Session>,
        by_hand: Option<&str>,
    ) -> Result<End, Box<(Session, Next)>> {
        let Start {
            line, boot, asked, ..
        } = *self;
        let at = &root.at;
        let may_ask = !self.host && asked.wish == Wish::Boot && asked.attempt.is_none();
        if may_ask
            && Consoles::menu_is_wanted()
            && let Some(session) = session.take()
        {
            mount::clear(at);
            let next = Next::Menu(Some(menu::SECONDS), "somebody pressed m".to_owned());
            return Err(Box::new((session, next)));
        }
        if let Some(session) = session.as_mut().filter(|_| asked.attempt.is_none()) {
            kernel::note_recovery(session, line);
        }
        let handed_over = self.is_handed_over(session.as_ref());
        if let Some(mut probing) =
            session.take_if(|session| !handed_over && starts_itself(session, line, asked))
        {
            let seq = kernel::sequence(&probing);
            boot_record::carry(&mut probing.store, seq);
            probing.close();
            watchdog::arm(true);
            mount::clear(at);
            return Ok(End::Kexec);
        }
        // `by_hand`: mount options that the command line does not have.
        let flags = match by_hand {
            Some(flags) => Some(root::with_name(flags, root.subvolume.as_deref())),
            None => root::flags_naming(boot, root.subvolume.as_deref()),
        };
        // Counted where the decision to start it falls, and not again in the kernel that is started.
        let counted = match session.as_mut().filter(|_| !handed_over) {
            Some(session) => act::count_start(session).unwrap_or_else(|error| {
                say!("this start is not counted: {error}");
                None
            }),
            None => None,
        };
        let kernel = kernel::settle(
            at,
            line,
            flags.as_deref(),
            handed_over,
            counted,
            session.as_mut(),
        );
        if kernel == Kernel::Failed
            && let Some(mut session) = session.take()
        {
            mount::clear(at);
            let next = act::failed_at_once(&mut session);
            return Err(Box::new((session, next)));
        }
        let own = handed_over || !(kernel::is_recovery(line) || boot_record::has_changed());
        let on_trial =
            session.is_some_and(|session| leave_record(session, handed_over, own, kernel));
        // Also in the kernel that was handed over to: its driver may have stopped it.
        let starts_it = counted.is_some() || (on_trial && handed_over);
        if starts_it && kernel != Kernel::Restart {
            watchdog::arm(kernel == Kernel::Loaded);
        }
        if (counted.is_some() || on_trial) && kernel == Kernel::Stays {
            setup::end_what_dies();
        }
        Ok(match kernel {
            // Without the store nothing is on trial.
            Kernel::Stays | Kernel::Failed if self.host => {
                mount::clear(at);
                End::GoOn
            }
            Kernel::Stays | Kernel::Failed => End::SwitchRoot {
                root: at.display().to_string(),
                init: boot.init.map(str::to_owned),
                args: plain::init_args(),
            },
            Kernel::Loaded | Kernel::Restart => {
                mount::clear(at);
                if kernel == Kernel::Loaded {
                    End::Kexec
                } else {
                    End::Reboot
                }
            }
        })
    }
}

/// Whether the recovery kernel is loaded, to start itself and so to find out whether kexec works here.
fn starts_itself(session: &mut Session, line: &[u8], asked: &Asked) -> bool {
    let probed =
        asked.attempt.is_some_and(|attempt| attempt.n == 0) && as_it_was_left(asked, session);
    if probed {
        watchdog::stop();
        boot_record::take_over(&session.store, kernel::sequence(session));
    }
    kernel::probe(session, line, probed).unwrap_or_else(|error| {
        say!("whether kexec works here was not found out: {error}");
        false
    })
}

/// Writes down what this boot did, for the system or for the kernel that is started now, and closes the store. True:
/// what is live is on trial.
fn leave_record(mut session: Session, handed_over: bool, own: bool, kernel: Kernel) -> bool {
    let state = match read_state(&session.store) {
        Ok(Slots::Valid { value, .. }) => Some(value),
        _ => None,
    };
    let seq = kernel::sequence(&session);
    if handed_over {
        boot_record::take_over(&session.store, seq);
    } else if kernel == Kernel::Loaded && session.rung.is_writable() && !session.is_copied() {
        boot_record::carry(&mut session.store, seq);
    }
    boot_record::write(state.as_ref(), own);
    session.close();
    state.is_some_and(|state| state.live_trial().is_some())
}
