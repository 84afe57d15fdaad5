// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! When queueing a thread's sends pays. Numbers in, numbers out.
//!
//! Waking an executor for one send costs the sender 3.3 to 3.6 µs, several times the send. So a
//! thread that sends and then waits for the next request sends by itself.
//!
//! Queueing may pay for a thread that is busy sending. Sends of one socket coalesce: 0.15 µs each
//! where 32 go at once, 0.5 to 1.4 µs alone. An executor with a core of its own spares the thread
//! the send altogether.
//!
//! Whether queueing pays is measured in a trial. The sends are queued for a moment. The time of a
//! send is compared with that of just before, and of just after if it seems to have gained.
//! Queueing that gains stays, and is measured again later. Without a gain the thread is left alone
//! for a time that grows. A thread that an executor has made faster than its clients waits for them.
//! It stays queued as long as it is faster than it was by itself.
//!
//! All of this belongs to one thread, so it costs no shared cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Sends between two samples: a sample is a system call of 0.3 to 0.4 µs, so 3 ns a
/// send.
pub(crate) const SENDS_PER_SAMPLE: u32 = 128;
/// In a trial: a thread that answers requests may take 100 µs a send there.
const SENDS_PER_TRIAL_SAMPLE: u32 = 32;
/// Sends for each wait of a thread that is busy sending by itself, at least. A thread that
/// answers a few clients at each wake-up works best when they come together, which
/// a trial may end for good (memcached, 8 clients in a closed loop: a quarter
/// less in half of the runs).
const SENDS_PER_WAIT: u64 = 16;
/// Longer sends gain little by coalescing: they are as long as what a system
/// call takes at once.
const BYTES_MAX: u64 = 8192;
/// Samples in a row that must be busy before anything is measured.
const BUSY_SAMPLES: u32 = 2;
/// How long sends are measured inline and queued; longer than the kernel's
/// slices (3 to 4 ms), so that one lost turn does not decide.
const BASELINE_NS: u64 = 10_000_000;
const TRIAL_NS: u64 = 20_000_000;
/// The start of a trial does not count: an executor wakes. While flows are still
/// made, 30 µs each, it ends so many times later at most (four thousand flows).
const WARM_UP_NS: u64 = 2_000_000;
const MAKING_TIMES: u64 = 64;
/// Stays when a send and a byte take at most this part of the time before, in percent:
/// a twentieth may be noise.
const GAIN_PERCENT: u64 = 95;
/// After so long a trial ends that takes more than this part of the time before,
/// in percent: most senders that wait for requests are this much slower, and a
/// trial costs them that. The first is two lost turns long: one doubles what it
/// takes.
const HOPELESS: [(u64, u64); 2] = [(TRIAL_NS * 2 / 5, 200), (TRIAL_NS / 2, 150)];
/// How long it is left alone after a trial that did not gain, and how long it
/// is kept after one that did; both double each time in a row, and the former grows
/// fourfold where it was hopeless without a wait: there is more to lose than to gain.
const PAUSE_NS: u64 = 1_000_000_000;
const KEEP_NS: u64 = 1_000_000_000;
const GROWS: u64 = 2;
const GROWS_HOPELESS: u64 = 4;
const AT_MOST_NS: u64 = 60_000_000_000;

/// What a thread did since its last sample.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) sends: u64,
    pub(crate) bytes: u64,
    pub(crate) wall_ns: u64,
    /// How often it went to sleep by itself.
    pub(crate) waits: u64,
    /// Messages accepted and not sent at the end, the whole process' ones, where
    /// it is known.
    pub(crate) backlog: Option<u64>,
}

impl Sample {
    fn is_busy(&self) -> bool {
        !Span::of(*self).waits_often() && self.is_short()
    }

    fn is_short(&self) -> bool {
        self.bytes <= BYTES_MAX * self.sends.max(1)
    }
}

/// A thread's sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum SendMode {
    /// By itself, but for what an executor with a core takes off it.
    #[default]
    Inline,
    /// By itself, as without the library: that is what is measured.
    InlineOnly,
    /// Into the rings.
    Queued,
}

/// Sends over a time.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    sends: u64,
    bytes: u64,
    ns: u64,
    waits: u64,
}

impl Span {
    const EMPTY: Self = Self {
        sends: 0,
        bytes: 0,
        ns: 0,
        waits: 0,
    };

    fn of(sample: Sample) -> Self {
        let mut span = Self::EMPTY;
        span.add(sample);
        span
    }

    fn add(&mut self, sample: Sample) {
        self.sends += sample.sends;
        self.bytes += sample.bytes;
        self.ns += sample.wall_ns;
        self.waits += sample.waits;
    }

