// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! When queueing a thread's sends pays. Numbers in, numbers out.
//!
//! Waking an executor for one send costs the sender 3.3 to 3.6 µs, several times
//! the send: a thread that sends and then waits for the next request sends by
//! itself. Queueing may pay for a thread that is busy sending: sends of one
//! socket coalesce (0.15 µs each where 32 go at once, 0.5 to 1.4 µs alone), and
//! an executor with a core to itself spares the thread the send altogether. If
//! it does is measured, not believed: for a moment the sends are queued, and the
//! time a send takes is compared with that of just before, and just after if it
//! seems to have gained. What gains stays, and is looked at again later; what does
//! not is left alone for a time that doubles.
//!
//! All of this is a thread's own, so it costs no shared cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Sends between two looks: a look is a system call of 0.3 to 0.4 µs, so 3 ns a
/// send.
pub(crate) const SENDS_PER_LOOK: u32 = 128;
/// In a trial: who answers requests may take 100 µs a send there.
const SENDS_PER_TRIAL_LOOK: u32 = 32;
/// Sends for each wait of a thread that is busy sending, at least. The trial
/// cannot tell waiting for the ring from waiting for requests below that; and who
/// answers a few clients at each wake-up works best when they come together, which
/// a trial may end for good (memcached, 8 clients in a closed loop: a quarter
/// less in half of the runs).
const SENDS_PER_WAIT: u64 = 16;
/// A busy sender spends at most so much of its own CPU time a send: several
/// times what a whole request takes redis (10 µs with the kernel's part).
const CPU_NS_MAX: u64 = 50_000;
/// Longer sends gain little by coalescing: they are as long as what a system
/// call takes at once.
const BYTES_MAX: u64 = 8192;
/// Looks in a row that must be busy before anything is measured.
const BUSY_LOOKS: u32 = 2;
/// How long sends are measured inline and queued; longer than the kernel's
/// slices (3 to 4 ms), so that one lost turn does not decide.
const BASELINE_NS: u64 = 10_000_000;
const TRIAL_NS: u64 = 20_000_000;
/// The start of a trial does not count: an executor wakes. While flows are still
/// made, 30 µs each, so much of the time passes only.
const WARM_UP_NS: u64 = 2_000_000;
const MAKING_SHARE: u64 = 4;
/// Stays when a send and a byte take at most this part of the time before, in percent:
/// a twentieth may be noise.
const GAIN_PERCENT: u64 = 95;
/// After so long a trial ends that takes more than this part of the time before,
/// in percent: most senders that wait for requests are this much slower, and a
/// trial costs them that. The first is longer than one lost turn, which leaves who
/// gains much below it.
const HOPELESS: [(u64, u64); 2] = [(TRIAL_NS / 4, 200), (TRIAL_NS / 2, 150)];
/// How long it is left alone after a trial that did not gain, and how long it
/// is kept after one that did; both double each time in a row. Who was hopeless is
/// left alone for longer yet: there is more to lose than to gain.
const PAUSE_NS: u64 = 1_000_000_000;
const KEEP_NS: u64 = 1_000_000_000;
const GROWS: u64 = 2;
const GROWS_HOPELESS: u64 = 4;
const AT_MOST_NS: u64 = 60_000_000_000;

/// What a thread did since its last look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) sends: u64,
    pub(crate) bytes: u64,
    pub(crate) wall_ns: u64,
    /// Its own CPU time.
    pub(crate) cpu_ns: u64,
    /// How often it went to sleep by itself.
    pub(crate) waits: u64,
    /// Messages accepted and not sent at the end, the whole process' ones, where
    /// it is known.
    pub(crate) backlog: Option<u64>,
}

impl Sample {
    fn is_busy(&self) -> bool {
        // In a short look a few waits may be chance, and the kernel counts CPU time
        // in steps of a tick.
        let sends = self.sends.max(SENDS_PER_LOOK.into());
        self.waits * SENDS_PER_WAIT <= sends
            && self.cpu_ns <= CPU_NS_MAX * sends
            && self.bytes <= BYTES_MAX * self.sends.max(1)
    }
}

/// A thread's sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Way {
    /// By itself, but for what an executor with a core takes off it.
    #[default]
    Inline,
    /// By itself, as without the library: that is what is measured.
    Alone,
    /// Into the rings.
    Queued,
}

/// Sends over a time.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    sends: u64,
    bytes: u64,
    ns: u64,
}

impl Span {
    const EMPTY: Self = Self {
        sends: 0,
        bytes: 0,
        ns: 0,
    };

    fn add(&mut self, sample: Sample) {
        self.sends += sample.sends;
        self.bytes += sample.bytes;
        self.ns += sample.wall_ns;
    }

