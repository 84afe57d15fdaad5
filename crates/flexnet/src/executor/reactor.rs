// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Waiting for writability, without a thread of its own: whichever executor has
//! nothing else to do sleeps in epoll, the others on their futex.
//!
//! Registrations are one-shot and by descriptor, as epoll's are: who waits for
//! the same one shares its registration, and all of them look again. A token
//! names a waiter, so that waiting again replaces, never doubles, its entry.

use super::flow::FlowCore;
use super::runtime::Shared;
use crate::descriptors::raised;
use crate::queue::{Parker, Sleep};
use rustix::event::{self, epoll};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Of the doorbell; no descriptor is that.
const DOORBELL: u64 = u64::MAX;

enum Waiter {
    Flow(Arc<FlowCore>),
    Task(Waker),
}

impl Waiter {
    fn wake(self) {
        match self {
            Self::Flow(flow) => flow.unblocked(),
            Self::Task(waker) => waker.wake(),
        }
    }
}

/// Who waits for one descriptor. Usually one, for whom nothing is allocated.
#[derive(Default)]
struct Waiting {
    first: Option<(u64, Waiter)>,
    more: Vec<(u64, Waiter)>,
}

impl Waiting {
    /// Gives back what it replaces: to be dropped without the lock, since a
    /// waker may be the last that keeps a coroutine, and that wait here.
    fn insert(&mut self, token: u64, waiter: Waiter) -> Option<Waiter> {
        let before = self.remove(token);
        match &mut self.first {
            first @ None => *first = Some((token, waiter)),
            Some(_) => self.more.push((token, waiter)),
        }
        before
    }

    fn remove(&mut self, token: u64) -> Option<Waiter> {
        let is = |(of, _): &(u64, Waiter)| *of == token;
        let removed = match self.first.take_if(|waiter| is(waiter)) {
            None => {
                let at = self.more.iter().position(is)?;
                self.more.swap_remove(at)
            }
            Some(first) => first,
        };
        Some(removed.1)
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }
}

impl IntoIterator for Waiting {
    type Item = (u64, Waiter);
    type IntoIter =
        std::iter::Chain<std::option::IntoIter<Self::Item>, std::vec::IntoIter<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more)
    }
}

type ByDescriptor = Option<HashMap<RawFd, Waiting>>;

pub(crate) struct Reactor {
    epoll: OwnedFd,
    doorbell: OwnedFd,
    /// None once the executors have ended.
    waiters: Mutex<ByDescriptor>,
    /// Descriptors that are waited for.
    waiting: AtomicUsize,
    tokens: AtomicU64,
    /// Somebody is in epoll_wait, or about to be.
    polled: AtomicBool,
}

impl Reactor {
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
    pub(crate) fn wait_flow(&self, flow: &Arc<FlowCore>, fd: BorrowedFd<'_>) -> io::Result<bool> {
        self.wait(flow.token(), Waiter::Flow(flow.clone()), fd)
    }

    fn wait(&self, token: u64, waiter: Waiter, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let replaced = {
            let mut all = self.lock();
            let Some(waiters) = all.as_mut() else {
                return Ok(false);
            };
            let waiting = waiters.entry(fd.as_raw_fd()).or_default();
            let replaced = waiting.insert(token, waiter);
            self.waiting.store(waiters.len(), Ordering::SeqCst);
            replaced
        };
        drop(replaced);
        // Armed after the entry: what comes before finds it, or is found by the
        // kernel now.
        let armed = self.arm(fd);
        if armed.is_err() {
            drop(self.forget(fd.as_raw_fd(), token));
        }
        armed.map(|()| true)
    }

