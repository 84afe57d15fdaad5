// SPDX-License-Identifier: GPL-2.0-only
//! Classes, weights and affinities of tasks that are no executors, and that
//! nobody starves.

use crate::daemon::{DEADLINE, Stats, class, client, configure, eventually, share};
use crate::reload::reload;
use crate::tasks::{Task, online_cpus, shares};
use std::thread;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const CLASSES: [&str; 3] = ["normal", "latency", "batch"];

pub fn run_as(class: &str, role: &[&str]) -> Task {
    Task::play(&["flexnet", "run", "--class", class, "--"], role)
}

pub fn a_class_is_inherited() {
    share("");
    for class_name in CLASSES {
        let mut stats = Stats::connect();
        let task = run_as(class_name, &["nested", "nested", "hog"]);
        // The grandchild computes in its class; nobody else has a second's work.
        let mut run_ms = 0.0;
        eventually("CPU time of the class", || {
            run_ms += class(&stats.sample(), class_name, "run_ms");
            run_ms > 1000.0
        });
        drop(task);
    }
}

/// A latency task among hogs waits much less than a normal task that does the
/// same, and by the scheduler's own count far less than a hog's slice.
pub fn a_latency_task_waits_less_than_a_slice() {
    const SLICE_US: f64 = 4000.0;
    share("slice-us = 4000\npreemption-cooldown-us = 100\n");
    let hogs = 2 * online_cpus().len() + 2;
    let _hogs: Vec<Task> = (0..hogs).map(|_| Task::hog()).collect();
    let (latency, normal) = (run_as("latency", &["ping"]), Task::play(&[], &["ping"]));
    // The machine may stand still in one round; not in all.
    let mut rounds = Vec::new();
    let good = (0..5).any(|_| {
        let mut stats = Stats::connect();
        let (before_latency, before_normal) = (latency.waits(), normal.waits());
        eventually("200 wakeups", || normal.waits().1 > before_normal.1 + 200);
        let wait_us = class(&stats.sample(), "latency", "wait_us");
        let average = |task: &Task, before: (u64, u64)| {
            let now = task.waits();
            (now.0 - before.0) / (now.1 - before.1).max(1)
        };
        let ours = average(&latency, before_latency);
        let theirs = average(&normal, before_normal);
        rounds.push((wait_us, ours, theirs));
        wait_us < SLICE_US / 4.0 && 2 * ours < theirs
    });
    println!("  latency wait us, its and a normal task's delay ns: {rounds:?}");
    assert!(good, "{rounds:?}");
}

/// A latency task that is bound to a CPU goes before the normal tasks there, which keep a part of it.
pub fn a_bound_latency_task_goes_first() {
    const SLICE_NS: u64 = 4_000_000;
    share("slice-us = 4000\n");
    let hogs: Vec<Task> = (0..4).map(|_| Task::hog()).collect();
    let (ping, pair) = (run_as("latency", &["ping"]), run_as("latency", &["pair"]));
    let bound = online_cpus()[0];
    for task in hogs.iter().chain([&ping, &pair]) {
        task.pin(&[bound]);
    }
    let before = ping.waits();
    let ran = |task: &Task| task.schedstat(0);
    let (hogs_before, pair_before) = (hogs.iter().map(ran).sum::<u64>(), pair.waits().1);
    eventually("200 wakeups", || ping.waits().1 > before.1 + 200);
    let now = ping.waits();
    let average = (now.0 - before.0) / (now.1 - before.1);
    let hogs_ran = hogs.iter().map(ran).sum::<u64>() - hogs_before;
    let turns = pair.waits().1 - pair_before;
    println!("  waits {average} ns, hogs ran {hogs_ran} ns beside {turns} turns of a pair");
    assert!(average < SLICE_NS, "it waits {average} ns");
    assert!(hogs_ran > 10 * SLICE_NS, "hogs ran {hogs_ran} ns");
    assert!(turns > 20, "{turns} turns");
}

