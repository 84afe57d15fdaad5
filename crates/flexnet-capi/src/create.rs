// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Creating a runtime: its options, and the link to the scheduler.
//!
//! A file of its own: fork.rs knows the tables of all handles, and is told before there is one.

use crate::boundary::{Errno, checked, errno_of, guard};
use crate::fork;
use crate::misc::socket_path;
use crate::runtime::{Handle, RUNTIMES, Shared, WEIGHT_MAX};
use crate::versioned::{Versioned, copy_in};
use flexnet::abi::{EXECUTORS_MAX, FlowClass};
use flexnet::client::Client;
use flexnet::executor::{Builder, Runtime};
use libc::{c_char, c_int};
use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

/// struct flexnet_runtime_options.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Options {
    size: u32,
    executors: u32,
    name: *const c_char,
    socket_path: *const c_char,
    flow_class: u32,
    coroutines: u32,
    weight: u32,
    max_cores: u32,
    cores_guaranteed: u32,
    reserved: u32,
    linger_ns: u64,
    stack_bytes: u64,
    ring_bytes: u64,
}

// SAFETY: integers, and pointers that may be null.
unsafe impl Versioned for Options {
    const FIRST: usize = 56;
}

#[cfg(test)]
impl Options {
    pub(crate) fn without_scheduler(&mut self) {
        self.socket_path = c"".as_ptr();
    }
}

// As the header's (tests/misuse.c has the other half).
const _: () = assert!(size_of::<Options>() == 72);

/// # Safety
/// A string of the caller's, or null.
unsafe fn text(string: *const c_char) -> Option<String> {
    if string.is_null() {
        return None;
    }
    // SAFETY: as promised.
    let string = unsafe { CStr::from_ptr(string) };
    Some(string.to_string_lossy().into_owned())
}

/// # Safety
/// The strings in `options` are such, or null.
unsafe fn create(options: &Options) -> Result<Arc<Shared>, Errno> {
    let executors = options.executors.max(1);
    let flow_class = match options.flow_class {
        0 => FlowClass::Throughput,
        1 => FlowClass::Latency,
        _ => return Err(libc::EINVAL),
    };
    let in_range = executors as usize <= EXECUTORS_MAX
        && options.coroutines <= Builder::COROUTINES_MAX
        && options.weight <= WEIGHT_MAX
        && options.reserved == 0;
    if !in_range {
        return Err(libc::EINVAL);
    }
    // SAFETY: as promised.
    let name = unsafe { text(options.name) }.unwrap_or_else(|| "flexnet".to_owned());
    // SAFETY: as promised.
    let path = unsafe { socket_path(options.socket_path) };
    let mut builder = Runtime::builder()
        .name(&name)
        .executors(executors as usize)
        .flow_class(flow_class);
    if options.coroutines != 0 {
        builder = builder.coroutines(options.coroutines);
    }
    if options.linger_ns != 0 {
        builder = builder.linger(Duration::from_nanos(options.linger_ns));
    }
    if options.stack_bytes != 0 {
        let bytes = usize::try_from(options.stack_bytes).map_err(|_| libc::EINVAL)?;
        builder = builder.stack_bytes(bytes);
    }
    if options.ring_bytes != 0 {
        let bytes = usize::try_from(options.ring_bytes).map_err(|_| libc::EINVAL)?;
        builder = builder.ring_bytes(bytes);
    }
    let mut client = None;
    if !path.as_os_str().is_empty() {
        let asked = options.cores_guaranteed;
        let connected = Client::connect_with_guarantee(path, &name, asked);
        let connected = connected.map_err(|error| errno_of(&error))?;
        builder = builder.link(connected.clone());
        client = Some(connected);
    }
    let runtime = builder.build().map_err(|error| errno_of(&error))?;
    if options.weight != 0 || options.max_cores != 0 {
        runtime.set_hints(options.weight, options.max_cores);
    }
    Ok(Arc::new(Shared::new(executors, client, runtime)))
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_runtime_create(
    options: *const Options,
    runtime: *mut *mut Handle,
) -> c_int {
    guard(|| {
        let runtime = checked(runtime)?;
        fork::watch();
        // SAFETY: the caller's structure; all zeros is one, too.
        let options = unsafe {
            match options.is_null() {
                true => std::mem::zeroed(),
                false => copy_in(options)?,
            }
        };
        // SAFETY: the caller's strings, and where the caller wants the handle.
        unsafe { *runtime = RUNTIMES.reserve()?.fill(create(&options)?)? };
        Ok(0)
    })
}
