// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The functions that programs call in place of the C library's. Each one does what the library has
//! to do, and then calls the next function of its name. So what is not ours behaves as before,
//! cancellation included.
//!
//! Nothing here unwinds by itself. "C-unwind" is for a thread that is cancelled inside the real
//! call.

pub(crate) mod descriptors;
pub(crate) mod options;
pub(crate) mod others;
pub(crate) mod process;
pub(crate) mod receive;
pub(crate) mod sends;
