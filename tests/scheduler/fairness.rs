// SPDX-License-Identifier: GPL-2.0-only
//! Virtual time on several CPUs, and tasks that give way.

use crate::classes::{duel, run_as};
use crate::daemon::share;
use crate::tasks::{Task, compute, say};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Weights hold on a CPU while a task of little weight runs on another one. Its virtual time
/// passes 68 times as fast, and is nobody's measure there.
pub fn a_light_task_elsewhere_changes_no_weights() {
    share("");
    let light = Task::play(&["nice", "-n", "19"], &["at-times"]);
    light.pin(&[1]);
    // It comes by on both CPUs.
    let _ping = run_as("latency", &["ping"]);
    let nice = Task::play(&["nice", "-n", "5"], &["hog"]);
    let share = duel(&Task::hog(), &nice);
    // Five steps are a factor of three (1024 to 335).
    assert!((0.18..0.6).contains(&share), "nice 5 had {share}");
}

/// The role of a job that computes, and sleeps for a moment now and then.
pub fn at_times() {
    say("ready");
    loop {
        compute(Duration::from_millis(20));
        thread::sleep(Duration::from_millis(1));
    }
}

/// How often the lock is taken.
const TURNS: u32 = 200;

/// Three threads on a CPU take a lock in turn, and wait for it by sched_yield(2). A thread that
/// waits so gives its CPU to the others, one of which has the lock.
pub fn a_thread_that_yields_gives_way() {
    share("");
    let mut waiting = Task::play(&[], &["yielders"]);
    waiting.pin(&[1]);
    let yields: u32 = waiting.ask("go").parse().unwrap();
    println!("  {yields} yields for {TURNS} turns");
    // Each of the two that wait yields once in a slice of the third, which has two turns in it.
    assert!(yields < 10 * TURNS, "{yields} yields for {TURNS} turns");
}

/// The role of the three. Its threads begin after the first line that it reads, and have its
/// affinity. It answers how often they yielded.
pub fn yielders() {
    say("ready");
    io::stdin().lines().next().unwrap().unwrap();
    let (lock, turns, yields) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let take_turns = || {
        while turns.load(Ordering::Relaxed) < TURNS {
            if lock.swap(true, Ordering::Acquire) {
                yields.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
                continue;
            }
            let until = cpu_time() + Duration::from_millis(2);
            while cpu_time() < until {}
            turns.fetch_add(1, Ordering::Relaxed);
            lock.store(false, Ordering::Release);
        }
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(take_turns);
        }
    });
    say(&yields.load(Ordering::Relaxed).to_string());
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}
