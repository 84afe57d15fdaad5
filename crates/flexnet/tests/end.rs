// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The end of a runtime: within the linger time whatever coroutines do, in whichever order handles
//! go, without a panic and without a leak. And what executors refuse or leave alone meanwhile.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::coroutine::{sleep, yield_now};
use flexnet::executor::{Builder, Flow, Refusal, Runtime, current_flow, writable};
use flexnet::transport::{TcpFlow, UdpFlow};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Aborts the process unless dropped in time.
struct Watchdog(#[expect(dead_code, reason = "its drop is the message")] Sender<()>);

fn watchdog(test: &'static str) -> Watchdog {
    let (sender, receiver) = mpsc::channel::<()>();
    thread::spawn(move || {
        if receiver.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {test} hangs");
            std::process::abort();
        }
    });
    Watchdog(sender)
}

const LINGER: Duration = Duration::from_millis(100);
/// What takes longer was held up: a virtual CPU may stand still for a second.
const SOON: Duration = Duration::from_secs(20);

fn runtime(executors: usize) -> Runtime {
    let builder = Runtime::builder().executors(executors).linger(LINGER);
    builder.build().unwrap()
}

fn is_deadlock(result: io::Result<()>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(libc::EDEADLK))
}

/// A value that coroutines hold, and whether any still does.
fn token() -> (Arc<()>, Weak<()>) {
    let token = Arc::new(());
    let held = Arc::downgrade(&token);
    (token, held)
}

/// Waits until nothing holds it.
fn expect_free(held: &Weak<()>, what: &str) {
    let start = Instant::now();
    while held.strong_count() > 0 {
        assert!(start.elapsed() < SOON, "{what} leaks");
        thread::yield_now();
    }
}

fn full_pair() -> (UnixStream, UnixStream) {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    (writer, reader)
}

/// Coroutines that never end, each in a way of its own.
fn submit_endless(flow: &Flow, way: usize, token: Arc<()>) {
    // Its own flow's handle, too: what refers to itself is what leaks.
    let own = flow.clone();
    let (writer, reader) = full_pair();
    let endless = async move {
        let _held = (token, own, reader);
        loop {
            match way {
                0 => yield_now().await,
                1 => sleep(Duration::from_micros(100)).await.unwrap(),
                2 => sleep(Duration::from_secs(3600)).await.unwrap(),
                _ => writable(writer.as_fd()).await.unwrap(),
            }
        }
    };
    flow.submit(endless).unwrap();
}

#[test]
fn the_linger_time_holds_whatever_coroutines_do() {
    let _watchdog = watchdog("the_linger_time_holds_whatever_coroutines_do");
    for (executors, way) in [(1, 0), (1, 1), (1, 2), (1, 3), (3, 0), (3, 2), (3, 3)] {
        let runtime = runtime(executors);
        let (token, held) = token();
        let flows: Vec<Flow> = (0..5).map(|_| runtime.flow().unwrap()).collect();
        for flow in &flows {
            submit_endless(flow, way, token.clone());
        }
        drop(token);
        let start = Instant::now();
        assert_eq!(runtime.shutdown(), 0, "none has bytes");
        let took = start.elapsed();
        assert!(took >= LINGER && took < SOON, "way {way}: {took:?}");
        expect_free(&held, "an endless coroutine");
        let refused = flows[0].submit(async {}).unwrap_err();
        assert_eq!(refused.refusal, Refusal::Stopped);
    }
}

#[test]
fn a_coroutine_that_does_not_return_keeps_its_executor_only() {
    let _watchdog = watchdog("a_coroutine_that_does_not_return_keeps_its_executor_only");
    let runtime = runtime(1);
    let (token, held) = token();
    let (release, released) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    let flow = runtime.flow().unwrap();
    let waits = token.clone();
    let stuck = async move {
        started.send(()).unwrap();
        released.recv().ok();
        yield_now().await;
        drop(waits);
    };
    flow.submit(stuck).unwrap();
    starts.recv().unwrap();
    submit_endless(&runtime.flow().unwrap(), 0, token);
    let behind = runtime.flow().unwrap();
    behind.submit(async {}).unwrap();
    let start = Instant::now();
    assert_eq!(runtime.shutdown(), 3, "the stuck one, and two behind it");
    assert!(start.elapsed() < SOON);
    drop(flow);
    drop(release);
    expect_free(&held, "what was stuck, or was behind it,");
}

