// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Executors for structurally extensible host network stacks.
//!
//! Packet work is wrapped into a coroutine and enqueued ([`coroutine`],
//! [`queue`]); executors dequeue and resume it to completion ([`executor`]);
//! what the coroutines do to sockets is in [`transport`]; the link to the
//! scheduler that gives executors their cores is in [`client`], and everything
//! works without it.

pub mod abi;
#[cfg(not(flexnet_loom))]
pub mod client;
pub mod coroutine;
#[cfg(not(flexnet_loom))]
mod descriptors;
pub mod design;
#[cfg(not(flexnet_loom))]
pub mod executor;
pub mod queue;
pub(crate) mod sync;
#[cfg(not(flexnet_loom))]
pub mod transport;
