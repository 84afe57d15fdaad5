// SPDX-License-Identifier: GPL-2.0-only
//! What an interrupt that ends a turn costs the thread that it interrupts.
//!
//! A timer's signal, delivered to this very thread: the interrupt, the kernel's
//! way to a handler and back, which is the nearest that a process can have to
//! being preempted. The thread reads the clock in a loop; a step of the clock in
//! which the handler ran is that much longer than the others.

use super::median::median;
use anyhow::{Context, Result};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Signals measured, and the time between them.
const SIGNALS: u32 = 500;
const EVERY_NS: i64 = 200_000;

/// Signals handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handle(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A timer whose signal goes to the thread that made it; deleted when dropped,
/// and the signal is as before then.
struct Timer {
    id: libc::timer_t,
    before: libc::sigaction,
}

impl Timer {
    fn start() -> io::Result<Self> {
        // SAFETY: all zeros are a valid sigaction, sigevent and itimerspec; the
        // pointers are to live values, and the handler only adds to an atomic.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            let mut before = MaybeUninit::uninit();
            check(libc::sigaction(libc::SIGUSR1, &action, before.as_mut_ptr()))?;
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGUSR1;
            event.sigev_notify_thread_id = libc::gettid();
            let mut id = ptr::null_mut();
            check(libc::timer_create(
                libc::CLOCK_MONOTONIC,
                &mut event,
                &mut id,
            ))?;
            let timer = Self {
                id,
                before: before.assume_init(),
            };
            let mut times: libc::itimerspec = std::mem::zeroed();
            times.it_value.tv_nsec = EVERY_NS;
            times.it_interval.tv_nsec = EVERY_NS;
            check(libc::timer_settime(id, 0, &times, ptr::null_mut()))?;
            Ok(timer)
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer is this one's, and `before` was the kernel's answer.
        unsafe {
            libc::timer_delete(self.id);
            libc::sigaction(libc::SIGUSR1, &self.before, ptr::null_mut());
        }
    }
}

/// What one costs, ns: the median step with a signal less the median without.
pub(super) fn measure() -> Result<u64> {
    let origin = Instant::now();
    let (mut with, mut without) = (Vec::with_capacity(SIGNALS as usize), Vec::new());
    let timer = Timer::start().context("no timer")?;
    let mut seen = HANDLED.load(Ordering::Relaxed);
    let mut last = origin.elapsed();
    // The step before, and whether a handler ran by its end.
    let mut before = (0, false);
    while with.len() < SIGNALS as usize {
        let now = origin.elapsed();
        let handled = HANDLED.load(Ordering::Relaxed);
        let step = (now - last).as_nanos() as u64;
        last = now;
        // It may have run after the clock was read: then it is in the next step.
        if before.1 {
            with.push(step.max(before.0));
        } else if handled == seen && without.len() < 100_000 {
            without.push(step);
        }
        before = (step, handled != seen);
        seen = handled;
    }
    drop(timer);
    Ok(median(with).saturating_sub(median(without)))
}
