//! Properties of the parser and of the lines that are built, over generated ones.

use kernel_cmdline::{LINE_MAX, Line, Refused, Request, parse, raw_tokens, same_name, tokens};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A token of somebody else.
fn foreign() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("ro".to_string()),
        Just("root=UUID=0a".to_string()),
        Just("\"dyndbg=file a.c +p\"".to_string()),
        Just("x=\"backstay.reset=everything backstay.end\"".to_string()),
        "[a-z]{1,5}(=[a-z0-9/,.=-]{0,8})?",
    ]
}

/// A verb that changes something, with modifiers that go with it, without the sentinel.
fn destructive() -> impl Strategy<Value = Vec<String>> {
    let verb = prop_oneof![
        Just("backstay.rollback=previous".to_string()),
        (1..=u32::MAX).prop_map(|id| format!("backstay.rollback={id}")),
        Just("backstay.forward".to_string()),
        (1..=u32::MAX).prop_map(|id| format!("backstay.select={id}")),
        select(vec!["config", "config,data", "system", "everything"])
            .prop_map(|level| format!("backstay.reset={level}")),
    ];
    (verb, any::<bool>(), any::<bool>()).prop_map(|(verb, present, keep)| {
        let keep = keep && verb.ends_with("=system");
        let mut line = vec![verb];
        line.extend(present.then(|| "backstay.present".to_string()));
        line.extend(keep.then(|| "backstay.keep=config".to_string()));
        line
    })
}

/// The tokens of a whole destructive line in any order, but the sentinel after all of ours.
fn whole_line() -> impl Strategy<Value = Vec<String>> {
    (destructive(), prop::collection::vec(foreign(), 0..5))
        .prop_flat_map(|(ours, foreign)| Just([ours, foreign].concat()).prop_shuffle())
        .prop_flat_map(|line| (Just(line), prop::collection::vec(foreign(), 0..3)))
        .prop_map(|(mut line, after)| {
            line.push("backstay.end".to_string());
            line.extend(after);
            line
        })
}

/// Lines that are nearly right: pieces of right ones, quotes, blanks and noise.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        select(vec![
            "backstay.",
            "backstay",
            "rollback",
            "reset",
            "select",
            "menu",
            "end",
            "keep",
            "=",
            "previous",
            "system",
            "config",
            ",data",
            "everything",
            "12",
            "0",
            "4294967296",
            "\"",
            " ",
            "\t",
            "--",
            " -- ",
            "-",
            "_",
            "\u{e0}",
            "fence=refuse",
            "attempt=1:2",
            "present",
            " backstay.end",
            " backstay.forward",
            "tarball=a:/b",
            "\0",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Whether a refusal is only about an unclosed quote of somebody else.
