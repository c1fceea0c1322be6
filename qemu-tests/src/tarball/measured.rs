//! What was measured, as docs/image-performance.md.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use backstay::admin::output::utc;

use crate::cache::workspace;

/// What was the same for all.
pub struct Setup {
    /// Of the archive, before compression.
    pub bytes: u64,
    /// Of the file.
    pub compressed: u64,
    /// Entries.
    pub entries: u64,
    /// Runs of each.
    pub runs: usize,
    /// The level of zstd.
    pub level: u8,
    /// Whether the archive alone was evicted.
    pub shared: bool,
}

/// The runs of one tool: time, and KiB.
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// Its runs.
    pub runs: Vec<(Duration, u64)>,
}

impl Measured {
    /// None yet.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            runs: Vec::new(),
        }
    }

    fn row(&self) -> String {
        let mut times: Vec<f64> = self
            .runs
            .iter()
            .map(|(time, _)| time.as_secs_f64())
            .collect();
        times.sort_by(f64::total_cmp);
        let memory = self
            .runs
            .iter()
            .map(|(_, memory)| *memory)
            .max()
            .unwrap_or(0);
        let (first, last) = (times.first(), times.last());
        format!(
            "| {} | {:.2} | {:.2}–{:.2} | {:.1} |",
            self.name,
            median(&times),
            first.unwrap_or(&0.0),
            last.unwrap_or(&0.0),
            memory as f64 / 1024.0
        )
    }
}

/// One way to pack.
pub struct Packing {
    /// Which.
    pub what: &'static str,
    /// How long it took.
    pub time: Duration,
    /// Bytes before compression.
    pub bytes: u64,
    /// Bytes of the file.
    pub size: u64,
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Writes the page.
///
/// # Errors
/// Where it cannot be written.
pub fn write_report(setup: &Setup, measured: &[Measured], packing: &[Packing]) -> Result<()> {
    let text = page(setup, measured, packing)?;
    let path = workspace().join("docs/image-performance.md");
    fs::write(&path, &text)?;
    println!("{text}\nwritten to {}", path.display());
    Ok(())
}

fn page(setup: &Setup, measured: &[Measured], packing: &[Packing]) -> Result<String> {
    let mut text = String::new();
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let uname = rustix::system::uname();
    let processors = std::thread::available_parallelism()?;
    let cold = match setup.shared {
        true => "with the archive alone evicted from the page cache, as the machine was shared",
        false => "from an empty page cache (`sync`, `drop_caches`)",
    };
    write!(
        text,
        "# How long an archive takes\n\n\
         Written by `cargo bench-image` on {}. Linux {}, {}, {processors} processors. {}; {}; {}; {}.\n\n\
         ## Extracting\n\n\
         A Debian 13 root, {:.1} MB in {} entries, packed with `--zstd-level {}` to {:.1} MB. Each run is \
         {cold} to the end of syncfs(2), into a fresh subvolume of one btrfs in a file on the host's disk; \
         {} runs of each, taking turns. Memory: the largest resident set, summed over a pipeline.\n\n\
         | way | median, s | least–most, s | memory, MiB |\n|---|---|---|---|\n",
        utc(now),
        uname.release().to_string_lossy(),
        processor(),
        version("tar"),
        version("bsdtar"),
        version("zstd"),
        load(),
        megabytes(setup.bytes),
        setup.entries,
        setup.level,
        megabytes(setup.compressed),
        setup.runs,
    )?;
    for measured in measured {
        writeln!(text, "{}", measured.row())?;
    }
    if packing.is_empty() {
        return Ok(text);
    }
    text.push_str(
        "\n## Packing\n\n`backstay factory pack`, signed, a smaller Debian 13 root, once each.\n\n",
    );
    text.push_str("| way | s | MB | of the whole |\n|---|---|---|---|\n");
    for Packing {
        what,
        time,
        bytes,
        size,
    } in packing
    {
        writeln!(
            text,
            "| {what} | {:.1} | {:.1} | {:.1} % |",
            time.as_secs_f64(),
            megabytes(*size),
            *size as f64 * 100.0 / *bytes as f64
        )?;
    }
    Ok(text)
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|rest| rest.trim_start_matches(['\t', ' ', ':']));
    name.unwrap_or("an unknown processor").to_owned()
}

/// What else the machine was doing.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let fifteen = text.split(' ').nth(2).unwrap_or("?");
    format!("load average of 15 minutes at the end {fifteen}")
}

fn version(program: &str) -> String {
    let said = Command::new(program).arg("--version").output();
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.lines()
        .next()
        .unwrap_or(program)
        .trim_matches('*')
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (times, want) in [
            (&[][..], 0.0),
            (&[3.0], 3.0),
            (&[1.0, 4.0], 2.5),
            (&[1.0, 2.0, 9.0], 2.0),
        ] {
            assert!((median(times) - want).abs() < 1e-9);
        }
        let mut measured = Measured::new("x");
        for seconds in [3, 1, 2] {
            measured
                .runs
                .push((Duration::from_secs(seconds), 2048 * seconds));
        }
        assert_eq!(measured.row(), "| x | 2.00 | 1.00–3.00 | 6.0 |");
    }
}
