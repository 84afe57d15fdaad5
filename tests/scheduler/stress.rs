// SPDX-License-Identifier: GPL-2.0-only
//! Rough treatment: one CPU only, CPUs that go, and load of all kinds whose
//! affinities change under it.

use crate::classes::granted_core;
use crate::daemon::{Daemon, client, eventually, share, status};
use crate::tasks::{Random, Task, online_cpus, pin, shares, threads};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Nothing can be granted; everything goes on all the same.
pub fn one_cpu_is_enough() {
    let mut daemon = Daemon::start(&[]);
    let hogs: Vec<Task> = (0..3).map(|_| Task::hog()).collect();
    let mut app = Task::app("single", 3);
    for _ in 0..3 {
        app.ask("load 200 64 0");
        app.await_progress(200);
        for hog in &hogs {
            shares(&[hog], Duration::from_millis(50));
        }
        app.ask("idle");
    }
    assert_eq!((status().cores_max, status().grants), (0, 0));
    daemon.assert_schedules();
    daemon.stop();
    app.ask("load 200 64 0");
    app.await_progress(50);
    Daemon::start(&[]).stop();
}

/// Sets a CPU on- or offline.
fn set_online(cpu: usize, online: bool) {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    fs::write(path, if online { "1" } else { "0" }).unwrap();
}

/// The daemon starts again by itself, and its clients come back to it.
pub fn cpus_go_and_come_back() {
    let daemon = Daemon::start(&[]);
    let hogs = [Task::hog(), Task::hog()];
    let mut app = Task::app("hotplug", 2);
    app.ask("load 200 64 0");
    granted_core(&mut app);
    let last = *online_cpus().last().unwrap();
    for online in [false, true] {
        set_online(last, online);
        daemon.await_attached();
        eventually("the client's return", || {
            client("hotplug").is_some_and(|c| c.executors == 2 && c.run_ns > 0)
        });
        app.await_progress(50);
        for hog in &hogs {
            shares(&[hog], Duration::from_millis(50));
        }
        assert_eq!(status().cores_max, u32::from(online));
    }
    granted_core(&mut app);
    daemon.stop();
}

/// One turn puts it 400 ms of virtual time back, and seventy hogs let 29 ms of
/// that pass in a second: the kernel's watchdog would end the scheduler.
pub fn the_least_of_many_has_turns() {
    let daemon = share("");
    let least = Task::play(&["nice", "-n", "19"], &["hog"]);
    // Threads of one process: each process would start among those before it.
    let _hogs = Task::play(&[], &["hogs", "70"]);
    shares(&[&least], Duration::from_millis(12));
    daemon.assert_schedules();
}

/// Scheduling of every kind: computing, waking, forking, yielding, other
/// scheduling classes, and its own changes of affinity.
const STRESSORS: &str = "--cpu 2 --switch 2 --fork 2 --pipe 2 --yield 1 --futex 1 --timer 1 \
                         --schedpolicy 1 --affinity 1 --aggressive --temp-path /tmp";

fn stress_ng(seconds: u64) -> Child {
    Command::new("stress-ng")
        .args(STRESSORS.split_whitespace())
        .args(["--timeout", &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("stress-ng: add it to the VM (ci/vm --add)")
}

/// Every thread of every process of that name.
fn threads_named(name: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let named = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.starts_with(name))
    };
    pids.filter(named).flat_map(threads).collect()
}

pub fn stress_with_changing_affinities() {
    let seconds = std::env::var("FLEXNET_STRESS_SECONDS").map_or(60, |s| s.parse().unwrap());
    let daemon = share("");
    let mut apps = ["one", "two"].map(|name| Task::app(name, 2));
    let mut load = stress_ng(seconds);
    let mut random = Random(4711);
    let cpus = online_cpus();
    let mut rounds = 0;
    let ended = loop {
        if let Some(status) = load.try_wait().unwrap() {
            break status;
        }
        let mut tids = threads_named("stress-ng");
        tids.extend(apps.iter().flat_map(Task::executor_threads));
        for tid in tids {
            match random.below(3) {
                0 => pin(tid, &[cpus[random.below(cpus.len())]]),
                1 => pin(tid, &cpus),
                _ => {}
            }
        }
        for app in &mut apps {
            match random.below(4) {
                0 => app.ask("load 200 64 0"),
                1 => app.ask("load 100 4 2000"),
                _ => app.ask("idle"),
            };
        }
        rounds += 1;
        thread::sleep(Duration::from_millis(50));
    };
    println!("  {rounds} rounds, {} grants", status().grants);
    assert!(ended.success(), "stress-ng ended with {ended}");
    daemon.assert_schedules();
    for app in &mut apps {
        for tid in app.executor_threads() {
            pin(tid, &cpus);
        }
        app.ask("load 200 64 0");
        app.await_progress(50);
    }
}
