// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Runtimes: executors, and their link to the scheduler.

use crate::boundary::{Errno, errno_of, guard, may_wait};
use crate::handle::{Table, Use};
use crate::versioned::{Versioned, copy_out};
use flexnet::client::Client;
use flexnet::executor::{Link, Runtime};
use libc::c_int;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of what flexnet.h calls struct flexnet_runtime.
pub(crate) enum Handle {}

pub(crate) static RUNTIMES: Table<Arc<Shared>, 0x52> = Table::new();

/// The largest weight that flexnet_runtime_set_hints() takes.
pub(crate) const WEIGHT_MAX: u32 = 10_000;

/// struct flexnet_runtime_state.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct State {
    size: u32,
    attached: u32,
    executors: u32,
    executors_wanted: u32,
    cores_granted: u32,
    saturated: u32,
    cores_guaranteed: u32,
    flows: u32,
    depth: u64,
    design: [u8; 64],
}

// SAFETY: integers only.
unsafe impl Versioned for State {
    const FIRST: usize = 104;
}

// As the header's (tests/misuse.c has the other half).
const _: () = assert!(size_of::<State>() == 104);

/// What a runtime's flows share with it.
pub(crate) struct Shared {
    executors: u32,
    client: Option<Arc<Client>>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// None once it is destroyed.
    runtime: Option<Runtime>,
    /// Flows that are not closed.
    flows: u32,
    /// The executors have been started: adopting cannot fail any more.
    started: bool,
}

/// A flow of a runtime, until it is closed: keeps it from being destroyed.
pub(crate) struct Share(Arc<Shared>);

impl Share {
    pub(crate) fn close(&self) {
        self.0.lock().flows -= 1;
    }
}

impl Shared {
    /// Of a runtime with so many executors, and its link to the scheduler if it has one.
    pub(crate) fn new(executors: u32, client: Option<Arc<Client>>, runtime: Runtime) -> Self {
        Self {
            executors,
            client,
            inner: Mutex::new(Inner {
                runtime: Some(runtime),
                flows: 0,
                started: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a flow with the runtime, whose executors run by then.
    pub(crate) fn with<F>(
        self: &Arc<Self>,
        make: impl FnOnce(&Runtime) -> Result<F, Errno>,
    ) -> Result<(F, Share), Errno> {
        let mut inner = self.lock();
        let started = inner.started;
        let runtime = inner.runtime.as_ref().ok_or(libc::EINVAL)?;
        if !started {
            runtime.flow().map_err(|error| errno_of(&error))?;
        }
        let flow = make(runtime)?;
        inner.started = true;
        inner.flows += 1;
        Ok((flow, Share(self.clone())))
    }

    fn state(&self) -> Option<State> {
        let inner = self.lock();
        let runtime = inner.runtime.as_ref()?;
        let mut state = State {
            size: 0,
            attached: 0,
            executors: self.executors,
            executors_wanted: self.executors,
            cores_granted: 0,
            saturated: 0,
            cores_guaranteed: 0,
            flows: inner.flows,
            depth: runtime.depth(),
            design: [0; 64],
        };
        let design = runtime.design();
        let length = design.len().min(state.design.len() - 1);
        state.design[..length].copy_from_slice(&design.as_bytes()[..length]);
        let client = self.client.as_ref().filter(|client| client.attached());
        if let Some((client, page)) = client.and_then(|client| Some((client, client.page()?))) {
            let grant = &page.get().grant;
            let wanted = grant.executors_wanted.load(Ordering::Relaxed);
            state.attached = 1;
            state.executors_wanted = wanted.clamp(1, self.executors);
            state.cores_granted = grant.cores_granted.load(Ordering::Relaxed);
            state.saturated = u32::from(grant.saturated.load(Ordering::Relaxed) != 0);
            state.cores_guaranteed = client.cores_guaranteed();
        }
        Some(state)
    }
}

fn get<'a>(runtime: *const Handle) -> Result<Use<'a, Arc<Shared>, 0x52>, Errno> {
    RUNTIMES.get(runtime)
}

/// The runtime of a handle.
pub(crate) fn shared_of(runtime: *const Handle) -> Result<Arc<Shared>, Errno> {
    Ok(get(runtime)?.clone())
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_runtime_destroy(runtime: *mut Handle) -> c_int {
    guard(|| {
        may_wait()?;
        let shared = shared_of(runtime)?;
        let taken = {
            let mut inner = shared.lock();
            if inner.flows > 0 {
                return Err(libc::EBUSY);
            }
            inner.runtime.take().ok_or(libc::EINVAL)?
        };
        drop(RUNTIMES.close(runtime));
        Ok(taken.shutdown() as c_int)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_runtime_set_hints(
    runtime: *mut Handle,
    weight: u32,
    max_cores: u32,
) -> c_int {
    guard(|| {
        let shared = get(runtime)?;
        // The largest number says "no wish was told" in the library.
        let max_cores = max_cores.min(u32::MAX - 1);
        match shared.lock().runtime.as_ref() {
            Some(runtime) if weight <= WEIGHT_MAX => runtime.set_hints(weight, max_cores),
            _ => return Err(libc::EINVAL),
        }
        Ok(0)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_runtime_get_state(
    runtime: *mut Handle,
    state: *mut State,
) -> c_int {
    guard(|| {
        let filled = get(runtime)?.state().ok_or(libc::EINVAL)?;
        // SAFETY: the caller's structure.
        unsafe { copy_out(state, &filled) }?;
        Ok(0)
    })
}
