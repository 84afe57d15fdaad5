// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! fork(2): the child has the parent's memory, but none of its threads. The
//! parent's handles name nothing there, and it may make its own.

use crate::flow::FLOWS;
use crate::handle::Frozen;
use crate::runtime::RUNTIMES;
use std::cell::RefCell;
use std::sync::Once;

static WATCHED: Once = Once::new();

thread_local! {
    /// The tables, around a fork in this thread.
    static FROZEN: RefCell<Option<[Frozen<'static>; 2]>> = const { RefCell::new(None) };
}

/// Called before there is the first handle.
pub(crate) fn watch() {
    WATCHED.call_once(|| {
        // SAFETY: the three only take locks and set flags. Without memory for
        // that (the only error) a child that uses a handle hangs, as it would
        // without this.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

extern "C" fn prepare() {
    FROZEN.set(Some([RUNTIMES.freeze(), FLOWS.freeze()]));
}

extern "C" fn parent() {
    FROZEN.set(None);
}

extern "C" fn child() {
    if let Some([runtimes, flows]) = FROZEN.take() {
        RUNTIMES.forget_all(&runtimes);
        FLOWS.forget_all(&flows);
    }
}
