// SPDX-License-Identifier: GPL-2.0-only
//! An eventfd: how other threads wake the daemon's poll loop, and how the
//! daemon wakes a client.
//!
//! Promises that ringing never blocks, whatever the other end did to the
//! shared descriptor before. What the ring means is left to the owner.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An eventfd whose value nobody looks at.
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// Makes a silent one.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// Makes the descriptor readable.
    pub fn ring(&self) {
        // A client shares the open file and may have filled the counter and
        // taken O_NONBLOCK off: a full one is loud enough without our writing.
        let _ = rustix::io::ioctl_fionbio(&self.0, true);
        let mut writable = [PollFd::new(&self.0, PollFlags::OUT)];
        if matches!(poll(&mut writable, Some(&Timespec::default())), Ok(1)) {
            // An error leaves the counter as it was, not zero.
            let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor silent again.
    pub fn drain(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ringing_a_full_counter_does_not_block() {
        let wake = Wake::new().unwrap();
        rustix::io::write(&wake.0, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        rustix::io::ioctl_fionbio(&wake.0, false).unwrap();
        wake.ring();
        wake.drain();
        wake.ring();
    }
}