/// Latency tasks that wake all the time preempt hogs once in a preemption cooldown and no
/// more often, and have their turns all the same.
pub fn a_preemption_cooldown_spares_the_running_task() {
    let turns_of = |preemption_cooldown_us: u32| {
        share(&format!(
            "preemption-cooldown-us = {preemption_cooldown_us}\n"
        ));
        let hogs: Vec<Task> = (0..2 * online_cpus().len()).map(|_| Task::hog()).collect();
        let pings = [run_as("latency", &["ping"]), run_as("latency", &["ping"])];
        let turns = || -> u64 { pings.iter().map(|ping| ping.waits().1).sum() };
        let before = turns();
        shares(&hogs.iter().collect::<Vec<_>>(), 4 * SECOND);
        turns() - before
    };
    let (at_once, spared) = (turns_of(0), turns_of(50_000));
    println!("  {at_once} turns at once, {spared} with a preemption cooldown");
    assert!(3 * spared < at_once, "{at_once} turns, {spared}");
    assert!(spared > 20, "{spared} turns");
}

/// The preempted task has paid: latency tasks that want the CPUs all the time run
/// one after the other for the length of a latency batch, and normal ones for the preemption
/// cooldown after it. Without latency batches each slice would have a preemption cooldown of its
/// own. A length read anew holds at once.
pub fn a_latency_batch_serves_every_waiting_task() {
    let latency_batch_of = |latency_batch_us: u32| {
        format!(
            "preemption-cooldown-us = 50000\nstarvation-ms = 100\nlatency-batch-us = {latency_batch_us}\n"
        )
    };
    share(&latency_batch_of(0));
    let count = 2 * online_cpus().len();
    let mut tasks: Vec<Task> = (0..count).map(|_| Task::hog()).collect();
    tasks.extend((0..count).map(|_| run_as("latency", &["hog"])));
    let latency_share = || {
        // Let the start's advantage pass.
        shares(&tasks.iter().collect::<Vec<_>>(), SECOND / 2);
        let shares = shares(&tasks.iter().collect::<Vec<_>>(), 4 * SECOND);
        let latency: u64 = shares[count..].iter().sum();
        latency as f64 / shares.iter().sum::<u64>() as f64
    };
    let without = latency_share();
    configure(&latency_batch_of(50_000));
    let said = reload();
    assert!(said.contains("from now on: latency-batch-us"), "{said}");
    let with = latency_share();
    println!("  latency hogs had {without:.2} without latency batches, {with:.2} with");
    // A slice of 1 ms, which ends with a tick, in 50; and half.
    assert!(without < 0.15, "{without}");
    assert!((0.3..0.65).contains(&with), "{with}");
}

/// Two latency tasks that wake each other without end do not have a latency batch to
/// themselves, however long it may be: there and back, then come the hogs.
pub fn a_task_that_keeps_waking_has_two_turns_per_latency_batch() {
    share("preemption-cooldown-us = 50000\nlatency-batch-us = 50000\nstarvation-ms = 100\n");
    let count = 2 * online_cpus().len();
    let hogs: Vec<Task> = (0..count).map(|_| Task::hog()).collect();
    let pair = run_as("latency", &["pair"]);
    let before = pair.waits().1;
    shares(&hogs.iter().collect::<Vec<_>>(), 4 * SECOND);
    let turns = pair.waits().1 - before;
    println!("  {turns} turns of the two");
    // Two CPUs have 80 preemption cooldowns in 4 s of hogs' time; as many latency batches of 50 ms
    // would have tens of thousands of turns.
    assert!((20..600).contains(&turns), "{turns}");
}

/// Beside a single hog the pair has a CPU to itself: there it takes turns from
/// nobody, and the hog is left alone.
pub fn a_pair_with_a_cpu_preempts_nobody() {
    share("preemption-cooldown-us = 1000\n");
    let (hog, pair) = (Task::hog(), run_as("latency", &["pair"]));
    // Let them find their places.
    shares(&[&hog], SECOND / 2);
    let turns = |task: &Task| task.waits().1;
    let (mut stats, before) = (Stats::connect(), (turns(&hog), turns(&pair)));
    // This test's own turns move the pair to the hog's CPU: it looks seldom.
    let (start, until) = (Instant::now(), hog.run_ns() + 2 * SECOND.as_nanos() as u64);
    while hog.run_ns() < until {
        assert!(start.elapsed() < DEADLINE, "the hog does not run");
        thread::sleep(SECOND / 4);
    }
    let preemptions = stats.sample()["preemptions"].as_u64().unwrap();
    let (hogs, pairs) = (turns(&hog) - before.0, turns(&pair) - before.1);
    println!("  {preemptions} preemptions, {hogs} turns of the hog, {pairs} of the pair");
    assert!(preemptions < pairs / 60, "{preemptions} of {pairs}");
    assert!(hogs < pairs / 60, "{hogs} of {pairs}");
}

