//! Who may do what at the console: the policy's rights, and what wrong passwords cost.
//!
//! One guard lives as long as the agent asks anybody anything, for all consoles together, so that nobody gets another
//! try by going to another one. It has no clock and no I/O: whoever calls says what time it is. It is in memory
//! alone: a restart of the machine forgets the wrong tries, and costs more time than they do.

use crate::agent::policy::Policy;
use crate::agent::policy::console::Right;
use crate::console::password::{Hash, LONGEST};
use core::time::Duration;

/// The longest wait after a wrong password.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Look: the menu, the snapshots, the log.
    Menu,
    /// Change what boots (roll back or forward, select, reset), or give a hibernated system up.
    Change,
    /// Have a shell.
    Shell,
}

/// Whether it may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may.
    Yes,
    /// Once the password was typed.
    Ask,
    /// Never here.
    No,
}

/// The password was typed. Nothing but [`Guard::check`] makes one; it is good until it is dropped, so it belongs to
/// whatever stands for the console at which it was typed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unlocked {}

/// What was typed is...
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// the password.
    Good(Unlocked),
    /// not the password; the next try is taken after this time.
    Wrong(Duration),
    /// not looked at, and does not count: the next try is taken after this time.
    TooSoon(Duration),
    /// not looked at, and does not count: there is not enough memory for it.
    NoMemory,
}

/// Keeps the rights of one policy and counts the wrong passwords.
#[derive(Debug)]
pub struct Guard {
    menu: Right,
    change: Right,
    shell: Right,
    password: Option<Hash>,
    fault: Option<String>,
    /// Wrong passwords since the last good one.
    wrong: u32,
    /// When the next one is taken.
    next: Duration,
}

impl Guard {
    /// For the console of this policy.
    pub fn new(policy: &Policy) -> Guard {
        let console = &policy.console;
        Guard {
            menu: console.menu,
            change: console.change,
            shell: console.shell,
            password: console.password.clone(),
            fault: policy.fault.clone(),
            wrong: 0,
            next: Duration::ZERO,
        }
    }

    /// Why the policy counts for nothing, where that is so.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// What an act needs. Whoever may not look may do nothing else either.
    pub fn right(&self, act: Act) -> Right {
        let own = match act {
            Act::Menu => self.menu,
            Act::Change => self.change,
            Act::Shell => self.shell,
        };
        own.max(self.menu)
    }

    /// Whether an act may be done at a console where the password was typed, or was not.
    pub fn may(&self, act: Act, unlocked: Option<&Unlocked>) -> Answer {
        match (self.right(act), unlocked) {
            (Right::Open, _) | (Right::Password, Some(_)) => Answer::Yes,
            (Right::Password, None) => Answer::Ask,
            (Right::Closed, _) => Answer::No,
        }
    }

    /// How long until the next password is taken; `None`: now. `now` is the time since some beginning, by a clock that
    /// does not go back, the same one at each call, whichever menu calls.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let rest = self.next.checked_sub(now)?;
        (!rest.is_zero()).then_some(rest)
    }

    /// Looks at a password. The caller keeps it in a [`Typed`](super::password::Typed), which is zeroed when it goes;
    /// no copy stays here. Where the policy has none, none is good.
    pub fn check(&mut self, typed: &[u8], now: Duration) -> Verdict {
        if let Some(rest) = self.wait(now) {
            return Verdict::TooSoon(rest);
        }
        let is_good = match &self.password {
            Some(hash) if !typed.is_empty() && typed.len() <= LONGEST => hash.is_of(typed),
            _ => Ok(false),
        };
        match is_good {
            Ok(true) => {
                self.wrong = 0;
                Verdict::Good(Unlocked {})
            }
            Ok(false) => {
                let wait = cost(self.wrong);
                self.wrong = self.wrong.saturating_add(1);
                self.next = now.saturating_add(wait);
                Verdict::Wrong(wait)
            }
            Err(_) => Verdict::NoMemory,
        }
    }
}

