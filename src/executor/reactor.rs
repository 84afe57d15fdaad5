// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Waiting for writability, without a thread of its own: whichever executor has
//! nothing else to do sleeps in epoll, the others on their futex.
//!
//! Registrations are one-shot. A token names a waiter, so that waiting again
//! for the same flow replaces, never doubles, its entry.

use super::flow::FlowCore;
use crate::queue::{Parker, Sleep};
use rustix::event::{self, epoll};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The doorbell's token.
const DOORBELL: u64 = 0;

enum Waiter {
    Flow(Arc<FlowCore>),
    Task(Waker),
}

pub(crate) struct Reactor {
    epoll: OwnedFd,
    doorbell: OwnedFd,
    /// By token; None once the executors have ended.
    waiters: Mutex<Option<HashMap<u64, Waiter>>>,
    waiting: AtomicUsize,
    tokens: AtomicU64,
    /// Somebody is in epoll_wait, or about to be.
    polled: AtomicBool,
}

impl Reactor {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let doorbell = event::eventfd(
            0,
            event::EventfdFlags::CLOEXEC | event::EventfdFlags::NONBLOCK,
        )?;
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
            tokens: AtomicU64::new(DOORBELL + 1),
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
        {
            let mut all = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(waiters) = all.as_mut() else {
                return Ok(false);
            };
            waiters.insert(token, waiter);
            self.waiting.store(waiters.len(), Ordering::SeqCst);
        }
        let data = epoll::EventData::new_u64(token);
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ONESHOT;
        let armed = match epoll::modify(&self.epoll, fd, data, flags) {
            Err(rustix::io::Errno::NOENT) => epoll::add(&self.epoll, fd, data, flags),
            other => other,
        };
        if let Err(error) = armed {
            self.take(token);
            return Err(error.into());
        }
        Ok(true)
    }

    fn take(&self, token: u64) -> Option<Waiter> {
        let mut all = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let waiters = all.as_mut()?;
        let waiter = waiters.remove(&token);
        self.waiting.store(waiters.len(), Ordering::Relaxed);
        waiter
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
            let token = event.data.u64();
            if token == DOORBELL {
                let mut count = [0; 8];
                // Somebody else may have read it: nonblocking.
                let _ = rustix::io::read(&self.doorbell, &mut count);
                continue;
            }
            match self.take(token) {
                Some(Waiter::Flow(flow)) => flow.unblocked(),
                Some(Waiter::Task(waker)) => waker.wake(),
                None => {}
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
            let mut all = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            self.waiting.store(0, Ordering::Relaxed);
            all.take().unwrap_or_default()
        };
        let mut flows = Vec::new();
        for waiter in waiters.into_values() {
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
    Writable { fd, token: None }
}

/// Returned by [`writable`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Writable<'a> {
    fd: BorrowedFd<'a>,
    token: Option<u64>,
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
        let token = *self.token.get_or_insert_with(|| reactor.new_token());
        match reactor.wait(token, Waiter::Task(context.waker().clone()), self.fd) {
            Ok(true) => Poll::Pending,
            Ok(false) => Poll::Ready(Err(io::Error::other("the executors have ended"))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
