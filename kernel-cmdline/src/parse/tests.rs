//! The grammar, case by case.

extern crate std;
use super::*;
use crate::request::{Fence, Target};
use std::string::{String, ToString};
use std::{format, vec::Vec};

fn asked(verb: Verb) -> Request {
    Request {
        verb: Some(verb),
        ..Request::default()
    }
}

/// The refusal's text.
fn refusal(line: &str) -> String {
    match parse(line.as_bytes()) {
        Err(refused) => refused.to_string(),
        Ok(request) => panic!("{line} was not refused but read as {request:?}"),
    }
}

#[test]
fn a_line_without_our_parameters_asks_for_nothing() {
    for line in [
        "",
        "root=UUID=0a ro quiet -- single",
        "nobackstay.reset=system xbackstay.end backstay_reset=system",
        "a=backstay.reset=system",
        "\" backstay.reset=system\"",
        "x=\"a backstay.reset=system backstay.end\"",
        "backstay.end",
    ] {
        assert_eq!(parse(line.as_bytes()), Ok(Request::default()), "{line}");
    }
}

#[test]
fn each_verb_is_read() {
    for (line, verb) in [
        (
            "backstay.rollback=previous",
            Verb::Rollback(Target::Previous),
        ),
        ("backstay.rollback=1", Verb::Rollback(Target::Id(1))),
        (
            "backstay.rollback=4294967295",
            Verb::Rollback(Target::Id(u32::MAX)),
        ),
        ("backstay.forward", Verb::Forward),
        ("backstay.select=12", Verb::Select(12)),
        ("backstay.reset=config", Verb::Reset(Level::Config)),
        (
            "backstay.reset=config,data",
            Verb::Reset(Level::ConfigAndData),
        ),
        ("backstay.reset=system", Verb::Reset(Level::System)),
        ("backstay.reset=everything", Verb::Reset(Level::Everything)),
        ("\"backstay.reset=system\"", Verb::Reset(Level::System)),
        ("backstay.reset=\"system\"", Verb::Reset(Level::System)),
        ("backstay.menu", Verb::Menu(None)),
        ("backstay.menu=1", Verb::Menu(Some(1))),
        ("backstay.menu=86400", Verb::Menu(Some(86_400))),
    ] {
        let line = format!("root=/dev/vda1 {line} quiet backstay.end -- single\n");
        assert_eq!(parse(line.as_bytes()), Ok(asked(verb)), "{line}");
    }
}

#[test]
fn a_verb_is_shown_as_it_is_written() {
    for text in [
        "rollback=previous",
        "rollback=7",
        "forward",
        "select=7",
        "reset=config,data",
    ] {
        let line = format!("backstay.{text} backstay.end");
        assert_eq!(
            parse(line.as_bytes()).unwrap().verb.unwrap().to_string(),
            text
        );
    }
    assert_eq!(
        parse(b"backstay.menu=9").unwrap().verb.unwrap().to_string(),
        "menu=9"
    );
}

#[test]
fn each_modifier_is_read() {
    let rollback = asked(Verb::Rollback(Target::Previous));
    let system = asked(Verb::Reset(Level::System));
    for (line, request) in [
        (
            "backstay.rollback=previous backstay.present",
            Request {
                present: true,
                ..rollback.clone()
            },
        ),
        (
            "backstay.fence=refuse backstay.rollback=previous",
            Request {
                fence: Some(Fence::Refuse),
                ..rollback.clone()
            },
        ),
        (
            "backstay.rollback=previous backstay.fence=convert",
            Request {
                fence: Some(Fence::Convert),
                ..rollback
            },
        ),
        (
            "backstay.reset=system backstay.fence=restore",
            Request {
                fence: Some(Fence::Restore),
                ..system.clone()
            },
        ),
        (
            "backstay.reset=system backstay.keep=config",
            Request {
                keep_config: true,
                ..system
            },
        ),
        (
            "backstay.attempt=7:2",
            Request {
                attempt: Some(Attempt { seq: 7, n: 2 }),
                ..Request::default()
            },
        ),
    ] {
        let line = format!("{line} backstay.end");
        assert_eq!(parse(line.as_bytes()), Ok(request), "{line}");
    }
}

#[test]
fn what_needs_no_sentinel_is_read_without_it() {
    assert_eq!(parse(b"backstay.menu"), Ok(asked(Verb::Menu(None))));
    assert!(parse(b"backstay.attempt=1:1").unwrap().attempt.is_some());
    assert_eq!(
        parse(b"backstay.attempt=7:0").unwrap().attempt,
        Some(Attempt { seq: 7, n: 0 })
    );
}

