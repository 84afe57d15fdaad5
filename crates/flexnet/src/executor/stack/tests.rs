// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Designs on real executors: each one's own way, and switches under load.
//! Executors are held up by coroutines that block them, so that what is queued
//! behind, and in which order it is taken, does not depend on time.

use crate::coroutine::yield_now;
use crate::design::{Choice, CoreRule, Design, Item, Place, Take, View};
use crate::executor::{Flow, Runtime, Schedule};
use crate::transport::TcpFlow;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

fn runtime(design: &str, executors: usize) -> Runtime {
    let choice: Choice = design.parse().unwrap();
    let builder = Runtime::builder().name("test").executors(executors);
    builder.design(choice.build(1)).build().unwrap()
}

/// What an executor is held up by, until dropped.
type Blocked = Sender<()>;

/// Holds up the executor that serves `flow`; tells which one that is.
fn block(flow: &Flow) -> (Blocked, String) {
    let (release, released) = channel::<()>();
    let (name, named) = channel();
    flow.submit(async move {
        name.send(executor()).unwrap();
        let _ = released.recv();
    })
    .unwrap();
    (release, named.recv().unwrap())
}

/// The executor this runs on.
fn executor() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// A coroutine that says its number.
fn says(flow: &Flow, said: &Sender<u32>, number: u32) {
    let said = said.clone();
    flow.submit(async move { said.send(number).unwrap() })
        .unwrap();
}

fn hear<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(20), "in time");
        thread::yield_now();
    }
}

#[test]
fn shinjuku_takes_the_most_pressing_type() {
    let runtime = runtime("shinjuku:slo=4s,slo1=1us", 1);
    let flows: Vec<Flow> = (0..4).map(|_| runtime.flow().unwrap()).collect();
    let (blocked, _) = block(&runtime.flow().unwrap());
    let (said, heard) = channel();
    flows[3].set_kind(1);
    for (number, flow) in flows.iter().enumerate() {
        says(flow, &said, number as u32);
    }
    drop(blocked);
    let order: Vec<u32> = (0..4).map(|_| hear(&heard)).collect();
    assert_eq!(order, [3, 0, 1, 2]);
}

#[test]
fn shinjuku_keeps_the_arrival_of_what_is_preempted() {
    let runtime = runtime("shinjuku", 1);
    let (first, other) = (runtime.flow().unwrap(), runtime.flow().unwrap());
    other.set_kind(1);
    let (blocked, _) = block(&runtime.flow().unwrap());
    let (said, heard) = channel();
    let says_twice = said.clone();
    first
        .submit(async move {
            says_twice.send(1).unwrap();
            yield_now().await;
            says_twice.send(2).unwrap();
        })
        .unwrap();
    // Of another type and as pressing, but later: with the arrival of its
    // return the first would have to wait for it.
    says(&other, &said, 3);
    drop(blocked);
    let order: Vec<u32> = (0..3).map(|_| hear(&heard)).collect();
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn snap_engines_are_not_stolen_from() {
    let runtime = runtime("snap:mode=dedicating,engines=2", 2);
    let flows: Vec<Flow> = (0..4).map(|_| runtime.flow().unwrap()).collect();
    let (blocked, busy) = block(&flows[0]);
    let (sender, receiver) = channel();
    for (number, flow) in flows.iter().enumerate() {
        let sender = sender.clone();
        flow.submit(async move { sender.send((number, executor())).unwrap() })
            .unwrap();
    }
    // The other engine's go on, this one's wait for it alone.
    for _ in 0..2 {
        let (number, by) = hear(&receiver);
        assert_eq!(number % 2, 1);
        assert_ne!(by, busy);
    }
    drop(blocked);
    for _ in 0..2 {
        let (number, by) = hear(&receiver);
        assert_eq!((number % 2, by), (0, busy.clone()));
    }
}

#[test]
fn shenango_steals_half_of_a_busy_sibling() {
    let runtime = runtime("shenango", 2);
    let flows: Vec<Flow> = (0..16).map(|_| runtime.flow().unwrap()).collect();
    let (_blocked, busy) = block(&flows[0]);
    let (sender, receiver) = channel();
    for flow in &flows[1..] {
        let sender = sender.clone();
        flow.submit(async move { sender.send(executor()).unwrap() })
            .unwrap();
    }
    // Half of them are the busy one's by their hash.
    for _ in 1..16 {
        assert_ne!(hear(&receiver), busy);
    }
}

#[test]
fn netchannel_senders_wait_for_room_in_a_channel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = runtime("netchannel:queued=2", 1);
    let tcp = |_| TcpFlow::connect(&runtime, address).unwrap();
    let flows: Vec<TcpFlow> = (0..3).map(tcp).collect();
    let (blocked, _) = block(&runtime.flow().unwrap());
    for flow in &flows[..2] {
        assert_eq!(flow.try_send(b"first").unwrap(), 5);
        assert_eq!(flow.try_send(b"second").unwrap(), 6, "its unit has room");
    }
    // The third finds the channel full: what it gave is kept, and it waits.
    let third = &flows[2];
    let (returned, returns) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            third.send_blocking(b"third").unwrap();
            returned.send(()).unwrap();
        });
        until(|| third.flow().0.is_held());
        let error = third.try_send(b"more").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        assert!(returns.try_recv().is_err());
        drop(blocked);
        hear(&returns);
    });
    third.flush_blocking().unwrap();
    drop(flows);
    let received = (0..3).map(|_| {
        let mut text = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut text)
            .unwrap();
        text
    });
    assert_eq!(received.collect::<String>(), "firstsecondfirstsecondthird");
}

