// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Drain first: before the program does something else than sending with a descriptor, all that was
//! accepted is given to the kernel.
//!
//! On a non-blocking socket nothing here blocks.

use crate::entry::{Entry, RING_BYTES, Used};
use crate::hook_guard::{HookGuard, Quiet};
use crate::process::process_state;
use crate::rests::{self, NoRest};
use crate::socket::{borrowed, buffer_lock, is_nonblocking, lock_buffers, send_buffer_limit};
use crate::table::{self, CANDIDATE, PASSTHROUGH, STDIO_LAST, Slot, UNKNOWN};
use crate::table::{is_entry, is_internal};
use crate::wait;
use flexnet::transport::Drained;
use rustix::net::sockopt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the end of the process, and exec, wait for peers that take nothing.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// How long to wait for a rest that the kernel cannot be made to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all: the process goes on, and so does the rest.
    Forking,
    /// For all flows together, [`LINGER`]: what is not sent by then is lost.
    Bounded,
}

/// Gives the kernel what it takes. A handler that leaves by longjmp, or the thread's
/// cancellation, would leave the flow locked for ever: both come after.
pub(crate) fn quiet_drain(entry: &Used) -> Drained {
    quietly(|| entry.flow().drain())
}

/// Drains a flow, and waits for that at most until then; is it drained?
fn drain_until(entry: &Used, until: Instant) -> bool {
    let flow = entry.flow();
    loop {
        if flow.is_drained() || quiet_drain(entry) == Drained::Empty {
            return true;
        }
        // A signal is no reason to lose what was accepted.
        if !wait::sleep_through(entry, until, || flow.is_drained()) {
            return false;
        }
    }
}

/// In a vfork child, whose descriptors are its own and may be others by now:
/// waits for what executors of the parent are about to send.
pub(crate) fn settle_for_child() {
    let until = Instant::now() + Duration::from_millis(100);
    for (_, slot) in table::all() {
        let tagged = slot.tagged();
        if is_entry(tagged)
            && let Some(entry) = Entry::of(slot, tagged)
            && !entry.flow().is_drained()
            && !entry.flow().is_blocked()
        {
            let drained = || entry.flow().is_drained();
            while !drained() && wait::sleep_through(&entry, until, drained) {}
        }
    }
}

/// All flows there are.
pub(crate) fn drain_all(patience: Patience) {
    let until = Instant::now() + LINGER;
    for (fd, slot) in table::all() {
        let tagged = slot.tagged();
        if is_entry(tagged)
            && let Some(entry) = Entry::of(slot, tagged)
            && !entry.flow().is_drained()
        {
            let until = match patience {
                Patience::Forking => Instant::now(),
                Patience::Bounded => until,
            };
            give_kernel(&entry, fd, until, true);
        }
    }
    if patience == Patience::Bounded {
        wait_for_closed(until);
    }
}

/// Gives the kernel the rest of a flow, whose buffer may be full: a larger one takes
/// it at once, where the kernel grants that; else it is waited for until then.
///
/// `goes_on`: the program may go on with the socket, whose buffer must then be as it was.
fn give_kernel(entry: &Used, fd: RawFd, until: Instant, goes_on: bool) {
    let Ok(before) = sockopt::socket_send_buffer_size(borrowed(fd)) else {
        return;
    };
    if drain_until(entry, Instant::now()) {
        return;
    }
    // The kernel doubles what it is told, and counts its own overhead. A size above its
    // limit does not fail, so one that would make the buffer smaller is not asked for.
    let larger = before / 2 + 2 * RING_BYTES;
    let allowed = larger.min(send_buffer_limit());
    let locked = buffer_lock(fd);
    let raised = (locked.is_some() || !goes_on)
        && (sockopt::set_socket_send_buffer_size_force(borrowed(fd), larger).is_ok()
            || (2 * allowed > before
                && sockopt::set_socket_send_buffer_size(borrowed(fd), allowed).is_ok()));
    let drained = drain_until(entry, until);
    if raised {
        let old = before / 2;
        if sockopt::set_socket_send_buffer_size_force(borrowed(fd), old).is_err() {
            let _ = sockopt::set_socket_send_buffer_size(borrowed(fd), old);
        }
        if let Some(locked) = locked {
            lock_buffers(fd, locked);
        }
        if drained {
            quietly(|| entry.flow().stop_waiting());
        }
    }
}

