// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Encapsulation queues: where wrapped packet work waits for an executor.
//!
//! Two levels. A [`flow ring`](FlowRing) holds what one socket has to send, in
//! order; a [`run queue`](RunQueue) holds, for one executor, the flows that
//! have something. A flow is in at most one run queue ([`Gate`]), and is drained
//! by one thread at a time, so any executor may serve any flow in order.
//! [`Parker`] is the handshake between an executor that sleeps and a thread that
//! has work for it.
//!
//! Promised: a run queue is never full, since a flow brings its own place in it ([`Linked`]);
//! bounded memory, no allocation once a ring has grown, no system call but
//! to wake a sleeper. Left to others: what is done with the work
//! ([`crate::transport`]) and what does it ([`crate::executor`]). Nothing here
//! knows of sockets or of scheduling.

mod bias;
mod gate;
mod link;
mod parker;
mod ring;
mod run_queue;

pub use gate::Gate;
pub use link::{Link, Linked, Node};
pub use parker::{Parker, Sleep};
pub use ring::{Charge, FlowRing, Full, Record, RecordKind, RingReader};
pub use run_queue::{Owner, RunQueue};

pub(crate) use parker::{futex_wait, futex_wake};

#[cfg(all(test, flexnet_loom))]
mod loom_tests;
#[cfg(all(test, not(flexnet_loom)))]
mod run_queue_tests;
