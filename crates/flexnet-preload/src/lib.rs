// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Puts the sends of programs that know nothing of flexnet onto its executors. LD_PRELOAD loads it.
//! README.md has the rules, and what the library cannot do.
//!
//! A hook ([`hooks`]) looks up the descriptor ([`table`]). What is not a socket of ours goes
//! straight to the real function ([`real`]). A send on a socket of ours is queued or left to the
//! caller ([`send`], by [`policy`]). Everything else that touches a socket drains it first
//! ([`barrier`], [`forks`]). The runtime starts with the first flow ([`start`]). What belongs to the
//! process and not to its children is in [`process`].
//!
//! A file uses those of the layers below it only: table, entry, process, rests, barrier, start,
//! forks, send, hooks.
//!
//! Promised: results and byte streams are the kernel's, except that more is accepted than the
//! kernel's buffer holds. There is no output and no signal. No descriptor of the library's is where
//! the program looks for its own. Where anything is missing, the program runs as if the library
//! were absent.

#![cfg_attr(
    test,
    allow(dead_code, reason = "without its hooks: they would be the tests' own")
)]

mod barrier;
mod children;
mod clock;
mod config;
mod entry;
mod forks;
mod hook_guard;
#[cfg(not(test))]
mod hooks;
mod logging;
mod policy;
mod process;
mod real;
mod rests;
mod send;
mod sender;
mod socket;
mod start;
mod table;
mod wait;

use config::{Config, Mode};

/// A heap of its own: hooks run where the program's heap may be locked (in a
/// signal handler that interrupts malloc).
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Runs before the program's main, and before its constructors.
extern "C" fn at_load() {
    real::resolve();
    // SAFETY: a plain call.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return; // whose environment this is we do not know
    }
    let config = Config::from_environment();
    logging::set_up(&config.log);
    if let Some(unknown) = &config.unknown_mode {
        log::warn!(
            "FLEXNET_OFFLOAD={unknown}: always, adaptive, strict or off; nothing is offloaded"
        );
    }
    let mode = config.mode;
    start::set_config(config);
    if mode == Mode::Strict {
        // Nobody else can be lent a caller's buffer: a handler may leave the call.
        log::info!("FLEXNET_OFFLOAD=strict: every send is the program's own");
    }
    if matches!(mode, Mode::Off | Mode::Strict) {
        return;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if !process::set_up() || !table::set_up(limit.maximum.unwrap_or(u64::MAX)) {
        log::warn!("no memory for the table of descriptors: nothing is offloaded");
        return;
    }
    if let Some(process) = process::process_state() {
        process.revive();
        forks::set_up();
    }
}

#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = hooks::process::at_exit;
