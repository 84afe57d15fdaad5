// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The coroutines of both transports on real executors, over sockets that fail.

use super::datagram::DatagramDrain;
use super::fake::{Fake, FakeDatagrams};
use super::handover::Completion;
use super::stream::StreamDrain;
use crate::executor::{Drain, Flow, Output, Runtime, block_on};
use crate::queue::RecordKind;
use std::future::poll_fn;
use std::task::Poll;

fn flow(runtime: &Runtime, drain: Box<dyn Drain>) -> Flow {
    {
        let shared = runtime.started().unwrap();
        Flow(shared.new_flow(shared.ring(64 * 1024), drain))
    }
}

fn submit(flow: &Flow, kind: RecordKind, data: u64, payload: &[u8]) {
    while flow.0.submit(kind, data, payload).is_err() {
        std::thread::yield_now();
    }
}

fn wait_drained(flow: &Flow) {
    let tail = flow.0.ring().tail();
    let drained = poll_fn(|context| {
        flow.0.waiters().register(context.waker());
        if flow.0.is_drained_to(tail) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    block_on(drained, None);
}

fn message(i: usize) -> Vec<u8> {
    vec![i as u8; 1 + i * 7919 % 3000]
}

#[test]
fn a_stream_keeps_its_bytes_through_every_trouble() {
    for seed in 0..8 {
        let runtime = Runtime::builder().executors(2).build().unwrap();
        let socket = Fake::new(seed);
        let flow = flow(&runtime, Box::new(StreamDrain::new(socket.clone())));
        let mut expected = Vec::new();
        for i in 0..500 {
            submit(&flow, RecordKind::Bytes, 0, &message(i));
            expected.extend_from_slice(&message(i));
            if i % 50 == 0 {
                let large: Vec<u8> = (0..40_000u32).map(|n| (n ^ i as u32) as u8).collect();
                let completion = Completion::new(&large);
                submit(&flow, RecordKind::Handover, completion.to_bits(), &[]);
                while completion.result().is_none() {
                    completion.wait(None);
                }
                expected.extend_from_slice(&large);
            }
        }
        wait_drained(&flow);
        assert!(socket.taken() == expected, "seed {seed}: bytes differ");
        assert_eq!(runtime.depth(), 0);
    }
}

#[test]
fn outputs_keep_their_bytes_through_every_trouble() {
    for seed in 0..8 {
        let runtime = Runtime::builder().executors(2).build().unwrap();
        let socket = Fake::new(seed);
        let flow = flow(&runtime, Box::new(StreamDrain::new(socket.clone())));
        let mut expected = Vec::new();
        for i in 0..300 {
            let bytes = if i % 20 == 0 {
                vec![i as u8; 50_000]
            } else {
                message(i)
            };
            expected.extend_from_slice(&bytes);
            if i % 3 == 0 && bytes.len() < 10_000 {
                submit(&flow, RecordKind::Bytes, 0, &bytes);
                continue;
            }
            let work = flow.with_output(async move |mut output: Output| {
                output.write_all(&bytes).await.unwrap();
                if bytes.len() % 2 == 0 {
                    output.flush().await.unwrap();
                }
            });
            block_on(flow.submit_when_room(work), None)
                .unwrap()
                .unwrap();
        }
        wait_drained(&flow);
        assert!(socket.taken() == expected, "seed {seed}: bytes differ");
        assert_eq!(runtime.depth(), 0);
    }
}

#[test]
fn coroutines_run_between_the_sends_they_were_submitted_between() {
    let runtime = Runtime::builder().build().unwrap();
    let socket = Fake::new(3);
    let flow = flow(&runtime, Box::new(StreamDrain::new(socket.clone())));
    let (sender, seen) = std::sync::mpsc::channel();
    let mut sent = 0;
    for i in 0..50 {
        submit(&flow, RecordKind::Bytes, 0, &message(i));
        sent += message(i).len();
        let (sender, socket) = (sender.clone(), socket.clone());
        flow.submit(async move {
            crate::coroutine::yield_now().await;
            if i % 10 == 0 {
                let short = std::time::Duration::from_millis(1);
                crate::coroutine::sleep(short).await.unwrap();
            }
            sender.send((socket.taken().len(), sent)).unwrap();
        })
        .unwrap();
    }
    wait_drained(&flow);
    drop(sender);
    let seen: Vec<_> = seen.iter().collect();
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|(taken, sent)| taken == sent), "{seen:?}");
}

