//! Working GRUB's menu over the serial line as a person does: look at the screen, press the arrow
//! keys until the wanted title is highlighted, press Enter, answer the question or leave it.
//!
//! GRUB draws (2.06, terminal of 80 by 24):
//! ```text
//!                              GNU GRUB  version 2.06
//!
//!  +----------------------------------------------------------------------------+
//!  |*The system                                                                 |
//!  | Roll back                                                                  |
//!  +----------------------------------------------------------------------------+
//!       Use the ^ and v keys to select which entry is highlighted.
//! ```

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::serial::Serial;

/// SeaBIOS and GRUB need about 5 s under emulation, much more on a busy machine.
const MENU_PATIENCE: Duration = Duration::from_secs(120);
/// GRUB redraws a line at once, and all of them when it scrolls; after this time it is not going to.
const KEY_PATIENCE: Duration = Duration::from_secs(10);
/// As long as that where the highlight can hardly move.
const END_PATIENCE: Duration = Duration::from_secs(1);
/// GRUB draws entry by entry: only what has not changed for this time is read as the whole menu.
const SETTLED: Duration = Duration::from_millis(400);
/// GRUB's own limit for menus that still work is below this.
const MOST_ENTRIES: usize = 300;

const UP: &[u8] = b"\x1b[A";
const DOWN: &[u8] = b"\x1b[B";
const ESC: &[u8] = b"\x1b";
const ENTER: &[u8] = b"\r";

/// The menu as it is on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// The titles that are visible, in order. A long menu scrolls: these may not be all.
    pub titles: Vec<String>,
    /// Which of them is highlighted.
    pub highlighted: usize,
    /// Whether there are entries above the visible ones, and below: GRUB's marks beside the frame.
    pub more: [bool; 2],
}

impl Menu {
    /// Reads the menu from a screen; None while no menu, or a half drawn one, is there.
    #[must_use]
    pub fn read(screen: &vt100::Screen) -> Option<Self> {
        let rows: Vec<String> = screen.rows(0, screen.size().1.get()).collect();
        rows.iter().find(|row| row.contains("GNU GRUB"))?;
        rows.iter()
            .find(|row| row.contains("keys to select which entry is highlighted"))?;
        let borders: Vec<usize> = (0..rows.len())
            .filter(|&row| is_border(&rows[row]))
            .collect();
        let [top, bottom] = borders[..] else {
            return None;
        };
        let mut titles = Vec::new();
        let mut highlighted = None;
        for row in &rows[top + 1..bottom] {
            let (mark, title) = entry(row)?;
            if mark {
                // Two marks: GRUB is moving the highlight just now.
                if highlighted.replace(titles.len()).is_some() {
                    return None;
                }
            }
            titles.push(title);
        }
        while titles.len() > highlighted? + 1 && titles.last().is_some_and(String::is_empty) {
            titles.pop();
        }
        Some(Self {
            titles,
            highlighted: highlighted?,
            more: [(top + 1, '^'), (bottom - 1, 'v')].map(|(row, mark)| rows[row].ends_with(mark)),
        })
    }

    /// The title that Enter would start.
    #[must_use]
    pub fn current(&self) -> &str {
        self.titles.get(self.highlighted).map_or("", String::as_str)
    }
}

fn is_border(row: &str) -> bool {
    let row = row.trim();
    row.len() > 20
        && row.starts_with(['+', '\u{250c}', '\u{2514}'])
        && row.contains(['-', '\u{2500}'])
        && row
            .chars()
            .all(|c| "+-\u{250c}\u{2510}\u{2514}\u{2518}\u{2500}".contains(c))
}

/// Takes a row between the borders apart: whether it is marked, and its title. Scroll marks are
/// outside the frame and fall away.
fn entry(row: &str) -> Option<(bool, String)> {
    let frame = ['|', '\u{2502}'];
    let (_, inner) = row.split_once(frame)?;
    let (inner, _) = inner.rsplit_once(frame)?;
    let title = inner.strip_prefix('*').unwrap_or(inner);
    Some((inner.starts_with('*'), title.trim().to_owned()))
}

/// What a person does when the entry asks whether it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Presses ESC: yes.
    Esc,
    /// Presses another key: no.
    OtherKey,
    /// Does nothing until the time is over: no.
    Nothing,
}

/// GRUB at the other end of a serial line.
pub struct GrubMenu<'a> {
    serial: &'a mut Serial,
}

impl<'a> GrubMenu<'a> {
    /// GRUB on this line.
    pub const fn new(serial: &'a mut Serial) -> Self {
        Self { serial }
    }