#[test]
fn each_refusal_says_what_is_wrong_and_what_to_do() {
    let names = "there are rollback, forward, select, reset, menu, keep, fence, tarball, console, \
                 present, attempt, end";
    let unknown = |name: &str| {
        format!("{name} is no parameter of this version: correct it or take it out; {names}")
    };
    let cases: &[(&str, String)] = &[
        ("backstay.rolback=previous", unknown("backstay.rolback")),
        ("backstay.Rollback=previous", unknown("backstay.Rollback")),
        ("Backstay.rollback=previous", unknown("Backstay.rollback")),
        ("backstay.=previous", unknown("backstay.")),
        ("backstay=previous", unknown("backstay")),
        ("backstay.\"reset\"=system", unknown("backstay.\"reset\"")),
        ("\"backstay.end \"", unknown("backstay.end ")),
        (
            "backstay.reset=sytem backstay.end",
            "backstay.reset=sytem is not understood: it takes config; config,data; system or \
             everything"
                .into(),
        ),
        (
            "backstay.rollback=Previous",
            "backstay.rollback=Previous is not understood: it takes previous or ID".into(),
        ),
        (
            "backstay.rollback backstay.end",
            "backstay.rollback has no value: it takes previous or ID".into(),
        ),
        (
            "backstay.keep=",
            "backstay.keep has no value: it takes config".into(),
        ),
        (
            "backstay.menu=",
            "backstay.menu has no value: it takes no value or SECONDS, 1 to 86400".into(),
        ),
        (
            "backstay.menu=999999999999",
            "backstay.menu=999999999999 is not understood: it takes no value or SECONDS, 1 to 86400"
                .into(),
        ),
        (
            "backstay.forward=1",
            "backstay.forward=1 has a value, and takes none: write backstay.forward".into(),
        ),
        (
            "backstay.end=",
            "backstay.end= has a value, and takes none: write backstay.end".into(),
        ),
        (
            "backstay.reset=\"sys tem\"",
            "backstay.reset=sys tem holds a character that does not travel safely: use letters, \
             digits and . _ : / @ = , + - only"
                .into(),
        ),
        (
            "backstay.present backstay.present",
            "backstay.present stands there more than once: leave one of them".into(),
        ),
        (
            "backstay.end backstay.end",
            "backstay.end stands there more than once: leave one of them".into(),
        ),
        (
            "backstay.reset=system backstay.reset=system backstay.end",
            "backstay.reset stands there more than once: leave one of them".into(),
        ),
        (
            "backstay.reset=system backstay.menu backstay.end",
            "backstay.reset and backstay.menu cannot both be meant: leave one of them".into(),
        ),
        (
            "backstay.reset=everything backstay.keep=config backstay.end",
            "backstay.keep goes only with reset=system: take it out or correct the verb".into(),
        ),
        (
            "backstay.fence=refuse",
            "backstay.fence goes only with rollback, forward, reset=system or reset=everything: take \
             it out or correct the verb"
                .into(),
        ),
        (
            "backstay.select=3 backstay.fence=convert backstay.end",
            "backstay.fence goes only with rollback, forward, reset=system or reset=everything: take \
             it out or correct the verb"
                .into(),
        ),
        (
            "backstay.reset=config,data backstay.fence=restore backstay.end",
            "backstay.fence goes only with rollback, forward, reset=system or reset=everything: take \
             it out or correct the verb"
                .into(),
        ),
        (
            "backstay.reset=config backstay.tarball=LABEL=usb:/f.tar.zst backstay.end",
            "backstay.tarball goes only with reset=system or reset=everything: take it out or \
             correct the verb"
                .into(),
        ),
        (
            "backstay.menu backstay.present",
            "backstay.present goes only with rollback, forward, select or reset: take it out or \
             correct the verb"
                .into(),
        ),
        (
            "backstay.forward backstay.attempt=1:1 backstay.end",
            "backstay.attempt goes only where there is no verb: take it out or correct the verb"
                .into(),
        ),
        (
            "backstay.forward",
            "backstay.forward without the closing backstay.end: the line may have been cut short; \
             put backstay.end after all backstay parameters, or shorten the line"
                .into(),
        ),
        (
            "backstay.forward -- backstay.end",
            "backstay.end stands after --, where all belongs to init: put it before --".into(),
        ),
        (
            "-- backstay.forward backstay.end",
            "backstay.forward stands after --, where all belongs to init: put it before --".into(),
        ),
        (
            "backstay.reset=system backstay.end backstay.keep=config",
            "backstay.keep stands after backstay.end, which does not cover it: put backstay.end \
             last"
                .into(),
        ),
        (
            "dyndbg=\"file a.c +p backstay.forward backstay.end",
            "a quote in dyndbg is not closed and swallows backstay's parameters: close it with \""
                .into(),
        ),
    ];
    for (line, text) in cases {
        assert_eq!(&refusal(line), text, "{line}");
    }
}

