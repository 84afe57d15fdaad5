// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Receiving in a coroutine: at once where there is something, else when the reactor says so.
//!
//! Promised: nothing is read but into the buffer of a call that then returns it, so a call that is
//! given up loses nothing; a coroutine that always finds something gives way to other flows.

use crate::coroutine::{count_moved, poll_budget};
use crate::executor::{Interest, Wait};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

/// Bytes of a stream, or a datagram; a turn has `budget` bytes. `wait` is for the socket.
pub(super) fn poll_receive<D: AsFd>(
    wait: &mut Wait<D>,
    context: &mut Context<'_>,
    buffer: &mut [u8],
    budget: usize,
) -> Poll<io::Result<usize>> {
    if poll_budget(context, budget).is_pending() {
        return Poll::Pending;
    }
    loop {
        match recv(wait.descriptor(), &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, length)) => {
                count_moved(length.max(1));
                return Poll::Ready(Ok(length.min(buffer.len())));
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return wait.poll_woken(context),
            Err(errno) => return Poll::Ready(Err(errno.into())),
        }
    }
}

/// [`poll_receive`], awaited.
pub(super) async fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    budget: usize,
) -> io::Result<usize> {
    let mut wait = Wait::new(socket, Interest::Readable);
    poll_fn(|context| poll_receive(&mut wait, context, buffer, budget)).await
}
