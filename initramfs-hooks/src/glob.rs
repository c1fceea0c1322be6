//! Shell patterns as depmod writes them into `modules.alias`: `*`, `?`, `[a-f]`, nothing else.

/// True if `text` matches `pattern` as a whole. `-` and `_` are told apart: device aliases hold both.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: one byte later.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            Some(_) => {
                if let Some(length) = text
                    .get(t)
                    .and_then(|byte| one(pattern.get(p..).unwrap_or_default(), *byte))
                {
                    (p, t) = (p + length, t + 1);
                    continue;
                }
            }
            None => {}
        }
        match star {
            Some((after, from)) if from < text.len() => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// How many bytes of `pattern` (not starting with a star) match `byte`; `None`: they do not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let close = rest.iter().skip(1).position(|b| *b == b']')? + 1;
            class(rest.get(..close)?, byte).then_some(close + 2)
        }
        [first, ..] => (*first == byte).then_some(1),
        [] => None,
    }
}

fn class(mut set: &[u8], byte: u8) -> bool {
    let negated = matches!(set, [b'!' | b'^', ..]);
    if negated {
        set = set.get(1..).unwrap_or_default();
    }
    let mut found = false;
    while let [first, rest @ ..] = set {
        set = match rest {
            [b'-', last, rest @ ..] => {
                found |= (*first..=*last).contains(&byte);
                rest
            }
            _ => {
                found |= *first == byte;
                rest
            }
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4", true),
            ("virtio:d00000002v*", "virtio:d00000001v00001AF4", false),
            (
                "pci:v*d*sv*sd*bc01sc06i01*",
                "pci:v00008086d00002922sv0sd0bc01sc06i01",
                true,
            ),
            (
                "pci:v*d*sv*sd*bc01sc06i01*",
                "pci:v00008086d00002922sv0sd0bc01sc06i02",
                false,
            ),
            ("usb:v[0-9a-f]?p", "usb:vb1p", true),
            ("usb:v[!0-9]p", "usb:v1p", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("[", "[", false),
            ("x[]]", "x]", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
