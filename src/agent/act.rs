//! What one boot does to the store: what was left open is finished, then it is decided and carried out, aloud.
//!
//! ```text
//! act.rs         what GRUB, a request or a trial asks for: decided, and done without anybody
//! by_hand.rs     what a person chooses in the menu
//! carry_out.rs   both: the transaction itself, with the lines that are said of it
//! ```

use super::asked::{self, Asked};
use super::pulse::Pulse;
use super::session::{self, Session};
use super::{boot_record, kernel, tarball};
use crate::console::versions;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::policy::terms::Terms;
use crate::policy::trial::{self, Start};
use crate::policy::{self, Decision, Facts, Wish};
use crate::record::Uuid;
use crate::record::journal::Journal;
use crate::record::slots::Slots;
use crate::record::state::{Request, State};
use crate::say;
use crate::store::{Store, StoreError};
use crate::transaction::records::{Records, read_journal, read_state};
use crate::transaction::recover::{self, Recovered, recover};
use crate::transaction::{catalogue, history_log, prepared};
use carry_out::{carry_out, make_factory, tell, tell_apart};
use thiserror::Error;

pub mod by_hand;
mod carry_out;

/// Decisions in one boot at the most: a return, the factory snapshot, a verb, and the answer that
/// nothing is left to do.
pub(crate) const ROUNDS: usize = 4;

/// What was asked for could not be done.
#[derive(Debug, Error)]
pub enum Error {
    /// The transaction.
    #[error(transparent)]
    Transaction(#[from] crate::transaction::Error),
    /// The store.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// The default tarball.
    #[error(transparent)]
    Tarball(#[from] tarball::Unusable),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Transaction(error.into())
    }
}

/// What the boot goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The live set.
    Boot,
    /// The menu, which boots on after these seconds, if the live set can boot; why it opens.
    Menu(Option<u32>, String),
}

/// Why the menu opens where nothing is wrong.
const WANTED: &str = "somebody asked for this menu";

/// Seconds since 1970 by the machine's clock; shown to people, never compared.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Finishes what was left open and does what is asked, aloud, whatever comes of it.
pub fn aloud(session: &mut Session, asked: &Asked) -> Next {
    if let Wish::Change { verb, .. } = asked.wish {
        boot_record::requested(&verb.to_string());
    }
    if let Some(refused) = &asked.refused {
        boot_record::refused(&refused.to_string());
        // Its reason was the first line; say what follows from it.
        say!("nothing was changed; starting the system");
    }
    if let Err(error) = finish_open(session) {
        say!("an earlier change could not be finished: {error}");
    }
    if let Err(error) = use_up_next_entry(session) {
        log::warn!("grub-reboot's choice stays, and is taken again: {error}");
    }
    let nothing_asked = asked::read(b"");
    let mut asked = asked;
    loop {
        let request = waiting(session);
        let next = decide_and_act(session, asked).unwrap_or_else(|error| {
            match &error {
                Error::Transaction(crate::transaction::Error::Unfinished(_)) => say!("{error}"),
                _ => say!("not done: {error}"),
            }
            boot_record::refused(&error.to_string());
            // Who asked for the menu gets it above all when something is wrong.
            match asked.wish {
                Wish::Menu(seconds) => Next::Menu(seconds, error.to_string()),
                _ => Next::Boot,
            }
        });
        if next != Next::Boot || !is_left(session, asked.wish, request) {
            return next;
        }
        say!("what was upgraded does not read its data as it is, and is not started so");
        // The request comes next, or, without one, the trial. After that none waits.
        asked = &nothing_asked;
    }
}

fn waiting(session: &Session) -> Option<Request> {
    match read_state(&session.store) {
        Ok(Slots::Valid { value, .. }) => value.request,
        _ => None,
    }
}

/// [`policy::left::is_left`], where anything can be changed at all.
fn is_left(session: &Session, wish: Wish, request: Option<Request>) -> bool {
    !session.is_copied()
        && read_journal(&session.store).is_ok_and(|journal| {
            matches!(
                journal,
                Slots::Valid {
                    value: Journal::Closed,
                    ..
                }
            )
        })
        && read_state(&session.store).is_ok_and(|now| policy::left::is_left(wish, request, &now))
}