fn only_an_open_quote(read: &Result<Request, Refused>) -> bool {
    matches!(read, Err(Refused::Swallowed { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_appended_comes_back(
        list in prop::collection::vec(("[a-zA-Z0-9._-]{1,6}", prop::option::of("[^\"\0]{0,8}")), 0..12)
    ) {
        prop_assume!(list.iter().all(|(key, value)| key != "--" || value.is_some()));
        let mut line = Line::default();
        for (key, value) in &list {
            line.append(key, value.as_deref()).unwrap();
        }
        let back: Vec<_> = tokens(line.as_bytes())
            .map(|token| (token.key.to_string(), token.value.map(str::to_string)))
            .collect();
        prop_assert_eq!(back, list);
    }

    #[test]
    fn no_line_makes_the_parser_panic_and_no_verb_acts_without_the_sentinel(line in soup()) {
        if let Ok(Request { verb: Some(verb), .. }) = parse(&line)
            && verb.changes()
        {
            let ended = tokens(&line).any(|token| token.key == "backstay.end");
            prop_assert!(ended);
        }
        if let Err(refused) = parse(&line) {
            let text = refused.to_string();
            prop_assert!(text.len() < 300 && text.bytes().all(|it| (b' '..=b'~').contains(&it)));
        }
    }

    #[test]
    fn tokens_lie_in_the_line_in_order_and_only_the_last_can_be_open(line in soup()) {
        let found: Vec<_> = raw_tokens(&line).collect();
        for pair in found.windows(2) {
            prop_assert!(pair[0].end < pair[1].start && pair[0].closed);
        }
        for token in found {
            prop_assert!(token.start < token.end && token.end <= line.len());
        }
    }

    #[test]
    fn the_order_does_not_matter_as_long_as_the_sentinel_is_last(
        (line, again) in whole_line().prop_flat_map(|line| {
            let end = line.iter().position(|token| token == "backstay.end").unwrap();
            let before = Just(line[..end].to_vec()).prop_shuffle();
            (Just(line.clone()), before.prop_map(move |before| [&before[..], &line[end..]].concat()))
        })
    ) {
        let read = parse(line.join(" ").as_bytes());
        prop_assert!(read.is_ok());
        prop_assert_eq!(read, parse(again.join(" ").as_bytes()));
    }

    #[test]
    fn a_parameter_after_the_sentinel_is_refused(line in whole_line(), from in any::<Index>()) {
        let end = line.iter().position(|token| token == "backstay.end").unwrap();
        let ours = line[..end].iter().filter(|token| token.starts_with("backstay.")).count();
        let picked = from.index(ours);
        let mut moved = line.clone();
        let at = (0..end).filter(|at| line[*at].starts_with("backstay.")).nth(picked).unwrap();
        let token = moved.remove(at);
        moved.push(token);
        let refused = matches!(parse(moved.join(" ").as_bytes()), Err(Refused::AfterSentinel { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn a_line_cut_anywhere_asks_for_what_it_asked_or_changes_nothing(
        line in whole_line(), cut in any::<Index>()
    ) {
        let line = line.join(" ");
        let whole = parse(line.as_bytes()).unwrap();
        let cut = cut.index(line.len());
        if let Ok(request) = parse(&line.as_bytes()[..cut])
            && request.verb.is_some()
        {
            prop_assert_eq!(request, whole, "cut at {}", cut);
        }
    }

    #[test]
    fn a_lost_token_never_turns_one_verb_into_another(line in whole_line(), lost in any::<Index>()) {
        let whole = parse(line.join(" ").as_bytes()).unwrap();
        let lost = lost.index(line.len());
        let mut rest = line.clone();
        let gone = rest.remove(lost);
        match parse(rest.join(" ").as_bytes()) {
            // A modifier is no part of the promise: its loss in the middle of a line leaves the
            // verb, without what it asked for. Boot loaders and kernels cut at the end only.
            Ok(request) if request.verb.is_some() => {
                prop_assert_eq!(request.verb, whole.verb);
                let modifier = ["backstay.present", "backstay.keep=config"].contains(&gone.as_str());
                prop_assert!(modifier || request == whole, "without {}", gone);
            }
            Ok(_) | Err(_) => prop_assert!(gone.starts_with("backstay.")),
        }
    }

    #[test]
    fn two_verbs_are_refused_whichever_they_are(a in destructive(), b in destructive()) {
        let line = format!("{} {} backstay.end", a[0], b[0]);
        let refused = matches!(
            parse(line.as_bytes()),
            Err(Refused::TwoVerbs { .. } | Refused::Repeated { .. })
        );
        prop_assert!(refused, "{}", line);
    }

    #[test]
    fn taking_ours_out_leaves_the_tokens_of_others_and_nothing_of_ours(line in soup()) {
        let ours = |key: &[u8]| {
            let key = key.to_ascii_lowercase();
            key == b"backstay" || key.starts_with(b"backstay.")
        };
        let pair = |line: &[u8]| -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
            raw_tokens(line).map(|it| (it.key.to_vec(), it.value.map(<[u8]>::to_vec))).collect()
        };
        let without = Line::without_backstay(&line).unwrap();
        let expected: Vec<_> = pair(&line).into_iter().filter(|(key, _)| !ours(key)).collect();
        prop_assert_eq!(pair(without.as_bytes()), expected);
        let read = parse(without.as_bytes());
        prop_assert!(read == Ok(Request::default()) || only_an_open_quote(&read));
        prop_assert_eq!(Line::without_backstay(without.as_bytes()), Ok(without));
    }

    #[test]
    fn a_line_with_nothing_of_ours_is_kept_byte_for_byte(list in prop::collection::vec(foreign(), 0..12)) {
        let line = list.join("  ");
        let kept = Line::without_backstay(line.as_bytes()).unwrap();
        prop_assert_eq!(kept.as_bytes(), line.as_bytes());
    }

    #[test]
    fn an_appended_parameter_is_the_last_of_the_kernels_part(
        line in soup(), key in "[a-z]{1,5}", value in "[a-z \"]{0,5}"
    ) {
        let mut built = Line::new(&line).unwrap();
        let before = built.clone();
        match built.append(&key, Some(&value)) {
            Err(_) => prop_assert_eq!(built, before),
            Ok(()) => {
                let kernels = |line: &Line| -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
                    raw_tokens(line.as_bytes())
                        .take_while(|token| !token.is_separator())
                        .map(|it| (it.key.to_vec(), it.value.map(<[u8]>::to_vec)))
                        .collect()
                };
                let mut expected = kernels(&before);
                expected.push((key.into_bytes(), Some(value.into_bytes())));
                prop_assert_eq!(kernels(&built), expected);
                prop_assert!(built.as_bytes().len() <= LINE_MAX);
            }
        }
    }

    #[test]
    fn dashes_and_underscores_in_names_are_equal(name in "[a-z_-]{0,8}") {
        prop_assert!(same_name(name.as_bytes(), name.replace('-', "_").as_bytes()));
        let other = format!("{name}x");
        prop_assert!(!same_name(name.as_bytes(), other.as_bytes()));
    }
}
