// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What is submitted runs on executors alone, when the design says, however many flows there are.
//!
//! Executors are held up by coroutines that block them, so nothing here depends on time.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::design::{CoreRule, Design, Item, Place, Take, View};
use flexnet::executor::{Flow, Runtime, SubmitError};
use flexnet::transport::TcpFlow;
use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// More than an executor's queue, and a design's, were made for.
const MANY: usize = 6_000;

fn flows(runtime: &Runtime, count: usize) -> Vec<Flow> {
    (0..count).map(|_| runtime.flow().unwrap()).collect()
}

/// Holds up the only executor until the sender is dropped.
fn block(runtime: &Runtime) -> Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    let blocking = async move {
        started.send(()).unwrap();
        released.recv().ok();
    };
    runtime.flow().unwrap().submit(blocking).unwrap();
    starts.recv().unwrap();
    release
}

fn hear<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(Duration::from_secs(60)).unwrap()
}

/// Submits to each flow while holding what its coroutine wants, and says where those ran.
fn submit_under_a_lock(runtime: &Runtime, count: usize, blocked: Option<Sender<()>>) {
    let flows = flows(runtime, count);
    let (sender, receiver) = mpsc::channel();
    let table = Arc::new(Mutex::new(0));
    {
        let _held = table.lock().unwrap();
        for flow in &flows {
            let (table, sender) = (table.clone(), sender.clone());
            let adds = async move {
                *table.lock().unwrap() += 1;
                sender.send(thread::current().id()).unwrap();
            };
            flow.submit(adds).unwrap();
        }
    }
    drop((blocked, sender));
    for _ in 0..count {
        assert_ne!(hear(&receiver), thread::current().id());
    }
    assert_eq!(*table.lock().unwrap(), count);
}

#[test]
fn a_submitter_may_hold_a_lock_that_coroutines_want() {
    for executors in [1, 2] {
        let builder = Runtime::builder().executors(executors);
        let runtime = builder.coroutines(MANY as u32 + 8).build().unwrap();
        submit_under_a_lock(&runtime, MANY, None);
        if executors == 1 {
            let blocked = block(&runtime);
            submit_under_a_lock(&runtime, MANY, Some(blocked));
        }
    }
}

/// Says always the same, and has one queue.
struct Says(fn(&View<'_>) -> Place);

impl Design for Says {
    fn core_rule(&self) -> CoreRule {
        CoreRule::default()
    }
    fn queues(&self, _: usize) -> usize {
        1
    }
    fn place(&mut self, view: &View<'_>, _: &Item) -> Place {
        (self.0)(view)
    }
    fn next(&mut self, view: &View<'_>, _: usize) -> Option<Take> {
        (view.queued > 0).then(|| Take::own(0))
    }
    fn requeue(&mut self, _: &View<'_>, _: usize, _: &Item) -> usize {
        0
    }
    fn unit_bytes(&self) -> usize {
        1
    }
    fn inlines(&self) -> bool {
        true
    }
}

const LATER: Duration = Duration::from_millis(300);

#[test]
fn later_is_later_for_any_number_of_flows() {
    let later = |view: &View<'_>| Place::Later {
        at_ns: view.now_ns + LATER.as_nanos() as u64,
        queue: 0,
    };
    let builder = Runtime::builder().coroutines(MANY as u32);
    let runtime = builder.design(Box::new(Says(later))).build().unwrap();
    let flows = flows(&runtime, MANY);
    let (sender, receiver) = mpsc::channel();
    for flow in &flows {
        let (sender, start) = (sender.clone(), Instant::now());
        let waited = async move { sender.send(start.elapsed()).unwrap() };
        flow.submit(waited).unwrap();
    }
    for _ in &flows {
        assert!(hear(&receiver) >= LATER);
    }
}

#[test]
fn a_coroutine_is_not_its_senders_even_if_the_design_leaves_work_to_senders() {
    let builder = Runtime::builder().design(Box::new(Says(|_| Place::Inline)));
    let runtime = builder.build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = TcpFlow::connect(&runtime, listener.local_addr().unwrap()).unwrap();
    let mut peer = listener.accept().unwrap().0;
    let (sender, receiver) = mpsc::channel();
    for _ in 0..100 {
        flow.send_blocking(b"before ").unwrap();
        let sender = sender.clone();
        let says = async move { sender.send(thread::current().id()).unwrap() };
        flow.flow().submit(says).unwrap();
        flow.send_blocking(b"after").unwrap();
        assert_ne!(hear(&receiver), thread::current().id());
        flow.flush_blocking().unwrap();
    }
    flow.close_blocking().unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before after".repeat(100));
}

#[test]
fn a_sender_that_finds_the_ring_full_runs_nothing_of_it() {
    let runtime = Runtime::builder().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = TcpFlow::connect(&runtime, listener.local_addr().unwrap()).unwrap();
    let _peer = listener.accept().unwrap();
    let blocked = block(&runtime);
    let (sender, receiver) = mpsc::channel();
    let says = async move { sender.send(thread::current().id()).unwrap() };
    flow.flow().submit(says).unwrap();
    while flow.try_send(&[1; 4096]).is_ok() {}
    assert!(receiver.try_recv().is_err(), "the executor is held up");
    drop(blocked);
    assert_ne!(hear(&receiver), thread::current().id());
}

#[test]
fn a_submitter_can_wait_for_room() {
    let runtime = Runtime::builder().build().unwrap();
    let (flow, waiting) = (runtime.flow().unwrap(), runtime.flow().unwrap());
    let full = flow.clone();
    let blocked = block(&runtime);
    while flow.submit(async {}).is_ok() {}
    assert_eq!(flow.submit(async {}), Err(SubmitError::Full));
    let (sender, receiver) = mpsc::channel();
    let waits = async move {
        let said = sender.clone();
        let submitted = full.submit_when_room(async move { said.send(None).unwrap() });
        sender.send(Some(submitted.await)).unwrap();
    };
    waiting.submit(waits).unwrap();
    drop(blocked);
    let mut heard = [hear(&receiver), hear(&receiver)];
    heard.sort_by_key(Option::is_some);
    assert_eq!(heard, [None, Some(Ok(()))]);
}
