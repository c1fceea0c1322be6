//! zstd, gzip, xz or nothing, as one reader.
//!
//! Several frames, members or streams one after another are one archive, as their tools have it.
//! Whatever else follows is an error, and so is a stream that stops before its end. The memory that a
//! stream asks for is known from its header and refused before it is allocated.

use std::io::{BufRead, Read};

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use structured_zstd::decoding::errors::{
    FrameDecoderError, FrameHeaderError, ReadFrameHeaderError,
};
use structured_zstd::decoding::{BlockDecodingStrategy, ContentChecksum, FrameDecoder};

use super::archive::Form;
use super::error::{Error, Result};
use super::limits::Limits;

/// Decompresses what it reads from `source`.
pub struct Decompress<R: BufRead> {
    state: State<R>,
    window: u64,
    form: Form,
}

enum State<R: BufRead> {
    Plain(Source<R>),
    Zstd(Box<Zstd<R>>),
    Gzip(Box<GzDecoder<Source<R>>>),
    Xz(Box<XzReader<Source<R>>>),
    /// Between two gzip members or xz streams.
    Between(Source<R>),
    Ended,
}

/// What a decoder reads from. It keeps the error of a read, which decoders wrap beyond recognition.
struct Source<R> {
    inner: R,
    failed: Option<std::io::Error>,
}

struct Zstd<R> {
    source: Source<R>,
    decoder: FrameDecoder,
    in_frame: bool,
    frames: u64,
}

impl<R: BufRead> Decompress<R> {
    /// A decoder of `form`.
    pub fn new(source: R, form: Form, limits: &Limits) -> Decompress<R> {
        let source = Source {
            inner: source,
            failed: None,
        };
        let state = match form {
            Form::Plain => State::Plain(source),
            Form::Zstd => {
                let mut decoder = FrameDecoder::new();
                decoder.set_content_checksum(ContentChecksum::Verify);
                // Out of its range, its own limit stays: 128 MiB.
                let _ = decoder.set_max_window_size(limits.window);
                State::Zstd(Box::new(Zstd {
                    source,
                    decoder,
                    in_frame: false,
                    frames: 0,
                }))
            }
            Form::Gzip | Form::Xz => State::Between(source),
        };
        Decompress {
            state,
            window: limits.window,
            form,
        }
    }

    /// Fills `to` as far as there is something; less than all only at the end.
    ///
    /// # Errors
    /// [`Error::Compressed`], [`Error::Window`], [`Error::Trailing`], and whatever the source says.
    pub fn fill(&mut self, to: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = to.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.step(rest)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn step(&mut self, to: &mut [u8]) -> Result<usize> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Plain(mut source) => {
                    let read = source.read(to);
                    return self.keep(read, |error| (error, None), State::Plain(source));
                }
                State::Zstd(mut zstd) => {
                    let read = zstd.step(to, self.window)?;
                    self.state = State::Zstd(zstd);
                    return Ok(read);
                }
                State::Gzip(mut member) => match member.read(to) {
                    Ok(0) => self.state = State::Between(member.into_inner()),
                    Ok(read) => {
                        self.state = State::Gzip(member);
                        return Ok(read);
                    }
                    Err(error) => return Err(self.wrong(error, member.get_mut().failed.take())),
                },
                State::Xz(mut stream) => match stream.read(to) {
                    Ok(0) => self.state = State::Between(stream.into_inner()),
                    Ok(read) => {
                        self.state = State::Xz(stream);
                        return Ok(read);
                    }
                    Err(error) => return Err(self.wrong(error, stream.inner_mut().failed.take())),
                },
                State::Between(source) => match self.next(source)? {
                    Some(state) => self.state = state,
                    None => return Ok(0),
                },
            }
        }
    }

    fn keep(
        &mut self,
        read: std::io::Result<usize>,
        parts: impl FnOnce(std::io::Error) -> (std::io::Error, Option<std::io::Error>),
        state: State<R>,
    ) -> Result<usize> {
        self.state = state;
        read.map_err(|error| {
            let (error, failed) = parts(error);
            self.wrong(error, failed)
        })
    }

    /// The next member or stream, or `None` at the end. Zeros between them are padding.
    fn next(&self, mut source: Source<R>) -> Result<Option<State<R>>> {
        loop {
            let bytes = source.fill_buf().map_err(|error| self.wrong(error, None))?;
            match bytes.first() {
                None => return Ok(None),
                Some(0) => {
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    source.consume(zeros);
                }
                Some(0x1f) if self.form == Form::Gzip => {
                    return Ok(Some(State::Gzip(Box::new(GzDecoder::new(source)))));
                }
                Some(0xfd) if self.form == Form::Xz => {
                    // The decoder's own tables are small beside the dictionary: 1 MiB for them.
                    let limit = u32::try_from(self.window / 1024 + 1024).unwrap_or(u32::MAX - 1);
                    let stream = XzReader::new_mem_limit(source, false, limit);
                    return Ok(Some(State::Xz(Box::new(stream))));
                }
                Some(_) => return Err(trailing(self.form)),
            }
        }
    }

    fn wrong(&self, error: std::io::Error, failed: Option<std::io::Error>) -> Error {
        use std::io::ErrorKind;
        let name = self.form.name();
        if let Some(failed) = failed {
            return Error::from_stream(name, failed);
        }
        match error.kind() {
            ErrorKind::OutOfMemory => window(self.form, "more memory".into(), self.window),
            ErrorKind::UnexpectedEof => cut_short(name),
            _ if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => {
                Error::from_stream(name, error)
            }
            _ => damaged(name, &error),
        }
    }
}

