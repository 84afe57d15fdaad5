// SPDX-License-Identifier: GPL-2.0-only
//! One scx_flexnet takes over from another (`--replace`), for upgrades and
//! restarts: both ends of the conversation that abi.h describes.
//!
//! The successor loads first, and asks when only the attach is left to do. It gets the listening
//! socket, so that clients that connect meanwhile wait for its answer and are not refused. Settings
//! of devices stay as they are, and the successor takes over their state files. Promises that one
//! of the two schedules in the end: if the successor is gone before it schedules, the old daemon
//! goes on.

use crate::connection::{Connection, Listener, Packet};
use crate::message;
use crate::preflight;
use crate::stats::monotonic_ns;
use anyhow::{Context, Result, bail};
use flexnet::abi::{self, Message, Takeover, Wire};
use flexnet::client::root_door;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest the other side may take for its next step: the old one to detach, the
/// new one to attach or, once it is lost, to end: together less than systemd waits for
/// a sign of life (WatchdogSec). Under emulation each takes half a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The next packet, or nothing when the other end is gone or late.
fn next(connection: &Connection) -> Option<Packet> {
    let start = Instant::now();
    loop {
        match connection.receive() {
            Ok(Some(packet)) => return Some(packet),
            Ok(None) => {}
            Err(_) => return None,
        }
        let left = PATIENCE.checked_sub(start.elapsed())?;
        let timeout = Timespec {
            tv_sec: left.as_secs() as _,
            tv_nsec: left.subsec_nanos() as _,
        };
        match poll(
            &mut [PollFd::new(connection, PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn request() -> Message {
    Message {
        size: size_of::<Message>() as u32,
        kind: abi::MESSAGE_TAKEOVER,
        version: abi::VERSION,
        ..Message::default()
    }
}

/// The running daemon, as the new one sees it.
pub struct Predecessor {
    connection: Connection,
    detached_ns: u64,
}

impl Predecessor {
    /// Has the daemon at `path` detach; from then on nobody schedules but the
    /// kernel. What it listened at, too.
    ///
    /// # Errors
    /// None is there, or it refuses.
    pub fn ask(path: &Path) -> Result<(Self, Listener)> {
        let at = path.display();
        // A daemon of before has no door for root.
        let door = Connection::connect(&root_door(path));
        let connection = door.or_else(|_| Connection::connect(path));
        let connection = connection.with_context(|| {
            format!("the running scx_flexnet does not listen at {at}: use the same --socket")
        })?;
        let asked = connection.send(request().as_bytes(), &[]);
        let reply = asked.ok().and_then(|()| next(&connection));
        let reply =
            reply.with_context(|| format!("the running scx_flexnet at {at} does not answer"))?;
        let header = Message::from_bytes(&reply.bytes[..reply.kept]).unwrap_or_default();
        let socket = match (header.status, reply.fd) {
            (0, Some(socket)) => socket,
            (status, _) => {
                let errno = Errno::from_raw_os_error(status.saturating_neg());
                bail!("the running scx_flexnet at {at} does not give way: {errno}");
            }
        };
        let listener = Listener::taken(socket, path)?;
        // From here on it schedules whatever becomes of the other one.
        set_parent_process_death_signal(None)?;
        let reported = next(&connection);
        let reported =
            reported.and_then(|packet| Takeover::from_bytes(&packet.bytes[..packet.kept]));
        let detached_ns = match reported {
            Some(reported) => reported.detached_ns,
            // It died on the way; so nobody schedules, and that is all we want.
            None => monotonic_ns(),
        };
        Ok((
            Self {
                connection,
                detached_ns,
            },
            listener,
        ))
    }

    /// How long nobody has scheduled but the kernel by now, ns.
    pub fn gap_ns(&self) -> u64 {
        monotonic_ns().saturating_sub(self.detached_ns)
    }

    /// Tells it that it is relieved, and waits until it has ended and nothing is
    /// its own any more.
    pub fn relieve(self) {
        // One that is gone needs no telling.
        let _ = self.connection.send(request().as_bytes(), &[]);
        self.connection.peer.await_end(PATIENCE);
    }
}

/// The new daemon, as the running one sees it.
pub struct Successor {
    connection: Connection,
    asked: Message,
}

/// Starts the program anew, as it is on disk by now, with the same command line, to
/// take over from this one. It is this one's child, in the same unit.
pub fn start_successor(arguments: &[String]) {
    let program = std::env::current_exe().unwrap_or_default();
    // What an upgrade has replaced.
    let program = program.to_string_lossy();
    let program = program.trim_end_matches(" (deleted)");
    let mut command = Command::new(program);
    command.args(arguments.iter().skip(1)).stdin(Stdio::null());
    if !arguments.iter().any(|word| word == "--replace") {
        command.arg("--replace");
    }
    // A stop of this daemon, before its successor has asked for its place, stops both.
    let die_together = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: one system call, which may be made between fork and exec.
    unsafe { command.pre_exec(die_together) };
    let started = command.spawn().and_then(|mut child| {
        log::info!("process {} is to take over", child.id());
        // One that fails is waited for, or it would stay a zombie.
        let wait = move || drop(child.wait());
        std::thread::Builder::new().spawn(wait)
    });
    if let Err(error) = started {
        log::warn!("cannot start {program}: {error}");
    }
}

/// How a takeover ended for the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other schedules.
    Relieved,
    /// It did not come to it, and nobody else schedules.
    Abandoned,
}

impl Successor {
    /// Hands it what `listener` listens at.
    ///
    /// # Errors
    /// It is gone already.
    pub fn accept(
        connection: Connection,
        asked: Message,
        listener: &Listener,
    ) -> Result<Self, Errno> {
        let reply = message::reply(&asked, size_of::<Message>(), Ok(()));
        connection.send(reply.as_bytes(), &[listener.as_fd()])?;
        Ok(Self { connection, asked })
    }

    /// Tells it since when nobody schedules, and waits until it does.
    pub fn await_relief(self, detached_ns: u64) -> Outcome {
        let reported = Takeover {
            message: message::reply(&self.asked, size_of::<Takeover>(), Ok(())),
            detached_ns,
        };
        let _ = self.connection.send(reported.as_bytes(), &[]);
        if next(&self.connection).is_some() {
            return Outcome::Relieved;
        }
        // What it may have attached goes with it.
        self.connection.peer.await_end(PATIENCE);
        match preflight::state().as_str() {
            "enabled" => Outcome::Relieved,
            _ => Outcome::Abandoned,
        }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.connection.peer.pid
    }
}
