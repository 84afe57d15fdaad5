// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Tasks: each has one outcome, whatever its coroutine, its flow and its runtime come to. Limits in
//! time end what they limit, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::coroutine::{sleep, timeout, yield_now};
use flexnet::executor::{Output, Refusal, Runtime, TaskError};
use flexnet::transport::TcpFlow;
use std::future::pending;
use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

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

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(5);

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (sender, listener.accept().unwrap().0)
}

fn token() -> (Arc<()>, Weak<()>) {
    let token = Arc::new(());
    let held = Arc::downgrade(&token);
    (token, held)
}

#[test]
fn a_task_gives_its_result_once_to_threads_and_to_coroutines() {
    let _watchdog = watchdog("a_task_gives_its_result_once_to_threads_and_to_coroutines");
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let (flow, other) = (runtime.flow().unwrap(), runtime.flow().unwrap());
    for number in 0..2000 {
        let work = async move {
            if number % 3 == 0 {
                yield_now().await;
            }
            number * 2
        };
        let mut task = flow.submit_task(work).unwrap();
        let result = match number % 2 {
            0 => task.wait(),
            _ => other.submit_task(task).unwrap().wait().unwrap(),
        };
        assert_eq!(result, Ok(number * 2));
    }
    let mut task = flow.submit_task(async { "text".to_owned() }).unwrap();
    assert_eq!(task.wait(), Ok("text".to_owned()));
    assert!(task.is_done());
    assert_eq!(task.wait(), Err(TaskError::Taken));
    let error = io::Error::from(TaskError::Taken);
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn waiting_in_a_coroutine_is_refused() {
    let _watchdog = watchdog("waiting_in_a_coroutine_is_refused");
    let runtime = Runtime::builder().build().unwrap();
    let (flow, other) = (runtime.flow().unwrap(), runtime.flow().unwrap());
    let mut task = flow.submit_task(sleep(SHORT)).unwrap();
    let waits = async move { (task.wait_timeout(HOUR).err(), task.wait().err(), task.await) };
    let (limited, unlimited, awaited) = other.submit_task(waits).unwrap().wait().unwrap();
    let deadlock = Some(TaskError::Deadlock);
    assert_eq!((limited, unlimited), (deadlock, deadlock));
    awaited.unwrap().unwrap();
}

#[test]
fn an_aborted_task_drops_its_coroutine_wherever_it_waits() {
    let _watchdog = watchdog("an_aborted_task_drops_its_coroutine_wherever_it_waits");
    let runtime = Runtime::builder().build().unwrap();
    let flow = runtime.flow().unwrap();
    for begun in [true, false] {
        let (token, held) = token();
        let (release, released) = mpsc::channel::<()>();
        let (started, starts) = mpsc::channel();
        if !begun {
            // Before it, a coroutine that does not return.
            let holds_up = async move {
                released.recv().ok();
            };
            flow.submit(holds_up).unwrap();
        }
        let works = async move {
            started.send(()).unwrap();
            pending::<()>().await;
            drop(token);
        };
        let mut task = flow.submit_task(works).unwrap();
        if begun {
            starts.recv().unwrap();
        }
        assert_eq!(task.wait_timeout(SHORT), Err(TaskError::TimedOut));
        task.abort();
        drop(release);
        assert_eq!(task.wait(), Err(TaskError::Aborted));
        assert_eq!(
            held.strong_count(),
            0,
            "dropped before the outcome is known"
        );
        assert!(starts.try_recv().is_err(), "it does not begin");
    }
    // Others of the flow go on; an abort that comes late does nothing.
    let mut task = flow.submit_task(async { 1 }).unwrap();
    flow.flush_blocking().unwrap();
    task.abort();
    assert_eq!(task.wait(), Ok(1));
}

#[test]
fn an_abort_ends_an_output_whose_peer_takes_nothing() {
    let _watchdog = watchdog("an_abort_ends_an_output_whose_peer_takes_nothing");
    let runtime = Runtime::builder().build().unwrap();
    let (sender, mut receiver) = pair();
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    let writes = |mut output: Output| async move { output.write_all(&vec![7; 50_000_000]).await };
    let mut task = flow
        .flow()
        .submit_task(flow.flow().with_output(writes))
        .unwrap();
    flow.try_send(b"behind").unwrap();
    let mut some = [0; 1000];
    receiver.read_exact(&mut some).unwrap();
    // Long enough for the socket to be full, most of the time.
    let outcome = task.wait_timeout(Duration::from_millis(100));
    assert!(matches!(outcome, Err(TaskError::TimedOut)));
    task.abort();
    assert!(matches!(task.wait(), Err(TaskError::Aborted)));
    let error = flow.flush_blocking().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    drop(flow);
    let mut rest = Vec::new();
    receiver.read_to_end(&mut rest).unwrap();
    assert!(rest.iter().all(|&byte| byte == 7), "nothing behind it left");
}

#[test]
fn a_panic_and_an_end_are_outcomes() {
    let _watchdog = watchdog("a_panic_and_an_end_are_outcomes");
    let runtime = Runtime::builder().linger(SHORT).build().unwrap();
    let flow = runtime.flow().unwrap();
    let panics = async { std::panic::resume_unwind(Box::new("stop")) };
    let mut task = flow.submit_task::<_>(panics).unwrap();
    let outcome: Result<(), _> = task.wait();
    assert_eq!(outcome, Err(TaskError::Panicked));
    assert_eq!(flow.submit_task(async { 5 }).unwrap().wait(), Ok(5));

    let (token, held) = token();
    let endless = async move {
        pending::<()>().await;
        drop(token);
    };
    let mut begun = flow.submit_task(endless).unwrap();
    let mut behind = flow.submit_task(async {}).unwrap();
    runtime.shutdown();
    assert_eq!(begun.wait(), Err(TaskError::Ended));
    assert_eq!(behind.wait(), Err(TaskError::Ended));
    assert_eq!(held.strong_count(), 0);
    let refused = flow.submit_task(async { 6 }).unwrap_err();
    assert_eq!(refused.refusal, Refusal::Stopped);
    let again = Runtime::builder().build().unwrap();
    let mut task = again
        .flow()
        .unwrap()
        .submit_task(refused.into_inner())
        .unwrap();
    assert_eq!(task.wait(), Ok(6));
}

#[test]
fn a_dropped_task_lets_its_coroutine_go_on() {
    let runtime = Runtime::builder().build().unwrap();
    let (sender, receiver) = mpsc::channel();
    let works = async move {
        sleep(SHORT).await.unwrap();
        sender.send(()).unwrap();
    };
    drop(runtime.flow().unwrap().submit_task(works).unwrap());
    receiver.recv_timeout(Duration::from_secs(60)).unwrap();
}

#[test]
fn a_timeout_ends_what_it_limits_and_keeps_nothing() {
    let _watchdog = watchdog("a_timeout_ends_what_it_limits_and_keeps_nothing");
    let runtime = Runtime::builder().linger(HOUR).build().unwrap();
    let flow = runtime.flow().unwrap();
    let start = Instant::now();
    let mut task = flow.submit_task(timeout(SHORT, pending::<()>())).unwrap();
    let error = task.wait().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= SHORT);
    let many = async {
        for number in 0..10_000 {
            let in_time = async {
                yield_now().await;
                number
            };
            assert_eq!(timeout(HOUR, in_time).await.unwrap(), number);
        }
    };
    flow.submit_task(many).unwrap().wait().unwrap();
    // The hours that nobody waits for any more do not hold it up.
    assert_eq!(runtime.shutdown(), 0);
    let elsewhere = std::pin::pin!(timeout(SHORT, pending::<()>()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = std::future::Future::poll(elsewhere, &mut context);
    assert!(matches!(polled, std::task::Poll::Ready(Err(_))));
}
