// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Stack designs: what is encapsulated, how the stack schedules it, how cores
//! are given.
//!
//! A design is a [`Design`] over plain numbers: it sees how long queues are and
//! since when their heads wait, and says where work goes, which worker takes what next,
//! and for how long. How many cores there are follows its [`CoreRule`], whose
//! arithmetic is include/flexnet/designs.h, the same in the kernel and in the
//! simulator. Operators choose one by a [`Choice`].
//!
//! Promises: no clock, no I/O, no randomness but what is seeded; the same calls
//! give the same answers. Leaves to others: queues and time (executor/stack
//! for real executors, crates/flexnet-sim for simulated ones), the granting of cores
//! (bpf/dedicated.bpf.h).

mod catalogue;
mod core_rule;
mod flexnet;
mod interface;
mod netchannel;
mod parse;
mod random;
mod shenango;
mod shinjuku;
mod snap;
pub mod units;

pub use catalogue::catalogue;
pub use core_rule::{CoreRule, Rule};
pub(crate) use flexnet::{queue_for, victims};
pub use interface::{Design, Dispatch, Item, Place, SPIN_NS, Take, UNIT_BYTES, View};
pub use parse::{Choice, TEXT_MAX, Unknown};
pub use random::Random;

impl Choice {
    /// The design that was chosen; `seed` for those that choose at random.
    pub fn build(&self, seed: u64) -> Box<dyn Design> {
        match self.name() {
            "netchannel" => Box::new(netchannel::NetChannel::new(self)),
            "snap" => Box::new(snap::Snap::new(self)),
            "shenango" => Box::new(shenango::Shenango::new(self, seed)),
            "shinjuku" => Box::new(shinjuku::Shinjuku::new(self)),
            _ => Box::new(flexnet::Flexnet::new(self)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