impl<R: BufRead> Zstd<R> {
    fn step(&mut self, to: &mut [u8], window: u64) -> Result<usize> {
        loop {
            if !self.in_frame {
                let rest = self.source.fill_buf();
                if rest
                    .map_err(|error| Error::from_stream("zstd", error))?
                    .is_empty()
                {
                    return Ok(0);
                }
                self.begin(window)?;
                continue;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let step = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.source, step);
                decoded.map_err(|error| self.wrong(&error, window))?;
            }
            let read = self.decoder.read(to);
            let read = read.map_err(|error| damaged("zstd", &error))?;
            if read != 0 || to.is_empty() {
                return Ok(read);
            }
            self.finish(window)?;
        }
    }

    fn begin(&mut self, window: u64) -> Result<()> {
        match self.decoder.init(&mut self.source) {
            Ok(()) => {
                self.in_frame = true;
                self.frames += 1;
                Ok(())
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let mut skipped = (&mut self.source).take(u64::from(length));
                let copied = std::io::copy(&mut skipped, &mut std::io::sink());
                match copied {
                    Ok(copied) if copied == u64::from(length) => Ok(()),
                    Ok(_) => Err(cut_short("zstd")),
                    Err(error) => Err(self.failed(error)),
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(
                ReadFrameHeaderError::BadMagicNumber(_)
                | ReadFrameHeaderError::MagicNumberReadError(_),
            )) if self.frames != 0 && self.source.is_sound() => Err(trailing(Form::Zstd)),
            Err(error) => Err(self.wrong(&error, window)),
        }
    }

    /// What the frame said of itself must be so.
    fn finish(&mut self, window: u64) -> Result<()> {
        self.in_frame = false;
        let size = self.decoder.verify_content_size();
        size.and_then(|()| self.decoder.verify_content_checksum())
            .map_err(|error| self.wrong(&error, window))
    }

    fn failed(&mut self, error: std::io::Error) -> Error {
        Error::from_stream("zstd", self.source.failed.take().unwrap_or(error))
    }

    fn wrong(&mut self, error: &FrameDecoderError, limit: u64) -> Error {
        if let Some(failed) = self.source.failed.take() {
            return if failed.kind() == std::io::ErrorKind::UnexpectedEof {
                cut_short("zstd")
            } else {
                Error::from_stream("zstd", failed)
            };
        }
        match error {
            FrameDecoderError::WindowSizeTooBig { requested, .. }
            | FrameDecoderError::FrameHeaderError(FrameHeaderError::WindowTooBig {
                got: requested,
            }) => window(
                Form::Zstd,
                format!("{} MiB of memory", requested.div_ceil(1 << 20)),
                limit,
            ),
            FrameDecoderError::DictNotProvided { .. } => {
                damaged("zstd", &"it needs a dictionary: compress it without -D")
            }
            FrameDecoderError::ChecksumMismatch { .. } => {
                damaged("zstd", &"its checksum does not match")
            }
            FrameDecoderError::FrameContentSizeMismatch { .. } => {
                damaged("zstd", &"its size is not as stated")
            }
            _ => damaged("zstd", error),
        }
    }
}

impl<R: BufRead> Read for Source<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(to);
        read.map_err(|error| self.note(error))
    }

    fn read_exact(&mut self, to: &mut [u8]) -> std::io::Result<()> {
        let read = self.inner.read_exact(to);
        read.map_err(|error| self.note(error))
    }
}

impl<R: BufRead> BufRead for Source<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
    }
}

impl<R> Source<R> {
    /// Whether nothing failed but that it ended.
    fn is_sound(&self) -> bool {
        let failed = self.failed.as_ref();
        failed.is_none_or(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
    }

    fn note(&mut self, error: std::io::Error) -> std::io::Error {
        let kind = error.kind();
        self.failed = Some(error);
        kind.into()
    }
}

fn cut_short(form: &str) -> Error {
    damaged(form, &"it ends too early")
}

fn damaged(form: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Compressed {
        form: form.into(),
        why: why.to_string(),
    }
}

fn trailing(form: Form) -> Error {
    Error::Trailing {
        what: format!("bytes that are not {}", form.name()),
    }
}

fn window(form: Form, needed: String, limit: u64) -> Error {
    Error::Window {
        needed,
        limit: limit >> 20,
        remedy: match form {
            Form::Xz => "-9 or a dictionary of its own (xz -8 and below will do)".into(),
            _ => "--long and --ultra (zstd -19 and below will do)".into(),
        },
    }
}
