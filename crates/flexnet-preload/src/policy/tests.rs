// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Tables: what a sender is asked to do, by what it measured.

use super::*;

const MS: u64 = 1_000_000;

/// A busy sample that took so long a send.
fn busy(ns: u64) -> Sample {
    let sends = u64::from(SENDS_PER_SAMPLE);
    Sample {
        sends,
        bytes: 64 * sends,
        wall_ns: ns * sends,
        waits: 0,
        backlog: Some(0),
    }
}

/// Samples of busy sends, inline and queued of these lengths, for so long; the
/// share of the time it queued, in percent, and changes of the way.
fn share(sender: &mut Sender, inline_ns: u64, queued_ns: u64, for_ns: u64) -> (u64, u32) {
    let (mut at, mut queued, mut changes) = (0, 0, 0);
    let mut send_mode = sender.send_mode();
    while at < for_ns {
        let sample = busy(if send_mode != SendMode::Queued {
            inline_ns
        } else {
            queued_ns
        });
        at += sample.wall_ns;
        if send_mode == SendMode::Queued {
            queued += sample.wall_ns;
        }
        let next = sender.observe(sample);
        changes += u32::from((next == SendMode::Queued) != (send_mode == SendMode::Queued));
        send_mode = next;
    }
    (queued * 100 / at, changes)
}

