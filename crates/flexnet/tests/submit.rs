// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What is submitted runs on executors alone, when the design says, however many flows there are.
//!
//! Executors are held up by coroutines that block them, so nothing here depends on time.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::design::{CoreRule, Design, Item, Place, Take, View};
use flexnet::executor::{Flow, Refusal, Runtime};
use flexnet::transport::TcpFlow;
use std::io::Read;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
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
    let (sender, receiver) = mpsc::channel();
    let said = sender.clone();
    let refused = flow.submit(async move { said.send(None).unwrap() });
    let refused = refused.unwrap_err();
    assert_eq!(refused.refusal, Refusal::Full);
    let waits = async move {
        let submitted = full.submit_when_room(refused.into_inner()).await;
        let submitted = submitted.map_err(|refused| refused.refusal);
        sender.send(Some(submitted)).unwrap();
    };
    waiting.submit(waits).unwrap();
    drop(blocked);
    let mut heard = [hear(&receiver), hear(&receiver)];
    heard.sort_by_key(Option::is_some);
    assert_eq!(heard, [None, Some(Ok(()))]);
}

/// A coroutine that says which it was when it is resumed, in a cell or (large) in a box.
fn says(number: usize, sender: &Sender<usize>) -> impl Future<Output = ()> + Send + use<> {
    let sender = sender.clone();
    async move { sender.send(number).unwrap() }
}

fn says_at_length(
    number: usize,
    sender: &Sender<usize>,
) -> impl Future<Output = ()> + Send + use<> {
    let (sender, large) = (sender.clone(), [number; 512]);
    async move { sender.send(large[511]).unwrap() }
}

/// Resumed here, to its end.
fn finish(coroutine: impl Future<Output = ()>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(coroutine).poll(&mut context).is_ready());
}

#[test]
fn what_is_refused_is_given_back_and_nothing_is_lost() {
    let (sender, receiver) = mpsc::channel();
    // More cells than the ring has places, and the other way round.
    for (cells, refusal) in [(6_000, Refusal::Full), (40, Refusal::Cells)] {
        let mut given_back = 0;
        let runtime = Runtime::builder().coroutines(cells).build().unwrap();
        let flow = runtime.flow().unwrap();
        let blocked = block(&runtime);
        for number in 0.. {
            let refused = match number % 2 {
                0 => flow.submit(says(number, &sender)).map_err(|refused| {
                    assert_eq!(refused.refusal, refusal);
                    finish(refused.into_inner());
                }),
                _ => flow
                    .submit(says_at_length(number, &sender))
                    .map_err(|refused| {
                        assert_eq!(refused.refusal, refusal);
                        finish(refused.into_inner());
                    }),
            };
            given_back += usize::from(refused.is_err());
            // More often than there are cells: each time the cell is free again.
            if given_back > cells as usize {
                drop(blocked);
                flow.flush_blocking().unwrap();
                let mut heard: Vec<_> = (0..=number).map(|_| hear(&receiver)).collect();
                heard.sort_unstable();
                assert!(heard.iter().copied().eq(0..=number));
                break;
            }
        }
        assert!(receiver.try_recv().is_err(), "each ran once");
        runtime.shutdown();
        let refused = flow.submit(says(7, &sender)).unwrap_err();
        assert_eq!(refused.refusal, Refusal::Stopped);
        finish(refused.into_inner());
        finish(async {
            let refused = flow.submit_when_room(says_at_length(8, &sender)).await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.refusal, Refusal::Stopped);
            refused.into_inner().await;
        });
        assert_eq!([hear(&receiver), hear(&receiver)], [7, 8]);
    }
}

#[test]
fn one_who_waited_for_room_gets_the_coroutine_back_at_the_end() {
    let runtime = Runtime::builder().linger(Duration::ZERO).build().unwrap();
    let flow = runtime.flow().unwrap();
    let blocked = block(&runtime);
    while flow.submit(async {}).is_ok() {}
    let (sender, receiver) = mpsc::channel();
    let mut waits = Box::pin(flow.submit_when_room(says(5, &sender)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waits.as_mut().poll(&mut context).is_pending());
    drop(blocked);
    runtime.shutdown();
    let Poll::Ready(Err(refused)) = waits.as_mut().poll(&mut context) else {
        panic!("it waits, or was accepted");
    };
    assert_eq!(refused.refusal, Refusal::Stopped);
    finish(refused.into_inner());
    assert_eq!(hear(&receiver), 5);
}
