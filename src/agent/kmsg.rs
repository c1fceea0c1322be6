//! Turns what simplelog writes in pieces into records of the kernel's log.
//!
//! simplelog writes a message in about ten calls, and each write to `/dev/kmsg` is a record of its own;
//! so the pieces are collected up to the newline. A record is `<N>backstay: text`, at most
//! [`RECORD_MAX`](crate::sys::kmsg::RECORD_MAX) bytes, N from the level that simplelog wrote first.

use std::io::Write;

use crate::sys::kmsg::RECORD_MAX;

/// A line that never ends must not eat the memory.
const LINE_MAX: usize = 8 * RECORD_MAX;

/// What simplelog writes before the text, and the kernel's level for it (`<linux/kern_levels.h>`).
const LEVELS: [(&str, u8); 5] = [
    ("[ERROR] ", 3),
    ("[WARN] ", 4),
    ("[INFO] ", 6),
    ("[DEBUG] ", 7),
    ("[TRACE] ", 7),
];

/// A writer that passes whole records on to `inner`, one a write.
#[derive(Debug)]
pub struct KmsgLines<W: Write> {
    inner: W,
    line: Vec<u8>,
    /// The level of the message whose later lines follow.
    level: u8,
}

impl<W: Write> KmsgLines<W> {
    /// Over `inner`, usually `/dev/kmsg`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            line: Vec::new(),
            level: 6,
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let mut text: &str = &text;
        for (prefix, level) in LEVELS {
            if let Some(rest) = text.strip_prefix(prefix) {
                (text, self.level) = (rest, level);
                break;
            }
        }
        if text.is_empty() {
            return;
        }
        let mut record = format!("<{}>backstay: {text}", self.level);
        // The newline counts; a cut inside a character would be a record with a broken one.
        let mut cut = record.len().min(RECORD_MAX - 1);
        while !record.is_char_boundary(cut) {
            cut -= 1;
        }
        record.truncate(cut);
        record.push('\n');
        // The log is a courtesy: a record that the kernel does not take is lost.
        let _ = self.inner.write(record.as_bytes());
    }
}

impl<W: Write> Write for KmsgLines<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < LINE_MAX {
                self.line.push(*byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Records(Vec<String>);

    impl Write for Records {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn pieces_become_one_record_a_line_with_the_kernels_level() {
        let mut lines = KmsgLines::new(Records::default());
        for piece in ["[ERROR] ", "no ", "disk", "\n", "[INFO] a\nb\n", "\n"] {
            lines.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(
            lines.inner.0,
            [
                "<3>backstay: no disk\n",
                "<6>backstay: a\n",
                "<6>backstay: b\n"
            ]
        );
    }

    #[test]
    fn a_record_is_never_longer_than_the_kernel_takes() {
        let mut lines = KmsgLines::new(Records::default());
        writeln!(lines, "[WARN] {}", "\u{e9}".repeat(3000)).unwrap();
        let record = &lines.inner.0[0];
        assert!(
            record.len() <= RECORD_MAX && record.len() > RECORD_MAX - 4,
            "{}",
            record.len()
        );
    }

    #[test]
    fn simplelog_writes_the_levels_as_expected_here() {
        use log::{Level, Log, Record};
        let records = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let config = simplelog::ConfigBuilder::new()
            .set_time_level(log::LevelFilter::Off)
            .set_thread_level(log::LevelFilter::Off)
            .set_target_level(log::LevelFilter::Off)
            .set_location_level(log::LevelFilter::Off)
            .build();
        let writer = KmsgLines::new(Shared(records.clone()));
        let logger = simplelog::WriteLogger::new(log::LevelFilter::Trace, config, writer);
        for level in [
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Debug,
            Level::Trace,
        ] {
            logger.log(
                &Record::builder()
                    .level(level)
                    .args(format_args!("x"))
                    .build(),
            );
        }
        let text = String::from_utf8(records.lock().unwrap().clone()).unwrap();
        let expected: String = [3, 4, 6, 7, 7]
            .iter()
            .map(|n| format!("<{n}>backstay: x\n"))
            .collect();
        assert_eq!(text, expected);
    }
}
