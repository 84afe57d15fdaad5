// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A stack design of one's own: each flow is held to a rate. First on simulated
//! cores, then the same rule on real executors.
//!
//!     cargo run --release --no-default-features --features simulator --example pacing

use flexnet::coroutine::sleep;
use flexnet::design::{CoreRule, Design, Item, Place, Take, View};
use flexnet::executor::Runtime;
use flexnet::sim::{Setup, simulate_with};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The arithmetic, shared by both: when may the next item of a flow go?
struct Pace {
    gap_ns: u64,
    next_ns: Vec<u64>,
}

impl Pace {
    fn new(per_second: u64, flows: usize) -> Self {
        Self {
            gap_ns: 1_000_000_000 / per_second,
            next_ns: vec![0; flows],
        }
    }

    fn admit(&mut self, flow: usize, now_ns: u64) -> u64 {
        let at = self.next_ns[flow].max(now_ns);
        self.next_ns[flow] = at + self.gap_ns;
        at
    }
}

/// What: items of flows. When: not before their turn, then first come, first
/// served. Where: the default rule for cores.
struct Pacing(Pace);

impl Design for Pacing {
    fn core_rule(&self) -> CoreRule {
        CoreRule::default()
    }

    fn queues(&self, _: usize) -> usize {
        1
    }

    fn place(&mut self, view: &View<'_>, item: &Item) -> Place {
        let at_ns = self.0.admit(item.flow as usize, view.now_ns);
        Place::Later { at_ns, queue: 0 }
    }

    fn next(&mut self, view: &View<'_>, _: usize) -> Option<Take> {
        (view.queued > 0).then(|| Take::own(0))
    }

    fn requeue(&mut self, _: &View<'_>, _: usize, _: &Item) -> usize {
        0
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One flow of 10 thousand items a second at most, offered more and more.
    let mut setup = Setup::new("flexnet".parse()?, 4);
    setup.flows = 1;
    for load_rps in [5_000.0, 9_000.0, 20_000.0] {
        setup.load_rps = load_rps;
        let outcome = simulate_with(&setup, |_| Box::new(Pacing(Pace::new(10_000, 1))));
        println!(
            "simulated: {load_rps:>6} offered, {:>6.0} a second go, P99 {:.0} µs",
            outcome.achieved_rps, outcome.p99_us
        );
    }

    // The same on an executor: a coroutine waits for its turn in its flow's order.
    let runtime = Runtime::builder().name("pacing").build()?;
    let (flow, (done, finished)) = (runtime.flow()?, channel());
    let (mut pace, start) = (Pace::new(10_000, 1), Instant::now());
    for _ in 0..1_000 {
        let at = Duration::from_nanos(pace.admit(0, start.elapsed().as_nanos() as u64));
        let done = done.clone();
        flow.submit(async move {
            sleep(at.saturating_sub(start.elapsed())).await;
            let _ = done.send(());
        })?;
    }
    drop(done);
    let count = finished.iter().count() as f64;
    let rate = count / start.elapsed().as_secs_f64();
    println!("executor:  {count} items at {rate:.0} a second");
    runtime.shutdown();
    Ok(())
}
