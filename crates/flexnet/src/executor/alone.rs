// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Without executors, after the runtime's end: a thread with records on a flow waits for the socket
//! and drains the flow itself.

use super::drain::Progress;
use super::flow::FlowCore;
use super::schedule::Schedule;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a thread leaves a flow to another thread that drains it, before it looks again.
const BUSY: Duration = Duration::from_millis(1);

impl<S: Schedule<Self>> FlowCore<S> {
    /// Waits until the socket takes bytes, or for `timeout`, and drains here.
    pub(crate) fn wait_and_drain(self: &Arc<Self>, timeout: Option<Duration>) -> Option<Progress> {
        self.wait_writable(timeout);
        self.unblocked();
        let progress = self.serve_inline();
        if progress.is_none() {
            // Another thread drains, which may be long in a coroutine. Nothing says when it leaves.
            std::thread::sleep(timeout.unwrap_or(BUSY).min(BUSY));
        }
        progress
    }

    /// Waits until the socket takes bytes, or for `timeout`.
    pub(crate) fn wait_writable(&self, timeout: Option<Duration>) {
        if let Some(fd) = self.fd() {
            let timeout = timeout.map(|t| Timespec {
                tv_sec: t.as_secs() as i64,
                tv_nsec: t.subsec_nanos().into(),
            });
            // An interrupted wait, or one the kernel has no memory for, is
            // followed by another: a caller's buffer may be in the ring, so
            // there is no way out.
            let _ = poll(
                &mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)],
                timeout.as_ref(),
            );
        }
    }

    /// Drains until nothing is left or it is too late; is nothing left?
    pub(crate) fn drain_until(self: &Arc<Self>, deadline: Instant) -> bool {
        while !self.is_drained() && self.error().is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.wait_and_drain(Some(left)) == Some(Progress::Waiting) {
                return false;
            }
        }
        true
    }

    /// A handle goes; when there are no executors to leave the rest to, does it
    /// for as long as a shutdown would. Not where a coroutine of the flow owned the handle: its end
    /// is part of draining.
    pub(crate) fn handle_dropped(self: &Arc<Self>) {
        if self.shared().is_stopped() && !self.shared().is_resuming(self) {
            self.drain_until(Instant::now() + self.shared().linger());
        }
    }
}
