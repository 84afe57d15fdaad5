// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What becomes of a send: it is queued, or it is the caller's own. README.md has the rules.
//!
//! [`send`] is the one way out. Every hook that gives the kernel bytes for a descriptor goes
//! through it. What was accepted before on that descriptor is in the kernel by then. Nothing else
//! produces [`Verdict::Out`].

use crate::barrier::quiet_drain;
use crate::config::Mode;
use crate::entry::{Entry, Kind, Used};
use crate::hook_guard;
use crate::hook_guard::HookGuard;
use crate::policy::SendMode;
use crate::process::{ProcessState, process_state};
use crate::sender;
use crate::socket::is_nonblocking;
use crate::table::{self, CANDIDATE, Slot, is_entry};
use crate::wait::{self, Call, Wait};
use flexnet::transport::Drained;
use libc::c_int;
use std::io::IoSlice;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longer sends are the caller's own. The kernel's call for one takes as long as an
/// executor's, so there is little to gain, and its waits are the kernel's.
const LONG_BYTES: usize = 16 * 1024;
/// How long a handler that interrupts another send waits for the queue, and how often it
/// looks. A peer that takes nothing may take longer.
const NESTED_MAX: Duration = Duration::from_millis(100);
const NESTED_LOOK: Duration = Duration::from_micros(20);
/// Flags of a send that may be queued.
const QUEUED_FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What the hook does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Calls the real function: nothing is before it.
    Out,
    /// Returns so many bytes as sent.
    Accepted(usize),
    /// Fails with this errno.
    Failed(c_int),
}

/// How far an attempt came.
enum Step {
    Done(Verdict),
    /// The caller waits, without what the attempt held, and tries again.
    Wait(Wait),
    /// Others were faster.
    Again,
}

/// One message or stretch of a stream.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) slices: &'a [IoSlice<'a>],
    pub(crate) length: usize,
    pub(crate) flags: c_int,
    /// Nothing but these bytes: without an address or control messages.
    pub(crate) plain: bool,
    /// The kernel does not even look at the socket.
    pub(crate) nothing: bool,
}

impl Message<'_> {
    /// What the kernel is given in another way than as bytes of ours: it comes
    /// behind what is queued. With the flags that a send would have.
    pub(crate) fn other(flags: c_int) -> Self {
        Self {
            slices: &[],
            length: 0,
            flags,
            plain: false,
            nothing: false,
        }
    }

    fn may_queue(&self) -> bool {
        self.plain && self.flags & !QUEUED_FLAGS == 0
    }

    fn waits(&self) -> bool {
        self.flags & libc::MSG_DONTWAIT == 0
    }
}

/// May the hook have something to do with sends on this descriptor?
#[inline(always)]
fn concerns(fd: RawFd) -> Option<&'static Slot> {
    let slot = table::slot(fd)?;
    (slot.tagged() >= CANDIDATE).then_some(slot)
}

/// Sends on `fd`: what `message` says is queued, or comes to the kernel by `real`
/// once all that was accepted before is there. `real`'s result, or bytes accepted,
/// or -1 and errno, with SIGPIPE where the kernel would have raised it.
#[inline(always)]
pub(crate) fn send<'a>(
    fd: RawFd,
    message: impl FnOnce() -> Message<'a>,
    real: impl FnOnce() -> isize,
) -> isize {
    let Some(slot) = concerns(fd) else {
        return real();
    };
    let message = message();
    if message.nothing {
        return real();
    }
    match offer(fd, slot, &message) {
        Verdict::Out => real(),
        Verdict::Accepted(bytes) => bytes as isize,
        Verdict::Failed(errno) => fail(errno, message.flags),
    }
}

/// [`send`] for several messages at once. `each` says what the next one is and notes
/// what was accepted of it; `real` sends the rest, from so many messages on.
pub(crate) fn send_several<'a>(
    fd: RawFd,
    count: usize,
    message: impl Fn(usize) -> Message<'a>,
    accepted: impl Fn(usize, usize),
    real: impl FnOnce(usize) -> c_int,
) -> c_int {
    let mut sent = 0;
    while sent < count
        && let Some(slot) = concerns(fd)
    {
        let message = message(sent);
        match offer(fd, slot, &message) {
            Verdict::Out => break,
            Verdict::Accepted(bytes) => accepted(sent, bytes),
            Verdict::Failed(errno) if sent == 0 => return fail(errno, message.flags) as c_int,
            Verdict::Failed(errno) => {
                report_later(fd, errno);
                return sent as c_int;
            }
        }
        sent += 1;
    }
    if sent == count && count > 0 {
        return sent as c_int;
    }
    match (real(sent), sent) {
        (-1, 0) => -1,
        (-1, sent) => sent as c_int,
        (more, sent) => more + sent as c_int,
    }
}

