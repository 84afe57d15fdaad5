// SPDX-License-Identifier: GPL-2.0-only
//! The process at a listening socket: has a relay for each connection, and says
//! which users have room. A relay is ready before its connection comes, so that nobody waits for a
//! fork: a daemon over its limit of memory (memory.high) takes seconds for one (decision 0046).
//!
//! Promises that it waits for no client: the relay accepts, so that no descriptor of
//! a client's is ever its own. It has one thread, so that it may fork, and ends when
//! the daemon does. Leaves to others what the relays do (relay.rs).

use super::link::{Verdict, redirect};
use super::relay;
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

/// Relays that wait for a connection at most.
const SPARES: usize = 2;

/// What a relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for a connection.
    Spare,
    /// It has one, of which the daemon has not heard. One relay at a time.
    Asks,
    /// It serves one.
    Serves,
}

/// A relay that has not ended.
struct Relay {
    process: OwnedFd,
    /// Whose connection it has; `None` for a refused one and where nobody knows yet.
    user: Option<u32>,
    /// Where it says what it does; `None` once it does nothing but end.
    desk: Option<OwnedFd>,
    state: State,
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
            if !full && !rests && self.find(State::Spare).is_none() {
                match self.start() {
                    Ok(None) => {}
                    Ok(Some(desk)) => self.relay(desk),
                    Err(_) => rests = true,
                }
            }
            let asks = self.find(State::Asks).is_some();
            let waits = !asks && self.find(State::Spare).is_some();
            let mut fds = vec![PollFd::new(&self.daemon, PollFlags::IN)];
            fds.push(match waits {
                true => PollFd::new(&self.listener, PollFlags::IN),
                false => PollFd::new(&self.daemon, PollFlags::IN),
            });
            for relay in &self.relays {
                let desk = relay.desk.as_ref().unwrap_or(&relay.process);
                fds.push(PollFd::new(&relay.process, PollFlags::IN));
                fds.push(PollFd::new(desk, PollFlags::IN));
            }
            match poll(&mut fds, rests.then_some(&REST)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            // The daemon has heard of all that were accepted when this ends.
            if ready[0] && !asks {
                return Ok(());
            }
            rests = false;
            for at in 0..self.relays.len() {
                if ready[2 + 2 * at + 1] {
                    self.hear(at);
                }
            }
            self.reap(ready[2..].iter().step_by(2).copied());
            if ready[1] && waits {
                self.hand_over();
            }
        }
    }

    /// A relay in that state.
    fn find(&self, state: State) -> Option<usize> {
        let is = |relay: &Relay| relay.state == state && relay.desk.is_some();
        self.relays.iter().position(is)
    }

    /// Has a spare relay accept a connection. What it needs for that is its own only until then:
    /// what one holds that is stuck would stay open.
    fn hand_over(&mut self) {
        let Some(at) = self.find(State::Spare) else {
            return;
        };
        let fds = [self.listener.as_fd(), self.daemon.as_fd()];
        let relay = &mut self.relays[at];
        if let Some(desk) = &relay.desk
            && packets::send(desk, &[0], &fds, SendFlags::DONTWAIT).is_ok()
        {
            relay.state = State::Asks;
        }
    }

    /// What a relay says: whose its connection is, that the daemon has heard of it, that it is
    /// free again, and, at last, that it ends.
    fn hear(&mut self, at: usize) {
        let users = self.relays.iter().filter_map(|relay| relay.user);
        let users: Vec<u32> = users.collect();
        let spares = self.relays.iter();
        let spares = spares.filter(|relay| relay.state == State::Spare).count();
        let relay = &mut self.relays[at];
        let Some(desk) = &relay.desk else {
            return;
        };
        let mut said = [0; 4];
        let length = packets::receive_bytes(desk, &mut said, RecvFlags::DONTWAIT);
        match (relay.state, length) {
            (State::Asks, Ok(4)) => {
                let user = u32::from_ne_bytes(said);
                let verdict = admit(users.into_iter(), user, self.places);
                // One that has died meanwhile hears nothing, and hangs up.
                let _ = packets::send(desk, &[verdict as u8], &[], SendFlags::DONTWAIT);
                relay.user = (verdict == Verdict::Admitted).then_some(user);
            }
            (State::Asks, Ok(1)) => relay.state = State::Serves,
            (State::Serves, Ok(1)) if spares < SPARES => {
                (relay.state, relay.user) = (State::Spare, None);
            }
            (_, Err(Errno::AGAIN)) => {}
            _ => (relay.state, relay.desk) = (State::Serves, None),
        }
    }

    /// Starts a relay for a connection to come. In the relay it gives the desk.
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
                    state: State::Spare,
                });
                Ok(None)
            }
        }
    }

    /// The rest of a relay's life. It has its own end of the desk, and nothing else.
    fn relay(self, desk: OwnedFd) -> ! {
        let _ = rustix::thread::set_name(c"flexnet-relay");
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null");
        if let Ok(null) = null {
            redirect(&null, &[0, 1, 2]);
        }
        drop(self);
        let _ = relay::run(&desk);
        std::process::exit(0)
    }

    /// Forgets the relays that have ended.
    fn reap(&mut self, mut ended: impl Iterator<Item = bool>) {
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
