//! The manual page backstay-cmdline(7), made from the table.
//!
//! `cargo run -p kernel-cmdline --example man > docs/man/backstay-cmdline.7` writes the committed
//! page; a test fails when that one and this differ.

use core::fmt::{Result, Write};

use crate::table::{Fit, Kind, PREFIX, Parameter, TABLE};

/// Lines for the page's examples, with what each asks for.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "root=UUID=1c5b… rootflags=subvol=@rootfs ro backstay.rollback=previous backstay.end",
        "Ask for the snapshot before the live set. Without consent (see above) it is refused, \
         and the machine boots as it is.",
    ),
    (
        "root=UUID=1c5b… rootflags=subvol=@rootfs ro backstay.reset=system backstay.keep=config \
         backstay.present backstay.end",
        "What the entry for a factory reset passes after ESC was pressed at its question.",
    ),
    (
        "root=UUID=1c5b… rootflags=subvol=@rootfs ro backstay.menu=120",
        "Open the menu for two minutes.",
    ),
];

/// Paragraphs on the line as a whole.
const RULES: &[&str] = &[
    "At most one verb may stand on a command line, and each parameter once. Words and numbers are \
     written exactly as here: case counts, a number is decimal without a sign or leading zeros. In \
     names - and _ are equal, as everywhere on the kernel command line.",
    "Whatever is not exactly right is refused: one line on the console says what is wrong and what \
     to do, nothing is changed, and the boot goes on as if no parameter of backstay had been there. \
     Two parameters that contradict each other are refused; neither is taken to win.",
    "Quotes are the kernel's: only \" quotes, nothing escapes it, and it may stand before a whole \
     parameter or before its value. No value of backstay needs quotes; some initramfs scripts split \
     the line at blanks in spite of them.",
    "What follows -- belongs to init. A parameter of backstay found there is refused.",
];

/// Paragraphs on consent.
const CONSENT: &[&str] = &[
    "A command line repeats itself: an entry may be saved as the default, or a boot loader may be \
     unable to clear its choice for one boot. So a verb that changes the live set (rollback, \
     forward, select, reset) needs, beside backstay.end, one of three: backstay.present; a ticket, \
     which backstay(8) writes in the running system and which is used up before anything is done; \
     or the word typed in the menu.",
];

/// Writes the page, in the man(7) macros.
///
/// # Errors
///
/// Only those of `out`.
pub fn page(out: &mut impl Write) -> Result {
    out.write_str(
        ".\\\" Made from the table in kernel-cmdline/src/table.rs: change it there, then\n",
    )?;
    out.write_str(
        ".\\\" cargo run -p kernel-cmdline --example man > docs/man/backstay-cmdline.7\n",
    )?;
    out.write_str(".TH BACKSTAY\\-CMDLINE 7 \"\" backstay \"Kernel command line\"\n")?;
    out.write_str(
        ".SH NAME\nbackstay\\-cmdline \\- parameters of backstay on the kernel command line\n",
    )?;
    section(out, "SYNOPSIS")?;
    out.write_str(".nf\n")?;
    for parameter in TABLE {
        synopsis(out, parameter)?;
    }
    out.write_str(".fi\n")?;
    section(out, "DESCRIPTION")?;
    paragraph(
        out,
        "The agent in the initramfs reads these parameters before the root file system is mounted. \
         Without any, it boots the live set.",
    )?;
    for text in RULES {
        paragraph(out, text)?;
    }
    for (kind, title) in [
        (Kind::Verb, "VERBS"),
        (Kind::Modifier, "MODIFIERS"),
        (Kind::Sentinel, "SENTINEL"),
    ] {
        section(out, title)?;
        for parameter in TABLE.iter().filter(|parameter| parameter.kind == kind) {
            entry(out, parameter)?;
        }
    }
    section(out, "CONSENT")?;
    for text in CONSENT {
        paragraph(out, text)?;
    }
    section(out, "EXAMPLES")?;
    for (line, meaning) in EXAMPLES {
        out.write_str(".TP\n.B ")?;
        escaped(out, line)?;
        out.write_str("\n")?;
        escaped(out, meaning)?;
        out.write_str("\n")?;
    }
    section(out, "SEE ALSO")?;
    out.write_str(".BR backstay (8),\n.BR bootparam (7),\n.BR kernel\\-command\\-line (7)\n")
}

