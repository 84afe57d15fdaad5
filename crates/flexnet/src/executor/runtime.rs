// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The runtime: starts and ends the executors that share flows, pages and coroutine cells.

use super::builder::Builder;
use super::deadlines::Deadlines;
use super::drain::{Drain, Progress, Work};
use super::flows::Flows;
use super::handle::Flow;
use super::linger::End;
use super::link::Pages;
use super::reactor::Reactor;
use super::shared::{ExecutorSlot, IDLE, SERVING, STOPPING, Shared};
use super::stack::Stack;
use super::worker;
use crate::abi::EXECUTORS_MAX;
use crate::coroutine::Slab;
use crate::queue::{Parker, RunQueue};
use crate::sync::CacheLine;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the ring of a flow without a socket, at most.
const RING_BYTES: usize = 64 * 1024;

/// Executors and what they share. Dropping it drains what was accepted and ends
/// the threads. Flows that are left go on without them: each send is then its
/// caller's own, and a coroutine is refused.
///
/// Dropped in a coroutine it does not wait: the executors finish and end by
/// themselves. In a child of fork(2), where the parent's executors are not,
/// dropping it or its flows does nothing.
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
    fn new(builder: Builder) -> io::Result<Self> {
        let slots = (0..builder.executors).map(|_| ExecutorSlot {
            queue: match builder.executors {
                1 => RunQueue::without_thieves(),
                _ => RunQueue::new(),
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
                flows: Flows::default(),
                link: builder.link,
                phase: AtomicU32::new(IDLE),
                next_home: AtomicUsize::new(0),
                idle: CacheLine(AtomicU32::new(0)),
                started: AtomicUsize::new(builder.executors),
                // On one CPU an executor that spins keeps those that bring work from running.
                spins: cpus > 1,
                spin_up_to: builder.spin_up_to,
                linger: builder.linger,
                stack_bytes: builder.stack_bytes,
                ring_bytes: builder.ring_bytes,
                threads: Mutex::new(Vec::new()),
                end: End::default(),
            }),
        })
    }

    /// Starts the executors, once.
    fn start(&self) -> io::Result<()> {
        let shared = &self.shared;
        if shared.phase.load(Ordering::Acquire) != IDLE {
            return Ok(());
        }
        let mut threads = shared
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if shared.phase.load(Ordering::Acquire) != IDLE {
            return Ok(());
        }
        if let Some(link) = &shared.link {
            let weak = Arc::downgrade(shared);
            link.set_waker(Box::new(move || {
                if let Some(shared) = weak.upgrade() {
                    shared.wake_all();
                }
            }));
        }
        for slot in 0..shared.executors.len() {
            let name = format!("{}/{slot}", shared.name);
            let own = shared.clone();
            shared.end.add_thread();
            let spawned = std::thread::Builder::new()
                .name(name)
                .stack_size(shared.stack_bytes)
                .spawn(move || worker::run(own, slot as u16));
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    shared.end.leave();
                    if threads.is_empty() {
                        return Err(error);
                    }
                    // Fewer than asked for, but some, and without a hole: a flow's executor is
                    // among the first so many.
                    log::warn!("only {} executors start: {error}", threads.len());
                    break;
                }
            }
        }
        shared.started.store(threads.len(), Ordering::Relaxed);
        shared.phase.store(SERVING, Ordering::Release);
        Ok(())
    }

    /// What its flows share; the executors are started.
    ///
    /// # Errors
    /// The executor threads cannot be started.
    pub(crate) fn started(&self) -> io::Result<&Arc<Shared>> {
        self.start()?;
        Ok(&self.shared)
    }

    /// A flow without a socket, for coroutines ([`Flow::submit`]).
    ///
    /// # Errors
    /// The executor threads cannot be started.
    pub fn flow(&self) -> io::Result<Flow> {
        let shared = self.started()?;
        let ring = shared.ring(RING_BYTES);
        Ok(Flow(shared.new_flow(ring, Box::new(Nothing))))
    }

    #[cfg(test)]
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

    /// Flows that had a coroutine and live: each connection of [`Runtime::serve`] is one, and what
    /// accepts them is one. From any thread; takes a lock for a moment.
    ///
    /// ```
    /// use flexnet::executor::Runtime;
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let flow = runtime.flow()?;
    /// assert_eq!(runtime.flows(), 0);
    /// let mut task = flow.submit_task(async {}).map_err(|refused| refused.refusal)?;
    /// task.wait()?;
    /// assert_eq!(runtime.flows(), 1); // `flow` keeps it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flows(&self) -> usize {
        self.shared.flows.count()
    }

    /// The stack design that is on, as operators write it; `own` where the
    /// application brought one ([`Builder::design`]).
    pub fn design(&self) -> String {
        self.shared.stack.name()
    }

    /// Drains what was accepted and ends the threads, as dropping does. Peers
    /// that take nothing, and coroutines that are not done, are waited for as long
    /// as [`Builder::linger`] says. Then the coroutines are ended. One that does not
    /// even return keeps its executor, which ends when it does.
    ///
    /// How many flows were given up with bytes, with a coroutine that did not return, or
    /// behind one. 0 at once in a coroutine, which does not wait.
    pub fn shutdown(self) -> usize {
        self.shared.stop()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.shared.phase.load(Ordering::Acquire) < STOPPING {
            self.shared.stop();
        }
    }
}

impl Builder {
    /// Makes the runtime. Its threads start with its first flow.
    ///
    /// # Errors
    /// A number out of its range, a name with a NUL, or no file descriptors left.
    pub fn build(self) -> io::Result<Runtime> {
        let refuse = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        if !(1..=EXECUTORS_MAX).contains(&self.executors) {
            let count = self.executors;
            return refuse(format!(
                "{count} executors: 1 to {EXECUTORS_MAX} are possible"
            ));
        }
        let most = Self::COROUTINES_MAX;
        if self.coroutines > most {
            return refuse(format!(
                "{} coroutines: up to {most} are possible",
                self.coroutines
            ));
        }
        let (least, most) = (Self::STACK_BYTES_MIN, Self::STACK_BYTES_MAX);
        if !(least..=most).contains(&self.stack_bytes) {
            let bytes = self.stack_bytes;
            return refuse(format!(
                "a stack of {bytes} bytes: {least} to {most} are possible"
            ));
        }
        let (least, most) = (Self::RING_BYTES_MIN, Self::RING_BYTES_MAX);
        if let Some(bytes) = self
            .ring_bytes
            .filter(|bytes| !(least..=most).contains(bytes))
        {
            return refuse(format!(
                "a ring of {bytes} bytes: {least} to {most} are possible"
            ));
        }
        if self.name.contains('\0') {
            return refuse("a name with a NUL cannot be a thread's".to_owned());
        }
        Runtime::new(self)
    }
}

/// The transport of a flow that has none.
struct Nothing;

impl Drain for Nothing {
    fn drain(&mut self, _work: &mut Work<'_>, _budget: usize) -> Progress {
        Progress::Empty
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
