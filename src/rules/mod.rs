// SPDX-License-Identifier: GPL-2.0-only
//! The operator's rules: which tasks are of which class, and what network
//! applications are given.
//!
//!   rule   a rule, an application, and all of a file
//!   glob   shell globs
//!   path   paths of cgroups with globs
//!   table  the rules as BPF is given them
//!
//! Reading them from the file is config's, matching tasks BPF's
//! (bpf/rules.bpf.h). Applications are matched here, since only the daemon knows
//! clients.

mod glob;
mod path;
mod rule;
mod table;

pub use glob::Glob;
pub use path::CgroupPath;
pub use rule::{Application, Rule, Rules, User};
pub use table::{bytes, table};