    /// In less than a sample's sends a few waits may be chance.
    fn waits_often(&self) -> bool {
        self.waits * SENDS_PER_WAIT > self.sends.max(SENDS_PER_SAMPLE.into())
    }

    /// A thread that queues and waits has gained if it sends faster all the same.
    fn waits_in_vain(&self, inline: &Self) -> bool {
        self.waits_often() && !self.is_within(100, inline)
    }

    /// Without so many of its sends.
    fn without(self, sends: u64) -> Self {
        let left = self.sends.saturating_sub(sends);
        let bytes = u128::from(self.bytes) * u128::from(left) / u128::from(self.sends.max(1));
        Self {
            sends: left,
            bytes: bytes as u64,
            ..self
        }
    }

    /// Does a send, and does a byte, take at most so many percent of what one of
    /// `other` takes? Both: a thread whose sends get cheaper may only send less at a
    /// time (redis gathers what it has for a client while it is busy: with 32
    /// subscribers sends became 10% more and messages 25% fewer).
    fn is_within(&self, percent: u64, other: &Self) -> bool {
        let within = |own: u64, others: u64| {
            let cross = |ns: u64, units: u64| u128::from(ns) * u128::from(units);
            cross(self.ns, others) * 100 <= cross(other.ns, own) * u128::from(percent)
        };
        within(self.sends, other.sends) && within(self.bytes, other.bytes)
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Checks whether it is busy: so many samples in a row.
    Watch(u32),
    /// Measures inline.
    Baseline(Span),
    /// Measures queued, after the warm-up that is left.
    Trial {
        inline: Span,
        queued: Span,
        warm_up_ns: u64,
        /// What was accepted and not sent when the warm-up ended.
        backlog: u64,
    },
    /// Measures inline once more: a thread that lost the CPU in the baseline would gain
    /// by anything.
    Confirm { queued: Span, inline: Span },
    /// Queued, for so long. `inline` is what it is compared with. Two samples in a row decide
    /// against it: one may be a lost turn.
    Keep {
        left_ns: u64,
        inline: Span,
        in_vain: bool,
    },
    /// Inline, for so long.
    Pause(u64),
}

/// What is remembered of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    phase: Phase,
    pause_ns: u64,
    keep_ns: u64,
}

impl Sender {
    pub(crate) const fn new() -> Self {
        Self {
            phase: Phase::Watch(0),
            pause_ns: PAUSE_NS,
            keep_ns: KEEP_NS,
        }
    }

    /// Is it left alone, after a trial that did not gain?
    pub(crate) fn is_excluded(&self) -> bool {
        matches!(self.phase, Phase::Pause(_))
    }

    fn send_mode(&self) -> SendMode {
        match self.phase {
            Phase::Watch(_) | Phase::Pause(_) => SendMode::Inline,
            Phase::Baseline(_) | Phase::Confirm { .. } => SendMode::InlineOnly,
            Phase::Trial { .. } | Phase::Keep { .. } => SendMode::Queued,
        }
    }

    /// Sends until the next sample.
    pub(crate) fn sends_per_sample(&self) -> u32 {
        match self.phase {
            Phase::Trial { .. } => SENDS_PER_TRIAL_SAMPLE,
            _ => SENDS_PER_SAMPLE,
        }
    }

    /// One sample; the way from here on.
    pub(crate) fn observe(&mut self, sample: Sample) -> SendMode {
        self.phase = self.next(sample);
        self.send_mode()
    }

    /// Is this no thread that is busy sending, by what it does in the phase?
    fn is_over(&self, sample: Sample) -> bool {
        let own = Span::of(sample);
        match &self.phase {
            _ if !sample.is_short() => true,
            // While flows are made, waits say nothing.
            Phase::Trial { warm_up_ns, .. } if *warm_up_ns > 0 && sample.backlog.is_none() => false,
            Phase::Trial { inline, queued, .. } => {
                let mut all = *queued;
                all.add(sample);
                all.waits_in_vain(inline)
            }
            Phase::Keep {
                inline, in_vain, ..
            } => *in_vain && own.waits_in_vain(inline),
            _ => !sample.is_busy(),
        }
    }

