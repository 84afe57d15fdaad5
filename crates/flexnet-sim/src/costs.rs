// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What the stack's own steps cost.

use flexnet::design::units::duration_ns;

/// Costs in ns. The defaults are measured or published, none fitted to a curve.
///
/// Shinjuku's are from its paper (NSDI'19), read in quotations of it. Its cycles are ns at 2 GHz,
/// which is the paper's own conversion (298 cycles, 149 ns). Of other systems: a user interrupt
/// takes 383 cycles of its sender and 720 of its receiver (xUI, ASPLOS'25), which is what Skyloft
/// and LibPreemptible send.
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
    /// Of a worker, for being preempted by an interrupt: its receiver's 1,212 cycles
    /// (Shinjuku, table 1).
    pub preempt: u64,
    /// Of a worker, after that, for leaving the request's context: 109 cycles with floating
    /// point registers (Shinjuku, table 2).
    pub switch: u64,
    /// A central dispatcher's, for sending an interrupt: 298 cycles (Shinjuku, table 1).
    pub interrupt: u64,
    /// From then until the worker feels it, which works on: the rest of table 1's 1,993
    /// cycles in all.
    pub delivery: u64,
    /// A cache line that another core wrote: 200 cycles, half of what a worker waits for its
    /// dispatcher's next request (Concord, SOSP'23, section 2, from memory). JBSQ's
    /// dispatcher writes one to preempt, and its worker reads it.
    pub line: u64,
    /// Of a worker that a dispatcher gives a request which has run before: an estimate, two
    /// lines for its registers and its stack. Requests that use more memory pay more.
    pub cold: u64,
    /// Of a worker, for a coroutine that yields at the end of its quantum: a
    /// resume more. Measured, as `resume`.
    pub r#yield: u64,
    /// A central dispatcher's, each time that it hands an item out: 5 million a second
    /// (Shinjuku, section 4).
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
            preempt: 606,
            switch: 55,
            interrupt: 149,
            delivery: 242,
            line: 100,
            cold: 200,
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
            switch: 0,
            interrupt: 0,
            delivery: 0,
            line: 0,
            cold: 0,
            r#yield: 0,
            dispatch: 0,
            grant: 0,
            spin: 0,
            deep_idle: 0,
        }
    }

    /// Names and values, in their order.
    pub fn table(&self) -> [(&'static str, u64); 15] {
        [
            ("submit", self.submit),
            ("resume", self.resume),
            ("steal", self.steal),
            ("wake", self.wake),
            ("preempt", self.preempt),
            ("switch", self.switch),
            ("interrupt", self.interrupt),
            ("delivery", self.delivery),
            ("line", self.line),
            ("cold", self.cold),
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
                "switch" => &mut self.switch,
                "interrupt" => &mut self.interrupt,
                "delivery" => &mut self.delivery,
                "line" => &mut self.line,
                "cold" => &mut self.cold,
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