#[test]
fn handles_go_in_any_order_and_in_coroutines() {
    let _watchdog = watchdog("handles_go_in_any_order_and_in_coroutines");
    for (way, runtime_first) in [(0, true), (2, true), (3, true), (1, false), (3, false)] {
        let (token, held) = token();
        let runtime = runtime(2);
        let flow = runtime.flow().unwrap();
        submit_endless(&flow, way, token);
        let last = runtime.flow().unwrap();
        let drops = async move {
            if runtime_first {
                drop(runtime);
                drop(flow);
            } else {
                drop(flow);
                drop(runtime);
            }
        };
        last.submit(drops).unwrap();
        drop(last);
        expect_free(&held, "a runtime dropped in its coroutine");
    }
}

#[test]
fn what_nobody_wakes_goes_with_its_flow() {
    let (token, held) = token();
    let runtime = runtime(1);
    let flow = runtime.flow().unwrap();
    let waits = async move {
        std::future::pending::<()>().await;
        drop(token);
    };
    flow.submit(waits).unwrap();
    drop(runtime);
    drop(flow);
    assert_eq!(held.strong_count(), 0);
}

/// Waits for ever: nobody has its waker.
async fn waits_in_vain(_held: impl Send, started: Sender<()>) {
    started.send(()).unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn what_owns_its_flow_and_nobody_wakes_goes_with_the_runtime() {
    let _watchdog = watchdog("what_owns_its_flow_and_nobody_wakes_goes_with_the_runtime");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (executors, in_coroutine) in [(1, false), (3, false), (1, true), (3, true)] {
        let runtime = runtime(executors);
        let (token, held) = token();
        let (started, starts) = mpsc::channel();
        let address = listener.local_addr().unwrap();
        let tcp = TcpFlow::connect(&runtime, address).unwrap();
        let (flow, queue) = (runtime.flow().unwrap(), tcp.flow().clone());
        let owned = (token.clone(), flow.clone());
        flow.submit(waits_in_vain(owned, started.clone())).unwrap();
        queue
            .submit(waits_in_vain((token.clone(), tcp), started))
            .unwrap();
        // Behind it, and not resumed yet.
        let behind = (token, flow.clone());
        flow.submit(async move { drop(behind) }).unwrap();
        drop((flow, queue));
        let _both = (starts.recv().unwrap(), starts.recv().unwrap());
        assert!(held.strong_count() > 0, "they wait");
        if in_coroutine {
            let last = runtime.flow().unwrap();
            last.submit(async move { drop(runtime) }).unwrap();
        } else {
            assert_eq!(runtime.shutdown(), 0, "none has bytes");
            assert_eq!(held.strong_count(), 0);
        }
        expect_free(&held, "what nobody wakes");
    }
}

/// The kernel takes a few KiB.
fn set_small_buffer(socket: &impl AsRawFd, option: libc::c_int) {
    let bytes: libc::c_int = 4096;
    let length = size_of_val(&bytes) as libc::socklen_t;
    let at = (&raw const bytes).cast();
    // SAFETY: a local, and its length.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, at, length) };
    assert_eq!(set, 0);
}

/// The peer takes nothing, so the coroutine behind the bytes never runs.
#[test]
fn what_owns_its_flow_behind_bytes_goes_with_the_runtime() {
    let _watchdog = watchdog("what_owns_its_flow_behind_bytes_goes_with_the_runtime");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set_small_buffer(&listener, libc::SO_RCVBUF);
    for outlives in [false, true] {
        let runtime = runtime(1);
        let (token, held) = token();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_small_buffer(&stream, libc::SO_SNDBUF);
        let flow = TcpFlow::adopt(&runtime, stream).unwrap();
        let mut peer = listener.accept().unwrap().0;
        let mut sent = 0;
        while sent < 64 * 1024 {
            sent += flow.try_send(&[7; 1024]).unwrap();
        }
        let queue = flow.flow().clone();
        let kept = outlives.then(|| queue.clone());
        queue.submit(async move { drop((token, flow)) }).unwrap();
        drop(queue);
        assert_eq!(runtime.shutdown(), 1, "it has bytes");
        assert_eq!(held.strong_count(), 0);
        // A thread with a handle may still wait for the bytes.
        if let Some(kept) = kept {
            let reads = thread::spawn(move || peer.read_exact(&mut vec![0; sent]));
            kept.flush_blocking().unwrap();
            assert_eq!(kept.error().unwrap().raw_os_error(), Some(libc::ECANCELED));
            reads.join().unwrap().unwrap();
        }
    }
}

#[test]
fn what_asks_for_its_flow_and_nobody_wakes_goes_with_the_last_handle() {
    let (token, held) = token();
    let runtime = runtime(1);
    let flow = runtime.flow().unwrap();
    let (started, starts) = mpsc::channel();
    let waits = async move {
        current_flow().unwrap().set_kind(1);
        waits_in_vain(token, started).await;
    };
    flow.submit(waits).unwrap();
    starts.recv().unwrap();
    drop(flow);
    expect_free(&held, "what nobody wakes");
    runtime.shutdown();
}

#[test]
fn a_child_of_a_fork_drops_what_it_has_inherited() {
    let _watchdog = watchdog("a_child_of_a_fork_drops_what_it_has_inherited");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = runtime(2);
    let flow = TcpFlow::connect(&runtime, listener.local_addr().unwrap()).unwrap();
    let other = runtime.flow().unwrap();
    submit_endless(&other, 2, Arc::new(()));
    flow.send_blocking(b"x").unwrap();
    // SAFETY: the child drops values and ends by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no memory is passed; ends the child by SIGALRM if it hangs.
        unsafe { libc::alarm(20) };
        drop(flow);
        drop(runtime);
        drop(other);
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: a pointer to a local.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    flow.send_blocking(b"y").unwrap();
    drop((flow, other));
    assert_eq!(runtime.shutdown(), 0, "the parent's is as it was");
}

#[test]
fn what_blocks_is_an_error_in_a_coroutine() {
    let _watchdog = watchdog("what_blocks_is_an_error_in_a_coroutine");
    let runtime = runtime(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpFlow::connect(&runtime, listener.local_addr().unwrap()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(listener.local_addr().unwrap()).unwrap();
    let udp = UdpFlow::adopt(&runtime, socket).unwrap();
    let flow = runtime.flow().unwrap();
    let (sender, receiver) = mpsc::channel();
    let other = flow.clone();
    let blocks = async move {
        let large = vec![0; 100_000];
        let results = [
            tcp.send_blocking(b"x"),
            tcp.send_blocking(&large),
            tcp.flush_blocking(),
            tcp.close_blocking(),
            udp.send_blocking(b"x"),
            udp.flush_blocking(),
            other.flush_blocking(),
        ];
        sender.send(results.map(is_deadlock)).unwrap();
    };
    flow.submit(blocks).unwrap();
    assert_eq!(receiver.recv().unwrap(), [true; 7]);
    flow.flush_blocking().unwrap();
}

#[test]
fn sleep_outside_of_an_executor_is_an_error() {
    let mut slept = pin!(sleep(Duration::from_millis(1)));
    let polled = slept.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(_))));
}

