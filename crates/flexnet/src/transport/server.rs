// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Services that live on executors: a listener's connections are accepted there, and each has a
//! coroutine that reads, computes and writes.
//!
//! Promised: connections are spread over the executors; where coroutine cells or descriptors are
//! short, connections wait in the listener's backlog; what a connection's coroutine wrote is sent
//! after it ends. Left to others: reading (receive.rs) and writing ([`Output`]).

use super::receive::poll_receive;
use super::tcp::TcpFlow;
use crate::coroutine::{sleep, yield_now};
use crate::executor::{Interest, Output, Refusal, Runtime, Task, Wait, current_shared};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Nothing tells when there are cells, descriptors or memory again.
const RETRY: Duration = Duration::from_millis(1);

/// Accepts connections in coroutines.
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
}

impl TcpAcceptor {
    /// Makes the listener nonblocking.
    ///
    /// # Errors
    /// That fails.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// The listener, for its address and its options.
    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Waits for a connection, and makes a flow of it on the next executor in turn. Dropped before
    /// it is ready, it has accepted none. For coroutines on an executor.
    ///
    /// # Errors
    /// Those of accept(2): ECONNABORTED, EMFILE and the like leave the listener as it was. It is
    /// awaited elsewhere.
    pub async fn accept(&self) -> io::Result<TcpFlow> {
        let mut wait = Wait::new(self.listener.as_fd(), Interest::Readable);
        poll_fn(|context| {
            let Some(shared) = current_shared() else {
                return wait.poll_woken(context); // which says so
            };
            loop {
                match self.listener.accept() {
                    Ok((stream, _)) => return Poll::Ready(Ok(TcpFlow::on(&shared, stream))),
                    Err(error) => match error.kind() {
                        io::ErrorKind::Interrupted => {}
                        io::ErrorKind::WouldBlock => return wait.poll_woken(context),
                        _ => return Poll::Ready(Err(error)),
                    },
                }
            }
        })
        .await
    }
}

/// A connection of [`Runtime::serve`], for its coroutine. It closes when it is dropped and what was
/// written is sent.
///
/// With the feature `futures-io` or `tokio` it has the traits AsyncRead and AsyncWrite of those.
pub struct TcpConnection {
    flow: TcpFlow,
    output: Output,
    /// Of [`TcpConnection::poll_read`].
    wait: Wait<Arc<TcpStream>>,
}

impl TcpConnection {
    /// For a coroutine of the flow with that output.
    pub fn new(flow: TcpFlow, output: Output) -> Self {
        let wait = Wait::new(flow.shared_stream().clone(), Interest::Readable);
        Self { flow, output, wait }
    }

    /// [`TcpFlow::read`], polled.
    ///
    /// # Errors
    /// As there.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let budget = self.flow.turn_bytes();
        poll_receive(&mut self.wait, context, buffer, budget)
    }

    /// Sends what was written, and ends the stream: the peer reads its end. Reading goes on.
    ///
    /// # Errors
    /// As [`Output::flush`]; those of shutdown(2).
    pub fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.output.poll_flush(context))?;
        Poll::Ready(self.flow.stream().shutdown(Shutdown::Write))
    }

    /// [`TcpConnection::poll_close`], awaited.
    ///
    /// # Errors
    /// As there.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_close(context)).await
    }

    /// [`TcpFlow::read`].
    ///
    /// # Errors
    /// As there.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, buffer)).await
    }

    /// [`Output::write_all`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes).await
    }

    /// [`Output::flush`]. What was written also leaves when the coroutine waits.
    ///
    /// # Errors
    /// As there.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.output.flush().await
    }

    /// The flow, and where the coroutine writes: to do both at once.
    pub fn split(&mut self) -> (&TcpFlow, &mut Output) {
        (&self.flow, &mut self.output)
    }

    /// The flow. What is sent on it waits until the connection's coroutine ends.
    pub fn flow(&self) -> &TcpFlow {
        &self.flow
    }
}

/// May the next accept succeed?
fn may_pass(error: &io::Error) -> bool {
    const SHORT: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    let errno = error.raw_os_error().unwrap_or_default();
    // Errors of the connection that was to be accepted: accept(2).
    const OF_CONNECTION: [i32; 9] = [
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EPERM,
    ];
    SHORT.contains(&errno) || OF_CONNECTION.contains(&errno)
}

impl Runtime {
    /// Accepts the connections of `listener` on executors, and runs a coroutine for each, which
    /// `serve` makes. An error that it returns is its own affair: the connection closes. A panic
    /// ends its connection, and nothing else. As many are served at once as there are cells
    /// ([`crate::executor::Builder::coroutines`]); others wait to be accepted.
    ///
    /// ```
    /// use flexnet::executor::Runtime;
    /// use std::io::{Read, Write};
    /// use std::net::{Shutdown, TcpListener, TcpStream};
    ///
    /// let runtime = Runtime::builder().executors(2).build()?;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let service = runtime.serve(listener, |mut connection| async move {
    ///     let mut buffer = [0; 4096];
    ///     loop {
    ///         match connection.read(&mut buffer).await? {
    ///             0 => return Ok(()),
    ///             length => connection.write_all(&buffer[..length]).await?,
    ///         }
    ///     }
    /// })?;
    /// let mut client = TcpStream::connect(address)?;
    /// client.write_all(b"hello")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let mut text = String::new();
    /// client.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello");
    /// service.abort(); // it accepts no more, and the listener closes
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// The task ends when accepting fails, or is aborted. Connections go on. A shutdown of the
    /// runtime waits for the task and for connections as for any coroutine, as long as
    /// [`crate::executor::Builder::linger`] says.
    ///
    /// # Errors
    /// The executor threads cannot be started, or the listener cannot be made nonblocking.
    pub fn serve<H, F>(&self, listener: TcpListener, serve: H) -> io::Result<Task<io::Result<()>>>
    where
        H: Fn(TcpConnection) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let acceptor = TcpAcceptor::new(listener)?;
        let accepts = accept_all(acceptor, Arc::new(serve));
        self.flow()?
            .submit_task(accepts)
            .map_err(|refused| io::Error::other(refused.refusal))
    }
}

async fn accept_all<H, F>(acceptor: TcpAcceptor, serve: Arc<H>) -> io::Result<()>
where
    H: Fn(TcpConnection) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        // Others have their turn, however many connections come.
        yield_now().await;
        let flow = match acceptor.accept().await {
            Ok(flow) => flow,
            Err(error) if may_pass(&error) => {
                sleep(RETRY).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let (queue, serve) = (flow.flow().clone(), serve.clone());
        let serves = move |output| async move {
            // In a box: what serves may have large buffers, and this one is moved into a cell.
            let served = Box::pin(serve(TcpConnection::new(flow, output)));
            if let Err(error) = served.await {
                log::debug!("a connection ended: {error}");
            }
        };
        let mut submitted = queue.submit_with(serves).map_err(|refused| {
            let is_over = refused.refusal == Refusal::Stopped;
            (refused.into_inner(), is_over)
        });
        while let Err((coroutine, false)) = submitted {
            sleep(RETRY).await?;
            submitted = queue.submit(coroutine).map_err(|refused| {
                let is_over = refused.refusal == Refusal::Stopped;
                (refused.into_inner(), is_over)
            });
        }
    }
}
