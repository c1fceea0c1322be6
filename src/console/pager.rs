//! Pages of a terminal.

use super::line::Echo;
use super::menu::PATIENCE;
use super::terminal::{Heard, Terminal};
use super::text::{self, PAGE};
use std::ops::ControlFlow;

/// The question between pages.
const MORE: &str = "-- Enter: more, q: stop -- ";

/// Shows rows a page at a time.
pub struct Pager<'a> {
    terminal: &'a mut dyn Terminal,
    shown: usize,
}

impl<'a> Pager<'a> {
    /// From the first row on.
    pub fn new(terminal: &'a mut (dyn Terminal + 'a)) -> Pager<'a> {
        Pager { terminal, shown: 0 }
    }

    /// Shows a line. Break: the person stopped it.
    pub fn row(&mut self, line: &str) -> ControlFlow<()> {
        for row in text::rows(line) {
            if self.shown == PAGE {
                match self.terminal.ask(MORE, Some(PATIENCE), Echo::Typed) {
                    Heard::Line(line) if line.trim().is_empty() => {}
                    _ => {
                        self.terminal.show("(stopped)");
                        return ControlFlow::Break(());
                    }
                }
                self.shown = 0;
            }
            self.terminal.show(&row);
            self.shown += 1;
        }
        ControlFlow::Continue(())
    }
}