/// Undoes or finishes a transaction that a power cut left open.
pub fn finish_open(session: &mut Session) -> Result<(), Error> {
    let open = match Records::open_or_begin(&session.store) {
        Ok(records) => {
            records.journal.value != Journal::Closed
                || recover::hint_is_wrong(&session.store, &records)?
                || !prepared::left_over(&session.store, &records)?.is_empty()
        }
        // The decision reads it again, and answers; it does not know why an open change stays open.
        Err(error) => {
            if let Slots::Valid { value, .. } = read_journal(&session.store)?
                && value != Journal::Closed
            {
                say!("an earlier change could not be finished: {error}");
            }
            return Ok(());
        }
    };
    if !open {
        return Ok(());
    }
    if session.is_copied() {
        say!("an earlier change is unfinished, but two disks carry the same file system:");
        say!("nothing is touched; detach the copy and restart");
        return Ok(());
    }
    session.make_writable()?;
    if read_journal(&session.store)? == Slots::Damaged {
        say!("the journal is damaged in both slots: what it told is lost, nothing is undone");
    }
    let mut records = Records::open_or_begin(&session.store)?;
    let _pulse = Pulse::start("finishing an earlier change");
    match recover(&mut session.store, &mut records, &mut tell)? {
        Recovered::Nothing => {}
        Recovered::Undone(id) => {
            let text = format!("a change was interrupted before it took effect: undone ({id})");
            say!("{text}");
            say!("the system is as it was before; ask again if you still want the change");
            history_log::append(&mut session.store, now(), &text);
        }
        Recovered::Finished(id, done) => {
            let text = format!("a change was interrupted: finished now (former system: {id})");
            say!("{text}");
            tell_apart(&done, id);
            say!("'backstay status' says what it was, and how to go back");
            history_log::append(&mut session.store, now(), &text);
        }
    }
    Ok(())
}

/// Decides what this boot does, and does it.
pub fn decide_and_act(session: &mut Session, asked: &Asked) -> Result<Next, Error> {
    let mut wish = asked.wish;
    // Snapshots whose data could not be converted. Nothing of theirs has failed: another boot may have the room.
    let mut unconverted = Vec::new();
    for _ in 0..ROUNDS {
        let (state, journal) = (read_state(&session.store)?, read_journal(&session.store)?);
        if let Slots::Valid { torn: true, .. } = state {
            say!("one of the two copies of the state is damaged: the other one is used");
        }
        let mut facts = facts(session, policy::target(wish, &state))?;
        facts.tarball |= asked.tarball.is_some();
        if let Slots::Valid { value, .. } = &state {
            facts.spent = catalogue::spent(&session.store, value, &unconverted)?;
            if facts.spent.is_some() && wish == Wish::Boot {
                for id in catalogue::fenced_off(&session.store, value)? {
                    say!("snapshot {id} was good, but cannot run on the data as it is: not taken");
                }
            }
        }
        facts.fence = catalogue::fenced(&session.store, wish, &state, facts.target)?;
        let terms = policy::next(wish, &state).map_or(Terms::default(), |(_, terms)| terms);
        match policy::decide(wish, &state, &journal, &facts) {
            Decision::Boot(Some(lost @ (Refusal::ParkedLost(..) | Refusal::ParkedFenced(_))))
                if !session.is_copied() =>
            {
                say!("{lost}");
                forget_parked(session, facts.live_system)?;
            }
            Decision::Boot(refusal) => {
                if let Some(refusal) = refusal {
                    say!("{refusal}");
                    boot_record::refused(&refusal.to_string());
                    say_unchanged(&state);
                    remember(session, |state| state.refused_for(wish, refusal))?;
                }
                return Ok(Next::Boot);
            }
            Decision::Menu { seconds, why } => {
                if let Some(why) = why {
                    say!("{why}");
                    boot_record::refused(&why.to_string());
                    // It must not come true after a repair. The prompt opens whatever becomes of this.
                    let waits = match &state {
                        Slots::Valid { value, .. } => {
                            let mut after = value.clone();
                            after.came_to_the_menu(wish, why);
                            after != *value
                        }
                        _ => false,
                    };
                    if waits {
                        given_up(session, |state| state.came_to_the_menu(wish, why));
                    }
                }
                let why = why.map_or(WANTED.to_owned(), |why| why.to_string());
                return Ok(Next::Menu(seconds, why));
            }
            Decision::Transact { intent, request } => {
                if let Wish::Change {
                    verb,
                    present: false,
                    ..
                } = wish
                {
                    say!("{}", Refusal::NoConsent(verb));
                    wish = Wish::Boot;
                }
                if let (Some(request), Wish::Boot) = (request, wish) {
                    say!("the running system asked to {}", request.verb);
                    boot_record::requested(&request.verb.to_string());
                }
                if let Some(why) = hindrance(session, &intent, wish, request)? {
                    say!("{why}");
                    boot_record::refused(&why);
                    say_unchanged(&state);
                    remember(session, |state| state.refused(wish))?;
                    return Ok(Next::Boot);
                }
                if intent == Intent::MakeFactory {
                    let health = versions::words(facts.target);
                    say!("the factory snapshot is {health}: made from the default tarball first");
                    make_factory(session, asked.tarball.as_deref(), wish)?;
                    wish = after_factory(wish, request);
                    continue;
                }
                let carried = carry_out(session, &intent, terms);
                if let (Intent::FallBack { to }, Err(error)) = (&intent, &carried) {
                    match error {
                        // It lacks something that a start needs: the next one, or nothing, is taken.
                        Error::Transaction(
                            crate::transaction::Error::Unbootable(_)
                            | crate::transaction::Error::Fenced(_),
                        ) => {
                            say!("not done: {error}");
                            given_up(session, |state| state.remember_failed(*to));
                            continue;
                        }
                        Error::Transaction(crate::transaction::Error::NotConverted { .. }) => {
                            say!("not done: {error}");
                            unconverted.push(*to);
                            continue;
                        }
                        Error::Transaction(crate::transaction::Error::Unfinished(_)) => {}
                        // No fault of the snapshot's: a full disk, say. The next start tries it again.
                        _ => {
                            say!("not done: {error}");
                            say!("the next start tries it again");
                            boot_record::refused(&error.to_string());
                            return Ok(Next::Menu(None, error.to_string()));
                        }
                    }
                }
                if let (Some(request), Wish::Change { present: true, .. }) = (request, wish)
                    && is_withdrawn(&session.store)
                {
                    say!(
                        "the waiting request to {} is withdrawn by this",
                        request.verb
                    );
                }
                carried?;
                // A return is not what was asked for: that comes in the next round.
                if !matches!(intent, Intent::Return { .. }) {
                    wish = Wish::Boot;
                    if matches!(intent, Intent::Select { .. }) {
                        return Ok(Next::Boot);
                    }
                }
            }
        }
    }
    Ok(Next::Boot)
}