/// What a wrong password costs after so many others: 1, 2, 4 ... 60 seconds.
fn cost(others: u32) -> Duration {
    let seconds = 1_u64.checked_shl(others).filter(|it| *it > 0);
    seconds.map_or(LONGEST_WAIT, |it| Duration::from_secs(it).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::policy::parse;

    /// Of "good", as cheap as argon2id can be: m=8, t=1.
    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$BwcHBwcHBwcHBwcHBwcHBw$";

    fn cheap() -> String {
        use argon2::password_hash::{PasswordHasher, SaltString};
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        let salt = SaltString::encode_b64(&[7; 16]).unwrap();
        let hash = argon2::Argon2::from(params)
            .hash_password(b"good", &salt)
            .unwrap()
            .to_string();
        assert!(hash.starts_with(HASH), "{hash}");
        hash
    }

    fn guard(rights: &str) -> Guard {
        let text = format!("[console]\n{rights}\npassword = \"{}\"\n", cheap());
        Guard::new(&parse(&text).unwrap())
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_wrong_password_costs_twice_as_much_up_to_a_minute_and_a_good_one_ends_that() {
        let mut guard = guard("change = \"password\"");
        let mut now = at(100);
        assert_eq!(guard.wait(now), None);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert!(matches!(guard.check(b"bad", now), Verdict::Wrong(it) if it == at(wait)));
            assert_eq!(guard.wait(now), Some(at(wait)));
            // Too soon, even the good one is not looked at, and costs nothing.
            let soon = now + at(wait) - Duration::from_millis(1);
            for typed in [&b"bad"[..], b"good"] {
                let verdict = guard.check(typed, soon);
                assert!(
                    matches!(verdict, Verdict::TooSoon(it) if it == Duration::from_millis(1)),
                    "{verdict:?}"
                );
            }
            now += at(wait);
            assert_eq!(guard.wait(now), None);
        }
        assert!(matches!(guard.check(b"good", now), Verdict::Good(_)));
        assert_eq!(guard.wait(now), None);
        assert!(matches!(guard.check(b"bad", now), Verdict::Wrong(it) if it == at(1)));
    }

    #[test]
    fn the_count_never_runs_over() {
        for others in [6, 31, 32, 63, 64, u32::MAX] {
            assert_eq!(cost(others), LONGEST_WAIT, "{others}");
        }
        let mut guard = guard("shell = \"password\"");
        guard.wrong = u32::MAX;
        let end = Duration::MAX;
        assert!(matches!(guard.check(b"bad", end), Verdict::Wrong(_)));
        assert_eq!(guard.wait(end), None);
    }

    #[test]
    fn an_empty_and_an_endless_password_are_wrong_without_being_worked_out() {
        let mut guard = guard("change = \"password\"");
        assert!(matches!(guard.check(b"", at(0)), Verdict::Wrong(_)));
        let long = vec![b'g'; LONGEST + 1];
        assert!(matches!(guard.check(&long, at(9)), Verdict::Wrong(_)));
        // And so is every one where there is none.
        let mut guard = Guard::new(&Policy::default());
        assert!(matches!(guard.check(b"good", at(0)), Verdict::Wrong(_)));
    }

    #[test]
    fn a_password_opens_what_asks_for_it_for_as_long_as_the_proof_is_kept() {
        let mut guard = guard("change = \"password\"");
        assert_eq!(guard.may(Act::Menu, None), Answer::Yes);
        assert_eq!(guard.may(Act::Change, None), Answer::Ask);
        assert_eq!(guard.may(Act::Shell, None), Answer::No);
        let Verdict::Good(unlocked) = guard.check(b"good", at(0)) else {
            panic!("it is good");
        };
        assert_eq!(guard.may(Act::Change, Some(&unlocked)), Answer::Yes);
        assert_eq!(guard.may(Act::Shell, Some(&unlocked)), Answer::No);
        // At another console, where nobody typed it.
        assert_eq!(guard.may(Act::Change, None), Answer::Ask);
    }

    #[test]
    fn whoever_may_not_look_may_do_nothing_else() {
        let guard = guard("menu = \"password\"\nshell = \"open\"");
        for act in [Act::Menu, Act::Change, Act::Shell] {
            assert_eq!(guard.right(act), Right::Password, "{act:?}");
            assert_eq!(guard.may(act, None), Answer::Ask);
        }
    }

    #[test]
    fn without_a_policy_changes_are_open_and_without_understanding_closed() {
        let rights = |policy: &Policy| {
            let guard = Guard::new(policy);
            [Act::Menu, Act::Change, Act::Shell].map(|act| guard.right(act))
        };
        use Right::{Closed, Open};
        assert_eq!(rights(&Policy::default()), [Open, Open, Closed]);
        assert_eq!(rights(&Policy::nothing_allowed()), [Open, Closed, Closed]);
    }

    #[test]
    fn a_guard_shows_neither_hash_nor_password() {
        let mut guard = guard("change = \"password\"");
        let verdict = guard.check(b"hunter2", at(0));
        let shown = format!("{guard:?} {guard:#?} {verdict:?}");
        for secret in ["hunter", "argon2", "BwcH"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
