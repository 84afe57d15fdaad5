// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! One of the two connections of a case: the sending end and its duplicates,
//! the peer, and what was accepted and received so far. Bytes are recognised by their
//! place in the stream, so that a lost, doubled or misplaced one shows.

use crate::calls::{Calls, Outcome, Via};
use rustix::fd::RawFd;
use std::time::Duration;

/// The byte at a place of the stream; none is zero, so any stretch may be text.
pub fn byte_at(seed: u64, place: usize) -> u8 {
    let mixed = (place as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 56) as u8).max(1)
}

pub fn bytes_at(seed: u64, place: usize, length: usize) -> Vec<u8> {
    (place..place + length)
        .map(|at| byte_at(seed, at))
        .collect()
}

/// How a stream came to its end, as its peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Eof,
    Failed(i32),
}

pub struct Side {
    pub calls: Calls,
    pub seed: u64,
    /// Numbers of the sending end.
    pub fds: Vec<RawFd>,
    pub peer: RawFd,
    pub accepted: usize,
    pub received: usize,
}

/// A listener on loopback, past every hook.
fn listener() -> (RawFd, libc::sockaddr_in) {
    let plain = Calls::Plain;
    let fd = plain.socket(libc::SOCK_STREAM);
    // SAFETY: zeros are a valid address.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
    let mut length = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: pointers to locals of the sizes that are given.
    unsafe {
        let at = (&raw mut address).cast();
        assert_eq!(libc::bind(fd, at, length), 0);
        assert_eq!(libc::listen(fd, 8), 0);
        assert_eq!(libc::getsockname(fd, at, &mut length), 0);
    }
    (fd, address)
}

impl Side {
    /// A connection; `accepts`: the sender is the accepting end.
    pub fn connected(calls: Calls, seed: u64, accepts: bool, buffers: (i32, i32)) -> Self {
        let (listener, address) = listener();
        let plain = Calls::Plain;
        let (send, receive) = buffers;
        let set = |fd, name, bytes: i32| {
            if bytes > 0 {
                plain
                    .set_option(fd, libc::SOL_SOCKET, name, bytes)
                    .expect("a size");
            }
        };
        set(listener, libc::SO_RCVBUF, if accepts { 0 } else { receive });
        let (sender, peer);
        if accepts {
            peer = plain.socket(libc::SOCK_STREAM);
            set(peer, libc::SO_RCVBUF, receive);
            plain.connect(peer, &address);
            sender = calls.accept(listener);
        } else {
            sender = calls.socket(libc::SOCK_STREAM);
            calls.connect(sender, &address);
            peer = plain.accept(listener);
        }
        set(sender, libc::SO_SNDBUF, send);
        plain
            .set_option(sender, libc::SOL_TCP, libc::TCP_NODELAY, 1i32)
            .expect("no delay");
        plain.close(listener).expect("closed");
        Self {
            calls,
            seed,
            fds: vec![sender],
            peer,
            accepted: 0,
            received: 0,
        }
    }

    pub fn set_nonblocking(&self) {
        self.set_flags(|flags| flags | libc::O_NONBLOCK);
    }

    /// As fcntl(2) sets them.
    pub fn set_flags(&self, to: impl FnOnce(i32) -> i32) {
        // SAFETY: plain calls.
        unsafe {
            let flags = libc::fcntl(self.fds[0], libc::F_GETFL);
            assert_eq!(libc::fcntl(self.fds[0], libc::F_SETFL, to(flags)), 0);
        }
    }

    /// The next `length` bytes of the stream.
    pub fn next(&self, length: usize) -> Vec<u8> {
        bytes_at(self.seed, self.accepted, length)
    }

    pub fn send(&mut self, at: usize, via: Via, length: usize, flags: i32) -> Outcome {
        let fd = self.fds[at % self.fds.len()];
        let sent = self.calls.send(via, fd, &self.next(length), flags);
        if let Ok(sent) = sent {
            assert!(sent <= length, "{sent} bytes of {length} were accepted");
            self.accepted += sent;
        }
        sent
    }

    /// The peer reads up to so many bytes, without waiting.
    pub fn read(&mut self, most: usize) -> Result<usize, End> {
        let mut room = vec![0; most];
        match Calls::Plain.receive(self.peer, &mut room) {
            Ok(0) => Err(End::Eof),
            Ok(got) => {
                self.check(&room[..got]);
                Ok(got)
            }
            Err(libc::EAGAIN) => Ok(0),
            Err(errno) => Err(End::Failed(errno)),
        }
    }

    fn check(&mut self, got: &[u8]) {
        let expected = bytes_at(self.seed, self.received, got.len());
        if got != expected {
            let wrong = got.iter().zip(&expected).position(|(a, b)| a != b);
            panic!(
                "{:?}: the byte at {} of the stream is another one",
                self.calls,
                self.received + wrong.unwrap_or(0)
            );
        }
        self.received += got.len();
        assert!(
            self.received <= self.accepted,
            "{:?}: more was received than accepted",
            self.calls
        );
    }

    /// The peer reads all that was accepted.
    pub fn equalize(&mut self) {
        while self.received < self.accepted {
            let left = self.accepted - self.received;
            match self.read(left.min(1 << 16)) {
                Ok(0) => wait_for(self.peer, libc::POLLIN),
                Ok(_) => {}
                Err(end) => panic!(
                    "{:?}: {end:?} after {} of {} bytes",
                    self.calls, self.received, self.accepted
                ),
            }
        }
    }

    /// The peer reads to the end.
    pub fn read_to_end(&mut self) -> End {
        loop {
            match self.read(1 << 16) {
                Ok(0) => wait_for(self.peer, libc::POLLIN),
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    }

    pub fn close_all(&mut self) {
        for fd in self.fds.drain(..) {
            self.calls.close(fd).expect("closed");
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.close_all();
        Calls::Plain.close(self.peer).expect("closed");
    }
}

/// Waits for an event, which comes: the watchdog is for when it does not.
pub fn wait_for(fd: RawFd, events: i16) {
    let mut fds = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: one descriptor, of a local.
    while unsafe { libc::poll(&mut fds, 1, -1) } <= 0 {}
}

/// Waits until `what`, looking again and again.
pub fn wait_until(mut what: impl FnMut() -> bool) {
    while !what() {
        std::thread::sleep(Duration::from_micros(100));
    }
}
