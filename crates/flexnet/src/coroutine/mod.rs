// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Stackless coroutines in preallocated cells.
//!
//! Packet work that is more than bytes (a developer's own encapsulation) is a
//! `Future<Output = ()>` stored inline in a cell of a [`Slab`]; creating,
//! resuming and finishing one allocates nothing as long as it fits
//! [`CELL_BYTES`]. [`yield_now`] and [`checkpoint`] give the executor to others between
//! units of work; [`sleep_until`] and [`sleep`] wait for a time, and
//! [`timeout`] limits one.
//!
//! Left to others: when a coroutine is resumed ([`crate::executor`]), and what
//! wakes it ([`Context`](std::task::Context)'s waker, made there). Nothing here
//! knows of sockets or of scheduling.

mod slab;
mod timer;
mod yields;

pub use slab::{CELL_BYTES, CellId, Cells, Exhausted, Slab};
pub use timer::{Sleep, Timers, sleep, sleep_until, timeout};
pub use yields::{YieldNow, checkpoint, yield_now};

pub(crate) use timer::{watch_timers, with_timers};
pub(crate) use yields::{count_moved, in_turn, is_flagged, is_over, poll_budget};
