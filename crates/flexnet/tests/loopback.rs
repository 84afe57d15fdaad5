// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Flows over the kernel's own loopback: what is accepted arrives whole and in
//! order, through full buffers, stealing, dead peers and the runtime's end.
//!
//! Nothing here waits by sleeping, and every test has a watchdog: a lost wakeup
//! shows as an abort that names the test.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::executor::Runtime;
use flexnet::transport::{TcpFlow, UdpFlow};
use rustix::net::sockopt;
use std::future::Future;
use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// Aborts the process unless dropped in time.
struct Watchdog(#[expect(dead_code, reason = "its drop is the message")] Sender<()>);

fn watchdog(test: &'static str) -> Watchdog {
    let (sender, receiver) = mpsc::channel::<()>();
    thread::spawn(move || {
        if receiver.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {test} hangs");
            std::process::abort();
        }
    });
    Watchdog(sender)
}

/// Repeatable numbers (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}

/// A sender and a receiver; buffers of the kernel's choice where `None`.
fn pair(send_buffer: Option<usize>, receive_buffer: Option<usize>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    if let Some(bytes) = receive_buffer {
        sockopt::set_socket_recv_buffer_size(&listener, bytes).unwrap();
    }
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // Or small buffers wait for delayed acknowledgements (Nagle).
    sender.set_nodelay(true).unwrap();
    if let Some(bytes) = send_buffer {
        sockopt::set_socket_send_buffer_size(&sender, bytes).unwrap();
    }
    (sender, listener.accept().unwrap().0)
}

/// Bytes to cut messages from, without a period that hides a shift.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..bytes).map(|_| random.next() as u8).collect()
}

const PATTERN_BYTES: usize = 1 << 16;
const HEADER_BYTES: usize = 12;

/// Flow, sequence, length, and a pattern that depends on the first two.
fn compose(message: &mut Vec<u8>, pattern: &[u8], flow: u32, sequence: u32, length: usize) {
    message.clear();
    message.extend_from_slice(&flow.to_le_bytes());
    message.extend_from_slice(&sequence.to_le_bytes());
    message.extend_from_slice(&(length as u32).to_le_bytes());
    message.extend_from_slice(payload(pattern, flow, sequence, length));
}

fn payload(pattern: &[u8], flow: u32, sequence: u32, length: usize) -> &[u8] {
    let place = flow.wrapping_mul(7919) ^ sequence.wrapping_mul(31);
    let start = place as usize % (PATTERN_BYTES - length);
    &pattern[start..start + length]
}

/// Reads messages of `flow` to the end of the stream; how many there were.
fn check_messages(stream: TcpStream, pattern: &[u8], flow: u32) -> u32 {
    let mut stream = io::BufReader::with_capacity(64 * 1024, stream);
    let mut header = [0; HEADER_BYTES];
    let mut body = Vec::new();
    for sequence in 0.. {
        match stream.read_exact(&mut header[..1]) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return sequence,
            other => other.unwrap(),
        }
        stream.read_exact(&mut header[1..]).unwrap();
        let field = |at| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        assert_eq!((field(0), field(4)), (flow, sequence), "out of order");
        body.resize(field(8) as usize, 0);
        stream.read_exact(&mut body).unwrap();
        let expected = payload(pattern, flow, sequence, body.len());
        assert!(body == expected, "flow {flow}, message {sequence} differs");
    }
    unreachable!("a stream has fewer than 2^32 messages");
}

