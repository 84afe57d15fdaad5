// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Timers of one executor: a heap of deadlines, looked at between resumes.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

struct Entry {
    deadline: Instant,
    order: u64,
    waker: Waker,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.deadline, self.order).cmp(&(other.deadline, other.order))
    }
}

/// Deadlines of coroutines that wait, earliest first. One a thread.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    order: u64,
}

impl Timers {
    /// Room for `capacity` waiting coroutines without allocating.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            heap: BinaryHeap::with_capacity(capacity),
            order: 0,
        }
    }

    /// Wakes `waker` once `deadline` has passed and [`Timers::take_due`] is called.
    pub fn insert(&mut self, deadline: Instant, waker: Waker) {
        self.order += 1;
        self.heap.push(Reverse(Entry {
            deadline,
            order: self.order,
            waker,
        }));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.deadline)
    }

    /// Takes the wakers of everything due at `now`, earliest first. Allocates
    /// only when there are any.
    pub fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while self.next().is_some_and(|deadline| deadline <= now) {
            due.extend(self.heap.pop().map(|Reverse(entry)| entry.waker));
        }
        due
    }

    /// Takes all, with their deadlines: for another thread's timers.
    pub(crate) fn take_all(&mut self) -> Vec<(Instant, Waker)> {
        let entries = self.heap.drain();
        entries
            .map(|Reverse(entry)| (entry.deadline, entry.waker))
            .collect()
    }
}

thread_local! {
    /// This thread looks at its timers.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static TIMERS: RefCell<Timers> = RefCell::new(Timers::with_capacity(64));
}

/// This thread looks at its timers from here on, or does not any more.
pub(crate) fn watch_timers(watched: bool) {
    WATCHED.set(watched);
}

/// Runs `f` on the timers of this thread (an executor's).
pub(crate) fn with_timers<R>(f: impl FnOnce(&mut Timers) -> R) -> R {
    TIMERS.with_borrow_mut(f)
}

/// Returned by [`sleep_until`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: Instant,
    armed: bool,
}

/// Waits until `deadline`, at a resolution of what the executor does between
/// two looks at its timers (it parks no longer than to the earliest). For
/// coroutines on a flow.
///
/// # Errors
/// It is awaited elsewhere, where nobody would look.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline,
        armed: false,
    }
}

/// [`sleep_until`] `duration` from now.
///
/// # Errors
/// As there.
///
/// ```
/// use flexnet::{coroutine::sleep, executor::Runtime};
/// use std::time::{Duration, Instant};
///
/// let runtime = Runtime::builder().build()?;
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let start = Instant::now();
/// runtime.flow()?.submit(async move {
///     sleep(Duration::from_millis(1)).await.ok();
///     sender.send(start.elapsed()).ok();
/// })?;
/// assert!(receiver.recv()? >= Duration::from_millis(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

impl Future for Sleep {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !WATCHED.get() {
            let message = "sleep() was awaited outside of an executor";
            return Poll::Ready(Err(io::Error::other(message)));
        }
        if Instant::now() >= self.deadline {
            return Poll::Ready(Ok(()));
        }
        if !self.armed {
            self.armed = true;
            with_timers(|timers| timers.insert(self.deadline, context.waker().clone()));
        }
        Poll::Pending
    }
}

#[cfg(all(test, not(flexnet_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fire(timers: &mut Timers, now: Instant) -> usize {
        timers.take_due(now).into_iter().map(Waker::wake).count()
    }

    #[test]
    fn due_timers_fire_once_in_any_order_of_insertion() {
        let count = Arc::new(Count(AtomicU32::new(0)));
        let start = Instant::now();
        let mut timers = Timers::default();
        for millis in [30, 10, 20] {
            timers.insert(start + Duration::from_millis(millis), count.clone().into());
        }
        assert_eq!(timers.next(), Some(start + Duration::from_millis(10)));
        assert_eq!(fire(&mut timers, start), 0);
        assert_eq!(fire(&mut timers, start + Duration::from_millis(20)), 2);
        assert_eq!(fire(&mut timers, start + Duration::from_millis(20)), 0);
        assert_eq!(fire(&mut timers, start + Duration::from_secs(1)), 1);
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
    }
}
