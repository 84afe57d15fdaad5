// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Flows over a descriptor that stays somebody else's: for the preload library,
//! whose program goes on using the descriptor as ever.
//!
//! Promised: nothing here allocates but making a flow; nothing here waits but
//! [`RawFlow::wait_and_drain`] and for a thread inside the gate; the descriptor is used by the
//! thread inside the flow's gate only, so once [`RawFlow::retire`] has returned it is the owner's
//! to close. Left to the caller: which sends go through here, and that the
//! descriptor is open until then.

use super::datagram::DatagramDrain;
use super::socket::{Socket, has_segmentation, sendmsg_segments};
use super::stream::StreamDrain;
use crate::executor::{Bell, Drain, FlowCore, FlowGuard, Progress, Runtime, Schedule};
use crate::queue::FlowRing;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg, shutdown};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// Looks at a gate that somebody else is inside of before the CPU is given up,
/// and before this thread sleeps: the one inside makes one system call that does
/// not block, but may have lost its CPU.
const LOOKS: u32 = 100;
const YIELDS: u32 = 50;
const GATE_SLEEP: Duration = Duration::from_micros(50);

/// The descriptor of a flow: the owner's, and from [`RawFlow::keep`] on a
/// duplicate of the flow's own.
struct Target {
    fd: AtomicI32,
    own: AtomicBool,
}

impl Drop for Target {
    fn drop(&mut self) {
        if *self.own.get_mut() {
            // SAFETY: given by `keep` as an owned descriptor, and not used any
            // more.
            drop(unsafe { OwnedFd::from_raw_fd(*self.fd.get_mut()) });
        }
    }
}

struct RawSocket(Arc<Target>);

const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

impl Socket for RawSocket {
    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        sendmsg(
            self.fd(),
            slices,
            &mut SendAncillaryBuffer::default(),
            FLAGS,
        )
    }

    fn send_segments(&self, slices: &[IoSlice<'_>], segment: u16) -> Result<usize, Errno> {
        sendmsg_segments(self.fd(), slices, segment)
    }

    fn shutdown_write(&self) {
        // Of a connection that is gone there is no end to announce.
        let _ = shutdown(self.fd(), Shutdown::Write);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open until `retire`, which goes by the gate (see the module).
        unsafe { BorrowedFd::borrow_raw(self.0.fd.load(Ordering::Acquire)) }
    }
}

/// What draining by the caller came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All that was accepted is given to the kernel (or lost with a failed
    /// flow: [`RawFlow::error`]).
    Empty,
    /// The kernel has just said EAGAIN to this thread: a thread that
    /// waits for writability is told when it changes.
    WouldBlock,
    /// The kernel has no memory (ENOBUFS): tried again by itself.
    NoMemory,
}

/// A flow over a descriptor of somebody else's.
pub struct RawFlow {
    core: Arc<FlowCore>,
    target: Arc<Target>,
}

impl RawFlow {
    /// A flow over a connected stream socket, with a ring of `ring_bytes`. `bell`
    /// rings when there may be room, when all is drained, and when the flow fails.
    ///
    /// # Errors
    /// The executor threads cannot be started.
    ///
    /// # Safety
    /// `fd` stays open, and the same socket, until [`RawFlow::retire`] or
    /// [`RawFlow::keep`] has returned.
    pub unsafe fn stream(
        runtime: &Runtime,
        fd: RawFd,
        ring_bytes: usize,
        bell: &'static Bell,
    ) -> io::Result<Self> {
        let drain = |socket| Box::new(StreamDrain::new(socket)) as Box<dyn Drain>;
        Self::new(runtime, fd, ring_bytes, bell, drain)
    }

