// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Waiting for descriptors, without a thread of its own: whichever executor has
//! nothing else to do sleeps in epoll, the others on their futex.
//!
//! Registrations are one-shot and by descriptor, as epoll's are. Waiters for the same descriptor
//! share one registration. When it fires, those that wait for what came check again, and it is made
//! anew for the others. A token names a waiter, so
//! that waiting again replaces its entry and never doubles it.

use super::flow::FlowCore;
use super::schedule::Schedule;
use crate::descriptors::raised;
use crate::queue::{Parker, Sleep};
use rustix::event::{self, epoll};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Of the doorbell; no descriptor is that.
const DOORBELL: u64 = u64::MAX;

enum Waiter<F> {
    Flow(Arc<F>),
    Task(Waker),
}

impl<S: Schedule<FlowCore<S>>> Waiter<FlowCore<S>> {
    fn wake(self) {
        match self {
            Self::Flow(flow) => flow.unblocked(),
            Self::Task(waker) => waker.wake(),
        }
    }
}

/// What a waiter waits for, besides an error and the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// There are bytes, or connections, to take.
    Readable,
    /// The socket takes bytes.
    Writable,
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Readable => epoll::EventFlags::IN,
            Self::Writable => epoll::EventFlags::OUT,
        }
    }

    fn is_met(self, ready: epoll::EventFlags) -> bool {
        let always = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        ready.intersects(self.flags() | always)
    }
}

/// A waiter of that token.
struct Entry<F> {
    token: u64,
    interest: Interest,
    waiter: Waiter<F>,
}

/// What waits for one descriptor. Usually one, for which nothing is allocated.
struct Waiting<F> {
    first: Option<Entry<F>>,
    more: Vec<Entry<F>>,
}

impl<F> Default for Waiting<F> {
    fn default() -> Self {
        Self {
            first: None,
            more: Vec::new(),
        }
    }
}

impl<F> Waiting<F> {
    /// Gives back what it replaces: to be dropped without the lock, since a
    /// waker may be the last that keeps a coroutine, and that wait here.
    fn insert(&mut self, entry: Entry<F>) -> Option<Entry<F>> {
        let before = self.remove(|other| other.token == entry.token);
        match &mut self.first {
            first @ None => *first = Some(entry),
            Some(_) => self.more.push(entry),
        }
        before
    }

    /// One that is so.
    fn remove(&mut self, is: impl Fn(&Entry<F>) -> bool) -> Option<Entry<F>> {
        match self.first.take_if(|entry| is(entry)) {
            None => {
                let at = self.more.iter().position(is)?;
                Some(self.more.swap_remove(at))
            }
            first => first,
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    /// What its waiters wait for, together.
    fn flags(&self) -> epoll::EventFlags {
        let entries = self.first.iter().chain(&self.more);
        entries.fold(epoll::EventFlags::empty(), |flags, entry| {
            flags | entry.interest.flags()
        })
    }
}

impl<F> IntoIterator for Waiting<F> {
    type Item = Entry<F>;
    type IntoIter =
        std::iter::Chain<std::option::IntoIter<Self::Item>, std::vec::IntoIter<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more)
    }
}

type ByDescriptor<F> = Option<HashMap<RawFd, Waiting<F>>>;

/// Where flows, of type `F`, and coroutines wait for their descriptors.
pub(crate) struct Reactor<F> {
    epoll: OwnedFd,
    doorbell: OwnedFd,
    /// None once the executors have ended.
    waiters: Mutex<ByDescriptor<F>>,
    /// Descriptors that are waited for.
    waiting: AtomicUsize,
    tokens: AtomicU64,
    /// Somebody is in epoll_wait, or about to be.
    polled: AtomicBool,
}

impl<S: Schedule<FlowCore<S>>> Reactor<FlowCore<S>> {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = raised(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        let flags = event::EventfdFlags::CLOEXEC | event::EventfdFlags::NONBLOCK;
        let doorbell = raised(event::eventfd(0, flags)?)?;
        epoll::add(
            &epoll,
            &doorbell,
            epoll::EventData::new_u64(DOORBELL),
            epoll::EventFlags::IN,
        )?;
        Ok(Self {
            epoll,
            doorbell,
            waiters: Mutex::new(Some(HashMap::with_capacity(64))),
            waiting: AtomicUsize::new(0),
            tokens: AtomicU64::new(0),
            polled: AtomicBool::new(false),
        })
    }

    pub(crate) fn new_token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    /// Does anybody wait?
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Does somebody sleep in epoll (or look at it)?
    pub(crate) fn is_polled(&self) -> bool {
        self.polled.load(Ordering::SeqCst)
    }

    /// The flow is unblocked when its socket takes bytes (or is dead). False:
    /// nobody will, the executors have ended.
    pub(crate) fn wait_flow(
        &self,
        flow: &Arc<FlowCore<S>>,
        fd: BorrowedFd<'_>,
    ) -> io::Result<bool> {
        let entry = Entry {
            token: flow.token(),
            interest: Interest::Writable,
            waiter: Waiter::Flow(flow.clone()),
        };
        self.wait(entry, fd)
    }

