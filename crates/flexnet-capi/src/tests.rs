// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What C cannot do: panics on either side of the boundary. The rest is tested
//! from C (tests/c).

use crate::boundary::guard;
use crate::completion::{Outcome, Record};
use crate::coroutine::{Context, Description, flexnet_submit};
use crate::create::{Options, flexnet_runtime_create};
use crate::flow::{self, flexnet_close, flexnet_flow_create};
use crate::runtime::{self, flexnet_runtime_destroy};
use crate::send::{Socket, datagram, flexnet_flush, stream};
use crate::ticket::Ticket;
use flexnet::coroutine::CELL_BYTES;
use libc::{c_int, c_void};
use std::panic::resume_unwind;
use std::ptr::null_mut;
use std::sync::mpsc::{Sender, channel};

/// As C writes them: bytes.
fn zeroed<T>(size: usize) -> T {
    // SAFETY: of structures of the interface, all of which may be zeros.
    unsafe {
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        value.as_mut_ptr().cast::<u32>().write(size as u32);
        value.assume_init()
    }
}

struct Setup {
    runtime: *mut runtime::Handle,
    flow: *mut flow::Handle,
}

fn setup() -> Setup {
    let mut options: Options = zeroed(size_of::<Options>());
    options.without_scheduler();
    let (mut runtime, mut flow) = (null_mut(), null_mut());
    // SAFETY: as flexnet.h asks.
    unsafe {
        assert_eq!(flexnet_runtime_create(&options, &mut runtime), 0);
        assert_eq!(flexnet_flow_create(runtime, &mut flow), 0);
    }
    Setup { runtime, flow }
}

impl Drop for Setup {
    fn drop(&mut self) {
        // SAFETY: as flexnet.h asks.
        unsafe {
            assert_eq!(flexnet_close(self.flow), 0);
            assert_eq!(flexnet_runtime_destroy(self.runtime), 0);
        }
    }
}

#[test]
fn a_panic_inside_becomes_an_error() {
    let value: c_int = guard(|| resume_unwind(Box::new("stop")));
    assert_eq!(value, -libc::EIO);
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
    let value: c_int = guard(|| resume_unwind(Box::new(Bomb)));
    assert_eq!(value, -libc::EIO, "nor does its payload's destructor run");
}

unsafe extern "C-unwind" fn panics(_: *mut c_void, _: *mut Context) -> c_int {
    resume_unwind(Box::new("stop"))
}

unsafe extern "C-unwind" fn reports(state: *mut c_void, result: c_int) {
    // SAFETY: the state is a pointer to the sender, which lives until then.
    unsafe { (*state.cast::<*const Sender<c_int>>()).as_ref() }
        .unwrap()
        .send(result)
        .unwrap();
}

#[test]
fn a_step_that_panics_ends_itself_only() {
    let setup = setup();
    let (sender, results) = channel();
    let state: *const Sender<c_int> = &raw const sender;
    for _ in 0..3 {
        let mut coroutine: Description = zeroed(size_of::<Description>());
        coroutine.set(&state, panics, reports);
        // SAFETY: as flexnet.h asks.
        unsafe {
            assert_eq!(flexnet_submit(setup.flow, &coroutine), 0);
            assert_eq!(flexnet_flush(setup.flow), 0);
        }
        assert_eq!(results.recv().unwrap(), -libc::EIO);
    }
}

#[test]
fn an_asynchronous_send_fits_a_cell() {
    let mut record: Record = zeroed(size_of::<Record>());
    // SAFETY: the record outlives the coroutines, which are not run.
    let refused = unsafe {
        Outcome::with(&mut record, |outcome| {
            let sends = stream(outcome, Socket(0), b"");
            Err::<(), _>(size_of_val(&sends))
        })
    };
    assert!(refused.unwrap().unwrap_err() <= CELL_BYTES);
    // SAFETY: as above.
    let refused = unsafe {
        Outcome::with(&mut record, |outcome| {
            let sends = datagram(outcome, Socket(0), b"");
            Err::<(), _>(size_of_val(&sends))
        })
    };
    assert!(refused.unwrap().unwrap_err() <= CELL_BYTES);
}

/// A runtime that ends within a submission drops the coroutine there and says that it was accepted.
#[test]
fn what_is_dropped_within_its_submission_was_refused() {
    let (_, was_refused) = Ticket::with(|ticket| assert!(ticket.is_refused()));
    assert!(was_refused);
    let (ticket, was_refused) = Ticket::with(|ticket| ticket);
    assert!(!was_refused && !ticket.is_refused());
    let mut record: Record = zeroed(size_of::<Record>());
    for _ in 0..2 {
        // SAFETY: the record outlives the outcome.
        let submitted = unsafe {
            Outcome::with(&mut record, |outcome| {
                drop(outcome);
                Ok::<(), ()>(())
            })
        };
        // The completion is as before: the next submission is not busy.
        assert_eq!(submitted, Err(libc::ECANCELED));
    }
}