/// What the second has of the first's share of one CPU.
pub fn duel(first: &Task, second: &Task) -> f64 {
    first.pin(&[0]);
    second.pin(&[0]);
    // Let the start's advantage pass.
    shares(&[first, second], SECOND / 2);
    let shares = shares(&[first, second], 4 * SECOND);
    println!("  shares {shares:?}");
    shares[1] as f64 / shares[0] as f64
}

pub fn batch_has_a_quarter() {
    share("");
    let share = duel(&Task::hog(), &run_as("batch", &["hog"]));
    assert!((0.12..0.45).contains(&share), "batch had {share}");
}

pub fn nice_weighs() {
    share("");
    let share = duel(&Task::hog(), &Task::hog());
    assert!((0.6..1.7).contains(&share), "equals had {share}");
    // Five steps are a factor of three (1024 to 335).
    let nice = Task::play(&["nice", "-n", "5"], &["hog"]);
    let share = duel(&Task::hog(), &nice);
    assert!((0.18..0.6).contains(&share), "nice 5 had {share}");
}

pub fn affinity_is_followed() {
    share("");
    let _others: Vec<Task> = (0..3).map(|_| Task::hog()).collect();
    for class in CLASSES {
        let task = run_as(class, &["hog"]);
        for _ in 0..3 {
            for cpu in online_cpus() {
                task.pin(&[cpu]);
                shares(&[&task], Duration::from_millis(20));
                assert_eq!(task.last_cpu(), cpu);
            }
        }
    }
}

/// The granted core's executor never sleeps; a task that is bound there gets
/// its turns all the same, and by far not the most.
pub fn a_pinned_task_on_a_granted_core_gets_turns() {
    share("");
    let mut app = Task::app("spin", 1);
    app.ask("load 500 64 0");
    let core = granted_core(&mut app);
    for class in CLASSES {
        let hog = run_as(class, &["hog"]);
        hog.pin(&[core]);
        let run_ns = || client("spin").unwrap().run_ns;
        let before = run_ns();
        let pinned = shares(&[&hog], SECOND / 4)[0];
        let executor = run_ns() - before;
        println!("  {class}: pinned {pinned} ns, executor {executor} ns");
        assert!(executor > pinned, "the executor has no priority");
    }
}

/// The core an application's first executor was granted.
pub fn granted_core(app: &mut Task) -> usize {
    let mut core = -1;
    eventually("an executor on a granted core", || {
        let sample = app.sample();
        let executor = &sample["page"]["executors"][0];
        core = executor["on_cpu"].as_i64().unwrap_or(-1);
        core >= 0 && executor["granted"] == 1
    });
    core as usize
}

pub fn a_real_time_neighbour_breaks_nothing() {
    let daemon = share("");
    let mut app = Task::app("beside", 1);
    app.ask("load 200 64 0");
    let core = granted_core(&mut app);
    let hogs: Vec<Task> = (0..3).map(|_| Task::hog()).collect();
    // Hogs are preempted all the time, and wait where they were.
    let _pings = [run_as("latency", &["ping"]), run_as("latency", &["ping"])];
    let fifo = Task::play(&["chrt", "-f", "10"], &["hog"]);
    // On the granted core, then on the only general one. The kernel's own threads wait there,
    // and after ten seconds the watchdog ends the scheduler. So each wait is for little: what the
    // executor leaves of the granted core is a tenth, for all other tasks.
    for cpu in [core, 0] {
        fifo.pin(&[cpu]);
        shares(&[&fifo], SECOND / 2);
        // Hogs fill the other core; an executor comes between them.
        app.await_progress(100);
        for hog in &hogs {
            shares(&[hog], Duration::from_millis(10));
        }
        daemon.assert_schedules();
    }
    fifo.kill();
    app.await_progress(100);
}
