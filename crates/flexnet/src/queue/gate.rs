// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Which thread may drain a flow, and whether it is in a run queue.

use crate::sync::{AtomicBool, Ordering, fence_seqcst};

/// Three bits a flow: *notified* (it is in exactly one run queue, or about to be
/// put into one by the thread that set the bit), *busy* (somebody drains it) and *blocked*
/// (it waits for its socket's writability: draining now would only get EAGAIN,
/// so submitters do not notify; what waits for it does).
///
/// The promise: when [`Gate::notify`] returns false, a thread that was notified
/// before will look at the flow's ring after this call; so work pushed before
/// `notify` is never left behind.
#[derive(Debug, Default)]
pub struct Gate {
    notified: AtomicBool,
    busy: AtomicBool,
    blocked: AtomicBool,
}

impl Gate {
    /// A flow that is idle.
    pub fn new() -> Self {
        Self {
            notified: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
        }
    }

    /// Work was pushed. True: the caller must put the flow into a run queue.
    #[inline]
    pub fn notify(&self) -> bool {
        // Pairs with the fence of `enter`: either the thread that drains sees the
        // work, or this sees that it took the flow out of the queue.
        fence_seqcst!("gate_notify");
        self.notify_left()
    }

    /// [`Gate::notify`] by a thread that has just left, and saw in the ring what others
    /// pushed: [`Gate::leave`] has passed the fence.
    #[inline]
    pub fn notify_left(&self) -> bool {
        !self.notified.load(Ordering::Relaxed)
            && !self.blocked.load(Ordering::Relaxed)
            && self
                .notified
                .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// The flow was taken out of its run queue. True: the caller drains it and
    /// then calls [`Gate::leave`]. False: somebody else is draining it, and
    /// will find in `leave` what there is.
    #[inline]
    pub fn enter(&self) -> bool {
        self.notified.store(false, Ordering::Release);
        fence_seqcst!("gate_enter");
        self.try_busy()
    }

    /// Takes the flow to drain it inline, whether it is in a run queue or not.
    #[inline]
    pub fn enter_inline(&self) -> bool {
        self.try_busy()
    }

    #[inline]
    fn try_busy(&self) -> bool {
        !self.busy.load(Ordering::Relaxed)
            && self
                .busy
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Ends draining. The caller then looks at the ring again (after the fence
    /// in here) and, where something is left, calls [`Gate::notify`].
    #[inline]
    pub fn leave(&self) {
        self.busy.store(false, Ordering::Release);
        fence_seqcst!("gate_leave");
    }

    /// By the thread that drains, before [`Gate::leave`]: the socket takes nothing now, and
    /// somebody will call [`Gate::unblock`].
    pub fn block(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    /// The socket takes bytes again. True as for [`Gate::notify`].
    pub fn unblock(&self) -> bool {
        self.blocked.store(false, Ordering::Relaxed);
        self.notify()
    }

    /// Something else than the socket wants the flow served, whether that is blocked or not. True as
    /// for [`Gate::notify`]. The caller has stored before what it was woken for, and a thread that
    /// blocks looks for that after [`Gate::leave`].
    pub fn wake(&self) -> bool {
        // After the fence: a thread that blocked it and saw no wake is seen here.
        self.notify() || (self.is_blocked() && self.unblock())
    }

    /// Does somebody drain it?
    #[inline]
    pub fn is_entered(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Does it wait for its socket?
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Is it in a run queue (or about to be)?
    #[inline]
    pub fn is_notified(&self) -> bool {
        self.notified.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(flexnet_loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_notification_until_entered() {
        let gate = Gate::new();
        assert!(gate.notify());
        assert!(!gate.notify());
        assert!(gate.enter());
        assert!(
            gate.notify(),
            "work that comes while it is drained is announced"
        );
        assert!(!gate.enter(), "but not drained by two");
        gate.leave();
        assert!(gate.enter_inline());
        gate.leave();
    }

    #[test]
    fn a_blocked_flow_is_notified_by_a_wake_only() {
        let gate = Gate::new();
        assert!(gate.enter_inline());
        gate.block();
        gate.leave();
        assert!(!gate.notify());
        assert!(gate.wake());
        assert!(!gate.wake() && !gate.is_blocked());
    }
}
