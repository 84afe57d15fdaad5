// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Without memory for a larger ring a sender gets an error; it does not wait for ever. A test
//! binary of its own, since the allocator refuses for all of it.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::executor::Runtime;
use flexnet::transport::{TcpFlow, UdpFlow};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Refuses what is as large as a ring's next segment.
const LARGE: usize = 16 * 1024;
static REFUSES: AtomicBool = AtomicBool::new(false);

struct Refusing;

// SAFETY: the system's allocator, or none.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE && REFUSES.load(Ordering::Relaxed) {
            return std::ptr::null_mut();
        }
        // SAFETY: as promised to this.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as promised to this.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// What `send` comes to on a thread of its own, in time.
fn in_time<T: Send + 'static>(send: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(send()));
    let received = result.recv_timeout(Duration::from_secs(30));
    // A failure's message may need memory, too.
    REFUSES.store(false, Ordering::Relaxed);
    received.expect("it waits for ever")
}

#[test]
fn a_sender_whose_ring_cannot_grow_gets_an_error() {
    let runtime = Runtime::builder().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpFlow::connect(&runtime, listener.local_addr().unwrap()).unwrap();
    let mut peer = listener.accept().unwrap().0;
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(receiver.local_addr().unwrap()).unwrap();
    let udp = UdpFlow::adopt(&runtime, socket).unwrap();
    // While it runs, senders enqueue.
    let busy = runtime.flow().unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    let keeps_it_running = async move {
        started.send(()).unwrap();
        released.recv().ok();
    };
    busy.submit(keeps_it_running).unwrap();
    starts.recv().unwrap();

    let message = vec![7; 10_000];
    REFUSES.store(true, Ordering::Relaxed);
    let (tcp, udp, sent) = in_time(move || {
        let sent = [tcp.send_blocking(&message), udp.send_blocking(&message)];
        (tcp, udp, sent)
    });
    for result in sent {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
    // With memory again, they go on.
    drop(release);
    tcp.send_blocking(&[1; 40_000]).unwrap();
    udp.send_blocking(b"2").unwrap();
    let mut received = vec![0; 40_000];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(received, [1; 40_000]);
    let mut datagram = [0; 8];
    assert_eq!(receiver.recv(&mut datagram).unwrap(), 1);
}
