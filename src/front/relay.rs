// SPDX-License-Identifier: GPL-2.0-only
//! A process between one connection at a time and the daemon.
//!
//! A client can pass descriptors whose close waits: of a FUSE file whose server does
//! not answer, of a socket that lingers. So nobody but this process ever holds one,
//! and nobody waits for this process. Promises that the daemon gets packets with at
//! most one descriptor, of the kind that the request has. Leaves to others what
//! requests mean; the quotas are the acceptor's.

use super::descriptor::Kind;
use super::link::{Introduction, REPLY_BYTES, Verdict};
use crate::message::{self, REQUEST_BYTES};
use crate::packets;
use crate::peer::peer_pidfd;
use flexnet::abi::{Message, Wire};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long a connection that is refused may take to ask for what it is refused, and to read why.
const REFUSAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// The longest packet that is handed on; the longest that has a meaning is shorter.
const LONGEST: usize = 1 << 16;

/// Serves connections, one after the other, until one ends otherwise than it should or the acceptor
/// is gone. `desk` is where the acceptor has it accept one, and says whether there is room.
///
/// # Errors
/// Of the sockets. Nobody needs them: the connection ends with this process.
pub fn run(desk: &OwnedFd) -> Result<(), Errno> {
    let none = SendFlags::empty();
    loop {
        let mut word = [0];
        let (_, fds) = packets::receive(desk, &mut word, RecvFlags::empty())?;
        let Ok([listener, daemon]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(Errno::PROTO);
        };
        // The kernel closes it when this process ends: no socket that a client passed lingers then.
        let client = accept_with(&listener, SocketFlags::CLOEXEC);
        let client = ManuallyDrop::new(match client {
            Ok(client) => client,
            // It has gone meanwhile.
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => {
                packets::send(desk, &[0], &[], none)?;
                packets::send(desk, &[0], &[], none)?;
                continue;
            }
            Err(errno) => return Err(errno),
        });
        // A relay that is stuck must not keep the door open.
        drop(listener);
        let root = serve(&client, daemon, desk)?;
        if !root {
            return Ok(());
        }
        // Root has hung up, with nothing on its way: the close waits for nothing.
        drop(ManuallyDrop::into_inner(client));
        packets::send(desk, &[0], &[], none)?;
    }
}

/// Serves a connection until its client has hung up: was it root's?
fn serve(client: &OwnedFd, daemon: OwnedFd, desk: &OwnedFd) -> Result<bool, Errno> {
    let credentials = rustix::net::sockopt::socket_peercred(client)?;
    let mut introduction = Introduction {
        pid: credentials.pid.as_raw_nonzero().get(),
        uid: credentials.uid.as_raw(),
        refused: false,
    };
    let none = SendFlags::empty();
    packets::send(desk, &introduction.uid.to_ne_bytes(), &[], none)?;
    let mut verdict = [0];
    packets::receive_bytes(desk, &mut verdict, RecvFlags::empty())?;
    if Verdict::from(verdict[0]) == Verdict::Refused {
        introduction.refused = true;
        // The daemon tells the operator.
        let _ = packets::send(&daemon, &introduction.to_bytes(), &[], none);
        drop(daemon);
        packets::send(desk, &[0], &[], none)?;
        refuse(client)?;
        return Ok(false);
    }
    let process = peer_pidfd(client.as_fd()).map_err(|_| Errno::SRCH)?;
    let (ours, theirs) = packets::pair()?;
    let fds = [theirs.as_fd(), process.as_fd()];
    packets::send(&daemon, &introduction.to_bytes(), &fds, none)?;
    drop((theirs, process, daemon));
    packets::send(desk, &[0], &[], none)?;
    let root = introduction.uid == 0;
    relay(client, &ours, root)?;
    Ok(root)
}

/// Says why to a client that is one too many.
fn refuse(client: &OwnedFd) -> Result<(), Errno> {
    let mut asks = [PollFd::new(client, PollFlags::IN)];
    poll(&mut asks, Some(&REFUSAL))?;
    let mut bytes = [0; size_of::<Message>()];
    // The packet stays in the socket: to take it would be to close what it has.
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let length = packets::receive_bytes(client, &mut bytes, flags)?;
    let request = Message::from_bytes(&bytes[..length.min(bytes.len())]).unwrap_or_default();
    answer(client, &request, Errno::USERS)?;
    // Ending with a packet unread resets the connection, and the client would not see the answer.
    poll(
        &mut [PollFd::new(client, PollFlags::empty())],
        Some(&REFUSAL),
    )?;
    Ok(())
}

fn answer(client: &OwnedFd, request: &Message, errno: Errno) -> Result<(), Errno> {
    let reply = message::reply(request, size_of::<Message>(), Err(errno));
    packets::send(client, reply.as_bytes(), &[], SendFlags::DONTWAIT)
}

