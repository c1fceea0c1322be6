//! Consoles: which there are (`/proc/consoles`), the standard descriptors, and the controlling terminal.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;
pub use rustix::termios::Termios;
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr};

use super::{Context, Result};

/// One line of `/proc/consoles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// The name under `/dev`: `ttyS0`, `tty0`, `hvc0`. Some (`netcon0`) have no device.
    pub name: String,
    /// It is in use (flag `E`).
    pub enabled: bool,
    /// It is the one behind `/dev/console` (flag `C`).
    pub preferred: bool,
    /// It can be written to (the `W` of the operations).
    pub writable: bool,
}

/// Parses `/proc/consoles` (format: Documentation/filesystems/proc.rst, 'consoles'). Lines of another
/// shape are left out.
pub fn parse_consoles(text: &str) -> Vec<Console> {
    text.lines()
        .filter_map(|line| {
            let (head, rest) = line.split_once('(')?;
            let (flags, _) = rest.split_once(')')?;
            let mut words = head.split_whitespace();
            let (name, operations) = (words.next()?, words.next()?);
            Some(Console {
                name: name.to_owned(),
                enabled: flags.contains('E'),
                preferred: flags.contains('C'),
                writable: operations.contains('W'),
            })
        })
        .collect()
}

/// The consoles in use, the preferred one first. Empty where `/proc` is not mounted.
pub fn consoles() -> Vec<Console> {
    let text = std::fs::read_to_string("/proc/consoles").unwrap_or_default();
    let mut all = parse_consoles(&text);
    all.retain(|console| console.enabled && console.writable);
    all.sort_by_key(|console| !console.preferred);
    all
}

/// Opens a console device for writing lines: never the controlling terminal, never blocking (a serial
/// line that is stopped by flow control must not stop the boot).
///
/// # Errors
/// `ENOENT`, `ENODEV`, `ENXIO`: there is no such device.
pub fn open_for_lines(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
        .call(|| format!("open({path:?}, O_WRONLY|O_NOCTTY|O_NONBLOCK)"))
}

/// Opens a console device for typing and writing: never the controlling terminal, never blocking.
///
/// # Errors
/// `ENOENT`, `ENODEV`, `ENXIO`: there is no such device.
pub fn open_for_typing(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
        .call(|| format!("open({path:?}, O_RDWR|O_NOCTTY|O_NONBLOCK)"))
}

/// Lets every byte through as it is typed: no echo, no lines, no signals, no flow control that noise could stop the line
/// with; a break is not seen. What is written still gets its carriage returns. What was typed before stays to be read.
///
/// # Errors
/// `ENOTTY`: it is no terminal.
pub fn by_the_byte(terminal: BorrowedFd<'_>) -> Result<Termios> {
    let before = tcgetattr(terminal).call(|| "tcgetattr(console)".into())?;
    set_modes(terminal, &all_bytes(&before))?;
    Ok(before)
}

/// The modes that [`by_the_byte`] sets where these are set.
pub fn all_bytes(before: &Termios) -> Termios {
    let mut raw = before.clone();
    raw.local_modes
        .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN);
    raw.input_modes.remove(
        InputModes::BRKINT
            | InputModes::ICRNL
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::ISTRIP
            | InputModes::INPCK
            | InputModes::PARMRK
            | InputModes::IXON
            | InputModes::IXOFF,
    );
    raw.input_modes.insert(InputModes::IGNBRK);
    raw.output_modes
        .insert(OutputModes::OPOST | OutputModes::ONLCR);
    raw
}

/// Puts modes back that [`by_the_byte`] gave.
///
/// # Errors
/// `EIO`: the terminal is gone.
pub fn set_modes(terminal: BorrowedFd<'_>, modes: &Termios) -> Result<()> {
    tcsetattr(terminal, OptionalActions::Now, modes).call(|| "tcsetattr(console)".into())
}

/// Makes `path` (a console device) the standard input, output and error.
///
/// # Errors
/// What open(2) says; the old descriptors then stay.
pub fn open_stdio(path: &Path) -> Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .call(|| format!("open({path:?}, O_RDWR|O_NOCTTY)"))?;
    as_stdio(file.as_fd())?;
    // With fds 0-2 closed the file itself got one of those numbers: it must stay open then.
    if std::os::fd::AsRawFd::as_raw_fd(&file) <= 2 {
        std::mem::forget(file);
    }
    Ok(())
}

/// Makes `file` the standard input, output and error; it may be one of them.
///
/// # Errors
/// `EBUSY`, `EMFILE`: what dup2(2) says.
pub fn as_stdio(file: BorrowedFd<'_>) -> Result<()> {
    rustix::stdio::dup2_stdin(file).call(|| "dup2(console, 0)".into())?;
    rustix::stdio::dup2_stdout(file).call(|| "dup2(console, 1)".into())?;
    rustix::stdio::dup2_stderr(file).call(|| "dup2(console, 2)".into())
}

/// Makes `input` the standard input, and `output` the standard output and error.
///
/// # Errors
/// `EBUSY`, `EMFILE`: what dup2(2) says.
pub fn as_streams(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<()> {
    rustix::stdio::dup2_stdin(input).call(|| "dup2(input, 0)".into())?;
    rustix::stdio::dup2_stdout(output).call(|| "dup2(output, 1)".into())?;
    rustix::stdio::dup2_stderr(output).call(|| "dup2(output, 2)".into())
}

/// Makes this process the leader of a session of its own, and `path` its controlling terminal.
///
/// `/dev/console` can never be one: give the real device of [`consoles`].
///
/// # Errors
/// What open(2) says; `EPERM`: the terminal belongs to another session.
pub fn acquire_terminal(path: &Path) -> Result<OwnedFd> {
    match rustix::process::setsid() {
        // EPERM: it leads its process group, usually because it is session leader already.
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).call(|| "setsid()".into()),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .call(|| format!("open({path:?}, O_RDWR)"))?;
    rustix::process::ioctl_tiocsctty(file.as_fd())
        .call(|| format!("ioctl({path:?}, TIOCSCTTY, 0)"))?;
    Ok(file.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::path::PathBuf;

    /// A pseudo-terminal: the end of who types, and the terminal.
    pub(crate) fn ends() -> (OwnedFd, OwnedFd) {
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: two descriptors are written; name, modes and size may be null.
        let made = unsafe {
            libc::openpty(
                &mut ours,
                &mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        assert_eq!(made, 0);
        // SAFETY: nobody else has them.
        unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
    }

    /// The same, not for a child, and nothing is waited for at the terminal.
    pub(crate) fn pty() -> (File, File) {
        let (ours, theirs) = ends();
        for end in [&ours, &theirs] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).unwrap();
        }
        rustix::fs::fcntl_setfl(&theirs, rustix::fs::OFlags::NONBLOCK).unwrap();
        (ours.into(), theirs.into())
    }

    /// Where the terminal lies.
    pub(crate) fn path(terminal: &File) -> PathBuf {
        std::fs::read_link(format!("/proc/self/fd/{}", terminal.as_raw_fd())).unwrap()
    }

    #[test]
    fn consoles_are_read_as_the_kernel_prints_them() {
        let text = "ttyS0                -W- (EC   p a)    4:64\n\
                    tty0                 -WU (E    p  )    4:1\n\
                    netcon0              -W- (     p a)\n\
                    garbage\n";
        let all = parse_consoles(text);
        assert_eq!(all.len(), 3);
        assert!(all[0].preferred && all[0].enabled && all[0].writable && all[0].name == "ttyS0");
        assert!(!all[1].preferred && all[1].enabled);
        assert!(!all[2].enabled);
    }
}
