// SPDX-License-Identifier: GPL-2.0-only
//! What the stack's steps cost on this machine.

use crate::bench::stack_costs;
use anyhow::Result;
use flexnet::sim::Costs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Wakeups measured.
const WAKES: u32 = 2_000;

/// `costs` with what could be measured here; says what that is.
pub(super) fn measured(mut costs: Costs) -> Result<Costs> {
    eprintln!("measuring submit, resume, steal and wake on this machine, some seconds");
    let stack = stack_costs()?;
    costs.submit = stack.submit_ns.round() as u64;
    costs.resume = stack.resume_ns.round() as u64;
    costs.r#yield = costs.resume;
    costs.steal = stack.steal_ns.round() as u64;
    costs.wake = wake();
    for (name, ns) in costs.table() {
        let how = match name {
            "submit" | "resume" | "yield" | "steal" | "wake" => "measured here",
            _ => "as published",
        };
        println!("{name:<10} {ns:>8} ns  {how}");
    }
    Ok(costs)
}

/// From waking a thread that sleeps until it runs, ns: half of a round trip
/// between two, the median.
fn wake() -> u64 {
    let turn = AtomicU32::new(0);
    let mut samples: Vec<u64> = Vec::with_capacity(WAKES as usize);
    std::thread::scope(|scope| {
        let main = std::thread::current();
        let turn = &turn;
        let other = scope.spawn(move || {
            for round in 0..WAKES {
                while turn.load(Ordering::Acquire) != 2 * round + 1 {
                    std::thread::park();
                }
                turn.store(2 * round + 2, Ordering::Release);
                main.unpark();
            }
        });
        for round in 0..WAKES {
            // So that it sleeps by then.
            std::thread::sleep(Duration::from_micros(20));
            let start = Instant::now();
            turn.store(2 * round + 1, Ordering::Release);
            other.thread().unpark();
            while turn.load(Ordering::Acquire) != 2 * round + 2 {
                std::thread::park();
            }
            samples.push(start.elapsed().as_nanos() as u64 / 2);
        }
    });
    samples.sort_unstable();
    samples[samples.len() / 2]
}
