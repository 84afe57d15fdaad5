// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Without executors, after the runtime's end: a thread with records on a flow waits for the socket
//! and drains the flow itself.

use super::drain::Progress;
use super::flow::FlowCore;
use super::schedule::Schedule;
use super::waiters::block_on;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

impl<S: Schedule<Self>> FlowCore<S> {
    /// Waits until the socket takes bytes, or for `timeout`, and drains here.
    pub(crate) fn wait_and_drain(self: &Arc<Self>, timeout: Option<Duration>) -> Option<Progress> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        self.wait_writable(timeout);
        self.unblocked();
        let progress = self.serve_inline();
        if progress.is_none() {
            // Another thread drains, which may be long in a coroutine.
            let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
            self.wait_until_left(deadline.map(left));
        }
        progress
    }

    /// Waits until nobody drains the flow, or for `timeout`. After the end, a thread that leaves
    /// says so.
    fn wait_until_left(&self, timeout: Option<Duration>) {
        let left = poll_fn(|context| {
            self.waiters().register(context.waker());
            match self.is_entered() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        });
        block_on(left, timeout);
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

#[cfg(test)]
mod tests {
    use crate::executor::Runtime;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// Has that thread of this process slept?
    fn has_slept(thread: i32) -> bool {
        let file = format!("/proc/self/task/{thread}/status");
        let status = std::fs::read_to_string(file).unwrap();
        let line =
            |line: &str| line.strip_prefix("voluntary_ctxt_switches:").map(str::trim) != Some("0");
        status
            .lines()
            .filter(|line| line.starts_with("voluntary"))
            .all(line)
    }

    /// The thread that was inside did nothing. There is no news, but the flow is free.
    #[test]
    fn who_leaves_says_so_after_the_end() {
        let runtime = Runtime::builder().build().unwrap();
        let core = runtime.flow().unwrap().0.clone();
        runtime.shutdown();
        let guard = core.enter_inline().unwrap();
        let (said, heard) = mpsc::channel();
        let flow = core.clone();
        let waits = thread::spawn(move || {
            // SAFETY: a plain call.
            said.send(unsafe { libc::gettid() }).unwrap();
            flow.wait_and_drain(None);
            said.send(0).unwrap();
        });
        let id = heard.recv().unwrap();
        while !has_slept(id) {
            thread::yield_now();
        }
        drop(guard);
        assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(0));
        waits.join().unwrap();
    }
}