    /// A flow over a connected datagram socket.
    ///
    /// # Errors
    /// The executor threads cannot be started.
    ///
    /// # Safety
    /// As for [`RawFlow::stream`].
    pub unsafe fn datagram(
        runtime: &Runtime,
        fd: RawFd,
        ring_bytes: usize,
        bell: &'static Bell,
    ) -> io::Result<Self> {
        // SAFETY: open, as promised.
        let cuts = has_segmentation(unsafe { BorrowedFd::borrow_raw(fd) });
        let drain = |socket| Box::new(DatagramDrain::new(socket, cuts)) as Box<dyn Drain>;
        Self::new(runtime, fd, ring_bytes, bell, drain)
    }

    fn new(
        runtime: &Runtime,
        fd: RawFd,
        ring_bytes: usize,
        bell: &'static Bell,
        drain: impl FnOnce(RawSocket) -> Box<dyn Drain>,
    ) -> io::Result<Self> {
        let target = Arc::new(Target {
            fd: AtomicI32::new(fd),
            own: AtomicBool::new(false),
        });
        let drain = drain(RawSocket(target.clone()));
        // Whole from the start: a send in a signal handler must not allocate.
        let core = runtime
            .started()?
            .new_flow(FlowRing::new(ring_bytes), drain);
        core.waiters().set_bell(bell);
        Ok(Self { core, target })
    }

    /// The longest record.
    pub fn message_max(&self) -> usize {
        self.core.ring().message_max()
    }

