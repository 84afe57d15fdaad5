// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The worker: dequeue, resume, steal, yield, park.

use super::current::{self, CurrentExecutor};
use super::end::Ending;
use super::link::now_ns;
use super::schedule::Schedule;
use super::shared::{FlowCore, Shared};
use super::stack::{Rest, Taken};
use crate::abi::ExecutorState;
use crate::coroutine::{in_turn, watch_timers, with_timers};
use crate::design::{Item, victims};
use crate::queue::Sleep;
use probe::probe;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A running executor looks at its sockets and timers once in so many flows;
/// an idle one each time.
const TURNS_PER_POLL: u32 = 16;

thread_local! {
    /// The library started this thread.
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Is this a thread of the library's own, not one of the application's?
pub fn is_library_thread() -> bool {
    IS_OURS.get()
}

/// Runs `call` as a thread of the library's own would: it is no send of the
/// application's, although a thread of the application makes it.
pub(crate) fn as_own_thread<R>(call: impl FnOnce() -> R) -> R {
    let before = IS_OURS.replace(true);
    let result = call();
    IS_OURS.set(before);
    result
}

struct Worker<'a> {
    shared: &'a Arc<Shared>,
    current: &'a CurrentExecutor<'a>,
    slot: u16,
    /// The link's generation this executor registered in.
    generation: u64,
    turns: u32,
    /// It has seen that the runtime ends.
    is_stopping: bool,
    /// How long it looks for work, when longer than the design says.
    spin_time: Duration,
}

/// How long to look before the next sleep, after one of `slept`: twice as long
/// where looking up to `longest` would have spared it, else only `least`.
fn next_spin_time(
    spin_time: Duration,
    slept: Duration,
    least: Duration,
    longest: Duration,
) -> Duration {
    if slept > longest {
        return least;
    }
    (spin_time * 2).clamp(least, longest.max(least))
}

/// The body of an executor's thread.
pub(crate) fn run(shared: Arc<Shared>, slot: u16) {
    block_signals();
    watch_timers(true);
    serve(&shared, slot);
    watch_timers(false);
}

fn serve(shared: &Arc<Shared>, slot: u16) {
    // The last thing that is dropped here.
    let _ending = Ending(shared);
    let Some(queue) = shared.executors()[usize::from(slot)].queue.own() else {
        return; // a slot has one executor
    };
    let current = CurrentExecutor {
        slot: slot.into(),
        item: Cell::new(Item::default()),
        queue,
        cells: shared.slab().cells(),
    };
    // SAFETY: `shared` and `current` were there before, so they go after it.
    let _entered = unsafe { current::enter(shared, &current) };
    let mut worker = Worker {
        shared,
        current: &current,
        slot,
        generation: 0,
        turns: 0,
        is_stopping: false,
        spin_time: Duration::ZERO,
    };
    worker.register();
    worker.publish(ExecutorState::Running);
    while worker.turn() {}
    worker.publish(ExecutorState::Absent);
    if let Some(link) = worker.shared.link() {
        link.unregister(slot.into());
    }
}

/// What a thread of the library leaves unblocked: the signals of its own faults, for which crash
/// reporters have handlers.
const UNBLOCKED: [libc::c_int; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// Executors take no other signals: they are the application's, whose handlers expect
/// its own threads (nginx's sigsuspend would miss them). The profilers' signal stays as the thread
/// has it that made this one: a program may wait for it, too. The first thing each
/// thread of the library does.
pub(crate) fn block_signals() {
    IS_OURS.set(true);
    // SAFETY: plain calls on a local set of signals that there are; blocking cannot fail then.
    unsafe {
        let (mut inherited, mut blocked) = (std::mem::zeroed(), std::mem::zeroed());
        libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut inherited);
        libc::sigfillset(&mut blocked);
        for signal in UNBLOCKED {
            libc::sigdelset(&mut blocked, signal);
        }
        if libc::sigismember(&inherited, libc::SIGPROF) == 0 {
            libc::sigdelset(&mut blocked, libc::SIGPROF);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &blocked, ptr::null_mut());
    }
}

