// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The runtime: executors that share flows, pages and coroutine cells.

use super::builder::Builder;
use super::deadlines::Deadlines;
use super::drain::{Drain, Progress};
use super::flow::FlowCore;
use super::handle::Flow;
use super::link::{Link, Pages};
use super::reactor::Reactor;
use super::stack::{Again, Stack, Workers};
use super::worker;
use crate::abi::FlowClass;
use crate::coroutine::{Slab, is_flagged, is_over, with_timers};
use crate::queue::{Parker, RunQueue};
use crate::sync::CacheLine;
use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Flows an executor's run queue holds at most; more than that are served
/// inline by who submits to them.
const RUN_QUEUE_FLOWS: usize = 1024;

/// Executors have not been started.
const IDLE: u32 = 0;
/// They serve.
const SERVING: u32 = 1;
/// They finish what is queued and end.
const STOPPING: u32 = 2;
/// There are none, and will be none: submitters drain inline.
const STOPPED: u32 = 3;

pub(crate) struct ExecutorSlot {
    pub(crate) queue: RunQueue<Arc<FlowCore>>,
    pub(crate) parker: CacheLine<Parker>,
}

/// What executors and flows share.
pub(crate) struct Shared {
    name: String,
    flow_class: FlowClass,
    executors: Box<[ExecutorSlot]>,
    pages: Pages,
    slab: Slab,
    reactor: Reactor,
    deadlines: Deadlines,
    stack: Stack,
    link: Option<Arc<dyn Link>>,
    phase: AtomicU32,
    next_home: AtomicUsize,
    /// Executors that sleep for want of work, a bit each: a hint.
    idle: CacheLine<AtomicU32>,
    /// Executors whose thread could be started.
    started: AtomicUsize,
    spins: bool,
    spin_up_to: Duration,
    linger: Duration,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared {
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }
    pub(crate) fn slab(&self) -> &Slab {
        &self.slab
    }
    pub(crate) fn reactor(&self) -> &Reactor {
        &self.reactor
    }
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }
    pub(crate) fn link(&self) -> Option<&Arc<dyn Link>> {
        self.link.as_ref()
    }
    pub(crate) fn executors(&self) -> &[ExecutorSlot] {
        &self.executors
    }
    pub(crate) fn flow_class(&self) -> FlowClass {
        self.flow_class
    }
    pub(super) fn stack(&self) -> &Stack {
        &self.stack
    }
    /// How long an executor looks before it parks.
    pub(crate) fn spin(&self) -> Duration {
        match self.spins {
            true => Duration::from_nanos(self.stack.spin_ns()),
            false => Duration::ZERO,
        }
    }
    /// And how long where work has come soon after it parked.
    pub(crate) fn spin_up_to(&self) -> Duration {
        match self.spins {
            true => self.spin_up_to,
            false => Duration::ZERO,
        }
    }
    pub(crate) fn linger(&self) -> Duration {
        self.linger
    }
    /// Bytes one resume sends before the flow is placed again.
    pub(crate) fn budget_bytes(&self) -> usize {
        self.stack.unit_bytes()
    }
    /// Between two coroutines of a flow: is it the turn of others? The default
    /// design reads no clock for that.
    #[inline]
    pub(crate) fn is_turn_over(&self) -> bool {
        match self.stack.is_on() {
            true => is_over(),
            false => is_flagged(),
        }
    }
    /// May senders do their work themselves?
    #[inline]
    pub(crate) fn senders_serve(&self) -> bool {
        self.stack.inlines() || self.is_stopped()
    }
    pub(crate) fn is_stopping(&self) -> bool {
        self.phase.load(Ordering::Acquire) >= STOPPING
    }
    /// Are there no executors any more?
    pub(crate) fn is_stopped(&self) -> bool {
        self.phase.load(Ordering::Acquire) == STOPPED
    }
    #[inline]
    pub(crate) fn is_attached(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.attached())
    }

    /// How many executors the scheduler wants to run; all without one.
    #[inline]
    pub(crate) fn executors_wanted(&self) -> usize {
        let count = self.started.load(Ordering::Relaxed);
        if count == 1 || !self.is_attached() {
            return count;
        }
        let wanted = self
            .pages
            .current()
            .grant
            .executors_wanted
            .load(Ordering::Relaxed);
        (wanted as usize).clamp(1, count)
    }

    /// Puts a flow into a run queue and wakes its executor if that is parked.
    /// Gives it back when no executor can take it.
    pub(crate) fn enqueue(&self, home: u16, flow: Arc<FlowCore>) -> Result<(), Arc<FlowCore>> {
        if self.stack.is_on() {
            return self.enqueue_designed(home, flow);
        }
        self.enqueue_default(home, flow)
    }

    /// A flow goes where the design wants it.
    fn enqueue_designed(&self, home: u16, flow: Arc<FlowCore>) -> Result<(), Arc<FlowCore>> {
        match self.stack.place(self.executors_wanted(), flow) {
            Ok(wake) => {
                self.wake(wake);
                // Placed under the stack's lock, as `serve_here` looks: one of
                // the two finds it.
                if self.phase.load(Ordering::Relaxed) == STOPPED {
                    self.serve_here();
                }
                Ok(())
            }
            // Switched off just now.
            Err(flow) if !self.stack.is_on() => self.enqueue_default(home, flow),
            Err(flow) => Err(flow),
        }
    }

    /// Wakes executors that the stack names.
    pub(super) fn wake(&self, workers: Workers) {
        let mut left = workers;
        while left != 0 {
            let slot = &self.executors[left.trailing_zeros() as usize];
            self.reactor.unpark(&slot.parker);
            left &= left - 1;
        }
    }

    /// Follows the design that the scheduler's page names.
    #[inline]
    pub(super) fn follow_design(&self) {
        let Some(unplaced) = self.stack.follow(&self.pages.current().design) else {
            return;
        };
        for flow in unplaced {
            let home = flow.home();
            if let Err(flow) = self.enqueue(home, flow) {
                flow.serve(self, None);
            }
        }
        self.wake_all();
    }

    /// Its own executor's queue; but when work waits there already (it may be off
    /// its core, or at something long) that of one with nothing to do, else the
    /// shorter of its own and another.
    #[inline]
    fn queue_for(&self, home: u16) -> usize {
        let wanted = self.executors_wanted();
        let index = usize::from(home) % wanted;
        if wanted == 1 || self.executors[index].queue.is_empty() {
            return index;
        }
        self.other_queue_for(index, wanted)
    }

    #[cold]
    fn other_queue_for(&self, index: usize, wanted: usize) -> usize {
        thread_local! {
            static TURN: Cell<usize> = const { Cell::new(0) };
        }
        let idle = self.idle.load(Ordering::Relaxed) & ((1 << wanted) - 1) & !(1 << index);
        if idle != 0 {
            return idle.trailing_zeros() as usize;
        }
        let turn = TURN.get();
        TURN.set(turn.wrapping_add(1));
        let other = (index + 1 + turn % (wanted - 1)) % wanted;
        let length = |index: usize| self.executors[index].queue.len();
        if length(other) < length(index) {
            other
        } else {
            index
        }
    }

    /// Executor `slot` sleeps for want of work, or wakes.
    pub(super) fn set_idle(&self, slot: usize, idle: bool) {
        match idle {
            true => self.idle.fetch_or(1 << slot, Ordering::Relaxed),
            false => self.idle.fetch_and(!(1 << slot), Ordering::Relaxed),
        };
    }

    fn enqueue_default(&self, home: u16, flow: Arc<FlowCore>) -> Result<(), Arc<FlowCore>> {
        let index = self.queue_for(home);
        if worker::is_at(self, index) {
            return worker::push_local(flow);
        }
        let slot = &self.executors[index];
        slot.queue.push(flow)?;
        // The fence in unpark pairs with the one in `stop`: either its last look
        // finds the flow, or this sees that there are no executors any more.
        self.reactor.unpark(&slot.parker);
        if self.phase.load(Ordering::Relaxed) == STOPPED {
            self.serve_here();
        }
        Ok(())
    }

    /// Without executors: this thread does what is queued. Called from within
    /// itself (a flow that is not done yet is enqueued again) it leaves that to
    /// the caller, or the stack would grow with each yield of a coroutine.
    #[cold]
    fn serve_here(&self) {
        thread_local! {
            static SERVES: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
        }
        let before = SERVES.replace(self);
        if !std::ptr::eq(before, self) {
            let queued = || self.executors.iter().find_map(|s| s.queue.take_abandoned());
            let next = || queued().or_else(|| self.stack.take_any());
            while let Some(flow) = next() {
                let served = flow.serve(self, None);
                if let Some(flow) = served.filter(|flow| Arc::strong_count(flow) == 1) {
                    // Dropped, and not in the reactor: nobody else would.
                    flow.drain_until(Instant::now() + self.linger);
                }
            }
        }
        SERVES.set(before);
    }

    /// Puts a flow that was just served and goes on into a run queue: the same
    /// executor's, where it was one, or where the design wants it.
    pub(crate) fn enqueue_again(
        &self,
        flow: Arc<FlowCore>,
        why: Again,
    ) -> Result<(), Arc<FlowCore>> {
        let home = flow.home();
        if !worker::is_of(self) {
            return self.enqueue(home, flow);
        }
        if !self.stack.is_on() {
            return worker::push_local(flow);
        }
        let (slot, item) = worker::turn();
        let wanted = self.executors_wanted();
        match self.stack.again(slot, wanted, item, why, flow) {
            Ok(wake) => {
                self.wake(wake);
                Ok(())
            }
            Err(flow) => worker::push_local(flow),
        }
    }

    /// The reactor unblocks the flow when its socket takes bytes.
    pub(crate) fn wait_flow(&self, flow: &Arc<FlowCore>, fd: BorrowedFd<'_>) -> io::Result<()> {
        if !self.reactor.wait_flow(flow, fd)? {
            // Whoever waits does it himself from here on.
            flow.waiters().wake();
            return Ok(());
        }
        // Parked executors do not poll: one must.
        if !self.reactor.is_polled() {
            let index = usize::from(flow.home()) % self.executors_wanted();
            self.reactor.unpark(&self.executors[index].parker);
        }
        Ok(())
    }

    /// Wakes the flow after `delay`.
    pub(crate) fn later(&self, flow: &Arc<FlowCore>, delay: Duration) {
        let (deadline, waker) = (Instant::now() + delay, flow.clone().into());
        if worker::is_of(self) {
            with_timers(|timers| timers.insert(deadline, waker));
        } else {
            self.adopt_deadlines([(deadline, waker)]);
        }
    }

    /// Deadlines that came up on a thread which does not watch any: an executor
    /// does from here on.
    pub(crate) fn adopt_deadlines(&self, deadlines: impl IntoIterator<Item = (Instant, Waker)>) {
        self.deadlines.add(deadlines);
        self.reactor.unpark(&self.executors[0].parker);
    }

    /// Is the executor a flow would be submitted to off the CPU? Then what is
    /// enqueued waits for it; who cannot wait does it inline.
    #[inline]
    pub(crate) fn is_off_cpu(&self, home: u16) -> bool {
        let index = usize::from(home) % self.executors_wanted();
        if self.executors[index].parker.is_parked() {
            return true;
        }
        let sched = &self.pages.current().executors[index].sched;
        self.is_attached() && sched.on_cpu.load(Ordering::Relaxed) < 0
    }

    /// Messages accepted and not yet done, over all executors.
    pub(crate) fn depth(&self) -> u64 {
        (0..self.executors.len())
            .map(|slot| self.pages.depth(slot as u16))
            .sum()
    }

    /// Do executors wait for a core and no more can be granted?
    #[inline]
    pub(crate) fn is_saturated(&self) -> bool {
        self.stack.inlines()
            && self.is_attached()
            && self.pages.current().grant.saturated.load(Ordering::Relaxed) != 0
    }

    /// Is the executor of `home` parked, with nothing else on its way?
    #[inline]
    pub(crate) fn is_parked(&self, home: u16) -> bool {
        let index = usize::from(home) % self.executors_wanted();
        self.executors[index].parker.is_parked() || self.phase.load(Ordering::Relaxed) == STOPPED
    }

    /// Wakes every parked executor.
    pub(crate) fn wake_all(&self) {
        for slot in &self.executors {
            self.reactor.unpark(&slot.parker);
        }
    }

    /// Starts the executors, once.
    fn start(self: &Arc<Self>) -> io::Result<()> {
        if self.phase.load(Ordering::Acquire) != IDLE {
            return Ok(());
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if self.phase.load(Ordering::Acquire) != IDLE {
            return Ok(());
        }
        if let Some(link) = &self.link {
            let weak = Arc::downgrade(self);
            link.set_waker(Box::new(move || {
                if let Some(shared) = weak.upgrade() {
                    shared.wake_all();
                }
            }));
        }
        for slot in 0..self.executors.len() {
            let shared = self.clone();
            let name = format!("{}/{slot}", self.name);
            let spawned = std::thread::Builder::new()
                .name(name)
                .stack_size(256 * 1024)
                .spawn(move || worker::run(shared, slot as u16));
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => return Err(error),
                // Fewer than asked for, but some: the others' queues are stolen
                // from.
                Err(error) => log::warn!("only {} executors start: {error}", threads.len()),
            }
        }
        self.started.store(threads.len(), Ordering::Relaxed);
        self.phase.store(SERVING, Ordering::Release);
        Ok(())
    }

    /// A new flow on the next executor in turn.
    pub(crate) fn new_flow(
        self: &Arc<Self>,
        ring_bytes: usize,
        drain: Box<dyn Drain>,
    ) -> io::Result<Arc<FlowCore>> {
        self.start()?;
        let home = self.next_home.fetch_add(1, Ordering::Relaxed) % self.executors.len();
        Ok(FlowCore::new(self.clone(), home as u16, ring_bytes, drain))
    }
}

