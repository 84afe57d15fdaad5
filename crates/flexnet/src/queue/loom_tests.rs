// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The queues under loom: every interleaving within the bound, on the source
//! that ships.

use super::*;
use crate::sync::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;

fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    // A lost wakeup shows as a sleeper that yields for ever.
    builder.max_branches = 5_000;
    builder.check(test);
}

#[test]
fn loom_run_queue_keeps_everything() {
    model(|| {
        let queue = Arc::new(RunQueue::new(2));
        let pushers: Vec<_> = (0..2u32)
            .map(|i| {
                let queue = queue.clone();
                thread::spawn(move || queue.push(i).is_ok())
            })
            .collect();
        let owner = queue.own().unwrap();
        let early = owner.pop();
        for pusher in pushers {
            assert!(pusher.join().unwrap(), "two fit");
        }
        let mut got: Vec<u32> = early.into_iter().collect();
        got.extend(std::iter::from_fn(|| owner.pop()));
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
    });
}

/// The owner pushes and pops while a thief steals: each entry is got once.
#[test]
fn loom_thief_and_owner_exclude_each_other() {
    model(|| {
        let queue = Arc::new(RunQueue::new(2));
        let owner = queue.own().unwrap();
        assert!(owner.push(0u32).is_ok() && owner.push(1).is_ok());
        let thief = {
            let queue = queue.clone();
            thread::spawn(move || {
                let mut got = Vec::new();
                let first = queue.steal(|value| got.push(value));
                got.extend(first);
                got
            })
        };
        let mut got: Vec<u32> = owner.pop().into_iter().collect();
        assert!(owner.push(2).is_ok());
        got.extend(owner.pop());
        got.extend(thief.join().unwrap());
        got.extend(std::iter::from_fn(|| owner.pop()));
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
    });
}

/// A thread that finds a queue without an owner, and its new owner, exclude each other.
#[test]
fn loom_new_owner_waits_for_who_takes() {
    model(|| {
        let queue = Arc::new(RunQueue::without_thieves(2));
        assert!(queue.push(0u32).is_ok());
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.take_abandoned())
        };
        let owner = queue.own().unwrap();
        let mine = owner.pop();
        let others = other.join().unwrap();
        let rest = owner.pop();
        let got: Vec<u32> = [mine, others, rest].into_iter().flatten().collect();
        assert_eq!(got, [0]);
    });
}

/// An executor that sleeps when the queue is empty sees the push.
#[test]
fn loom_parking_loses_no_wakeup() {
    model(|| {
        let shared = Arc::new((Parker::new(), AtomicU32::new(0)));
        let executor = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (parker, work) = &*shared;
                while work.load(Ordering::Relaxed) == 0 {
                    parker.prepare(Sleep::Futex);
                    if work.load(Ordering::Relaxed) != 0 {
                        parker.cancel();
                    } else {
                        parker.sleep(None);
                    }
                }
            })
        };
        shared.1.store(1, Ordering::Relaxed);
        shared.0.unpark();
        executor.join().unwrap();
    });
}

/// What two submitters push is drained by the thread that was notified, one at a time, and
/// nothing stays behind when all is quiet.
#[test]
fn loom_gate_leaves_nothing_behind() {
    model(|| {
        #[derive(Default)]
        struct Flow {
            gate: Gate,
            pushed: AtomicU32,
            drained: AtomicU32,
            draining: AtomicU32,
        }
        impl Flow {
            fn is_empty(&self) -> bool {
                self.pushed.load(Ordering::Relaxed) == self.drained.load(Ordering::Relaxed)
            }
            /// As an executor does that took the flow from its run queue.
            fn serve(&self) {
                while self.gate.enter() {
                    assert_eq!(
                        self.draining.fetch_add(1, Ordering::Relaxed),
                        0,
                        "two drain"
                    );
                    let there = self.pushed.load(Ordering::Acquire);
                    self.drained.store(there, Ordering::Relaxed);
                    self.draining.fetch_sub(1, Ordering::Relaxed);
                    self.gate.leave();
                    if self.is_empty() || !self.gate.notify_left() {
                        return;
                    }
                }
            }
            fn submit(&self) {
                self.pushed.fetch_add(1, Ordering::Release);
                if self.gate.notify() {
                    self.serve();
                }
            }
        }
        let flow = Arc::new(Flow::default());
        let submitter = {
            let flow = flow.clone();
            thread::spawn(move || flow.submit())
        };
        flow.submit();
        submitter.join().unwrap();
        assert!(flow.is_empty(), "work left behind");
    });
}
