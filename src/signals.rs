// SPDX-License-Identifier: GPL-2.0-only
//! Signals as a descriptor to wait for. SIGHUP: read the configuration anew, or end
//! where the terminal this was started on has gone. SIGUSR2: start the program
//! anew, to take over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Read the configuration file anew.
    Reload,
    /// Start a successor.
    Replace,
    /// Nobody is there any more.
    End,
}

/// The signals' descriptor.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    terminal: bool,
}

impl Signals {
    /// Takes the signals from all threads: from this one, and from those it starts
    /// afterwards.
    ///
    /// # Errors
    /// The kernel's, for want of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: plain calls; the set lives through them, and the descriptor that
        // signalfd gives is nobody else's.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGHUP);
            libc::sigaddset(&mut set, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: as above.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            terminal: has_terminal(),
        })
    }

    /// The next signal, if one came since the last call.
    pub fn take(&self) -> Option<Asked> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        let length = rustix::io::read(&self.fd, &mut info).unwrap_or(0);
        // The number comes first.
        let number = info.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        match number.filter(|_| length > 0)? as i32 {
            libc::SIGUSR2 => Some(Asked::Replace),
            _ if self.terminal && !has_terminal() => Some(Asked::End),
            _ => Some(Asked::Reload),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Is there a terminal that could hang up?
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_taken_once() {
        let signals = Signals::new().unwrap();
        assert_eq!(signals.take(), None);
        for (signal, asked) in [
            (libc::SIGHUP, Asked::Reload),
            (libc::SIGUSR2, Asked::Replace),
        ] {
            // SAFETY: a plain call; this thread has the signal blocked.
            unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
            assert_eq!(signals.take(), Some(asked));
            assert_eq!(signals.take(), None);
        }
    }
}
