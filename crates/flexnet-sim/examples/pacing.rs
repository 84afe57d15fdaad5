// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A stack design of one's own: each flow is held to a rate. The same code on
//! simulated cores first, then on real executors.
//!
//!     cargo run --release -p flexnet-sim --example pacing

use flexnet::design::{CoreRule, Design, Item, Place, Take, View};
use flexnet::executor::Runtime;
use flexnet_sim::{Setup, simulate_with};
use std::collections::HashMap;
use std::sync::mpsc::channel;
use std::time::Instant;

/// What: items of flows. When: not before their turn, then first come, first
/// served. Where: the default rule for cores.
struct Pacing {
    gap_ns: u64,
    /// When each flow's next item may go.
    next_ns: HashMap<u32, u64>,
}

impl Pacing {
    fn new(per_second: u64) -> Self {
        Self {
            gap_ns: 1_000_000_000 / per_second,
            next_ns: HashMap::new(),
        }
    }
}

impl Design for Pacing {
    fn core_rule(&self) -> CoreRule {
        CoreRule::default()
    }

    fn queues(&self, _: usize) -> usize {
        1
    }

    fn place(&mut self, view: &View<'_>, item: &Item) -> Place {
        let next_ns = self.next_ns.entry(item.flow).or_default();
        let at_ns = view.now_ns.max(*next_ns);
        *next_ns = at_ns + self.gap_ns;
        Place::Later { at_ns, queue: 0 }
    }

    fn next(&mut self, view: &View<'_>, _: usize) -> Option<Take> {
        (view.queued > 0).then(|| Take::own(0))
    }

    fn requeue(&mut self, _: &View<'_>, _: usize, _: &Item) -> usize {
        0
    }

    /// One coroutine a turn: on executors an item is a flow's turn.
    fn unit_bytes(&self) -> usize {
        1
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One flow of 10 thousand items a second at most, offered more and more.
    let mut setup = Setup::new("flexnet".parse()?, 4);
    setup.flows = 1;
    for load_rps in [5_000.0, 9_000.0, 20_000.0] {
        setup.load_rps = load_rps;
        let outcome = simulate_with(&setup, |_| Box::new(Pacing::new(10_000)));
        println!(
            "simulated: {load_rps:>6} offered, {:>6.0} a second go, P99 {:.0} µs",
            outcome.achieved_rps, outcome.p99_us
        );
    }

    // The same on an executor: a thousand coroutines at once.
    let builder = Runtime::builder().name("pacing");
    let runtime = builder.design(Box::new(Pacing::new(10_000))).build()?;
    let (flow, (done, finished)) = (runtime.flow()?, channel());
    let start = Instant::now();
    for _ in 0..1_000 {
        let done = done.clone();
        flow.submit(async move {
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
