// SPDX-License-Identifier: GPL-2.0-only
//! The process at the other end of a connection, and which threads are its own.
//!
//! Promises that no process id is trusted beyond the life of its process: the
//! peer is held by a pidfd, a thread comes as a pidfd, and both are compared
//! through /proc while they live.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Of include/uapi/asm-generic/socket.h, Linux 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// The process that connected.
#[derive(Debug)]
pub struct Peer {
    /// Its process id in the daemon's namespace.
    pub pid: i32,
    /// Its user when it connected.
    pub uid: u32,
    process: OwnedFd,
}

impl Peer {
    /// The peer of a connected unix socket.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        Ok(Self {
            pid: credentials.pid.as_raw_nonzero().get(),
            uid: credentials.uid.as_raw(),
            process: peer_pidfd(socket)?,
        })
    }

    /// A peer whom a relay has looked at.
    pub fn introduced(pid: i32, uid: u32, process: OwnedFd) -> Self {
        Self { pid, uid, process }
    }

    /// Waits until it has ended, for so long at most.
    pub fn await_end(&self, limit: Duration) {
        let timeout = Timespec {
            tv_sec: limit.as_secs() as _,
            tv_nsec: limit.subsec_nanos() as _,
        };
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        // Interrupted, it has not ended: what waits goes on all the same.
        let _ = poll(&mut ended, Some(&timeout));
    }

    /// Its process's name (comm), empty when it is gone.
    pub fn command(&self) -> String {
        let live = live_pid(self.process.as_fd()).ok();
        let comm = live.and_then(|pid| read(&format!("/proc/{pid}/comm")).ok());
        comm.map(|name| name.trim_end().to_owned())
            .unwrap_or_default()
    }

    /// Its process's cgroup, empty when it is gone. Of the unified hierarchy, as the daemon
    /// sees it.
    pub fn cgroup(&self) -> String {
        let live = live_pid(self.process.as_fd()).ok();
        let text = live.and_then(|pid| read(&format!("/proc/{pid}/cgroup")).ok());
        let text = text.unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        path.unwrap_or_default().to_owned()
    }

    /// The id of a thread given as a pidfd, if it is one of the peer's.
    pub fn own_thread(&self, pidfd: BorrowedFd<'_>) -> Result<i32, Errno> {
        let tid = live_pid(pidfd)?;
        let status = read(&format!("/proc/{tid}/status")).map_err(|_| Errno::SRCH)?;
        // Its socket may have outlived the peer, whose id is another's by now.
        if field(&status, "Tgid:") == Some(live_pid(self.process.as_fd())?) {
            Ok(tid)
        } else {
            Err(Errno::PERM)
        }
    }
}

/// The peer of a connected unix socket, as a pidfd.
///
/// # Errors
/// It has ended.
pub fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to live variables of the size that is said.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The id behind a pidfd: EBADF when it is none, ESRCH when its task is gone.
pub fn live_pid(pidfd: BorrowedFd<'_>) -> Result<i32, Errno> {
    let info = read(&format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    match field(&info, "Pid:") {
        Some(pid) if pid > 0 => Ok(pid),
        Some(_) => Err(Errno::SRCH),
        None => Err(Errno::BADF),
    }
}

pub fn read(path: &str) -> Result<String, Errno> {
    std::fs::read_to_string(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The number after a name at the start of a line.
pub fn field(text: &str, name: &str) -> Option<i32> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    #[test]
    fn fields_are_found_at_line_starts_only() {
        let text = "Name:\tTgid: 5\nTgid:\t12\nNSpid:\t7\nPid:\t34\n";
        assert_eq!(field(text, "Tgid:"), Some(12));
        assert_eq!(field(text, "Pid:"), Some(34));
        assert_eq!(field(text, "Uid:"), None);
    }

    #[test]
    fn a_pidfd_names_its_process_and_nothing_else_does() {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        assert_eq!(live_pid(own.as_fd()), Ok(getpid().as_raw_nonzero().get()));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(live_pid(file.as_fd()), Err(Errno::BADF));
    }

    #[test]
    fn other_processes_threads_are_refused() {
        let peer = Peer {
            pid: getpid().as_raw_nonzero().get(),
            uid: 0,
            process: pidfd_open(getpid(), PidfdFlags::empty()).unwrap(),
        };
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        assert!(peer.own_thread(own.as_fd()).is_ok());
        let mut child = std::process::Command::new("sleep")
            .arg("10")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert_eq!(peer.own_thread(pidfd.as_fd()), Err(Errno::PERM));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(peer.own_thread(pidfd.as_fd()), Err(Errno::SRCH));
    }
}
