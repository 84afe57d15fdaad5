// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Executors: threads that dequeue flows and resume their work to completion.
//!
//! A [`Runtime`] has up to 16 executors. Each takes flows from its run queue,
//! or from a sibling's when its own is empty, and drains them within a budget;
//! it parks when there is nothing to do or the scheduler asks it to. Which flow
//! is whose and when is the design's choice: the default one has lock-free run
//! queues, others the queues in stack/. While it
//! runs, submitting costs no system call; while it is parked, submitters of
//! small sends do the work inline, which is cheaper than waking.
//!
//! Promised: what was accepted is done, in the order of its flow, also across
//! shutdown and the loss of the scheduler; a panic in a coroutine ends that
//! coroutine only. Left to others: what is sent how ([`crate::transport`]), and
//! on which cores executors run (the scheduler, through [`Link`]).
//!
//! Of that which schedules it, a flow knows a trait only (schedule.rs). Its drain and the reactor
//! know no more; the runtime's side of the trait is in placement.rs.

mod alone;
mod builder;
mod current;
mod deadlines;
mod drain;
mod end;
mod flow;
mod flows;
mod handle;
mod linger;
mod link;
mod output;
mod placement;
mod reactor;
mod readiness;
mod records;
mod room;
mod runtime;
mod schedule;
mod shared;
mod stack;
mod task;
mod waiters;
mod worker;

pub use crate::descriptors::{on_descriptor_created, set_lowest_descriptor};
pub use builder::Builder;
pub use drain::{Drain, Progress, Work};
pub use handle::{Flow, Refusal, SubmitError, current_flow};
pub use link::{Link, PageRef};
pub use output::Output;
pub use readiness::{Readable, Writable, readable, writable};
pub use runtime::Runtime;
pub use task::{Task, TaskError};
pub use waiters::Bell;
pub(crate) use worker::as_own_thread;
pub use worker::is_library_thread;

pub(crate) use current::{current_shared, may_wait};
pub(crate) use reactor::Interest;
pub(crate) use readiness::Wait;
pub(crate) use room::Until;
pub(crate) use schedule::Schedule;
pub(crate) use shared::{FlowCore, FlowGuard, Shared};
#[cfg(test)]
pub(crate) use waiters::block_on;
pub(crate) use worker::block_signals;
