// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The flows that have had a coroutine: a coroutine may own its flow, and wait for what nobody
//! wakes. Then nothing but itself refers to it, and the end of the runtime finds it here.
//!
//! Left to others: what is done to them (end.rs). A flow without coroutines is never in here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Flows of type `F`, by their tokens.
pub(super) struct Flows<F>(Mutex<HashMap<u64, Weak<F>>>);

impl<F> Default for Flows<F> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<F> Flows<F> {
    pub(super) fn insert(&self, token: u64, flow: &Arc<F>) {
        self.lock().insert(token, Arc::downgrade(flow));
    }

    /// For a flow that is dropped.
    pub(super) fn remove(&self, token: u64) {
        self.lock().remove(&token);
    }

    /// Those there are.
    pub(super) fn all(&self) -> Vec<Arc<F>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<F>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