/// What is wished for once the factory snapshot is there: what it was made for. The request was used
/// up by that, and is not asked for again.
pub(crate) fn after_factory(wish: Wish, request: Option<Request>) -> Wish {
    match (wish, request) {
        (Wish::Boot, Some(request)) => Wish::Change {
            verb: request.verb,
            consent: request.consent,
            loss: request.loss,
            present: true,
        },
        (wish, _) => wish,
    }
}

/// Whether no request waits any more, on the disk: where nothing can be written it still does.
fn is_withdrawn<S: Store>(store: &S) -> bool {
    read_state(store)
        .is_ok_and(|state| matches!(state, Slots::Valid { value, .. } if value.request.is_none()))
}

/// Why what was decided is not done in this boot.
fn hindrance(
    session: &Session,
    intent: &Intent,
    wish: Wish,
    request: Option<Request>,
) -> Result<Option<String>, Error> {
    // Nobody asks for a return or a first boot: without it, what boots would be wrong. The factory
    // snapshot is made for something that somebody asks for.
    let asked = request.is_some() || matches!(wish, Wish::Change { .. });
    if intent.verb().is_none() && !(*intent == Intent::MakeFactory && asked) {
        return Ok(None);
    }
    if let Some(why) = session.hindrance() {
        return Ok(Some(why.to_string()));
    }
    match intent {
        Intent::Select { id } => Ok(kernel::cannot_boot_once(session, *id)?),
        _ => Ok(None),
    }
}

/// What was parked is gone: what is live now stays, and verbs are heard again.
fn forget_parked(session: &mut Session, live: Option<Uuid>) -> Result<(), Error> {
    session.make_writable()?;
    let mut records = Records::open(&session.store)?;
    let mut state = records.state.value.clone();
    state.parked = None;
    state.live.system = live.unwrap_or(state.live.system);
    records.state.write(&mut session.store, state)?;
    recover(&mut session.store, &mut records, &mut |_| {})?;
    Ok(())
}

/// Whether an unfinished change has left a live set that must not boot by itself.
pub fn live_set_is_mixed(session: &Session) -> bool {
    recover::live_set_is_mixed(&session.store).unwrap_or(true)
}

/// What follows from a refusal: the system starts, but for one whose upgrade ends with this request (`policy::left`). Whoever
/// calls this takes out the request that is refused ([`State::refused`]), or it would be so at every boot.
fn say_unchanged(state: &Slots<State>) {
    match state {
        Slots::Valid { value, .. } if value.request.is_some_and(|it| it.ends_upgrade()) => {
            say!("nothing was changed");
        }
        _ => say!("nothing was changed; starting the system"),
    }
}

