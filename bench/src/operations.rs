// SPDX-License-Identifier: GPL-2.0-only
//! What each operation of the attached scheduler has cost so far: calls, and the time in them.
//!
//! The kernel counts while its sysctl `kernel.bpf_stats_enabled` is 1. In virtual time this is
//! instructions, and turns of the other CPUs that fall into a call.

use anyhow::{Result, bail};
use libbpf_rs::ProgramType;
use libbpf_rs::query::ProgInfoIter;

/// How the programs of scx_flexnet's operations begin. The kernel keeps 15 bytes of a name.
const PREFIX: &str = "flexnet_";

/// Prints a line for each operation: its name without the prefix, calls, nanoseconds.
///
/// # Errors
/// The kernel tells of no such program: scx_flexnet is not attached, or this is not root.
pub(crate) fn run() -> Result<()> {
    let mut lines: Vec<String> = ProgInfoIter::default()
        .filter(|program| program.ty == ProgramType::StructOps)
        .filter_map(|program| {
            let name = program.name.to_str()?.strip_prefix(PREFIX)?;
            Some(format!(
                "{name} {} {}",
                program.run_cnt, program.run_time_ns
            ))
        })
        .collect();
    if lines.is_empty() {
        bail!("no operation of scx_flexnet is loaded, or this is not root");
    }
    lines.sort();
    println!("{}", lines.join("\n"));
    Ok(())
}
