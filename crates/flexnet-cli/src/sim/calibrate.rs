// SPDX-License-Identifier: GPL-2.0-only
//! What the stack's steps cost on this machine.

use super::median::median;
use super::preempt;
use super::stack::StackCosts;
use anyhow::{Context, Result};
use flexnet_sim::Costs;
use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Wakeups measured.
const WAKES: u32 = 2_000;
/// Cores given.
const GRANTS: u32 = 500;
/// Until the waiting thread sleeps.
const ASLEEP: Duration = Duration::from_micros(20);

/// `costs` with what could be measured here; says what that is.
pub(super) fn measured(mut costs: Costs) -> Result<Costs> {
    eprintln!("measuring what the stack's steps cost on this machine, some seconds");
    let stack = StackCosts::measure()?;
    costs.submit = stack.submit_ns.round() as u64;
    costs.resume = stack.resume_ns.round() as u64;
    costs.r#yield = costs.resume;
    costs.steal = stack.steal_ns.round() as u64;
    costs.wake = wake();
    costs.preempt = preempt::measure().context("cannot measure a preemption")?;
    costs.grant = grant().context("cannot measure the granting of a core")?;
    for (name, ns) in costs.table() {
        let how = match name {
            "submit" | "resume" | "yield" | "steal" | "wake" => "measured here",
            "preempt" => "measured here: a timer's interrupt and a signal",
            "grant" => "measured here: affinity set, woken, running there",
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
            std::thread::sleep(ASLEEP);
            let start = Instant::now();
            turn.store(2 * round + 1, Ordering::Release);
            other.thread().unpark();
            while turn.load(Ordering::Acquire) != 2 * round + 2 {
                std::thread::park();
            }
            samples.push(start.elapsed().as_nanos() as u64 / 2);
        }
    });
    median(samples)
}

/// From deciding to give a worker that sleeps another core until it runs there,
/// ns, the median: its affinity is set and it is woken, as Shenango's iokernel
/// does. With one CPU it is the same core each time.
fn grant() -> Result<u64> {
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .collect();
    let origin = Instant::now();
    let now_ns = || origin.elapsed().as_nanos() as u64;
    let (round, worker) = (AtomicU32::new(0), AtomicI32::new(0));
    // When it ran, 0: not yet.
    let ran_ns = AtomicU64::new(0);
    let mut samples = Vec::with_capacity(GRANTS as usize);
    std::thread::scope(|scope| {
        let (round, worker, ran_ns) = (&round, &worker, &ran_ns);
        let works = scope.spawn(move || {
            worker.store(gettid().as_raw_nonzero().get(), Ordering::Release);
            let mut seen = 0;
            while seen < GRANTS {
                while round.load(Ordering::Acquire) == seen {
                    std::thread::park();
                }
                ran_ns.store(now_ns(), Ordering::Release);
                seen = round.load(Ordering::Acquire).max(seen + 1);
            }
        });
        let mut result = Ok(());
        for number in 1..=GRANTS {
            std::thread::sleep(ASLEEP);
            let mut there = CpuSet::new();
            there.set(cpus[number as usize % cpus.len()]);
            ran_ns.store(0, Ordering::Relaxed);
            let start = now_ns();
            if let Some(pid) = Pid::from_raw(worker.load(Ordering::Acquire)) {
                result = sched_setaffinity(Some(pid), &there);
            }
            round.store(number, Ordering::Release);
            works.thread().unpark();
            if result.is_err() {
                break;
            }
            // Looking, not sleeping: a sleep's own wakeup is not part of it.
            let ran = loop {
                match ran_ns.load(Ordering::Acquire) {
                    0 => std::thread::yield_now(),
                    ran => break ran,
                }
            };
            samples.push(ran.saturating_sub(start));
        }
        if result.is_err() {
            // It ends.
            round.store(GRANTS, Ordering::Release);
            works.thread().unpark();
        }
        result
    })?;
    Ok(median(samples))
}
