// SPDX-License-Identifier: GPL-2.0-only
//! Virtual time: from when on the CPUs of a guest of `ci/vm --virtual-time` advance together
//! (ci/virtual-time/README.md).

use anyhow::{Context, Result, bail};
use std::process::Command;

/// The guest's command by which lockstep begins.
const LOCKSTEP: &str = "lockstep";

/// Whether lockstep is to begin.
pub(super) struct Lockstep {
    is_due: bool,
}

impl Lockstep {
    pub(super) fn new(is_due: bool) -> Self {
        Self { is_due }
    }

    /// Begins lockstep, the first time that it is due; else nothing.
    ///
    /// # Errors
    /// The machine has no such command: it is no guest in virtual time.
    pub(super) fn begin(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_due) {
            return Ok(());
        }
        let status = Command::new(LOCKSTEP)
            .status()
            .context("no command `lockstep` here: --lockstep is for ci/vm --virtual-time")?;
        if !status.success() {
            bail!("`{LOCKSTEP}` ended with {status}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Lockstep;

    #[test]
    fn lockstep_begins_once_and_only_where_it_is_asked_for() {
        // No machine that runs this test has the command.
        let mut asked = Lockstep::new(true);
        assert!(asked.begin().is_err());
        assert!(asked.begin().is_ok());
        assert!(Lockstep::new(false).begin().is_ok());
    }
}
