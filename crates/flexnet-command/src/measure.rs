// SPDX-License-Identifier: GPL-2.0-only
//! What parts of the library cost here: for `flexnet sim --calibrate`, and for `flexnet-bench
//! micro`, which measures other libraries beside them.

use anyhow::{Context as _, Result, bail};
use flexnet::coroutine::yield_now;
use flexnet::executor::{Flow, Refusal, Runtime};
use flexnet::transport::TcpFlow;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::future::poll_fn;
use std::hint::{black_box, spin_loop};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Instant;

/// With headers 46 KB of 1,400-byte messages: a third of the ring.
const BURST: usize = 32;
const BURSTS: usize = 300;

/// Reads and discards; what it took is counted.
pub struct Reader {
    received: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Reader {
    /// Until so many bytes have come. Blocks no core: the waiting sender gives way.
    fn wait_for(&self, bytes: u64) {
        while self.received.load(Ordering::Acquire) < bytes {
            thread::yield_now();
        }
    }

    /// Until the other end is closed.
    pub fn join(self) {
        // It only reads, and does not panic.
        let _ = self.thread.join();
    }
}

/// A connection over loopback whose other end is read.
pub fn connect() -> Result<(TcpStream, Reader)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_nodelay(true)?;
    let mut peer = listener.accept()?.0;
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    let thread = thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes @ 1..) = peer.read(&mut buffer) {
            counter.fetch_add(bytes as u64, Ordering::Release);
        }
    });
    Ok((stream, Reader { received, thread }))
}

/// What `send` takes for a message of `bytes`, ns: the mean over bursts that fit a flow's ring. The
/// first bursts are not counted: they fault memory in.
pub fn bursts(
    bytes: usize,
    reader: &Reader,
    mut send: impl FnMut(&[u8]) -> Result<()>,
) -> Result<f64> {
    let message = vec![0x5a; bytes];
    let mut total = 0.0;
    let mut sent = 0;
    for burst in 0..BURSTS + BURSTS / 10 {
        let start = Instant::now();
        for _ in 0..BURST {
            send(&message)?;
        }
        if burst >= BURSTS / 10 {
            total += start.elapsed().as_nanos() as f64;
        }
        sent += (BURST * bytes) as u64;
        reader.wait_for(sent);
    }
    Ok(total / (BURST * BURSTS) as f64)
}

/// `try_send` over loopback TCP, ns, while the executor runs: a coroutine that yields without end
/// keeps it from parking, so no send is done inline.
pub fn try_send(bytes: usize) -> Result<f64> {
    let (stream, reader) = connect()?;
    let runtime = Runtime::builder().build()?;
    let awake = Arc::new(AtomicBool::new(true));
    let stays_awake = awake.clone();
    runtime.flow()?.submit(async move {
        while stays_awake.load(Ordering::Relaxed) {
            yield_now().await;
        }
    })?;
    let flow = TcpFlow::adopt(&runtime, stream)?;
    let ns = bursts(bytes, &reader, |message| {
        match flow.try_send(message).context("the ring has room")? {
            accepted if accepted == message.len() => Ok(()),
            accepted => bail!("accepted {accepted} of {} bytes", message.len()),
        }
    });
    awake.store(false, Ordering::Relaxed);
    runtime.shutdown();
    drop(flow);
    reader.join();
    ns
}

/// Coroutines alive at a time.
pub const ALIVE: usize = 64;
/// So many of them, one after the other, are measured.
pub const BATCHES: usize = 2_000;

/// Create, yield once, finish, ns: coroutines of `flow` on a running executor, from one of `driver`.
pub fn turns(driver: &Flow, flow: &Flow) -> Result<f64> {
    let (sender, receiver) = mpsc::channel();
    let flow = flow.clone();
    driver.submit(async move {
        // Nobody receives when this was given up.
        let _ = sender.send(batches(&flow).await);
    })?;
    Ok(receiver.recv()??)
}

async fn batches(flow: &Flow) -> Result<f64, Refusal> {
    let finished = Arc::new(Event::default());
    let start = Instant::now();
    for _ in 0..BATCHES {
        for number in 0..ALIVE {
            let last = (number == ALIVE - 1).then(|| finished.clone());
            let work = async move {
                yield_now().await;
                black_box(number);
                if let Some(finished) = last {
                    finished.set();
                }
            };
            flow.submit(work).map_err(|refused| refused.refusal)?;
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

/// Spins, and now and then lets others run.
#[derive(Default)]
pub struct Backoff(u32);

impl Backoff {
    /// Waits a little.
    pub fn snooze(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(128) {
            thread::yield_now();
        } else {
            spin_loop();
        }
    }
}

/// The first two CPUs that this process may use.
pub fn two_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    match (cpus.next(), cpus.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => bail!("what passes between CPUs is measured with two CPUs"),
    }
}

/// Binds this thread to a CPU.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // Unpinned it is still measured, with more spread.
    let _ = sched_setaffinity(None, &set);
}
