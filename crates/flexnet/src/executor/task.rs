// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A handle on a coroutine that was submitted: its result, and a way to end it early.
//!
//! Promised: each task has one outcome, also where its coroutine panics, is dropped, or was
//! submitted to a runtime that ends. Left to others: when the coroutine runs (flow.rs), and times
//! ([`crate::coroutine::timeout`]).

use super::current::may_wait;
use super::handle::{Flow, SubmitError};
use super::shared::FlowCore;
use super::waiters::block_on;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Why a task has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// It was aborted ([`Task::abort`]).
    Aborted,
    /// It panicked.
    Panicked,
    /// It was dropped: its runtime or its flow has ended.
    Ended,
    /// It is not done, and the time is over. Only of [`Task::wait_timeout`].
    TimedOut,
    /// A coroutine would block its executor. Only of the calls that block.
    Deadlock,
    /// The outcome was given before.
    Taken,
}

impl std::fmt::Display for TaskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Aborted => "the coroutine was aborted",
            Self::Panicked => "the coroutine panicked",
            Self::Ended => "the coroutine was dropped at the end of its runtime or flow",
            Self::TimedOut => "the coroutine is not done yet",
            Self::Deadlock => "a coroutine cannot block its executor: await the task",
            Self::Taken => "the coroutine's outcome was given before",
        })
    }
}

impl std::error::Error for TaskError {}

impl From<TaskError> for io::Error {
    fn from(error: TaskError) -> Self {
        Self::from_raw_os_error(match error {
            TaskError::Aborted | TaskError::Ended => libc::ECANCELED,
            TaskError::Panicked => libc::EOWNERDEAD,
            TaskError::TimedOut => libc::ETIMEDOUT,
            TaskError::Deadlock => libc::EDEADLK,
            TaskError::Taken => libc::EINVAL,
        })
    }
}

struct Outcome<T> {
    result: Option<Result<T, TaskError>>,
    is_known: bool,
    waker: Option<Waker>,
}

/// What a task and its coroutine share.
struct State<T> {
    is_aborted: AtomicBool,
    outcome: Mutex<Outcome<T>>,
}

impl<T> State<T> {
    fn lock(&self) -> MutexGuard<'_, Outcome<T>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first outcome counts.
    fn finish(&self, result: Result<T, TaskError>) {
        let waker = {
            let mut outcome = self.lock();
            if outcome.is_known {
                return;
            }
            outcome.is_known = true;
            outcome.result = Some(result);
            outcome.waker.take()
        };
        // Without the lock: a waker may run what asks for the outcome.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Its drop is an outcome, if there was none.
struct Reports<T>(Arc<State<T>>);

impl<T> Drop for Reports<T> {
    fn drop(&mut self) {
        let is_aborted = self.0.is_aborted.load(Ordering::Acquire);
        self.0.finish(Err(match is_aborted {
            true => TaskError::Aborted,
            false => TaskError::Ended,
        }));
    }
}

/// A coroutine with a task: the body in its cell.
struct Tracked<F: Future> {
    /// None: it is done. Dropped before its outcome is known.
    future: Option<F>,
    reports: Reports<F::Output>,
}

impl<F: Future> Future for Tracked<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `future` is pinned as `self` is: it is dropped in place, and moved only by
        // `submit_task`, which has it back before it was polled. `reports` is not pinned.
        let (mut future, state) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &this.reports.0)
        };
        if state.is_aborted.load(Ordering::Acquire) {
            future.set(None);
            state.finish(Err(TaskError::Aborted));
            return Poll::Ready(());
        }
        let Some(inner) = future.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        match catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => {
                future.set(None);
                state.finish(Ok(result));
                Poll::Ready(())
            }
            Err(panic) => {
                state.finish(Err(TaskError::Panicked));
                resume_unwind(panic)
            }
        }
    }
}