    fn arm(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let data = epoll::EventData::new_u64(fd.as_raw_fd() as u64);
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ONESHOT;
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

    fn lock(&self) -> MutexGuard<'_, ByDescriptor> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All who wait for the descriptor.
    fn take(&self, fd: RawFd) -> Option<Waiting> {
        let mut all = self.lock();
        let waiters = all.as_mut()?;
        let waiting = waiters.remove(&fd);
        self.waiting.store(waiters.len(), Ordering::Relaxed);
        waiting
    }

    /// One of them does not wait any more.
    fn forget(&self, fd: RawFd, token: u64) -> Option<Waiter> {
        let mut all = self.lock();
        let waiters = all.as_mut()?;
        let waiting = waiters.get_mut(&fd)?;
        let forgotten = waiting.remove(token);
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

    /// Wakes those whose sockets are ready. With a parker: as the one who
    /// sleeps in here, until something happens or `timeout` has passed; `false`
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
            // Outside of the lock: who is woken may wait again.
            for (_, waiter) in self.take(data as RawFd).into_iter().flatten() {
                waiter.wake();
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

    /// The executors have ended: lets go of whoever still waits, and wakes who
    /// waits for a flow, to do the rest of it himself. The flows.
    pub(crate) fn abandon(&self) -> Vec<Arc<FlowCore>> {
        let waiters = {
            let mut all = self.lock();
            self.waiting.store(0, Ordering::Relaxed);
            all.take().unwrap_or_default()
        };
        let mut flows = Vec::new();
        for (_, waiter) in waiters.into_values().flatten() {
            if let Waiter::Flow(flow) = waiter {
                flow.waiters().wake();
                flows.push(flow);
            }
        }
        flows
    }
}

/// Waits until `fd` takes bytes, or has an error to report. For coroutines on an
/// executor.
///
/// ```
/// use flexnet::executor::{Runtime, writable};
/// use std::os::fd::AsFd;
///
/// let (reader, writer) = std::io::pipe()?;
/// let runtime = Runtime::builder().build()?;
/// let (sender, receiver) = std::sync::mpsc::channel();
/// runtime.flow()?.submit(async move {
///     sender.send(writable(writer.as_fd()).await.is_ok()).ok();
/// })?;
/// assert!(receiver.recv()?);
/// # drop(reader);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The descriptor cannot be waited for (a regular file), or the caller is no
/// executor.
pub fn writable(fd: BorrowedFd<'_>) -> Writable<'_> {
    Writable { fd, waits: None }
}

/// Returned by [`writable`].
#[must_use = "futures do nothing unless awaited"]
pub struct Writable<'a> {
    fd: BorrowedFd<'a>,
    /// Where, and as which token.
    waits: Option<(Weak<Shared>, u64)>,
}

impl std::fmt::Debug for Writable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writable").field("fd", &self.fd).finish()
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        if let Some((shared, token)) = self.waits.take()
            && let Some(shared) = shared.upgrade()
        {
            drop(shared.reactor().forget(self.fd.as_raw_fd(), token));
        }
    }
}

impl Future for Writable<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(shared) = super::worker::current_shared() else {
            let message = "writable() was awaited outside of an executor";
            return Poll::Ready(Err(io::Error::other(message)));
        };
        let mut fds = [event::PollFd::from_borrowed_fd(
            self.fd,
            event::PollFlags::OUT,
        )];
        let now = Some(&event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        });
        if event::poll(&mut fds, now)? > 0 {
            return Poll::Ready(Ok(()));
        }
        let reactor = shared.reactor();
        let waits = || (Arc::downgrade(&shared), reactor.new_token());
        let token = self.waits.get_or_insert_with(waits).1;
        match reactor.wait(token, Waiter::Task(context.waker().clone()), self.fd) {
            Ok(true) => Poll::Pending,
            Ok(false) => Poll::Ready(Err(io::Error::other("the executors have ended"))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Runtime;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

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
            let before = super::super::worker::current_shared()
                .is_some_and(|shared| shared.reactor().is_waiting());
            drop(wait);
            sender.send((pending, before)).unwrap();
        };
        flow.submit(gives_up).unwrap();
        assert_eq!(receiver.recv().unwrap(), (true, true));
        assert!(!runtime.shared().reactor().is_waiting());
    }
}
