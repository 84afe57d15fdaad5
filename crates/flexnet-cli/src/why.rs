// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet why PID`: what the scheduler takes a process' threads for and since
//! whose word, where they may run, and where they have waited.

use crate::status::fetch;
use anyhow::{Context, Result, bail};
use flexnet::abi::{CpuState, SOCKET_PATH, STATUS_CPUS, Status, WhyThread, name_text};
use flexnet::client;
use serde_json::json;
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::PathBuf;

/// In the order of `enum flexnet_class`.
const CLASSES: [&str; 5] = ["normal", "latency", "batch", "executor", "kernel thread"];
/// In the order of `enum flexnet_class_origin`.
const ORIGINS: [(&str, &str); 5] = [
    ("default", "nobody said anything else"),
    ("parent", "its parent's when it was forked"),
    ("rule", "an operator's rule"),
    (
        "registration",
        "asked for over the control socket (flexnet run --class, the library)",
    ),
    ("kernel", "it is bound to its CPU"),
];
/// In the order of `enum flexnet_queue`.
const QUEUES: [(&str, &str); 5] = [
    ("direct", "a CPU chosen at the wakeup"),
    ("latency", "the latency queue"),
    ("general", "the general queue"),
    ("cpu", "one CPU's own queue"),
    ("executor", "the executors' queue"),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Id of a process, or of one of its threads
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
    /// Print one line of JSON instead of text
    #[arg(long)]
    json: bool,
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let status = fetch(&options.socket)?;
    let threads = match client::why(&options.socket, options.pid) {
        Ok(threads) => threads,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!(
                "process {} is another user's: only root may ask",
                options.pid
            )
        }
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            bail!("there is no process {}", options.pid)
        }
        Err(error) => {
            return Err(error).with_context(|| format!("no answer about process {}", options.pid));
        }
    };
    let text = match options.json {
        true => as_json(&status, &threads),
        false => as_text(&status, &threads),
    };
    println!("{}", text.trim_end());
    Ok(())
}

/// SCHED_FIFO, SCHED_RR, SCHED_DEADLINE: above any sched_ext scheduler.
fn is_real_time(thread: &WhyThread) -> bool {
    matches!(thread.policy, 1 | 2 | 6)
}

fn name<'a>(names: &[&'a str], index: u32) -> &'a str {
    names.get(index as usize).unwrap_or(&"unknown")
}

fn pair<'a>(pairs: &[(&'a str, &'a str)], index: u32) -> (&'a str, &'a str) {
    *pairs.get(index as usize).unwrap_or(&("unknown", "unknown"))
}

/// The CPUs a thread may use, those granted to executors and the others.
fn allowed(status: &Status, thread: &WhyThread) -> (Vec<usize>, Vec<usize>) {
    let is_there = |cpu: &usize| CpuState::of(status.cpu[*cpu]) != CpuState::Absent;
    let may = |cpu: &usize| thread.cpus[cpu / 64] >> (cpu % 64) & 1 == 1;
    (0..STATUS_CPUS)
        .filter(|cpu| is_there(cpu) && may(cpu))
        .partition(|&cpu| {
            use CpuState::{Executor, GrantedIdle, Lent};
            matches!(CpuState::of(status.cpu[cpu]), Executor | GrantedIdle | Lent)
        })
}

/// As in `0-3,8`; nothing: `none`.
fn list(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let words: Vec<String> = runs
        .iter()
        .map(|&(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(","),
    }
}

/// A time in the unit that suits it.
fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} µs", ns / 1_000),
        10_000_000..10_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// Where it may run, in words.
fn place(status: &Status, thread: &WhyThread) -> String {
    let (granted, general) = allowed(status, thread);
    let (granted_text, general_text) = (list(&granted), list(&general));
    if CLASSES.get(thread.task_class as usize) == Some(&"executor") {
        return match granted.is_empty() {
            false => format!("granted cores {granted_text} of its affinity, ahead of all others"),
            true => format!(
                "no granted core is in its affinity now: as a latency task on {general_text}"
            ),
        };
    }
    match granted.is_empty() {
        true => format!("general cores {general_text}"),
        false => format!(
            "general cores {general_text}; granted ones {granted_text} while executors lend them"
        ),
    }
}

fn as_text(status: &Status, threads: &[WhyThread]) -> String {
    let mut text = String::new();
    for thread in threads {
        // Writing to a string cannot fail.
        let _ = describe(&mut text, status, thread);
    }
    text
}

