// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! When queueing a flow's sends pays. Numbers in, numbers out.
//!
//! Two cases do. **Coalescing**: a flow that sends again and again within
//! microseconds pays 0.5 to 1.4 µs a send for what the kernel takes for 0.15 µs
//! when 32 go at once. **A core of its own**: where the scheduler has granted
//! one and the executor runs on it, the application's core is spared the send
//! altogether. Anything else loses: waking an executor for one send costs the
//! sender 3.3 to 3.6 µs, several times the send.
//!
//! What a flow gains is measured, not believed: its sends' period while they are
//! queued against the one before. A flow that gains too little goes back, and is
//! tried again after a while that doubles each time.

use std::time::Duration;

/// Sends between two looks.
pub(crate) const SENDS_PER_LOOK: u32 = 64;
/// A send each so many ns or more often may coalesce: several times the dearest
/// small send on loopback here (1.4 µs), so that slower machines count too.
const BURST_PERIOD_NS: u64 = 5_000;
/// Looks in a row that must show a burst before it is tried.
const BURSTS: u32 = 2;
/// Longer sends gain little by coalescing: 4 KB costs 1.5 to 2 µs to copy and
/// push through the stack however it is called.
const COALESCED_BYTES_MAX: u64 = 4096;
/// Queueing stays when the period is at most this part of the one before: what
/// does not gain a tenth may well be noise.
const GAIN: (u64, u64) = (9, 10);
/// Looks of a trial before it counts: the executor wakes during the first.
const TRIAL: u32 = 4;
/// Looks after a trial that did not gain, at first and at most.
const PAUSE: u32 = 64;
const PAUSE_MAX: u32 = 65_536;

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) sends: u32,
    pub(crate) bytes: u64,
    pub(crate) elapsed_ns: u64,
}

impl Sample {
    fn period_ns(&self) -> u64 {
        self.elapsed_ns / u64::from(self.sends.max(1))
    }

    fn is_burst(&self) -> bool {
        self.period_ns() <= BURST_PERIOD_NS
            && self.bytes / u64::from(self.sends.max(1)) <= COALESCED_BYTES_MAX
    }
}

/// A flow's sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Way {
    /// By the caller, as without the library.
    #[default]
    Inline,
    /// Into the ring.
    Queued,
}

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    pub(crate) way: Way,
    /// Of the last inline look that was a burst.
    inline_ns: u64,
    bursts: u32,
    looks_queued: u32,
    pause: u32,
    pause_left: u32,
}

impl Flow {
    /// One look; the way from here on.
    pub(crate) fn look(&mut self, sample: Sample) -> Way {
        self.way = match self.way {
            Way::Inline => self.look_inline(sample),
            Way::Queued => self.look_queued(sample),
        };
        self.way
    }

    /// Did the last look show a burst?
    pub(crate) fn has_burst(&self) -> bool {
        self.bursts > 0
    }

    fn look_inline(&mut self, sample: Sample) -> Way {
        self.pause_left = self.pause_left.saturating_sub(1);
        if !sample.is_burst() {
            self.bursts = 0;
            return Way::Inline;
        }
        self.bursts += 1;
        self.inline_ns = sample.period_ns();
        if self.bursts < BURSTS || self.pause_left > 0 {
            return Way::Inline;
        }
        self.looks_queued = 0;
        Way::Queued
    }

    fn look_queued(&mut self, sample: Sample) -> Way {
        self.looks_queued = self.looks_queued.saturating_add(1);
        self.bursts = 0;
        if !sample.is_burst() {
            // The burst is over; that says nothing against the next.
            return Way::Inline;
        }
        if self.looks_queued < TRIAL {
            return Way::Queued;
        }
        if sample.period_ns() * GAIN.1 <= self.inline_ns * GAIN.0 {
            self.pause = 0;
            return Way::Queued;
        }
        self.pause = (self.pause * 2).clamp(PAUSE, PAUSE_MAX);
        self.pause_left = self.pause;
        Way::Inline
    }
}

/// What is known of the machine.
#[derive(Default)]
pub(crate) struct Process {
    /// Ticks of the clock a µs, times 16; 0: not measured yet.
    rate: std::sync::atomic::AtomicU64,
    first_ticks: std::sync::atomic::AtomicU64,
    first_ns: std::sync::atomic::AtomicU64,
}

/// Measured over at least so long.
const RATE_OVER: Duration = Duration::from_millis(1);

