// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A socket that fails on purpose: short writes, EAGAIN, EINTR, ENOBUFS, delay
//! and EPIPE, by a seeded generator. What it took can be read back.

use super::socket::Socket;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    seed: u64,
    taken: Vec<u8>,
    /// Sizes of what was taken, call by call (datagrams: one by one).
    sizes: Vec<usize>,
    breaks_at: Option<usize>,
    refuses_segments: bool,
}

#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    /// Always writable: what epoll waits on.
    ready: Arc<OwnedFd>,
}

impl Fake {
    pub(crate) fn new(seed: u64) -> Self {
        let ready = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let state = State {
            seed,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            ready: Arc::new(ready),
        }
    }

    /// EPIPE once so many bytes were taken.
    pub(crate) fn break_at(&self, bytes: usize) {
        self.state.lock().unwrap().breaks_at = Some(bytes);
    }

    pub(crate) fn refuse_segments(&self) {
        self.state.lock().unwrap().refuses_segments = true;
    }

    pub(crate) fn taken(&self) -> Vec<u8> {
        self.state.lock().unwrap().taken.clone()
    }

    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.state.lock().unwrap().sizes.clone()
    }
}

impl State {
    fn random(&mut self) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.seed >> 33
    }

    fn trouble(&mut self) -> Result<(), Errno> {
        if self.breaks_at.is_some_and(|at| self.taken.len() >= at) {
            return Err(Errno::PIPE);
        }
        match self.random() % 8 {
            0 => Err(Errno::AGAIN),
            1 => Err(Errno::INTR),
            2 if self.random().is_multiple_of(4) => Err(Errno::NOBUFS),
            3 if self.random().is_multiple_of(4) => {
                std::thread::sleep(std::time::Duration::from_micros(50));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Socket for Fake {
    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut state = self.state.lock().unwrap();
        state.trouble()?;
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut left = if state.random().is_multiple_of(2) {
            total
        } else {
            (1 + state.random() as usize % total.max(1)).min(total)
        };
        if let Some(at) = state.breaks_at {
            left = left.min(at - state.taken.len()).max(1);
        }
        let taken = left;
        for slice in slices {
            let part = &slice[..slice.len().min(left)];
            state.taken.extend_from_slice(part);
            left -= part.len();
        }
        state.sizes.push(taken);
        Ok(taken)
    }

    fn send_segments(&self, slices: &[IoSlice<'_>], segment: u16) -> Result<usize, Errno> {
        let mut state = self.state.lock().unwrap();
        if state.refuses_segments {
            return Err(Errno::IO);
        }
        state.trouble()?;
        let all: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        state
            .sizes
            .extend(all.chunks(segment.into()).map(<[u8]>::len));
        state.taken.extend_from_slice(&all);
        Ok(all.len())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

/// The same as a datagram socket: whole or not at all.
pub(crate) struct FakeDatagrams(pub(crate) Fake);

impl Socket for FakeDatagrams {
    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut state = self.0.state.lock().unwrap();
        state.trouble()?;
        let all: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        state.sizes.push(all.len());
        state.taken.extend_from_slice(&all);
        Ok(all.len())
    }
    fn send_segments(&self, slices: &[IoSlice<'_>], segment: u16) -> Result<usize, Errno> {
        self.0.send_segments(slices, segment)
    }
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}
