// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The process's one runtime: started with the first flow, where it may be, and
//! ended when flows have not gained; and making flows.
//!
//! Never started: in a privileged program (AT_SECURE); under a seccomp filter, which may kill the
//! process for the executors' system calls; after a call that needs a process with one thread
//! (unshare, setns). If it cannot be started for lack of threads or descriptors, it is not tried
//! again.

use crate::barrier::{self, Patience};
use crate::config::Config;
use crate::entry::{Entry, Kind, RING_BYTES};
use crate::hook_guard::{CancelDisabled, HookGuard, SignalsBlocked};
use crate::process::{ProcessState, Started, process_state};
use crate::table::{self, CANDIDATE, PASSTHROUGH, Slot};
use crate::wait;
use flexnet::client::Client;
use flexnet::executor::{Bell, Runtime, on_descriptor_created, set_lowest_descriptor};
use flexnet::transport::RawFlow;
use rustix::fd::BorrowedFd;
use rustix::net::{getpeername, ipproto, sockopt};
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long an executor looks for work where it keeps coming: a server under
/// load sends its replies that far apart, and each wakeup costs it 3.3 to 3.6
/// µs.
const SPIN_UP_TO: Duration = Duration::from_micros(50);
/// Flows a process has at most, for their memory: 256 MiB, as it is used. The
/// sends of more sockets are their callers'.
const FLOWS_MAX: u32 = 4096;

/// So many flows go when they do not gain. Making more of them anew for each trial
/// would cost more than the executor does.
const FLOWS_LET_GO: u32 = 256;

static CONFIG: OnceLock<Config> = OnceLock::new();

pub(crate) fn config() -> Option<&'static Config> {
    CONFIG.get()
}

pub(crate) fn set_config(config: Config) -> &'static Config {
    CONFIG.get_or_init(|| config)
}

/// Nothing is offloaded from here on, and why.
pub(crate) fn give_up(process: &ProcessState, why: &str) {
    if process.off.swap(1, Ordering::SeqCst) == 0 {
        log::warn!("sends are no longer offloaded: {why}");
    }
}

/// Was a filter in place when the program started?
fn is_filtered() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let mode = status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:"));
        mode.is_some_and(|mode| mode.trim() != "0")
    })
}

fn program() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    match name.trim_end() {
        "" => "program".to_owned(),
        name => name.to_owned(),
    }
}

fn start(config: &Config) -> io::Result<Started> {
    if !config.under_filter && is_filtered() {
        return Err(io::Error::other(
            "the program runs under a seccomp filter (FLEXNET_SECCOMP=ignore starts all the same)",
        ));
    }
    set_lowest_descriptor(table::lowest_descriptor());
    on_descriptor_created(table::mark_internal);
    let name = program();
    let mut builder = Runtime::builder()
        .name(&name)
        .executors(config.executors)
        .flow_class(config.flow_class)
        .spin_up_to(SPIN_UP_TO)
        // Programs that know nothing of it make no coroutines.
        .coroutines(16);
    let mut link = None;
    if config.socket.exists() {
        match Client::connect_in_background(&config.socket, &name) {
            Ok(client) => {
                builder = builder.link(client.clone());
                link = Some(client);
            }
            Err(error) => log::warn!("no connection to the scheduler: {error}"),
        }
    }
    Ok(Started {
        runtime: builder.build()?,
        link,
    })
}

/// The runtime, started if it was not. For the thread that holds the lock.
fn started(process: &ProcessState) -> Option<&'static Started> {
    let now = process.runtime.load(Ordering::Acquire);
    // SAFETY: null or leaked below; ended only by a thread that holds the lock.
    if let Some(started) = unsafe { now.as_ref() } {
        return Some(started);
    }
    match start(config()?) {
        Ok(started) => {
            let started = Box::leak(Box::new(started));
            process.runtime.store(started, Ordering::Release);
            Some(started)
        }
        // There were some before, and there may be again.
        Err(_) if process.announced.load(Ordering::Relaxed) != 0 => None,
        Err(error) => {
            give_up(process, &format!("executors cannot be started: {error}"));
            None
        }
    }
}

fn kind(fd: BorrowedFd<'_>) -> Option<Kind> {
    match sockopt::socket_protocol(fd) {
        Ok(Some(ipproto::TCP)) => Some(Kind::Stream),
        Ok(Some(ipproto::UDP)) => Some(Kind::Datagrams),
        _ => None,
    }
}

/// Makes a flow for a candidate. False: not now, or never. For a thread in a hook.
#[cold]
pub(crate) fn make_flow(fd: RawFd, slot: &Slot) -> bool {
    let Some(process) = process_state() else {
        return false;
    };
    if process.off.load(Ordering::Relaxed) != 0 || process.alive.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let _signals = SignalsBlocked::new();
    let _not_now = CancelDisabled::new();
    if !process.try_lock() {
        return false; // somebody makes one, forks or stops: the next send may
    }
    let made = make_flow_locked(process, fd, slot);
    process.unlock();
    made
}

