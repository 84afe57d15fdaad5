// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What a runtime is made of. runtime.rs checks the bounds of that, and makes it.

use super::link::Link;
use crate::abi::FlowClass;
use crate::design::Design;
use std::sync::Arc;
use std::time::Duration;

/// Coroutine cells of a runtime unless the builder says otherwise.
const COROUTINES: u32 = 4096;
/// Bytes of an executor's stack unless the builder says otherwise.
const STACK_BYTES: usize = 256 * 1024;
/// How long a shutdown waits for peers that take nothing.
const LINGER: Duration = Duration::from_secs(5);

/// Makes a [`Runtime`](super::Runtime).
pub struct Builder {
    pub(super) name: String,
    pub(super) executors: usize,
    pub(super) flow_class: FlowClass,
    pub(super) coroutines: u32,
    pub(super) stack_bytes: usize,
    pub(super) ring_bytes: Option<usize>,
    pub(super) linger: Duration,
    pub(super) link: Option<Arc<dyn Link>>,
    pub(super) design: Option<Box<dyn Design>>,
    pub(super) spin_up_to: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: "flexnet".to_owned(),
            executors: 1,
            flow_class: FlowClass::Throughput,
            coroutines: COROUTINES,
            stack_bytes: STACK_BYTES,
            ring_bytes: None,
            linger: LINGER,
            link: None,
            design: None,
            spin_up_to: Duration::ZERO,
        }
    }
}

impl Builder {
    /// The most coroutine cells of a runtime: 256 MiB.
    pub const COROUTINES_MAX: u32 = 1 << 20;
    /// The smallest stack of an executor.
    pub const STACK_BYTES_MIN: usize = 64 * 1024;
    /// The largest stack of an executor.
    pub const STACK_BYTES_MAX: usize = 1 << 30;
    /// The least that the limit of a flow's ring may be.
    pub const RING_BYTES_MIN: usize = 4096;
    /// The most that the limit of a flow's ring may be.
    pub const RING_BYTES_MAX: usize = 1 << 30;

    /// Names the executor threads (`name/0`, `name/1`, …), without a NUL. Default: `flexnet`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Number of executor threads, 1 to [`EXECUTORS_MAX`](crate::abi::EXECUTORS_MAX).
    /// Default: 1. They cost nothing while parked, and the scheduler decides how many run.
    #[must_use]
    pub fn executors(mut self, executors: usize) -> Self {
        self.executors = executors;
        self
    }

    /// What the flows are: latency flows go first on granted cores, within a
    /// budget. Default: throughput.
    #[must_use]
    pub fn flow_class(mut self, flow_class: FlowClass) -> Self {
        self.flow_class = flow_class;
        self
    }

    /// Cells for coroutines of one's own that are alive at once, up to
    /// [`Builder::COROUTINES_MAX`]. Default: 4096. Each takes 256 bytes.
    #[must_use]
    pub fn coroutines(mut self, cells: u32) -> Self {
        self.coroutines = cells;
        self
    }

    /// Bytes of an executor's stack, [`Builder::STACK_BYTES_MIN`] to
    /// [`Builder::STACK_BYTES_MAX`]. Default: 256 KiB. It is what a coroutine has for its locals
    /// between two awaits and for what it calls; the library itself needs less than 16 KiB of it.
    /// One that needs more ends the process by SIGSEGV. In a Rust program the standard library
    /// says first which thread has overflowed its stack.
    #[must_use]
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = bytes;
        self
    }

    /// Bytes of a flow's ring at most, [`Builder::RING_BYTES_MIN`] to
    /// [`Builder::RING_BYTES_MAX`], rounded up to a power of two: what a flow accepts beyond what
    /// its socket takes. A ring has 2 KiB at first and grows by need. Default: 128 KiB for TCP,
    /// 256 KiB for UDP, which never has less, since a datagram must fit, and 64 KiB without a
    /// socket.
    #[must_use]
    pub fn ring_bytes(mut self, most: usize) -> Self {
        self.ring_bytes = Some(most);
        self
    }

    /// How long a shutdown waits for peers that take nothing, and for coroutines. Default: 5 s.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// The way to the scheduler ([`crate::client::Client`]). Without: none.
    #[must_use]
    pub fn link(mut self, link: Arc<dyn Link>) -> Self {
        self.link = Some(link);
        self
    }

    /// A design of one's own for what runs when. Default: the scheduler's, which
    /// the operator chooses, and without one `flexnet`. How many executors have
    /// cores stays the scheduler's to say.
    #[must_use]
    pub fn design(mut self, design: Box<dyn Design>) -> Self {
        self.design = Some(design);
        self
    }

    /// How long an executor looks for work at most before it parks (0 to 1 ms).
    /// One that was woken sooner than that after it parked looks twice as long
    /// the next time, as KVM's halt polling does: a wakeup costs the sender 3.3
    /// to 3.6 µs. Default: 0, as long as the design says.
    #[must_use]
    pub fn spin_up_to(mut self, longest: Duration) -> Self {
        self.spin_up_to = longest.min(Duration::from_millis(1));
        self
    }
}