fn section(out: &mut impl Write, title: &str) -> Result {
    writeln!(out, ".SH {title}")
}

fn paragraph(out: &mut impl Write, text: &str) -> Result {
    out.write_str(".PP\n")?;
    escaped(out, text)?;
    out.write_str("\n")
}

/// `backstay.reset=config|config,data|system|everything`, in one line.
fn synopsis(out: &mut impl Write, parameter: &Parameter) -> Result {
    escaped(out, PREFIX)?;
    escaped(out, parameter.name)?;
    let optional = parameter
        .forms
        .iter()
        .any(|form| form.value.syntax().is_empty());
    let mut values = parameter
        .forms
        .iter()
        .map(|form| form.value.syntax())
        .filter(|it| !it.is_empty());
    if let Some(first) = values.next() {
        out.write_str(if optional { "[=" } else { "=" })?;
        escaped(out, first)?;
        for value in values {
            out.write_str("|")?;
            escaped(out, value)?;
        }
        out.write_str(if optional { "]" } else { "" })?;
    }
    out.write_str("\n")
}

/// One parameter: what it is for, its forms, its help.
fn entry(out: &mut impl Write, parameter: &Parameter) -> Result {
    out.write_str(".SS ")?;
    escaped(out, PREFIX)?;
    escaped(out, parameter.name)?;
    out.write_str("\n")?;
    sentence(out, parameter.meaning, ".")?;
    if parameter.fit != Fit::Any {
        sentence(out, "goes ", "")?;
        escaped(out, parameter.fit.text())?;
        out.write_str(".\n")?;
    }
    for form in parameter.forms {
        out.write_str(".TP\n.B ")?;
        escaped(out, PREFIX)?;
        escaped(out, parameter.name)?;
        if !form.value.syntax().is_empty() {
            out.write_str("=")?;
            escaped(out, form.value.syntax())?;
        }
        out.write_str("\n")?;
        sentence(out, form.meaning, ".")?;
    }
    for text in parameter.help {
        paragraph(out, text)?;
    }
    Ok(())
}

/// `text` with a capital letter, and with `end`.
fn sentence(out: &mut impl Write, text: &str, end: &str) -> Result {
    let mut letters = text.chars();
    if let Some(first) = letters.next() {
        out.write_char(first.to_ascii_uppercase())?;
    }
    escaped(out, letters.as_str())?;
    out.write_str(end)?;
    out.write_str(if end.is_empty() { "" } else { "\n" })
}

/// Text with roff's own characters made plain.
fn escaped(out: &mut impl Write, text: &str) -> Result {
    for letter in text.chars() {
        match letter {
            '\\' => out.write_str("\\e")?,
            '-' => out.write_str("\\-")?,
            '"' => out.write_str("\\(dq")?,
            '…' => out.write_str("\\&...")?,
            _ => out.write_char(letter)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    #[test]
    fn the_committed_page_is_the_one_from_the_table() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/man/backstay-cmdline.7"
        );
        let committed = std::fs::read_to_string(path).unwrap();
        let mut made = String::new();
        page(&mut made).unwrap();
        assert!(
            committed == made,
            "docs/man/backstay-cmdline.7 is stale: \
             cargo run -p kernel-cmdline --example man > docs/man/backstay-cmdline.7"
        );
    }

    #[test]
    fn the_pages_examples_are_right() {
        for (line, _) in EXAMPLES {
            assert!(
                crate::parse(line.as_bytes()).unwrap().verb.is_some(),
                "{line}"
            );
        }
    }

    #[test]
    fn no_line_of_text_is_taken_for_a_macro() {
        let mut made = String::new();
        page(&mut made).unwrap();
        for line in made.lines() {
            let control = line.starts_with(['.', '\'']);
            let known = [
                ".\\\"", ".TH ", ".SH ", ".SS ", ".TP", ".B ", ".BR ", ".PP", ".nf", ".fi",
            ];
            assert!(
                !control || known.iter().any(|it| line.starts_with(it)),
                "{line}"
            );
            assert!(line.is_ascii(), "{line}");
        }
    }
}
