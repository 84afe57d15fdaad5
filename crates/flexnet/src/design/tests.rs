// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What each design says, by tables.

use super::flexnet::Flexnet;
use super::*;

/// A view of queues of these lengths, all heads from 0.
fn view<'a>(lengths: &'a [u32], heads_ns: &'a [u64], idles: &'a [bool]) -> View<'a> {
    View {
        now_ns: 1_000_000,
        lengths,
        heads_ns,
        queued: lengths.iter().sum::<u32>() as usize,
        workers: idles.len(),
        idle: idles.iter().position(|&idle| idle),
        idles,
    }
}

fn of(text: &str) -> Box<dyn Design> {
    text.parse::<Choice>().expect("a design").build(1)
}

const HEADS: [u64; 4] = [0; 4];

#[test]
fn netchannel_sticks_skips_and_blocks() {
    let mut design = of("netchannel:sticky=2,queued=3");
    let item = Item::default();
    let busy = [false; 3];
    let mut place = |lengths: [u32; 3]| design.place(&view(&lengths, &HEADS, &busy), &item);
    assert_eq!(place([0, 0, 0]), Place::Queue(0));
    assert_eq!(
        place([1, 0, 0]),
        Place::Queue(0),
        "two units, then the next"
    );
    assert_eq!(place([2, 0, 0]), Place::Queue(1));
    assert_eq!(place([2, 3, 0]), Place::Queue(2), "a full one is skipped");
    assert_eq!(place([3, 3, 3]), Place::Block);
    assert_eq!(place([3, 3, 2]), Place::Queue(2));
}

#[test]
fn snap_engines_keep_their_flows_and_take_turns() {
    let mut design = of("snap:mode=compacting,engines=3");
    let item = Item {
        flow: 4,
        ..Item::default()
    };
    let one = [false];
    let lengths = [20, 1, 0];
    assert_eq!(
        design.place(&view(&lengths, &HEADS, &one), &item),
        Place::Queue(1)
    );
    let mut turns = Vec::new();
    for _ in 0..18 {
        let take = design.next(&view(&lengths, &HEADS, &one), 0).unwrap();
        turns.push(take.queue);
    }
    assert_eq!(turns[..16], [0; 16], "a turn of 16");
    assert_eq!(
        turns[16..],
        [1, 1],
        "then the next engine that has something"
    );
    // The heaviest engine moves to a woken core, and none steals.
    let two = [false, true];
    assert!(design.rearrange(&view(&lengths, &HEADS, &two)));
    assert_eq!(design.wake(&view(&lengths, &HEADS, &two), 0), Some(1));
    assert_eq!(
        design.next(&view(&[0, 5, 5], &HEADS, &two), 1),
        None,
        "engines 1 and 2 are worker 0's"
    );
    // And back.
    assert!(design.rearrange(&view(&lengths, &HEADS, &one)));
    assert!(design.next(&view(&[5, 0, 0], &HEADS, &one), 0).is_some());
}

#[test]
fn shenango_asks_own_then_sibling_and_steals_half() {
    let mut design = of("shenango");
    let busy = [false; 4];
    let take = |design: &mut Box<dyn Design>, lengths: [u32; 4]| {
        design.next(&view(&lengths, &HEADS, &busy), 2)
    };
    assert_eq!(take(&mut design, [9, 9, 1, 9]), Some(Take::own(2)));
    let stolen = take(&mut design, [9, 9, 0, 9]).unwrap();
    assert_eq!(
        (stolen.queue, stolen.more),
        (3, 4),
        "the sibling's, half of it"
    );
    assert_eq!(
        take(&mut design, [0, 7, 0, 0]).unwrap().queue,
        1,
        "any that has some"
    );
    assert_eq!(take(&mut design, [0; 4]), None);
}