/// try_send, and what that leaves with send_blocking.
fn send_either(flow: &TcpFlow, bytes: &[u8]) -> io::Result<()> {
    match flow.try_send(bytes) {
        Ok(accepted) if accepted == bytes.len() => Ok(()),
        Ok(accepted) => flow.send_blocking(&bytes[accepted..]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => flow.send_blocking(bytes),
        Err(error) => Err(error),
    }
}

#[test]
fn a_million_messages_arrive_whole_and_in_order() {
    const FLOWS: u32 = 4;
    const MESSAGES: u32 = 250_000;
    let _watchdog = watchdog("a_million_messages_arrive_whole_and_in_order");
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let pattern = pattern(PATTERN_BYTES);
    thread::scope(|scope| {
        for number in 0..FLOWS {
            let (sender, receiver) = pair(Some(4096), None);
            let flow = TcpFlow::adopt(&runtime, sender).unwrap();
            let pattern = &pattern;
            scope.spawn(move || {
                let mut random = Random(0xfeed + u64::from(number));
                let mut message = Vec::new();
                for sequence in 0..MESSAGES {
                    let large = sequence % 1000 == 999;
                    let length = if large {
                        16_384 + random.below(24_000)
                    } else {
                        // 1 to 2000, small ones more often.
                        let bound = if random.below(4) == 0 { 2000 } else { 200 };
                        1 + random.below(bound)
                    };
                    compose(&mut message, pattern, number, sequence, length);
                    if large || random.below(4) == 0 {
                        flow.send_blocking(&message).unwrap();
                    } else {
                        send_either(&flow, &message).unwrap();
                    }
                }
                flow.close_blocking().unwrap();
            });
            scope.spawn(move || assert_eq!(check_messages(receiver, pattern, number), MESSAGES));
        }
    });
    assert_eq!(runtime.shutdown(), 0);
}

/// Sends `bytes` of the pattern, repeated, in pieces of 1 to 64 KiB.
fn send_pieces(flow: &TcpFlow, pattern: &[u8], bytes: usize, seed: u64) {
    let mut random = Random(seed);
    let mut sent = 0;
    while sent < bytes {
        let start = sent % PATTERN_BYTES;
        let length = (1 + random.below(64 * 1024))
            .min(PATTERN_BYTES - start)
            .min(bytes - sent);
        flow.send_blocking(&pattern[start..start + length]).unwrap();
        sent += length;
    }
}

/// Reads the pattern to the end of the stream; how many bytes there were.
fn check_pieces(mut stream: TcpStream, pattern: &[u8]) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    loop {
        let start = received % PATTERN_BYTES;
        let length = stream.read(&mut buffer[..PATTERN_BYTES - start]).unwrap();
        if length == 0 {
            return received;
        }
        let expected = &pattern[start..start + length];
        assert!(buffer[..length] == *expected, "byte {received} on differs");
        received += length;
    }
}

#[test]
fn eight_flows_of_ten_megabytes() {
    const BYTES: usize = 10_000_000;
    let _watchdog = watchdog("eight_flows_of_ten_megabytes");
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let pattern = pattern(PATTERN_BYTES);
    thread::scope(|scope| {
        for number in 0..8 {
            let (sender, receiver) = pair(None, None);
            let flow = TcpFlow::adopt(&runtime, sender).unwrap();
            let pattern = &pattern;
            scope.spawn(move || send_pieces(&flow, pattern, BYTES, 1 + number));
            scope.spawn(move || assert_eq!(check_pieces(receiver, pattern), BYTES));
        }
    });
    assert_eq!(runtime.shutdown(), 0);
}

/// Sizes of 3,000 datagrams: long runs of one size, mixtures, empty ones, and
/// some near the longest.
fn datagram_sizes() -> Vec<usize> {
    let mut random = Random(4711);
    (0..3000)
        .map(|i| match i / 100 % 4 {
            0 => 1400,
            1 => random.below(3000),
            2 => 64 + i / 10 % 3,
            _ if i % 25 == 0 => 30_000 + random.below(35_507),
            _ => 300,
        })
        .collect()
}

#[test]
fn datagrams_keep_boundaries_and_order() {
    /// Bytes under way, each datagram with the kernel's overhead.
    const WINDOW_BYTES: usize = 80_000;
    let _watchdog = watchdog("datagrams_keep_boundaries_and_order");
    let runtime = Runtime::builder().build().unwrap();
    let pattern = pattern(PATTERN_BYTES);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    sockopt::set_socket_recv_buffer_size(&receiver, 4 << 20).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let flow = UdpFlow::adopt(&runtime, sender).unwrap();
    let sizes = datagram_sizes();
    let (acknowledge, acknowledged) = mpsc::channel();
    thread::scope(|scope| {
        let (sizes, pattern) = (&sizes, &pattern);
        scope.spawn(move || {
            let mut buffer = vec![0; 65_536];
            for (i, &size) in sizes.iter().enumerate() {
                let length = receiver.recv(&mut buffer).unwrap();
                assert_eq!(length, size, "datagram {i}");
                let expected = &pattern[i % 16..i % 16 + size];
                assert!(buffer[..length] == *expected, "datagram {i} differs");
                acknowledge.send(size + 1024).unwrap();
            }
        });
        let mut under_way = 0;
        for (i, &size) in sizes.iter().enumerate() {
            let datagram = &pattern[i % 16..i % 16 + size];
            while under_way > 0 && under_way + size > WINDOW_BYTES {
                under_way -= acknowledged.recv().unwrap();
            }
            under_way += size + 1024;
            if i % 2 == 0 {
                flow.send_blocking(datagram).unwrap();
            } else {
                flow.try_send(datagram).unwrap();
            }
        }
        flow.flush_blocking().unwrap();
    });
    assert_eq!(runtime.shutdown(), 0);
}

