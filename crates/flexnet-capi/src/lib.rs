// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The library's C interface: include/flexnet/flexnet.h, which documents it.
//!
//! Promised: no panic crosses (`-EIO` comes back instead), errors are negative
//! errno values, a handle that is not valid is recognised ([`handle`]), and nothing
//! here allocates for a send. Left to the library: everything else; this knows only its public
//! interface.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("handles are names of 64 bits in a pointer");

mod boundary;
mod completion;
mod coroutine;
mod create;
mod flow;
mod fork;
mod handle;
mod misc;
mod runtime;
mod send;
mod ticket;
mod versioned;

#[cfg(test)]
mod tests;
