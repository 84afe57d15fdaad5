// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What the stack's own steps cost.

use flexnet::design::units::duration_ns;

/// Costs in ns. The defaults are measured or published, none fitted to a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// On the application's core, before an item is queued. Measured:
    /// bench/results/micro.json, send-64.
    pub submit: u64,
    /// Of each turn of an item on its worker. Measured: the same, coroutine on a
    /// running executor.
    pub resume: u64,
    /// An item that crosses from another's queue. Measured: the same, queue-x.
    pub steal: u64,
    /// From waking a worker that sleeps, or whose core is lent, until it runs.
    /// Measured: 3.3 to 3.6 µs natively.
    pub wake: u64,
    /// Of a worker, for being preempted by an interrupt: 1,212 cycles (Shinjuku,
    /// table 1, from memory) at 2.3 GHz.
    pub preempt: u64,
    /// Of a worker, for a coroutine that yields at the end of its quantum: a
    /// resume more. Measured, as `resume`.
    pub r#yield: u64,
    /// A central dispatcher's, per item: 5 million a second (Shinjuku, section 5,
    /// from memory).
    pub dispatch: u64,
    /// From deciding to give a core until its worker runs (Shenango: cores are
    /// reallocated every 5 µs).
    pub grant: u64,
    /// How long a worker looks for work before its core is lent or sleeps
    /// (Shenango: at least 2 µs).
    pub spin: u64,
    /// On top of `wake` where a core slept deeply: nobody used it for 200 µs
    /// (Linux's menu governor then goes beyond C1). 0: batch work keeps it awake.
    pub deep_idle: u64,
}

/// A core that nobody used for so long sleeps deeply, ns.
pub const DEEP_AFTER_NS: u64 = 200_000;

impl Default for Costs {
    fn default() -> Self {
        Self {
            submit: 68,
            resume: 71,
            steal: 24,
            wake: 3_500,
            preempt: 530,
            r#yield: 71,
            dispatch: 200,
            grant: 5_000,
            spin: 2_000,
            deep_idle: 0,
        }
    }
}

impl Costs {
    /// All steps free: for theory.
    pub fn none() -> Self {
        Self {
            submit: 0,
            resume: 0,
            steal: 0,
            wake: 0,
            preempt: 0,
            r#yield: 0,
            dispatch: 0,
            grant: 0,
            spin: 0,
            deep_idle: 0,
        }
    }

    /// Names and values, in their order.
    pub fn table(&self) -> [(&'static str, u64); 10] {
        [
            ("submit", self.submit),
            ("resume", self.resume),
            ("steal", self.steal),
            ("wake", self.wake),
            ("preempt", self.preempt),
            ("yield", self.r#yield),
            ("dispatch", self.dispatch),
            ("grant", self.grant),
            ("spin", self.spin),
            ("deep-idle", self.deep_idle),
        ]
    }

    /// Sets `NAME=TIME[,…]`.
    ///
    /// # Errors
    /// An unknown name (the error lists what there is) or no time.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, time) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} is not NAME=TIME"))?;
            let ns = duration_ns(time)?;
            *match name {
                "submit" => &mut self.submit,
                "resume" => &mut self.resume,
                "steal" => &mut self.steal,
                "wake" => &mut self.wake,
                "preempt" => &mut self.preempt,
                "yield" => &mut self.r#yield,
                "dispatch" => &mut self.dispatch,
                "grant" => &mut self.grant,
                "spin" => &mut self.spin,
                "deep-idle" => &mut self.deep_idle,
                _ => {
                    let names = self.table().map(|(name, _)| name).join(", ");
                    return Err(format!("there is no cost {name:?}; there are {names}"));
                }
            } = ns;
        }
        Ok(())
    }
}