#[test]
fn who_is_busy() {
    let sends = u64::from(SENDS_PER_SAMPLE);
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
                waits: 8,
                ..one
            },
            true,
            "a short sample, in which waits may be chance",
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
    for slower_percent in [110, 140, 149, 160, 190, 300, 500] {
        let (mut sender, mut at, mut lost) = (Sender::new(), 0, 0);
        while at < PAUSE_NS {
            let queued = sender.send_mode() == SendMode::Queued;
            let sends = u64::from(sender.sends_per_sample());
            let inline_ns = 10_000 * sends;
            let wall_ns = match queued {
                true => inline_ns * slower_percent / 100,
                false => inline_ns,
            };
            sender.observe(Sample {
                sends,
                bytes: 5 * sends,
                wall_ns,
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
    const SAMPLES: u64 = 100_000;
    let mut sender = Sender::new();
    let mut queued = 0;
    for _ in 0..SAMPLES {
        // 40 ms off the CPU whenever the baseline is measured.
        let lost = matches!(sender.phase, Phase::Baseline(_));
        let wall_ns = busy(1000).wall_ns + if lost { 40 * MS } else { 0 };
        let send_mode = sender.observe(Sample {
            wall_ns,
            ..busy(1000)
        });
        queued += u64::from(send_mode == SendMode::Queued);
    }
    assert!(
        queued < SAMPLES / 50,
        "{queued} samples of {SAMPLES} queued"
    );
}

#[test]
fn one_lost_turn_does_not_decide() {
    let mut sender = Sender::new();
    let mut samples = 0;
    while sender.observe(busy(1000)) != SendMode::Queued {
        samples += 1;
        assert!(samples < 1000);
    }
    while !matches!(sender.phase, Phase::Trial { warm_up_ns: 0, .. }) {
        sender.observe(busy(300));
    }
    // 4 ms off the CPU within the trial's 20.
    sender.observe(Sample {
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
        waits: 0,
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
            ..inline
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
    while sender.observe(busy(1000)) != SendMode::Queued {}
    let idle = Sample {
        waits: u64::from(SENDS_PER_SAMPLE),
        ..busy(50_000)
    };
    assert_eq!(sender.observe(idle), SendMode::Inline);
    // And the next one is tried, if not at once.
    let mut ns = 0;
    while sender.observe(busy(1000)) != SendMode::Queued {
        ns += busy(1000).wall_ns;
        assert!(ns < PAUSE_NS + 10 * BASELINE_NS);
    }
}

#[test]
fn what_is_only_accepted_is_not_done() {
    // Accepted at 300 ns each, sent at 900: the rings fill.
    for (sent_ns, gained) in [(900, true), (1100, false)] {
        let (mut sender, mut backlog) = (Sender::new(), 0);
        while sender.observe(busy(1000)) != SendMode::Queued {}
        while matches!(sender.phase, Phase::Trial { .. }) {
            let sample = busy(300);
            backlog += sample.sends - sample.wall_ns / sent_ns;
            sender.observe(Sample {
                backlog: Some(backlog),
                ..sample
            });
        }
        while matches!(sender.phase, Phase::Confirm { .. }) {
            sender.observe(busy(1000));
        }
        assert_eq!(
            sender.send_mode() == SendMode::Queued,
            gained,
            "{sent_ns} ns a send"
        );
    }
}

#[test]
fn who_waits_when_queued_is_left_alone() {
    let waiting = Sample {
        waits: u64::from(SENDS_PER_SAMPLE),
        ..busy(20_000)
    };
    let (mut sender, mut at, mut queued) = (Sender::new(), 0, 0);
    while at < 20_000 * MS {
        let sample = match sender.send_mode() {
            SendMode::Queued => waiting,
            _ => busy(10_000),
        };
        at += sample.wall_ns;
        queued += u64::from(sender.observe(sample) == SendMode::Queued);
    }
    assert!(queued <= 6, "{queued} samples of trials in 20 s");
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

/// Runs a sender that is busy by itself and waits when it queues, for so many samples; the share
/// of them that were queued, in percent.
fn share_of_waiting(sender: &mut Sender, inline_ns: u64, queued_ns: u64) -> u64 {
    let (mut queued, samples) = (0, 5_000);
    for _ in 0..samples {
        let is_queued = sender.send_mode() == SendMode::Queued;
        let sends = u64::from(sender.sends_per_sample());
        sender.observe(Sample {
            sends,
            bytes: 64 * sends,
            wall_ns: if is_queued { queued_ns } else { inline_ns } * sends,
            waits: if is_queued { sends / 2 } else { 0 },
            backlog: Some(0),
        });
        queued += u64::from(is_queued);
    }
    queued * 100 / samples
}

#[test]
fn a_thread_that_outruns_its_clients_stays_queued() {
    // A request of 160 µs takes 120 with an executor's help: the clients are the limit.
    for (queued_ns, at_least, at_most) in [(120_000, 90, 100), (155_000, 0, 5), (240_000, 0, 5)] {
        let share = share_of_waiting(&mut Sender::new(), 160_000, queued_ns);
        assert!(
            (at_least..=at_most).contains(&share),
            "{queued_ns} ns a send queued: {share} %"
        );
    }
}

#[test]
fn a_thread_with_less_to_do_sends_by_itself_again() {
    let mut sender = Sender::new();
    share_of_waiting(&mut sender, 160_000, 120_000);
    assert_eq!(sender.send_mode(), SendMode::Queued);
    // Fewer requests than it could answer by itself.
    let calm = Sample {
        waits: 100,
        ..busy(170_000)
    };
    // One sample may be a lost turn.
    assert_eq!(sender.observe(calm), SendMode::Queued);
    assert_eq!(sender.observe(calm), SendMode::Inline);
}

#[test]
fn one_short_sample_of_waits_ends_no_trial() {
    let mut sender = Sender::new();
    while !matches!(sender.phase, Phase::Trial { warm_up_ns: 0, .. }) {
        sender.observe(busy(160_000));
    }
    let short = |ns: u64, waits| Sample {
        sends: 32,
        bytes: 64 * 32,
        wall_ns: 32 * ns,
        waits,
        backlog: Some(0),
    };
    // Faster than the clients for a while, then a turn is lost.
    for sample in [short(90_000, 0), short(90_000, 9), short(200_000, 9)] {
        sender.observe(sample);
        assert_eq!(sender.send_mode(), SendMode::Queued);
    }
}

#[test]
fn a_trial_waits_for_the_flows_it_makes() {
    let mut sender = Sender::new();
    let mut to_make = 1000u64;
    while !matches!(sender.phase, Phase::Keep { .. }) {
        let sends = u64::from(sender.sends_per_sample());
        let makes = sender.send_mode() == SendMode::Queued && to_make > 0;
        let ns = match sender.send_mode() {
            SendMode::Queued if makes => 30_000,
            SendMode::Queued => 300,
            _ => 1000,
        };
        to_make -= if makes { sends.min(to_make) } else { 0 };
        sender.observe(Sample {
            sends,
            bytes: 64 * sends,
            wall_ns: ns * sends,
            backlog: (!makes).then_some(0),
            ..busy(ns)
        });
        assert!(!matches!(sender.phase, Phase::Pause(_)), "no gain");
    }
}
