// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! 100,000 flows: an idle one takes little memory, and each gets its turn when all have work.
//! A test binary of its own, since it measures the memory of all of it.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::executor::{Builder, Flow, Runtime};
use flexnet::transport::TcpFlow;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Memory of this process in RAM, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<usize>().ok()).unwrap() * 1024
}

fn builder() -> Builder {
    Runtime::builder().linger(Duration::from_millis(100))
}

/// An idle flow takes less than this, bytes.
const IDLE_BYTES: usize = 4096;

fn expect_small(before: usize, flows: usize, what: &str) {
    let each = resident().saturating_sub(before) / flows;
    println!("{what}: {each} bytes each");
    assert!(each < IDLE_BYTES, "{what}: {each} bytes each");
}

/// One test, since memory is the process's. The sockets first, before there is memory to use again.
#[test]
fn many_flows_take_little_and_each_gets_its_turn() {
    idle_sockets();
    const FLOWS: usize = 100_000;
    let runtime = builder()
        .executors(2)
        .coroutines(FLOWS as u32)
        .build()
        .unwrap();
    let before = resident();
    let flows: Vec<Flow> = (0..FLOWS).map(|_| runtime.flow().unwrap()).collect();
    expect_small(before, FLOWS, "flows without a socket");
    let ran = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    for round in 1..=3 {
        for flow in &flows {
            let ran = ran.clone();
            let runs = async move {
                ran.fetch_add(1, Ordering::Release);
            };
            flow.submit(runs).unwrap();
        }
        while ran.load(Ordering::Acquire) < round * FLOWS as u64 {
            assert!(start.elapsed() < Duration::from_secs(100), "each ran");
            thread::yield_now();
        }
    }
    expect_small(before, FLOWS, "flows that ran a coroutine each");
    drop(flows);
    runtime.shutdown();
}

fn idle_sockets() {
    // As many as the usual limit of descriptors allows.
    const SOCKETS: usize = 400;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = builder().build().unwrap();
    let pair = |_| {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (stream, listener.accept().unwrap().0)
    };
    let (streams, _peers): (Vec<_>, Vec<_>) = (0..SOCKETS).map(pair).unzip();
    let before = resident();
    let flows: Vec<_> = streams
        .into_iter()
        .map(|stream| TcpFlow::adopt(&runtime, stream).unwrap())
        .collect();
    for flow in &flows {
        flow.send_blocking(b"a request").unwrap();
        flow.flush_blocking().unwrap();
    }
    expect_small(before, SOCKETS, "flows of TCP sockets");
}
