// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! UDP flows.

use super::datagram::DatagramDrain;
use super::receive::receive;
use super::socket::has_segmentation;
use crate::executor::{Flow, FlowCore, Progress, Runtime, Schedule, Until, may_wait};
use crate::queue::{Full, RecordKind};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Bytes of a flow's ring at most: a quarter of it holds the longest datagram (65,507).
const RING_BYTES: usize = 256 * 1024;
/// The longest datagram.
const DATAGRAM_BYTES: usize = 65_507;

/// A connected UDP socket whose sends are done by executors. Datagrams keep
/// their boundaries and their order; runs of equal size leave in one system
/// call where the kernel can cut them (UDP_SEGMENT, asked of the socket).
///
/// ```
/// use flexnet::{executor::Runtime, transport::UdpFlow};
/// use std::net::UdpSocket;
///
/// # let receiver = UdpSocket::bind("127.0.0.1:0")?;
/// let runtime = Runtime::builder().build()?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// socket.connect(receiver.local_addr()?)?;
/// let flow = UdpFlow::adopt(&runtime, socket)?;
/// flow.try_send(b"a datagram")?;
/// flow.flush_blocking()?;
/// # let mut datagram = [0; 32];
/// # assert_eq!(receiver.recv(&mut datagram)?, 10);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UdpFlow {
    flow: Flow,
    socket: Arc<UdpSocket>,
}

impl AsRef<Flow> for UdpFlow {
    fn as_ref(&self) -> &Flow {
        &self.flow
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        self.core().handle_dropped();
    }
}

impl UdpFlow {
    /// Makes a flow of a connected socket.
    ///
    /// # Errors
    /// `NotConnected`; or the executor threads cannot be started.
    pub fn adopt(runtime: &Runtime, socket: UdpSocket) -> io::Result<Self> {
        socket.peer_addr()?;
        let socket = Arc::new(socket);
        let drain = Box::new(DatagramDrain::new(
            socket.clone(),
            has_segmentation(socket.as_fd()),
        ));
        let shared = runtime.started()?;
        let ring = shared.ring_of_at_least(RING_BYTES);
        let flow = Flow(shared.new_flow(ring, drain));
        Ok(Self { flow, socket })
    }

    /// The socket, for receiving and its options.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// The flow, for coroutines of one's own between the sends ([`Flow::submit`]).
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    fn core(&self) -> &Arc<FlowCore> {
        &self.flow.0
    }

    /// Accepts one datagram, or says why not. Never waits.
    ///
    /// # Errors
    /// `WouldBlock` when the ring is full or the stack's design has no room for
    /// the flow; `InvalidInput` above 65,507 bytes; an
    /// error of an earlier datagram (reported once, and this one is not taken).
    #[inline]
    pub fn try_send(&self, datagram: &[u8]) -> io::Result<()> {
        let core = self.core();
        if let Some(error) = core.take_error() {
            return Err(error);
        }
        if datagram.len() > DATAGRAM_BYTES {
            let message = format!("{} bytes do not fit a UDP datagram", datagram.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if core.is_held() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if core.prefers_inline()
            && let Some(mut guard) = core.enter_inline()
            && core.is_drained()
        {
            guard.set_progress(Progress::Empty);
            match guard.drain_mut(|drain| drain.send_now(datagram)) {
                Ok(_) => return Ok(()),
                // What may pass is left to an executor.
                Err(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {}
                Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
        if core.submit(RecordKind::Bytes, 0, datagram).is_ok() {
            return Ok(());
        }
        core.serve_inline();
        match core.submit(RecordKind::Bytes, 0, datagram) {
            Ok(()) => Ok(()),
            Err(Full) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends one datagram, waiting for room.
    ///
    /// # Errors
    /// As [`UdpFlow::try_send`], but `WouldBlock`. `OutOfMemory` where the ring cannot grow.
    /// EDEADLK in a coroutine of this flow that would have to wait for room.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.core().with_room(|| self.try_send(datagram)).await
    }

    /// [`UdpFlow::send`] for a thread that may block.
    ///
    /// # Errors
    /// As [`UdpFlow::send`]. EDEADLK in a coroutine, whose executor would wait for
    /// itself.
    pub fn send_blocking(&self, datagram: &[u8]) -> io::Result<()> {
        may_wait()?;
        self.core().with_room_blocking(|| self.try_send(datagram))
    }

    /// Receives one datagram into `buffer`, once there is one: its length, and what does not fit
    /// is lost. Dropped before it is ready, it has received none. For coroutines on an executor.
    ///
    /// # Errors
    /// The socket's error, of an earlier datagram. It is awaited elsewhere.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let budget = self.core().shared().budget_bytes();
        receive(self.socket.as_fd(), buffer, budget).await
    }

    /// Waits until all that was accepted before is given to the kernel.
    ///
    /// # Errors
    /// An error of an earlier datagram, reported once. EDEADLK in a coroutine of this flow.
    pub async fn flush(&self) -> io::Result<()> {
        self.core().refuse_own_wait()?;
        self.core().flushed(Until::Drained).await;
        self.core().take_error().map_or(Ok(()), Err)
    }

    /// [`UdpFlow::flush`] for a thread that may block.
    ///
    /// # Errors
    /// As [`UdpFlow::flush`]. EDEADLK in a coroutine.
    pub fn flush_blocking(&self) -> io::Result<()> {
        may_wait()?;
        self.core().flushed_blocking(Until::Drained);
        self.core().take_error().map_or(Ok(()), Err)
    }
}
