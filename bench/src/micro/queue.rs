// SPDX-License-Identifier: GPL-2.0-only
//! Queues of up to 1,024 eight-byte items. `queue-1`: one thread pushes 32 and pops
//! 32, ns for a push and a pop. `queue-x`: one thread pushes and another, on
//! another CPU, pops, ns an item.

use super::case::Case;
use anyhow::Result;
use crossbeam_queue::ArrayQueue;
use flexnet::queue::{Link, Linked, Owner, RunQueue};
use flexnet_command::measure::{Backoff, pin, two_cpus};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;
use tokio::sync::mpsc;

const CAPACITY: usize = 1024;
const BURST: u64 = 32;
const BURSTS: u64 = 10_000;
const ITEMS: u64 = 200_000;

/// The two ends of a queue.
trait Push: Send + 'static {
    fn push(&mut self, item: u64) -> bool;
}
trait Pop: Send + 'static {
    fn pop(&mut self) -> Option<u64>;
}

/// What is queued, as a flow is: it has its link and says whether it is in a queue.
#[derive(Default)]
#[repr(C, align(64))]
struct Entry {
    // First: a pointer to it is one to the entry.
    link: Link,
    queued: AtomicBool,
    item: AtomicU64,
}

// SAFETY: an entry is leaked, and only the thread that sets `queued` pushes it.
unsafe impl Linked for &'static Entry {
    #[inline]
    fn into_link(self) -> NonNull<Link> {
        NonNull::from(self).cast()
    }

    #[inline]
    unsafe fn from_link(link: NonNull<Link>) -> Self {
        // SAFETY: as promised, of an entry that is leaked.
        unsafe { link.cast().as_ref() }
    }
}

/// Has as many entries as the other queues have places.
struct Pusher {
    queue: &'static RunQueue<&'static Entry>,
    entries: &'static [Entry],
    next: usize,
}

impl Push for Pusher {
    #[inline]
    fn push(&mut self, item: u64) -> bool {
        let entry = &self.entries[self.next % CAPACITY];
        if entry.queued.load(Ordering::Acquire) {
            return false;
        }
        entry.queued.store(true, Ordering::Relaxed);
        entry.item.store(item, Ordering::Relaxed);
        self.queue.push(entry);
        self.next += 1;
        true
    }
}
impl Pop for Option<Owner<'static, &'static Entry>> {
    #[inline]
    fn pop(&mut self) -> Option<u64> {
        let entry = self.as_ref()?.pop()?;
        let item = entry.item.load(Ordering::Relaxed);
        entry.queued.store(false, Ordering::Release);
        Some(item)
    }
}
impl Push for Arc<ArrayQueue<u64>> {
    #[inline]
    fn push(&mut self, item: u64) -> bool {
        ArrayQueue::push(self, item).is_ok()
    }
}
impl Pop for Arc<ArrayQueue<u64>> {
    #[inline]
    fn pop(&mut self) -> Option<u64> {
        ArrayQueue::pop(self)
    }
}
impl Push for mpsc::Sender<u64> {
    #[inline]
    fn push(&mut self, item: u64) -> bool {
        self.try_send(item).is_ok()
    }
}
impl Pop for mpsc::Receiver<u64> {
    #[inline]
    fn pop(&mut self) -> Option<u64> {
        self.try_recv().ok()
    }
}

/// As executors use theirs: submitters push, the owner pops (and others steal).
fn run_queue() -> (impl Push, impl Pop) {
    // Kept: a few pages a sample.
    let queue: &'static RunQueue<&'static Entry> = Box::leak(Box::default());
    let entries = Vec::from_iter((0..CAPACITY).map(|_| Entry::default())).leak();
    let pusher = Pusher {
        queue,
        entries,
        next: 0,
    };
    (pusher, queue.own())
}

fn array_queue() -> (impl Push, impl Pop) {
    let queue = Arc::new(ArrayQueue::new(CAPACITY));
    (queue.clone(), queue)
}

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    cases.push(Case::new("queue-1", "flexnet", || Ok(alone(run_queue()))));
    cases.push(Case::new("queue-1", "crossbeam-ArrayQueue", || {
        Ok(alone(array_queue()))
    }));
    cases.push(Case::new("queue-1", "tokio-mpsc", || {
        Ok(alone(mpsc::channel(CAPACITY)))
    }));
    cases.push(Case::new("queue-x", "flexnet", || across(run_queue())));
    cases.push(Case::new("queue-x", "crossbeam-ArrayQueue", || {
        across(array_queue())
    }));
    cases.push(Case::new("queue-x", "tokio-mpsc", || {
        across(mpsc::channel(CAPACITY))
    }));
}

fn alone((mut pusher, mut popper): (impl Push, impl Pop)) -> f64 {
    let start = Instant::now();
    for burst in 0..BURSTS {
        for item in 0..BURST {
            black_box(pusher.push(black_box(burst + item)));
        }
        for _ in 0..BURST {
            black_box(popper.pop());
        }
    }
    start.elapsed().as_nanos() as f64 / (BURST * BURSTS) as f64
}

fn across((mut pusher, mut popper): (impl Push, impl Pop)) -> Result<f64> {
    let cpus = two_cpus()?;
    let barrier = Arc::new(Barrier::new(2));
    let ready = barrier.clone();
    let producer = thread::spawn(move || {
        pin(cpus[0]);
        let mut backoff = Backoff::default();
        ready.wait();
        for item in 0..ITEMS {
            while !pusher.push(item) {
                backoff.snooze();
            }
        }
        pusher
    });
    let consumer = thread::spawn(move || {
        pin(cpus[1]);
        let mut backoff = Backoff::default();
        barrier.wait();
        let start = Instant::now();
        for _ in 0..ITEMS {
            while popper.pop().map(black_box).is_none() {
                backoff.snooze();
            }
        }
        start.elapsed().as_nanos() as f64 / ITEMS as f64
    });
    let ns = consumer.join();
    let _ = producer.join();
    ns.map_err(|_| anyhow::anyhow!("the consumer panicked"))
}
