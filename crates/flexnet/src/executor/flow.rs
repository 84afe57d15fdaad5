// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A flow: one ordered stream of packet work, and which thread may drain it when.
//!
//! Submitters push records and notify. The thread that enters the gate drains: an executor that
//! took the flow from a run queue, or a submitter that drains inline because no executor runs. The
//! records leave the ring in their order, whichever thread drains.

use super::drain::{Drain, Drained, Progress};
use super::schedule::{Again, Schedule};
use super::waiters::Waiters;
use crate::abi::FlowClass;
use crate::coroutine::CellId;
use crate::queue::{Charge, FlowRing, Full, Gate, Link, Linked, RecordKind};
use probe::probe;
use std::cell::UnsafeCell;
use std::io::{self, IoSlice};
use std::mem::{ManuallyDrop, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::task::Wake;

/// Shared by a flow's handles, the run queue that has it and the reactor.
pub(crate) struct FlowCore<S: Schedule<Self>> {
    shared: Arc<S>,
    token: u64,
    home: u16,
    ring: FlowRing,
    gate: Gate,
    /// Its place in a run queue.
    link: Link,
    /// Its coroutine was woken while somebody drained.
    pub(super) woken: AtomicBool,
    /// The coroutine at the ring's head was resumed, and waits.
    pub(super) is_waiting: AtomicBool,
    /// It has had coroutines.
    has_coroutines: AtomicBool,
    /// Something is held back outside of the ring.
    rest: AtomicBool,
    /// The design has found no room for it: its senders wait.
    held: AtomicBool,
    /// What kind of work this is, to the design.
    kind: AtomicU32,
    /// A sticky errno, 0: none.
    error: AtomicI32,
    waiters: Waiters,
    /// The drain's descriptor; -1: none.
    fd: AtomicI32,
    drain: UnsafeCell<Box<dyn Drain>>,
}

// SAFETY: `drain` is touched only by the thread inside the gate.
unsafe impl<S: Schedule<Self>> Send for FlowCore<S> {}
// SAFETY: as above.
unsafe impl<S: Schedule<Self>> Sync for FlowCore<S> {}

// SAFETY: what an Arc has stays where it is. Only the thread that set the gate's notified bit
// queues a flow, and the thread that took the flow out clears the bit: it is in one queue at most.
unsafe impl<S: Schedule<FlowCore<S>>> Linked for Arc<FlowCore<S>> {
    #[inline]
    fn into_link(self) -> NonNull<Link> {
        let flow = Arc::into_raw(self);
        // SAFETY: a place in what an Arc has, which is never null.
        unsafe { NonNull::new_unchecked((&raw const (*flow).link).cast_mut()) }
    }

    #[inline]
    unsafe fn from_link(link: NonNull<Link>) -> Self {
        // SAFETY: as promised, of a flow that `into_link` had of an Arc.
        unsafe {
            let flow = link.as_ptr().byte_sub(offset_of!(FlowCore<S>, link));
            Arc::from_raw(flow.cast::<FlowCore<S>>())
        }
    }
}

/// Exclusive use of a flow, until dropped by [`FlowCore::leave`].
pub(crate) struct FlowGuard<'a, S: Schedule<FlowCore<S>>> {
    flow: &'a Arc<FlowCore<S>>,
    pub(super) progress: Progress,
    /// The ring's head and whether there was a rest, on entering.
    before: (usize, bool),
}

impl<'a, S: Schedule<FlowCore<S>>> FlowGuard<'a, S> {
    /// The caller has just entered the flow's gate.
    fn entered(flow: &'a Arc<FlowCore<S>>) -> Self {
        Self {
            flow,
            progress: Progress::More,
            before: (flow.ring.head(), flow.rest.load(Ordering::Relaxed)),
        }
    }

    /// The transport's half.
    pub(crate) fn drain_mut<R>(&mut self, f: impl FnOnce(&mut dyn Drain) -> R) -> R {
        // SAFETY: inside the gate, so nobody else has it.
        f(unsafe { &mut **self.flow.drain.get() })
    }

    /// As a drain would have come to.
    pub(crate) fn set_progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Leaves; true: the caller puts the flow into a run queue.
    fn leave(self) -> bool {
        ManuallyDrop::new(self).end()
    }