/// The signals that the thread blocks.
fn blocked_signals() -> libc::sigset_t {
    // SAFETY: asks for a set, which zeros are too.
    unsafe {
        let mut blocked = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut blocked);
        blocked
    }
}

#[test]
fn executors_take_their_own_faults_and_the_profilers_signal_only() {
    let runtime = runtime(1);
    let (sender, receiver) = mpsc::channel();
    let asks = async move { sender.send(blocked_signals()).unwrap() };
    runtime.flow().unwrap().submit(asks).unwrap();
    let blocked = receiver.recv().unwrap();
    // SAFETY: a set of this program's, and a signal's number.
    let taken = (1..32).filter(|&signal| unsafe { libc::sigismember(&blocked, signal) } == 0);
    let never_blocked = [libc::SIGKILL, libc::SIGSTOP];
    let taken: Vec<_> = taken
        .filter(|taken| !never_blocked.contains(taken))
        .collect();
    let mut expected = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
        libc::SIGPROF,
    ];
    expected.sort_unstable();
    assert_eq!(taken, expected);
}

/// Uses about so many bytes of stack.
#[inline(never)]
fn use_stack(bytes: usize) -> u8 {
    let page = std::hint::black_box([1u8; 4096]);
    match bytes.checked_sub(page.len()) {
        Some(left) => page[use_stack(left) as usize] & 1,
        None => page[7],
    }
}

const DEEP: usize = 400 * 1024;

fn run_deep(builder: Builder) {
    let runtime = builder.linger(LINGER).build().unwrap();
    let flow = runtime.flow().unwrap();
    flow.submit(async { assert_eq!(use_stack(DEEP), 1) })
        .unwrap();
    flow.flush_blocking().unwrap();
}

