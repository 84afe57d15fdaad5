// SPDX-License-Identifier: GPL-2.0-only
//! The function tests of the scheduler, with real tasks, on a kernel that has
//! sched_ext: run by ci/test in a virtual machine, as root, with `--in-vm`.
//!
//!   daemon      scx_flexnet as a child: start, stop, status, statistics
//!   tasks       the tasks under test: this program again, in another role
//!   attach, attackers, classes, control, designs, executors, fairness, groups, hardship, loss,
//!   napi, programs, readers, reload, rules, shown, stress, takeover, unsteady: the tests
//!
//! A test panics to fail, and a test that fails once fails the run. It waits for what
//! it asserts with a generous deadline, because a virtual CPU may stand still for a second.
//!
//! A test marked `time` judges durations or shares of CPU time, which the host's load disturbs.
//! So its bounds are wide, and the summary lists such tests. No test has a second attempt.
//!
//! The tests of SHARING share a daemon, which is attached once. Those of OWN need one
//! that starts, ends or is configured as they say.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

mod attach;
mod attackers;
mod classes;
mod control;
mod daemon;
mod designs;
mod executors;
mod fairness;
mod groups;
mod hardship;
mod loss;
mod napi;
mod programs;
mod readers;
mod reload;
mod rules;
mod shown;
mod stress;
mod takeover;
mod tasks;
mod unsteady;

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

/// A test, and the numbers of CPUs it is run on.
struct Test {
    name: &'static str,
    cpus: &'static [usize],
    /// It judges durations or shares of CPU time.
    timed: bool,
    run: fn(),
}

macro_rules! tests {
    ($($module:ident: $($name:ident on $cpus:expr $(=> $time:ident)?),+;)+) => {
        &[$($(Test {
            name: stringify!($name),
            cpus: &$cpus,
            timed: matches!(concat!("", $(stringify!($time))?).as_bytes(), b"time"),
            run: $module::$name,
        }),+),+]
    };
}

/// Tests that share a daemon.
const SHARING: &[Test] = tests! {
    attach:
        the_verifier_has_little_to_do on [2];
    classes:
        a_class_is_inherited on [2],
        a_latency_task_waits_less_than_a_slice on [2] => time,
        a_bound_latency_task_goes_first on [1, 2] => time,
        a_preemption_cooldown_spares_the_running_task on [2] => time,
        a_latency_batch_serves_every_waiting_task on [2] => time,
        a_task_that_keeps_waking_has_two_turns_per_latency_batch on [2] => time,
        a_pair_with_a_cpu_preempts_nobody on [2] => time,
        batch_has_a_quarter on [2] => time,
        nice_weighs on [2] => time,
        affinity_is_followed on [2, 4],
        a_pinned_task_on_a_granted_core_gets_turns on [2] => time,
        a_real_time_neighbour_breaks_nothing on [2];
    fairness:
        a_light_task_elsewhere_changes_no_weights on [2] => time,
        a_thread_that_yields_gives_way on [2];
    groups:
        weights_divide_at_every_level on [1, 2] => time,
        a_group_of_many_has_no_more on [1, 2] => time,
        an_idle_group_has_the_rest on [1, 2] => time,
        a_limit_is_enforced on [1, 2] => time,
        a_limit_holds_on_idle_cpus_and_granted_cores on [2] => time;
    executors:
        cores_follow_load on [2, 4] => time,
        an_executor_may_exclude_the_granted_core on [2],
        without_granted_cores_executors_run_too on [2],
        strict_cores_serve_executors_only on [2],
        lent_cores_serve_all on [2],
        a_submitter_on_the_lent_core_hands_over_many on [2],
        an_idle_system_stays_idle on [2] => time,
        throughput_flows_use_spare_cores_only on [2, 4],
        two_applications_share_a_core on [4] => time,
        the_operators_weights_divide_a_core on [4] => time,
        latency_flows_go_first_within_their_budget on [4] => time;
    designs:
        every_design_serves on [2],
        a_switch_changes_how_cores_are_granted on [4],
        designs_are_switched_under_load on [4],
        a_core_rule_is_loaded_under_load on [4],
        micro_quanta_leave_the_rest_of_a_core on [2] => time,
        a_guarantee_takes_a_core_above_anothers_guarantee on [2] => time,
        only_root_switches_and_errors_list on [2];
    loss:
        a_killed_client_is_forgotten on [2];
    rules:
        registration_goes_before_a_rule_and_that_before_the_parent on [2];
    reload:
        a_file_read_anew_holds_at_once on [2],
        an_application_has_the_operators_terms on [4];
    control:
        foreign_threads_are_refused on [2],
        random_packets_are_answered on [2];
    attackers:
        a_lingering_socket_holds_nobody on [2],
        root_gets_in_beside_idle_connections on [2];
    unsteady:
        a_stopped_client_keeps_nothing_from_others on [2] => time,
        pages_that_lie_harm_nobody_else on [2],
        a_client_that_changes_stays_one_or_ends on [2],
        killed_clients_leave_nothing on [2];
    hardship:
        many_threads_slow_nobody on [2] => time,
        a_fork_storm_of_latency_tasks_starves_nobody on [2],
        many_connections_leave_nothing on [2];
    programs:
        a_c_program_is_granted_a_core on [2],
        a_setuid_program_runs_without_the_library on [2];
    shown:
        top_shows_cores_and_applications on [2],
        why_explains_classes_places_and_waits on [2],
        why_names_a_rule on [2],
        a_trace_has_cores_executors_and_turns on [2];
    readers:
        a_preempted_rcu_reader_goes_on on [2],
        an_rcu_reader_leaves_the_rest_their_shares on [2] => time;
    stress:
        the_least_of_many_has_turns on [2],
        stress_with_changing_affinities on [2];
};

