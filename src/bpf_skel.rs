// SPDX-License-Identifier: GPL-2.0-only
//! The skeleton of bpf/main.bpf.c that build.rs generates: its maps, programs
//! and global variables.

#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]

include!(concat!(env!("OUT_DIR"), "/bpf_skel.rs"));
