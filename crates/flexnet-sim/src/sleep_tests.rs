// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! When a worker that spins or sleeps gets work, and what it pays for its wakeup.

use super::*;
use flexnet::design::{Choice, CoreRule, Design, Item, Place, Take, View};

/// Two workers; all work goes to the queue of the first one.
struct AllToTheFirst {
    rule: CoreRule,
    after_turns: bool,
}

impl Design for AllToTheFirst {
    fn core_rule(&self) -> CoreRule {
        self.rule
    }
    fn queues(&self, workers: usize) -> usize {
        workers
    }
    fn place(&mut self, _: &View<'_>, _: &Item) -> Place {
        Place::Queue(0)
    }
    fn next(&mut self, view: &View<'_>, worker: usize) -> Option<Take> {
        (view.lengths[0] > 0).then_some(Take {
            queue: 0,
            more: 0,
            stolen: worker != 0,
        })
    }
    fn requeue(&mut self, _: &View<'_>, worker: usize, _: &Item) -> usize {
        worker
    }
    fn wakes_after_turns(&self) -> bool {
        self.after_turns
    }
    fn lends(&self) -> bool {
        true
    }
}

/// Mean latency of requests of 10 µs that come at these times, in µs.
fn mean_us(comes_us: &[u64], after_turns: bool) -> f64 {
    let mut setup = Setup::new("shinjuku:workers=2".parse().expect("a design"), 2);
    setup.costs = Costs::none();
    setup.costs.set("spin=2us,wake=3us").expect("costs");
    setup.warm_up = 0.0;
    let mut trace: Vec<_> = comes_us.iter().map(|at| (at * 1_000, 10_000)).collect();
    // The trace is as long as this one is late, and it does not come.
    trace.push((1_000_000, 1));
    setup.arrivals = Arrivals::Trace(trace);
    let rule = setup.design.core_rule();
    simulate_with(&setup, |_| Box::new(AllToTheFirst { rule, after_turns })).mean_us
}

#[test]
fn spinning_workers_answer_at_once_and_sleeping_ones_pay_the_wakeup() {
    // What happens; when requests come; latencies where work wakes an idle worker at once, and
    // where a worker does it after its turn. The first request ends at 10 µs.
    type Row = (&'static str, &'static [u64], &'static [u64], &'static [u64]);
    const ROWS: [Row; 6] = [
        ("the owner spins", &[0, 11], &[10, 10], &[10, 10]),
        ("the owner sleeps", &[0, 15], &[10, 13], &[10, 13]),
        ("the sibling spins on", &[0, 1], &[10, 10], &[10, 11]),
        // It is woken at 10 µs, and finds nothing at 13.
        ("one is behind", &[0, 5], &[10, 13], &[10, 15]),
        // The second of them is stolen at 13 µs.
        ("two are behind", &[0, 5, 6], &[10, 13, 14], &[10, 15, 17]),
        // The fourth waits for the thief until 20 µs, when the owner takes it.
        (
            "three are behind",
            &[0, 5, 6, 7],
            &[10, 13, 14, 21],
            &[10, 15, 17, 23],
        ),
    ];
    for (what, comes, at_once, after_turns) in ROWS {
        for (expected, after) in [(at_once, false), (after_turns, true)] {
            let expected = expected.iter().sum::<u64>() as f64 / expected.len() as f64;
            let mean = mean_us(comes, after);
            assert!(
                (mean - expected).abs() < 0.01,
                "{what}, {after}: {mean} µs, not {expected}"
            );
        }
    }
}

#[test]
fn the_default_design_wakes_after_turns_as_its_executors_do() {
    let wakes = |design: &str| {
        let choice: Choice = design.parse().expect("a design");
        choice.build(1).wakes_after_turns()
    };
    assert!(wakes("flexnet"));
    for design in ["netchannel", "snap", "shenango", "shinjuku"] {
        assert!(!wakes(design), "{design}");
    }
}
