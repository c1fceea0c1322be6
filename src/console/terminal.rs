//! Who types: one console of a machine, all of them, or the terminal of the running system.

use super::line::Echo;
use std::path::Path;
use std::time::Duration;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line, without its end.
    Line(String),
    /// A line that holds what no key sends.
    Garbled,
    /// Control-C.
    GivenUp,
    /// Nobody typed for the time.
    Silence,
    /// Somebody at another console has the menu now.
    Taken,
    /// It was not asked: the line did not become quiet.
    Noise,
}

/// Who borrows a terminal: it is given its path, and what is to be called now and then meanwhile.
pub type Borrower<'a> = dyn FnMut(&Path, &mut dyn FnMut()) -> Result<(), String> + 'a;

/// Where the menu is shown, and its lines are typed.
pub trait Terminal {
    /// Shows a line; whatever it holds, no more than plain ASCII is sent.
    fn show(&mut self, line: &str);

    /// Asks, and waits for a line, for `silence` at most. What was typed before the question is not taken for an answer.
    fn ask(&mut self, question: &str, silence: Option<Duration>, echo: Echo) -> Heard;

    /// The same for what must not be answered ahead: where the line does not become quiet it is not asked.
    fn confirm(&mut self, question: &str, silence: Option<Duration>, echo: Echo) -> Heard {
        self.ask(question, silence, echo)
    }

    /// Who has the menu: another number after each change. What a password gave is one holder's.
    fn holder(&self) -> u32;

    /// Lends the terminal that the menu is on, as it was before, and takes it back.
    ///
    /// # Errors
    /// For people: it cannot be lent, or what came of it.
    fn lend(&mut self, to: &mut Borrower<'_>) -> Result<(), String>;

    /// Shows that nothing is asked any more, for whoever comes to another console.
    fn close(&mut self, _why: &str) {}
}
