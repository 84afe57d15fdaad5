// SPDX-License-Identifier: GPL-2.0-only
//! What the arbiter follows: designs, and the place of a loaded core rule.

use super::{Kernel, run};
use crate::bpf_intf::flexnet_design_switch;
use crate::plain::Plain;
use flexnet::design::Choice;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// Trials to get hold of the arbiter, 50 µs apart: a round takes microseconds.
const SWITCH_TRIES: u32 = 1000;

impl Kernel<'_> {
    /// Prepares the timer of the rounds: before each attach.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn start_rounds(&self) -> Result<(), Errno> {
        run(&self.skel.progs.start_rounds, &[])
    }

    /// The program of which a loaded core rule replaces a function: that whose callback the
    /// rounds are.
    pub fn rounds(&self) -> BorrowedFd<'_> {
        self.skel.progs.start_rounds.as_fd()
    }

    /// Has the arbiter follow a design from its next round on, with its own rule for cores or,
    /// with these parameters, by the loaded one.
    ///
    /// # Errors
    /// `AGAIN`: rounds kept the arbiter for a while.
    pub fn switch_design(&self, choice: &Choice, loaded: Option<[u64; 8]>) -> Result<(), Errno> {
        let rule = choice.core_rule();
        let mut switch = flexnet_design_switch {
            quantum_ns: choice.quantum_ns().unwrap_or(0),
            loaded: u64::from(loaded.is_some()),
            parameters: loaded.unwrap_or_default(),
            ..Plain::zeroed()
        };
        let params = &mut switch.params;
        (params.design, params.workers) = (rule.design, rule.workers);
        (params.high_ns, params.low_ns) = (rule.high_ns, rule.low_ns);
        (params.runtime_ns, params.period_ns) = (rule.runtime_ns, rule.period_ns);
        (params.high_percent, params.low_percent) = (rule.high_percent, rule.low_percent);
        for _ in 0..SWITCH_TRIES {
            match run(&self.skel.progs.switch_design, switch.bytes()) {
                Err(Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_micros(50)),
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }
}