fn make_flow_locked(process: &'static ProcessState, fd: RawFd, slot: &Slot) -> bool {
    // Looked at once more: a thread that stops it has the lock.
    let is_off = process.off.load(Ordering::Relaxed) != 0;
    if is_off || !process.is_ours() || process.entries.in_use() >= FLOWS_MAX {
        return false;
    }
    // SAFETY: the program's descriptor, which it sends on just now.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let Some(kind) = kind(socket) else {
        slot.replace(CANDIDATE, PASSTHROUGH);
        return false;
    };
    if getpeername(socket).is_err() {
        return false; // not connected, or not yet
    }
    let Some(started) = started(process) else {
        return false;
    };
    // SAFETY: the hooks see to it that it is retired before it is closed.
    let made = Entry::new(&process.entries, fd, kind, |bell| unsafe {
        match kind {
            Kind::Stream => RawFlow::stream(&started.runtime, fd, RING_BYTES, bell),
            Kind::Datagrams => RawFlow::datagram(&started.runtime, fd, RING_BYTES, bell),
        }
    });
    let entry = match made {
        Ok(entry) => entry,
        Err(error) => {
            give_up(process, &format!("executors cannot be started: {error}"));
            return false;
        }
    };
    if process.announced.swap(1, Ordering::Relaxed) == 0 {
        let executors = config().map_or(0, |config| config.executors);
        log::info!("sends are offloaded to executors ({executors})");
    }
    let forks = slot.forks.load(Ordering::Relaxed);
    entry.forks.store(forks, Ordering::Relaxed);
    table::include(fd);
    if slot.replace(CANDIDATE, entry.tagged()) {
        return true;
    }
    // Closed, or made by another, meanwhile: it was never used.
    entry.flow().retire(false);
    entry.release();
    false
}

/// Drains all and ends the executors, for good: for what wants no threads of
/// others. Signals are to be blocked.
pub(crate) fn stop(process: &ProcessState, why: &str) {
    let _not_now = CancelDisabled::new();
    process.lock();
    give_up(process, why);
    barrier::drain_all(Patience::Forking);
    let threads = threads();
    let started = take_runtime(process);
    process.unlock();
    // It waits for peers, so without the lock, which fork wants.
    if let Some(ended) = started.map(end_runtime) {
        wait_for_threads(threads.saturating_sub(ended));
    }
    // A thread that waits for executors drains by itself from here on.
    wait::bells().into_iter().for_each(Bell::ring);
}

/// [`stop`], and then the library does nothing more, for what may not let it: flows
/// go, and each hook is the function behind it.
pub(crate) fn leave(process: &ProcessState, why: &str) {
    stop(process, why);
    let _not_now = CancelDisabled::new();
    // It waits for peers, as above.
    barrier::drain_all(Patience::Bounded);
    process.lock();
    barrier::drain_all(Patience::Forking);
    // Found by the table, and told that there is none any more.
    let bells = wait::bells();
    table::leave();
    bells.into_iter().for_each(Bell::ring);
    process.unlock();
}

/// The runtime, to be ended. For a thread that holds the lock.
fn take_runtime(process: &ProcessState) -> Option<Box<Started>> {
    let started = process.runtime.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: null or leaked by `started`; flows that are left keep what they need
    // of it, and are drained by the threads that send.
    (!started.is_null()).then(|| unsafe { Box::from_raw(started) })
}

/// Ends the executors; how many threads that were. For a thread that is not cancelled: threads are
/// joined.
#[expect(clippy::boxed_local, reason = "as it was leaked")]
fn end_runtime(started: Box<Started>) -> usize {
    let ended = started.runtime.threads() + usize::from(started.link.is_some());
    started.runtime.shutdown();
    if let Some(link) = started.link {
        link.close();
    }
    ended
}

/// Queueing does not gain, so a program of one thread becomes what it was without:
/// flows that have nothing queued go, with their memory, and when none is left the
/// executors, too. They alone make each system call on a descriptor 50 to 60 ns
/// longer (the kernel counts references to a file once its table is shared), 2% of
/// what nginx takes for a request. Not where there is a scheduler, which may give an
/// executor a core at any time. A send that wants a flow again makes it; what cannot go now
/// stays until after the next trial.
#[cold]
pub(crate) fn withdraw(process: &ProcessState) {
    let _signals = SignalsBlocked::new();
    let _not_now = CancelDisabled::new();
    let Some(_guard) = HookGuard::enter() else {
        return;
    };
    if !process.is_ours() || !process.try_lock() {
        return; // with a later send
    }
    process.leaving.store(0, Ordering::Relaxed);
    let started = process.runtime.load(Ordering::Acquire);
    // SAFETY: as in `started`.
    if let Some(started) = unsafe { started.as_ref() }
        && started.link.is_none()
        // So no other hook runs, and none begins.
        && threads() == 1 + started.runtime.threads()
        && process.entries.in_use() <= FLOWS_LET_GO
    {
        for (fd, slot) in table::all() {
            barrier::release(fd, slot);
        }
        if process.entries.in_use() == 0 && process.closing.load(Ordering::SeqCst) == 0 {
            take_runtime(process).map(end_runtime);
        }
    }
    process.unlock();
}

/// The process' threads, 0 where that cannot be said. Without the heap or a
/// descriptor, both of which are the program's: the folder has a link for each.
fn threads() -> usize {
    rustix::fs::stat(c"/proc/self/task").map_or(0, |task| task.st_nlink.saturating_sub(2) as usize)
}

/// A thread that was joined may be in the process for a moment yet, and what
/// comes next may want to be alone.
fn wait_for_threads(left: usize) {
    for _ in 0..100 {
        if threads() <= left {
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}