/// Tests that have daemons of their own, or none.
const OWN: &[Test] = tests! {
    attach:
        attaches_and_detaches_in_cycles on [2],
        a_killed_daemon_leaves_the_kernels_scheduler on [2],
        refusals_are_one_line on [2],
        a_limit_that_is_not_enforced_is_named on [2],
        the_journal_has_priorities_and_fields on [2];
    executors:
        too_few_cores_are_reported_and_not_steered_to on [2];
    designs:
        the_kernel_decides_as_the_host on [2];
    loss:
        a_stream_survives_the_daemon_killed on [2],
        a_stream_survives_an_orderly_restart on [2];
    rules:
        a_rule_holds_when_a_task_comes_to_fit on [2];
    reload:
        a_guarantee_by_the_operator_needs_no_root on [2];
    takeover:
        a_takeover_loses_nothing on [2] => time,
        steering_is_handed_on on [2],
        a_signal_starts_a_successor on [2],
        one_that_fails_leaves_the_old_one on [2],
        one_that_dies_on_the_way_is_replaced_by_the_old_one on [2];
    napi:
        kernel_threads_get_cores_by_load on [2, 4],
        a_devices_setting_returns_after_a_crash on [2],
        check_config_tells_which_device_has_no_napi on [2],
        kernel_threads_come_and_go on [2],
        a_kernel_thread_may_be_bound on [2],
        a_receive_livelock_starves_nobody on [1, 2] => time,
        // By name, in a boot that has what they need (ci/test).
        virtio_net_threads_get_cores_by_load on [],
        backlog_threads_stay_where_they_are on [] => time;
    control:
        quotas_hold on [2],
        kept_pages_count on [2];
    attackers:
        a_file_that_does_not_answer_holds_nobody on [2],
        the_metrics_survive_strangers on [2];
    hardship:
        a_read_only_run_stops_no_daemon on [2],
        a_full_disk_stops_no_daemon on [2],
        a_full_output_ends_no_daemon on [2],
        a_daemon_without_memory_takes_nobody_along on [2];
    programs:
        an_unmodified_program_is_granted_a_core on [2];
    shown:
        metrics_are_served on [2];
    stress:
        one_cpu_is_enough on [1],
        cpus_go_and_come_back on [2];
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--role", role, rest @ ..] => {
            tasks::play(role, rest);
            ExitCode::SUCCESS
        }
        ["--list"] => {
            list();
            ExitCode::SUCCESS
        }
        ["--in-vm", names @ ..] => run(names),
        _ => {
            println!("these tests need a sched_ext kernel: ci/test runs them in its VM");
            ExitCode::SUCCESS
        }
    }
}

/// Prints the names of all tests.
fn list() {
    for test in SHARING.iter().chain(OWN) {
        println!("{}", test.name);
    }
}

/// Runs the named tests, or those for this number of CPUs.
fn run(names: &[&str]) -> ExitCode {
    let all = || SHARING.iter().chain(OWN);
    if let Some(unknown) = names.iter().find(|name| all().all(|t| t.name != **name)) {
        println!("no test is named {unknown}; --list prints the names");
        return ExitCode::FAILURE;
    }
    let cpus = tasks::online_cpus().len();
    let chosen = |test: &&Test| match names {
        [] => test.cpus.contains(&cpus),
        _ => names.contains(&test.name),
    };
    let (mut count, mut timed, mut failed) = (0, Vec::new(), Vec::new());
    for tests in [SHARING, OWN] {
        for test in tests.iter().filter(chosen) {
            count += 1;
            timed.extend(test.timed.then_some(test.name));
            if !passes(test) {
                failed.push(test.name);
            }
        }
        // Once: a second daemon would hide how the first one ended.
        if !succeeds("the shared daemon's end", daemon::end_shared) {
            failed.push("the shared daemon's end");
        }
    }
    println!("{count} tests on {cpus} CPUs, failed: {failed:?}");
    if !timed.is_empty() {
        println!("judged by time: {timed:?}");
    }
    if count > 0 && failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs something on a thread of its own; false where it panics.
fn succeeds(name: &str, what: impl FnOnce() + Send + 'static) -> bool {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(what).is_ok_and(|it| it.join().is_ok())
}

/// Runs a test, whose thread's class and registrations end with it.
fn passes(test: &Test) -> bool {
    let (start, run) = (Instant::now(), test.run);
    let passed = succeeds(test.name, move || {
        run();
        daemon::await_clean();
    });
    let word = if passed { "ok" } else { "FAILED" };
    let seconds = start.elapsed().as_secs_f64();
    println!("{word} {} ({seconds:.1} s)", test.name);
    if !passed {
        println!("the daemon said:\n{}", daemon::log());
        if !succeeds("cleaning up", daemon::discard_shared) {
            println!("a scheduler is still attached");
        }
    }
    passed
}
