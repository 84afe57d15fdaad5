// SPDX-License-Identifier: GPL-2.0-only
//! Clients that stop, lie, change or end at any moment. Other clients keep their cores,
//! general tasks go on, and nothing of such a client stays.

use crate::classes::granted_core;
use crate::control::{Raw, own_thread};
use crate::daemon::{client, eventually, share, status};
use crate::tasks::{Random, Task, say, shares};
use flexnet::abi::{Class, PAGE_BYTES, SOCKET_PATH};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// A client that holds the only core is stopped with its queue full. The core serves
/// others meanwhile, and the client goes on afterwards.
pub fn a_stopped_client_keeps_nothing_from_others() {
    let daemon = share("");
    let mut stopped = Task::app("stopped", 1);
    stopped.ask("load 1000 64 0");
    granted_core(&mut stopped);
    eventually("queued work", || {
        client("stopped").is_some_and(|c| c.depth > 10)
    });
    signal(stopped.pid(), Signal::STOP);
    let hogs = [Task::hog(), Task::hog()];
    let mut other = Task::app("other", 1);
    other.ask("load 300 64 0");
    granted_core(&mut other);
    other.await_progress(50);
    other.ask("idle");
    // Both CPUs are general tasks' now, the granted one, if there is one, on loan.
    let start = Instant::now();
    let had: u64 = shares(&[&hogs[0], &hogs[1]], Duration::from_secs(1))
        .iter()
        .sum();
    let took = start.elapsed().as_nanos() as f64;
    println!("  hogs had {:.2} CPUs", had as f64 / took);
    assert!(had as f64 > 1.4 * took, "hogs had {had} ns in {took} ns");
    drop(hogs);
    signal(stopped.pid(), Signal::CONT);
    granted_core(&mut stopped);
    stopped.await_progress(20);
    stopped.ask("idle");
    daemon.assert_schedules();
}

// --- pages that lie -------------------------------------------------------------

/// A client's page, as words that anybody may write.
fn words(page: &OwnedFd) -> &'static [AtomicU64] {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, shared, of a map that has as many bytes.
    let start = unsafe {
        mmap(
            std::ptr::null_mut(),
            PAGE_BYTES,
            access,
            MapFlags::SHARED,
            page,
            0,
        )
    };
    // SAFETY: it stays mapped to the end of the process, aligned to a page; the kernel
    // writes it, too, so its words are atomics.
    unsafe { std::slice::from_raw_parts(start.unwrap().cast(), PAGE_BYTES / 8) }
}