#[test]
fn the_stack_is_as_large_as_asked_for_and_an_overflow_says_so() {
    const CHILD: &str = "FLEXNET_TEST_OVERFLOWS";
    if std::env::var_os(CHILD).is_some() {
        run_deep(Runtime::builder().name("deep"));
        return;
    }
    run_deep(Runtime::builder().stack_bytes(2 * DEEP));
    let test = "the_stack_is_as_large_as_asked_for_and_an_overflow_says_so";
    let overflows = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&overflows.stderr).into_owned();
    assert!(!overflows.status.success());
    assert!(
        said.contains("'deep/0'") && said.contains("overflowed its stack"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |builder: Builder| {
        let error = builder.build().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    };
    let builder = Runtime::builder;
    refused(builder().coroutines(u32::MAX));
    refused(builder().coroutines(Builder::COROUTINES_MAX + 1));
    refused(builder().executors(0));
    refused(builder().executors(17));
    refused(builder().stack_bytes(0));
    refused(builder().stack_bytes(usize::MAX));
    refused(builder().name("a\0b"));
}

/// Says when it is dropped, after what is declared before it in the same structure.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A coroutine that is ended may own the last handle of its own flow: when the shutdown is over,
/// the handle is gone.
#[test]
fn a_coroutine_that_is_ended_may_own_its_own_flow() {
    let _watched = watchdog("a_coroutine_that_is_ended_may_own_its_own_flow");
    struct Owned {
        _flow: TcpFlow,
        _dropped: Dropped,
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Longer than what an executor gets to end: a handle that lingers, too, comes after it.
    let builder = Runtime::builder().linger(Duration::from_millis(1500));
    let runtime = builder.build().unwrap();
    let flow = TcpFlow::connect(&runtime, listener.local_addr().unwrap()).unwrap();
    let queue = flow.flow().clone();
    let dropped = Arc::new(AtomicBool::new(false));
    let owned = Owned {
        _flow: flow,
        _dropped: Dropped(dropped.clone()),
    };
    let pending = async move {
        let _owned = owned;
        sleep(Duration::from_secs(3600)).await.ok();
    };
    queue.submit(pending).unwrap();
    drop(queue);
    runtime.shutdown();
    assert!(dropped.load(Ordering::SeqCst));
}

/// A destructor in a coroutine that is ended cannot wait for its own flow, as the coroutine could
/// not.
#[test]
fn a_destructor_of_a_coroutine_cannot_wait_for_its_flow() {
    let _watched = watchdog("a_destructor_of_a_coroutine_cannot_wait_for_its_flow");
    struct Flushes(Flow, Sender<bool>);
    impl Drop for Flushes {
        fn drop(&mut self) {
            self.1.send(is_deadlock(self.0.flush_blocking())).ok();
        }
    }
    let runtime = runtime(1);
    let flow = runtime.flow().unwrap();
    let (said, says) = mpsc::channel();
    let flushes = Flushes(flow.clone(), said);
    let pending = async move {
        let _flushes = flushes;
        sleep(Duration::from_secs(3600)).await.ok();
    };
    flow.submit(pending).unwrap();
    runtime.shutdown();
    assert_eq!(says.recv_timeout(SOON), Ok(true));
}

/// How often a thread of this process has given up the CPU to wait.
fn waits_of(thread: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = |line: &str| {
        line.strip_prefix("voluntary_ctxt_switches:")?
            .trim()
            .parse()
            .ok()
    };
    status.lines().find_map(line).unwrap()
}

/// An executor that is in a coroutine has the flow, after the end, too. A thread that waits for it
/// sleeps until then, and goes on at once.
#[test]
fn who_waits_for_a_flow_after_the_end_sleeps_until_it_is_left() {
    let _watchdog = watchdog("who_waits_for_a_flow_after_the_end_sleeps_until_it_is_left");
    let runtime = runtime(1);
    let flow = runtime.flow().unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    let stuck = async move {
        started.send(()).unwrap();
        released.recv().ok();
    };
    flow.submit(stuck).unwrap();
    starts.recv().unwrap();
    assert_eq!(runtime.shutdown(), 1, "it is stuck");
    let (said, thread) = mpsc::channel();
    let waits = thread::spawn(move || {
        // SAFETY: a plain call.
        said.send(unsafe { libc::gettid() }).unwrap();
        flow.flush_blocking().unwrap();
        let _end = said;
    });
    let id = thread.recv().unwrap();
    while waits_of(id) == 0 {
        thread::yield_now();
    }
    // The time in which it is to sleep.
    let end = thread.recv_timeout(Duration::from_millis(500));
    assert_eq!(end, Err(RecvTimeoutError::Timeout));
    let before = waits_of(id);
    let end = thread.recv_timeout(Duration::from_millis(500));
    assert_eq!(end, Err(RecvTimeoutError::Timeout));
    assert_eq!(waits_of(id) - before, 0, "it looks again and again");
    drop(release);
    assert_eq!(
        thread.recv_timeout(SOON),
        Err(RecvTimeoutError::Disconnected)
    );
    waits.join().unwrap();
}
