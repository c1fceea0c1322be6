//! `reboot(2)`: restarting, powering off, jumping into a loaded kernel, and Ctrl-Alt-Del.
//!
//! None of these syncs: whoever calls them has made its writes durable before.

use rustix::system::{RebootCommand, reboot};

use super::{Context, Result};

/// Ctrl-Alt-Del sends SIGINT to PID 1 from now on (which ignores it) instead of restarting at once.
///
/// # Errors
/// `EPERM` without CAP_SYS_BOOT; `EINVAL` in a PID namespace that is not the first.
pub fn disable_ctrl_alt_del() -> Result<()> {
    reboot(RebootCommand::CadOff).call(|| "reboot(CAD_OFF)".into())
}

/// Ctrl-Alt-Del restarts at once again, as the kernel has it when it starts.
///
/// # Errors
/// As [`disable_ctrl_alt_del`].
pub fn enable_ctrl_alt_del() -> Result<()> {
    reboot(RebootCommand::CadOn).call(|| "reboot(CAD_ON)".into())
}

/// Restarts the machine through its firmware. Returns only on failure.
///
/// # Errors
/// As [`disable_ctrl_alt_del`].
pub fn restart() -> Result<()> {
    reboot(RebootCommand::Restart).call(|| "reboot(RESTART)".into())
}

/// Powers the machine off. Returns only on failure, or where the machine cannot.
///
/// # Errors
/// As [`disable_ctrl_alt_del`].
pub fn power_off() -> Result<()> {
    reboot(RebootCommand::PowerOff).call(|| "reboot(POWER_OFF)".into())
}

/// Jumps into the kernel that was loaded with [`super::kexec::load`]. Returns only on failure.
///
/// # Errors
/// `EINVAL`: no kernel is loaded.
pub fn kexec() -> Result<()> {
    reboot(RebootCommand::Kexec).call(|| "reboot(KEXEC)".into())
}