/// What a person chose, or a request, was given up before [`execute::execute`], which would have
/// written this: see [`State::attempted`]. An error of the writing is not the one to tell.
fn given_up(session: &mut Session, change: impl FnOnce(&mut State)) {
    let closed = |records: &Records| records.journal.value == Journal::Closed;
    let written = match Records::open(&session.store) {
        Ok(records) if closed(&records) => remember(session, change),
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = written {
        log::warn!("that it was tried is not written down: {error}");
    }
}

/// Writes this change of the state, if it changes anything and no copy of the disk is attached.
pub fn remember(session: &mut Session, change: impl FnOnce(&mut State)) -> Result<(), Error> {
    let Slots::Valid { value, .. } = read_state(&session.store)? else {
        return Ok(());
    };
    let mut state = value.clone();
    change(&mut state);
    if state == value || session.is_copied() {
        return Ok(());
    }
    session.make_writable()?;
    let mut records = Records::open(&session.store)?;
    records.state.write(&mut session.store, state)?;
    recover(&mut session.store, &mut records, &mut |_| {})?;
    Ok(())
}

/// What `grub-reboot` chose was taken by this start; GRUB cannot write that down.
pub fn use_up_next_entry(session: &mut Session) -> Result<(), Error> {
    if session.is_copied() || recover::next_entry_used_up(&session.store)?.is_none() {
        return Ok(());
    }
    session.make_writable()?;
    recover::use_up_next_entry(&mut session.store)?;
    Ok(())
}

/// Counts the start of a system that is on trial, durably. Gives the number of the start, if it is counted.
pub fn count_start(session: &mut Session) -> Result<Option<u8>, Error> {
    let Slots::Valid { value, .. } = read_state(&session.store)? else {
        return Ok(None);
    };
    let Some(tried) = value.live_trial() else {
        return Ok(None);
    };
    // The worker before this one did, in this boot, and its start came to nothing.
    if boot_record::was_counted(tried.system, tried.begun) {
        return Ok(Some(tried.begun));
    }
    let Start::Counted { n, of } = trial::start(&value) else {
        return Ok(None);
    };
    if session.is_copied() {
        say!("two disks carry the same file system: this start, on trial, is not counted");
        return Ok(None);
    }
    remember(session, trial::count)?;
    boot_record::counted(tried.system, n);
    say!("this system is on trial: start {n} of {of} before it is marked good");
    Ok(Some(n))
}

/// The system on trial cannot be started at all: no start is left to it, and what follows from that is
/// done.
pub fn failed_at_once(session: &mut Session) -> Next {
    if let Err(error) = remember(session, trial::condemn) {
        say!("that is not written down: {error}");
        return Next::Menu(None, error.to_string());
    }
    let nothing_asked = asked::read(b"");
    decide_and_act(session, &nothing_asked).unwrap_or_else(|error| {
        say!("not done: {error}");
        Next::Menu(None, error.to_string())
    })
}

/// The facts that a decision needs.
pub fn facts(
    session: &Session,
    target: Option<crate::store::place::Set>,
) -> Result<Facts, crate::transaction::Error> {
    catalogue::facts(&session.store, target, session.is_copied())
}

/// Whether what is live is there, and of one version.
pub fn can_boot(session: &Session) -> bool {
    let system = crate::store::place::Place::Live(crate::record::layout::Part::System);
    let there = session.store.dataset(system);
    there.is_ok_and(|dataset| dataset.is_some()) && !live_set_is_mixed(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::request::{no_spare, submit};
    use crate::record::state::Verb;
    use crate::record::state::{Consent, Prepared};
    use crate::store::memory::Fault;
    use crate::transaction::execute;
    use crate::transaction::model::machine;
    use crate::transaction::plan::plan;

    #[test]
    fn a_request_that_waited_for_the_factory_agrees_to_no_more_than_before() {
        let (_, records) = machine();
        let state = Slots::Valid {
            value: records.state.value.clone(),
            at: crate::record::slots::Position { seq: 1, slot: 0 },
            torn: false,
        };
        for loss in [false, true] {
            let request = Request {
                ticket: [1; 16],
                verb: Verb::ResetSystem { keep_config: false },
                consent: Consent::Convert,
                loss,
                created: 1,
                prepared: Prepared::NONE,
            };
            let wish = after_factory(Wish::Boot, Some(request));
            let (_, terms) = policy::next(wish, &state).unwrap();
            assert_eq!((terms.consent, terms.loss), (Consent::Convert, loss));
        }
    }

    #[test]
    fn a_request_is_said_to_be_withdrawn_only_once_that_is_on_disk() {
        for writes in [false, true] {
            let (mut store, mut records) = machine();
            let verb = Verb::Rollback(None);
            submit(
                &mut store,
                &mut records,
                verb,
                Default::default(),
                [1; 16],
                1,
                &no_spare,
            )
            .unwrap();
            if !writes {
                store.fault = Some((store.operations, Fault::NotDone));
            }
            let state = &records.state.value;
            let layout = crate::transaction::model::layout();
            let plan = plan(&Intent::ResetEverything, state, &layout, None, 1);
            let done = execute::execute(&mut store, &mut records, &plan, 1, &mut |_| {});
            assert_eq!(done.is_ok(), writes);
            assert_eq!(is_withdrawn(&store), writes);
        }
    }
}
