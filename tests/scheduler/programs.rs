// SPDX-License-Identifier: GPL-2.0-only
//! Programs in C: tests/c/interface/attached.c, which ci/c-interface compiles.

use crate::daemon::Daemon;
use std::process::Command;

/// A program that links libflexnet finds the scheduler and is granted a core.
pub fn a_c_program_is_granted_a_core() {
    let daemon = Daemon::start(&[]);
    let output = Command::new("c-attached").output();
    let output =
        output.expect("ci/vm --add target/test/c-interface/attached:/flexnet/bin/c-attached");
    assert!(output.status.success(), "{output:?}");
    daemon.stop();
}