    /// Is everything that was accepted given to the kernel?
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.core.is_drained()
    }

    /// Does it wait for the kernel to have room?
    pub fn is_blocked(&self) -> bool {
        self.core.is_blocked()
    }

    /// Does its executor run, so that a send costs no wakeup?
    #[inline]
    pub fn is_served(&self) -> bool {
        !self.core.shared().is_off_cpu(self.core.home())
    }

    /// Is a scheduler there that gives executors their cores?
    #[inline]
    pub fn is_attached(&self) -> bool {
        self.core.shared().is_attached()
    }

    /// Do executors wait for a core, and no more can be granted?
    #[inline]
    pub fn is_saturated(&self) -> bool {
        self.core.shared().is_saturated()
    }

    /// Messages that were accepted and are not sent, over all the runtime's flows.
    pub fn backlog(&self) -> u64 {
        self.core.shared().depth()
    }

    /// The errno of a send that was accepted and failed, if there is one. Stays
    /// for streams, where nothing can be sent any more.
    #[inline]
    pub fn error(&self) -> Option<i32> {
        self.core.error().and_then(|error| error.raw_os_error())
    }

    /// [`RawFlow::error`], forgotten (datagrams: it was about one of them).
    pub fn take_error(&self) -> Option<i32> {
        self.core
            .take_error()
            .and_then(|error| error.raw_os_error())
    }

    /// Puts back what [`RawFlow::take_error`] took.
    pub fn put_error(&self, errno: i32) {
        self.core.fail(errno);
    }

    /// Accepts the slices, `length` bytes in all, as one record (a datagram, or
    /// a stretch of the stream) that an executor sends. False: there is no room,
    /// or it is longer than [`RawFlow::message_max`].
    #[inline]
    pub fn submit(&self, slices: &[IoSlice<'_>], length: usize) -> bool {
        self.core.submit_gathered(slices, length).is_ok()
    }

    fn enter(&self) -> FlowGuard<'_> {
        let mut looks = 0;
        loop {
            if let Some(guard) = self.core.enter_inline() {
                return guard;
            }
            looks += 1;
            if looks < LOOKS {
                std::hint::spin_loop();
            } else if looks < LOOKS + YIELDS {
                rustix::thread::sched_yield();
            } else {
                std::thread::sleep(GATE_SLEEP);
            }
        }
    }

    /// Gives the kernel what there is, here and now, as far as it takes it.
    pub fn drain(&self) -> Drained {
        self.drain_guarded(&mut self.enter())
    }

    fn drain_guarded(&self, guard: &mut FlowGuard<'_>) -> Drained {
        loop {
            match self.core.drain_guarded(guard, None) {
                Progress::Empty => return Drained::Empty,
                Progress::Blocked => return Drained::WouldBlock,
                Progress::Later(_) => return Drained::NoMemory,
                Progress::More | Progress::Waiting => {}
            }
        }
    }

    /// Is half of the ring free, which any record fits? A sender that waits for that
    /// is not woken for each record.
    pub fn has_room(&self) -> bool {
        let ring = self.core.ring();
        ring.used() <= ring.capacity() / 2
    }

    /// Have the executors ended? Then nobody drains the flow but its senders.
    pub fn is_stopped(&self) -> bool {
        self.core.shared().is_stopped()
    }

    /// Without executors: waits for the socket, at most until then, and drains here.
    pub fn wait_and_drain(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        self.core.wait_and_drain(Some(left));
    }

    /// The stream ends (FIN) once what was accepted is sent: at once, by `end`, or by an
    /// executor when the peer makes room. What is accepted later fails.
    pub fn end_when_drained<R>(&self, end: impl FnOnce() -> R) -> Option<R> {
        let mut guard = self.enter();
        if self.drain_guarded(&mut guard) == Drained::Empty {
            return Some(end());
        }
        let mut work = self.core.work(&guard, None);
        guard.drain_mut(|drain| drain.end_when_empty(&mut work));
        None
    }

    /// Gives the kernel what it takes, and calls `count` with the bytes that are
    /// left, while nobody sends.
    pub fn with_pending<R>(&self, count: impl FnOnce(usize) -> R) -> R {
        let mut guard = self.enter();
        self.drain_guarded(&mut guard);
        let work = self.core.work(&guard, None);
        let bytes = guard.drain_mut(|drain| drain.pending_bytes(&work));
        drop(work);
        count(bytes)
    }

    /// The owner is about to close the descriptor: gives the kernel what it
    /// takes. False when a rest is left, or `shared` says that others go on
    /// using the flow: then it needs a descriptor of its own ([`RawFlow::keep`]).
    pub fn retire(&self, shared: bool) -> bool {
        let mut guard = self.enter();
        if self.drain_guarded(&mut guard) != Drained::Empty || shared {
            return false;
        }
        self.core.set_fd(-1);
        true
    }

    /// The flow goes on over a duplicate, which closes with the flow.
    pub fn keep(&self, duplicate: OwnedFd) {
        let mut guard = self.enter();
        self.core.set_fd(duplicate.as_fd().as_raw_fd());
        let fresh = duplicate.into_raw_fd();
        let before = self.target.fd.swap(fresh, Ordering::AcqRel);
        if self.target.own.swap(true, Ordering::AcqRel) {
            // SAFETY: was given to an earlier `keep`.
            drop(unsafe { OwnedFd::from_raw_fd(before) });
        }
        // What is left waits for the duplicate from here on; and what waited for
        // the descriptor before is not told any more.
        self.drain_guarded(&mut guard);
        drop(guard);
        self.core.unblocked();
    }

    /// The duplicate of [`RawFlow::keep`], which stays open as long as this is there.
    pub fn own_descriptor(&self) -> Option<RawFd> {
        let own = self.target.own.load(Ordering::Acquire);
        own.then(|| self.target.fd.load(Ordering::Acquire))
    }

    /// Nobody waits for the socket any more: it was drained in another way. Else a
    /// shutdown of the runtime would wait for it.
    pub fn stop_waiting(&self) {
        let guard = self.enter();
        if let Some(fd) = self.core.fd() {
            self.core.set_fd(fd.as_raw_fd());
        }
        drop(guard);
        self.core.unblocked();
    }

    /// What was accepted and not sent is dropped, as the kernel does with its
    /// own at an abortive close.
    pub fn discard(&self, errno: i32) {
        let mut guard = self.enter();
        let mut work = self.core.work(&guard, None);
        guard.drain_mut(|drain| drain.abort(&mut work, errno));
    }
}
