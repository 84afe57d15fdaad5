// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The hot paths allocate nothing once warm: sends, their draining, and
//! coroutines from creation to end, on the submitting thread and on executors.
//! A test binary of its own, since the allocator counts for all of it.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::design::Choice;
use flexnet::executor::{Output, Refusal, Runtime};
use flexnet::transport::TcpFlow;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// What allocates.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Unknown,
    Submitter,
    Executor,
    Other,
}

thread_local! {
    // const and without a destructor: asking for it allocates nothing.
    static ROLE: Cell<Role> = const { Cell::new(Role::Unknown) };
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static BY_SUBMITTER: AtomicU64 = AtomicU64::new(0);
static BY_EXECUTORS: AtomicU64 = AtomicU64::new(0);

struct Counting;

/// Executors are known by their threads' names, asked of the kernel so that
/// asking does not allocate.
fn role_by_name() -> Role {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    if name.starts_with(b"flexnet/") {
        Role::Executor
    } else {
        Role::Other
    }
}

fn count() {
    if !COUNTING.load(Ordering::Relaxed) {
        return;
    }
    let role = match ROLE.get() {
        Role::Unknown => role_by_name(),
        known => known,
    };
    ROLE.set(role);
    match role {
        Role::Submitter => BY_SUBMITTER.fetch_add(1, Ordering::Relaxed),
        Role::Executor => BY_EXECUTORS.fetch_add(1, Ordering::Relaxed),
        Role::Unknown | Role::Other => 0,
    };
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts of (submitter, executors) while `f` runs.
fn allocations(f: impl FnOnce()) -> (u64, u64) {
    ROLE.set(Role::Submitter);
    BY_SUBMITTER.store(0, Ordering::Relaxed);
    BY_EXECUTORS.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::SeqCst);
    f();
    COUNTING.store(false, Ordering::SeqCst);
    let counts = (&BY_SUBMITTER, &BY_EXECUTORS);
    (
        counts.0.load(Ordering::SeqCst),
        counts.1.load(Ordering::SeqCst),
    )
}

fn send(flow: &TcpFlow, messages: usize) {
    let message = [7; 64];
    for _ in 0..messages {
        let mut left = &message[..];
        while !left.is_empty() {
            match flow.try_send(left) {
                Ok(accepted) => left = &left[accepted..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
    flow.flush_blocking().unwrap();
}

fn submit(flow: &TcpFlow, coroutines: usize) {
    static FINISHED: AtomicU64 = AtomicU64::new(0);
    let target = FINISHED.load(Ordering::Acquire) + coroutines as u64;
    for _ in 0..coroutines {
        loop {
            let submitted = flow.flow().submit(async {
                flexnet::coroutine::yield_now().await;
                FINISHED.fetch_add(1, Ordering::Release);
            });
            match submitted.map_err(|refused| refused.refusal) {
                Ok(()) => break,
                Err(Refusal::Cells | Refusal::Full) => thread::yield_now(),
                Err(Refusal::Stopped) => panic!("the runtime lives"),
            }
        }
    }
    while FINISHED.load(Ordering::Acquire) < target {
        thread::yield_now();
    }
    flow.flush_blocking().unwrap();
}

/// Coroutines that write at their places.
fn put_out(flow: &TcpFlow, coroutines: usize) {
    for _ in 0..coroutines {
        let mut submitted = flow.flow().submit_with(|mut output: Output| async move {
            output.write_all(&[7; 64]).await.ok();
        });
        while let Err(refused) = submitted {
            assert_ne!(refused.refusal, Refusal::Stopped);
            thread::yield_now();
            submitted = flow.flow().submit(refused.into_inner());
        }
    }
    flow.flush_blocking().unwrap();
}

/// Makes the flow's ring as large as it may be: coroutines fill it behind one that blocks.
fn fill(flow: &TcpFlow) {
    let (release, released) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    let blocks = async move {
        started.send(()).unwrap();
        released.recv().ok();
    };
    flow.flow().submit(blocks).unwrap();
    starts.recv().unwrap();
    let is_full = || {
        let submitted = flow.flow().submit(async {});
        submitted.is_err_and(|refused| refused.refusal == Refusal::Full)
    };
    while !is_full() {}
    drop(release);
    flow.flush_blocking().unwrap();
}

/// Fills the socket: what does not fit has a place of its own from then on.
fn fill_socket(flow: &TcpFlow) -> usize {
    let mut sent = 0;
    loop {
        match flow.try_send(&[7; 64]) {
            Ok(accepted) => sent += accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("{error}"),
        }
    }
}

/// One test, since the counters are the process's.
#[test]
fn hot_paths_do_not_allocate() {
    let (_finished, watched) = mpsc::channel::<()>();
    thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: hot_paths_do_not_allocate hangs");
            std::process::abort();
        }
    });
    exercise(None);
    // Other designs' queues have nodes that are made at the start.
    exercise(Some("shinjuku:mode=jbsq"));
}

fn exercise(design: Option<&str>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut receiver = listener.accept().unwrap().0;
    let (read, reads) = mpsc::channel::<()>();
    let reader = thread::spawn(move || {
        reads.recv().unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let mut received = 0;
        loop {
            match receiver.read(&mut buffer).unwrap() {
                0 => return received,
                bytes => received += bytes,
            }
        }
    });
    let mut builder = Runtime::builder().executors(2).coroutines(10_000);
    if let Some(design) = design {
        let choice: Choice = design.parse().unwrap();
        builder = builder.design(choice.build(1));
    }
    let runtime = builder.build().unwrap();
    let flow = TcpFlow::adopt(&runtime, stream).unwrap();
    // Warm: the rest of inline sends, the ring at its limit, queues of waiters, threads' first
    // uses.
    let filled = fill_socket(&flow);
    read.send(()).unwrap();
    flow.flush_blocking().unwrap();
    fill(&flow);
    let warm = 20_000;
    send(&flow, warm);
    submit(&flow, warm);
    put_out(&flow, warm);

    let counted = allocations(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.0, 1, "the counter counts");
    let counted = allocations(|| {
        let boxed = async { drop(std::hint::black_box(Box::new(1))) };
        flow.flow().submit(boxed).unwrap();
        submit(&flow, 1);
    });
    assert_eq!(counted.0 + counted.1, 1, "on executors too");

    assert_eq!(allocations(|| send(&flow, 100_000)), (0, 0), "sends");
    assert_eq!(allocations(|| submit(&flow, 100_000)), (0, 0), "coroutines");
    assert_eq!(allocations(|| put_out(&flow, 100_000)), (0, 0), "outputs");

    flow.close_blocking().unwrap();
    assert_eq!(reader.join().unwrap(), filled + 2 * (warm + 100_000) * 64);
}
