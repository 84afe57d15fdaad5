// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! TCP flows.

use super::handover::Completion;
use super::receive::receive;
use super::stream::StreamDrain;
use crate::executor::{
    Flow, FlowCore, Progress, Runtime, Schedule, Shared, Until, may_wait, readable,
};
use crate::queue::{Full, RecordKind};
use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a flow's ring at most. A quarter of it, 32 KiB, is the longest record.
const RING_BYTES: usize = 128 * 1024;
/// From this size on a blocking send is handed over without a copy: copying 16
/// KB costs 560 ns here, and waking an executor for it is no longer dear.
const HANDOVER_BYTES: usize = 16 * 1024;
/// How often a caller whose buffer is handed over looks whether an executor is
/// at it. Rarely: each sample costs a wakeup, and with one a millisecond eight
/// such callers lost half of their throughput under EEVDF.
const LOOK: Duration = Duration::from_millis(250);
/// How long an executor takes to leave a flow it has given back, at most, if it
/// is not preempted just then.
const LEAVING: Duration = Duration::from_micros(100);

/// A connected TCP socket whose sends are done by executors.
///
/// ```
/// use flexnet::{executor::Runtime, transport::TcpFlow};
/// use std::io::Read;
///
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = server.local_addr()?;
/// let runtime = Runtime::builder().build()?;
/// let flow = TcpFlow::connect(&runtime, address)?;
/// flow.try_send(b"hello ")?; // accepted, or as much of it as there is room for
/// flow.send_blocking(b"world")?; // all of it, waiting for room
/// drop(flow); // what was accepted is sent before the connection closes
/// # let mut text = String::new();
/// # server.accept()?.0.read_to_string(&mut text)?;
/// # assert_eq!(text, "hello world");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpFlow {
    flow: Flow,
    stream: Arc<TcpStream>,
}

impl AsRef<Flow> for TcpFlow {
    fn as_ref(&self) -> &Flow {
        &self.flow
    }
}

impl Drop for TcpFlow {
    fn drop(&mut self) {
        self.core().handle_dropped();
    }
}

impl TcpFlow {
    /// Makes a flow of a connected socket. The socket's blocking mode is left as
    /// it is, for reading; a write past the flow mixes up the bytes.
    ///
    /// # Errors
    /// The executor threads cannot be started.
    pub fn adopt(runtime: &Runtime, stream: TcpStream) -> io::Result<Self> {
        Ok(Self::on(runtime.started()?, stream))
    }

    pub(super) fn on(shared: &Arc<Shared>, stream: TcpStream) -> Self {
        let stream = Arc::new(stream);
        let drain = Box::new(StreamDrain::new(stream.clone()));
        let flow = Flow(shared.new_flow(shared.ring(RING_BYTES), drain));
        Self { flow, stream }
    }

    /// Connects (blocking) and makes a flow of it.
    ///
    /// # Errors
    /// Those of [`TcpStream::connect`] and [`TcpFlow::adopt`].
    pub fn connect(runtime: &Runtime, address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::adopt(runtime, TcpStream::connect(address)?)
    }

    /// The socket, for reading, polling and its options.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn shared_stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// Bytes that are moved in one turn.
    pub(super) fn turn_bytes(&self) -> usize {
        self.core().shared().budget_bytes()
    }

    /// The flow, for coroutines of one's own between the sends ([`Flow::submit`]).
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    fn core(&self) -> &Arc<FlowCore> {
        &self.flow.0
    }

