// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A lock that costs its owner two stores and a load, and everybody else a
//! system call: an executor takes from its own queue all the time, a thief
//! seldom.
//!
//! Owner: inside = true, fence, is it seized? Thief: seized = true, fence, is
//! the owner inside? One of the two sees the other. The owner's fence is for
//! the compiler only, where the thief's can be membarrier(2), which makes every
//! running thread of the process pass a full one. Neither side waits: the owner
//! does without for the moment, the thief goes elsewhere.

use crate::sync::{AtomicBool, CacheLine, Ordering, fence_seqcst, spin_loop};

/// Looks at an owner who is inside (for some ns, unless he was preempted there).
const LOOKS: u32 = 32;

/// Who may seize the lock while it has an owner.
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
        // Who seized it while it had no owner did not look for one inside.
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
        if self.thieves == Thieves::Fences {
            fence_seqcst!("bias_enter");
        } else {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        }
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

    /// After `seized` was set: has the owner left, and will he see it?
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
fn membarrier() -> bool {
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::PrivateExpedited).is_ok()
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
