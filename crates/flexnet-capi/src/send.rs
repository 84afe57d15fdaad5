// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Sends, flush and shutdown.

use crate::boundary::{Errno, bytes, errno_of, guard, may_wait};
use crate::completion::{Outcome, Record};
use crate::flow::{Flow, Handle, Transport, get};
use flexnet::coroutine::{checkpoint, sleep};
use flexnet::executor::{Refusal, SubmitError, current_flow, writable};
use libc::{c_int, ssize_t};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

/// The longest datagram.
const DATAGRAM_BYTES: usize = 65_507;
/// Bytes of one system call of a send without a copy: a checkpoint follows.
const PIECE_BYTES: usize = 256 * 1024;
/// After ENOBUFS or ENOMEM nothing tells when there is memory again.
const MEMORY_RETRY: Duration = Duration::from_millis(1);

/// A function's value that is an isize in C.
struct Size(ssize_t);

impl From<c_int> for Size {
    fn from(value: c_int) -> Self {
        Self(value as ssize_t)
    }
}

impl Flow {
    fn check_datagram(&self, bytes: &[u8]) -> Result<(), Errno> {
        match &self.transport {
            Transport::Udp(_) if bytes.len() > DATAGRAM_BYTES => Err(libc::EMSGSIZE),
            Transport::None(_) => Err(libc::ENOTSOCK),
            _ => Ok(()),
        }
    }
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_try_send(
    flow: *mut Handle,
    buffer: *const u8,
    length: usize,
) -> ssize_t {
    let sent: Size = guard(|| {
        let flow = get(flow)?;
        // SAFETY: the caller's, until this returns.
        let bytes = unsafe { bytes(buffer, length) }?;
        let accepted = match &flow.transport {
            Transport::Tcp(tcp) => tcp.try_send(bytes),
            Transport::Udp(_) if length > DATAGRAM_BYTES => return Err(libc::EMSGSIZE),
            Transport::Udp(udp) => udp.try_send(bytes).map(|()| length),
            Transport::None(_) => return Err(libc::ENOTSOCK),
        };
        accepted
            .map(|accepted| Size(accepted as ssize_t))
            .map_err(|error| errno_of(&error))
    });
    sent.0
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_send(
    flow: *mut Handle,
    buffer: *const u8,
    length: usize,
) -> ssize_t {
    let sent: Size = guard(|| {
        may_wait()?;
        let flow = get(flow)?;
        // SAFETY: the caller's, until this returns.
        let bytes = unsafe { bytes(buffer, length) }?;
        flow.check_datagram(bytes)?;
        let sent = match &flow.transport {
            Transport::Tcp(tcp) => tcp.send_blocking(bytes),
            Transport::Udp(udp) => udp.send_blocking(bytes),
            Transport::None(_) => return Err(libc::ENOTSOCK),
        };
        sent.map(|()| Size(length as ssize_t))
            .map_err(|error| errno_of(&error))
    });
    sent.0
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_send_async(
    flow: *mut Handle,
    buffer: *const u8,
    length: usize,
    completion: *mut Record,
) -> c_int {
    guard(|| {
        let flow = get(flow)?;
        // SAFETY: the library's until the completion is done.
        let bytes: &'static [u8] = unsafe { bytes(buffer, length) }?;
        flow.check_datagram(bytes)?;
        if let Some(error) = flow.queue().error() {
            // Of a datagram: the next send on the flow tells of that one.
            if matches!(flow.transport, Transport::Tcp(_)) {
                return Err(errno_of(&error));
            }
        }
        // SAFETY: the caller's, and the library's until it is done.
        let submitted = unsafe {
            Outcome::with(completion, |outcome| {
                let socket = Socket(flow.fd);
                let queue = flow.queue();
                match &flow.transport {
                    Transport::Tcp(_) => submit(queue, stream(outcome, socket, bytes)),
                    _ => submit(queue, datagram(outcome, socket, bytes)),
                }
            })?
        };
        submitted?;
        Ok(0)
    })
}

/// Refused, the coroutine goes in here: its bytes are the caller's again, and errno says why.
fn submit<F>(queue: &flexnet::executor::Flow, coroutine: F) -> Result<(), Errno>
where
    F: Future<Output = ()> + Send + 'static,
{
    queue.submit(coroutine).map_err(errno_of_submit)
}

pub(crate) fn errno_of_submit<F>(error: SubmitError<F>) -> Errno {
    match error.refusal {
        Refusal::Cells => libc::ENOBUFS,
        Refusal::Full => libc::EAGAIN,
        Refusal::Stopped => libc::ECANCELED,
    }
}

/// The descriptor of the flow whose coroutine uses it, which keeps it open.
#[derive(Clone, Copy)]
pub(crate) struct Socket(pub(crate) RawFd);

impl Socket {
    /// Never waits, raises no SIGPIPE.
    fn send(self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: a slice is readable memory.
        let sent = unsafe { libc::send(self.0, bytes.as_ptr().cast(), bytes.len(), flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Waits for what kept a send from being done; the error when it was none to
    /// wait for.
    async fn wait(self, error: io::Error) -> Result<(), Errno> {
        match errno_of(&error) {
            libc::EINTR => Ok(()),
            libc::EAGAIN => {
                // SAFETY: open as long as the flow's coroutines are.
                let fd = unsafe { BorrowedFd::borrow_raw(self.0) };
                let waited = writable(fd).await;
                waited.map_err(|error| error.raw_os_error().unwrap_or(libc::ECANCELED))
            }
            libc::ENOBUFS | libc::ENOMEM => {
                let waited = sleep(MEMORY_RETRY).await;
                waited.map_err(|_| libc::ECANCELED)
            }
            errno => Err(errno),
        }
    }
}

/// All before it on the flow is sent when this is resumed first: the flow's
/// order, and what is sent here is the socket's next.
pub(crate) async fn stream(mut outcome: Outcome, socket: Socket, bytes: &'static [u8]) {
    outcome.start();
    let mut left = bytes;
    let mut failed = current_flow().and_then(|flow| flow.error().map(|error| errno_of(&error)));
    while failed.is_none() && !left.is_empty() {
        let piece = &left[..left.len().min(PIECE_BYTES)];
        match socket.send(piece) {
            Ok(sent) => left = &left[sent..],
            Err(error) => failed = socket.wait(error).await.err(),
        }
        checkpoint().await;
    }
    if let (Some(errno), Some(flow)) = (failed, current_flow()) {
        flow.fail(errno);
        // What comes after must not leave with a part missing before it.
        // SAFETY: no memory is passed.
        unsafe { libc::shutdown(socket.0, libc::SHUT_WR) };
    }
    outcome.finish(failed.map_or(bytes.len() as i64, |errno| -i64::from(errno)));
}

pub(crate) async fn datagram(mut outcome: Outcome, socket: Socket, bytes: &'static [u8]) {
    outcome.start();
    let result = loop {
        match socket.send(bytes) {
            Ok(_) => break bytes.len() as i64,
            Err(error) => {
                if let Err(errno) = socket.wait(error).await {
                    break -i64::from(errno);
                }
            }
        }
    };
    outcome.finish(result);
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_flush(flow: *mut Handle) -> c_int {
    guard(|| {
        may_wait()?;
        let flow = get(flow)?;
        match &flow.transport {
            Transport::Tcp(tcp) => tcp.flush_blocking(),
            Transport::Udp(udp) => udp.flush_blocking(),
            Transport::None(queue) => queue.flush_blocking(),
        }
        .map_err(|error| errno_of(&error))?;
        Ok(0)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_shutdown(flow: *mut Handle) -> c_int {
    guard(|| {
        may_wait()?;
        let flow = get(flow)?;
        let Transport::Tcp(tcp) = &flow.transport else {
            return Err(libc::EOPNOTSUPP);
        };
        tcp.close_blocking().map_err(|error| errno_of(&error))?;
        Ok(0)
    })
}