    fn next(&mut self, sample: Sample) -> Phase {
        if self.is_over(sample) {
            return match self.phase {
                // Time passes all the same.
                Phase::Pause(left) if left > sample.wall_ns => Phase::Pause(left - sample.wall_ns),
                Phase::Trial { .. } => self.pause(GROWS),
                // The burst is over, which says nothing against the next.
                _ => Phase::Watch(0),
            };
        }
        match self.phase {
            Phase::Watch(busy) if busy + 1 < BUSY_SAMPLES => Phase::Watch(busy + 1),
            Phase::Watch(_) => Phase::Baseline(Span::EMPTY),
            Phase::Baseline(mut inline) => {
                inline.add(sample);
                if inline.ns < BASELINE_NS {
                    return Phase::Baseline(inline);
                }
                Phase::Trial {
                    inline,
                    queued: Span::EMPTY,
                    warm_up_ns: WARM_UP_NS,
                    backlog: 0,
                }
            }
            Phase::Trial {
                inline,
                queued,
                warm_up_ns,
                backlog,
            } => self.trial(sample, inline, queued, warm_up_ns, backlog),
            Phase::Confirm { queued, mut inline } => {
                inline.add(sample);
                if inline.ns < BASELINE_NS {
                    return Phase::Confirm { queued, inline };
                }
                self.judge(&inline, &queued)
            }
            Phase::Keep {
                left_ns, inline, ..
            } if left_ns > sample.wall_ns => Phase::Keep {
                left_ns: left_ns - sample.wall_ns,
                inline,
                in_vain: Span::of(sample).waits_in_vain(&inline),
            },
            // The machine may have changed: measured anew.
            Phase::Keep { .. } => Phase::Baseline(Span::EMPTY),
            Phase::Pause(left) if left > sample.wall_ns => Phase::Pause(left - sample.wall_ns),
            Phase::Pause(_) => Phase::Watch(0),
        }
    }

    /// A sample of a trial: the trial goes on, ends in vain, or is confirmed.
    fn trial(
        &mut self,
        sample: Sample,
        inline: Span,
        mut queued: Span,
        warm_up_ns: u64,
        backlog: u64,
    ) -> Phase {
        if warm_up_ns > 0 {
            let passed_ns = match sample.backlog {
                Some(_) => sample.wall_ns,
                // The sample came with a send that had no flow yet.
                None => sample.wall_ns / MAKING_TIMES,
            };
            return Phase::Trial {
                inline,
                queued,
                warm_up_ns: warm_up_ns.saturating_sub(passed_ns),
                backlog: sample.backlog.unwrap_or(0),
            };
        }
        queued.add(sample);
        // What is only accepted is not done.
        let done = queued.without(sample.backlog.unwrap_or(0).saturating_sub(backlog));
        let hopeless = HOPELESS
            .iter()
            .any(|&(ns, percent)| queued.ns >= ns && !done.is_within(percent, &inline));
        if queued.ns < TRIAL_NS && !hopeless {
            return Phase::Trial {
                inline,
                queued,
                warm_up_ns,
                backlog,
            };
        }
        if !done.is_within(GAIN_PERCENT, &inline) {
            // A thread that waited may have had nothing to send.
            let grows = match hopeless && queued.waits == 0 {
                true => GROWS_HOPELESS,
                false => GROWS,
            };
            return self.pause(grows);
        }
        Phase::Confirm {
            queued: done,
            inline: Span::EMPTY,
        }
    }

    fn judge(&mut self, inline: &Span, queued: &Span) -> Phase {
        if queued.is_within(GAIN_PERCENT, inline) {
            let keep = self.keep_ns;
            self.keep_ns = (keep * GROWS).min(AT_MOST_NS);
            self.pause_ns = PAUSE_NS;
            Phase::Keep {
                left_ns: keep,
                inline: *inline,
                in_vain: false,
            }
        } else {
            self.pause(GROWS)
        }
    }

    fn pause(&mut self, grows: u64) -> Phase {
        let pause = self.pause_ns;
        self.pause_ns = (pause * grows).min(AT_MOST_NS);
        self.keep_ns = KEEP_NS;
        Phase::Pause(pause)
    }
}

/// The rate of the clock.
#[derive(Default)]
pub(crate) struct Process {
    /// Ticks of the clock a µs, times 16; 0: not measured yet.
    rate: AtomicU64,
    first_ticks: AtomicU64,
    first_ns: AtomicU64,
}

/// Measured over at least so long.
const RATE_OVER_NS: u64 = 1_000_000;

/// The rate of a clock in ticks a µs, times 16, from two readings of it and of
/// CLOCK_MONOTONIC; 0 when they are too near.
fn rate(first: (u64, u64), second: (u64, u64)) -> u64 {
    let ticks = second.0.saturating_sub(first.0);
    let ns = second.1.saturating_sub(first.1);
    if ns < RATE_OVER_NS {
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
mod tests;
