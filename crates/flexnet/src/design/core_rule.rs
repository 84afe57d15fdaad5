// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What the arbiter follows: the numbers of include/flexnet/designs.h.
//!
//! The rules themselves are C. crates/flexnet-sim compiles the same source for the
//! host as the scheduler compiles into BPF.

/// `enum flexnet_design`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// include/flexnet/arbiter.h.
    Flexnet = 0,
    /// By backlog of channels.
    NetChannel = 1,
    /// Fixed.
    SnapDedicating = 2,
    /// A core an awake engine.
    SnapSpreading = 3,
    /// One, more above the SLO.
    SnapCompacting = 4,
    /// By what is still queued.
    Shenango = 5,
    /// Caladan's delay range.
    ShenangoDelay = 6,
    /// Caladan's utilisation range.
    ShenangoUtilisation = 7,
    /// Fixed.
    Shinjuku = 8,
    /// Fixed, Concord's JBSQ(2).
    ShinjukuJbsq = 9,
}

/// A design's own of `struct flexnet_design_params`; times in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreRule {
    /// [`Rule`]; what is none acts as flexnet.
    pub design: u32,
    /// Cores of rules with a fixed number, 0: as many as may be.
    pub workers: u32,
    /// Utilisation range: grow above, %.
    pub high_percent: u32,
    /// And shrink below.
    pub low_percent: u32,
    /// Snap's SLO, Caladan's upper delay.
    pub high_ns: u64,
    /// Caladan's lower delay.
    pub low_ns: u64,
    /// MicroQuanta: CPU time a period, 0: no limit.
    pub runtime_ns: u64,
    /// The period.
    pub period_ns: u64,
}
