// SPDX-License-Identifier: GPL-2.0-only
//! The front: processes between the clients and the daemon, which can be thrown
//! away.
//!
//!   acceptor    one at each listening socket, which starts
//!   relay       one for each connection, alone in holding what a client passes
//!   descriptor  which of that the daemon is given
//!
//! Promises that the daemon never holds a descriptor of a client's making, nor closes
//! a connection in which one may wait: so no client can make it wait, and it ends and
//! is replaced whatever the front is stuck in. All of it ends with the daemon.

mod acceptor;
mod descriptor;
mod relay;

use crate::packets;
use crate::peer::Peer;
use acceptor::Acceptor;
use anyhow::{Context, Result};
use flexnet::abi::{Status, Why};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, shutdown};
use rustix::process::{PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

/// The first argument of a process of the front; how many places it has comes next.
pub const FLAG: &str = "--front";
/// Room for the longest reply.
const REPLY_BYTES: usize = 1 << 16;
const _: () = assert!(size_of::<Status>() <= REPLY_BYTES && size_of::<Why>() <= REPLY_BYTES);
/// How long an acceptor may take to end: it waits for nobody but a relay's start.
const END: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// What a relay says of its connection, in which order the numbers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Introduction {
    pid: i32,
    uid: u32,
    /// There was no room for it.
    refused: bool,
}

impl Introduction {
    const BYTES: usize = 12;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let words = [self.pid as u32, self.uid, u32::from(self.refused)];
        let mut bytes = [0; Self::BYTES];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
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

/// A connection's coming.
#[derive(Debug)]
pub enum Arrival {
    /// Its relay is at the socket's other end.
    Admitted(OwnedFd, Peer),
    /// One too many, of this user.
    Refused(u32),
}

/// The front at one listening socket.
#[derive(Debug)]
pub struct Front {
    acceptor: Child,
    link: OwnedFd,
}

impl Front {
    /// Starts one, with places for so many connections at a time.
    ///
    /// # Errors
    /// No process can be started.
    pub fn start(listener: BorrowedFd<'_>, places: usize) -> Result<Self> {
        let (link, theirs) = packets::pair()?;
        // The two descriptors that a program is given take the places of its own.
        let acceptor = Command::new("/proc/self/exe")
            .arg0("flexnet-front")
            .args([FLAG, &places.to_string()])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(listener.try_clone_to_owned()?))
            .spawn()
            .context("cannot start a process for the control socket")?;
        Ok(Self { acceptor, link })
    }

    /// The next connection; `Ok(None)` when there is none yet.
    ///
    /// # Errors
    /// The acceptor has ended.
    pub fn next(&self) -> Result<Option<Arrival>, Errno> {
        let mut bytes = [0; Introduction::BYTES];
        let (length, fds) = match packets::receive(&self.link, &mut bytes, RecvFlags::DONTWAIT) {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let Introduction { pid, uid, refused } = Introduction::from_bytes(&bytes);
        let mut fds = fds.into_iter();
        match (length, refused, fds.next(), fds.next()) {
            (Introduction::BYTES, true, ..) => Ok(Some(Arrival::Refused(uid))),
            (Introduction::BYTES, false, Some(relay), Some(process)) => {
                let peer = Peer::introduced(pid, uid, process);
                Ok(Some(Arrival::Admitted(relay, peer)))
            }
            // Of no use, and no reason to wait for more.
            _ => Err(Errno::PROTO),
        }
    }

    /// Has it accept nobody any more. It ends, but for the relays there are, which
    /// [`next`] tells of.
    ///
    /// [`next`]: Front::next
    pub fn stop(&mut self) {
        let _ = shutdown(&self.link, Shutdown::Write);
        let pid = rustix::process::Pid::from_child(&self.acceptor);
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&END));
        }
        let _ = self.acceptor.kill();
        let _ = self.acceptor.wait();
    }
}

impl AsFd for Front {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Is this process one of the front? Then it does what it is for, and its exit
/// status is here.
pub fn main(arguments: &[String]) -> Option<ExitCode> {
    let [_, flag, places] = arguments else {
        return None;
    };
    if flag != FLAG {
        return None;
    }
    match places.parse().map(serve) {
        Ok(Ok(())) => Some(ExitCode::SUCCESS),
        _ => Some(ExitCode::FAILURE),
    }
}

fn serve(places: usize) -> Result<()> {
    let daemon = std::io::stdin().as_fd().try_clone_to_owned()?;
    let listener = std::io::stdout().as_fd().try_clone_to_owned()?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    redirect(&null, &[0, 1]);
    let _ = rustix::thread::set_name(c"flexnet-front");
    // The service manager and a terminal signal all processes; these end when the
    // daemon does, which says goodbye to its clients before.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: a plain call, without a handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // What strangers pass is looked at without any privilege of root's.
    let none = rustix::thread::CapabilitySet::empty();
    let sets = rustix::thread::CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(Acceptor::new(listener, daemon, places).run()?)
}

/// Has standard descriptors mean a file.
fn redirect(file: &std::fs::File, descriptors: &[i32]) {
    for &descriptor in descriptors {
        // SAFETY: a plain call; nothing owns the standard descriptors.
        unsafe { libc::dup2(file.as_raw_fd(), descriptor) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_arrives_as_it_was() {
        let introduction = Introduction {
            pid: 77,
            uid: u32::MAX,
            refused: true,
        };
        let bytes = introduction.to_bytes();
        assert_eq!(Introduction::from_bytes(&bytes), introduction);
    }
}
