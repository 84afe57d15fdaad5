// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The functions that programs call in place of the C library's. Each one does what the library has
//! to do, and then calls the next function of its name. So what is not ours behaves as before,
//! cancellation included.
//!
//! Nothing here unwinds by itself. "C-unwind" is for a thread that is cancelled inside the real
//! call.

pub(crate) mod descriptors;
pub(crate) mod options;
pub(crate) mod others;
pub(crate) mod process;
pub(crate) mod receive;
pub(crate) mod sends;

use crate::entry::{Entry, Used};
use crate::hook_guard::HookGuard;
use crate::table::{self, is_entry};
use libc::c_int;

/// Runs `f` on the descriptor's entry, if it has one.
fn with_entry<R>(fd: c_int, f: impl FnOnce(&HookGuard, &Used) -> R) -> Option<R> {
    let slot = table::slot(fd)?;
    let tagged = slot.tagged();
    if !is_entry(tagged) {
        return None;
    }
    let guard = HookGuard::enter()?;
    let entry = Entry::of(slot, tagged)?;
    Some(f(&guard, &entry))
}

/// An error of a queued send that the program was not told of; it is by now. Not
/// EPIPE, which only sends come to.
fn unreported_error(fd: c_int) -> Option<c_int> {
    with_entry(fd, |_, entry| match entry.flow().error()? {
        libc::EPIPE => None,
        _ => entry.take_error(),
    })?
}