    /// Without so many of its sends.
    fn without(self, sends: u64) -> Self {
        let left = self.sends.saturating_sub(sends);
        let bytes = u128::from(self.bytes) * u128::from(left) / u128::from(self.sends.max(1));
        Self {
            sends: left,
            bytes: bytes as u64,
            ns: self.ns,
        }
    }

    /// Does a send, and does a byte, take at most so many percent of what one of
    /// `other` takes? Both: who finds its sends cheaper may only send less at a
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
    /// Looks whether it is busy: so many looks in a row.
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
    /// Measures inline once more: who lost the CPU in the baseline would gain by
    /// anything.
    Confirm { queued: Span, inline: Span },
    /// Queued, for so long.
    Keep(u64),
    /// Inline, for so long.
    Pause(u64),
}

/// What is remembered of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    phase: Phase,
    pause_ns: u64,
    keep_ns: u64,
    /// Trials in a row that did not gain.
    failures: u32,
}

impl Sender {
    pub(crate) const fn new() -> Self {
        Self {
            phase: Phase::Watch(0),
            pause_ns: PAUSE_NS,
            keep_ns: KEEP_NS,
            failures: 0,
        }
    }

    /// Is it left alone after more than one trial? The first may have failed for
    /// want of flows, which that one made.
    pub(crate) fn has_given_up(&self) -> bool {
        matches!(self.phase, Phase::Pause(_)) && self.failures > 1
    }

    fn way(&self) -> Way {
        match self.phase {
            Phase::Watch(_) | Phase::Pause(_) => Way::Inline,
            Phase::Baseline(_) | Phase::Confirm { .. } => Way::Alone,
            Phase::Trial { .. } | Phase::Keep(_) => Way::Queued,
        }
    }

    /// Sends until the next look.
    pub(crate) fn sends_per_look(&self) -> u32 {
        match self.phase {
            Phase::Trial { .. } => SENDS_PER_TRIAL_LOOK,
            _ => SENDS_PER_LOOK,
        }
    }

    /// One look; the way from here on.
    pub(crate) fn look(&mut self, sample: Sample) -> Way {
        self.phase = self.next(sample);
        self.way()
    }