fn assert_dead(error: &io::Error) {
    let kind = error.kind();
    assert!(
        matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        "{error}"
    );
}

#[test]
fn a_dead_peer_is_reported_and_nobody_hangs() {
    let _watchdog = watchdog("a_dead_peer_is_reported_and_nobody_hangs");
    for executors in [1, 2] {
        let runtime = Runtime::builder().executors(executors).build().unwrap();
        let (sender, receiver) = pair(Some(4096), Some(4096));
        let flow = TcpFlow::adopt(&runtime, sender).unwrap();
        thread::scope(|scope| {
            // These block in a full socket when the peer goes.
            let (entered, blocked) = mpsc::channel();
            for bytes in [1000, 40_000] {
                let (flow, entered) = (&flow, entered.clone());
                scope.spawn(move || {
                    let message = vec![7; bytes];
                    let mut sent = 0;
                    loop {
                        if let Err(error) = flow.send_blocking(&message) {
                            return assert_dead(&error);
                        }
                        sent += bytes;
                        if sent >= 200_000 {
                            entered.send(()).ok();
                        }
                    }
                });
            }
            drop(entered);
            // Neither gets as far as 200,000 bytes through 4 KiB buffers and
            // the ring's 128 KiB before the peer has read something.
            let mut some = vec![0; 100_000];
            (&receiver).read_exact(&mut some).unwrap();
            drop(receiver);
            while blocked.recv().is_ok() {}
        });
        assert_dead(&flow.try_send(b"more").unwrap_err());
        assert_dead(&flow.send_blocking(&[1; 50_000]).unwrap_err());
        assert_dead(&flow.flush_blocking().unwrap_err());
        assert_dead(&flow.flow().error().unwrap());
        assert_eq!(runtime.shutdown(), 0);
        assert_dead(&flow.send_blocking(b"and after").unwrap_err());
    }
}

