// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Parent and child write to the same sockets in turns.

use crate::calls::Via;
use crate::pipes;
use crate::side::Side;
use rustix::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A child that ends at once takes less, whatever peers do, on a busy machine.
pub const QUICK: Duration = Duration::from_secs(4);

unsafe extern "C" {
    fn _Fork() -> libc::pid_t;
}

/// A child that ends at once, by fork(), system(), posix_spawn() or _Fork().
pub fn ends_at_once(way: usize) {
    let mut status = -1;
    // SAFETY: the children do no more than the calls below; strings and locals are valid.
    unsafe {
        let child = match way {
            0 => libc::fork(),
            1 => {
                assert_eq!(libc::system(c":".as_ptr()), 0, "system");
                return;
            }
            2 => {
                let (mut child, name) = (0, c"true".as_ptr());
                let arguments = [name.cast_mut(), ptr::null_mut()];
                let (none, environment) = (ptr::null(), ptr::null());
                let made = libc::posix_spawnp(
                    &mut child,
                    name,
                    none,
                    ptr::null(),
                    arguments.as_ptr(),
                    environment,
                );
                assert_eq!(made, 0, "posix_spawnp");
                child
            }
            _ => _Fork(),
        };
        if child == 0 {
            libc::_exit(0);
        }
        while libc::waitpid(child, &mut status, 0) != child {}
    }
    assert_eq!(status, 0, "the child");
}

fn say(to: RawFd) {
    // SAFETY: a number of the case's.
    let to = unsafe { rustix::fd::BorrowedFd::borrow_raw(to) };
    assert_eq!(rustix::io::write(to, b"x"), Ok(1));
}

/// False: the other has ended, and says nothing any more.
fn hear(from: RawFd) -> bool {
    // SAFETY: as above.
    let from = unsafe { rustix::fd::BorrowedFd::borrow_raw(from) };
    loop {
        match rustix::io::read(from, &mut [0; 1]) {
            Err(rustix::io::Errno::INTR) => {}
            heard => return heard == Ok(1),
        }
    }
}

/// The parent sends, the child, the parent while the child lives, the child and
/// ends, the parent.
pub fn take_turns(sides: &mut [&mut Side; 2], lengths: [usize; 3]) {
    let bytes = size_of::<[AtomicUsize; 2]>();
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    );
    // SAFETY: new memory, for the two counts; unmapped below.
    let memory = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    // SAFETY: zeroed by the kernel.
    let accepted = unsafe { &*memory.cast::<[AtomicUsize; 2]>() };
    let over = pipes::unix_pair();
    let turn = |sides: &mut [&mut Side; 2], length: usize| {
        for (side, accepted) in sides.iter_mut().zip(accepted) {
            side.accepted = accepted.load(Ordering::SeqCst);
            // No room is no mistake: the case may have small buffers.
            let sent = side.send(0, Via::Write, length, 0);
            assert!(matches!(sent, Ok(_) | Err(libc::EAGAIN)), "{sent:?}");
            accepted.store(side.accepted, Ordering::SeqCst);
        }
    };
    for (side, accepted) in sides.iter().zip(accepted) {
        accepted.store(side.accepted, Ordering::SeqCst);
    }
    turn(sides, lengths[0]);
    // SAFETY: the child does no more than the calls below.
    match unsafe { libc::fork() } {
        -1 => panic!("no child"),
        0 => {
            // The parent's end: else the child would hear itself when the parent has failed.
            pipes::close_one(over.0);
            turn(sides, lengths[1]);
            say(over.1);
            if hear(over.1) {
                turn(sides, lengths[2]);
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(0) };
            }
            // SAFETY: as above.
            unsafe { libc::_exit(1) };
        }
        child => {
            pipes::close_one(over.1);
            assert!(hear(over.0), "the child failed");
            turn(sides, lengths[1]);
            say(over.0);
            let mut status = -1;
            // SAFETY: waits for the child just made.
            while unsafe { libc::waitpid(child, &mut status, 0) } != child {}
            assert_eq!(status, 0, "the child");
            turn(sides, lengths[0]);
        }
    }
    pipes::close_one(over.0);
    // SAFETY: mapped above.
    unsafe { libc::munmap(memory, bytes) };
}
