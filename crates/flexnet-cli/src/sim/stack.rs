// SPDX-License-Identifier: GPL-2.0-only
//! What submitting, resuming and stealing cost here. `flexnet-bench micro` measures the
//! same beside other libraries.

use anyhow::{Context as _, Result, anyhow, ensure};
use flexnet::coroutine::yield_now;
use flexnet::executor::{Flow, Runtime, SubmitError};
use flexnet::queue::{Node, Owner, RunQueue};
use flexnet::transport::TcpFlow;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::future::poll_fn;
use std::hint::{black_box, spin_loop};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Instant;

/// Samples of each; a first one, not counted, warms caches and pools.
const ROUNDS: usize = 5;

/// What a stack's steps cost here, ns, medians.
pub(super) struct StackCosts {
    /// An item into a flow, on the application's core.
    pub(super) submit_ns: f64,
    /// A coroutine's turn on a running executor.
    pub(super) resume_ns: f64,
    /// An item across cores.
    pub(super) steal_ns: f64,
}

impl StackCosts {
    /// Measures them, interleaved, so that a disturbance meets all.
    pub(super) fn measure() -> Result<Self> {
        let cases = [submit, resume, steal];
        let mut samples = [const { Vec::new() }; 3];
        for round in 0..=ROUNDS {
            for (case, samples) in cases.iter().zip(&mut samples) {
                let ns = case()?;
                if round > 0 {
                    samples.push(ns);
                }
            }
        }
        let [submit_ns, resume_ns, steal_ns] = samples.map(|mut samples| {
            samples.sort_by(f64::total_cmp);
            samples[ROUNDS / 2]
        });
        Ok(Self {
            submit_ns,
            resume_ns,
            steal_ns,
        })
    }
}

/// `try_send` of 64 bytes over loopback TCP, while the executor runs: a coroutine that
/// yields without end keeps it from parking, so no send is done inline.
fn submit() -> Result<f64> {
    const BURST: usize = 32;
    const BURSTS: usize = 300;
    /// These fault memory in, and are not counted.
    const FIRST: usize = BURSTS / 10;
    let (stream, received, reader) = connect()?;
    let runtime = Runtime::builder().build()?;
    let awake = Arc::new(AtomicBool::new(true));
    let stays_awake = awake.clone();
    runtime.flow()?.submit(async move {
        while stays_awake.load(Ordering::Relaxed) {
            yield_now().await;
        }
    })?;
    let flow = TcpFlow::adopt(&runtime, stream)?;
    let message = [0x5a; 64];
    let mut total = 0.0;
    for burst in 1..=FIRST + BURSTS {
        let start = Instant::now();
        for _ in 0..BURST {
            let accepted = flow.try_send(&message).context("the ring has room")?;
            ensure!(accepted == message.len(), "accepted {accepted} bytes");
        }
        if burst > FIRST {
            total += start.elapsed().as_nanos() as f64;
        }
        while received.load(Ordering::Acquire) < (burst * BURST * message.len()) as u64 {
            thread::yield_now();
        }
    }
    awake.store(false, Ordering::Relaxed);
    runtime.shutdown();
    drop(flow);
    let _ = reader.join();
    Ok(total / (BURST * BURSTS) as f64)
}

/// A connection whose other end is read and counted.
fn connect() -> Result<(TcpStream, Arc<AtomicU64>, thread::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_nodelay(true)?;
    let mut peer = listener.accept()?.0;
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes @ 1..) = peer.read(&mut buffer) {
            counter.fetch_add(bytes as u64, Ordering::Release);
        }
    });
    Ok((stream, received, reader))
}

const ALIVE: usize = 64;
const BATCHES: usize = 2_000;

/// Create, yield once, finish, on a running executor: 64 coroutines at a time.
fn resume() -> Result<f64> {
    let runtime = Runtime::builder().build()?;
    let [driver, flow] = [runtime.flow()?, runtime.flow()?];
    let (sender, receiver) = mpsc::channel();
    driver.submit(async move {
        // Nobody receives when this was given up.
        let _ = sender.send(batches(&flow).await);
    })?;
    Ok(receiver.recv()??)
}

async fn batches(flow: &Flow) -> Result<f64, SubmitError> {
    let finished = Arc::new(Event::default());
    let start = Instant::now();
    for _ in 0..BATCHES {
        for number in 0..ALIVE {
            let last = (number == ALIVE - 1).then(|| finished.clone());
            flow.submit(async move {
                yield_now().await;
                black_box(number);
                if let Some(finished) = last {
                    finished.set();
                }
            })?;
        }
        finished.wait().await;
    }
    Ok(start.elapsed().as_nanos() as f64 / (ALIVE * BATCHES) as f64)
}

/// Set by one coroutine, awaited by another.
#[derive(Default)]
struct Event(Mutex<(bool, Option<Waker>)>);

impl Event {
    fn set(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut state.0) {
                return Poll::Ready(());
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

const ITEMS: u64 = 200_000;

/// One thread pushes and another, on another CPU, pops: ns an item.
fn steal() -> Result<f64> {
    let cpus = two_cpus()?;
    let queue = RunQueue::new();
    let items: Vec<_> = (0..ITEMS).map(Node::boxed).collect();
    let owner: Owner<'_, Box<Node<u64>>> = queue.own().context("the queue has no other owner")?;
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(cpus[0]);
            barrier.wait();
            for item in items {
                queue.push(item);
            }
        });
        let barrier = &barrier;
        let consumer = scope.spawn(move || {
            pin(cpus[1]);
            let mut spins = 0;
            let mut popped = Vec::with_capacity(ITEMS as usize);
            barrier.wait();
            let start = Instant::now();
            while popped.len() < ITEMS as usize {
                match owner.pop() {
                    Some(item) => popped.push(item),
                    None => snooze(&mut spins),
                }
            }
            start.elapsed().as_nanos() as f64 / ITEMS as f64
        });
        consumer
            .join()
            .map_err(|_| anyhow!("the consumer panicked"))
    })
}

/// Spins, and now and then lets others run.
fn snooze(spins: &mut u32) {
    *spins += 1;
    if spins.is_multiple_of(128) {
        thread::yield_now();
    } else {
        spin_loop();
    }
}

/// The first two CPUs this process may use.
fn two_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    match (cpus.next(), cpus.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err(anyhow!("what stealing costs is measured with two CPUs")),
    }
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // Unpinned it is still measured, with more spread.
    let _ = sched_setaffinity(None, &set);
}
