// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Completions: the outcome of one send, in the caller's memory.

use crate::boundary::{Errno, call_back, guard, may_wait};
use crate::ticket::Ticket;
use crate::versioned::{Versioned, size_of_caller};
use libc::{c_int, c_void};
use std::ptr::{NonNull, null};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const IDLE: u32 = 0;
const PENDING: u32 = 1;
const DONE: u32 = 2;

/// struct flexnet_completion.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Record {
    size: u32,
    state: u32,
    result: i64,
    callback: Option<unsafe extern "C-unwind" fn(*mut Record)>,
    data: *mut c_void,
    reserved: [u64; 2],
}

// SAFETY: integers, and pointers that may be null.
unsafe impl Versioned for Record {
    const FIRST: usize = 48;
}

// As the header's (tests/misuse.c has the other half).
const _: () = assert!(size_of::<Record>() == 48);

/// The caller's record, checked.
///
/// # Safety
/// `record`, unless null, points to a structure that begins with its size.
unsafe fn checked(record: *const Record) -> Result<NonNull<Record>, Errno> {
    // SAFETY: as promised.
    match unsafe { size_of_caller(record) }? {
        Record::FIRST => NonNull::new(record.cast_mut()).ok_or(libc::EINVAL),
        _ => Err(libc::E2BIG),
    }
}

/// # Safety
/// `record` points to a completion, which stays as long as the reference.
unsafe fn state_of<'a>(record: NonNull<Record>) -> &'a AtomicU32 {
    // SAFETY: as promised; the field is aligned, and only touched so while the
    // completion is the library's.
    unsafe { AtomicU32::from_ptr(&raw mut (*record.as_ptr()).state) }
}

/// Told once, also when it is dropped.
pub(crate) struct Outcome {
    record: NonNull<Record>,
    ticket: Ticket,
    reported: bool,
}

// SAFETY: the record is the library's until it is done, and this alone has it.
unsafe impl Send for Outcome {}

impl Outcome {
    /// Submits with the completion; it is as before when that fails.
    ///
    /// # Safety
    /// As flexnet.h says of completions.
    pub(crate) unsafe fn with<E>(
        record: *mut Record,
        submit: impl FnOnce(Self) -> Result<(), E>,
    ) -> Result<Result<(), E>, Errno> {
        // SAFETY: the caller's structure.
        let record = unsafe { checked(record) }?;
        // SAFETY: as above.
        let state = unsafe { state_of(record) };
        let before = state.load(Ordering::Acquire);
        if before > DONE {
            return Err(libc::EINVAL);
        }
        if before == PENDING
            || state
                .compare_exchange(before, PENDING, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return Err(libc::EBUSY);
        }
        let (submitted, was_refused) = Ticket::with(|ticket| {
            submit(Self {
                record,
                ticket,
                reported: false,
            })
        });
        if submitted.is_err() || was_refused {
            state.store(before, Ordering::Release);
        }
        match submitted {
            Ok(()) if was_refused => Err(libc::ECANCELED),
            submitted => Ok(submitted),
        }
    }

    pub(crate) fn start(&mut self) {
        self.ticket.start();
    }

    /// Bytes sent, or a negative error.
    pub(crate) fn finish(mut self, result: i64) {
        self.report(result);
    }

    fn report(&mut self, result: i64) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        let record = self.record.as_ptr();
        // SAFETY: the library's until the state says done. Afterwards only its
        // address is used (a wake of a futex nobody sleeps on is harmless), or,
        // with a callback, it is the callback's.
        unsafe {
            let callback = (*record).callback;
            (*record).result = result;
            let state = state_of(self.record);
            state.store(DONE, Ordering::Release);
            match callback {
                Some(callback) => call_back(|| callback(record)),
                None => wake(std::ptr::from_ref(state)),
            }
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !self.ticket.is_refused() {
            self.report(-i64::from(libc::ECANCELED));
        }
    }
}

/// Wakes all threads that sleep on the word.
fn wake(word: *const AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel takes it as an address, and reads nothing there.
    unsafe { libc::syscall(libc::SYS_futex, word, operation, c_int::MAX) };
}

/// Sleeps while the word is as expected, for `timeout` at most.
fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let at = timeout.as_ref().map_or(null(), std::ptr::from_ref);
    // SAFETY: the word and the timeout live until this returns.
    unsafe {
        let word = std::ptr::from_ref(word);
        libc::syscall(libc::SYS_futex, word, operation, expected, at);
    }
}

fn is_done(state: u32) -> Result<bool, Errno> {
    match state {
        IDLE | DONE => Ok(true),
        PENDING => Ok(false),
        _ => Err(libc::EINVAL),
    }
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_completion_poll(completion: *const Record) -> c_int {
    guard(|| {
        // SAFETY: the caller's, until this returns.
        let state = unsafe { state_of(checked(completion)?) };
        is_done(state.load(Ordering::Acquire)).map(c_int::from)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_completion_wait(
    completion: *const Record,
    timeout_ns: i64,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's, until this returns.
        let state = unsafe { state_of(checked(completion)?) };
        let timeout = u64::try_from(timeout_ns).ok().map(Duration::from_nanos);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        while !is_done(state.load(Ordering::Acquire))? {
            may_wait()?;
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(libc::ETIMEDOUT);
            }
            wait(state, PENDING, left);
        }
        Ok(0)
    })
}
