// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The calling thread as a sender. It counts its sends, and after a number of them asks the policy
//! how the next ones go.

use crate::clock::ticks;
use crate::policy::{self, SENDS_PER_SAMPLE, Sample, SendMode, Sender};
use crate::process::ProcessState;
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

/// Readings of the thread's clocks at its last sample.
#[derive(Clone, Copy)]
struct Reading {
    ticks: u64,
    waits: u64,
}

struct State {
    send_mode: Cell<SendMode>,
    sends: Cell<u32>,
    /// So many sends are a sample.
    per_sample: Cell<u32>,
    bytes: Cell<u64>,
    last: Cell<Option<Reading>>,
    policy: Cell<Sender>,
}

thread_local! {
    static STATE: State = const {
        State {
            send_mode: Cell::new(SendMode::Inline),
            sends: Cell::new(0),
            per_sample: Cell::new(SENDS_PER_SAMPLE),
            bytes: Cell::new(0),
            last: Cell::new(None),
            policy: Cell::new(Sender::new()),
        }
    };
}

/// A send of so many bytes: which way? `backlog` is what was accepted and not
/// sent by now, where the caller can tell.
#[inline]
pub(crate) fn send_mode(
    process: &ProcessState,
    bytes: usize,
    backlog: impl FnOnce() -> Option<u64>,
) -> SendMode {
    STATE.with(|state| {
        state
            .bytes
            .set(state.bytes.get().wrapping_add(bytes as u64));
        let sends = state.sends.get() + 1;
        state.sends.set(sends);
        if sends >= state.per_sample.get() {
            sample(state, process, backlog());
        }
        state.send_mode.get()
    })
}

#[cold]
fn sample(state: &State, process: &ProcessState, backlog: Option<u64>) {
    let now = read();
    let (sends, bytes) = (state.sends.replace(0), state.bytes.replace(0));
    let rate = process.policy.rate();
    let Some(last) = state.last.replace(Some(now)) else {
        return;
    };
    if rate == 0 {
        return;
    }
    let mut policy = state.policy.get();
    let was_excluded = policy.is_excluded();
    let send_mode = policy.observe(Sample {
        sends: sends.into(),
        bytes,
        wall_ns: policy::ticks_to_ns(now.ticks.saturating_sub(last.ticks), rate),
        waits: now.waits.saturating_sub(last.waits),
        backlog,
    });
    state.per_sample.set(policy.sends_per_sample());
    state.policy.set(policy);
    state.send_mode.set(send_mode);
    if policy.is_excluded() && !was_excluded {
        process.leaving.store(1, Relaxed);
    }
}

fn read() -> Reading {
    // SAFETY: zeros are valid, and the kernel writes the whole of it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage
    };
    Reading {
        ticks: ticks(),
        waits: usage.ru_nvcsw as u64,
    }
}
