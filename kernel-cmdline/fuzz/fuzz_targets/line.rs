//! Any bytes as a command line.
//!
//! Run it in kernel-cmdline/: `cargo +nightly fuzz run line -- -max_len=2048 -dict=fuzz/line.dict`

#![no_main]

use kernel_cmdline::{Boot, Line, Refused, Request, parse, raw_tokens, tokens};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let mut from = 0;
    for token in raw_tokens(line) {
        assert!(from <= token.start && token.start < token.end && token.end <= line.len());
        from = token.end;
    }
    let _ = Boot::read(line);

    let read = parse(line);
    match &read {
        Ok(Request { verb: Some(verb), .. }) if verb.changes() => {
            assert_eq!(tokens(line).filter(|token| token.key == "backstay.end").count(), 1);
            assert_cuts_change_nothing(line, &read);
        }
        Ok(_) => {}
        Err(refused) => {
            let text = refused.to_string();
            assert!(text.len() < 300 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }

    if let Ok(without) = Line::without_backstay(line) {
        let again = parse(without.as_bytes());
        assert!(again == Ok(Request::default()) || matches!(again, Err(Refused::Swallowed { .. })));
        let mut longer = without.clone();
        if longer.append("zz", Some("a b")).is_ok() {
            let last = tokens(longer.as_bytes()).last().map(|token| (token.key, token.value));
            assert_eq!(last, Some(("zz", Some("a b"))));
            assert_eq!(parse(longer.as_bytes()), again);
        }
    }
});

/// A line that was cut short asks for the same as the whole one, or for no verb.
fn assert_cuts_change_nothing(line: &[u8], whole: &Result<Request, Refused>) {
    for cut in 0..line.len() {
        let read = parse(&line[..cut]);
        assert!(read == *whole || !matches!(read, Ok(Request { verb: Some(_), .. })));
    }
}
