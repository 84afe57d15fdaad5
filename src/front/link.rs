// SPDX-License-Identifier: GPL-2.0-only
//! What the front's processes say to each other and to the daemon.

use flexnet::abi::{Status, Why};
use std::os::fd::AsRawFd;

/// Room for the longest reply.
pub const REPLY_BYTES: usize = 1 << 16;
const _: () = assert!(size_of::<Status>() <= REPLY_BYTES && size_of::<Why>() <= REPLY_BYTES);

/// What a relay says of its connection, in which order the numbers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub pid: i32,
    pub uid: u32,
    /// There was no room for it.
    pub refused: bool,
}

impl Introduction {
    pub const BYTES: usize = 12;

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let words = [self.pid as u32, self.uid, u32::from(self.refused)];
        let mut bytes = [0; Self::BYTES];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map_or(0, |w| u32::from_ne_bytes(*w))
        };
        Self {
            pid: word(0) as i32,
            uid: word(4),
            refused: word(8) != 0,
        }
    }
}

/// Is there room for a connection?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// No.
    Refused,
    /// Yes.
    Admitted,
}

impl From<u8> for Verdict {
    fn from(byte: u8) -> Self {
        match byte {
            1 => Self::Admitted,
            _ => Self::Refused,
        }
    }
}

/// Has standard descriptors mean a file.
pub fn redirect(file: &std::fs::File, descriptors: &[i32]) {
    for &descriptor in descriptors {
        // SAFETY: a plain call; nothing owns the standard descriptors.
        unsafe { libc::dup2(file.as_raw_fd(), descriptor) };
    }
}