    /// Wakes `waker` when `fd` is ready (or dead). False: nobody will, the executors have
    /// ended.
    pub(super) fn wait_task(
        &self,
        token: u64,
        interest: Interest,
        waker: Waker,
        fd: BorrowedFd<'_>,
    ) -> io::Result<bool> {
        let entry = Entry {
            token,
            interest,
            waiter: Waiter::Task(waker),
        };
        self.wait(entry, fd)
    }

    /// The one of that token does not wait for `fd` any more.
    pub(super) fn forget_task(&self, token: u64, fd: BorrowedFd<'_>) {
        drop(self.forget(fd.as_raw_fd(), token));
    }

    fn wait(&self, entry: Entry<FlowCore<S>>, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let token = entry.token;
        let (replaced, armed) = {
            let mut all = self.lock();
            let Some(waiters) = all.as_mut() else {
                return Ok(false);
            };
            let waiting = waiters.entry(fd.as_raw_fd()).or_default();
            let replaced = waiting.insert(entry);
            let flags = waiting.flags();
            self.waiting.store(waiters.len(), Ordering::SeqCst);
            // Armed after the entry: what comes before finds it, or is found by the kernel now.
            // With the lock, or another waiter's flags might be overwritten.
            (replaced, self.arm(fd, flags))
        };
        drop(replaced);
        if armed.is_err() {
            drop(self.forget(fd.as_raw_fd(), token));
        }
        armed.map(|()| true)
    }