#[test]
fn numbers_are_strict() {
    for value in [
        "0",
        "007",
        "+7",
        "-7",
        "7 ",
        "7x",
        "0x7",
        "4294967296",
        "99999999999999",
    ] {
        let line = format!("\"backstay.select={value}\" backstay.end");
        assert!(parse(line.as_bytes()).is_err(), "{line}");
    }
    for value in ["7", "7:", ":7", "0:7", "7:7:7", "7:+7"] {
        assert!(
            parse(format!("backstay.attempt={value}").as_bytes()).is_err(),
            "{value}"
        );
    }
    for value in ["0", "86401", "1m"] {
        assert!(
            parse(format!("backstay.menu={value}").as_bytes()).is_err(),
            "{value}"
        );
    }
}

#[test]
fn a_tarballs_location_has_a_source_and_a_path() {
    let location = |value: &str| {
        let line = format!("backstay.reset=everything backstay.tarball={value} backstay.end");
        parse(line.as_bytes()).map(|request| request.tarball.unwrap().to_string())
    };
    for value in [
        "LABEL=usb:/factory.tar.zst",
        "/dev/sdb1:/a/b",
        "UUID=0a:/x..y",
    ] {
        assert_eq!(location(value), Ok(value.to_string()));
    }
    let long = format!("a:/{}", "x".repeat(253));
    for value in [
        "usb",
        ":/x",
        "usb:/",
        "usb:x",
        "usb:/a/../b",
        "usb:/a%b",
        &long,
    ] {
        assert!(location(value).is_err(), "{value}");
    }
}

#[test]
fn a_parameter_of_ours_that_is_not_text_is_refused_and_others_are_not_our_business() {
    assert!(parse(b"backstay.select=\xff backstay.end").is_err());
    assert!(parse(b"backstay.\xff=1").is_err());
    assert_eq!(parse(b"\xff=\xfe a\xc3"), Ok(Request::default()));
    let shown = parse(b"backstay.select=\x1b[2J\xff backstay.end")
        .unwrap_err()
        .to_string();
    assert!(
        shown.starts_with("backstay.select=\\x1b[2J\\xff holds"),
        "{shown}"
    );
}

#[test]
fn offending_text_is_bounded_and_one_line() {
    let line = format!("backstay.\"{}\" backstay.end", "a\n".repeat(1000));
    let shown = refusal(&line);
    assert!(
        shown.contains("a\\x0aa\\x0a") && shown.contains("... is no parameter"),
        "{shown}"
    );
    assert!(shown.len() < 250 && !shown.contains('\n'), "{shown}");
}

#[test]
fn a_line_that_fills_the_kernels_buffer_is_safe_at_each_length() {
    let full = "backstay.reset=everything backstay.present";
    for length in full.len() + 2..=crate::LINE_MAX {
        let padding = "x".repeat(length - full.len() - 1);
        let line = format!("{padding} {full}");
        assert_eq!(line.len(), length);
        assert!(
            matches!(parse(line.as_bytes()), Err(Refused::NoSentinel { .. })),
            "{length}"
        );
    }
    let whole = format!("{full} backstay.end");
    let line = format!("{} {whole}", "x".repeat(crate::LINE_MAX - whole.len() - 1));
    assert_eq!(line.len(), crate::LINE_MAX);
    for cut in 0..line.len() {
        let request = parse(&line.as_bytes()[..cut]).unwrap_or_default();
        assert_eq!(request.verb, None, "cut at {cut}");
    }
    assert!(parse(line.as_bytes()).unwrap().verb.is_some());
}

#[test]
fn the_table_is_in_order() {
    let names: Vec<_> = TABLE.iter().map(|parameter| parameter.name).collect();
    for (at, parameter) in TABLE.iter().enumerate() {
        let name = parameter.name;
        assert!(!names[..at].contains(&name), "{name} twice");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
        assert!(
            !parameter.forms.is_empty() && !parameter.meaning.is_empty(),
            "{name}"
        );
        assert!(!parameter.help.is_empty(), "{name} has no help");
        for form in parameter.forms {
            let travelling = form.value.syntax().bytes().all(|byte| travels(&byte));
            assert!(travelling && !form.meaning.is_empty(), "{name}");
        }
        if parameter.kind == Kind::Verb {
            assert_eq!(parameter.fit, Fit::Any, "{name}");
        }
    }
    let sentinels = TABLE
        .iter()
        .filter(|parameter| parameter.kind == Kind::Sentinel);
    assert_eq!(sentinels.count(), 1);
}