/// Says the errno, and raises SIGPIPE in this thread as the kernel would have.
#[cold]
pub(crate) fn fail(errno: c_int, flags: c_int) -> isize {
    if errno == libc::EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        // SAFETY: a plain call; the handler, if any, runs here and now.
        unsafe { libc::raise(libc::SIGPIPE) };
    }
    crate::real::set_errno(errno);
    -1
}

/// An error of a message behind others that were sent: the next call says it, as
/// the kernel does.
fn report_later(fd: RawFd, errno: c_int) {
    if !matches!(errno, libc::EAGAIN | libc::EINTR | libc::ENOBUFS)
        && let Some(slot) = table::slot(fd)
        && let Some(_guard) = HookGuard::enter()
        && let Some(entry) = Entry::in_slot(slot)
    {
        entry.restore_error(errno);
    }
}

/// A send on a descriptor that may concern us. Waits with nothing held.
#[inline(never)]
pub(crate) fn offer(fd: RawFd, slot: &'static Slot, message: &Message<'_>) -> Verdict {
    let (Some(process), Some(config)) = (process_state(), crate::start::config()) else {
        return Verdict::Out;
    };
    let mut offer = Offer {
        fd,
        slot,
        process,
        mode: config.mode,
        message,
        counted: None,
    };
    let mut call = Call::new(fd, slot);
    wait::cancellation_point();
    loop {
        let verdict = match offer.attempt(&call) {
            Step::Done(verdict) => verdict,
            Step::Again => continue,
            Step::Wait(wait) => match call.sleep(wait) {
                None => continue,
                Some(errno) => Verdict::Failed(errno),
            },
        };
        if process.leaving.load(Ordering::Relaxed) != 0 {
            crate::start::withdraw(process);
        }
        return verdict;
    }
}

/// A call's send. Plain values: see [`crate::wait`].
struct Offer<'a> {
    fd: RawFd,
    slot: &'static Slot,
    process: &'static ProcessState,
    mode: Mode,
    message: &'a Message<'a>,
    /// The way, where this send was counted already.
    counted: Option<SendMode>,
}

