//! How things are printed: tables, JSON, times.

use serde::Serialize;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something could not be printed.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints text as it is. Where it cannot be written (a full disk, a closed pipe), what is being done
/// goes on, and [`lost`] says so at the end.
pub fn out(text: impl core::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    if write!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .is_err()
    {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// Whether anything that was to be printed is lost.
pub fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Prints a value as JSON, for programs.
pub fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => out(format_args!("{text}\n")),
        Err(error) => eprintln!("backstay: the answer cannot be written as JSON: {error}"),
    }
}

/// Lays rows out in columns, as wide as their widest cell; the last one is not padded. The first
/// row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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

/// Seconds since 1970 by this machine's clock, which may be wrong; 0 before 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
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
