// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A lock that costs its owner two stores and a load, and everybody else a
//! system call: an executor takes from its own queue all the time, a thief
//! seldom.
//!
//! Owner: inside = true, fence, is it seized? Thief: seized = true, fence, is
//! the owner inside? One of the two sees the other. The owner's fence is for
//! the compiler only, where the thief's can be membarrier(2), which makes every
//! running thread of the process pass a full one, and is cheap (see [`dear`]).
//! Neither side waits: the owner does without for the moment, the thief goes
//! elsewhere.

use crate::sync::{AtomicBool, CacheLine, Ordering, fence_seqcst, spin_loop};

/// Looks at an owner that is inside (for some ns, unless it was preempted there).
const LOOKS: u32 = 32;

/// What may seize the lock while it has an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thieves {
    /// Nobody.
    None,
    /// Anybody, by membarrier.
    Membarrier,
    /// Anybody; the owner pays for a fence, since there is no membarrier here.
    Fences,
}

#[derive(Debug)]
pub(super) struct Bias {
    /// The owner is at it. Written by the owner alone.
    inside: CacheLine<AtomicBool>,
    /// A thief is at it. On a line the owner reads and nobody often writes.
    seized: CacheLine<AtomicBool>,
    owned: AtomicBool,
    thieves: Thieves,
}

impl Bias {
    /// `thieves`: may it be seized from an owner?
    pub(super) fn new(thieves: bool) -> Self {
        Self {
            inside: CacheLine(AtomicBool::new(false)),
            seized: CacheLine(AtomicBool::new(false)),
            owned: AtomicBool::new(false),
            thieves: match thieves {
                false => Thieves::None,
                true if has_membarrier() => Thieves::Membarrier,
                true => Thieves::Fences,
            },
        }
    }

    /// Becomes the owner; false when there is one.
    pub(super) fn own(&self) -> bool {
        if self.owned.swap(true, Ordering::AcqRel) {
            return false;
        }
        fence_seqcst!("bias_own");
        // A thief that seized it while it had no owner did not look for one inside.
        while self.seized.load(Ordering::Acquire) {
            yield_thread();
        }
        true
    }

    /// The owner leaves for good.
    pub(super) fn disown(&self) {
        self.owned.store(false, Ordering::Release);
    }

    /// Owner: true: calls [`Bias::exit`] when done. False: a thief is at it.
    #[inline(always)]
    pub(super) fn enter(&self) -> bool {
        self.inside.store(true, Ordering::Relaxed);
        // Before the state is read, as well.
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        let fences = match self.thieves {
            Thieves::None => false,
            Thieves::Membarrier => owners_fence(),
            Thieves::Fences => true,
        };
        if fences {
            fence_seqcst!("bias_enter");
        }
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        if self.seized.load(Ordering::Acquire) {
            self.exit();
            return false;
        }
        true
    }

    #[inline(always)]
    pub(super) fn exit(&self) {
        self.inside.store(false, Ordering::Release);
    }

    /// Anybody: true: calls [`Bias::release`] when done. False: not now.
    pub(super) fn seize(&self) -> bool {
        if self.seized.swap(true, Ordering::Acquire) {
            return false;
        }
        fence_seqcst!("bias_seize");
        if !self.owned.load(Ordering::Acquire) || self.is_outside() {
            return true;
        }
        self.release();
        false
    }

    pub(super) fn release(&self) {
        self.seized.store(false, Ordering::Release);
    }

    pub(super) fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }

    /// After `seized` was set: has the owner left, and will it see that?
    fn is_outside(&self) -> bool {
        let barred = match self.thieves {
            Thieves::None => false,
            Thieves::Membarrier => membarrier(),
            Thieves::Fences => true,
        };
        barred
            && (0..LOOKS).any(|_| {
                let outside = !self.inside.load(Ordering::Acquire);
                if !outside {
                    spin_loop();
                }
                outside
            })
    }
}

#[cfg(not(flexnet_loom))]
use std::thread::yield_now as yield_thread;

