//! What people say to the menu, and what it answers.

use super::model::Model;
use super::{SETTINGS, Script, cheap_hash, guard, play};
use crate::agent::policy;
use crate::console::command::Way;
use crate::console::guard::Guard;
use crate::console::json;
use crate::console::machine::Stage;
use crate::console::menu::{self, Choice, Settings};
use crate::record::layout::Part;
use crate::record::state::Verb;
use crate::store::memory::Content;
use crate::store::place::Place;
use expect_test::expect_file;
use std::time::Duration;

/// The version that is live: the content of a file of each.
fn live(model: &Model) -> String {
    let world = model.store.world();
    let tree = &world.datasets[&Place::Live(Part::System)].tree;
    match &tree["etc/version"] {
        Content::File(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn somebody_goes_back_to_the_version_before() {
    let mut model = Model::new();
    let lines = ["list", "show 2", "rollback", "ROLLBACK", "boot"];
    let (shown, choice) = play(&mut model, "", &lines);
    assert_eq!((choice, live(&model).as_str()), (Choice::Boot, "2"));
    expect_file!["screens/rollback.txt"].assert_eq(&shown);
    assert!(
        model.notes.contains(&"ROLLBACK was typed".to_owned()),
        "{:?}",
        model.notes
    );
}

#[test]
fn somebody_starts_a_snapshot_once_and_resets_the_machine() {
    let (shown, _) = play(&mut Model::new(), "", &["help", "boot"]);
    expect_file!["screens/help.txt"].assert_eq(&shown);
    let mut model = Model::new();
    let (shown, _) = play(&mut model, "", &["once 1", "ONCE", "boot"]);
    assert_eq!(live(&model), "1");
    expect_file!["screens/once.txt"].assert_eq(&shown);
    let mut model = Model::new();
    let lines = [
        "reset system keep=config",
        "^C",
        "reset system",
        "RESET",
        "",
        "boot",
    ];
    let (shown, _) = play(&mut model, "", &lines);
    assert_eq!(live(&model), "factory");
    expect_file!["screens/reset-system.txt"].assert_eq(&shown);
    let mut model = Model::new();
    let lines = [
        "reset everything",
        "RESET",
        "reset everything",
        "RESET EVERYTHING",
        "menu",
        "reset config",
        "RESET",
        "reboot",
    ];
    let (shown, choice) = play(&mut model, "", &lines);
    assert_eq!(choice, Choice::Reboot);
    expect_file!["screens/reset-everything.txt"].assert_eq(&shown);
}

#[test]
fn nothing_but_the_word_itself_changes_anything() {
    for verb in [
        "rollback",
        "once 1",
        "reset config",
        "reset config,data",
        "reset system",
        "reset everything",
    ] {
        for word in [
            "", "rollback", "YES", "y", "RESET x", "FORWARD", "^C", "~", "<taken>",
        ] {
            let mut model = Model::new();
            let before = model.store.world().clone();
            let (shown, _) = play(&mut model, "", &[verb, word, "boot"]);
            assert_eq!(*model.store.world(), before, "{verb} {word}");
            assert!(
                shown.contains("nothing was changed"),
                "{verb} {word}: {shown}"
            );
            // Whoever has the menu then sees the first screen.
            let screens = shown.matches("Somebody asked for this menu.").count();
            assert_eq!(screens, if word == "<taken>" { 2 } else { 1 }, "{shown}");
        }
    }
}

#[test]
fn silence_goes_on_as_it_was_said_and_without_a_system_that_starts_it_waits() {
    let mut model = Model::new();
    let (shown, choice) = play(&mut model, "", &[]);
    assert_eq!(choice, Choice::Boot);
    expect_file!["screens/silence.txt"].assert_eq(&shown);
    let mut model = Model::new();
    model.starts = false;
    model.why = vec!["The live system is missing.".to_owned()];
    let settings = Settings {
        seconds: None,
        ..SETTINGS
    };
    let mut script = Script::with(&model, &["boot", "rollback 1", "ROLLBACK", "poweroff"]);
    let choice = menu::run(&mut model, &mut script, &mut guard(""), settings);
    assert_eq!(choice, Choice::PowerOff);
    expect_file!["screens/does-not-start.txt"].assert_eq(&script.shown);
}

#[test]
fn silence_begins_when_a_command_is_answered_and_whoever_is_there_is_heard() {
    let rights = format!("change = \"password\"\npassword = \"{}\"", cheap_hash());
    let door = format!("menu = \"password\"\npassword = \"{}\"", cheap_hash());
    for (rights, lines, stays) in [
        // A page that is read, a word that is thought about, a password and its delay.
        ("", &["log", "<200>", "<59>reboot"][..], true),
        ("", &["log", "<200>q", "<59>reboot"], true),
        ("", &["log", "<200>^C", "<59>reboot"], true),
        ("", &["rollback", "<200>no", "<59>reboot"], true),
        ("", &["<59>list", "<59>list", "<59>reboot"], true),
        (
            rights.as_str(),
            &["rollback", "<200>bad", "<59>reboot"],
            true,
        ),
        (door.as_str(), &["<59>bad", "<59>good", "<59>reboot"], true),
        ("", &["<59><taken>", "<59>reboot"], true),
        (door.as_str(), &["<59><taken>", "<59>good", "reboot"], true),
        ("", &["<61>reboot"], false),
        ("", &["list", "<61>reboot"], false),
        ("", &["<40>nonsense", "<40>reboot"], false),
        ("", &["<40>rollback x", "<40>reboot"], false),
        ("", &["<40>~", "<40>reboot"], false),
        ("", &["<40>^C", "<40>reboot"], false),
        (door.as_str(), &["<40>~", "<40>good", "reboot"], false),
    ] {
        let mut model = Model::new();
        model.log = vec!["a line".to_owned(); 40];
        let (shown, choice) = play(&mut model, rights, lines);
        assert_eq!(choice == Choice::Reboot, stays, "{lines:?}: {shown}");
    }
}

#[test]
fn where_the_line_is_not_quiet_nothing_is_confirmed() {
    let rights = format!("change = \"password\"\npassword = \"{}\"", cheap_hash());
    for (rights, lines) in [
        ("", ["rollback", "<noise>", "ROLLBACK", "boot"]),
        (rights.as_str(), ["rollback", "<noise>", "good", "boot"]),
    ] {
        let mut model = Model::new();
        let (shown, _) = play(&mut model, rights, &lines);
        assert_eq!(live(&model), "live");
        let says = "The line is not quiet: nothing is done.";
        assert!(shown.contains(says), "{shown}");
        assert!(
            !shown.contains("word> ") && !shown.contains("password: "),
            "{shown}"
        );
    }
}

#[test]
fn a_menu_that_opens_once_more_counts_the_same_time() {
    let rights = format!("change = \"password\"\npassword = \"{}\"", cheap_hash());
    let mut guard = guard(&rights);
    let mut model = Model::new();
    model.clock.set(Duration::from_secs(10));
    let bad = ["rollback", "bad"].repeat(5);
    let first = [&bad[..], &["<20>boot"]].concat();
    let second = ["rollback", "good", "ROLLBACK", "boot"];
    for lines in [&first[..], &second] {
        let mut script = Script::with(&model, lines);
        menu::run(&mut model, &mut script, &mut guard, SETTINGS);
        assert!(!script.shown.contains("Too soon"), "{}", script.shown);
    }
    assert_eq!(live(&model), "2");
}

#[test]
fn a_policy_that_is_not_understood_is_said_on_the_first_screen_with_the_remedy() {
    let error = policy::parse("[console]\nchange = \"open\"\npassword = \"\"\n").unwrap_err();
    let policy = policy::Policy {
        fault: Some(error.to_string()),
        ..policy::Policy::nothing_allowed()
    };
    let mut model = Model::new();
    let mut script = Script::with(&model, &["boot"]);
    menu::run(&mut model, &mut script, &mut Guard::new(&policy), SETTINGS);
    expect_file!["screens/no-policy.txt"].assert_eq(&script.shown);
    let mut script = Script::with(&model, &[r#"{"do":"boot"}"#]);
    json::run(&mut model, &mut script, &mut Guard::new(&policy), SETTINGS);
    let sent = script.shown.lines().next().unwrap();
    let sent: serde_json::Value = serde_json::from_str(sent).unwrap();
    let fault = sent["situation"]["policy"].as_str().unwrap();
    assert!(fault.contains("line 3"), "{fault}");
}

#[test]
fn a_sound_disk_that_is_mounted_read_only_is_not_said_to_be_kept_so() {
    let mut model = Model::new();
    model.mounts = vec![Way::ReadOnly, Way::NoReplay];
    let (shown, _) = play(&mut model, "", &["disk ro", "boot"]);
    assert!(shown.contains("that holds nothing back"), "{shown}");
    let (shown, _) = play(&mut model, "", &["disk noreplay", "boot"]);
    assert!(!shown.contains("that holds nothing back"), "{shown}");
}

#[test]
fn what_cannot_be_started_any_more_is_not_said_to_start() {
    // Inside another initramfs the boot goes on.
    for (or_restart, silent) in [(true, Choice::Reboot), (false, Choice::Boot)] {
        let mut model = Model::new();
        model.starts = false;
        let settings = Settings {
            or_restart,
            ..SETTINGS
        };
        let mut script = Script::with(&model, &["menu"]);
        let choice = menu::run(&mut model, &mut script, &mut guard(""), settings);
        assert_eq!(choice, silent);
        let restarts = script.shown.contains("seconds the machine restarts.");
        assert_eq!(restarts, or_restart, "{}", script.shown);
    }
}

#[test]
fn what_cannot_be_read_as_a_command_is_answered_with_how_it_is_written() {
    let mut model = Model::new();
    let lines = [
        "~",
        "rm -rf /",
        "rollback twelve",
        "reset",
        "show 99",
        "rollback 99",
        "once 99",
        "x",
        "y",
        "z",
        "^C",
        "quit",
    ];
    let (shown, _) = play(&mut model, "", &lines);
    expect_file!["screens/strange.txt"].assert_eq(&shown);
}

#[test]
fn somebody_looks_into_a_version_and_at_what_differs() {
    let mut model = Model::new();
    model.store.edit(|world, _| {
        let tree = &mut world
            .datasets
            .get_mut(&Place::Live(Part::System))
            .unwrap()
            .tree;
        for i in 10..60 {
            tree.insert(format!("etc/new-{i}"), Content::File(vec![b'x'; i]));
        }
        tree.remove("boot/initrd.img");
    });
    let lines = [
        "diff 2",
        "",
        "q",
        "diff 2 /boot",
        "diff factory /etc/os-release",
        "diff 9",
        "diff 2 /sbin",
        "diff 2 /ect",
        "diff factory /srv/data/x",
        "look 2",
        "look 2 /etc/os-release",
        "look live /boot",
        "boot",
    ];
    let (shown, _) = play(&mut model, "", &lines);
    expect_file!["screens/look.txt"].assert_eq(&shown);
}

#[test]
fn a_disk_that_does_not_mount_is_explained_and_mounted_in_another_way() {
    let mut model = Model::new();
    model.unmounted =
        Some("writable: Input/output error; read-only: Input/output error".to_owned());
    model.unchangeable = Some("the disk is not mounted".to_owned());
    model.mounts = vec![Way::NoReplay];
    model.why = vec!["The disk does not mount.".to_owned()];
    let lines = [
        "list",
        "disk",
        "help",
        "disk ro",
        "disk noreplay",
        "list",
        "rollback",
        "boot",
    ];
    let (shown, _) = play(&mut model, "", &lines);
    expect_file!["screens/unmountable.txt"].assert_eq(&shown);
}

#[test]
fn without_a_disk_nobody_is_sent_to_what_is_not_there() {
    let mut model = Model::new();
    model.unmounted = Some("no device".to_owned());
    model.unchangeable = Some("the disk is not mounted".to_owned());
    model.diskless = true;
    let (shown, _) = play(&mut model, "", &["boot", "reboot"]);
    assert!(shown.contains("'disk' says why"), "{shown}");
    assert!(!shown.contains("'list'"), "{shown}");
}

#[test]
fn a_hibernated_system_is_left_alone_until_somebody_gives_it_up() {
    let mut model = Model::new();
    model.hibernated = true;
    model.unchangeable = Some("a hibernated system lies on the disk".to_owned());
    let (shown, choice) = play(&mut model, "", &["rollback", "disk again", "FORGET"]);
    assert_eq!(choice, Choice::Reboot);
    expect_file!["screens/hibernated.txt"].assert_eq(&shown);
}

#[test]
fn a_password_is_asked_for_once_a_console_and_costs_time_when_it_is_wrong() {
    let rights = format!(
        "change = \"password\"\nshell = \"password\"\npassword = \"{}\"",
        cheap_hash()
    );
    let mut model = Model::new();
    let lines = [
        "rollback", "bad", "rollback", "good", "no", "shell", "<taken>", "shell", "^C", "boot",
    ];
    let (shown, _) = play(&mut model, &rights, &lines);
    assert_eq!((live(&model).as_str(), model.shells), ("live", 1));
    expect_file!["screens/password.txt"].assert_eq(&shown);
    let closed = "change = \"closed\"";
    let mut model = Model::new();
    let (shown, _) = play(&mut model, closed, &["help", "rollback", "shell", "boot"]);
    expect_file!["screens/closed.txt"].assert_eq(&shown);
    let rights = format!("menu = \"password\"\npassword = \"{}\"", cheap_hash());
    let mut model = Model::new();
    let (shown, choice) = play(&mut model, &rights, &["list", "good", "list", "reboot"]);
    assert_eq!(choice, Choice::Reboot);
    expect_file!["screens/locked.txt"].assert_eq(&shown);
    // Nobody who knows it: the machine is not held up.
    let (shown, choice) = play(&mut Model::new(), &rights, &[]);
    assert_eq!(choice, Choice::Boot);
    assert!(!shown.contains("snapshot"), "{shown}");
}

#[test]
fn in_the_running_system_the_same_menu_asks_for_the_next_start() {
    let mut model = Model::new();
    model.stage = Stage::Running;
    model.why = Vec::new();
    let settings = Settings {
        seconds: None,
        ..SETTINGS
    };
    let mut script = Script::with(&model, &["help", "rollback 1", "no", "exit"]);
    menu::run(&mut model, &mut script, &mut guard(""), settings);
    expect_file!["screens/running.txt"].assert_eq(&script.shown);
}

#[test]
fn what_a_version_needs_of_the_data_is_said_where_it_is_chosen() {
    use crate::fence::names::Version;
    use crate::fence::tests::declare;
    let mut model = Model::new();
    let old = "dataset = \"data\"\nstate = \"1\"\n";
    let new = "dataset = \"data\"\nstate = \"2\"\n[[converter]]\nfrom = [\"2\"]\nto = \"1\"\n\
               command = [\"/usr/bin/down\"]\nlossless = false\nearly = true\n";
    declare(&mut model.store, Version::Snapshot(1), old);
    declare(&mut model.store, Version::Live, new);
    let lines = [
        "list",
        "show 1",
        "rollback 1",
        "rollback 1 fence=restore",
        "rollback 1 fence=convert",
        "no",
        "boot",
    ];
    let (shown, _) = play(&mut model, "", &lines);
    // As it is said, wherever its lines are broken.
    let words: Vec<&str> = shown.split_whitespace().collect();
    let flat = words.join(" ");
    for says in [
        "Only with fence=convert, which converts a copy of the data: 1",
        "it needs fence=convert: the data is converted, on a copy",
        "fence=convert, of a copy of it, goes there",
        "that version reads 1",
        "LOST: in the data that becomes live",
        "2 to 1 by down of the live system",
        "That was not the word: nothing was changed.",
    ] {
        assert!(flat.contains(says), "{says}: {shown}");
    }
    assert!(shown.lines().all(|line| line.len() < 80), "{shown}");
}

#[test]
fn what_waits_and_what_failed_is_on_the_first_screens() {
    let mut model = Model::new();
    let mut state = model.records.state.value.clone();
    state.remember_failed(2);
    state.request = Some(crate::record::state::Request {
        ticket: [1; 16],
        verb: Verb::Rollback(None),
        consent: Default::default(),
        loss: false,
        created: 1,
        prepared: Default::default(),
    });
    model.records.state.value = state;
    model.log = vec![
        format!("[    1.234] {}", "x".repeat(100)),
        "[    2.000] done: \x1b[2J".to_owned(),
    ];
    let (shown, _) = play(
        &mut model,
        "",
        &["list", "show 2", "show factory", "log", "boot"],
    );
    expect_file!["screens/waits.txt"].assert_eq(&shown);
}