/// The outcome of a coroutine of [`Flow::submit_task`], which can be awaited or waited for.
///
/// Dropped, it lets the coroutine go on. Its outcome is given once; later it is
/// [`TaskError::Taken`].
#[must_use = "dropping it lets the coroutine go on unheard"]
pub struct Task<T> {
    state: Arc<State<T>>,
    flow: Weak<FlowCore>,
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}

impl<T> Task<T> {
    /// Is there an outcome, given or not?
    pub fn is_done(&self) -> bool {
        self.state.lock().is_known
    }

    /// Has the coroutine dropped where it waits, or where its turn comes if it has not begun. One
    /// that is resumed just now goes on to its next await, and may still come to its result. From
    /// any thread.
    ///
    /// One that began and has an [`super::Output`] fails its flow with ECANCELED, since a part of
    /// what it writes is missing.
    pub fn abort(&self) {
        self.state.is_aborted.store(true, Ordering::Release);
        if let Some(flow) = self.flow.upgrade() {
            flow.wake();
        }
    }

    /// Blocks until there is an outcome.
    ///
    /// # Errors
    /// [`TaskError`], but [`TaskError::TimedOut`]. [`TaskError::Deadlock`] in a coroutine, which
    /// awaits the task instead.
    pub fn wait(&mut self) -> Result<T, TaskError> {
        self.block(None)
    }

    /// [`Task::wait`], for `timeout` at most. The coroutine goes on then, and may be aborted.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<T, TaskError> {
        self.block(Some(timeout))
    }

    fn block(&mut self, timeout: Option<Duration>) -> Result<T, TaskError> {
        may_wait().map_err(|_| TaskError::Deadlock)?;
        block_on(self, timeout).unwrap_or(Err(TaskError::TimedOut))
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut outcome = self.state.lock();
        if outcome.is_known {
            return Poll::Ready(outcome.result.take().unwrap_or(Err(TaskError::Taken)));
        }
        let before = outcome.waker.replace(context.waker().clone());
        drop(outcome);
        // Without the lock: it may be the last that keeps a flow.
        drop(before);
        Poll::Pending
    }
}

impl Flow {
    /// [`Flow::submit`] of a coroutine that has a result. Costs one allocation.
    ///
    /// ```
    /// use flexnet::coroutine::{sleep, timeout};
    /// use flexnet::executor::{Runtime, TaskError};
    /// use std::time::Duration;
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let flow = runtime.flow()?;
    /// let mut task = flow.submit_task(async { 6 * 7 }).map_err(|refused| refused.refusal)?;
    /// assert_eq!(task.wait(), Ok(42)); // or `task.await`, in a coroutine of another flow
    ///
    /// let hour = Duration::from_secs(3600);
    /// let long = timeout(Duration::from_millis(1), sleep(hour)); // a limit of its own
    /// let mut task = flow.submit_task(long).map_err(|refused| refused.refusal)?;
    /// assert!(task.wait()?.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
    ///
    /// let mut task = flow.submit_task(sleep(hour)).map_err(|refused| refused.refusal)?;
    /// task.abort();
    /// assert!(matches!(task.wait(), Err(TaskError::Aborted)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Flow::submit`].
    pub fn submit_task<F>(&self, future: F) -> Result<Task<F::Output>, SubmitError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let state = Arc::new(State {
            is_aborted: AtomicBool::new(false),
            outcome: Mutex::new(Outcome {
                result: None,
                is_known: false,
                waker: None,
            }),
        });
        let tracked = Tracked {
            future: Some(future),
            reports: Reports(state.clone()),
        };
        match self.submit(tracked) {
            Ok(()) => Ok(Task {
                state,
                flow: Arc::downgrade(&self.0),
            }),
            Err(SubmitError { refusal, coroutine }) => match coroutine.future {
                Some(coroutine) => Err(SubmitError { refusal, coroutine }),
                // Never: it was not resumed.
                None => Ok(Task {
                    state,
                    flow: Weak::new(),
                }),
            },
        }
    }
}