#[test]
fn a_dropped_flow_sends_its_rest_and_the_end() {
    let _watchdog = watchdog("a_dropped_flow_sends_its_rest_and_the_end");
    let pattern = pattern(PATTERN_BYTES);
    for seed in 1..20 {
        let runtime = Runtime::builder().build().unwrap();
        let (sender, receiver) = pair(Some(4096), Some(2048));
        let flow = TcpFlow::adopt(&runtime, sender).unwrap();
        let mut sent = 0;
        let mut random = Random(seed);
        loop {
            let start = sent % PATTERN_BYTES;
            let end = (start + 1 + random.below(3000)).min(PATTERN_BYTES);
            match flow.try_send(&pattern[start..end]) {
                Ok(accepted) => sent += accepted,
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(runtime.depth() > 0, "the peer has not read yet");
        drop(flow);
        assert_eq!(check_pieces(receiver, &pattern), sent);
        assert_eq!(runtime.shutdown(), 0);
    }
}

/// As small an executor of futures as there can be.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn send_can_be_awaited_on_any_executor_of_futures() {
    const BYTES: usize = 3_000_000;
    let _watchdog = watchdog("send_can_be_awaited_on_any_executor_of_futures");
    let runtime = Runtime::builder().build().unwrap();
    let pattern = pattern(PATTERN_BYTES);
    let (sender, receiver) = pair(Some(4096), Some(4096));
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    thread::scope(|scope| {
        let pattern = &pattern;
        scope.spawn(move || assert_eq!(check_pieces(receiver, pattern), BYTES));
        block_on(async {
            let mut sent = 0;
            let mut random = Random(99);
            while sent < BYTES {
                let start = sent % PATTERN_BYTES;
                let length = (1 + random.below(64 * 1024))
                    .min(PATTERN_BYTES - start)
                    .min(BYTES - sent);
                flow.send(&pattern[start..start + length]).await.unwrap();
                sent += length;
            }
            flow.flush().await.unwrap();
        });
        flow.close_blocking().unwrap();
    });
}

#[test]
fn senders_go_on_when_the_runtime_ends() {
    const BYTES: usize = 2_000_000;
    let _watchdog = watchdog("senders_go_on_when_the_runtime_ends");
    let pattern = pattern(PATTERN_BYTES);
    for round in 0..20 {
        let runtime = Runtime::builder().executors(2).build().unwrap();
        thread::scope(|scope| {
            let (progress, far_enough) = mpsc::channel();
            for number in 0..2 {
                let (sender, receiver) = pair(Some(4096), None);
                let flow = TcpFlow::adopt(&runtime, sender).unwrap();
                let (pattern, progress) = (&pattern, progress.clone());
                scope.spawn(move || {
                    let before = round * 90_000;
                    send_pieces(&flow, &pattern[..], before, 1 + number);
                    progress.send(()).ok();
                    let mut sent = before;
                    while sent < BYTES {
                        // Whole patterns follow, in small sends.
                        let start = sent % PATTERN_BYTES;
                        let length = (PATTERN_BYTES - start).min(BYTES - sent).min(700);
                        flow.send_blocking(&pattern[start..start + length]).unwrap();
                        sent += length;
                    }
                });
                scope.spawn(move || assert_eq!(check_pieces(receiver, pattern), BYTES));
            }
            far_enough.recv().unwrap();
            assert_eq!(runtime.shutdown(), 0);
        });
    }
}

/// The executors give up on a peer that reads nothing; a thread that waits for it is
/// woken, goes on by itself, and everything arrives once the peer reads. A large send has
/// queued nothing that they could give up.
#[test]
fn who_waits_for_a_stalled_peer_survives_the_runtime() {
    const BYTES: usize = 600_000;
    let _watchdog = watchdog("who_waits_for_a_stalled_peer_survives_the_runtime");
    let pattern = pattern(PATTERN_BYTES);
    for large in [false, true] {
        let runtime = Runtime::builder().linger(Duration::from_millis(20));
        let runtime = runtime.build().unwrap();
        let (sender, receiver) = pair(Some(4096), Some(2048));
        let flow = TcpFlow::adopt(&runtime, sender).unwrap();
        thread::scope(|scope| {
            let pattern = &pattern;
            let (entered, stuck) = mpsc::channel();
            scope.spawn(move || {
                let piece = if large { PATTERN_BYTES } else { 1024 };
                let mut sent = 0;
                while sent < BYTES {
                    if sent + piece > 60_000 {
                        entered.send(()).ok();
                    }
                    let start = sent % PATTERN_BYTES;
                    let length = piece.min(PATTERN_BYTES - start).min(BYTES - sent);
                    flow.send_blocking(&pattern[start..start + length]).unwrap();
                    sent += length;
                }
                flow.flush_blocking().unwrap();
            });
            stuck.recv().unwrap();
            let given_up = if large { 0 } else { 1 };
            assert_eq!(runtime.shutdown(), given_up, "flows that were given up");
            assert_eq!(check_pieces(receiver, pattern), BYTES);
        });
    }
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Waiting costs no CPU: neither blocking nor awaiting polls the socket.
#[test]
fn who_waits_for_room_sleeps() {
    let _watchdog = watchdog("who_waits_for_room_sleeps");
    let runtime = Runtime::builder().build().unwrap();
    let (sender, receiver) = pair(Some(4096), Some(2048));
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // The peer is away for a while: this is the stimulus, not a wait.
            thread::sleep(Duration::from_millis(500));
            let mut stream = receiver;
            io::copy(&mut stream, &mut io::sink()).unwrap();
        });
        let before = thread_time();
        for _ in 0..300 {
            flow.send_blocking(&[1; 1000]).unwrap();
        }
        let used = thread_time() - before;
        assert!(used < Duration::from_millis(100), "{used:?} of CPU time");
        flow.close_blocking().unwrap();
    });
}

#[test]
fn a_handed_over_send_is_settled_when_it_returns() {
    let _watchdog = watchdog("a_handed_over_send_is_settled_when_it_returns");
    let (sender, mut receiver) = pair(None, None);
    let reader = thread::spawn(move || io::copy(&mut receiver, &mut io::sink()));
    let runtime = Runtime::builder().build().unwrap();
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    let bytes = pattern(PATTERN_BYTES);
    for _ in 0..2_000 {
        flow.send_blocking(&bytes).unwrap();
        assert_eq!(runtime.depth(), 0);
    }
    drop(flow);
    runtime.shutdown();
    assert_eq!(
        reader.join().unwrap().unwrap(),
        2_000 * PATTERN_BYTES as u64
    );
}
