// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Connections and outputs as the async traits of others: those of the crates futures-io and tokio,
//! each behind the feature of its name. So what is written for these runs in coroutines.
//!
//! Left to others: all that is done (server.rs, and [`Output`]). Of tokio only the traits are used:
//! its runtime is not there, nor its timers.

use super::server::TcpConnection;
use crate::executor::Output;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

#[cfg(feature = "futures-io")]
mod futures {
    use super::*;

    impl futures_io::AsyncRead for TcpConnection {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            TcpConnection::poll_read(&mut self, context, buffer)
        }
    }

    impl futures_io::AsyncWrite for TcpConnection {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.split().1.poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.split().1.poll_flush(context)
        }

        fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            TcpConnection::poll_close(&mut self, context)
        }
    }

    impl futures_io::AsyncWrite for Output {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Output::poll_write(&mut self, context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Output::poll_flush(&mut self, context)
        }

        /// The output ends with its coroutine: this flushes.
        fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Output::poll_flush(&mut self, context)
        }
    }
}

#[cfg(feature = "tokio")]
mod tokio_traits {
    use super::*;
    use tokio::io::ReadBuf;

    impl tokio::io::AsyncRead for TcpConnection {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let room = buffer.initialize_unfilled();
            let length = ready!(TcpConnection::poll_read(&mut self, context, room))?;
            buffer.advance(length);
            Poll::Ready(Ok(()))
        }
    }

    impl tokio::io::AsyncWrite for TcpConnection {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.split().1.poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.split().1.poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            self.poll_close(context)
        }
    }

    impl tokio::io::AsyncWrite for Output {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Output::poll_write(&mut self, context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Output::poll_flush(&mut self, context)
        }

        /// The output ends with its coroutine: this flushes.
        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Output::poll_flush(&mut self, context)
        }
    }
}
