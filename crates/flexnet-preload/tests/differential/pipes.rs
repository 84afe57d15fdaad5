// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What operations need beside the sockets: a file, a pipe, a unix pair, epoll.
//! All past the hooks.

use rustix::event::epoll;
use rustix::fd::{BorrowedFd, IntoRawFd, RawFd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

/// A file of these bytes.
pub fn file(bytes: &[u8]) -> RawFd {
    let file = memfd_create("pattern", MemfdFlags::CLOEXEC).expect("a file");
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::write(&file, &bytes[at..]).expect("written");
    }
    file.into_raw_fd()
}

/// A pipe with these bytes in it.
pub fn filled(bytes: &[u8]) -> (RawFd, RawFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    assert_eq!(rustix::io::write(&writer, bytes), Ok(bytes.len()));
    (reader.into_raw_fd(), writer.into_raw_fd())
}

pub fn unix_pair() -> (RawFd, RawFd) {
    let (flags, none) = (SocketFlags::CLOEXEC, None);
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, none).expect("a pair");
    (pair.0.into_raw_fd(), pair.1.into_raw_fd())
}

pub fn close(pair: (RawFd, RawFd)) {
    close_one(pair.0);
    close_one(pair.1);
}

pub fn close_one(fd: RawFd) {
    // SAFETY: made here, and closed once.
    unsafe { rustix::io::close(fd) };
}

/// An epoll instance for edges of writability of `fd`, the present one taken.
pub fn edges(fd: RawFd) -> RawFd {
    let events = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    // SAFETY: the case's, open.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = epoll::EventFlags::OUT | epoll::EventFlags::ET;
    epoll::add(&events, socket, epoll::EventData::new_u64(0), flags).expect("added");
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut room = [const { std::mem::MaybeUninit::uninit() }; 1];
    epoll::wait(&events, &mut room, Some(&now)).expect("looked");
    events.into_raw_fd()
}
