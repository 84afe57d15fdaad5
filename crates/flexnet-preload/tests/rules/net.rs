// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Connections of a test: the sending end through the hooks, the peer past them
//! (rustix makes its own system calls).

use rustix::fd::{BorrowedFd, OwnedFd, RawFd};
use rustix::net::{self, RecvFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

/// A listener that tests connect to.
pub struct Listener(OwnedFd, u16);

impl Listener {
    pub fn new(receive_buffer: usize) -> Self {
        let (family, kind, flags) = (
            net::AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
        );
        let fd = net::socket_with(family, kind, flags, None).expect("a socket");
        if receive_buffer > 0 {
            sockopt::set_socket_recv_buffer_size(&fd, receive_buffer).expect("a size");
        }
        net::bind(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("bound");
        net::listen(&fd, 64).expect("listens");
        let address = net::getsockname(&fd).expect("an address");
        let port = SocketAddrV4::try_from(address).expect("IPv4").port();
        Self(fd, port)
    }

    pub fn accept(&self) -> OwnedFd {
        net::accept_with(&self.0, SocketFlags::CLOEXEC).expect("a connection")
    }

    /// The sending end, by the C library's functions.
    pub fn connect(&self, send_buffer: i32) -> RawFd {
        // SAFETY: zeros are a valid address; pointers to locals.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0);
            let mut to: libc::sockaddr_in = std::mem::zeroed();
            to.sin_family = libc::AF_INET as u16;
            to.sin_port = self.1.to_be();
            to.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
            let length = size_of::<libc::sockaddr_in>() as u32;
            assert_eq!(libc::connect(fd, (&raw const to).cast(), length), 0);
            if send_buffer > 0 {
                set(fd, libc::SO_SNDBUF, send_buffer);
            }
            let one = 1i32;
            libc::setsockopt(
                fd,
                libc::SOL_TCP,
                libc::TCP_NODELAY,
                (&raw const one).cast(),
                4,
            );
            fd
        }
    }
}

/// Both ends.
pub fn pair(send_buffer: i32, receive_buffer: usize) -> (RawFd, OwnedFd) {
    let listener = Listener::new(receive_buffer);
    let sender = listener.connect(send_buffer);
    (sender, listener.accept())
}

pub fn set<T>(fd: RawFd, name: i32, value: T) {
    let (at, length) = ((&raw const value).cast(), size_of::<T>() as u32);
    // SAFETY: a value of the length that is given.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, at, length) };
    assert_eq!(result, 0, "setsockopt: {}", io::Error::last_os_error());
}

pub fn nonblocking(fd: RawFd) {
    // SAFETY: plain calls.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        assert_eq!(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK), 0);
    }
}

pub fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// write(): bytes taken, or the errno.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, i32> {
    // SAFETY: the slice's bytes.
    let sent = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(sent).map_err(|_| errno())
}

/// Writes until the socket takes no more; bytes taken, and the errno.
pub fn fill(fd: RawFd, bytes: &[u8]) -> (usize, i32) {
    let mut taken = 0;
    loop {
        match write(fd, bytes) {
            Ok(sent) => taken += sent,
            Err(errno) => return (taken, errno),
        }
    }
}

/// What the peer gets until the end of the stream, or an errno.
pub fn read_to_end(peer: &OwnedFd) -> Result<Vec<u8>, i32> {
    let (mut all, mut room) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match net::recv(peer, &mut room[..], RecvFlags::empty()) {
            Ok((0, _)) => return Ok(all),
            Ok((got, _)) => all.extend_from_slice(&room[..got]),
            Err(error) => return Err(error.raw_os_error()),
        }
    }
}

/// So many bytes, waited for.
pub fn read_exactly(peer: &OwnedFd, count: usize) -> Vec<u8> {
    let (mut all, mut room) = (Vec::new(), vec![0; 1 << 16]);
    while all.len() < count {
        let most = (count - all.len()).min(room.len());
        match net::recv(peer, &mut room[..most], RecvFlags::empty()) {
            Ok((0, _)) => panic!("the end after {} of {count} bytes", all.len()),
            Ok((got, _)) => all.extend_from_slice(&room[..got]),
            Err(error) => panic!("{error} after {} of {count} bytes", all.len()),
        }
    }
    all
}

/// What is there now.
pub fn read_now(peer: &OwnedFd) -> usize {
    let mut room = vec![0; 1 << 16];
    match net::recv(peer, &mut room[..], RecvFlags::DONTWAIT) {
        Ok((got, _)) => got,
        Err(_) => 0,
    }
}

/// The peer resets the connection.
pub fn reset(peer: OwnedFd) {
    sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO)).expect("linger");
    drop_raw(peer);
}

pub fn drop_raw(fd: OwnedFd) {
    let fd = rustix::fd::IntoRawFd::into_raw_fd(fd);
    // SAFETY: owned until just now.
    unsafe { rustix::io::close(fd) };
}

/// Waits for an event on a descriptor.
pub fn wait_for(fd: RawFd, events: rustix::event::PollFlags) {
    // SAFETY: the test's.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, events)];
    while !rustix::event::poll(&mut fds, None).is_ok_and(|ready| ready > 0) {}
}

/// Is it writable, as the kernel says?
pub fn is_writable(fd: RawFd) -> bool {
    // SAFETY: the test's.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(
        fd,
        rustix::event::PollFlags::OUT,
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&now)) == Ok(1)
}

pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("tasks").count()
}

/// Open descriptors but for the one that looks.
pub fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let mut all: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.to_owned()))
        .collect();
    all.sort();
    all
}

pub fn wait_until(mut what: impl FnMut() -> bool) {
    while !what() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
