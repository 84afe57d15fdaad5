// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Coroutines of the application's own: a step function and its state, stored in
//! a cell of the runtime.

use crate::boundary::{Errno, call_back, guard};
use crate::flow::{Handle, get};
use crate::send::errno_of_submit;
use crate::ticket::Ticket;
use crate::versioned::{Versioned, copy_in};
use flexnet::coroutine::{CELL_BYTES, Sleep, YieldNow, checkpoint, sleep, yield_now};
use flexnet::executor::{Writable, writable};
use libc::{c_int, c_void};
use std::cell::Cell;
use std::future::Future;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::pin::Pin;
use std::ptr::{self, null};
use std::task::{self, Poll, Waker};
use std::time::Duration;

/// FLEXNET_STATE_BYTES: what fits a cell beside what is kept of the coroutine.
const STATE_BYTES: usize = 160;

const STEP_DONE: c_int = 0;
const STEP_YIELD: c_int = 1;
const STEP_WAIT_WRITABLE: c_int = 2;
const STEP_SLEEP: c_int = 3;

type StepFn = unsafe extern "C-unwind" fn(*mut c_void, *mut Context) -> c_int;
type FinishFn = unsafe extern "C-unwind" fn(*mut c_void, c_int);

/// struct flexnet_coroutine.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Description {
    size: u32,
    state_bytes: u32,
    state: *const c_void,
    step: Option<StepFn>,
    finish: Option<FinishFn>,
}

// SAFETY: integers, and pointers that may be null.
unsafe impl Versioned for Description {
    const FIRST: usize = 32;
}

// As the header's (tests/misuse.c has the other half).
const _: () = assert!(size_of::<Description>() == 32);

#[cfg(test)]
impl Description {
    pub(crate) fn set<T>(&mut self, state: &T, step: StepFn, finish: FinishFn) {
        self.state_bytes = size_of::<T>() as u32;
        self.state = ptr::from_ref(state).cast();
        self.step = Some(step);
        self.finish = Some(finish);
    }
}

/// Of what flexnet.h calls struct flexnet_context: a step's, while it runs.
pub struct Context {
    /// How the wait before it went.
    result: Errno,
    /// What it asked to wait for.
    wish: Wish,
}

#[derive(Clone, Copy)]
enum Wish {
    None,
    Writable(RawFd),
    Sleep(u64),
}

thread_local! {
    /// The context of the step this thread runs.
    static CONTEXT: Cell<*const Context> = const { Cell::new(null()) };
}

/// What a coroutine waits for between two steps.
enum Wait {
    Nothing,
    Yield(YieldNow),
    Sleep(Sleep),
    Writable(Writable<'static>),
}

#[repr(C, align(16))]
struct State(MaybeUninit<[u8; STATE_BYTES]>);

struct Coroutine {
    state: State,
    step: StepFn,
    finish: Option<FinishFn>,
    wait: Wait,
    /// What it has ended with if it is dropped now.
    ending: c_int,
    ticket: Ticket,
}

// The library would box what does not fit, and allocate.
const _: () = assert!(size_of::<Coroutine>() <= CELL_BYTES && align_of::<Coroutine>() <= 16);

// SAFETY: flexnet.h says that steps run on any thread, one at a time.
unsafe impl Send for Coroutine {}

impl Drop for Coroutine {
    fn drop(&mut self) {
        let is_refused = self.ticket.is_refused();
        if let Some(finish) = self.finish.filter(|_| !is_refused) {
            let state = self.state.0.as_mut_ptr().cast();
            // SAFETY: the application's, which is called once.
            call_back(|| unsafe { finish(state, self.ending) });
        }
    }
}

impl Coroutine {
    /// Runs one step; what it returned and what it wants to wait for.
    fn step(&mut self, result: Errno) -> (c_int, Wish) {
        let mut context = Context {
            result,
            wish: Wish::None,
        };
        struct Restore(*const Context);
        impl Drop for Restore {
            fn drop(&mut self) {
                CONTEXT.set(self.0);
            }
        }
        let at = &raw mut context;
        let _restore = Restore(CONTEXT.replace(at));
        let state = self.state.0.as_mut_ptr().cast();
        // Should it panic (one written in Rust), that is how it ended.
        self.ending = -libc::EIO;
        // SAFETY: the application's, with its state, by one thread at a time.
        let returned = call_back(|| unsafe { (self.step)(state, at) });
        self.ending = -libc::ECANCELED;
        // SAFETY: this function's own.
        (returned, unsafe { (*at).wish })
    }