    fn arm(&self, fd: BorrowedFd<'_>, flags: epoll::EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(fd.as_raw_fd() as u64);
        let flags = flags | epoll::EventFlags::ONESHOT;
        loop {
            match epoll::modify(&self.epoll, fd, data, flags) {
                Err(rustix::io::Errno::NOENT) => {}
                other => return Ok(other?),
            }
            match epoll::add(&self.epoll, fd, data, flags) {
                // Somebody else was as fast.
                Err(rustix::io::Errno::EXIST) => {}
                other => return Ok(other?),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ByDescriptor<FlowCore<S>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that wait for what the descriptor is ready for.
    fn take(&self, fd: RawFd, ready: epoll::EventFlags) -> Waiting<FlowCore<S>> {
        let mut met = Waiting::default();
        let mut all = self.lock();
        let Some(waiters) = all.as_mut() else {
            return met;
        };
        let Some(waiting) = waiters.get_mut(&fd) else {
            return met;
        };
        while let Some(entry) = waiting.remove(|entry| entry.interest.is_met(ready)) {
            met.insert(entry);
        }
        if !waiting.is_empty() {
            // SAFETY: whatever waits for a descriptor keeps it open, or leaves before it closes.
            let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
            if self.arm(borrowed, waiting.flags()).is_err() {
                // They find out why.
                while let Some(entry) = waiting.remove(|_| true) {
                    met.insert(entry);
                }
            }
        }
        if waiting.is_empty() {
            waiters.remove(&fd);
        }
        self.waiting.store(waiters.len(), Ordering::Relaxed);
        met
    }

    /// One of them does not wait any more.
    fn forget(&self, fd: RawFd, token: u64) -> Option<Entry<FlowCore<S>>> {
        let mut all = self.lock();
        let waiters = all.as_mut()?;
        let waiting = waiters.get_mut(&fd)?;
        let forgotten = waiting.remove(|entry| entry.token == token);
        if waiting.is_empty() {
            waiters.remove(&fd);
        }
        self.waiting.store(waiters.len(), Ordering::Relaxed);
        forgotten
    }

    /// A flow does not wait for that descriptor any more, which others may get.
    pub(crate) fn leave(&self, fd: BorrowedFd<'_>, token: u64) {
        drop(self.forget(fd.as_raw_fd(), token));
        // Never waited for, most of the time.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Wakes those whose sockets are ready. With a parker: as the one thread
    /// that sleeps in here, until something happens or `timeout` has passed; `false`
    /// when somebody else sleeps here already. Without: never sleeps.
    pub(crate) fn poll(&self, parker: Option<&Parker>, timeout: Option<Duration>) -> bool {
        if self.polled.swap(true, Ordering::Acquire) {
            return false;
        }
        let timeout = if parker.is_some() {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        let timeout = timeout.map(|t| event::Timespec {
            tv_sec: t.as_secs() as i64,
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 32];
        let ready = epoll::wait(&self.epoll, &mut events, timeout.as_ref());
        if let Some(parker) = parker {
            parker.cancel();
        }
        self.polled.store(false, Ordering::Release);
        let Ok((ready, _)) = ready else {
            return true; // interrupted: the caller looks again
        };
        for event in ready {
            let data = event.data.u64();
            if data == DOORBELL {
                let mut count = [0; 8];
                // Somebody else may have read it: nonblocking.
                let _ = rustix::io::read(&self.doorbell, &mut count);
                continue;
            }
            // Outside of the lock: what is woken may wait again.
            for entry in self.take(data as RawFd, event.flags) {
                entry.waiter.wake();
            }
        }
        true
    }

    /// Wakes an executor, however it sleeps; false when it was not parked.
    #[inline]
    pub(crate) fn unpark(&self, parker: &Parker) -> bool {
        match parker.unpark() {
            None => false,
            Some(Sleep::Futex) => true,
            Some(Sleep::Poll) => {
                self.ring();
                true
            }
        }
    }

    fn ring(&self) {
        // A full counter (2^64 - 2 rings unread) is a doorbell that rings.
        let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
    }

    /// The executors have ended: lets go of every waiter, and wakes the threads that
    /// wait for a flow, which then do the rest of it themselves. The flows. Coroutines that wait
    /// are woken, and end.
    pub(crate) fn abandon(&self) -> Vec<Arc<FlowCore<S>>> {
        let waiters = {
            let mut all = self.lock();
            self.waiting.store(0, Ordering::Relaxed);
            all.take().unwrap_or_default()
        };
        let mut flows = Vec::new();
        for entry in waiters.into_values().flatten() {
            match entry.waiter {
                Waiter::Flow(flow) => {
                    flow.waiters().wake();
                    flows.push(flow);
                }
                Waiter::Task(waker) => waker.wake(),
            }
        }
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Runtime, readable, writable};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::task::Poll;

    fn full_pair() -> (UnixStream, UnixStream) {
        let (mut writer, reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        while writer.write(&[0; 4096]).is_ok() {}
        (writer, reader)
    }

    fn wait_until(what: impl Fn() -> bool) {
        let start = std::time::Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(10), "in time");
            std::thread::yield_now();
        }
    }

    #[test]
    fn two_coroutines_wait_for_one_descriptor() {
        let (writer, mut reader) = full_pair();
        let writer = Arc::new(writer);
        let runtime = Runtime::builder().executors(2).build().unwrap();
        let (sender, receiver) = mpsc::channel();
        let flows = [runtime.flow().unwrap(), runtime.flow().unwrap()];
        for flow in &flows {
            let (writer, sender) = (writer.clone(), sender.clone());
            let waits = async move {
                let waited = writable(writer.as_fd()).await;
                sender.send(waited.is_ok()).unwrap();
            };
            flow.submit(waits).unwrap();
        }
        let both_wait = || {
            let all = runtime.shared().reactor().lock();
            let fd = writer.as_raw_fd();
            all.as_ref()
                .is_some_and(|all| all.get(&fd).is_some_and(|all| all.more.len() == 1))
        };
        wait_until(both_wait);
        reader.set_nonblocking(true).unwrap();
        let mut room = vec![0; 1 << 16];
        while reader.read(&mut room).is_ok() {}
        for _ in 0..2 {
            assert!(receiver.recv_timeout(Duration::from_secs(10)).unwrap());
        }
        wait_until(|| !runtime.shared().reactor().is_waiting());
    }

    /// One is ready first, and the other still waits, whichever that is.
    #[test]
    fn two_coroutines_wait_for_different_things() {
        for reads_first in [true, false] {
            let (writer, mut reader) = full_pair();
            let writer = Arc::new(writer);
            let runtime = Runtime::builder().build().unwrap();
            let flows = [runtime.flow().unwrap(), runtime.flow().unwrap()];
            let (first, second) = (writer.clone(), writer.clone());
            let reads = async move { readable(first.as_fd()).await };
            let writes = async move { writable(second.as_fd()).await };
            let mut reads = flows[0].submit_task(reads).unwrap();
            let mut writes = flows[1].submit_task(writes).unwrap();
            let both_wait = || {
                let all = runtime.shared().reactor().lock();
                let waiting = all.as_ref().and_then(|all| all.get(&writer.as_raw_fd()));
                waiting.is_some_and(|all| all.more.len() == 1)
            };
            wait_until(both_wait);
            let soon = Duration::from_secs(10);
            reader.set_nonblocking(true).unwrap();
            let mut room = vec![0; 1 << 16];
            if reads_first {
                reader.write_all(b"x").unwrap();
                reads.wait_timeout(soon).unwrap().unwrap();
                assert!(!writes.is_done());
            }
            while reader.read(&mut room).is_ok() {}
            writes.wait_timeout(soon).unwrap().unwrap();
            if !reads_first {
                assert!(!reads.is_done());
                reader.write_all(b"x").unwrap();
                reads.wait_timeout(soon).unwrap().unwrap();
            }
        }
    }

    #[test]
    fn a_wait_that_is_given_up_is_forgotten() {
        let (writer, _reader) = full_pair();
        let runtime = Runtime::builder().build().unwrap();
        let flow = runtime.flow().unwrap();
        let (sender, receiver) = mpsc::channel();
        let gives_up = async move {
            let mut wait = Box::pin(writable(writer.as_fd()));
            let polled = std::future::poll_fn(|context| {
                Poll::Ready(wait.as_mut().poll(context).is_pending())
            });
            let pending = polled.await;
            let before = super::super::current::current_shared()
                .is_some_and(|shared| shared.reactor().is_waiting());
            drop(wait);
            sender.send((pending, before)).unwrap();
        };
        flow.submit(gives_up).unwrap();
        assert_eq!(receiver.recv().unwrap(), (true, true));
        assert!(!runtime.shared().reactor().is_waiting());
    }
}