    /// Waits until the menu is on the screen.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait(&mut self) -> Result<Menu> {
        self.serial.story().step("wait for GRUB's menu");
        self.settled(|_| true).with_context(|| {
            format!(
                "GRUB's menu did not come within {} s",
                MENU_PATIENCE.as_secs()
            )
        })
    }

    /// Waits for a menu that `fits`, and until it has been drawn to its end.
    fn settled(&mut self, fits: impl Fn(&Menu) -> bool) -> Option<Menu> {
        let mut menu = self.serial.watch(MENU_PATIENCE, |console| {
            Menu::read(console.screen()).filter(&fits)
        })?;
        while let Some(other) = self.changed(&menu, SETTLED) {
            menu = other;
        }
        Some(menu)
    }

    /// Waits at most `patience` for the menu to become another than `menu`.
    fn changed(&mut self, menu: &Menu, patience: Duration) -> Option<Menu> {
        self.serial.watch(patience, |console| {
            Menu::read(console.screen()).filter(|now| now != menu)
        })
    }

    /// Waits for the menu and starts an entry. `path` names the submenus that lead to it, outermost
    /// first, and the entry last, by their titles; a name that ends in `…` is the beginning of one.
    ///
    /// # Errors
    /// When the menu does not come, or has no such entry (the text lists those it has).
    pub fn choose(&mut self, path: &[&str]) -> Result<()> {
        let mut menu = self.wait()?;
        for (depth, wanted) in path.iter().enumerate() {
            self.serial
                .story()
                .step(format!("choose {wanted:?} in GRUB's menu"));
            menu = self.highlight(menu, wanted)?;
            self.serial.skip();
            self.serial.send(ENTER)?;
            if depth + 1 < path.len() {
                let above = menu;
                let opened = self.settled(|menu| menu.titles != above.titles);
                menu = opened.with_context(|| format!("no submenu opened at {wanted:?}"))?;
            }
        }
        Ok(())
    }

    /// All titles of the menu that is open, from its first entry to its last, whether they fit on
    /// the screen or not; the highlight is at the first one afterwards.
    ///
    /// # Errors
    /// When the menu does not come.
    pub fn titles(&mut self) -> Result<Vec<String>> {
        let mut menu = self.wait()?;
        while let Some(next) = self.press(&menu, DOWN)? {
            menu = next;
        }
        let mut titles = vec![menu.current().to_owned()];
        while let Some(next) = self.press(&menu, UP)? {
            titles.push(next.current().to_owned());
            menu = next;
            if titles.len() > MOST_ENTRIES {
                bail!("GRUB's menu has no end");
            }
        }
        titles.reverse();
        Ok(titles)
    }

    /// Moves the highlight to `wanted`: down to the end, then up to the beginning.
    fn highlight(&mut self, mut menu: Menu, wanted: &str) -> Result<Menu> {
        let fits = |title: &str| match wanted.strip_suffix('\u{2026}') {
            Some(beginning) => title.starts_with(beginning),
            None => title == wanted,
        };
        let mut seen = Vec::new();
        for key in [DOWN, UP] {
            for _ in 0..MOST_ENTRIES {
                // Enter is for what is highlighted when it arrives: look twice.
                if fits(menu.current()) && self.changed(&menu, SETTLED).is_none() {
                    return Ok(menu);
                }
                if !seen.iter().any(|title| title == menu.current()) {
                    seen.push(menu.current().to_owned());
                }
                match self.press(&menu, key)? {
                    Some(next) => menu = next,
                    None => break,
                }
            }
        }
        bail!("GRUB's menu has no entry {wanted:?}; it has {seen:?}")
    }

    /// Presses an arrow key; None when the highlight is at that end of the menu already.
    fn press(&mut self, before: &Menu, key: &[u8]) -> Result<Option<Menu>> {
        self.serial.send(key)?;
        let [above, below] = before.more;
        let (at_an_end, more) = match key {
            DOWN => (before.highlighted + 1 == before.titles.len(), below),
            _ => (before.highlighted == 0, above),
        };
        // The mark of the last entry is drawn after it: one may still be there at the very end.
        let patience = match at_an_end && !more {
            true => END_PATIENCE,
            false => KEY_PATIENCE,
        };
        // While it scrolls, the line that is highlighted is drawn in its turn.
        let at = |menu: &Menu| (menu.highlighted, menu.current().to_owned());
        let was = at(before);
        let moved = self.serial.watch(patience, |console| {
            Menu::read(console.screen()).filter(|now| at(now) != was)
        });
        if moved.is_none() && !at_an_end {
            bail!(
                "GRUB did not move its highlight from {:?}",
                before.current()
            );
        }
        Ok(moved)
    }

    /// Opens GRUB's command line from its menu and types these lines; the last one is to leave it (boot).
    ///
    /// # Errors
    /// When the menu or the command line does not come.
    pub fn type_lines(&mut self, lines: &[&str]) -> Result<()> {
        self.wait()?;
        self.serial.story().step("open GRUB's command line");
        self.serial.skip();
        self.serial.send(b"c")?;
        for line in lines {
            self.serial.expect_text("grub> ")?;
            self.serial.story().step(format!("type: {line}"));
            self.serial.send_line(line)?;
        }
        Ok(())
    }

    /// Waits for the question of an entry (a line with `question` in it) and answers it.
    ///
    /// # Errors
    /// When the question does not come.
    pub fn answer(&mut self, question: &str, answer: Answer) -> Result<String> {
        let asked = self.serial.expect_text(question)?;
        self.serial.story().step(match answer {
            Answer::Esc => "press ESC",
            Answer::OtherKey => "press another key than ESC",
            Answer::Nothing => "leave the question unanswered",
        });
        match answer {
            Answer::Esc => self.serial.send(ESC)?,
            Answer::OtherKey => self.serial.send(b"x")?,
            Answer::Nothing => {}
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests;