#[test]
fn a_broken_stream_reports_its_error_and_lets_nobody_wait() {
    let runtime = Runtime::builder().build().unwrap();
    let socket = Fake::new(5);
    socket.break_at(10_000);
    let flow = flow(&runtime, Box::new(StreamDrain::new(socket.clone())));
    for i in 0..100 {
        submit(&flow, RecordKind::Bytes, 0, &message(i));
    }
    let large = vec![1; 50_000];
    let completion = Completion::new(&large);
    submit(&flow, RecordKind::Handover, completion.to_bits(), &[]);
    while completion.result().is_none() {
        completion.wait(None);
    }
    let error = completion.result().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    assert_eq!(flow.error().unwrap().raw_os_error(), Some(libc::EPIPE));
    wait_drained(&flow);
    assert_eq!(socket.taken().len(), 10_000);
    assert_eq!(runtime.depth(), 0, "what cannot be sent is not waited for");
}

#[test]
fn datagrams_keep_their_boundaries_whether_the_kernel_cuts_or_not() {
    for refuse in [false, true] {
        let runtime = Runtime::builder().build().unwrap();
        let socket = Fake::new(11);
        if refuse {
            socket.refuse_segments();
        }
        let drain = DatagramDrain::new(FakeDatagrams(socket.clone()), true);
        let flow = flow(&runtime, Box::new(drain));
        // Runs of equal size, a shorter one, an empty one, a longer one.
        let sizes: Vec<usize> = (0..400)
            .map(|i| match i % 40 {
                0..30 => 1400,
                30 => 700,
                31 => 0,
                _ => 64 + i % 3,
            })
            .collect();
        for &size in &sizes {
            submit(&flow, RecordKind::Bytes, 0, &vec![size as u8; size]);
        }
        wait_drained(&flow);
        assert_eq!(socket.sizes(), sizes, "refused: {refuse}");
    }
}

#[test]
fn dropping_the_runtime_drains_what_was_accepted() {
    let socket = Fake::new(17);
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let flow = flow(&runtime, Box::new(StreamDrain::new(socket.clone())));
    let mut expected = Vec::new();
    for i in 0..30 {
        submit(&flow, RecordKind::Bytes, 0, &message(i));
        expected.extend_from_slice(&message(i));
    }
    drop(runtime);
    assert!(socket.taken() == expected);
    // Without executors submitters do it themselves, now and through trouble.
    submit(&flow, RecordKind::Bytes, 0, b"after");
    expected.extend_from_slice(b"after");
    for _ in 0..1000 {
        flow.0.unblocked();
        flow.0.serve_inline();
    }
    assert!(socket.taken() == expected);
}

#[test]
fn bytes_do_not_leave_without_the_coroutine_before_them() {
    let socket = Fake::new(23);
    let runtime = Runtime::builder().build().unwrap();
    let flow = flow(&runtime, Box::new(StreamDrain::new(socket.clone())));
    submit(&flow, RecordKind::Bytes, 0, b"before");
    flow.submit(std::future::pending()).unwrap();
    submit(&flow, RecordKind::Bytes, 0, b"after");
    while socket.taken() != b"before" {
        std::thread::yield_now();
    }
    runtime.shutdown();
    flow.flush_blocking().unwrap();
    assert_eq!(socket.taken(), b"before");
    let errno = flow.error().and_then(|error| error.raw_os_error());
    assert_eq!(errno, Some(libc::ECANCELED));
}
