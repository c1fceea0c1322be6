//! GRUB's environment block, as far as backstay has to do with it: a choice for one start is taken out, because
//! GRUB cannot do that on btrfs, and would take it at every start.
//!
//! The block is `# GRUB Environment Block` and lines `name=value`, in which `\` quotes a backslash or a line's
//! end; the rest is `#`. Its length is what it was made with, 1024 bytes, and never changes: GRUB wrote to those
//! blocks of the disk where it could.

const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";
/// What `grub-reboot` sets.
const NEXT_ENTRY: &[u8] = b"next_entry=";

/// The block without a choice for one start, of the same length; `None` where it has none, or is no such block.
pub fn without_next_entry(block: &[u8]) -> Option<Vec<u8>> {
    let mut rest = block.strip_prefix(SIGNATURE)?;
    let mut kept = SIGNATURE.to_vec();
    while !rest.is_empty() && !rest.starts_with(b"#") {
        let (line, after) = rest.split_at(line_length(rest)?);
        // Setting it to nothing is how GRUB itself says that there is none.
        if !line.starts_with(NEXT_ENTRY) || line == b"next_entry=\n" {
            kept.extend_from_slice(line);
        }
        rest = after;
    }
    if kept.len() + rest.len() == block.len() {
        return None;
    }
    kept.resize(block.len(), b'#');
    Some(kept)
}

/// A line with its end; `None` where it has none.
fn line_length(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let end = text.iter().position(|byte| {
        let ends = *byte == b'\n' && !quoted;
        quoted = *byte == b'\\' && !quoted;
        ends
    })?;
    Some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(lines: &str) -> Vec<u8> {
        let mut block = [SIGNATURE, lines.as_bytes()].concat();
        block.resize(1024, b'#');
        block
    }

    #[test]
    fn only_the_choice_for_one_start_is_taken_out_and_the_length_stays() {
        for (before, after) in [
            ("next_entry=backstay-rollback\n", Some("")),
            (
                "saved_entry=a\nnext_entry=b>c\nother=1\n",
                Some("saved_entry=a\nother=1\n"),
            ),
            // A value may go on in the next line.
            ("next_entry=a\\\nsaved_entry=b\n", Some("")),
            ("next_entry=a\\\\\nsaved_entry=b\n", Some("saved_entry=b\n")),
            ("saved_entry=a\\\nnext_entry=b\n", None),
            ("saved_entry=next_entry=b\n", None),
            ("next_entry=\n", None),
            ("", None),
        ] {
            let after = after.map(block);
            assert_eq!(without_next_entry(&block(before)), after, "{before:?}");
        }
    }

    #[test]
    fn what_is_no_environment_block_is_left_alone() {
        let whole = block("next_entry=a\n");
        for text in [
            &b""[..],
            b"next_entry=a\n",
            SIGNATURE,
            &whole[1..],
            &[SIGNATURE, b"next_entry=a"].concat(),
        ] {
            assert_eq!(without_next_entry(text), None, "{}", text.escape_ascii());
        }
        // One that was cut is still one.
        assert_eq!(without_next_entry(&whole[..40]).unwrap().len(), 40);
    }
}
