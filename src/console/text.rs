//! Text as a terminal of 80 columns and 24 lines bears it, whatever the disk holds.

/// Columns that a line fills at most: in the 80th some terminals wrap.
pub const WIDTH: usize = 79;
/// Lines of a page; the question below it fits the same screen.
pub const PAGE: usize = 22;

/// `text` in lines of [`WIDTH`] columns, broken at blanks where there are any, inside of a word that fits no row; the second and later ones are indented
/// as far as the first, and two more. What is not printable ASCII is shown as `?`.
pub fn rows(text: &str) -> Vec<String> {
    text.split('\n').flat_map(row).collect()
}

fn row(line: &str) -> Vec<String> {
    let line = plain(line);
    let indent = line.len() - line.trim_start().len();
    let further = " ".repeat((indent + 2).min(WIDTH / 2));
    let mut rows: Vec<String> = Vec::new();
    let mut rest = line.trim_end();
    loop {
        let before = if rows.is_empty() {
            ""
        } else {
            further.as_str()
        };
        let room = WIDTH - before.len();
        let Some((head, _)) = rest.split_at_checked(room).filter(|_| rest.len() > room) else {
            rows.push(format!("{before}{rest}"));
            return rows;
        };
        // A blank in the indentation is no place to break.
        let start = head.len() - head.trim_start().len();
        let blank = rest.get(..=room).and_then(|it| it.rfind(' '));
        let fits = |at: &usize| {
            let after = rest.get(at + 1..).unwrap_or_default();
            after.find(' ').unwrap_or(after.len()) <= WIDTH - further.len()
        };
        let blank = blank.filter(|at| *at > start);
        let at = blank.filter(fits).unwrap_or(room);
        let (head, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        rows.push(format!("{before}{}", head.trim_end()));
        rest = tail.trim_start();
    }
}

/// `text` with everything but printable ASCII as `?`, tabs as blanks: no name on a disk can send a terminal an escape
/// sequence.
pub fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().map(shown).collect()
}

/// A file's name, byte for byte; what is not printable ASCII as `\xNN`, so that two names are never shown as one.
pub fn name(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// Lays rows out in columns, as wide as their widest cell; the last one is not padded.
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let laid = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        line.trim_end().to_owned()
    };
    rows.iter().map(laid).collect()
}

/// The same as one text, a line a row.
pub fn table(rows: &[Vec<String>]) -> String {
    let lines = columns(rows).into_iter();
    lines.map(|line| line + "\n").collect()
}

/// A size for people: `12.3 GiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes;
    let mut rest = 0;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024 {
            return number(value, rest, unit);
        }
        (value, rest) = (value / 1024, value % 1024);
    }
    number(value, rest, "TiB")
}

fn number(value: u64, rest: u64, unit: &str) -> String {
    match unit {
        "B" => format!("{value} B"),
        _ => format!("{value}.{} {unit}", rest * 10 / 1024),
    }
}

/// Seconds since 1970 as `2026-11-23T13:06:36Z` (proleptic Gregorian, no leap seconds).
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that the leap day is the last one of its year; an era is
    // 400 years, after which the calendar repeats.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_is_wider_than_the_terminal_and_no_word_is_lost() {
        let words = "one two three ".repeat(30);
        let long = "x".repeat(300);
        for text in [
            words.as_str(),
            long.as_str(),
            "",
            "  indented",
            &format!("    {words}"),
        ] {
            let rows = rows(text);
            assert!(rows.iter().all(|row| row.len() <= WIDTH), "{rows:?}");
            let joined: String = rows.concat().split_whitespace().collect();
            let wanted: String = text.split_whitespace().collect();
            assert_eq!(joined, wanted);
        }
        assert_eq!(rows(&format!("  {words}"))[1].find(|c| c != ' '), Some(4));
        // A path that fits no row begins where its sign stands.
        let path = format!("+ /{}", "x".repeat(200));
        assert_eq!(rows(&path)[0], path[..WIDTH]);
        let path = format!("+ /{}  (content)", "x".repeat(70));
        assert_eq!(
            rows(&path),
            [path[..73].to_owned(), "  (content)".to_owned()]
        );
    }

    #[test]
    fn nothing_that_a_terminal_obeys_comes_through() {
        assert_eq!(rows("a\x1b[2Jb\tc\u{e4}"), ["a?[2Jb c?"]);
        assert_eq!(name(b"a\x1b[2J\\ \xff"), "a\\x1b[2J\\\\ \\xff");
    }

    #[test]
    fn columns_line_up_and_end_without_blanks() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let laid = columns(&[row(["12", "title", ""]), row(["1", "t", "x"])]);
        assert_eq!(laid, ["12  title", "1   t      x"]);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // as `date -u -d @SECONDS` prints them
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_439_196, "2026-11-23T13:06:36Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), want);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["ID", "WHAT"], ["factory", "x y"], ["12", ""]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "ID       WHAT\nfactory  x y\n12\n");
    }

    #[test]
    fn sizes_have_one_decimal() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (16 << 20, "16.0 MiB"),
            (5_905_580_032, "5.5 GiB"),
            (3 << 40, "3.0 TiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }
}