    /// The end of the wait, and how it went.
    fn poll_wait(&mut self, context: &mut task::Context<'_>) -> Poll<Errno> {
        let polled = match &mut self.wait {
            Wait::Nothing => Poll::Ready(0),
            Wait::Yield(wait) => Pin::new(wait).poll(context).map(|()| 0),
            Wait::Sleep(wait) => Pin::new(wait).poll(context).map(|waited| match waited {
                Ok(()) => 0,
                Err(_) => libc::ECANCELED,
            }),
            Wait::Writable(wait) => Pin::new(wait).poll(context).map(|waited| match waited {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::ECANCELED),
            }),
        };
        if polled.is_ready() {
            self.wait = Wait::Nothing;
        }
        polled
    }
}

impl Future for Coroutine {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.ticket.start();
        loop {
            let Poll::Ready(result) = this.poll_wait(context) else {
                return Poll::Pending;
            };
            let (returned, wish) = this.step(result);
            this.wait = match (returned, wish) {
                (STEP_YIELD, _) => Wait::Yield(yield_now()),
                (STEP_SLEEP, Wish::Sleep(ns)) => Wait::Sleep(sleep(Duration::from_nanos(ns))),
                (STEP_WAIT_WRITABLE, Wish::Writable(fd)) => {
                    // SAFETY: the application keeps it open until the wait ends.
                    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                    Wait::Writable(writable(fd))
                }
                (ending, _) => {
                    this.ending = if ending <= STEP_DONE {
                        ending
                    } else {
                        -libc::EINVAL
                    };
                    return Poll::Ready(());
                }
            };
            // A wait that is over at once is no reason to keep the executor.
            if returned != STEP_YIELD && is_turn_over() {
                let polled = this.poll_wait(context);
                if polled.is_ready() {
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    }
}

/// Is it the turn of others?
fn is_turn_over() -> bool {
    let mut context = task::Context::from_waker(Waker::noop());
    Pin::new(&mut checkpoint()).poll(&mut context).is_pending()
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_submit(flow: *mut Handle, coroutine: *const Description) -> c_int {
    guard(|| {
        let flow = get(flow)?;
        // SAFETY: the caller's structure.
        let description = unsafe { copy_in(coroutine) }?;
        let bytes = description.state_bytes as usize;
        if bytes > STATE_BYTES {
            return Err(libc::E2BIG);
        }
        let step = description.step.ok_or(libc::EINVAL)?;
        if bytes > 0 && description.state.is_null() {
            return Err(libc::EINVAL);
        }
        let mut state = State(MaybeUninit::uninit());
        if bytes > 0 {
            // SAFETY: the caller's state, which fits.
            unsafe {
                let to = state.0.as_mut_ptr().cast::<u8>();
                ptr::copy_nonoverlapping(description.state.cast(), to, bytes);
            }
        }
        let (submitted, was_refused) = Ticket::with(|ticket| {
            let coroutine = Coroutine {
                state,
                step,
                finish: description.finish,
                wait: Wait::Nothing,
                ending: -libc::ECANCELED,
                ticket,
            };
            // Refused, it goes in here without a word: the state is the caller's still.
            flow.queue().submit(coroutine).map_err(errno_of_submit)
        });
        submitted?;
        match was_refused {
            true => Err(libc::ECANCELED),
            false => Ok(0),
        }
    })
}

/// The context, if it is the running step's.
fn current(context: *const Context) -> Result<*mut Context, Errno> {
    match !context.is_null() && ptr::eq(context, CONTEXT.get()) {
        true => Ok(context.cast_mut()),
        false => Err(libc::EINVAL),
    }
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_wait_writable(context: *mut Context, fd: c_int) -> c_int {
    guard(|| {
        let context = current(context)?;
        if fd < 0 {
            return Err(libc::EINVAL);
        }
        // SAFETY: of the step that runs on this thread.
        unsafe { (*context).wish = Wish::Writable(fd) };
        Ok(STEP_WAIT_WRITABLE)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_sleep(context: *mut Context, nanoseconds: u64) -> c_int {
    guard(|| {
        // SAFETY: of the step that runs on this thread.
        unsafe { (*current(context)?).wish = Wish::Sleep(nanoseconds) };
        Ok(STEP_SLEEP)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_wait_result(context: *const Context) -> c_int {
    guard(|| {
        // SAFETY: of the step that runs on this thread.
        match unsafe { (*current(context)?).result } {
            0 => Ok(0),
            errno => Err(errno),
        }
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_should_yield(context: *const Context) -> c_int {
    guard(|| {
        current(context)?;
        Ok(is_turn_over().into())
    })
}
