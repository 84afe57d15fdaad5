// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Socket options and requests whose result a queue would make wrong.

use super::{unreported_error, with_entry};
use crate::barrier::{self, quiet_drain};
use crate::real;
use crate::send::clear;
use libc::{c_int, c_void, socklen_t};
use std::sync::atomic::Ordering;

/// SIOCOUTQ and SIOCOUTQNSD: what is queued and not acknowledged, not sent.
const SIOCOUTQ: usize = 0x5411;
const SIOCOUTQNSD: usize = 0x894B;

/// Options after which the program's sends are not to be touched any more.
fn is_the_end(level: c_int, name: c_int) -> bool {
    matches!(
        (level, name),
        (libc::SOL_TCP, libc::TCP_ULP | libc::TCP_REPAIR)
            | (libc::SOL_SOCKET, libc::SO_ZEROCOPY | libc::SO_TXTIME)
            | (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
            | (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
            | (libc::SOL_UDP, libc::UDP_CORK | libc::UDP_SEGMENT)
    )
}

/// # Safety
/// As for setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    let ends = is_the_end(level, name);
    with_entry(fd, |_, entry| match ends {
        true => entry.passthrough.store(true, Ordering::SeqCst),
        false if entry.flow().is_drained() => {}
        false => drop(quiet_drain(entry)),
    });
    // What is queued may not come behind the option: encrypted, say.
    if ends && let Some(errno) = clear(fd, true) {
        real::set_errno(errno);
        return -1;
    }
    if ends {
        barrier::pass_through_permanently(fd);
    }
    // SAFETY: as promised by the caller.
    unsafe { real::setsockopt(fd, level, name, value, length) }
}

/// # Safety
/// As for getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: as promised by the caller.
    let result = unsafe { real::getsockopt(fd, level, name, value, length) };
    if result == 0 && (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR) {
        // SAFETY: the kernel has just written there.
        unsafe {
            let value = value.cast::<c_int>();
            if *length as usize >= size_of::<c_int>()
                && value.read_unaligned() == 0
                && let Some(errno) = unreported_error(fd)
            {
                value.write_unaligned(errno);
            }
        }
    }
    result
}

/// # Safety
/// As for ioctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ioctl(fd: c_int, request: usize, argument: usize) -> c_int {
    // Requests are 32 bits.
    let request = request as u32 as usize;
    let counts = request == SIOCOUTQ || request == SIOCOUTQNSD;
    // SAFETY: as promised by the caller.
    let real = || unsafe { real::ioctl(fd, request, argument) };
    if !counts {
        return real();
    }
    let counted = with_entry(fd, |_, entry| {
        entry.flow().with_pending(|pending| {
            let result = real();
            let error = real::errno();
            if result == 0 {
                let count = std::ptr::with_exposed_provenance_mut::<c_int>(argument);
                // SAFETY: the kernel has just written there.
                unsafe { *count = (*count).saturating_add(pending as c_int) };
            }
            (result, error)
        })
    });
    match counted {
        None => real(),
        Some((0, _)) => 0,
        Some((result, error)) => {
            real::set_errno(error);
            result
        }
    }
}
