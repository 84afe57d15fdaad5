// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Timers of one executor: a heap of deadlines, looked at between resumes.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The waker of a [`Sleep`]; None: the sleep was given up.
type Slot = Arc<Mutex<Option<Waker>>>;

fn take_waker(slot: &Slot) -> Option<Waker> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What a deadline wakes.
enum Wakes {
    Always(Waker),
    Slot(Slot),
}

impl Wakes {
    fn is_given_up(&self) -> bool {
        match self {
            Self::Always(_) => false,
            Self::Slot(slot) => {
                let waker = slot.lock().unwrap_or_else(PoisonError::into_inner);
                waker.is_none()
            }
        }
    }

    fn into_waker(self) -> Option<Waker> {
        match self {
            Self::Always(waker) => Some(waker),
            Self::Slot(slot) => take_waker(&slot),
        }
    }
}

struct Entry {
    deadline: Instant,
    order: u64,
    wakes: Wakes,
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
        self.push(deadline, Wakes::Always(waker));
    }

    fn push(&mut self, deadline: Instant, wakes: Wakes) {
        let capacity = self.heap.capacity();
        if self.heap.len() == capacity {
            // Those that were given up make room first.
            self.heap
                .retain(|Reverse(entry)| !entry.wakes.is_given_up());
            if self.heap.len() > capacity / 2 {
                self.heap.reserve(capacity);
            }
        }
        self.order += 1;
        self.heap.push(Reverse(Entry {
            deadline,
            order: self.order,
            wakes,
        }));
    }

    /// The earliest deadline that is still waited for.
    pub fn earliest(&mut self) -> Option<Instant> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if !entry.wakes.is_given_up() {
                return Some(entry.deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the wakers of everything due at `now`, earliest first. Allocates
    /// only when there are any.
    pub fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while self.earliest().is_some_and(|deadline| deadline <= now) {
            let entry = self.heap.pop();
            due.extend(entry.and_then(|Reverse(entry)| entry.wakes.into_waker()));
        }
        due
    }

    /// Takes all, with their deadlines: for another thread's timers.
    pub(crate) fn take_all(&mut self) -> Vec<(Instant, Waker)> {
        let entries = self.heap.drain();
        let waker = |Reverse(entry): Reverse<Entry>| {
            let waker = entry.wakes.into_waker()?;
            Some((entry.deadline, waker))
        };
        entries.filter_map(waker).collect()
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
    /// Of its entry in a thread's timers.
    slot: Option<Slot>,
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // Or the timer would keep the flow, and a shutdown wait for it.
        if let Some(slot) = &self.slot {
            take_waker(slot);
        }
    }
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
        slot: None,
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

/// Awaits `future` for `duration` at most, from the first poll on; then it is dropped. For
/// coroutines on a flow.
///
/// # Errors
/// `TimedOut`. It is awaited elsewhere, where nobody would look.
///
/// ```
/// use flexnet::coroutine::timeout;
/// use flexnet::executor::Runtime;
/// use std::time::Duration;
///
/// let runtime = Runtime::builder().build()?;
/// let never = timeout(Duration::from_millis(1), std::future::pending::<()>());
/// let task = runtime.flow()?.submit_task(never).map_err(|refused| refused.refusal);
/// let result = task?.wait()?;
/// assert!(result.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn timeout<F: Future>(duration: Duration, future: F) -> io::Result<F::Output> {
    let (mut future, mut limit) = (pin!(future), pin!(sleep(duration)));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        let limit = limit.as_mut().poll(context);
        limit.map(|over| Err(over.err().unwrap_or(io::ErrorKind::TimedOut.into())))
    })
    .await
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
        if self.slot.is_none() {
            let slot = Slot::new(Mutex::new(Some(context.waker().clone())));
            with_timers(|timers| timers.push(self.deadline, Wakes::Slot(slot.clone())));
            self.slot = Some(slot);
        }
        Poll::Pending
    }
}

#[cfg(all(test, not(flexnet_loom)))]
mod tests {
    use super::*;
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
        assert_eq!(timers.earliest(), Some(start + Duration::from_millis(10)));
        assert_eq!(fire(&mut timers, start), 0);
        assert_eq!(fire(&mut timers, start + Duration::from_millis(20)), 2);
        assert_eq!(fire(&mut timers, start + Duration::from_millis(20)), 0);
        assert_eq!(fire(&mut timers, start + Duration::from_secs(1)), 1);
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn timers_that_were_given_up_go_and_keep_nothing() {
        let count = Arc::new(Count(AtomicU32::new(0)));
        let start = Instant::now();
        let mut timers = Timers::with_capacity(8);
        for round in 0..10_000 {
            let slot = Slot::new(Mutex::new(Some(count.clone().into())));
            timers.push(start, Wakes::Slot(slot.clone()));
            if round % 1000 != 0 {
                take_waker(&slot);
            }
        }
        assert_eq!(Arc::strong_count(&count), 11);
        assert!(timers.heap.capacity() <= 32, "as many as are waited for");
        assert_eq!(fire(&mut timers, start), 10);
        assert_eq!((timers.earliest(), Arc::strong_count(&count)), (None, 1));
    }
}
