// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Rests: what a closed socket has left, whose descriptor is the library's until it is sent.
//!
//! Promised: a rest is lost only with its connection, and that is reset only where nobody else has
//! the socket, or no descriptor can be had at all. The limits for rests are for sockets that only
//! this process has: an option would be the others', too. Left to others: when a socket has a rest
//! (barrier.rs), and who sends it.

use crate::entry::{Kind, Used};
use crate::hook_guard::Quiet;
use crate::process::process_state;
use crate::real;
use crate::socket::borrowed;
use crate::table::{self, REST, Slot, UNKNOWN};
use rustix::fd::{FromRawFd, IntoRawFd, OwnedFd};
use rustix::io::FdFlags;
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a closed socket's rest waits for a peer that takes nothing: as the kernel's
/// own does in FIN-WAIT-2 (tcp_fin_timeout).
const REST_MAX: Duration = Duration::from_secs(60);

/// Rests there are at once, at most. Each has a ring: 64 MiB in all.
const RESTS_MAX: u64 = 1024;
/// The part of the process's descriptors that rests may have.
const RESTS_PART: u64 = 4;

/// Why a closed socket's rest cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRest {
    /// There are as many rests as there may be.
    TooMany,
    /// The process has no descriptor for it.
    NoDescriptor,
}

/// May another process have the socket of this number, now or later? A child that was forked, one
/// that was started with it, or one that was sent the descriptor.
pub(crate) fn is_elsewhere(entry: &Used, fd: RawFd) -> bool {
    let Some(process) = process_state() else {
        return true;
    };
    let made = entry.forks.load(Ordering::Relaxed);
    let stays_here = || {
        let flags = rustix::io::fcntl_getfd(borrowed(fd));
        flags.is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC))
    };
    entry.passthrough.load(Ordering::SeqCst)
        || process.forks.shares(made)
        || (process.forks.count() > made && !stays_here())
}

/// A connection cannot go on: a part of what the peer expects is lost. The peer must not take what it
/// has for all there was.
pub(crate) fn reset(entry: &Used, fd: RawFd, is_shared: bool, why: NoRest) {
    if entry.flow().is_drained() {
        return;
    }
    if is_shared {
        disconnect(entry, fd);
    } else {
        // As the kernel does where there are more than tcp_max_orphans.
        let _ = sockopt::set_socket_linger(borrowed(fd), Some(Duration::ZERO));
    }
    {
        let _quiet = Quiet::new();
        entry.flow().discard(libc::ECONNRESET);
    }
    match why {
        NoRest::TooMany => {
            log::warn!("a connection was reset: too many closed ones have data left");
        }
        NoRest::NoDescriptor => {
            log::warn!("a connection was reset: no descriptor is free for the data left");
        }
    }
}

/// Resets it for all that have it, and now: what they send would come behind a hole.
fn disconnect(entry: &Used, fd: RawFd) {
    if entry.kind() != Kind::Stream {
        return;
    }
    let nobody = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let length = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: a local address, and its length.
    unsafe { real::connect(fd, &raw const nobody, length) };
}

/// Rests cost the program memory and descriptors, and it cannot see them.
pub(crate) fn has_room() -> bool {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = (descriptors / RESTS_PART).min(RESTS_MAX);
    process_state().is_some_and(|process| u64::from(process.closing.load(Ordering::Acquire)) < most)
}

/// The program is done with the socket of this descriptor, which the flow keeps for what is left.
pub(crate) fn become_rest(entry: &Used, own: RawFd, is_elsewhere: bool) {
    if let Some(slot) = table::slot(own)
        && let Some(process) = process_state()
        && slot.replace(table::INTERNAL, REST)
    {
        process.closing.fetch_add(1, Ordering::AcqRel);
    }
    // With nothing left it closes at once.
    if !entry.flow().is_drained() && !is_elsewhere {
        limit_rest(own);
    }
}

/// The library closes one of its own.
pub(crate) fn internal_closed(slot: &Slot) {
    if slot.tagged() == REST
        && let Some(process) = process_state()
    {
        process.closing.fetch_sub(1, Ordering::AcqRel);
    }
    slot.set(UNKNOWN);
}

/// A closed socket's rest is sent for as long as the kernel would send its own, or a
/// peer that takes nothing would keep it for ever.
fn limit_rest(fd: RawFd) {
    let limit = REST_MAX.as_millis() as u32;
    // Datagrams have no such option, and no such peer.
    if let Ok(set) = sockopt::tcp_user_timeout(borrowed(fd))
        && (set == 0 || set > limit)
    {
        let _ = sockopt::set_tcp_user_timeout(borrowed(fd), limit);
    }
}

/// A closed descriptor's registrations go with the last reference to the socket,
/// which the duplicate is: without this, events of the old socket would come
/// under a number that is another's by then.
pub(crate) fn leave_epolls(fd: RawFd) {
    for (epoll, slot) in table::all() {
        if slot.tagged() == table::EPOLL {
            // Not registered there, most of the time.
            let _ = rustix::event::epoll::delete(borrowed(epoll), borrowed(fd));
        }
    }
}

/// A descriptor of the library's own for the socket of a number that is about to be closed.
///
/// `may_keep`: where no other can be had, the number itself, which the program then does not close.
pub(crate) fn own_descriptor(fd: RawFd, may_keep: bool) -> Option<OwnedFd> {
    let lowest = table::lowest_descriptor();
    let own = match rustix::io::fcntl_dupfd_cloexec(borrowed(fd), lowest) {
        Ok(copy) => copy.into_raw_fd(),
        Err(_) if may_keep => {
            let _ = rustix::io::fcntl_setfd(borrowed(fd), FdFlags::CLOEXEC);
            fd
        }
        Err(_) => return None,
    };
    table::mark_internal(own);
    // SAFETY: just made, or not closed by its owner; given to one owner, and `hooks::close` sees it
    // go.
    Some(unsafe { OwnedFd::from_raw_fd(own) })
}