/// Sockets that are closed and have a rest: their descriptors are the
/// library's own until it is sent.
fn wait_for_closed(until: Instant) {
    let Some(process) = process_state() else {
        return;
    };
    while process.closing.load(Ordering::Acquire) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A new descriptor of a socket, made by this process.
#[inline]
pub(crate) fn made(fd: RawFd) {
    mark(
        fd,
        if fd > STDIO_LAST {
            CANDIDATE
        } else {
            PASSTHROUGH
        },
    );
}

/// A new descriptor that this process made: a [`CANDIDATE`] or an [`table::EPOLL`].
pub(crate) fn mark(fd: RawFd, tagged: usize) {
    if let (Some(slot), Some(process)) = (table::slot(fd), process_state())
        && process.alive.load(Ordering::Relaxed) != 0
        && !is_internal(slot.tagged())
    {
        if is_entry(slot.tagged()) {
            forget_stale(slot);
        }
        slot.forks.store(process.forks.count(), Ordering::Relaxed);
        table::mark(fd, tagged);
    }
}

/// Nothing is queued on it any more; what was is drained as far as it goes.
pub(crate) fn pass_through_permanently(fd: RawFd) {
    let Some(slot) = table::slot(fd) else {
        return;
    };
    let tagged = slot.tagged();
    if tagged == CANDIDATE {
        slot.replace(tagged, PASSTHROUGH);
    } else if is_entry(tagged)
        && let Some(guard) = HookGuard::enter()
        && let Some(entry) = Entry::of(slot, tagged)
    {
        entry.passthrough.store(true, Ordering::SeqCst);
        let now = Instant::now();
        let until = if is_nonblocking(fd) {
            now
        } else {
            now + LINGER
        };
        guard.suspended(|| drain_until(&entry, until));
    }
}

/// The number is about to be closed: the table forgets it, and what was accepted
/// goes on over a descriptor of the library's own if the kernel does not take it now. Call the real
/// close after this.
pub(crate) fn forget(fd: RawFd) {
    let kept = forget_number(fd, false);
    debug_assert!(!kept, "nobody said that it may");
}

/// [`forget`], for a number that the library may keep where it has no other descriptor. True: it
/// does, so the number is not to be closed.
#[must_use]
pub(crate) fn forget_or_keep(fd: RawFd) -> bool {
    forget_number(fd, true)
}

fn forget_number(fd: RawFd, may_keep: bool) -> bool {
    let Some(slot) = table::slot(fd) else {
        return false;
    };
    let tagged = slot.tagged();
    if tagged == UNKNOWN || is_internal(tagged) {
        return false;
    }
    if !is_entry(tagged) {
        slot.close(tagged);
        return false;
    }
    let Some(process) = process_state() else {
        return false;
    };
    if !process.is_ours() {
        return false; // a vfork child's close is not the parent's
    }
    let Some(_guard) = HookGuard::enter() else {
        return false;
    };
    let Some(entry) = Entry::of(slot, tagged) else {
        return false;
    };
    if !slot.close(tagged) {
        return false; // another thread closes it
    }
    entry.bell().ring();
    // By the numbers there were: this one's reference is still counted.
    let used_by_others = entry.is_shared();
    let left = entry.handles.fetch_sub(1, Ordering::SeqCst) - 1;
    let kept = retire(&entry, fd, (left > 0, used_by_others), may_keep);
    // The number's reference.
    entry.release();
    kept
}

/// The number is a new descriptor's, so it was closed past us (by a raw system
/// call, or with its FILE): what was left must not go to the new one.
#[cold]
pub(crate) fn forget_stale(slot: &Slot) {
    let tagged = slot.tagged();
    let Some(_guard) = HookGuard::enter() else {
        return;
    };
    if let Some(entry) = Entry::of(slot, tagged)
        && slot.close(tagged)
    {
        entry.bell().ring();
        quietly(|| {
            entry.flow().discard(libc::EBADF);
            entry.flow().retire(false)
        });
        entry.handles.fetch_sub(1, Ordering::SeqCst);
        entry.release();
    }
}

/// A socket that has nothing queued and nothing to tell loses its flow: it is a
/// candidate again. For a thread that holds the lock on making flows and is the only one in
/// the hooks: others would find a candidate while there is a flow yet.
pub(crate) fn release(fd: RawFd, slot: &Slot) {
    let tagged = slot.tagged();
    if !is_entry(tagged) {
        return;
    }
    let Some(entry) = Entry::of(slot, tagged) else {
        return;
    };
    // Drained first: a thread that sends says what failed before it is off the queue.
    let may_go = entry.flow().drain() == Drained::Empty
        && entry.flow().error().is_none()
        && !entry.passthrough.load(Ordering::SeqCst)
        && !entry.ended.load(Ordering::SeqCst)
        && entry.fd.load(Ordering::SeqCst) == fd
        && entry.handles.load(Ordering::SeqCst) == 1;
    // Shared: a signal's handler runs within a hook that waits.
    if may_go && !entry.is_shared() && entry.flow().retire(false) {
        slot.set(CANDIDATE);
        entry.handles.store(0, Ordering::SeqCst);
        entry.release();
    }
}

/// `fd`, which is about to be closed, is not used by the flow any more. True: the flow keeps it, as
/// it may.
///
/// `has_others`: the socket has other numbers here; `used_by_others`: threads are in hooks with it.
fn retire(
    entry: &Used,
    fd: RawFd,
    (has_others, used_by_others): (bool, bool),
    may_keep: bool,
) -> bool {
    let flow = entry.flow();
    if entry.fd.load(Ordering::SeqCst) != fd {
        if !has_others {
            retire_last(entry, fd);
        }
        return false;
    }
    let shared = has_others || used_by_others;
    if quietly(|| flow.retire(shared)) {
        return false;
    }
    let is_elsewhere = rests::is_elsewhere(entry, fd);
    if !has_others && !is_elsewhere {
        finish(entry, fd);
    }
    if !flow.is_drained() {
        give_kernel(entry, fd, Instant::now(), shared || is_elsewhere);
    }
    if flow.is_drained() && quietly(|| flow.retire(shared)) {
        return false;
    }
    // Where others go on, what is left is no rest.
    let own = match shared || is_elsewhere || rests::has_room() {
        true => rests::own_descriptor(fd, may_keep).ok_or(NoRest::NoDescriptor),
        false => Err(NoRest::TooMany),
    };
    match own {
        Ok(own) => {
            let number = own.as_raw_fd();
            if !has_others {
                rests::leave_epolls(fd);
                rests::become_rest(entry, number, is_elsewhere);
            }
            entry.fd.store(-1, Ordering::SeqCst);
            quietly(|| flow.keep(own));
            number == fd
        }
        Err(why) => {
            rests::reset(entry, fd, has_others || is_elsewhere, why);
            entry.passthrough.store(true, Ordering::SeqCst);
            quietly(|| flow.retire(false));
            false
        }
    }
}

/// The socket's last number, where the flow has a descriptor of its own since an earlier one closed.
fn retire_last(entry: &Used, fd: RawFd) {
    let flow = entry.flow();
    rests::leave_epolls(fd);
    let is_elsewhere = rests::is_elsewhere(entry, fd);
    if !is_elsewhere {
        finish(entry, fd);
    }
    if !flow.is_drained() {
        give_kernel(entry, fd, Instant::now(), is_elsewhere);
    }
    let may_stay = flow.is_drained() || is_elsewhere || rests::has_room();
    match flow.own_descriptor() {
        Some(own) if may_stay => rests::become_rest(entry, own, is_elsewhere),
        Some(_) => rests::reset(entry, fd, is_elsewhere, NoRest::TooMany),
        None => rests::reset(entry, fd, is_elsewhere, NoRest::NoDescriptor),
    }
}

/// What holds a flow's gate: a handler that forks, or that leaves by longjmp, would wait for
/// that gate for ever.
pub(crate) fn quietly<R>(holds_the_gate: impl FnOnce() -> R) -> R {
    let _quiet = Quiet::new();
    holds_the_gate()
}

/// The socket closes with its last number: SO_LINGER decides about the rest.
fn finish(entry: &Used, fd: RawFd) {
    match sockopt::socket_linger(borrowed(fd)) {
        // What the kernel has not taken is dropped, as it drops its own.
        Ok(Some(Duration::ZERO)) => quietly(|| entry.flow().discard(libc::ECONNRESET)),
        Ok(Some(linger)) => drop(drain_until(entry, Instant::now() + linger)),
        _ => {}
    }
}
