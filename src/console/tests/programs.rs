//! What programs send, and what they get.

use super::model::Model;
use super::{SETTINGS, Script, cheap_hash, guard};
use crate::console::json;
use crate::console::menu::Choice;
use expect_test::expect_file;
use serde_json::Value;

fn play(model: &mut Model, rights: &str, lines: &[&str]) -> (String, Choice) {
    let mut script = Script::with(model, lines);
    let choice = json::run(model, &mut script, &mut guard(rights), SETTINGS);
    (script.shown, choice)
}

/// The objects that were sent.
fn objects(shown: &str) -> Vec<Value> {
    let lines = shown
        .lines()
        .filter(|line| line.starts_with("{\"event\"") || line.starts_with("{\"changed"));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_program_looks_plans_and_rolls_back() {
    let mut model = Model::new();
    let lines = [
        r#"{"do":"list"}"#,
        r#"{"do":"rollback 1"}"#,
        r#"{"do":"rollback 1","word":"rollback"}"#,
        r#"{"do":"rollback 1","word":"ROLLBACK"}"#,
        r#"{"do":"show 3"}"#,
        r#"{"do":"boot"}"#,
    ];
    let (shown, choice) = play(&mut model, "", &lines);
    assert_eq!(choice, Choice::Boot);
    assert_eq!(model.records.state.value.live.clone_of, Some(1));
    expect_file!["screens/program.txt"].assert_eq(&shown);
}

#[test]
fn what_is_wrong_has_a_kind_and_repeats_nothing_that_was_sent() {
    let mut model = Model::new();
    let before = model.store.world().clone();
    for (line, kind) in [
        ("rollback", "syntax"),
        (r#"{"do":"rollback SECRET"#, "syntax"),
        (r#"{"do":"rollback 2","wrod":"SECRET"}"#, "syntax"),
        (r#"{"do":["SECRET"]}"#, "syntax"),
        (r#"{"do":"SECRET"}"#, "command"),
        (r#"{"do":"rollback SECRET"}"#, "command"),
        (r#"{"do":"rollback 2","word":"SECRET"}"#, "word"),
        (r#"{"do":"rollback 77"}"#, "failed"),
        (r#"{"do":"forward","word":"FORWARD"}"#, "failed"),
        (r#"{"do":"shell"}"#, "closed"),
        (r#"{"do":"password","password":"SECRET"}"#, "password"),
        (r#"{"do":"FORGET"}"#, "word"),
        ("~", "garbled"),
    ] {
        let (shown, _) = play(&mut model, "", &[line, r#"{"do":"boot"}"#]);
        let error = objects(&shown)
            .into_iter()
            .find(|it| it["event"] == "error");
        assert_eq!(
            error.as_ref().map(|it| &it["kind"]),
            Some(&Value::from(kind)),
            "{line}: {shown}"
        );
        assert!(
            !error.unwrap().to_string().contains("SECRET"),
            "{line}: {shown}"
        );
        assert_eq!(*model.store.world(), before, "{line}");
    }
}

#[test]
fn a_locked_menu_says_so_and_nothing_else() {
    let hash = cheap_hash();
    let rights = format!("menu = \"password\"\npassword = \"{hash}\"");
    let mut model = Model::new();
    let lines = [
        r#"{"do":"list"}"#,
        r#"{"do":"password","password":"good"}"#,
        r#"{"do":"list"}"#,
        r#"{"do":"reboot"}"#,
    ];
    let (shown, _) = play(&mut model, &rights, &lines);
    let all = objects(&shown);
    let events: Vec<&str> = all.iter().filter_map(|it| it["event"].as_str()).collect();
    assert_eq!(
        events,
        [
            "situation",
            "ready",
            "error",
            "ready",
            "situation",
            "ready",
            "versions",
            "ready",
            "end"
        ]
    );
    assert_eq!(all[0]["locked"], true);
    assert_eq!(all[0]["situation"]["live"], serde_json::json!([]));
}

#[test]
fn what_differs_is_sent_of_the_path_that_was_named() {
    let mut model = Model::new();
    let paths = |model: &mut Model, path: &str| -> Vec<String> {
        let line = format!(r#"{{"do":"diff 2 {path}"}}"#);
        let all = objects(&play(model, "", &[&line, r#"{"do":"boot"}"#]).0);
        let changed = all.iter().filter(|it| it["event"] == "changed");
        changed
            .map(|it| it["path"]["path"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(paths(&mut model, "/etc").contains(&"/etc/os-release".to_owned()));
    assert_eq!(paths(&mut model, "/etc/os-release").len(), 1);
    assert_eq!(paths(&mut model, "/boot"), Vec::<String>::new());
    for (path, says) in [("/srv/data", "That is data"), ("/ect", "Neither")] {
        let line = format!(r#"{{"do":"diff 2 {path}"}}"#);
        let (shown, _) = play(&mut model, "", &[&line, r#"{"do":"boot"}"#]);
        let error = objects(&shown)
            .into_iter()
            .find(|it| it["event"] == "error");
        assert!(
            error.unwrap()["text"].as_str().unwrap().contains(says),
            "{shown}"
        );
    }
}

#[test]
fn only_what_is_understood_keeps_it_open() {
    let hash = cheap_hash();
    let rights = format!("change = \"password\"\npassword = \"{hash}\"");
    for (line, kept) in [
        (r#"{"do":"list"}"#, true),
        (r#"{"do":"show 77"}"#, true),
        (r#"{"do":"password","password":"good"}"#, true),
        ("<taken>", true),
        (r#"{"do":"password","password":"bad"}"#, false),
        (r#"{"do":"nonsense"}"#, false),
        ("nonsense", false),
        ("~", false),
    ] {
        let late = format!("<40>{line}");
        let (shown, choice) = play(
            &mut Model::new(),
            &rights,
            &[&late, r#"<40>{"do":"reboot"}"#],
        );
        assert_eq!(choice == Choice::Reboot, kept, "{line}: {shown}");
    }
}

#[test]
fn a_password_that_comes_too_soon_is_not_said_to_be_wrong() {
    let hash = cheap_hash();
    let rights = format!("change = \"password\"\npassword = \"{hash}\"");
    let lines = [
        r#"{"do":"password","password":"bad"}"#,
        r#"{"do":"password","password":"good"}"#,
        r#"<1>{"do":"password","password":"good"}"#,
        r#"{"do":"boot"}"#,
    ];
    let mut model = Model::new();
    let (shown, _) = play(&mut model, &rights, &lines);
    let all = objects(&shown);
    let answers: Vec<&Value> = all.iter().filter(|it| it["event"] != "ready").collect();
    assert_eq!(answers[1]["kind"], "password");
    assert_eq!(answers[2]["kind"], "too-soon");
    assert_eq!(answers[3]["event"], "situation");
    let noted = model
        .notes
        .iter()
        .filter(|it| it.contains("wrong password"));
    assert_eq!(noted.count(), 1);
}

#[test]
fn whoever_takes_the_menu_is_told_how_things_stand_before_it_is_ready() {
    let mut model = Model::new();
    let lines = ["<taken>", r#"{"do":"take"}"#, r#"{"do":"boot"}"#];
    let (shown, choice) = play(&mut model, "", &lines);
    assert_eq!(choice, Choice::Boot);
    let all = objects(&shown);
    let events: Vec<&str> = all.iter().filter_map(|it| it["event"].as_str()).collect();
    let wanted = [
        "situation",
        "ready",
        "situation",
        "ready",
        "situation",
        "ready",
        "end",
    ];
    assert_eq!(events, wanted);
}