/// The rate of a clock in ticks a µs, times 16, from two readings of it and of
/// CLOCK_MONOTONIC; 0 when they are too near.
pub(crate) fn rate(first: (u64, u64), second: (u64, u64)) -> u64 {
    let (ticks, ns) = (
        second.0.saturating_sub(first.0),
        second.1.saturating_sub(first.1),
    );
    if u128::from(ns) < RATE_OVER.as_nanos() {
        return 0;
    }
    (u128::from(ticks) * 16_000 / u128::from(ns)) as u64
}

/// Ticks in ns at that rate.
pub(crate) fn ticks_to_ns(ticks: u64, rate: u64) -> u64 {
    (u128::from(ticks) * 16_000 / u128::from(rate.max(1))) as u64
}

impl Process {
    /// The clock's rate, or 0 while it is not known.
    pub(crate) fn rate(&self) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        let known = self.rate.load(Relaxed);
        if known != 0 {
            return known;
        }
        let now = (crate::clock::ticks(), crate::clock::now_ns());
        let first = (self.first_ticks.load(Relaxed), self.first_ns.load(Relaxed));
        if first.1 == 0 {
            self.first_ticks.store(now.0, Relaxed);
            self.first_ns.store(now.1, Relaxed);
            return 0;
        }
        let rate = rate(first, now);
        self.rate.store(rate, Relaxed);
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(period_ns: u64, bytes: u64) -> Sample {
        Sample {
            sends: SENDS_PER_LOOK,
            bytes: bytes * u64::from(SENDS_PER_LOOK),
            elapsed_ns: period_ns * u64::from(SENDS_PER_LOOK),
        }
    }

    /// Feeds looks and tells the way after each.
    fn ways(flow: &mut Flow, looks: &[(u64, u64)]) -> String {
        let look = |&(period, bytes): &(u64, u64)| match flow.look(sample(period, bytes)) {
            Way::Inline => 'i',
            Way::Queued => 'q',
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn only_sustained_bursts_of_small_sends_are_queued() {
        for (looks, expected, what) in [
            (vec![(900, 64); 3], "iqq", "a stream of small sends"),
            (vec![(30_000, 64); 3], "iii", "a request each 30 us"),
            (vec![(900, 16_000); 3], "iii", "long sends"),
            (
                vec![(900, 64), (40_000, 64), (900, 64)],
                "iii",
                "bursts with pauses",
            ),
        ] {
            assert_eq!(ways(&mut Flow::default(), &looks), expected, "{what}");
        }
    }

    #[test]
    fn what_gains_stays_and_what_does_not_goes_back_for_longer_each_time() {
        let mut flow = Flow::default();
        assert_eq!(ways(&mut flow, &[(900, 64); 2]), "iq");
        assert_eq!(ways(&mut flow, &[(100, 64); 20]), "q".repeat(20));
        let mut flow = Flow::default();
        assert_eq!(
            ways(&mut flow, &[(900, 64); 6]),
            "iqqqqi",
            "no faster: back"
        );
        let back = ways(&mut flow, &vec![(900, 64); PAUSE as usize]);
        assert_eq!(back.find('q'), Some(PAUSE as usize - 1));
        assert_eq!(ways(&mut flow, &[(900, 64); 4]), "qqqi");
        let back = ways(&mut flow, &vec![(900, 64); 2 * PAUSE as usize]);
        assert_eq!(back.find('q'), Some(2 * PAUSE as usize - 1));
    }

    #[test]
    fn the_end_of_a_burst_is_no_reason_against_the_next() {
        let mut flow = Flow::default();
        let looks = [
            (900, 64),
            (900, 64),
            (100, 64),
            (50_000, 64),
            (900, 64),
            (900, 64),
        ];
        assert_eq!(ways(&mut flow, &looks), "iqqiiq");
    }

    #[test]
    fn a_clock_of_any_rate() {
        for (ticks, ns, expected) in [
            (2_500_000, 1_000_000, 2_500 * 16 / 1_000 * 1_000),
            (24_000, 1_000_000, 24 * 16),
            (100, 50, 0),
        ] {
            assert_eq!(rate((7, 9), (7 + ticks, 9 + ns)), expected);
        }
        assert_eq!(ticks_to_ns(2_500, 2_500 * 16), 1_000);
        assert_eq!(ticks_to_ns(24, 24 * 16), 1_000);
    }
}
