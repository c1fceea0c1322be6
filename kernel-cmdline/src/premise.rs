//! Awkward command lines, for asking a booted kernel how it cuts them.
//!
//! The kernel hands what it does not know to init: words without a dot in argv, `k=v` without a dot
//! in the name in the environment, and all after `--` in argv. [`handed_to_init`] says from our
//! tokens what init is to find; a scenario boots each line and compares.

use crate::token::raw_tokens;

/// The lines. Their names (`za1`, …) are no parameters of Linux, so all of them reach init.
///
/// Each is booted, so each holds as much as may stand together: what leaves a quote open, and what
/// has a `--`, needs a line of its own. At most 32 unknown words and 32 unknown `k=v` may stand on
/// a line, or the kernel panics.
pub const AWKWARD_LINES: &[&[u8]] = &[
    // Blanks of all sorts; 0xA0 is one even in the middle of a letter; other bytes are not.
    b"  za1\tza2=b\x0bza3\x0cza4\rza5\nza6   zb1\xa0zb2=\xc3\xa4 zb3=\xc3\xa0c zb4\xff zb5=\x01\x1b\x7f\x80 ",
    // Quotes that are removed, and quotes that stay.
    b"za1=\"b c\" \"zb1=b c\" \"zc1 b\" zd1=b\"c d\"e ze1=b\"c d\" zf1=\"b\"c zg1=\"b\"\"c d\" \"zh1=\"b c\" \
      \"zi1=b\"c zj1\"b c\" \"zk1\"=b \"zl1 b\"=\"c d\" \"\" zm1= zn1=\"\" \"zo1=\" \"zp1=\"\" zq1\" zr1=\"a\tb\"",
    // Equals signs.
    b"za1==b zb1=c=d zc1=e= =zd1 =ze1=b == === = zf1",
    // Names: dots are not for init, dashes stay what they are there; a repeated one keeps its place.
    b"zz-1=a zz_1=b zz-2 za1=a zb1=x za1=b za1=c zc1.a=b zd1.c zd.2=\"x y\" ze1=a.b TERM=zz zf1",
    // No escapes, no other quotes.
    b"za1='b c' zb1=b\\ c zc1=\\\"d ze1\\ zf1=\"g\\\" h\" zi1",
    // Open quotes, which run to the end.
    b"za1=\"b c zz2 ",
    b"za1=b\"c zz2",
    b"\"za1=b c zz2",
    b"za1 \"zb1 c ",
    b"za1 zb1=\"",
    b"za1 \"",
    b"\"za1=\"b\" zb1",
    // What is init's own.
    b"za1 --zb1 --=c - zd1-- -- ze1 zf1=b zg1.c \"zh1=d e\" quiet ro -- zi1 zj1=b",
    b"za1 \"--\" zb1=\"b c\" zc1",
    b"za1 --",
    // Ours.
    b"backstay.rollback=previous backstay.present backstay.end za1",
];

/// What the kernel does with one token that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed<'a> {
    /// A word in init's argv: the whole token, as `k=v` where it has a value.
    Argument(&'a [u8], Option<&'a [u8]>),
    /// A variable in init's environment. It replaces an earlier one of that name, in its place.
    Variable(&'a [u8], &'a [u8]),
}

/// What init is to find of a line on which the kernel knows nothing, in the order of the line.
///
/// Of what is after `--`, init gets all up to a second `--`, and the rest is lost
/// (`parse_args()` stops at each).
pub fn handed_to_init(line: &[u8]) -> impl Iterator<Item = Handed<'_>> {
    let mut separators = 0_u32;
    raw_tokens(line).filter_map(move |token| {
        if token.is_separator() {
            separators = separators.saturating_add(1);
            return None;
        }
        match (separators, token.value) {
            (0, _) if token.key.contains(&b'.') => None,
            (0, Some(value)) => Some(Handed::Variable(token.key, value)),
            (0 | 1, value) => Some(Handed::Argument(token.key, value)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn init_gets_what_the_kernel_does_not_know() {
        let line = b"a b=\"c d\" e.f g.h=i -- j k=l m.n -- o";
        let handed: Vec<_> = handed_to_init(line).collect();
        let expected = [
            Handed::Argument(b"a", None),
            Handed::Variable(b"b", b"c d"),
            Handed::Argument(b"j", None),
            Handed::Argument(b"k", Some(b"l")),
            Handed::Argument(b"m.n", None),
        ];
        assert_eq!(handed, expected);
    }

    #[test]
    fn no_awkward_line_makes_the_kernel_panic_by_its_length() {
        for line in AWKWARD_LINES {
            let variable = |handed: &Handed<'_>| matches!(handed, Handed::Variable(..));
            let (variables, words): (Vec<_>, Vec<_>) = handed_to_init(line).partition(variable);
            assert!(variables.len() <= 30 && words.len() <= 31, "{line:?}");
        }
    }
}
