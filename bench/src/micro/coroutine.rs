// SPDX-License-Identifier: GPL-2.0-only
//! Create, yield once, finish: 64 coroutines alive at a time, on one thread
//! (but for tokio's multi-thread runtime, which has two workers).

use super::case::Case;
use anyhow::{Context as _, Result};
use crossbeam_queue::ArrayQueue;
use flexnet::coroutine::{CellId, Cells, Slab, yield_now};
use flexnet::executor::Runtime;
use flexnet::queue::{Node, Owner, RunQueue};
use flexnet_command::measure::{ALIVE, BATCHES, turns};
use std::hint::black_box;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

fn each(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / (ALIVE * BATCHES) as f64
}

pub(super) fn add_cases(cases: &mut Vec<Case>) -> Result<()> {
    let slab = Slab::with_caches(ALIVE as u32, 1);
    let queue = RunQueue::new();
    cases.push(Case::new("coroutine", "flexnet", move || {
        let owner = queue.own().context("the queue has no other owner")?;
        Ok(own(&slab.cells(), &owner))
    }));

    // All of a flow (ring, gate, counters) around it, on a running executor, from a
    // coroutine there: ALIVE at a time.
    let runtime = Runtime::builder().build()?;
    let [driver, flow] = [runtime.flow()?, runtime.flow()?];
    cases.push(Case::new("coroutine", "flexnet-executor", move || {
        let _serves = &runtime;
        turns(&driver, &flow)
    }));

    cases.push(Case::new("coroutine", "async-task", || Ok(async_task())));

    let current = tokio::runtime::Builder::new_current_thread().build()?;
    cases.push(Case::new("coroutine", "tokio-current", move || {
        Ok(current.block_on(tokio_batches()))
    }));

    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    cases.push(Case::new("coroutine", "tokio-multi", move || {
        // From a worker: spawning from outside is slower.
        multi
            .block_on(multi.spawn(tokio_batches()))
            .context("joins")
    }));
    Ok(())
}

/// Cells and the run queue, as executors use their own.
fn own(cells: &Cells<'_>, queue: &Owner<'_, Box<Node<CellId>>>) -> f64 {
    let mut context = Context::from_waker(Waker::noop());
    // As a flow has its link in itself.
    let mut nodes = Vec::with_capacity(ALIVE);
    let start = Instant::now();
    for _ in 0..BATCHES {
        for number in 0..ALIVE {
            let made = cells.create(async move {
                yield_now().await;
                black_box(number);
            });
            if let Ok(cell) = made {
                let mut node = nodes.pop().unwrap_or_else(|| Node::boxed(cell));
                node.value = cell;
                queue.push(node);
            }
        }
        while let Some(node) = queue.pop() {
            // SAFETY: made above, popped by this thread alone, and not pushed
            // again once it has finished.
            match unsafe { cells.resume(node.value, &mut context) } {
                Poll::Pending => queue.push(node),
                Poll::Ready(()) => nodes.push(node),
            }
        }
    }
    each(start)
}

/// The documented way: the schedule function pushes to a queue, and the
/// thread that runs pops.
fn async_task() -> f64 {
    static QUEUE: LazyLock<ArrayQueue<async_task::Runnable>> =
        LazyLock::new(|| ArrayQueue::new(ALIVE));
    let schedule = |runnable| drop(QUEUE.push(runnable));
    let start = Instant::now();
    for _ in 0..BATCHES {
        for number in 0..ALIVE {
            let future = async move {
                yield_now().await;
                black_box(number);
            };
            let (runnable, task) = async_task::spawn(future, schedule);
            runnable.schedule();
            task.detach();
        }
        while let Some(runnable) = QUEUE.pop() {
            runnable.run();
        }
    }
    each(start)
}

async fn tokio_batches() -> f64 {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(ALIVE);
    for _ in 0..BATCHES {
        for number in 0..ALIVE {
            tasks.push(tokio::spawn(async move {
                tokio::task::yield_now().await;
                black_box(number);
            }));
        }
        for task in tasks.drain(..) {
            // A task fails by panicking, and these do not.
            let _ = task.await;
        }
    }
    each(start)
}
