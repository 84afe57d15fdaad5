// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Structures that begin with their size: what the caller was compiled with may
//! be older or newer than this library.

use crate::boundary::Errno;
use std::mem::MaybeUninit;

/// A `repr(C)` structure whose first field is its size, a u32.
///
/// # Safety
/// All zeros, and any content of the first version's bytes, are valid values.
pub(crate) unsafe trait Versioned: Copy {
    /// Bytes of its first version.
    const FIRST: usize;
}

/// The caller's size, which its structure begins with.
///
/// # Safety
/// `from`, unless null, points to a structure that begins with its size.
pub(crate) unsafe fn size_of_caller<T: Versioned>(from: *const T) -> Result<usize, Errno> {
    if from.is_null() || !from.is_aligned() {
        return Err(libc::EINVAL);
    }
    // SAFETY: aligned, and as promised.
    let size = unsafe { from.cast::<u32>().read() } as usize;
    if size < T::FIRST {
        return Err(libc::EINVAL);
    }
    Ok(size)
}

/// A copy, filled with zeros where the caller knows less. EINVAL when it is null,
/// misaligned or shorter than the first version; E2BIG when the caller knows
/// more, and uses it.
///
/// # Safety
/// `from`, unless null, points to as many bytes as its size says.
pub(crate) unsafe fn copy_in<T: Versioned>(from: *const T) -> Result<T, Errno> {
    // SAFETY: as promised.
    let size = unsafe { size_of_caller(from) }?;
    let known = size.min(size_of::<T>());
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: both are that long; zeros and the caller's bytes are valid.
    let copy = unsafe {
        let unknown = std::slice::from_raw_parts(from.cast::<u8>().add(known), size - known);
        if unknown.iter().any(|&byte| byte != 0) {
            return Err(libc::E2BIG);
        }
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), known);
        copy.assume_init()
    };
    Ok(copy)
}

/// Fills in as much of the caller's structure as both know, and says in its size
/// how much that was (`value`'s own size is not used).
///
/// # Safety
/// `to`, unless null, points to as many bytes as its size says.
pub(crate) unsafe fn copy_out<T: Versioned>(to: *mut T, value: &T) -> Result<(), Errno> {
    // SAFETY: as promised.
    let known = unsafe { size_of_caller(to) }?.min(size_of::<T>());
    // SAFETY: both are that long.
    unsafe {
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(value).cast::<u8>(), to.cast(), known);
        to.cast::<u32>().write(known as u32);
    }
    Ok(())
}