/// The role of a liar: an executor that writes into its page whatever comes to its mind,
/// and sleeps and wakes all the time.
pub fn liar(seed: u64) {
    let raw = Raw::connect();
    let page = raw.hello_with_page("liar");
    raw.register(0, own_thread().as_fd()).unwrap();
    let words = words(&page);
    let mut random = Random(seed);
    say("ready");
    loop {
        for _ in 0..64 {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
            let value = match random.below(8) {
                0 => 0,
                1 => u64::MAX,
                2 => 1 << 63,
                // Messages of a time to come, or of one before the machine was on.
                3 => now + (1 << 40),
                4 => now.wrapping_sub(1 << 50),
                5 => random.below(1_000) as u64,
                6 => u64::from(u32::MAX),
                _ => random.next(),
            };
            words[random.below(words.len())].store(value, Ordering::Relaxed);
        }
        // The counters run backwards, and more is done than there ever was.
        let first = words.len() / 16;
        words[first].fetch_sub(random.below(100) as u64, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Pages that run backwards or into the future harm their own client only.
pub fn pages_that_lie_harm_nobody_else() {
    let daemon = share("");
    let mut honest = Task::app("honest", 1);
    let hog = Task::hog();
    let liars = ["7", "77", "777"].map(|seed| Task::play(&[], &["liar", seed]));
    // Another test's may be there still.
    eventually("these clients only", || status().clients == 4);
    for _ in 0..5 {
        honest.ask("load 300 64 0");
        granted_core(&mut honest);
        honest.await_progress(100);
        shares(&[&hog], Duration::from_millis(100));
        honest.ask("idle");
        let status = status();
        assert_eq!(status.clients, 4);
        assert!(
            status.cores_granted <= status.cores_max,
            "{}",
            status.cores_granted
        );
    }
    drop(liars);
    eventually("the liars' end", || status().clients == 1);
    eventually("the cores' return", || status().cores_granted == 0);
    daemon.assert_schedules();
}

// --- clients that become something else -------------------------------------------

/// The role of a client that registers its thread and then changes: it says so, and
/// registers its thread once more, in another slot.
pub fn changer(how: &str) {
    let raw = Raw::connect();
    let _page = raw.hello_with_page("changer");
    raw.register(0, own_thread().as_fd()).unwrap();
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    // SAFETY: plain calls, in a process of one thread.
    let changed = unsafe {
        match how {
            "exec" => panic!("{}", Command::new("cat").exec()),
            "setuid" => libc::setuid(65_534),
            "setns" => {
                let net = fs::File::open("/proc/1/ns/net").unwrap();
                libc::unshare(libc::CLONE_NEWNET)
                    | libc::setns(std::os::fd::AsRawFd::as_raw_fd(&net), libc::CLONE_NEWNET)
            }
            "userns" => libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID),
            other => panic!("no change {other}"),
        }
    };
    assert_eq!(changed, 0, "{how}: {}", std::io::Error::last_os_error());
    // What it was stays: its thread is the slot's until it says otherwise.
    let again = raw.register(0, own_thread().as_fd());
    raw.unregister(0).unwrap();
    let anew = raw.register(1, own_thread().as_fd());
    say(&format!("{again:?} {anew:?}"));
    std::thread::park();
}

/// The class of a process's only thread.
fn class_of(pid: u32) -> u32 {
    let threads = flexnet::client::why(SOCKET_PATH.as_ref(), pid as i32).unwrap();
    threads[0].task_class
}

/// exec ends a client, as its connection ends. Another user or namespace leaves it one.
pub fn a_client_that_changes_stays_one_or_ends() {
    let daemon = share("");
    let executor = Class::Executor as u32;
    let outcome = format!("Err({:?}) Ok(())", Errno::BUSY);
    for how in ["setuid", "setns", "userns"] {
        let mut changer = Task::play(&[], &["changer", how]);
        assert_eq!(class_of(changer.pid()), executor);
        assert_eq!(changer.ask("now"), outcome, "{how}");
        assert_eq!(class_of(changer.pid()), executor, "{how}");
        assert_eq!(client("changer").map(|c| c.executors), Some(1), "{how}");
        changer.kill();
        eventually("the client's end", || client("changer").is_none());
    }
    let mut changer = Task::play(&[], &["changer", "exec"]);
    changer.tell("now");
    eventually("the client's end", || client("changer").is_none());
    // cat says again what it hears.
    assert_eq!(changer.ask("after the exec"), "after the exec");
    assert_eq!(class_of(changer.pid()), Class::Normal as u32);
    daemon.assert_schedules();
}

// --- many --------------------------------------------------------------------------

/// The role of a client that does at random what clients do, until it is killed.
fn acts(random: &mut Random) -> ! {
    loop {
        let raw = Raw::connect();
        let page = (random.below(4) > 0).then(|| raw.hello_with_page("victim"));
        for _ in 0..random.below(6) {
            let slot = random.below(3) as u32;
            match random.below(3) {
                0 => drop(raw.unregister(slot)),
                _ => drop(raw.register(slot, own_thread().as_fd())),
            }
            if let Some(page) = &page {
                words(page)[random.below(PAGE_BYTES / 8)].fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The role of a process that starts so many of those clients, one after the other, and kills
/// each after a random time.
pub fn kills(count: u64) {
    say("ready");
    for number in 1..=count {
        let mut random = Random(0x5eed_0000 + number);
        let life = Duration::from_micros(random.below(20_000) as u64);
        // SAFETY: this process has one thread, so its child may do anything.
        let child = unsafe { libc::fork() };
        if child == 0 {
            acts(&mut random);
        }
        std::thread::sleep(life);
        let child = Pid::from_raw(child).unwrap();
        kill_process(child, Signal::KILL).unwrap();
        waitpid(Some(child), WaitOptions::empty()).unwrap();
    }
    say("done");
    std::thread::park();
}

/// Descriptors and memory of its own (KiB) of the daemon: pages of files come and go.
pub fn held(pid: u32) -> (usize, u64) {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("RssAnon:"));
    let memory = line.unwrap().split_whitespace().next().unwrap();
    (open, memory.parse().unwrap())
}

/// Clients that are killed at random points, by a fixed seed.
pub fn killed_clients_leave_nothing() {
    let daemon = share("");
    let mut survivor = Task::app("survivor", 1);
    survivor.ask("load 300 64 1000");
    eventually("quiet", || status().clients == 1);
    let (before, _) = held(daemon.pid());
    let mut killer = Task::play(&[], &["kills", "100"]);
    assert_eq!(killer.ask("how far"), "done");
    eventually("the clients' end", || status().clients == 1);
    // The status's own connection may be open still.
    eventually("the descriptors' end", || {
        held(daemon.pid()).0 <= before + 1
    });
    survivor.await_progress(20);
    survivor.ask("idle");
    daemon.assert_schedules();
}