    fn end(&mut self) -> bool {
        let rest = self.drain_mut(|drain| drain.has_rest());
        self.flow.rest.store(rest, Ordering::Relaxed);
        // A waiter is woken only by what it waits for: a sender that finds the
        // socket full enters and leaves, and would wake itself for ever.
        let news = self.before != (self.flow.ring.head(), rest)
            || self.flow.error.load(Ordering::Relaxed) != 0;
        self.flow.leave(self.progress, news)
    }
}

impl<S: Schedule<FlowCore<S>>> Drop for FlowGuard<'_, S> {
    fn drop(&mut self) {
        if self.end() {
            self.flow.enqueue(self.flow.home());
        }
    }
}

impl<S: Schedule<Self>> FlowCore<S> {
    pub(crate) fn new(
        shared: Arc<S>,
        token: u64,
        home: u16,
        ring: FlowRing,
        drain: Box<dyn Drain>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            token,
            home,
            ring,
            gate: Gate::new(),
            link: Link::new(),
            woken: AtomicBool::new(false),
            is_waiting: AtomicBool::new(false),
            has_coroutines: AtomicBool::new(false),
            rest: AtomicBool::new(false),
            held: AtomicBool::new(false),
            kind: AtomicU32::new(0),
            error: AtomicI32::new(0),
            waiters: Waiters::default(),
            fd: AtomicI32::new(drain.fd().map_or(-1, |fd| fd.as_raw_fd())),
            drain: UnsafeCell::new(drain),
        })
    }

    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    pub(crate) fn shared(&self) -> &Arc<S> {
        &self.shared
    }

    pub(crate) fn ring(&self) -> &FlowRing {
        &self.ring
    }

    /// What to wait on for its socket.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self.fd.load(Ordering::Acquire) {
            -1 => None,
            // SAFETY: the drain keeps it open, and lives as long as the flow.
            fd => Some(unsafe { BorrowedFd::borrow_raw(fd) }),
        }
    }

    /// The drain's descriptor is another one now. For the thread inside the gate.
    pub(crate) fn set_fd(&self, fd: RawFd) {
        if let Some(before) = self.fd() {
            self.shared.forget_descriptor(self.token, before);
        }
        self.fd.store(fd, Ordering::Release);
    }

    pub(crate) fn kind(&self) -> u32 {
        self.kind.load(Ordering::Relaxed)
    }

    pub(super) fn set_kind(&self, kind: u32) {
        self.kind.store(kind, Ordering::Relaxed);
    }

    /// Does it wait for the design to have room for it? Its senders wait, too.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    pub(super) fn set_held(&self, held: bool) {
        self.held.store(held, Ordering::Release);
    }

    /// The executor it is submitted to.
    #[inline]
    pub(crate) fn home(&self) -> u16 {
        self.home
    }

    /// The sticky error.
    #[inline]
    pub(crate) fn error(&self) -> Option<io::Error> {
        match self.error.load(Ordering::Acquire) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The sticky error, which is forgotten (datagrams: it was about one).
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        match self.error.swap(0, Ordering::AcqRel) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Keeps an errno for the next operation.
    pub(crate) fn fail(&self, errno: i32) {
        self.error.store(errno, Ordering::Release);
    }

    /// Is it cheaper to send a little now and here than to enqueue it? When the
    /// executor is parked, since waking costs more than sending; latency flows
    /// also when it waits for a CPU.
    #[inline]
    pub(crate) fn prefers_inline(&self) -> bool {
        if self.gate.is_notified() || !self.is_drained() || !self.shared.senders_serve() {
            return false;
        }
        let home = self.home();
        self.shared.is_parked(home)
            || (self.shared.flow_class() == FlowClass::Latency && self.shared.is_off_cpu(home))
    }

    /// Should a thread that waits for the flow do its work? When no executor is about to.
    pub(crate) fn needs_help(&self) -> bool {
        let home = self.home();
        if !self.shared.senders_serve() {
            return false;
        }
        if self.gate.is_blocked() && self.shared.is_parked(home) {
            return false; // it sleeps until the socket takes bytes
        }
        self.shared.is_off_cpu(home)
    }

    /// Is nothing accepted that has not been given to the kernel?
    #[inline]
    pub(crate) fn is_drained(&self) -> bool {
        self.ring.is_empty() && !self.rest.load(Ordering::Relaxed)
    }

    /// Is everything up to this position of the ring given to the kernel?
    pub(crate) fn is_drained_to(&self, tail: usize) -> bool {
        self.ring.is_drained_to(tail) && !self.rest.load(Ordering::Acquire)
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Appends a record and sees to it that somebody drains it.
    #[inline]
    pub(crate) fn submit(
        self: &Arc<Self>,
        kind: RecordKind,
        data: u64,
        payload: &[u8],
    ) -> Result<(), Full> {
        let home = self.home();
        let (mut number, mut charge) = (0, Charge::default());
        self.ring.push(kind, data, payload, || {
            (number, charge) = self.shared.pages().charge(home);
            charge
        })?;
        self.announce(home, charge, number);
        Ok(())
    }

    /// [`FlowCore::submit`] of a coroutine, which the end of the runtime finds wherever it waits.
    /// `is`: 0, or `PUTS_OUT` (records.rs).
    // Apart, so that `submit` goes into small sends, which call it most.
    #[inline(never)]
    pub(super) fn submit_coroutine(self: &Arc<Self>, cell: CellId, is: u64) -> Result<(), Full> {
        if !self.has_coroutines.load(Ordering::Relaxed) {
            self.first_coroutine();
        }
        self.submit(RecordKind::Coroutine, cell.to_bits() | is, &[])
    }

    #[cold]
    fn first_coroutine(self: &Arc<Self>) {
        if !self.has_coroutines.swap(true, Ordering::Relaxed) {
            self.shared.has_coroutines(self);
        }
    }

    /// [`FlowCore::submit`] of `length` bytes that lie in several places.
    #[inline]
    pub(crate) fn submit_gathered(
        self: &Arc<Self>,
        slices: &[IoSlice<'_>],
        length: usize,
    ) -> Result<(), Full> {
        let home = self.home();
        let (mut number, mut charge) = (0, Charge::default());
        self.ring.push_gathered(slices, length, || {
            (number, charge) = self.shared.pages().charge(home);
            charge
        })?;
        self.announce(home, charge, number);
        Ok(())
    }

    /// A record was pushed.
    #[inline]
    fn announce(self: &Arc<Self>, home: u16, charge: Charge, number: u64) {
        probe!(flexnet, submit, self.trace_id());
        if self.gate.notify() {
            self.shared.pages().stamp_if_first(charge, number);
            self.enqueue(home);
        }
    }

    /// What a trace calls it; another flow's once it is gone.
    #[inline]
    pub(super) fn trace_id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Puts a notified flow into a run queue.
    fn enqueue(self: &Arc<Self>, home: u16) {
        if let Err(flow) = self.shared.enqueue(home, self.clone()) {
            // The design leaves it to its sender. Coroutines still go to an executor.
            flow.serve(&self.shared, None);
        }
    }

    /// The reactor: its socket takes bytes again.
    pub(crate) fn unblocked(self: &Arc<Self>) {
        if self.gate.unblock() {
            self.enqueue(self.home());
        }
    }

    /// Takes the gate to do something inline; `None` while somebody drains.
    #[inline]
    pub(crate) fn enter_inline(self: &Arc<Self>) -> Option<FlowGuard<'_, S>> {
        // Made only when inside: dropping it leaves the gate.
        self.gate.enter_inline().then(|| FlowGuard::entered(self))
    }

    /// Runs `f` on the transport's half, in a coroutine of the flow.
    ///
    /// # Safety
    /// This thread resumes or drops a coroutine of the flow, so it is inside the gate, and does not
    /// use the transport's half otherwise.
    pub(super) unsafe fn with_drain<R>(&self, f: impl FnOnce(&mut dyn Drain) -> R) -> R {
        // SAFETY: nobody else is inside the gate, and `FlowGuard::drain_mut` resumes nothing.
        f(unsafe { &mut **self.drain.get() })
    }

    /// Does it wait for its socket?
    pub(crate) fn is_blocked(&self) -> bool {
        self.gate.is_blocked()
    }

    /// Does somebody drain it, or use it otherwise?
    pub(super) fn is_entered(&self) -> bool {
        self.gate.is_entered()
    }

    /// Drains what is there, once within the budget, as executor `by` or (None)
    /// inline, and gives the flow back unless it is in a run queue again. Called
    /// by the thread that took the flow from a run queue.
    pub(crate) fn serve(self: Arc<Self>, shared: &S, by: Option<u16>) -> Option<Arc<Self>> {
        if self.gate.enter() {
            let mut guard = FlowGuard::entered(&self);
            let why = match self.drain_guarded(&mut guard, by) {
                // In the latter two it has a coroutine that was woken.
                Progress::Waiting | Progress::Blocked | Progress::Later(_) => Again::Yielded,
                Progress::Empty | Progress::More => Again::Unit,
            };
            if guard.leave() {
                // The design leaves it to its sender.
                return match shared.enqueue_again(self, why) {
                    Ok(()) => None,
                    Err(flow) => flow.serve(shared, by),
                };
            }
        }
        Some(self)
    }

    /// Drains inline, if nobody else does and the design leaves it to senders.
    pub(crate) fn serve_inline(self: &Arc<Self>) -> Option<Progress> {
        if !self.shared.senders_serve() {
            return None;
        }
        let mut guard = self.enter_inline()?;
        Some(self.drain_guarded(&mut guard, None))
    }

    /// Drains inline until `done` or a coroutine, waiting for the socket: for a
    /// submitter that waits for it anyway. False when another thread drains.
    pub(crate) fn serve_waiting(self: &Arc<Self>, done: impl Fn() -> bool) -> bool {
        let Some(mut guard) = self.enter_inline() else {
            return false;
        };
        while !done() {
            match self.drain_guarded(&mut guard, None) {
                Progress::More => {}
                // A coroutine may be woken by something else than the socket.
                Progress::Blocked if !self.is_waiting.load(Ordering::Relaxed) => {
                    self.wait_writable(None);
                }
                _ => break,
            }
        }
        true
    }

    /// Ends draining, and sees to what is left. `news`: waiters may have what
    /// they wait for. True: the caller puts the flow into a run queue.
    #[must_use]
    fn leave(self: &Arc<Self>, progress: Progress, news: bool) -> bool {
        if progress == Progress::Blocked {
            self.gate.block();
        }
        self.gate.leave();
        // Without executors, a thread that waits for the flow drains it next.
        if news || self.shared.is_stopped() {
            self.waiters.wake();
        }
        match progress {
            Progress::Blocked => {
                let armed = match self.fd() {
                    Some(fd) => self.shared.wait_flow(self, fd),
                    None => Ok(()),
                };
                if armed.is_err() {
                    // Not something to wait for: try again in turn.
                    self.unblocked();
                }
                // Its coroutine need not wait for the socket.
                self.is_waiting.load(Ordering::Relaxed)
                    && self.woken.load(Ordering::Acquire)
                    && self.gate.unblock()
            }
            Progress::Later(delay) => {
                self.shared.later(self, delay);
                false
            }
            Progress::Waiting => self.woken.load(Ordering::Acquire) && self.gate.notify_left(),
            Progress::Empty | Progress::More => !self.is_drained() && self.gate.notify_left(),
        }
    }
}

impl<S: Schedule<Self>> Wake for FlowCore<S> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        // By itself (it yields): this thread, which resumes it, looks at
        // `woken` when it leaves.
        if !self.shared.is_resuming(self) && self.gate.wake() {
            self.enqueue(self.home());
        }
    }
}

impl<S: Schedule<Self>> Drained for FlowCore<S> {
    fn fail(&self, errno: i32) {
        // The flow's own.
        Self::fail(self, errno);
    }

    fn is_saturated(&self) -> bool {
        self.shared.is_saturated()
    }
}

impl<S: Schedule<Self>> Drop for FlowCore<S> {
    fn drop(&mut self) {
        if *self.has_coroutines.get_mut() {
            self.shared.forget_coroutines(self.token);
        }
        // SAFETY: exclusive: the last handle is gone.
        let mut reader = unsafe { self.ring.reader() };
        while let Some(record) = reader.records().next() {
            if record.kind == RecordKind::Coroutine {
                // SAFETY: nobody resumes it any more.
                unsafe { self.shared.slab().discard(CellId::from_bits(record.data)) };
            }
            reader.consume();
            self.shared.pages().settle(record.charge, 1, None);
        }
    }
}