fn describe(text: &mut String, status: &Status, thread: &WhyThread) -> std::fmt::Result {
    writeln!(text, "{} {}", thread.tid, name_text(&thread.name))?;
    if is_real_time(thread) {
        writeln!(
            text,
            "  real-time: it runs ahead of this scheduler, which has no say"
        )?;
    }
    let class = name(&CLASSES, thread.task_class);
    let (_, origin) = pair(&ORIGINS, thread.class_origin);
    write!(text, "  class  {class}: {origin}")?;
    if class == "executor" {
        write!(text, "; slot {} of client {}", thread.slot, thread.client)?;
    }
    writeln!(text, "\n  may run on  {}", place(status, thread))?;
    let now = match (thread.on_cpu, thread.waiting_ns) {
        (cpu, _) if cpu >= 0 => format!("on CPU {cpu}"),
        (_, 0) => "asleep".to_owned(),
        (_, waiting) => format!("ready, waiting for {}", time(waiting)),
    };
    writeln!(
        text,
        "  now  {now}; ran {} in all, preempted {} times",
        time(thread.run_ns),
        thread.preemptions
    )?;
    let (waits, wait_ns): (u64, u64) = (thread.waits.iter().sum(), thread.wait_ns.iter().sum());
    if waits == 0 {
        return writeln!(text, "  waited  never");
    }
    writeln!(
        text,
        "  waited  {waits} times, {} in all; last {} in {}",
        time(wait_ns),
        time(thread.last_wait_ns),
        pair(&QUEUES, thread.last_queue).1,
    )?;
    for (at, (_, queue)) in QUEUES.iter().enumerate() {
        let (count, ns) = (thread.waits[at], thread.wait_ns[at]);
        if let Some(average) = ns.checked_div(count) {
            let average = time(average);
            writeln!(
                text,
                "    {queue:<28} {count:>9} times, {:>9} in all, {average:>9} on average",
                time(ns)
            )?;
        }
    }
    Ok(())
}

fn as_json(status: &Status, threads: &[WhyThread]) -> String {
    let thread = |of: &WhyThread| {
        let (granted, general) = allowed(status, of);
        let waits: serde_json::Map<String, serde_json::Value> = QUEUES
            .iter()
            .enumerate()
            .map(|(at, (queue, _))| {
                let value = json!({ "count": of.waits[at], "ns": of.wait_ns[at] });
                ((*queue).to_owned(), value)
            })
            .collect();
        json!({
            "tid": of.tid, "name": name_text(&of.name),
            "class": name(&CLASSES, of.task_class), "origin": pair(&ORIGINS, of.class_origin).0,
            "real_time": is_real_time(of), "client": of.client, "slot": of.slot,
            "granted_cpus": granted, "general_cpus": general, "on_cpu": of.on_cpu,
            "run_ns": of.run_ns, "preemptions": of.preemptions, "waiting_ns": of.waiting_ns,
            "last_wait_ns": of.last_wait_ns, "last_queue": pair(&QUEUES, of.last_queue).0,
            "waits": waits,
        })
    };
    json!({ "threads": threads.iter().map(thread).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flexnet::abi::name_bytes;

    fn status() -> Status {
        let mut status = Status::default();
        status.cpu[..3].fill(CpuState::Busy as u8);
        status.cpu[3] = CpuState::Lent as u8;
        status
    }

    fn thread() -> WhyThread {
        WhyThread {
            tid: 4711,
            name: name_bytes("redis-server"),
            task_class: 1,
            class_origin: 1,
            on_cpu: -1,
            run_ns: 12_300_000_000,
            preemptions: 7,
            last_wait_ns: 300_000,
            last_queue: 1,
            waits: [1000, 20, 0, 0, 0],
            wait_ns: [5_000_000, 40_000_000, 0, 0, 0],
            cpus: [0b1011; 16],
            ..WhyThread::default()
        }
    }

    #[test]
    fn a_latency_task_is_explained() {
        let text = as_text(&status(), &[thread()]);
        for part in [
            "4711 redis-server",
            "class  latency: its parent's",
            "general cores 0-1; granted ones 3 while",
            "ran 12.3 s in all, preempted 7 times",
            "waited  1020 times, 45 ms in all; last 300 µs in the latency queue",
            "a CPU chosen at the wakeup        1000 times,   5000 µs in all,   5000 ns on",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!text.contains("the general queue"));
        assert!(text.lines().all(|line| line.chars().count() <= 100));
    }

    #[test]
    fn executors_without_a_granted_core_are_marked() {
        let executor = WhyThread {
            task_class: 3,
            class_origin: 3,
            slot: 2,
            client: 5,
            ..thread()
        };
        let text = as_text(&status(), &[executor]);
        assert!(text.contains("slot 2 of client 5") && text.contains("granted cores 3 of"));
        let elsewhere = WhyThread {
            cpus: [0b11; 16],
            policy: 1,
            ..executor
        };
        let text = as_text(&status(), &[elsewhere]);
        assert!(text.contains("as a latency task on 0-1") && text.contains("real-time"));
    }

    #[test]
    fn scripts_get_words() {
        let json: serde_json::Value =
            serde_json::from_str(&as_json(&status(), &[thread()])).unwrap();
        let thread = &json["threads"][0];
        assert_eq!(thread["class"], "latency");
        assert_eq!(thread["origin"], "parent");
        assert_eq!(thread["granted_cpus"], json!([3]));
        assert_eq!(thread["waits"]["latency"]["count"], 20);
    }

    #[test]
    fn lists_are_as_taskset_has_them() {
        assert_eq!(list(&[]), "none");
        assert_eq!(list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }
}
