// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The queues under loom: every interleaving within the bound, on the source
//! that ships.

use super::*;
use crate::sync::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use std::ptr::NonNull;

fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    // A lost wakeup shows as a sleeper that yields for ever.
    builder.max_branches = 5_000;
    builder.check(test);
}

/// Never freed: a mutant that takes an entry twice shows as one that is got twice.
struct Leaked(&'static Node<u32>);

fn leaked(value: u32) -> Leaked {
    Leaked(Box::leak(Node::boxed(value)))
}

// SAFETY: it stays, and the tests push each once.
unsafe impl Linked for Leaked {
    fn into_link(self) -> NonNull<Link> {
        NonNull::from(self.0).cast()
    }

    unsafe fn from_link(link: NonNull<Link>) -> Self {
        // SAFETY: as promised, of a node that is leaked.
        Self(unsafe { link.cast().as_ref() })
    }
}

#[test]
fn loom_run_queue_keeps_everything() {
    model(|| {
        let queue = Arc::new(RunQueue::new());
        let pushers: Vec<_> = (0..2u32)
            .map(|i| {
                let queue = queue.clone();
                thread::spawn(move || queue.push(leaked(i)))
            })
            .collect();
        let owner = queue.own().unwrap();
        let early = owner.pop();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        let rest = std::iter::from_fn(|| owner.pop());
        let mut got: Vec<u32> = early
            .into_iter()
            .chain(rest)
            .map(|node| node.0.value)
            .collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        assert!(queue.is_empty());
    });
}

/// A thread blocks the flow while another one wakes it: one of the two puts it into a run queue.
#[test]
fn loom_gate_a_wake_passes_a_block() {
    model(|| {
        let gate = Arc::new(Gate::new());
        let woken = Arc::new(AtomicU32::new(0));
        assert!(gate.enter_inline());
        let waker = {
            let (gate, woken) = (gate.clone(), woken.clone());
            thread::spawn(move || {
                woken.store(1, Ordering::Release);
                gate.wake()
            })
        };
        gate.block();
        gate.leave();
        let by_blocker = woken.load(Ordering::Acquire) != 0 && gate.unblock();
        let by_waker = waker.join().unwrap();
        assert!(by_blocker != by_waker);
    });
}

/// More than the inbox holds: what overflows is got once, too, and behind what was there.
#[test]
fn loom_run_queue_overflows() {
    model(|| {
        let queue = Arc::new(RunQueue::new());
        (0..2u32).for_each(|i| queue.push(leaked(i)));
        let pusher = {
            let queue = queue.clone();
            thread::spawn(move || (2..4).for_each(|i| queue.push(leaked(i))))
        };
        let owner = queue.own().unwrap();
        let early = owner.pop();
        pusher.join().unwrap();
        assert!(!queue.is_empty());
        let rest = std::iter::from_fn(|| owner.pop());
        let got: Vec<u32> = early
            .into_iter()
            .chain(rest)
            .map(|node| node.0.value)
            .collect();
        assert_eq!(got.len(), 4);
        assert_eq!(got[..2], [0, 1]);
        assert_eq!(got[2] + got[3], 5);
        assert!(queue.is_empty());
    });
}

/// The owner pushes and pops while a thief steals: each entry is got once.
#[test]
fn loom_thief_and_owner_exclude_each_other() {
    model(|| {
        let queue = Arc::new(RunQueue::new());
        let owner = queue.own().unwrap();
        owner.push(leaked(0u32));
        owner.push(leaked(1));
        let thief = {
            let queue = queue.clone();
            thread::spawn(move || {
                let mut got = Vec::new();
                let first = queue.steal(|value| got.push(value));
                got.extend(first);
                got
            })
        };
        let mut got: Vec<Leaked> = owner.pop().into_iter().collect();
        owner.push(leaked(2));
        got.extend(owner.pop());
        got.extend(thief.join().unwrap());
        got.extend(std::iter::from_fn(|| owner.pop()));
        let mut got: Vec<u32> = got.into_iter().map(|node| node.0.value).collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
    });
}

/// A thread that finds a queue without an owner, and its new owner, exclude each other.
#[test]
fn loom_new_owner_waits_for_who_takes() {
    model(|| {
        let queue = Arc::new(RunQueue::without_thieves());
        queue.push(leaked(0u32));
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.take_abandoned())
        };
        let owner = queue.own().unwrap();
        let mine = owner.pop();
        let others = other.join().unwrap();
        let rest = owner.pop();
        let got = [mine, others, rest].into_iter().flatten();
        let got: Vec<u32> = got.map(|node| node.0.value).collect();
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
