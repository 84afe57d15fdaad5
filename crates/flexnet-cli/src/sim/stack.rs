// SPDX-License-Identifier: GPL-2.0-only
//! What submitting, resuming and stealing cost here.

use anyhow::{Context as _, Result, anyhow};
use flexnet::executor::Runtime;
use flexnet::queue::{Node, Owner, RunQueue};
use flexnet_command::measure::{self, Backoff};
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Samples of each; a first one, not counted, warms caches and pools.
const ROUNDS: usize = 5;

/// What a stack's steps cost here, ns, medians.
pub(super) struct StackCosts {
    /// An item into a flow, on the application's core.
    pub(super) submit_ns: f64,
    /// A coroutine's turn on a running executor.
    pub(super) resume_ns: f64,
    /// An item across cores.
    pub(super) steal_ns: f64,
}

impl StackCosts {
    /// Measures them, interleaved, so that a disturbance meets all.
    pub(super) fn measure() -> Result<Self> {
        let cases = [|| measure::try_send(64), resume, steal];
        let mut samples = [const { Vec::new() }; 3];
        for round in 0..=ROUNDS {
            for (case, samples) in cases.iter().zip(&mut samples) {
                let ns = case()?;
                if round > 0 {
                    samples.push(ns);
                }
            }
        }
        let [submit_ns, resume_ns, steal_ns] = samples.map(|mut samples| {
            samples.sort_by(f64::total_cmp);
            samples[ROUNDS / 2]
        });
        Ok(Self {
            submit_ns,
            resume_ns,
            steal_ns,
        })
    }
}

/// A turn of a coroutine on a running executor.
fn resume() -> Result<f64> {
    let runtime = Runtime::builder().build()?;
    measure::turns(&runtime.flow()?, &runtime.flow()?)
}

const ITEMS: u64 = 200_000;

/// One thread pushes and another, on another CPU, pops: ns an item.
fn steal() -> Result<f64> {
    let cpus = measure::two_cpus()?;
    let queue = RunQueue::new();
    let items: Vec<_> = (0..ITEMS).map(Node::boxed).collect();
    let owner: Owner<'_, Box<Node<u64>>> = queue.own().context("the queue has no other owner")?;
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            measure::pin(cpus[0]);
            barrier.wait();
            for item in items {
                queue.push(item);
            }
        });
        let barrier = &barrier;
        let consumer = scope.spawn(move || {
            measure::pin(cpus[1]);
            let mut backoff = Backoff::default();
            let mut popped = Vec::with_capacity(ITEMS as usize);
            barrier.wait();
            let start = Instant::now();
            while popped.len() < ITEMS as usize {
                match owner.pop() {
                    Some(item) => popped.push(item),
                    None => backoff.snooze(),
                }
            }
            start.elapsed().as_nanos() as f64 / ITEMS as f64
        });
        consumer
            .join()
            .map_err(|_| anyhow!("the consumer panicked"))
    })
}