    fn next(&mut self, sample: Sample) -> Phase {
        if !sample.is_busy() {
            return match self.phase {
                // Time passes all the same.
                Phase::Pause(left) if left > sample.wall_ns => Phase::Pause(left - sample.wall_ns),
                // The burst is over, or queueing has made the thread wait.
                Phase::Trial { .. } => self.leave_alone(GROWS_HOPELESS),
                // The burst is over, which says nothing against the next.
                _ => Phase::Watch(0),
            };
        }
        match self.phase {
            Phase::Watch(busy) if busy + 1 < BUSY_LOOKS => Phase::Watch(busy + 1),
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
                mut queued,
                warm_up_ns,
                backlog,
            } => {
                if warm_up_ns > 0 {
                    let passed_ns = match sample.backlog {
                        Some(_) => sample.wall_ns,
                        // The look came with a send that had no flow yet.
                        None => sample.wall_ns / MAKING_SHARE,
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
                if hopeless {
                    return self.leave_alone(GROWS_HOPELESS);
                }
                if !done.is_within(GAIN_PERCENT, &inline) {
                    return self.leave_alone(GROWS);
                }
                Phase::Confirm {
                    queued: done,
                    inline: Span::EMPTY,
                }
            }
            Phase::Confirm { queued, mut inline } => {
                inline.add(sample);
                if inline.ns < BASELINE_NS {
                    return Phase::Confirm { queued, inline };
                }
                self.judge(&inline, &queued)
            }
            Phase::Keep(left) if left > sample.wall_ns => Phase::Keep(left - sample.wall_ns),
            // The machine may have changed: measured anew.
            Phase::Keep(_) => Phase::Baseline(Span::EMPTY),
            Phase::Pause(left) if left > sample.wall_ns => Phase::Pause(left - sample.wall_ns),
            Phase::Pause(_) => Phase::Watch(0),
        }
    }

    fn judge(&mut self, inline: &Span, queued: &Span) -> Phase {
        if queued.is_within(GAIN_PERCENT, inline) {
            let keep = self.keep_ns;
            self.keep_ns = (keep * GROWS).min(AT_MOST_NS);
            self.pause_ns = PAUSE_NS;
            self.failures = 0;
            Phase::Keep(keep)
        } else {
            self.leave_alone(GROWS)
        }
    }

    fn leave_alone(&mut self, grows: u64) -> Phase {
        let pause = self.pause_ns;
        self.pause_ns = (pause * grows).min(AT_MOST_NS);
        self.keep_ns = KEEP_NS;
        self.failures = self.failures.saturating_add(1);
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
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A busy look that took so long a send.
    fn busy(ns: u64) -> Sample {
        let sends = u64::from(SENDS_PER_LOOK);
        Sample {
            sends,
            bytes: 64 * sends,
            wall_ns: ns * sends,
            cpu_ns: 1000 * sends,
            waits: 0,
            backlog: None,
        }
    }

    /// Looks of busy sends, inline and queued of these lengths, for so long; the
    /// share of the time it queued, in percent, and changes of the way.
    fn share(sender: &mut Sender, inline_ns: u64, queued_ns: u64, for_ns: u64) -> (u64, u32) {
        let (mut at, mut queued, mut changes) = (0, 0, 0);
        let mut way = sender.way();
        while at < for_ns {
            let sample = busy(if way != Way::Queued {
                inline_ns
            } else {
                queued_ns
            });
            at += sample.wall_ns;
            if way == Way::Queued {
                queued += sample.wall_ns;
            }
            let next = sender.look(sample);
            changes += u32::from((next == Way::Queued) != (way == Way::Queued));
            way = next;
        }
        (queued * 100 / at, changes)
    }

    #[test]
    fn who_is_busy() {
        let sends = u64::from(SENDS_PER_LOOK);
        let one = busy(1000);
        for (sample, expected, what) in [
            (one, true, "a stream of small sends"),
            (
                Sample {
                    waits: sends,
                    ..one
                },
                false,
                "a request a send",
            ),
            (
                Sample {
                    waits: sends / SENDS_PER_WAIT,
                    ..one
                },
                true,
                "many requests a wakeup",
            ),
            (
                Sample {
                    waits: sends / SENDS_PER_WAIT + 1,
                    ..one
                },
                false,
                "fewer",
            ),
            (
                Sample {
                    bytes: 16_384 * sends,
                    ..one
                },
                false,
                "long sends",
            ),
            (
                Sample {
                    cpu_ns: 60_000 * sends,
                    ..one
                },
                false,
                "much work between",
            ),
            (
                Sample {
                    wall_ns: 40_000 * sends,
                    ..one
                },
                true,
                "no CPU for it now",
            ),
            (
                Sample {
                    sends: 32,
                    bytes: 64 * 32,
                    wall_ns: 100_000,
                    cpu_ns: 4_000_000,
                    waits: 2,
                    ..one
                },
                true,
                "a short look in which a tick came",
            ),
        ] {
            assert_eq!(sample.is_busy(), expected, "{what}");
        }
    }

    #[test]
    fn what_gains_is_kept_and_what_does_not_costs_next_to_nothing() {
        for (inline_ns, queued_ns, at_least, at_most) in [
            (1000, 150, 97, 100),
            (1000, 900, 95, 100),
            (1000, 960, 0, 3),
            (1000, 1000, 0, 3),
            (1000, 4000, 0, 4),
            (10_000, 6000, 95, 100),
            (10_000, 30_000, 0, 4),
        ] {
            let (share, _) = share(&mut Sender::new(), inline_ns, queued_ns, 20_000 * MS);
            assert!(
                (at_least..=at_most).contains(&share),
                "{inline_ns} ns inline, {queued_ns} queued: {share} %"
            );
        }
    }

    #[test]
    fn a_trial_costs_at_most_a_hundredth_of_the_first_second() {
        for slower_percent in [110, 140, 149, 160, 190, 300, 1000] {
            let (mut sender, mut at, mut lost) = (Sender::new(), 0, 0);
            while at < PAUSE_NS {
                let queued = sender.way() == Way::Queued;
                let sends = u64::from(sender.sends_per_look());
                let inline_ns = 10_000 * sends;
                let wall_ns = match queued {
                    true => inline_ns * slower_percent / 100,
                    false => inline_ns,
                };
                sender.look(Sample {
                    sends,
                    bytes: 5 * sends,
                    wall_ns,
                    cpu_ns: inline_ns,
                    waits: sends / SENDS_PER_WAIT,
                    backlog: Some(0),
                });
                at += wall_ns;
                lost += wall_ns - inline_ns;
            }
            assert!(lost > 0, "it was tried");
            assert!(lost <= PAUSE_NS / 100, "{slower_percent} %: {lost} ns");
        }
    }

    #[test]
    fn a_machine_that_changes_is_followed() {
        let mut sender = Sender::new();
        assert!(share(&mut sender, 1000, 200, 5_000 * MS).0 > 90);
        // The executor has lost its core.
        share(&mut sender, 1000, 3000, 10_000 * MS);
        assert!(share(&mut sender, 1000, 3000, 20_000 * MS).0 < 5);
        // It has it again.
        share(&mut sender, 1000, 200, 60_000 * MS);
        assert!(share(&mut sender, 1000, 200, 20_000 * MS).0 > 90);
    }

    #[test]
    fn a_baseline_that_lost_the_cpu_is_no_gain() {
        const LOOKS: u64 = 100_000;
        let mut sender = Sender::new();
        let mut queued = 0;
        for _ in 0..LOOKS {
            // 40 ms off the CPU whenever the baseline is measured.
            let lost = matches!(sender.phase, Phase::Baseline(_));
            let wall_ns = busy(1000).wall_ns + if lost { 40 * MS } else { 0 };
            let way = sender.look(Sample {
                wall_ns,
                ..busy(1000)
            });
            queued += u64::from(way == Way::Queued);
        }
        assert!(queued < LOOKS / 50, "{queued} looks of {LOOKS} queued");
    }

    #[test]
    fn one_lost_turn_does_not_decide() {
        let mut sender = Sender::new();
        let mut looks = 0;
        while sender.look(busy(1000)) != Way::Queued {
            looks += 1;
            assert!(looks < 1000);
        }
        while !matches!(sender.phase, Phase::Trial { warm_up_ns: 0, .. }) {
            sender.look(busy(300));
        }
        // 4 ms off the CPU within the trial's 20.
        sender.look(Sample {
            wall_ns: 4 * MS,
            ..busy(300)
        });
        let (share, _) = share(&mut sender, 1000, 300, 500 * MS);
        assert!(share > 90, "{share} %");
    }

    #[test]
    fn who_only_sends_less_at_a_time_has_not_gained() {
        let inline = Span {
            sends: 100,
            bytes: 100_000,
            ns: 1_000_000,
        };
        for (sends, bytes, gained) in [
            (110, 110_000, true),
            (110, 75_000, false),
            (90, 110_000, false),
            (100, 100_000, false),
        ] {
            let queued = Span {
                sends,
                bytes,
                ns: 1_000_000,
            };
            assert_eq!(
                queued.is_within(GAIN_PERCENT, &inline),
                gained,
                "{queued:?}"
            );
        }
    }

    #[test]
    fn the_end_of_a_burst_ends_it_at_once() {
        let mut sender = Sender::new();
        while sender.look(busy(1000)) != Way::Queued {}
        let idle = Sample {
            waits: u64::from(SENDS_PER_LOOK),
            ..busy(50_000)
        };
        assert_eq!(sender.look(idle), Way::Inline);
        // And the next one is tried, if not at once.
        let mut ns = 0;
        while sender.look(busy(1000)) != Way::Queued {
            ns += busy(1000).wall_ns;
            assert!(ns < PAUSE_NS + 10 * BASELINE_NS);
        }
    }

    #[test]
    fn what_is_only_accepted_is_not_done() {
        // Accepted at 300 ns each, sent at 900: the rings fill.
        for (sent_ns, gained) in [(900, true), (1100, false)] {
            let (mut sender, mut backlog) = (Sender::new(), 0);
            while sender.look(busy(1000)) != Way::Queued {}
            while matches!(sender.phase, Phase::Trial { .. }) {
                let sample = busy(300);
                backlog += sample.sends - sample.wall_ns / sent_ns;
                sender.look(Sample {
                    backlog: Some(backlog),
                    ..sample
                });
            }
            while matches!(sender.phase, Phase::Confirm { .. }) {
                sender.look(busy(1000));
            }
            assert_eq!(sender.way() == Way::Queued, gained, "{sent_ns} ns a send");
        }
    }

    #[test]
    fn who_waits_when_queued_is_left_alone() {
        let waiting = Sample {
            waits: u64::from(SENDS_PER_LOOK),
            ..busy(20_000)
        };
        let (mut sender, mut at, mut queued) = (Sender::new(), 0, 0);
        while at < 20_000 * MS {
            let sample = match sender.way() {
                Way::Queued => waiting,
                _ => busy(10_000),
            };
            at += sample.wall_ns;
            queued += u64::from(sender.look(sample) == Way::Queued);
        }
        assert!(queued <= 6, "{queued} looks of trials in 20 s");
    }

    #[test]
    fn a_clock_of_any_rate() {
        for (ticks, ns, expected) in [
            (2_500_000, 1_000_000, 2500 * 16),
            (24_000, 1_000_000, 24 * 16),
            (100, 50, 0),
        ] {
            assert_eq!(rate((7, 9), (7 + ticks, 9 + ns)), expected);
        }
        assert_eq!(ticks_to_ns(2500, 2500 * 16), 1000);
        assert_eq!(ticks_to_ns(24, 24 * 16), 1000);
    }
}
