// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Receiving on executors: every byte once and in order, through short reads, writes of any size
//! meanwhile, reads that are given up, resets and panics. Every test has a watchdog.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::coroutine::{sleep, timeout, yield_now};
use flexnet::executor::{Runtime, Task, TaskError};
use flexnet::transport::{TcpAcceptor, TcpConnection, TcpFlow, UdpFlow};
use rustix::net::sockopt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
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

/// Two ends; buffers of the kernel's choice where `None`.
fn pair(buffers: Option<usize>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    if let Some(bytes) = buffers {
        sockopt::set_socket_recv_buffer_size(&listener, bytes).unwrap();
    }
    let end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    end.set_nodelay(true).unwrap();
    if let Some(bytes) = buffers {
        sockopt::set_socket_send_buffer_size(&end, bytes).unwrap();
    }
    (end, listener.accept().unwrap().0)
}

/// So many bytes without a short period.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * 7 + at / 251 + at / 65_537) as u8)
        .collect()
}

fn wait<T>(mut task: Task<T>) -> T {
    task.wait_timeout(Duration::from_secs(100)).unwrap()
}

async fn read_to_end(flow: &TcpFlow, step: usize) -> io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
    loop {
        match flow.read(&mut buffer).await? {
            0 => return Ok(all),
            length => all.extend_from_slice(&buffer[..length]),
        }
    }
}

