// SPDX-License-Identifier: GPL-2.0-only
//! What goes to BPF programs and maps and comes from them, as its bytes: the structures that
//! build.rs generates from bpf/intf.h.
//!
//! Promises that no field is known here by its place: a field that moves in intf.h moves here.

use crate::bpf_intf::{
    flexnet_apply, flexnet_client_event, flexnet_design_switch, flexnet_event, flexnet_napi_thread,
    flexnet_registration, flexnet_task_sample,
};

/// A structure that may be read and written as bytes.
///
/// # Safety
/// It is made of integers, without padding, and every bit pattern is valid.
pub unsafe trait Plain: Copy {
    /// All fields zero.
    fn zeroed() -> Self {
        // SAFETY: every bit pattern is valid.
        unsafe { std::mem::zeroed() }
    }

    /// Its bytes.
    fn bytes(&self) -> &[u8] {
        // SAFETY: without padding, each byte is written.
        unsafe { std::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>()) }
    }

    /// Its bytes, to be written.
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: every bit pattern is valid, whatever is written.
        unsafe { std::slice::from_raw_parts_mut((&raw mut *self).cast(), size_of::<Self>()) }
    }

    /// From bytes; `None` where they are too few.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut value = Self::zeroed();
        value
            .bytes_mut()
            .copy_from_slice(bytes.get(..size_of::<Self>())?);
        Some(value)
    }
}

/// The sizes of the fields say that there is no padding.
macro_rules! plain {
    ($($name:ident: $bytes:expr),+ $(,)?) => { $(
        const _: () = assert!(size_of::<$name>() == $bytes);
        // SAFETY: integers only, whose sizes add up to that of the structure.
        unsafe impl Plain for $name {}
    )+ };
}
plain! {
    flexnet_apply: 4,
    flexnet_client_event: 6 * 4,
    flexnet_event: 2 * 4,
    flexnet_napi_thread: 2 * 4,
    flexnet_registration: 4 * 4,
    // The arbiter's parameters, the rule's, the quantum, and a loaded rule's.
    flexnet_design_switch: (4 * 8 + 2 * 4) + (4 * 8 + 4 * 4) + 8 + 8 + 8 * 8,
    // The task, since when it waits, and its history.
    flexnet_task_sample: 8 * 4 + 8 + (13 * 8 + 2 * 4),
}