#[cfg(not(flexnet_loom))]
use dear::{barrier as membarrier, owners_fence, seize_ns};

/// membarrier, as long as it is cheap. It interrupts every running thread of the
/// process: 2 µs on bare metal, but 13 µs were measured in a virtual machine, and
/// milliseconds in an emulated one. From [`DEAR_NS`] on owners pay for a fence
/// instead, some ns for each look at their queue, and thieves for one too.
#[cfg(not(flexnet_loom))]
mod dear {
    use super::Ordering;
    use std::sync::atomic::{AtomicU8, AtomicU64};
    use std::time::Instant;

    /// A fence costs an owner 5 to 20 ns, and it takes from its queue some
    /// hundred times as often as somebody steals from it.
    const DEAR_NS: u64 = 8_000;
    /// What seizing costs by a fence, about, ns.
    const FENCE_NS: u64 = 200;

    /// Thieves use membarrier.
    const CHEAP: u8 = 0;
    /// They do, and owners fence from now on.
    const BOTH: u8 = 1;
    /// Every owner fences.
    const DEAR: u8 = 2;

    static STATE: AtomicU8 = AtomicU8::new(CHEAP);
    /// An average that forgets half in five.
    static AVERAGE_NS: AtomicU64 = AtomicU64::new(2_000);

    /// Does an owner fence by itself?
    #[inline(always)]
    pub(super) fn owners_fence() -> bool {
        STATE.load(Ordering::Relaxed) != CHEAP
    }

    /// What a thief pays, ns.
    pub(super) fn seize_ns() -> u64 {
        match STATE.load(Ordering::Relaxed) {
            DEAR => FENCE_NS,
            _ => AVERAGE_NS.load(Ordering::Relaxed),
        }
    }

    fn membarrier() -> bool {
        use rustix::thread::{MembarrierCommand, membarrier};
        membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }

    /// Has every owner passed a full barrier, or will it before it looks?
    pub(super) fn barrier() -> bool {
        if STATE.load(Ordering::Acquire) == DEAR {
            return true;
        }
        let start = Instant::now();
        let barred = membarrier();
        let took = start.elapsed().as_nanos() as u64;
        let before = AVERAGE_NS.load(Ordering::Relaxed);
        // One that was preempted meanwhile counts as four times the average.
        let average = (7 * before + took.min(4 * before)) / 8;
        AVERAGE_NS.store(average, Ordering::Relaxed);
        if average > DEAR_NS && swap(CHEAP, BOTH) {
            // A thread that has read CHEAP is inside for all to see after this; one
            // that reads the state after this, fences.
            let last = membarrier();
            STATE.store(if last { DEAR } else { BOTH }, Ordering::Release);
        }
        barred
    }

    fn swap(from: u8, to: u8) -> bool {
        let swapped = STATE.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        swapped.is_ok()
    }
}

/// Waits for as long as seizing costs, or until `done`.
#[cfg(not(flexnet_loom))]
pub(super) fn wait_a_seizure(done: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    let patience = std::time::Duration::from_nanos(seize_ns());
    while !done() && start.elapsed() < patience {
        spin_loop();
    }
}

#[cfg(flexnet_loom)]
fn owners_fence() -> bool {
    true
}

#[cfg(flexnet_loom)]
pub(super) fn wait_a_seizure(done: impl Fn() -> bool) {
    if !done() {
        spin_loop();
    }
}

/// Registers the process, once: takes some ms where there are threads already.
#[cfg(not(flexnet_loom))]
fn has_membarrier() -> bool {
    use rustix::thread::{MembarrierCommand, membarrier};
    static REGISTERED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *REGISTERED.get_or_init(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok())
}

#[cfg(flexnet_loom)]
use loom::thread::yield_now as yield_thread;

// loom has fences only: both sides' are explicit, and named for ci/mutants.
#[cfg(flexnet_loom)]
fn membarrier() -> bool {
    false
}

#[cfg(flexnet_loom)]
fn has_membarrier() -> bool {
    false
}