/// Hands packets on until the client has hung up.
fn relay(client: &OwnedFd, daemon: &OwnedFd, root: bool) -> Result<(), Errno> {
    loop {
        let mut fds = [client, daemon].map(|fd| PollFd::new(fd, PollFlags::IN));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let [asked, answered] = fds.map(|fd| !fd.revents().is_empty());
        if answered {
            down(client, daemon)?;
        }
        if asked && !up(client, daemon, root)? {
            return Ok(());
        }
    }
}

/// A packet of the daemon's. A client that does not read what it asked for loses its
/// connection.
fn down(client: &OwnedFd, daemon: &OwnedFd) -> Result<(), Errno> {
    let mut bytes = [0; REPLY_BYTES];
    let (length, fds) = packets::receive(daemon, &mut bytes, RecvFlags::DONTWAIT)?;
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let bytes = bytes.get(..length).ok_or(Errno::MSGSIZE)?;
    packets::send(client, bytes, &fds, SendFlags::DONTWAIT)
}

/// A packet of the client's. The daemon reads one after the other, so this waits for
/// it. Descriptors become ours only where the request has one. False: the client has hung up.
fn up(client: &OwnedFd, daemon: &OwnedFd, root: bool) -> Result<bool, Errno> {
    let mut bytes = [0; REQUEST_BYTES];
    let (sample, take) = (RecvFlags::PEEK | RecvFlags::DONTWAIT, RecvFlags::DONTWAIT);
    let length = match packets::receive_bytes(client, &mut bytes, sample) {
        Err(Errno::PIPE) => return Ok(false),
        length => length?,
    };
    let kept = length.min(bytes.len());
    let kind = match message::parse(&bytes[..kept], length) {
        Ok((message, request)) => Kind::of(&request).map(|kind| (message, kind)),
        // The daemon says what is wrong.
        Err(_) => None,
    };
    let Some((message, kind)) = kind else {
        packets::receive_bytes(client, &mut bytes, take)?;
        forward(daemon, &bytes[..kept], length, None)?;
        return Ok(true);
    };
    // The daemon would close the program's file, and the owner of its file system could
    // make that wait. Only root may trace.
    if kind == Kind::Program && !root {
        answer(client, &message, Errno::PERM)?;
        packets::receive_bytes(client, &mut bytes, take)?;
        return Ok(true);
    }
    let (_, fds) = packets::receive(client, &mut bytes, take)?;
    // All but the first are closed here, and so is the first if it does not fit.
    let fd = fds.into_iter().next();
    match fd {
        Some(fd) if !kind.fits(fd.as_fd()) => {
            answer(client, &message, Errno::BADF)?;
            drop(fd);
        }
        fd => forward(daemon, &bytes[..kept], length, fd)?,
    }
    Ok(true)
}

/// Hands a packet on, as long as it was: what was cut counts by its length alone.
fn forward(daemon: &OwnedFd, kept: &[u8], length: usize, fd: Option<OwnedFd>) -> Result<(), Errno> {
    if length > LONGEST {
        return Err(Errno::MSGSIZE);
    }
    let mut bytes = kept.to_vec();
    bytes.resize(length, 0);
    let fds: Vec<BorrowedFd<'_>> = fd.iter().map(AsFd::as_fd).collect();
    packets::send(daemon, &bytes, &fds, SendFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flexnet::abi::{self, TraceAsk};
    use std::fs::File;

    /// What the daemon gets of a user's request to trace a program.
    fn handed_on(root: bool) -> Result<usize, Errno> {
        let (client, theirs) = packets::pair().unwrap();
        let (daemon, ours) = packets::pair().unwrap();
        let message = Message {
            size: size_of::<TraceAsk>() as u32,
            kind: abi::MESSAGE_TRACE,
            version: abi::VERSION,
            ..Message::default()
        };
        let (on, pid) = (2, std::process::id());
        let ask = TraceAsk { message, on, pid };
        let program = File::open("/proc/self/exe").unwrap();
        let fds = [program.as_fd()];
        packets::send(&client, ask.as_bytes(), &fds, SendFlags::empty()).unwrap();
        up(&theirs, &ours, root).unwrap();
        let mut bytes = [0; 256];
        let arrived = packets::receive(&daemon, &mut bytes, RecvFlags::DONTWAIT);
        if arrived.is_err() {
            packets::receive_bytes(&client, &mut bytes, RecvFlags::DONTWAIT).unwrap();
            let said = Message::from_bytes(&bytes[..16]).unwrap();
            assert_eq!(said.status, -Errno::PERM.raw_os_error());
        }
        arrived.map(|(_, fds)| fds.len())
    }

    #[test]
    fn only_roots_programs_reach_the_daemon() {
        assert_eq!(handed_on(true), Ok(1));
        assert_eq!(handed_on(false), Err(Errno::AGAIN));
    }
}
