// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! fork: parent and child write to the sockets that they share in the order of their calls. So
//! nothing of the parent's is queued while the child may write.
//!
//! The child starts with an empty table, because its memory is wiped. On sockets that it inherited
//! the child writes past the library. Sockets that it makes itself may be queued, on executors of
//! its own.
//!
//! The parent sends by itself on the flows that existed at the fork, until the child executes
//! another program or ends. A close-on-exec pipe tells the parent: only the child has its writing
//! end.

use crate::barrier::{self, Patience};
use crate::children::Forks;
use crate::hook_guard::{HookGuard, SignalsBlocked};
use crate::process::process_state;
use crate::table;
use rustix::fd::{AsRawFd, IntoRawFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::cell::UnsafeCell;
use std::sync::atomic::Ordering;

/// From `prepare` to the handler after the fork; one thread forks at a time (it
/// holds the lock on making flows), and the child has only that thread.
struct Forking {
    state: UnsafeCell<Option<State>>,
}

// SAFETY: touched by the thread that holds the lock, see above.
unsafe impl Sync for Forking {}

struct State {
    _guard: Option<HookGuard>,
    signals: SignalsBlocked,
    fork: u32,
    reader: Option<OwnedFd>,
    writer: Option<OwnedFd>,
    /// The library's own descriptors, which the child has too.
    internal: Vec<i32>,
}

static FORKING: Forking = Forking {
    state: UnsafeCell::new(None),
};

extern "C" fn prepare() {
    let Some(process) = process_state() else {
        return;
    };
    let signals = SignalsBlocked::new();
    process.lock();
    let guard = HookGuard::enter();
    let mut state = State {
        _guard: guard,
        signals,
        fork: 0,
        reader: None,
        writer: None,
        internal: Vec::new(),
    };
    // Also those that have no flow yet: they may get one while the child lives.
    let any = table::all().any(|(_, slot)| slot.tagged() >= table::CANDIDATE);
    let fork = process.forks.count.fetch_add(1, Ordering::SeqCst) + 1;
    if any {
        // A process that only forks, and sends on no old flow, looks here.
        process.forks.locked(Forks::poll_children);
        // Nothing is queued on them from here on; then what is, is drained.
        state.fork = fork;
        process.forks.newest.fetch_max(fork, Ordering::SeqCst);
        // A handler's fork may have interrupted what holds a flow's gate.
        if state._guard.is_some() {
            barrier::drain_all(Patience::Forking);
        }
        if let Ok((reader, writer)) = pipe_with(PipeFlags::CLOEXEC) {
            let lowest_descriptor = table::lowest_descriptor();
            let raised =
                |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(&fd, lowest_descriptor).unwrap_or(fd);
            (state.reader, state.writer) = (Some(raised(reader)), Some(raised(writer)));
        }
    }
    state.internal = table::all()
        .filter(|(_, slot)| table::is_internal(slot.tagged()))
        .map(|(fd, _)| fd)
        .collect();
    // SAFETY: the lock is held.
    unsafe { *FORKING.state.get() = Some(state) };
}

extern "C" fn in_parent() {
    let Some(process) = process_state() else {
        return;
    };
    // SAFETY: the lock is held, since `prepare`.
    let Some(state) = (unsafe { (*FORKING.state.get()).take() }) else {
        return;
    };
    let State {
        _guard,
        signals,
        fork,
        reader,
        writer,
        internal: _,
    } = state;
    drop(writer);
    if fork != 0 {
        process.forks.locked(|forks| match reader {
            Some(reader) => forks.watch(reader, fork),
            None => forks.give_up(fork),
        });
    }
    process.unlock();
    drop(_guard);
    drop(signals);
}

extern "C" fn in_child() {
    let Some(process) = process_state() else {
        return;
    };
    // SAFETY: the only thread, and it held the lock.
    let Some(state) = (unsafe { (*FORKING.state.get()).take() }) else {
        return;
    };
    for fd in state.internal {
        // SAFETY: the parent's library's; in this process nobody uses it.
        unsafe { rustix::io::close(fd) };
    }
    // What `process` says is zero by now; the lock with it.
    if let Some(writer) = state.writer {
        // Open until this process ends or becomes another program.
        table::mark_internal(writer.as_raw_fd());
        let _ = writer.into_raw_fd();
    }
    process.revive();
    drop(state.reader);
    drop(state._guard);
    drop(state.signals);
}

/// _Fork() runs no handlers, and may be called in a signal's: around it what they do in
/// the parent. The child may not use the heap, so it makes no flows: nothing of what it
/// inherited is used, and [`crate::process::ProcessState::alive`] is not set.
pub(crate) fn around_fork(fork: impl FnOnce() -> i32) -> i32 {
    if crate::hook_guard::is_in_hook() || flexnet::executor::is_library_thread() {
        return fork();
    }
    prepare();
    let child = fork();
    if child != 0 {
        in_parent();
    } else if let Some(state) = take_state() {
        for fd in &state.internal {
            // SAFETY: the parent's library's; in this process nobody uses it.
            unsafe { rustix::io::close(*fd) };
        }
        let State {
            _guard,
            signals,
            reader,
            writer,
            internal,
            ..
        } = state;
        // The heap's lock may be held by a thread that is not here, and the pipe's
        // writing end says to the parent that this process is there.
        std::mem::forget((internal, writer));
        drop((reader, _guard, signals));
    }
    child
}

/// The state of the fork that this thread is at. The lock is held, since `prepare`.
fn take_state() -> Option<State> {
    // SAFETY: as said.
    unsafe { (*FORKING.state.get()).take() }
}

/// Registers the handlers, after those of the heap: its lock is taken last.
pub(crate) fn set_up() {
    // SAFETY: before any allocation by more than this thread; registered once.
    unsafe {
        dlmalloc::enable_alloc_after_fork();
        libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child));
    }
}
