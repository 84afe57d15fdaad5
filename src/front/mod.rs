// SPDX-License-Identifier: GPL-2.0-only
//! The front: processes between the clients and the daemon, which can be thrown
//! away.
//!
//!   acceptor    one at each listening socket, which has a
//!   relay       for each connection, alone in holding what a client passes
//!   link        what these processes say to each other
//!   descriptor  which of that the daemon is given
//!
//! Promises that the daemon never holds a descriptor of a client's making, nor closes
//! a connection in which one may wait: so no client can make it wait, and it ends and
//! is replaced whatever the front is stuck in. All of it ends with the daemon.

mod acceptor;
mod descriptor;
mod link;
mod relay;

use crate::packets;
use crate::peer::Peer;
use acceptor::Acceptor;
use anyhow::{Context, Result};
use link::{Introduction, redirect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, shutdown};
use rustix::process::{PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

/// The first argument of a process of the front; how many places it has comes next.
pub const FLAG: &str = "--front";
/// How long an acceptor may take to end: it waits for nobody but a relay's start.
const END: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

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