impl Offer<'_> {
    fn attempt(&mut self, call: &Call) -> Step {
        if call.was_closed(self.slot) {
            return Step::Done(Verdict::Failed(libc::EBADF));
        }
        if self.slot.tagged() == CANDIDATE && !self.make() {
            return Step::Done(Verdict::Out);
        }
        let tagged = self.slot.tagged();
        if !is_entry(tagged) {
            // Closed since the look above, so the number is none of this call's.
            return Step::Done(match call.was_closed(self.slot) {
                true => Verdict::Failed(libc::EBADF),
                false => Verdict::Out,
            });
        }
        let Some(_guard) = HookGuard::enter() else {
            return Step::Done(self.nested(tagged));
        };
        let Some(entry) = Entry::of(self.slot, tagged) else {
            return Step::Again; // closed, or made anew, just now
        };
        if call.woken && !has_news(&entry) {
            return wait(&entry, self.fd, || has_news(&entry));
        }
        self.decide(&entry)
    }

    /// In a handler that interrupts another hook of this thread, which may hold what is
    /// needed to drain: the executors do it, for as long as that can take.
    #[cold]
    fn nested(&self, tagged: usize) -> Verdict {
        if flexnet::executor::is_library_thread() {
            return Verdict::Out;
        }
        let Some(entry) = Entry::of(self.slot, tagged) else {
            return Verdict::Out;
        };
        let drained = || entry.flow().is_drained();
        if hook_guard::may_wait_in_handler() {
            let until = Instant::now() + NESTED_MAX;
            while !drained() && Instant::now() < until {
                std::thread::sleep(NESTED_LOOK);
            }
            if !drained() {
                hook_guard::waited_in_vain();
            }
        }
        // The kernel may have a part of what is queued: nothing may come between.
        match (drained(), self.blocks()) {
            (true, _) => Verdict::Out,
            (false, true) => Verdict::Failed(libc::EINTR),
            (false, false) => Verdict::Failed(libc::EAGAIN),
        }
    }

    /// A candidate's send: is it time that it has a flow?
    fn make(&mut self) -> bool {
        let (process, message) = (self.process, self.message);
        if process.off.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let worth = match self.mode {
            Mode::Off | Mode::Strict => false, // without a table they do not come here
            Mode::Always => true,
            Mode::Adaptive | Mode::AdaptiveQueued => {
                // Nothing is made for what may not be queued.
                let backlog = (!message.may_queue()).then_some(0);
                self.send_mode(|| backlog) == SendMode::Queued && message.may_queue()
            }
        };
        if !worth {
            return false;
        }
        match HookGuard::enter() {
            Some(_guard) => crate::start::make_flow(self.fd, self.slot),
            None => false,
        }
    }

    /// Counts the send, once, and says which way it goes.
    fn send_mode(&mut self, backlog: impl FnOnce() -> Option<u64>) -> SendMode {
        let (process, length, mode) = (self.process, self.message.length, self.mode);
        *self.counted.get_or_insert_with(|| {
            let send_mode = sender::send_mode(process, length, backlog);
            match mode {
                Mode::AdaptiveQueued => SendMode::Queued,
                _ => send_mode,
            }
        })
    }

    fn decide(&mut self, entry: &Used) -> Step {
        let message = self.message;
        if entry.flow().error().is_some()
            && let Some(errno) = entry.take_error()
        {
            return Step::Done(Verdict::Failed(errno));
        }
        if entry.ended.load(Ordering::Relaxed) && !entry.flow().is_drained() {
            return Step::Done(Verdict::Failed(libc::EPIPE));
        }
        if message.may_queue() && message.length == 0 && entry.kind() == Kind::Stream {
            // Overtakes nothing: no byte of it is sent.
            return Step::Done(Verdict::Out);
        }
        if message.flags & libc::MSG_MORE != 0 && entry.kind() == Kind::Datagrams {
            // A datagram that the kernel keeps open for the next send's bytes.
            entry.passthrough.store(true, Ordering::Relaxed);
        }
        let may_queue = message.may_queue()
            && self.fits(entry)
            && self.process.off.load(Ordering::Relaxed) == 0
            && !entry.passthrough.load(Ordering::Relaxed)
            && !entry.ended.load(Ordering::Relaxed)
            && !self
                .process
                .forks
                .shares(entry.forks.load(Ordering::Relaxed));
        if may_queue && self.pays(entry) {
            if self.submit(entry) {
                return self.accepted(entry);
            }
            return self.full(entry);
        }
        if entry.flow().is_drained() {
            return Step::Done(Verdict::Out);
        }
        self.behind_rest(entry, may_queue)
    }

    /// As one record.
    fn fits(&self, entry: &Used) -> bool {
        let length = self.message.length;
        length <= entry.flow().message_max()
            && (entry.kind() == Kind::Datagrams || length < LONG_BYTES)
    }

    fn submit(&self, entry: &Used) -> bool {
        let message = self.message;
        entry.flow().submit(message.slices, message.length)
    }

    /// It is queued. Another thread may have ended the stream between the look at that and the
    /// push: what came behind the end was not accepted.
    #[inline]
    fn accepted(&self, entry: &Used) -> Step {
        if entry.ended.load(Ordering::SeqCst) && self.came_too_late(entry) {
            let errno = entry.take_error().unwrap_or(libc::EPIPE);
            return Step::Done(Verdict::Failed(errno));
        }
        Step::Done(Verdict::Accepted(self.message.length))
    }

    #[cold]
    fn came_too_late(&self, entry: &Used) -> bool {
        quiet_drain(entry);
        entry.flow().error().is_some()
    }

    /// Does queueing it pay?
    #[inline]
    fn pays(&mut self, entry: &Used) -> bool {
        match self.mode {
            Mode::Always => true,
            Mode::Off | Mode::Strict => false,
            Mode::Adaptive | Mode::AdaptiveQueued => self.pays_adaptively(entry),
        }
    }

    fn pays_adaptively(&mut self, entry: &Used) -> bool {
        let flow = entry.flow();
        let send_mode = self.send_mode(|| Some(flow.backlog()));
        // A core that the scheduler has granted, with an executor on it.
        let has_core = || flow.is_attached() && flow.is_served() && !flow.is_saturated();
        // What a datagram's sender gains may be its receiver's loss: nothing holds
        // it back (iperf3 -u: as many sent, and 60% instead of 3% lost, where the
        // executor took the receiver's turns).
        let measured = send_mode == SendMode::Queued && entry.kind() == Kind::Stream;
        measured || (send_mode != SendMode::InlineOnly && has_core())
    }

    fn blocks(&self) -> bool {
        self.message.waits() && !is_nonblocking(self.fd)
    }

    /// The ring is full: the thread that wants room makes it. EAGAIN only when the kernel
    /// has just said so to this thread.
    #[cold]
    fn full(&self, entry: &Used) -> Step {
        let flow = entry.flow();
        let drained = quiet_drain(entry);
        if let Some(errno) = entry.take_error() {
            return Step::Done(Verdict::Failed(errno));
        }
        if flow.error().is_some() {
            return Step::Done(Verdict::Out);
        }
        if self.submit(entry) {
            return self.accepted(entry);
        }
        match drained {
            Drained::Empty => Step::Again,
            Drained::NoMemory => Step::Done(Verdict::Failed(libc::ENOBUFS)),
            Drained::WouldBlock if !self.blocks() => Step::Done(Verdict::Failed(libc::EAGAIN)),
            Drained::WouldBlock => wait(entry, self.fd, || flow.has_room()),
        }
    }

    /// Not to be queued, and not the first: what is before it goes first.
    #[cold]
    fn behind_rest(&self, entry: &Used, may_queue: bool) -> Step {
        let drained = quiet_drain(entry);
        // Without waiting: then it is queued behind the rest, where it may.
        if may_queue && drained != Drained::Empty {
            return match self.submit(entry) {
                true => self.accepted(entry),
                false => self.full(entry),
            };
        }
        if let Some(errno) = entry.take_error() {
            return Step::Done(Verdict::Failed(errno));
        }
        match rest(entry, self.fd, drained, self.message.waits()) {
            Err(step) => step,
            Ok(()) => Step::Done(Verdict::Out),
        }
    }
}

