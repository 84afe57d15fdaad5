// SPDX-License-Identifier: GPL-2.0-only
//! Which descriptor a request has, and whether a descriptor is one of that kind.
//!
//! Promises that what passes can be closed by anybody without a wait. The kernel's
//! own objects (a BPF map, a pidfd, a pipe) have no owner that could delay it, and
//! /proc names them as no file can be named. Leaves to others what is in them.

use crate::message::{CoreRule, Request};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Of include/uapi/linux/magic.h: a file system that a user's program serves.
const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;

/// A kind of descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A BPF map: the page that a client had before.
    Map,
    /// A process or a thread.
    Pidfd,
    /// A pipe without a name.
    Pipe,
    /// A regular file of a file system that no user's program serves.
    Program,
}

impl Kind {
    /// What comes with a request.
    pub fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Hello { .. } => Some(Self::Map),
            Request::Register { .. } | Request::SetClass { .. } | Request::Why { .. } => {
                Some(Self::Pidfd)
            }
            Request::TraceStart => Some(Self::Pipe),
            Request::TraceAttach { .. } | Request::CoreRule(CoreRule::Load { .. }) => {
                Some(Self::Program)
            }
            Request::Unregister { .. }
            | Request::Status
            | Request::Reload
            | Request::Rules
            | Request::TakeOver
            | Request::TraceStop
            | Request::CoreRule(_)
            | Request::Design(_) => None,
        }
    }

    /// Is this descriptor of this kind? May wait for the file's owner, for ever: of
    /// processes that nobody waits for alone.
    pub fn fits(self, fd: BorrowedFd<'_>) -> bool {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let name = link.unwrap_or_default().to_string_lossy().into_owned();
        match self {
            // Names of files begin with a slash.
            Self::Map => name == "anon_inode:bpf-map",
            Self::Pidfd => name == "anon_inode:[pidfd]",
            Self::Pipe => name.starts_with("pipe:["),
            Self::Program => name.starts_with('/') && is_local_file(fd),
        }
    }
}

fn is_local_file(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: plain calls; both are structures of integers that the kernel fills.
    unsafe {
        let (mut file, mut system) = (std::mem::zeroed(), std::mem::zeroed());
        let fd = fd.as_raw_fd();
        if libc::fstatfs(fd, &raw mut system) != 0 || libc::fstat(fd, &raw mut file) != 0 {
            return false;
        }
        let (file, system): (libc::stat, libc::statfs) = (file, system);
        file.st_mode & libc::S_IFMT == libc::S_IFREG && system.f_type != FUSE_SUPER_MAGIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};

    #[test]
    fn descriptors_are_told_by_their_kind() {
        use rustix::process::{PidfdFlags, getpid, pidfd_open};
        let pipe = OwnedFd::from(std::io::pipe().unwrap().0);
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let program = OwnedFd::from(File::open("/proc/self/exe").unwrap());
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        let folder = OwnedFd::from(File::open("/").unwrap());
        let socket = crate::packets::pair().unwrap().0;
        let kinds = [Kind::Map, Kind::Pidfd, Kind::Pipe, Kind::Program];
        for (fd, kind) in [
            (&pipe, Some(Kind::Pipe)),
            (&pidfd, Some(Kind::Pidfd)),
            (&program, Some(Kind::Program)),
            (&null, None),
            (&folder, None),
            (&socket, None),
        ] {
            let fit = kinds.into_iter().find(|kind| kind.fits(fd.as_fd()));
            assert_eq!(fit, kind);
        }
    }
}
