// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Answers of the scheduler in words.

use super::socket::{ControlSocket, check_status};
use crate::abi::{self, Reload, Wire};
use std::io;
use std::os::fd::BorrowedFd;

/// What came of [`reload`](super::reload) or [`load_core_rule`](super::load_core_rule), in words, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The file holds, but for what is said.
    Done(String),
    /// It has mistakes, and nothing changed.
    Mistakes(String),
}

/// Asks for what is answered by a text.
pub(super) fn in_words<A: Wire>(
    socket: &ControlSocket,
    request: &A,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<Reloaded> {
    let (header, reply, _) = socket.exchange::<_, Reload>(request, fd)?;
    let text = abi::name_text(&reply.text);
    match check_status(&header) {
        Err(_) if !text.is_empty() => Ok(Reloaded::Mistakes(text)),
        status => status.map(|()| Reloaded::Done(text)),
    }
}
