//! What is typed on a terminal: the word before something is reset, and secrets.

use super::error::{Error, Result};
use std::io::{BufRead, IsTerminal, Write};

/// What must be typed.
const WORD: &str = "RESET";

/// Asks for the word on the terminal. Without one it refuses: it never waits for nobody.
pub fn typed() -> Result<()> {
    let (input, mut output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() {
        return Err(Error::NeedsYes);
    }
    let prompt = format!("Type {WORD} to ask for this at the next boot: ");
    output
        .write_all(prompt.as_bytes())
        .and_then(|()| output.flush())
        .ok();
    let mut line = String::new();
    input
        .lock()
        .read_line(&mut line)
        .map_err(Error::file("reading", "the terminal"))?;
    confirms(&line)
}

/// Asks a question on the terminal. Without one it refuses: it never waits for nobody.
pub fn yes(question: &str) -> Result<()> {
    let (input, mut output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() {
        return Err(Error::NobodyToAsk);
    }
    output
        .write_all(format!("{question} [y/N] ").as_bytes())
        .and_then(|()| output.flush())
        .ok();
    let mut line = String::new();
    input
        .lock()
        .read_line(&mut line)
        .map_err(Error::file("reading", "the terminal"))?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::NotWanted),
    }
}

/// Asks for a secret on the terminal, which does not show it.
pub fn secret(prompt: &str) -> std::io::Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let mut terminal = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")?;
    let before = tcgetattr(&terminal)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
    let mut line = String::new();
    let read = terminal
        .write_all(prompt.as_bytes())
        .and_then(|()| std::io::BufReader::new(&terminal).read_line(&mut line));
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    terminal.write_all(b"\n")?;
    read.map(|_| line.trim_end_matches(['\n', '\r']).to_owned())
}

fn confirms(line: &str) -> Result<()> {
    match line.trim() == WORD {
        true => Ok(()),
        false => Err(Error::NotConfirmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_itself_confirms() {
        assert!(confirms("RESET\n").is_ok());
        for line in ["", "\n", "reset\n", "y\n", "RESET everything\n"] {
            assert!(confirms(line).is_err(), "{line:?}");
        }
    }
}