#[test]
fn every_byte_arrives_once_while_the_same_socket_sends() {
    let _watchdog = watchdog("every_byte_arrives_once_while_the_same_socket_sends");
    let bytes = pattern(3_000_000);
    for (executors, buffers, step) in [
        (1, None, 100_000),
        (2, Some(4096), 777),
        (1, Some(4096), 5000),
    ] {
        let runtime = Runtime::builder().executors(executors).build().unwrap();
        let (end, mut peer) = pair(buffers);
        let flow = Arc::new(TcpFlow::adopt(&runtime, end).unwrap());
        let own = flow.clone();
        let reads = async move { read_to_end(&own, step).await.unwrap() };
        let task = runtime.flow().unwrap().submit_task(reads).unwrap();
        let (sent, mut writer) = (bytes.clone(), peer.try_clone().unwrap());
        let writes = thread::spawn(move || {
            for piece in sent.chunks(10_007) {
                writer.write_all(piece).unwrap();
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });
        // Full at once: the flow waits for room, and the coroutine for bytes.
        let sends = {
            let (flow, sent) = (flow.clone(), bytes.clone());
            thread::spawn(move || {
                flow.send_blocking(&sent[..1_000_000]).unwrap();
                flow.close_blocking().unwrap();
            })
        };
        assert!(wait(task) == bytes, "{executors}, {buffers:?}, {step}");
        let mut back = Vec::new();
        peer.read_to_end(&mut back).unwrap();
        assert!(back == bytes[..1_000_000]);
        sends.join().unwrap();
        writes.join().unwrap();
    }
}

#[test]
fn a_read_that_is_given_up_loses_no_byte() {
    let _watchdog = watchdog("a_read_that_is_given_up_loses_no_byte");
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let bytes = pattern(3_000);
    let (end, mut peer) = pair(None);
    let flow = TcpFlow::adopt(&runtime, end).unwrap();
    let given_up = Arc::new(AtomicUsize::new(0));
    let count = given_up.clone();
    let reads = async move {
        let (mut all, mut buffer) = (Vec::new(), [0; 100]);
        loop {
            let limit = Duration::from_nanos(all.len() as u64 % 5 * 3000);
            match timeout(limit, flow.read(&mut buffer)).await {
                Ok(Ok(0)) => return all,
                Ok(length) => all.extend_from_slice(&buffer[..length.unwrap()]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    count.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            }
        }
    };
    let task = runtime.flow().unwrap().submit_task(reads).unwrap();
    for piece in bytes.chunks(17) {
        peer.write_all(piece).unwrap();
        let before = given_up.load(Ordering::Relaxed);
        while given_up.load(Ordering::Relaxed) == before {
            thread::yield_now();
        }
    }
    drop(peer);
    assert!(wait(task) == bytes);
}

#[test]
fn nothing_is_read_that_nobody_asked_for() {
    let _watchdog = watchdog("nothing_is_read_that_nobody_asked_for");
    let runtime = Runtime::builder().build().unwrap();
    let (end, mut peer) = pair(None);
    let flow = Arc::new(TcpFlow::adopt(&runtime, end).unwrap());
    let own = flow.clone();
    let reads = async move {
        let mut buffer = [0; 10];
        own.readable().await.unwrap();
        let empty = own.read(&mut []).await.unwrap();
        (empty, own.read(&mut buffer).await.unwrap(), buffer)
    };
    let task = flow.flow().submit_task(reads).unwrap();
    peer.write_all(&pattern(100)).unwrap();
    let (empty, length, buffer) = wait(task);
    assert_eq!(empty, 0);
    assert_eq!(buffer[..length], pattern(100)[..length]);
    let mut rest = [0; 90];
    flow.stream().read_exact(&mut rest).unwrap();
    assert_eq!(rest[..], pattern(100)[length..]);
}

#[test]
fn a_reset_is_the_readers_error() {
    let _watchdog = watchdog("a_reset_is_the_readers_error");
    let runtime = Runtime::builder().build().unwrap();
    let (end, peer) = pair(None);
    let flow = Arc::new(TcpFlow::adopt(&runtime, end).unwrap());
    let own = flow.clone();
    let reads = async move { own.read(&mut [0; 10]).await };
    let mut task = runtime.flow().unwrap().submit_task(reads).unwrap();
    let outcome = task.wait_timeout(Duration::from_millis(10));
    assert_eq!(outcome.unwrap_err(), TaskError::TimedOut);
    flow.send_blocking(b"unread").unwrap();
    flow.flush_blocking().unwrap();
    drop(peer);
    assert_eq!(wait(task).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn datagrams_are_received_one_by_one() {
    let _watchdog = watchdog("datagrams_are_received_one_by_one");
    let runtime = Runtime::builder().build().unwrap();
    let (socket, peer) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    socket.connect(peer.local_addr().unwrap()).unwrap();
    peer.connect(socket.local_addr().unwrap()).unwrap();
    let flow = UdpFlow::adopt(&runtime, socket).unwrap();
    let echoes = async move {
        let mut buffer = vec![0; 65_536];
        for _ in 0..200 {
            let length = flow.receive(&mut buffer).await.unwrap();
            flow.send(&buffer[..length]).await.unwrap();
        }
    };
    let task = runtime.flow().unwrap().submit_task(echoes).unwrap();
    let mut buffer = vec![0; 65_536];
    for round in 0..200 {
        let datagram = pattern(round * 151);
        peer.send(&datagram).unwrap();
        let length = peer.recv(&mut buffer).unwrap();
        assert!(buffer[..length] == datagram);
    }
    wait(task);
}

/// A service that gives back what it reads, and panics or fails where it is told.
async fn echo(mut connection: TcpConnection) -> io::Result<()> {
    let mut buffer = vec![0; 20_000];
    let mut read = 0;
    loop {
        let length = connection.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if read == 0 && buffer[0] == b'p' {
            std::panic::resume_unwind(Box::new("stop"));
        }
        read += length;
        if read % 3 == 0 {
            sleep(Duration::from_micros(20)).await?;
        }
        connection.write_all(&buffer[..length]).await?;
        if read % 5 == 0 {
            connection.flush().await?;
        }
    }
}

/// What becomes of one connection to the service.
fn visit(address: SocketAddr, number: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    match number % 5 {
        0 => {
            stream.write_all(b"p").unwrap();
            let mut all = Vec::new();
            let read = stream.read_to_end(&mut all);
            assert!(all.is_empty() && read.map_or(true, |length| length == 0));
        }
        // Gone before its bytes come back.
        1 => stream
            .write_all(&pattern(1 + number * 1000))
            .unwrap_or_default(),
        _ => {
            let bytes = pattern(1 + number * 3001);
            let (sent, mut writer) = (bytes.clone(), stream.try_clone().unwrap());
            let writes = thread::spawn(move || {
                writer.write_all(&sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert!(all == bytes, "connection {number}");
            writes.join().unwrap();
        }
    }
}

#[test]
fn a_service_serves_through_panics_and_resets_and_lets_go_of_everything() {
    let _watchdog = watchdog("a_service_serves_through_panics_and_resets");
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let held = Arc::new(());
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let token = held.clone();
    let serves = move |connection| {
        let token = token.clone();
        async move {
            let result = echo(connection).await;
            drop(token);
            result
        }
    };
    let mut service = runtime.serve(listener, serves).unwrap();
    thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || (0..25).for_each(|visits| visit(address, worker * 25 + visits)));
        }
    });
    service.abort();
    assert!(matches!(service.wait(), Err(TaskError::Aborted)));
    assert!(
        TcpStream::connect(address).is_err(),
        "the listener is closed"
    );
    let before = descriptors();
    assert_eq!(runtime.shutdown(), 0);
    assert_eq!(Arc::strong_count(&held), 1, "no coroutine is left");
    assert!(descriptors() <= before);
}

#[test]
fn connections_beyond_the_cells_wait_to_be_accepted() {
    const CONNECTIONS: usize = 100;
    let _watchdog = watchdog("connections_beyond_the_cells_wait_to_be_accepted");
    // An executor may keep 32 cells for itself besides.
    let builder = Runtime::builder().executors(1).coroutines(8);
    let runtime = builder.build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let service = runtime.serve(listener, echo).unwrap();
    let connect = |number: usize| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&pattern(1 + number)).unwrap();
        stream
    };
    let mut streams: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all == pattern(1 + number), "connection {number}");
    }
    service.abort();
}

#[test]
fn an_acceptor_accepts_where_it_is_awaited() {
    let _watchdog = watchdog("an_acceptor_accepts_where_it_is_awaited");
    let runtime = Runtime::builder().build().unwrap();
    let acceptor = TcpAcceptor::new(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let address = acceptor.listener().local_addr().unwrap();
    let accepts = async move {
        for _ in 0..10 {
            let flow = acceptor.accept().await.unwrap();
            let mut buffer = [0; 5];
            assert_eq!(flow.read(&mut buffer).await.unwrap(), 5);
            flow.send(&buffer).await.unwrap();
        }
    };
    let task = runtime.flow().unwrap().submit_task(accepts).unwrap();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"there").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"there");
    }
    wait(task);
}

#[test]
fn reading_elsewhere_is_an_error() {
    let runtime = Runtime::builder().build().unwrap();
    let (end, _peer) = pair(None);
    let flow = TcpFlow::adopt(&runtime, end).unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut buffer = [0; 5];
    let read = std::pin::pin!(flow.read(&mut buffer));
    assert!(matches!(
        std::future::Future::poll(read, &mut context),
        std::task::Poll::Ready(Err(_))
    ));
}