/// A flow goes once a gap, in one queue.
struct Pacing {
    gap_ns: u64,
    next_ns: u64,
}

impl Design for Pacing {
    fn core_rule(&self) -> CoreRule {
        CoreRule::default()
    }
    fn queues(&self, _: usize) -> usize {
        1
    }
    fn place(&mut self, view: &View<'_>, _: &Item) -> Place {
        let at_ns = self.next_ns.max(view.now_ns);
        self.next_ns = at_ns + self.gap_ns;
        Place::Later { at_ns, queue: 0 }
    }
    fn next(&mut self, view: &View<'_>, _: usize) -> Option<Take> {
        (view.queued > 0).then(|| Take::own(0))
    }
    fn requeue(&mut self, _: &View<'_>, _: usize, _: &Item) -> usize {
        0
    }
}

#[test]
fn a_design_of_ones_own_paces() {
    let gap_ns = 5_000_000;
    let builder = Runtime::builder().executors(2);
    let runtime = builder
        .design(Box::new(Pacing { gap_ns, next_ns: 0 }))
        .build()
        .unwrap();
    assert_eq!(runtime.design(), "own");
    let (said, heard) = channel();
    let start = Instant::now();
    let flows: Vec<Flow> = (0..10).map(|_| runtime.flow().unwrap()).collect();
    for (number, flow) in flows.iter().enumerate() {
        says(flow, &said, number as u32);
    }
    for number in 0..10 {
        assert_eq!(hear(&heard), number);
    }
    // Never faster; how much slower is the machine's business.
    assert!(start.elapsed() >= Duration::from_nanos(9 * gap_ns));
}

#[test]
fn what_is_paced_or_held_is_done_at_the_end() {
    let builder = Runtime::builder().executors(2);
    let far = Pacing {
        gap_ns: 3_600_000_000_000,
        next_ns: 0,
    };
    let runtime = builder.design(Box::new(far)).build().unwrap();
    let (said, heard) = channel();
    for number in 0..3 {
        says(&runtime.flow().unwrap(), &said, number);
    }
    runtime.shutdown();
    drop(said);
    assert_eq!(heard.iter().count(), 3);
}

/// Streams of numbered words while the page names one design after another.
#[test]
fn designs_are_switched_under_load() {
    const WORDS: u64 = 60_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = Runtime::builder().executors(3).build().unwrap();
    let page = &runtime.shared().pages().current().design;
    let start = Barrier::new(4);
    thread::scope(|scope| {
        let mut senders = Vec::new();
        for _ in 0..3 {
            let flow = TcpFlow::connect(&runtime, address).unwrap();
            let mut stream: TcpStream = listener.accept().unwrap().0;
            let start = &start;
            senders.push(scope.spawn(move || {
                start.wait();
                for word in 0..WORDS {
                    flow.send_blocking(&word.to_ne_bytes()).unwrap();
                }
                flow.close_blocking().unwrap();
            }));
            scope.spawn(move || {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                let words = bytes.chunks_exact(8);
                assert_eq!(words.len() as u64, WORDS);
                for (at, word) in words.enumerate() {
                    assert_eq!(word, (at as u64).to_ne_bytes());
                }
            });
        }
        start.wait();
        let designs = [
            "snap",
            "netchannel:queued=1",
            "shenango",
            "flexnet",
            "shinjuku:mode=jbsq",
            "snap:mode=spreading,engines=2",
            "shinjuku",
            "snap:mode=dedicating",
        ];
        let mut switches = 0;
        while !senders.iter().all(|sender| sender.is_finished()) {
            let design = designs[switches % designs.len()];
            page.write(design);
            switches += 1;
            // Each is on for some work.
            let done = runtime.depth();
            let moved = || runtime.depth() != done;
            let begun = Instant::now();
            while !moved() && begun.elapsed() < Duration::from_millis(1) {
                thread::yield_now();
            }
        }
        assert!(switches >= designs.len());
    });
    assert_eq!(runtime.depth(), 0);
}

#[test]
fn executors_that_sleep_follow_a_switch() {
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let flows: Vec<Flow> = (0..4).map(|_| runtime.flow().unwrap()).collect();
    let (said, heard) = channel();
    let page = &runtime.shared().pages().current().design;
    let designs = ["snap", "flexnet", "snap:mode=dedicating", "shinjuku"];
    for number in 0..400 {
        page.write(designs[number % designs.len()]);
        // One that another design may have asked to sleep.
        says(&flows[number % 3], &said, number as u32);
        assert_eq!(hear(&heard), number as u32);
        until(|| runtime.design() == designs[number % designs.len()]);
    }
}

#[test]
fn an_executor_that_parks_between_two_sends_is_woken() {
    // Each word finds the executors about to park, or parked.
    for design in ["shinjuku:mode=jbsq", "snap", "shenango", "netchannel"] {
        let runtime = Arc::new(runtime(design, 2));
        let flow = runtime.flow().unwrap();
        let (said, heard) = channel();
        for number in 0..3_000 {
            says(&flow, &said, number);
            assert_eq!(hear(&heard), number, "{design}");
        }
    }
}