impl Worker<'_> {
    /// One look at everything; false when it is to end.
    fn turn(&mut self) -> bool {
        // Whatever there still is to do.
        if self.shared.is_stopping() && self.shared.end.is_over() {
            return false;
        }
        self.follow_link();
        self.shared.follow_design();
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS_PER_POLL) {
            self.poll_events();
        }
        if let Some(flow) = self.next_flow() {
            self.serve(flow);
            return true;
        }
        if self.poll_events() {
            return true;
        }
        if self.shared.is_stopping() && self.may_end() {
            return false;
        }
        self.idle();
        true
    }

    fn serve(&mut self, flow: Arc<FlowCore>) {
        let page = self.shared.pages().current();
        let flag = &page.executors[usize::from(self.slot)].sched.quantum_expired;
        let quantum = Duration::from_nanos(self.shared.stack().quantum_ns());
        self.shared.pages().publish_resume(self.slot);
        let id = flow.trace_id();
        probe!(flexnet, resume, id);
        let left = in_turn(quantum, flag, || flow.serve(self.shared, Some(self.slot)));
        match &left {
            Some(_) => probe!(flexnet, finish, id),
            None => probe!(flexnet, yield, id),
        }
        drop(left);
        self.obey();
    }

    /// What the design says; its own queue's head, else a sibling's.
    #[inline]
    fn next_flow(&self) -> Option<Arc<FlowCore>> {
        let flow = self.current.queue.pop();
        let flow = flow.or_else(|| self.next_designed());
        flow.or_else(|| self.steal())
    }

    #[inline]
    fn next_designed(&self) -> Option<Arc<FlowCore>> {
        let stack = self.shared.stack();
        if !stack.is_on() {
            return None;
        }
        let wanted = self.shared.executors_wanted();
        let (taken, wake) = stack.next(self.slot.into(), wanted);
        self.shared.wake(wake);
        match taken {
            Some(taken) => Some(self.takes(taken)),
            // The executor that the rest is for may have ended.
            None if self.shared.is_stopping() => stack.take_any(),
            None => None,
        }
    }

    fn takes(&self, taken: Taken<FlowCore>) -> Arc<FlowCore> {
        self.current.item.set(taken.item);
        taken.flow
    }

    /// Takes the head of a sibling's queue, and half of the rest into its own.
    fn steal(&self) -> Option<Arc<FlowCore>> {
        let executors = self.shared.executors();
        let current = usize::from(self.slot);
        for victim in victims(current, executors.len()) {
            let victim = &executors[victim];
            let flow = victim.queue.steal(|more| self.current.queue.push(more));
            if flow.is_some() {
                return flow;
            }
        }
        None
    }

    /// Sockets and timers; true when something came of it.
    fn poll_events(&mut self) -> bool {
        if self.shared.reactor().is_waiting() {
            self.shared.reactor().poll(None, None);
        }
        let due = with_timers(|timers| {
            self.shared.deadlines().move_to(timers);
            match timers.earliest() {
                None => Vec::new(),
                Some(_) => timers.take_due(Instant::now()),
            }
        });
        let any = !due.is_empty();
        // Outside of the heap's borrow: a waker may set the next timer.
        for waker in due {
            waker.wake();
        }
        any || !self.shared.executors()[usize::from(self.slot)]
            .queue
            .is_empty()
    }

    /// What the scheduler asks between two resumes.
    fn obey(&mut self) {
        if !self.shared.is_attached() {
            return;
        }
        let page = self.shared.pages().current();
        let sched = &page.executors[usize::from(self.slot)].sched;
        if sched.quantum_expired.load(Ordering::Relaxed) != 0 {
            rustix::thread::sched_yield();
        }
        let executors = self.shared.executors();
        if executors.len() == 1 {
            return;
        }
        if sched.park_request.load(Ordering::Relaxed) != 0 {
            self.park_on_request();
        } else if self.shared.executors_wanted() > 1
            && !executors[usize::from(self.slot)].queue.is_empty()
        {
            // More cores than run: wake one sibling, which wakes the next.
            let wanted = self.shared.executors_wanted();
            if let Some(sibling) = executors[..wanted].iter().find(|e| e.parker.is_parked()) {
                self.shared.reactor().unpark(&sibling.parker);
            }
        }
    }

    /// Its work is its siblings' to take from here on.
    fn park_on_request(&mut self) {
        let executors = self.shared.executors();
        let current = usize::from(self.slot);
        let others_run = |index: usize| index != current && !executors[index].parker.is_parked();
        if !(0..executors.len()).any(others_run) {
            // Nobody else would take the work: hand over to the first.
            let first = usize::from(current == 0);
            self.shared.reactor().unpark(&executors[first].parker);
        }
        let parker = &executors[current].parker;
        parker.prepare(Sleep::Futex);
        if self.shared.stack().is_on() {
            let wanted = self.shared.executors_wanted();
            let wake = self.shared.stack().leave(current, wanted);
            // Itself, it may be asked to wake: it parks all the same.
            self.shared.wake(wake & !(1 << current));
        }
        self.publish(ExecutorState::Parked);
        if self.shared.is_stopping() {
            parker.cancel();
        } else {
            parker.sleep(None);
        }
        self.publish(ExecutorState::Running);
    }

    /// Looks a little longer, then sleeps until there is work.
    fn idle(&mut self) {
        let shared = self.shared.clone();
        let current = &shared.executors()[usize::from(self.slot)];
        let spin = shared.spin().max(self.spin_time);
        if !spin.is_zero() && !self.is_stopping {
            let until = now_ns() + spin.as_nanos() as u64;
            while now_ns() < until {
                if !current.queue.is_empty() {
                    return;
                }
                // It may be for others only: parking looks.
                if shared.stack().has_queued() {
                    break;
                }
                std::hint::spin_loop();
            }
        }
        let sleep = if shared.reactor().is_waiting() && !shared.reactor().is_polled() {
            Sleep::Poll
        } else {
            Sleep::Futex
        };
        current.parker.prepare(sleep);
        let polls = shared.reactor().is_waiting() && !shared.reactor().is_polled();
        let something = shared.executors().iter().any(|e| !e.queue.is_empty())
            || self.link_moved()
            || shared.deadlines().any()
            || (shared.is_stopping() && !self.is_stopping)
            || (polls && sleep == Sleep::Futex);
        if something {
            current.parker.cancel();
            return;
        }
        let due = match self.rest() {
            Rest::Sleep(due) => due,
            Rest::Take(taken) => {
                current.parker.cancel();
                let flow = self.takes(taken);
                return self.serve(flow);
            }
        };
        let timeout = self.timeout(due);
        let longest = shared.spin_up_to();
        let since = (!longest.is_zero()).then(now_ns);
        shared.set_idle(self.slot.into(), true);
        match sleep {
            Sleep::Futex => {
                self.publish(ExecutorState::Parked);
                current.parker.sleep(timeout);
            }
            Sleep::Poll => {
                self.publish(ExecutorState::Waiting);
                shared.reactor().poll(Some(&current.parker), timeout);
                current.parker.cancel();
            }
        }
        shared.set_idle(self.slot.into(), false);
        if let Some(since) = since {
            let slept = Duration::from_nanos(now_ns() - since);
            self.spin_time = next_spin_time(self.spin_time, slept, shared.spin(), longest);
        }
        self.publish(ExecutorState::Running);
    }

    /// The design's word before this parks.
    fn rest(&self) -> Rest<FlowCore> {
        let stack = self.shared.stack();
        if !stack.is_on() {
            return Rest::Sleep(None);
        }
        let wanted = self.shared.executors_wanted();
        let (rest, wake) = stack.park(self.slot.into(), wanted);
        self.shared.wake(wake);
        rest
    }

    /// Until the earliest timer or the next paced flow (`due_ns`), or while
    /// stopping a moment.
    fn timeout(&self, due_ns: Option<u64>) -> Option<Duration> {
        let timer = with_timers(|timers| timers.earliest());
        let timer = timer.map(|at| at.saturating_duration_since(Instant::now()));
        let due = due_ns.map(|due| Duration::from_nanos(due.saturating_sub(now_ns())));
        let timer = match (timer, due) {
            (Some(timer), Some(due)) => Some(timer.min(due)),
            (timer, due) => timer.or(due),
        };
        match (timer, self.is_stopping) {
            (Some(timer), true) => Some(timer.min(Duration::from_millis(10))),
            (None, true) => Some(Duration::from_millis(10)),
            (timer, false) => timer,
        }
    }

    /// Stopping and nothing to do now: is there nothing to wait for?
    fn may_end(&mut self) -> bool {
        self.is_stopping = true;
        let waits = self.shared.reactor().is_waiting()
            || with_timers(|t| t.earliest().is_some())
            || !self.shared.stack().is_empty();
        !waits
    }

    fn link_moved(&self) -> bool {
        let link = self.shared.link();
        link.is_some_and(|link| link.generation().load(Ordering::Acquire) != self.generation)
    }

    /// Connected or lost since the last look.
    #[inline]
    fn follow_link(&mut self) {
        if self.link_moved() {
            self.register();
        }
    }

    #[cold]
    fn register(&mut self) {
        let Some(link) = self.shared.link().cloned() else {
            return;
        };
        let generation: &AtomicU64 = link.generation();
        self.generation = generation.load(Ordering::Acquire);
        if let Some(page) = link.page() {
            self.shared.pages().share(page);
        }
        if link.attached()
            && let Err(error) = link.register(self.slot.into(), self.shared.flow_class())
        {
            log::warn!(
                "executor {} goes on without the scheduler: {error}",
                self.slot
            );
        }
        let page = self.shared.pages().current();
        let current = &page.executors[usize::from(self.slot)].own;
        current
            .flow_class
            .store(self.shared.flow_class() as u32, Ordering::Relaxed);
        self.publish(ExecutorState::Running);
    }

    fn publish(&self, state: ExecutorState) {
        self.shared.pages().publish_state(self.slot, state);
    }
}

#[cfg(test)]
mod tests {
    use super::next_spin_time;
    use std::time::Duration;

    #[test]
    fn spinning_grows_while_work_comes_soon_and_shrinks_at_once() {
        let us = Duration::from_micros;
        for (spin_time, slept, least, longest, expected) in [
            (us(10), us(5), us(10), us(50), us(20)),
            (us(40), us(50), us(10), us(50), us(50)),
            (us(50), us(51), us(10), us(50), us(10)),
            (us(0), us(0), us(10), us(50), us(10)),
            (us(10), us(5), us(10), us(0), us(10)),
        ] {
            assert_eq!(next_spin_time(spin_time, slept, least, longest), expected);
        }
    }
}
