//! Against bytes that a GRUB 2.06 wrote to a serial line, recorded with the menu of the file's name.

use super::*;
use crate::console::Console;

const RECORDED: &[u8] = include_bytes!("recorded-menu.bin");
const RECORDED_LONG: &[u8] = include_bytes!("recorded-long-menu.bin");

fn screen_of(bytes: &[u8]) -> Console {
    let mut console = Console::new();
    console.feed(bytes);
    console
}

#[test]
fn the_recorded_menu_has_its_titles_and_its_first_one_highlighted() {
    let menu = Menu::read(screen_of(RECORDED).screen()).unwrap();
    assert_eq!(
        menu.titles,
        [
            "The system",
            "Roll back",
            "Factory reset",
            "Boot a snapshot once",
            "Recovery menu"
        ]
    );
    assert_eq!(menu.current(), "The system");
    assert_eq!(menu.more, [false, false]);
}

#[test]
fn a_long_menu_shows_what_fits_and_cuts_long_titles() {
    let menu = Menu::read(screen_of(RECORDED_LONG).screen()).unwrap();
    assert_eq!(menu.titles.len(), 11);
    assert_eq!(menu.more, [false, true]);
    assert!(
        menu.current()
            .starts_with("Snapshot 30: with a title that is so long")
    );
}

#[test]
fn no_menu_is_read_before_it_is_drawn() {
    let first_entry = RECORDED
        .windows(11)
        .position(|part| part == b"*The system")
        .unwrap();
    for end in 0..first_entry {
        assert_eq!(
            Menu::read(screen_of(&RECORDED[..end]).screen()),
            None,
            "after {end} bytes"
        );
    }
}

#[test]
fn a_screen_without_a_menu_is_none() {
    for bytes in [
        &b""[..],
        b"GNU GRUB\r\nnothing",
        b"+-----+\r\n| *x |\r\n+-----+",
    ] {
        assert_eq!(Menu::read(screen_of(bytes).screen()), None);
    }
}