/// Executors and what they share. Dropping it drains what was accepted and ends
/// the threads; flows that are left go on inline, in their submitters.
///
/// ```
/// use flexnet::executor::Runtime;
///
/// let runtime = Runtime::builder().name("kv").executors(2).build()?;
/// let flow = runtime.flow()?;
/// flow.submit(async { println!("on an executor") })?;
/// runtime.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Runtime {
    shared: Arc<Shared>,
}

impl Runtime {
    /// Starts describing a runtime.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// With what the builder has checked.
    pub(super) fn new(builder: Builder) -> io::Result<Self> {
        let slots = (0..builder.executors).map(|_| ExecutorSlot {
            queue: match builder.executors {
                1 => RunQueue::without_thieves(RUN_QUEUE_FLOWS),
                _ => RunQueue::new(RUN_QUEUE_FLOWS),
            },
            parker: CacheLine(Parker::new()),
        });
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            shared: Arc::new(Shared {
                name: builder.name,
                flow_class: builder.flow_class,
                executors: slots.collect(),
                pages: Pages::new(),
                slab: Slab::with_caches(builder.coroutines, builder.executors as u32),
                reactor: Reactor::new()?,
                deadlines: Deadlines::default(),
                stack: Stack::new(builder.executors, builder.design),
                link: builder.link,
                phase: AtomicU32::new(IDLE),
                next_home: AtomicUsize::new(0),
                idle: CacheLine(AtomicU32::new(0)),
                started: AtomicUsize::new(builder.executors),
                // On one CPU who spins keeps who would bring work from running.
                spins: cpus > 1,
                spin_up_to: builder.spin_up_to,
                linger: builder.linger,
                threads: Mutex::new(Vec::new()),
            }),
        })
    }

    /// A flow without a socket, for coroutines ([`Flow::submit`]).
    ///
    /// # Errors
    /// The executor threads cannot be started.
    pub fn flow(&self) -> io::Result<Flow> {
        self.shared.new_flow(64 * 1024, Box::new(Nothing)).map(Flow)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Tells the scheduler this runtime's weight on granted cores against other
    /// applications (1 to 10,000; 0: the default, 100) and the most cores it
    /// wants (0: no wish). Hints: the scheduler clamps them, and without one
    /// they are kept for the one that comes.
    pub fn set_hints(&self, weight: u32, max_cores: u32) {
        self.shared.pages.wish(weight, max_cores);
    }

    /// Executor threads that were started: none before the first flow, and fewer
    /// than asked for where the system had no more.
    pub fn threads(&self) -> usize {
        self.shared.started.load(Ordering::Relaxed)
    }

    /// Messages accepted and not yet done, over all executors.
    pub fn depth(&self) -> u64 {
        self.shared.depth()
    }

    /// The stack design that is on, as operators write it; `own` where the
    /// application brought one ([`Builder::design`]).
    pub fn design(&self) -> String {
        self.shared.stack.name()
    }

    /// Drains what was accepted and ends the threads, as dropping does. Peers
    /// that take nothing are waited for as long as [`Builder::linger`] says;
    /// how many flows were given up then.
    pub fn shutdown(self) -> usize {
        self.stop()
    }

    fn stop(&self) -> usize {
        let deadline = Instant::now() + self.shared.linger;
        let serving = self.shared.phase.swap(STOPPING, Ordering::AcqRel) == SERVING;
        self.shared.wake_all();
        let threads: Vec<_> = {
            let mut threads = self
                .shared
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            threads.drain(..).collect()
        };
        for thread in threads {
            // A worker that panicked has nothing more to say.
            let _ = thread.join();
        }
        self.shared.phase.store(STOPPED, Ordering::Release);
        fence(Ordering::SeqCst);
        // Whoever submitted between the executors' last look and now.
        self.shared.serve_here();
        if !serving {
            return 0;
        }
        // Who still waits: the executors lingered for it, or they had ended
        // when a submitter found its socket full.
        let flows = self.shared.reactor.abandon();
        flows
            .iter()
            .filter(|flow| !flow.drain_until(deadline))
            .count()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.shared.phase.load(Ordering::Acquire) < STOPPING {
            self.stop();
        }
    }
}

/// The transport of a flow that has none.
struct Nothing;

impl Drain for Nothing {
    fn drain(&mut self, _work: &mut super::drain::Work<'_>, _budget: usize) -> Progress {
        Progress::Empty
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
