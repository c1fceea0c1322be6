//! Our tokens beside a second reading of the kernel's rules, over all small lines.

#![allow(
    clippy::indexing_slicing,
    reason = "an index out of bounds fails the test, as it should"
)]

use kernel_cmdline::raw_tokens;

/// The tokens of a line as the kernel finds them: in place, in a buffer that ends in NUL, by
/// writing NULs over what ends a name or a value. Slow, and as far from our slices as can be.
fn in_place(line: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut buffer = line.to_vec();
    buffer.extend([0, 0]);
    let blank = |byte: u8| matches!(byte, 9..=13 | 32 | 160);
    let string = |buffer: &[u8], at: usize| -> Vec<u8> {
        buffer[at..]
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect()
    };
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        while blank(buffer[at]) {
            at += 1;
        }
        if buffer[at] == 0 {
            return found;
        }
        let quoted = buffer[at] == b'"';
        let name = at + usize::from(quoted);
        let (mut end, mut equals, mut inside) = (name, name, quoted);
        while buffer[end] != 0 && (inside || !blank(buffer[end])) {
            if buffer[end] == b'=' && equals == name {
                equals = end;
            }
            inside ^= buffer[end] == b'"';
            end += 1;
        }
        let next = if buffer[end] == 0 { end } else { end + 1 };
        let mut value = equals + 1;
        if equals != name {
            buffer[equals] = 0;
            if buffer[value] == b'"' {
                value += 1;
                if buffer[end - 1] == b'"' {
                    buffer[end - 1] = 0;
                }
            }
        }
        if quoted && end > name && buffer[end - 1] == b'"' {
            buffer[end - 1] = 0;
        }
        buffer[end] = 0;
        let text = (equals != name).then(|| string(&buffer, value));
        found.push((string(&buffer, name), text));
        at = next;
    }
}

fn ours(line: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    raw_tokens(line)
        .map(|token| (token.key.to_vec(), token.value.map(<[u8]>::to_vec)))
        .collect()
}

#[test]
fn all_lines_of_up_to_eight_awkward_bytes_are_cut_as_in_place() {
    const LETTERS: &[u8] = b"a=\" -";
    for length in 0..=8 {
        let mut picked = vec![0; length];
        'lines: loop {
            let line: Vec<u8> = picked.iter().map(|at| LETTERS[*at]).collect();
            assert_eq!(
                ours(&line),
                in_place(&line),
                "{}",
                String::from_utf8_lossy(&line)
            );
            for place in &mut picked {
                *place += 1;
                if *place < LETTERS.len() {
                    continue 'lines;
                }
                *place = 0;
            }
            break;
        }
    }
}

#[test]
fn each_byte_is_a_blank_here_and_there_or_nowhere() {
    for byte in 1..=u8::MAX {
        for line in [[b'a', byte, b'b'], [byte, b'=', b'c'], [b'a', b'=', byte]] {
            assert_eq!(ours(&line), in_place(&line), "{line:?}");
        }
    }
}