/// May a thread that waited go on?
fn has_news(entry: &Used) -> bool {
    let flow = entry.flow();
    flow.has_room()
        || flow.error().is_some()
        || flow.is_stopped()
        || entry.ended.load(Ordering::SeqCst)
}

fn wait(entry: &Used, fd: RawFd, ready: impl FnOnce() -> bool) -> Step {
    match wait::prepare(entry, fd, ready) {
        Some(wait) => Step::Wait(wait),
        None => Step::Again,
    }
}

/// What is to be done about what draining has left.
fn rest(entry: &Used, fd: RawFd, drained: Drained, waits: bool) -> Result<(), Step> {
    match drained {
        Drained::Empty => Ok(()),
        Drained::NoMemory => Err(Step::Done(Verdict::Failed(libc::ENOBUFS))),
        Drained::WouldBlock if !waits || is_nonblocking(fd) => {
            Err(Step::Done(Verdict::Failed(libc::EAGAIN)))
        }
        Drained::WouldBlock => Err(wait(entry, fd, || entry.flow().is_drained())),
    }
}

/// All that was accepted on `fd` is given to the kernel, or the call that is to come
/// fails with the errno, as it would have if the kernel's buffer were full. Only a
/// call that `waits` does, on a socket that blocks. No error is told here.
pub(crate) fn clear(fd: RawFd, waits: bool) -> Option<c_int> {
    let slot = table::slot(fd)?;
    let mut call = Call::new(fd, slot);
    loop {
        match clear_once(fd, slot, &call, waits) {
            Step::Done(Verdict::Failed(errno)) => return Some(errno),
            Step::Done(_) => return None,
            Step::Again => {}
            Step::Wait(wait) => {
                if let Some(errno) = call.sleep(wait) {
                    return Some(errno);
                }
            }
        }
    }
}

fn clear_once(fd: RawFd, slot: &'static Slot, call: &Call, waits: bool) -> Step {
    const CLEAR: Step = Step::Done(Verdict::Out);
    let tagged = slot.tagged();
    if !is_entry(tagged) || call.was_closed(slot) {
        return CLEAR;
    }
    let Some(_guard) = HookGuard::enter() else {
        return CLEAR;
    };
    let Some(entry) = Entry::of(slot, tagged) else {
        return Step::Again;
    };
    if entry.flow().is_drained() {
        return CLEAR;
    }
    match rest(&entry, fd, quiet_drain(&entry), waits) {
        Err(step) => step,
        Ok(()) => CLEAR,
    }
}
