// SPDX-License-Identifier: GPL-2.0-only
//! bpf/intf.h as build.rs translates it.

#![allow(
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    dead_code,
    clippy::undocumented_unsafe_blocks,
    reason = "generated; each name is documented in bpf/intf.h"
)]

include!(concat!(env!("OUT_DIR"), "/bpf_intf.rs"));
