// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! One facade for atomics, fences, cells and sleeping, so that the source that
//! ships is the source loom explores (`--cfg flexnet_loom`).
//!
//! It also has the mutation check: [`fence_seqcst!`] names each fence of a
//! handshake. Under loom, FLEXNET_MUTANT=NAME in the environment takes that
//! fence out. loom must fail then; ci/mutants asserts that it does.

#[cfg(flexnet_loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
};

#[cfg(not(flexnet_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
};

/// A sequentially consistent fence with a name, for the mutation check.
macro_rules! fence_seqcst {
    ($name:literal) => {{
        #[cfg(flexnet_loom)]
        let stays = !$crate::sync::is_taken_out($name);
        #[cfg(not(flexnet_loom))]
        let stays = true;
        if stays {
            $crate::sync::fence($crate::sync::Ordering::SeqCst);
        }
    }};
}
pub(crate) use fence_seqcst;

/// Does the mutation check run without this fence? Read once: loom explores
/// thousands of interleavings in one process.
#[cfg(flexnet_loom)]
pub(crate) fn is_taken_out(fence: &str) -> bool {
    static MUTANT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let mutant = MUTANT.get_or_init(|| std::env::var("FLEXNET_MUTANT").ok());
    mutant.as_deref() == Some(fence)
}

/// std's cell with loom's interface.
#[cfg(not(flexnet_loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(flexnet_loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// A value on cache lines of its own: two, because the adjacent-line
/// prefetcher of x86 fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CacheLine<T>(pub(crate) T);

impl<T> std::ops::Deref for CacheLine<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
