// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! One facade for atomics, fences, cells and sleeping, so that the source that
//! ships is the source loom explores (`--cfg flexnet_loom`).
//!
//! It also has the mutation check: [`fence_seqcst!`] names each fence of a
//! handshake, and `--cfg flexnet_mutant="NAME"` takes that one out. loom must
//! fail then; ci/mutants asserts that it does.

#[cfg(flexnet_loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence},
};

#[cfg(not(flexnet_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence},
};

/// A sequentially consistent fence with a name, for the mutation check.
macro_rules! fence_seqcst {
    ($name:literal) => {{
        #[cfg(not(flexnet_mutant = $name))]
        $crate::sync::fence($crate::sync::Ordering::SeqCst);
    }};
}
pub(crate) use fence_seqcst;

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
