// SPDX-License-Identifier: GPL-2.0-only
//! The process at a listening socket: starts a relay for each connection, and says
//! which users have room.
//!
//! Promises that it waits for no client: the relay accepts, so that no descriptor of
//! a client's is ever its own. It has one thread, so that it may fork, and ends when
//! the daemon does. Leaves to others what the relays do (relay.rs).

use super::link::{Verdict, redirect};
use super::relay::{self, Inherited};
use crate::logging;
use crate::packets;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, pidfd_open, waitid,
};
use std::os::fd::{AsFd, OwnedFd};

/// Connections beyond its own that an acceptor refuses at a time.
const REFUSALS: usize = 128;
/// How long it rests when it cannot start a relay.
const REST: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A relay that has not ended.
struct Relay {
    process: OwnedFd,
    /// Whose connection it has; `None` for a refused one and where nobody knows yet.
    user: Option<u32>,
    /// Where it asks, until it has told the daemon of its connection. The youngest
    /// has one alone.
    desk: Option<OwnedFd>,
}

/// Whether one more user's connection is admitted beside these: so many in all, and
/// half of them for each user but root.
fn admit(users: impl Iterator<Item = u32>, user: u32, places: usize) -> Verdict {
    let (mut total, mut own) = (0, 0);
    for other in users {
        total += 1;
        own += usize::from(other == user);
    }
    match total < places && (user == 0 || own < places / 2) {
        true => Verdict::Admitted,
        false => Verdict::Refused,
    }
}

/// Accepts until the daemon ends.
pub struct Acceptor {
    listener: OwnedFd,
    daemon: OwnedFd,
    places: usize,
    relays: Vec<Relay>,
}

impl Acceptor {
    /// Of a listening socket and the daemon's.
    pub fn new(listener: OwnedFd, daemon: OwnedFd, places: usize) -> Self {
        Self {
            listener,
            daemon,
            places,
            relays: Vec::new(),
        }
    }

    /// Serves until the daemon's socket ends.
    ///
    /// # Errors
    /// The kernel's, for want of memory.
    pub fn run(mut self) -> Result<(), Errno> {
        let mut rests = false;
        loop {
            let full = self.relays.len() >= self.places + REFUSALS;
            let asks = self.relays.last().and_then(|relay| relay.desk.as_ref());
            let mut fds = vec![PollFd::new(&self.daemon, PollFlags::IN)];
            // One relay at a time asks for a place.
            fds.push(match asks {
                Some(desk) => PollFd::new(desk, PollFlags::IN),
                None if full || rests => PollFd::new(&self.daemon, PollFlags::IN),
                None => PollFd::new(&self.listener, PollFlags::IN),
            });
            let deciding = asks.is_some();
            let relays = self.relays.iter();
            fds.extend(relays.map(|relay| PollFd::new(&relay.process, PollFlags::IN)));
            match poll(&mut fds, rests.then_some(&REST)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            // The daemon has heard of all that were accepted when this ends.
            if ready[0] && !deciding {
                return Ok(());
            }
            rests = false;
            match (ready[1], deciding) {
                (true, true) => self.decide(),
                (true, false) if !full => match self.start() {
                    Ok(None) => {}
                    Ok(Some(desk)) => self.relay(desk),
                    Err(_) => rests = true,
                },
                _ => {}
            }
            self.reap(&ready[2..]);
        }
    }

    /// Answers the youngest relay, which says whose its connection is and, at last,
    /// hangs up.
    fn decide(&mut self) {
        let users = self.relays.iter().filter_map(|relay| relay.user);
        let users: Vec<u32> = users.collect();
        let Some(relay) = self.relays.last_mut() else {
            return;
        };
        let Some(desk) = &relay.desk else {
            return;
        };
        let mut user = [0; 4];
        let Ok(4) = packets::receive_bytes(desk, &mut user, RecvFlags::DONTWAIT) else {
            relay.desk = None;
            return;
        };
        let user = u32::from_ne_bytes(user);
        let verdict = admit(users.into_iter(), user, self.places);
        // One that has died meanwhile hears nothing, and hangs up.
        let _ = packets::send(desk, &[verdict as u8], &[], SendFlags::DONTWAIT);
        relay.user = (verdict == Verdict::Admitted).then_some(user);
    }

    /// Starts a relay for the next connection. In the relay it gives the desk.
    fn start(&mut self) -> Result<Option<OwnedFd>, Errno> {
        let (ours, theirs) = packets::pair()?;
        // SAFETY: this process has one thread, so that the child may do what it wants.
        match unsafe { libc::fork() } {
            -1 => {
                let error = std::io::Error::last_os_error();
                logging::warn(&format_args!("cannot serve a connection: {error}"));
                Err(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
            }
            0 => {
                drop(ours);
                Ok(Some(theirs))
            }
            pid => {
                let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
                drop(theirs);
                let process = pidfd_open(pid, PidfdFlags::empty()).inspect_err(|_| {
                    // It has touched no client's descriptor, so that it ends at once.
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                })?;
                self.relays.push(Relay {
                    process,
                    user: None,
                    desk: Some(ours),
                });
                Ok(None)
            }
        }
    }

    /// The rest of a relay's life. It has its own ends of what it needs, and nothing
    /// else: what one holds that is stuck would stay open.
    fn relay(self, desk: OwnedFd) -> ! {
        let _ = rustix::thread::set_name(c"flexnet-relay");
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null");
        if let Ok(null) = null {
            redirect(&null, &[0, 1, 2]);
        }
        drop(self.relays);
        let _ = relay::run(Inherited {
            listener: self.listener,
            daemon: self.daemon,
            desk,
        });
        std::process::exit(0)
    }

    /// Forgets the relays that have ended.
    fn reap(&mut self, ended: &[bool]) {
        let mut ended = ended.iter().copied();
        self.relays.retain(|relay| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match ended.next() {
                Some(true) => {
                    let _ = waitid(WaitId::PidFd(relay.process.as_fd()), options);
                    false
                }
                _ => true,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_half_and_root_what_is_left() {
        let admitted =
            |users: &[u32], user| admit(users.iter().copied(), user, 4) == Verdict::Admitted;
        assert!(admitted(&[7], 7) && !admitted(&[7, 7], 7));
        assert!(admitted(&[7, 7], 8) && admitted(&[7, 7, 0], 0));
        assert!(!admitted(&[7, 7, 8, 8], 0));
    }
}