#[test]
fn shinjuku_takes_the_largest_waiting_time_to_objective() {
    let mut design = of("shinjuku:slo=100us,slo1=1ms");
    let busy = [false; 2];
    // Now is 1 ms: type 0 has waited 50 µs of 100, type 1 600 µs of 1 ms.
    let heads = [950_000, 400_000, 0, 0];
    let lengths = [1, 1, 0, 0];
    let take = design.next(&view(&lengths, &heads, &busy), 0).unwrap();
    assert_eq!(take.queue, 1);
    let heads = [900_000, 400_000, 0, 0];
    let take = design.next(&view(&lengths, &heads, &busy), 0).unwrap();
    assert_eq!(take.queue, 0);
    let item = Item {
        kind: 9,
        ..Item::default()
    };
    assert_eq!(
        design.place(&view(&lengths, &heads, &busy), &item),
        Place::Queue(3)
    );
}

/// What a placement of the default design is asked, and its answer.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) home: u16,
    pub(crate) workers: usize,
    pub(crate) lengths: [u32; 4],
    pub(crate) idle: &'static [usize],
    pub(crate) turn: usize,
    pub(crate) queue: usize,
    /// The turn decided, so the next one is another.
    pub(crate) used: bool,
}

const fn placement(
    home: u16,
    workers: usize,
    lengths: [u32; 4],
    idle: &'static [usize],
    turn: usize,
    (queue, used): (usize, bool),
) -> Placement {
    Placement {
        home,
        workers,
        lengths,
        idle,
        turn,
        queue,
        used,
    }
}

/// Executors are asked the same (executor/placement.rs).
pub(crate) const PLACEMENTS: &[Placement] = &[
    // With one worker there is no choice.
    placement(7, 1, [9, 0, 0, 0], &[], 0, (0, false)),
    // Nothing waits at home, whichever other worker is idle.
    placement(1, 4, [0, 0, 0, 0], &[0, 2, 3], 0, (1, false)),
    // Homes of workers without a core fall to those with one.
    placement(6, 4, [5, 5, 0, 5], &[0], 0, (2, false)),
    placement(3, 2, [5, 0, 0, 0], &[], 0, (1, false)),
    // Work waits at home: the first idle one, which is never home itself.
    placement(1, 4, [9, 1, 9, 0], &[3], 0, (3, false)),
    placement(1, 4, [9, 1, 9, 0], &[1, 2], 0, (2, false)),
    // None is idle: the shorter of home and another, in turn; home where they are equal.
    placement(1, 4, [9, 2, 1, 9], &[], 0, (2, true)),
    placement(1, 4, [9, 2, 1, 9], &[], 1, (1, true)),
    placement(1, 4, [1, 2, 9, 9], &[1], 2, (0, true)),
    placement(1, 4, [9, 2, 2, 9], &[], 3, (1, true)),
    placement(3, 4, [2, 9, 9, 3], &[], 3, (0, true)),
    placement(0, 2, [4, 3, 0, 0], &[], usize::MAX, (1, true)),
];

#[test]
fn the_default_design_goes_home_then_to_the_idle_then_to_the_shorter() {
    for case in PLACEMENTS {
        let mut design = Flexnet::new(&Choice::default());
        design.set_turns(case.turn);
        let idles: Vec<bool> = (0..case.workers)
            .map(|worker| case.idle.contains(&worker))
            .collect();
        let item = Item {
            flow: case.home.into(),
            ..Item::default()
        };
        let place = design.place(&view(&case.lengths, &HEADS, &idles), &item);
        assert_eq!(place, Place::Queue(case.queue), "{case:?}");
        let next = case.turn.wrapping_add(case.used.into());
        assert_eq!(design.turns(), next, "{case:?}");
    }
}

#[test]
fn the_default_design_steals_half_of_the_next_sibling_with_work() {
    let victims: Vec<usize> = victims(2, 4).collect();
    assert_eq!(victims, [3, 0, 1]);
    let mut design = of("flexnet");
    let mut next =
        |lengths: [u32; 4], worker| design.next(&view(&lengths, &HEADS, &[false; 4]), worker);
    let take = next([3, 0, 9, 0], 3).unwrap();
    assert_eq!((take.queue, take.more, take.stolen), (0, 1, true));
    assert_eq!(next([3, 0, 9, 0], 2), Some(Take::own(2)));
    assert_eq!(next([0; 4], 2), None);
}
