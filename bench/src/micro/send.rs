// SPDX-License-Identifier: GPL-2.0-only
//! What a send costs the application's core, over loopback TCP.
//!
//! flexnet: `try_send` while the executor runs, in bursts that fit the ring.
//! inline: `send` on a socket of the same kind. Between two bursts, not timed,
//! both wait until a reader on another thread has taken everything. The
//! executor has a coroutine that yields without end, so that it never parks: no
//! burst finds it asleep, and no send is done inline.

use super::case::Case;
use anyhow::{Context, Result, bail};
use flexnet::coroutine::yield_now;
use flexnet::executor::Runtime;
use flexnet::transport::TcpFlow;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// With headers 46 KB of 1,400-byte messages: a third of the ring.
const BURST: usize = 32;
const BURSTS: usize = 300;

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for (bench, bytes) in [("send-64", 64), ("send-1400", 1400)] {
        cases.push(Case::new(bench, "flexnet", move || offloaded(bytes)));
        cases.push(Case::new(bench, "inline", move || inline(bytes)));
    }
}

/// Reads and discards; what it took is counted.
struct Reader {
    received: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Reader {
    /// Blocks no core: the waiting sender gives way.
    fn wait_for(&self, bytes: u64) {
        while self.received.load(Ordering::Acquire) < bytes {
            thread::yield_now();
        }
    }
}

fn connect() -> Result<(TcpStream, Reader)> {
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

/// The mean over the bursts. The first are not counted: they fault memory in.
fn bursts(bytes: usize, reader: &Reader, mut send: impl FnMut(&[u8]) -> Result<()>) -> Result<f64> {
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

fn offloaded(bytes: usize) -> Result<f64> {
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
    let _ = reader.thread.join();
    ns
}

fn inline(bytes: usize) -> Result<f64> {
    let (mut stream, reader) = connect()?;
    // On a TcpStream `write` is `send` with MSG_NOSIGNAL.
    let ns = bursts(bytes, &reader, |message| Ok(stream.write_all(message)?));
    drop(stream);
    let _ = reader.thread.join();
    ns
}
