//! What the child gives up before it looks at a byte of the archive.
//!
//! If an archive took over the code that reads it, it would find: three descriptors, the archive
//! (read-only), the directory, a pipe to its parent; that directory as its root; the capabilities to
//! own, mark and make files; a few dozen system calls, none of which removes or renames a name, starts
//! a program, opens a socket, or mounts. CAP_SYS_ADMIN stays, because the kernel asks for it where
//! `trusted.*` and `security.*` attributes are set; without mount, bpf, setns, ioctl and the rest it
//! opens little else.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Resource, Rlimit, chroot, fchdir, setrlimit, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::error::{Doing, Error, Result};
use super::limits::Limits;
use crate::sys::{self, Context, descriptor};

/// Address space beside the decompressor's window, in bytes: buffers, stacks, directories, and what the
/// C library reserves for each thread without using it (glibc: 64 MiB and more).
const ADDRESS_SPACE: u64 = 1 << 30;

const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);

/// Takes a descriptor out of the way of the first three.
///
/// # Errors
/// `EMFILE`.
pub fn above_standard(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
        .call(|| "fcntl(F_DUPFD_CLOEXEC, 3)".into())
        .doing(|| "preparing the process that extracts".into())
}

/// Confines this process, which has one thread, for good. Answers whether the kernel filters its
/// system calls; everything else is an error if it does not work.
///
/// # Errors
/// [`Error::System`]; `EPERM` without root.
pub fn confine(
    archive: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    pipe: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<bool> {
    give_up(archive, directory, pipe, limits)
        .doing(|| "confining the process that extracts".into())?;
    filter()
}

fn give_up(
    archive: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    pipe: BorrowedFd<'_>,
    limits: &Limits,
) -> sys::Result<()> {
    // The first three stay taken, by something that cannot be written to: else the next file that is
    // made would be standard error, and a panic's text would be in it.
    dup2_stdin(directory).call(|| "dup2(0)".into())?;
    dup2_stdout(directory).call(|| "dup2(1)".into())?;
    dup2_stderr(directory).call(|| "dup2(2)".into())?;
    descriptor::close_all_but(&[archive, directory, pipe])?;
    umask(rustix::fs::Mode::empty());
    fchdir(directory).call(|| "fchdir".into())?;
    chroot(".").call(|| "chroot(\".\")".into())?;
    let window = limits.window.saturating_mul(3);
    limit(Resource::As, ADDRESS_SPACE.saturating_add(window))?;
    limit(Resource::Core, 0)?;
    // A descriptor for each directory above an entry, and a few.
    limit(Resource::Nofile, limits.depth as u64 + 32)?;
    // The set cannot be ambient any more once it is not permitted; older kernels do not know it.
    let _ = clear_ambient_capability_set();
    let have = capabilities(None).call(|| "capget".into())?;
    let keep = have.permitted & KEPT;
    let sets = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).call(|| format!("capset({keep:?})"))?;
    set_no_new_privs(true).call(|| "prctl(PR_SET_NO_NEW_PRIVS)".into())
}

/// The lower of what there is and what is wanted.
fn limit(resource: Resource, most: u64) -> sys::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let lower = |there: Option<u64>| Some(there.map_or(most, |there| there.min(most)));
    let limits = Rlimit {
        current: lower(now.maximum),
        maximum: lower(now.maximum),
    };
    setrlimit(resource, limits).call(|| format!("setrlimit({resource:?}, {most})"))
}

/// Installs the filters. A kernel built without them is no reason to leave a machine without its
/// system: `false` then.
fn filter() -> Result<bool> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(false);
    };
    for filter in filters(arch) {
        let program: std::result::Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
        let program = program.map_err(|error| Error::Child {
            how: format!("has no filter of system calls ({error})"),
        })?;
        match apply_filter(&program) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(_) | seccompiler::Error::Prctl(_)) => return Ok(false),
            Err(error) => {
                return Err(Error::Child {
                    how: format!("cannot filter its system calls ({error})"),
                });
            }
        }
    }
    Ok(true)
}

type Filter = std::result::Result<SeccompFilter, seccompiler::BackendError>;

fn filters(arch: TargetArch) -> [Filter; 2] {
    // clone3 hides its flags in memory: libraries that are told it is not there use clone.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let not_there = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    [
        SeccompFilter::new(clone3, SeccompAction::Allow, not_there, arch),
        allowed().and_then(|rules| {
            SeccompFilter::new(
                rules,
                SeccompAction::KillProcess,
                SeccompAction::Allow,
                arch,
            )
        }),
    ]
}

/// Calls that are allowed whatever their arguments.
const PLAIN: [i64; 54] = [
    // the archive, the pipe
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_fadvise64,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    // making files, and their metadata
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_sync_file_range,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fsetxattr,
    libc::SYS_lsetxattr,
    libc::SYS_utimensat,
    libc::SYS_fchdir,
    libc::SYS_geteuid,
    libc::SYS_getegid,
    // memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // threads
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // signals: a panic ends in one
    libc::SYS_tgkill,
    libc::SYS_tkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // random numbers (hash tables), time
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
];

/// `PR_SET_VMA` (linux/prctl.h): glibc names its memory.
const PR_SET_VMA: u64 = 0x5356_4d41;

fn allowed() -> std::result::Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        PLAIN.iter().map(|call| (*call, Vec::new())).collect();
    let when = |argument, mask: u64, value: u64| {
        let operator = SeccompCmpOp::MaskedEq(mask);
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        SeccompRule::new(vec![condition])
    };
    // No memory that can be executed.
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    rules.insert(libc::SYS_mmap, vec![when(2, executable, 0)?]);
    rules.insert(libc::SYS_mprotect, vec![when(2, executable, 0)?]);
    // Threads, and no processes.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![when(0, thread, thread)?]);
    // Copies of a descriptor, and questions about one. musl sets the flag in a second call.
    let all = u64::from(u32::MAX);
    let descriptor = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
    ];
    let descriptor = descriptor.map(|command| when(1, all, u64::from(command.unsigned_abs())));
    rules.insert(
        libc::SYS_fcntl,
        descriptor
            .into_iter()
            .collect::<std::result::Result<_, _>>()?,
    );
    let name = u64::from(libc::PR_SET_NAME.unsigned_abs());
    rules.insert(
        libc::SYS_prctl,
        vec![when(0, all, name)?, when(0, all, PR_SET_VMA)?],
    );
    Ok(rules)
}

/// What is kept open of an archive, a directory and a pipe, above the first three descriptors.
pub struct Kept {
    /// The archive.
    pub archive: OwnedFd,
    /// The directory to extract into.
    pub directory: OwnedFd,
    /// To the parent.
    pub pipe: OwnedFd,
}

impl Kept {
    /// Confines this process to them.
    ///
    /// # Errors
    /// As [`confine`].
    pub fn confine(&self, limits: &Limits) -> Result<bool> {
        confine(
            self.archive.as_fd(),
            self.directory.as_fd(),
            self.pipe.as_fd(),
            limits,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_can_be_built_for_every_architecture_and_name_nothing_twice() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            for filter in filters(arch) {
                let program: BpfProgram = filter.unwrap().try_into().unwrap();
                assert!(program.len() > 4);
            }
        }
        let mut sorted = PLAIN.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), PLAIN.len());
        for forbidden in [
            libc::SYS_execve,
            libc::SYS_mount,
            libc::SYS_socket,
            libc::SYS_ioctl,
            libc::SYS_ptrace,
            libc::SYS_unlinkat,
            libc::SYS_renameat2,
        ] {
            assert!(!PLAIN.contains(&forbidden));
        }
    }
}
