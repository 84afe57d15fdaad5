// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Large sends that the scheduler's "saturated" gives back to their
//! callers, over real sockets.

use super::TcpFlow;
use crate::abi::{FlowClass, Page};
use crate::executor::{Flow, Link, PageRef, Runtime};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Stands in for the scheduler: says whether cores are saturated.
struct SaturationLink {
    page: PageRef,
    generation: AtomicU64,
}

impl SaturationLink {
    fn new() -> Arc<Self> {
        // SAFETY: a page of zeros is valid: integers and atomics only; leaked,
        // so it stays.
        let page = unsafe {
            let page = Box::<MaybeUninit<Page>>::new(MaybeUninit::zeroed()).assume_init();
            PageRef::new(NonNull::from(Box::leak(page)))
        };
        Arc::new(Self {
            page,
            generation: AtomicU64::new(1),
        })
    }

    fn set_saturated(&self, saturated: bool) {
        let flag = &self.page.get().grant.saturated;
        flag.store(saturated.into(), Ordering::Relaxed);
    }
}

impl Link for SaturationLink {
    fn page(&self) -> Option<PageRef> {
        Some(self.page)
    }
    fn register(&self, _: u32, _: FlowClass) -> io::Result<()> {
        Ok(())
    }
    fn unregister(&self, _: u32) {}
    fn generation(&self) -> &AtomicU64 {
        &self.generation
    }
    fn attached(&self) -> bool {
        true
    }
    fn set_waker(&self, _: Box<dyn Fn() + Send + Sync>) {}
}

const BYTES: usize = 32 * 1024 * 1024;

fn byte_at(i: usize) -> u8 {
    (i / 251 * 7 + i) as u8
}

struct Setup {
    link: Arc<SaturationLink>,
    runtime: Runtime,
    flow: TcpFlow,
}

fn setup() -> (Setup, TcpStream) {
    let link = SaturationLink::new();
    let runtime = Runtime::builder().link(link.clone()).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = TcpFlow::connect(&runtime, listener.local_addr().unwrap()).unwrap();
    let peer = listener.accept().unwrap().0;
    let setup = Setup {
        link,
        runtime,
        flow,
    };
    (setup, peer)
}

/// Reads until what was handed over was given back: no executor has work any
/// more, and most of it is not sent yet. How much was read.
fn read_until_given_back(setup: &Setup, mut peer: &TcpStream) -> usize {
    let (mut buffer, mut read) = (vec![0; 64 * 1024], 0);
    let end = Instant::now() + Duration::from_secs(20);
    let mut expect = || {
        let bytes = peer.read(&mut buffer).unwrap();
        assert!((0..bytes).all(|i| buffer[i] == byte_at(read + i)));
        read += bytes;
        read
    };
    expect();
    assert_eq!(setup.runtime.depth(), 1, "an executor has it");
    setup.link.set_saturated(true);
    while setup.runtime.depth() > 0 {
        assert!(expect() < BYTES / 2, "the executor goes on with it");
        assert!(Instant::now() < end);
    }
    read
}

/// Lets an executor go on once a large send waits behind what it runs. It has that send then.
fn release_behind(setup: &Setup, release: Sender<()>) {
    let end = Instant::now() + Duration::from_secs(20);
    while setup.runtime.depth() < 2 {
        assert!(Instant::now() < end, "nothing waits behind the coroutine");
        std::thread::yield_now();
    }
    drop(release);
    while setup.runtime.depth() > 1 {
        assert!(Instant::now() < end, "the coroutine goes on");
        std::thread::yield_now();
    }
}

/// Occupies the only executor until the sender is dropped.
fn occupy(runtime: &Runtime) -> Sender<()> {
    occupy_with(&runtime.flow().unwrap())
}

/// The same by a coroutine of this flow: a large send has to wait behind it.
fn occupy_with(flow: &Flow) -> Sender<()> {
    let (release, released) = channel();
    let (started, starts) = channel();
    flow.submit(async move {
        started.send(()).unwrap();
        released.recv().ok();
    })
    .unwrap();
    starts.recv().unwrap();
    release
}

#[test]
fn the_caller_sends_the_rest_of_what_is_given_back() {
    let (setup, peer) = setup();
    let data: Vec<u8> = (0..BYTES).map(byte_at).collect();
    std::thread::scope(|scope| {
        // Closed before the sender is waited for, also by a failure.
        let mut peer = peer;
        let before = occupy_with(setup.flow.flow());
        let sent = scope.spawn(|| {
            setup.flow.send_blocking(&data)?;
            setup.flow.send_blocking(b"and what comes next")
        });
        release_behind(&setup, before);
        let read = read_until_given_back(&setup, &peer);
        let release = occupy(&setup.runtime);
        let mut rest = vec![0; BYTES - read];
        peer.read_exact(&mut rest).unwrap();
        assert!((0..rest.len()).all(|i| rest[i] == byte_at(read + i)));
        drop(release);
        let mut next = [0; 19];
        peer.read_exact(&mut next).unwrap();
        assert_eq!(&next, b"and what comes next");
        sent.join().unwrap().unwrap();
    });
    assert_eq!(setup.runtime.shutdown(), 0, "flows that were given up");
}

#[test]
fn a_caller_hears_of_a_peer_that_goes() {
    let (setup, peer) = setup();
    let data: Vec<u8> = (0..BYTES).map(byte_at).collect();
    std::thread::scope(|scope| {
        // Closed before the sender is waited for, also by a failure.
        let peer = peer;
        let before = occupy_with(setup.flow.flow());
        let sent = scope.spawn(|| setup.flow.send_blocking(&data));
        release_behind(&setup, before);
        read_until_given_back(&setup, &peer);
        let _occupied = occupy(&setup.runtime);
        // With unread bytes: a reset.
        drop(peer);
        assert!(sent.join().unwrap().is_err());
    });
    assert!(setup.flow.try_send(b"x").is_err(), "the error stays");
    assert_eq!(setup.runtime.shutdown(), 0, "flows that were given up");
}

/// An executor would do nothing that the waiting thread cannot do at once.
#[test]
fn a_waiting_thread_sends_by_itself() {
    let (setup, peer) = setup();
    let data: Vec<u8> = (0..BYTES).map(byte_at).collect();
    std::thread::scope(|scope| {
        let _release = occupy(&setup.runtime);
        // Closed before the sender is waited for, also by a failure.
        let mut peer = peer;
        peer.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let sent = scope.spawn(|| setup.flow.send_blocking(&data));
        let mut all = vec![0; BYTES];
        peer.read_exact(&mut all).unwrap();
        assert!(all == data);
        sent.join().unwrap().unwrap();
    });
}