    /// Accepts as much of `bytes` as there is room for, at most a quarter of the ring
    /// (32 KiB), and says how much that was. Never waits. While an executor runs this makes no
    /// system call; while it is parked and nothing is queued the send is done
    /// here and now.
    ///
    /// # Errors
    /// `WouldBlock` when the ring is full, and the socket too just now, or when
    /// the stack's design has no room for the flow. The flow's error, if it
    /// failed earlier.
    #[inline]
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let core = self.core();
        if let Some(error) = core.error() {
            return Err(error);
        }
        let piece = &bytes[..bytes.len().min(core.ring().message_max())];
        if piece.is_empty() {
            return Ok(0);
        }
        if core.is_held() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if core.prefers_inline() && self.send_inline(piece)? {
            return Ok(piece.len());
        }
        if core.submit(RecordKind::Bytes, 0, piece).is_ok() {
            return Ok(piece.len());
        }
        self.try_send_full(piece)
    }

    /// The ring is full: the thread that wants room makes it.
    #[cold]
    fn try_send_full(&self, piece: &[u8]) -> io::Result<usize> {
        let core = self.core();
        core.serve_inline();
        if let Some(error) = core.error() {
            return Err(error);
        }
        match core.submit(RecordKind::Bytes, 0, piece) {
            Ok(()) => Ok(piece.len()),
            Err(Full) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// False when somebody else is at it: then it is queued.
    fn send_inline(&self, piece: &[u8]) -> io::Result<bool> {
        let core = self.core();
        let Some(mut guard) = core.enter_inline() else {
            return Ok(false);
        };
        if !core.is_drained() {
            return Ok(false);
        }
        match guard.drain_mut(|drain| drain.send_now(piece)) {
            Ok(progress) => {
                guard.set_progress(progress);
                Ok(true)
            }
            Err(errno) => {
                core.fail(errno);
                guard.set_progress(Progress::Empty);
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    /// Sends all of `bytes`, waiting for room as often as needed. Dropped before
    /// it is ready, a part of them may have been accepted. After the runtime's
    /// end it asks for room each time it is polled, without a pause.
    ///
    /// What a coroutine of this flow sends so goes behind all that is queued, since the coroutine is
    /// before that. [`Flow::submit_with`] gives it an output for its own place.
    ///
    /// # Errors
    /// The flow's error, if it failed. EDEADLK in a coroutine of this flow that would have to wait
    /// for room; a part of the bytes may have been accepted.
    pub async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let accepted = self.core().with_room(|| self.try_send(bytes)).await?;
            bytes = &bytes[accepted..];
        }
        Ok(())
    }

    /// [`TcpFlow::send`] for a thread that may block. From 16 KiB on the bytes
    /// are not copied. Where nothing is queued before them, this thread sends them by itself:
    /// it would only wait for the executor. Else the executor sends from `bytes` while this waits,
    /// and when it is on no CPU, this thread does. A design whose work is the executors' alone
    /// ([`crate::design::Design::inlines`]) has them send all of it.
    ///
    /// # Errors
    /// The flow's error, if it failed; a part of the bytes may have been sent.
    /// EDEADLK in a coroutine, whose executor would wait for itself.
    pub fn send_blocking(&self, bytes: &[u8]) -> io::Result<()> {
        may_wait()?;
        if bytes.len() >= HANDOVER_BYTES {
            return self.hand_over(bytes);
        }
        let mut left = bytes;
        while !left.is_empty() {
            let accepted = self.core().with_room_blocking(|| self.try_send(left))?;
            left = &left[accepted..];
        }
        self.core().placed_blocking()
    }

    /// Sends all of it here, like the system call; false when something is
    /// queued before it. Others' records wait in the ring meanwhile, as they
    /// must: their bytes come later.
    fn send_waiting(&self, bytes: &[u8]) -> io::Result<bool> {
        let core = self.core();
        let Some(mut guard) = core.enter_inline() else {
            return Ok(false);
        };
        if !core.is_drained() {
            return Ok(false);
        }
        guard.set_progress(Progress::Empty);
        match guard.drain_mut(|drain| drain.send_waiting(bytes)) {
            Ok(()) => Ok(true),
            Err(errno) => {
                core.fail(errno);
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn hand_over(&self, bytes: &[u8]) -> io::Result<()> {
        let core = self.core();
        if let Some(error) = core.error() {
            return Err(error);
        }
        if core.shared().senders_serve() && self.send_waiting(bytes)? {
            return Ok(());
        }
        let completion = Completion::new(bytes);
        while core
            .submit(RecordKind::Handover, completion.to_bits(), &[])
            .is_err()
        {
            let served = core.serve_inline();
            if matches!(served, None | Some(Progress::Waiting)) || core.is_blocked() {
                if core.shared().is_stopped() {
                    core.wait_and_drain(None);
                } else {
                    core.flushed_for(core.ring().tail(), Until::DrainedOrFailed, Some(LOOK));
                }
            }
        }
        let mut help = false;
        loop {
            if let Some(result) = completion.result() {
                return result;
            }
            if core.shared().is_stopped() {
                // Who drains may be done with this, and stay for what is behind it.
                core.wait_and_drain(Some(LOOK));
                continue;
            }
            // The thread that gives it back may still be about to leave.
            completion.wait(Some(if help { LEAVING } else { LOOK }));
            // More than the granted cores carry runs here.
            help |= completion.take_given_back() || core.needs_help();
            if help && core.serve_waiting(|| completion.result().is_some()) {
                help = false;
            }
        }
    }

    /// Reads what there is into `buffer`, once there is something; 0: the peer has ended its
    /// stream, or `buffer` is empty. Nothing is read that nobody asked for, so the peer's window
    /// is its backpressure. Dropped before it is ready, it has read nothing. For coroutines on an
    /// executor, of this flow or of others; once a turn's bytes are read, other flows go on.
    ///
    /// # Errors
    /// The socket's error. It is awaited elsewhere.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        receive(self.stream.as_fd(), buffer, self.turn_bytes()).await
    }

    /// Waits until [`TcpFlow::read`] has something to give, or an error. For coroutines on an
    /// executor.
    ///
    /// # Errors
    /// It is awaited elsewhere.
    pub async fn readable(&self) -> io::Result<()> {
        readable(self.stream.as_fd()).await
    }

    /// Waits until all that was accepted before is given to the kernel.
    ///
    /// # Errors
    /// The flow's error, if it failed. EDEADLK in a coroutine of this flow.
    pub async fn flush(&self) -> io::Result<()> {
        self.core().refuse_own_wait()?;
        self.core().flushed(Until::DrainedOrFailed).await;
        self.core().error().map_or(Ok(()), Err)
    }

    /// [`TcpFlow::flush`] for a thread that may block.
    ///
    /// # Errors
    /// The flow's error, if it failed. EDEADLK in a coroutine.
    pub fn flush_blocking(&self) -> io::Result<()> {
        may_wait()?;
        self.core().flushed_blocking(Until::DrainedOrFailed);
        self.core().error().map_or(Ok(()), Err)
    }

    /// Flushes and ends the stream: the peer reads its end. Reading goes on.
    ///
    /// # Errors
    /// The flow's error, if it failed; the socket's. EDEADLK in a coroutine.
    pub fn close_blocking(&self) -> io::Result<()> {
        self.flush_blocking()?;
        self.stream.shutdown(Shutdown::Write)
    }
}
