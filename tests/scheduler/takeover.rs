// SPDX-License-Identifier: GPL-2.0-only
//! One daemon takes over from another under load, and whatever may go wrong on the
//! way.

use crate::classes::granted_core;
use crate::daemon::{self, Daemon, client, eventually, state, status, wait};
use crate::designs::{run, text};
use crate::loss::{await_executors, receive};
use crate::rules::config;
use crate::tasks::Task;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The longest the kernel's state file said otherwise than "enabled", looked at
/// all the time from a thread of its own.
struct Watch {
    stop: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Watch {
    fn start() -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut longest, mut since) = (Duration::ZERO, None);
            while stopped.try_recv().is_err() {
                if state() == "enabled" {
                    since = None;
                } else {
                    let since = *since.get_or_insert_with(Instant::now);
                    longest = longest.max(since.elapsed());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        Self { stop, thread }
    }

    fn longest(self) -> Duration {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

/// Every byte in order over real sockets, the same client with the same page, and
/// the kernel's scheduler for less than a second.
pub fn a_takeover_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut daemon = Daemon::start(&["--steer", "lo"]);
    let mut app = Task::app("load", 2);
    app.ask("load 300 64 0");
    let mut stream = Task::play(&[], &["stream", "stream", "2", &port]);
    let receiver = receive(listener.accept().unwrap().0);
    // The machine may stand still in one of them; not in all.
    let mut gaps = Vec::new();
    for _ in 0..3 {
        await_executors("load", 2);
        await_executors("stream", 2);
        granted_core(&mut app);
        let watch = Watch::start();
        let new = Daemon::start(&["--steer", "lo", "--replace"]);
        daemon.await_success("the one that was replaced");
        daemon = new;
        await_executors("load", 2);
        await_executors("stream", 2);
        app.await_progress(50);
        let gap = Duration::from_nanos(status().gap_ns);
        assert!(gap > Duration::ZERO);
        gaps.push((gap, watch.longest()));
        let shown = text(&run("flexnet", &["status"]).stdout);
        assert!(
            shown.contains("took over from another scx_flexnet"),
            "{shown}"
        );
        assert!(daemon::log().contains("took over: "));
    }
    println!("  gaps as the daemon and the kernel tell them: {gaps:?}");
    let second = Duration::from_secs(1);
    let short = |&&(ours, theirs): &&(Duration, Duration)| ours < second && theirs < second;
    assert!(gaps.iter().filter(short).count() >= 2, "{gaps:?}");
    granted_core(&mut app);
    let accepted: u64 = stream.ask("stop").parse().unwrap();
    assert_eq!(
        receiver.join().unwrap(),
        accepted,
        "bytes received and accepted"
    );
    assert!(accepted > 0);
    println!("  {accepted} bytes");
    stream.finish();
    app.ask("idle");
    daemon.assert_schedules();
    daemon.stop();
}

/// What is set on devices stays, and is given back by the last one.
pub fn steering_is_handed_on() {
    let rps = "/sys/class/net/lo/queues/rx-0/rps_cpus";
    let read = || std::fs::read_to_string(rps).unwrap().trim().to_owned();
    let found = read();
    let daemon = Daemon::start(&["--steer", "lo"]);
    let mut app = Task::app("load", 1);
    app.ask("load 300 4 0");
    eventually("steering", || read() != found);
    let new = Daemon::start(&["--steer", "lo", "--replace"]);
    daemon.await_success("the one that was replaced");
    // The first one's end has not written back what it found.
    assert_ne!(read(), found);
    app.await_progress(50);
    app.ask("idle");
    drop(app);
    new.stop();
    assert_eq!(read(), found);
}

/// Nobody but root, no takeover without the word, and none by a daemon that is not
/// fit for it: the old one schedules on.
pub fn one_that_fails_leaves_the_old_one() {
    let mut daemon = Daemon::start(&[]);
    let mut app = Task::app("load", 1);
    app.ask("load 300 64 0");
    granted_core(&mut app);
    let before = client("load").unwrap().client;
    let plain = run("scx_flexnet", &[]);
    assert!(
        text(&plain.stderr).contains("use --replace to take over"),
        "{plain:?}"
    );
    let wrong = config("wrong.toml", "objective-us = 0\n");
    for arguments in [
        &["--replace", "--config", wrong.to_str().unwrap()][..],
        &["--replace", "--steer", "nothing0"],
        &["--replace", "--socket-group", "no-such-group"],
        &["--replace", "--socket", "/tmp/elsewhere.sock"],
    ] {
        let failed = run("scx_flexnet", arguments);
        assert!(!failed.status.success(), "{failed:?}");
        daemon.assert_schedules();
    }
    assert_eq!(client("load").unwrap().client, before);
    app.await_progress(50);
    daemon.stop();
}

/// How often the timers of all loaded schedulers have fired: the last but one of
/// each CPU's counters (struct flexnet_cpu_stats).
pub fn timer_fires() -> u64 {
    let mut fires = 0;
    for info in libbpf_rs::query::MapInfoIter::default() {
        if info.name.to_string_lossy() != "cpu_stats" {
            continue;
        }
        let map = MapHandle::from_map_id(info.id).unwrap();
        let key = 0u32.to_ne_bytes();
        let per_cpu = map.lookup_percpu(&key, MapFlags::ANY).unwrap().unwrap();
        for counters in per_cpu {
            let at = counters.len() - 2 * size_of::<u64>();
            let counter = counters[at..at + size_of::<u64>()].try_into().unwrap();
            fires += u64::from_ne_bytes(counter);
        }
    }
    assert!(fires > 0, "no timer has ever fired");
    fires
}

/// One that dies after the old one has given way: that takes its place again.
pub fn one_that_dies_on_the_way_is_replaced_by_the_old_one() {
    let mut daemon = Daemon::start(&["--max-net-cores", "1"]);
    let mut app = Task::app("load", 1);
    app.ask("load 300 64 0");
    granted_core(&mut app);
    // With too few cores rounds go on for seconds after the last client is gone.
    let mut other = Task::app("other", 1);
    other.ask("load 300 64 0");
    let saturated = |app: &mut Task| app.sample()["page"]["saturated"] == 1;
    eventually("word of too few cores", || {
        saturated(&mut app) || saturated(&mut other)
    });
    let mut successor = Command::new(std::env::current_exe().unwrap())
        .args(["--role", "successor"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // It asks for the place, and ends.
    assert!(wait(&mut successor, "the one that dies").success());
    daemon.await_attached();
    daemon.assert_schedules();
    await_executors("load", 1);
    other.ask("idle");
    granted_core(&mut app);
    app.await_progress(50);
    assert!(daemon::log().contains("this daemon goes on"));
    daemon.stop();
}

/// By signal the running one starts its own successor, with its own command line.
pub fn a_signal_starts_a_successor() {
    let daemon = Daemon::start(&["--max-net-cores", "0"]);
    let mut app = Task::app("load", 1);
    app.ask("load 300 64 0");
    let old = daemon.pid();
    daemon.signal(rustix::process::Signal::USR2);
    // The successor says it on the same standard output.
    daemon.await_attached();
    await_executors("load", 1);
    app.await_progress(50);
    let now = status();
    assert!(now.gap_ns > 0 && now.cores_max == 0);
    daemon.await_success("the one that was replaced");
    assert_eq!(state(), "enabled");
    // The tests have no handle of it.
    let mut others = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let pid = entry.unwrap().file_name().to_string_lossy().parse::<i32>();
        let comm = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        if let Ok(pid) = pid
            && comm(pid).is_ok_and(|comm| comm.trim() == "scx_flexnet")
        {
            assert_ne!(pid as u32, old);
            others.push(rustix::process::Pid::from_raw(pid).unwrap());
        }
    }
    assert_eq!(others.len(), 1);
    rustix::process::kill_process(others[0], rustix::process::Signal::INT).unwrap();
    daemon::await_detached();
    app.await_progress(50);
}
