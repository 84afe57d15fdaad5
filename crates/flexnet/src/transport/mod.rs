// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What coroutines do to sockets: TCP and UDP over the kernel's own.
//!
//! [`TcpFlow`] and [`UdpFlow`] take small sends into the flow's ring and
//! coalesce what is there into one system call: batching calls hardly helps,
//! coalescing does. A large blocking send is handed over without a copy while
//! its caller waits. The kernel's descriptor stays the application's: receive,
//! poll and socket options are used as ever ([`TcpFlow::stream`]). Coroutines may also receive on
//! executors ([`TcpFlow::read`]), and a service may live there ([`Runtime::serve`]).
//!
//! [`Runtime::serve`]: crate::executor::Runtime::serve
//!
//! Promised: bytes leave in the order of their sends and datagrams keep their
//! boundaries; a send that returned success is done even if the handle is
//! dropped; no SIGPIPE. A TCP flow that failed stays failed, and each later call
//! returns the error. A datagram's error comes back once. Left to others: when
//! this runs and on which thread ([`crate::executor`]).
//!
//! [`RawFlow`] is what the preload library (crates/flexnet-preload/) has under a descriptor
//! that stays its program's.
//!
//! What cannot be: bytes accepted and not yet given to the kernel are lost when
//! the process is killed, as they are from a socket's own buffer when the
//! machine is.

#[cfg(any(feature = "futures-io", feature = "tokio"))]
mod async_traits;
mod datagram;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod given_back_tests;
mod handover;
mod raw;
mod receive;
mod server;
mod socket;
mod stream;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use raw::{Drained, RawFlow};
pub use server::{TcpAcceptor, TcpConnection};
pub use tcp::TcpFlow;
pub use udp::UdpFlow;
