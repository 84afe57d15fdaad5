// SPDX-License-Identifier: GPL-2.0-only
//! A machine that has too little: no place or no right to write in /run, no memory, threads and
//! forks without end. Root is answered, general tasks and other clients go on, and afterwards all
//! is as before. What cannot go on says why.

use crate::attackers::assert_root_is_served;
use crate::classes::granted_core;
use crate::control::Raw;
use crate::daemon::{self, Daemon, await_detached, client, eventually, share, state, status};
use crate::designs::{run, text};
use crate::loss::await_executors;
use crate::reload::reload;
use crate::tasks::{Task, say, shares};
use crate::unsteady::held;
use flexnet::abi::{ClassOrigin, SOCKET_PATH, WhyThread};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use std::ffi::CString;
use std::fs;
use std::io::{ErrorKind, PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where the daemon's sockets and states are.
const DIRECTORY: &str = "/run/scx_flexnet";
const RPS: &str = "/sys/class/net/lo/queues/rx-0/rps_cpus";
const CGROUPS: &str = "/sys/fs/cgroup";

fn mount(source: &str, target: &str, flags: libc::c_ulong, options: &str) {
    let of = |text: &str| CString::new(text).unwrap();
    let [source, target, kind, options] = [source, target, "tmpfs", options].map(of);
    let (source, target, kind) = (source.as_ptr(), target.as_ptr(), kind.as_ptr());
    // SAFETY: four zero-terminated strings.
    let done = unsafe { libc::mount(source, target, kind, flags, options.as_ptr().cast()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn unmount(path: &str) {
    let path = CString::new(path).unwrap();
    // SAFETY: a zero-terminated path.
    let done = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// A directory that nobody may write, for as long as this is there: a mount over itself, since files
/// below may be open for writing.
struct ReadOnly(&'static str);

impl ReadOnly {
    fn new(path: &'static str) -> Self {
        mount(path, path, libc::MS_BIND, "");
        let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
        mount(path, path, flags, "");
        Self(path)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        unmount(self.0);
    }
}

/// A small file system over a directory, for as long as this is there.
struct Small(&'static str);

impl Small {
    fn new(path: &'static str, options: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        mount("tmpfs", path, 0, options);
        Self(path)
    }

    /// Leaves no room for a byte.
    fn fill(&self) {
        let full = fs::write(Path::new(self.0).join("fill"), vec![0; 1 << 20]);
        assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(self.0);
    }
}

/// A daemon that does not start says why, on its last line, and does not panic.
fn assert_refused(output: &Output, reasons: &[&str]) {
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let last = said.lines().last().unwrap_or_default();
    println!("  {last}");
    for reason in reasons {
        assert!(last.contains(reason), "{said}");
    }
}

/// Nothing in /run may be written: no start and no takeover, and what runs goes on.
pub fn a_read_only_run_stops_no_daemon() {
    let refused = |arguments: &[&str]| {
        let output = run("scx_flexnet", arguments);
        assert_refused(
            &output,
            &["cannot make the socket", "Read-only file system"],
        );
    };
    fs::create_dir_all(DIRECTORY).unwrap();
    {
        let _read_only = ReadOnly::new("/run");
        refused(&[]);
        assert_eq!(state(), "disabled");
    }
    let mut daemon = Daemon::start(&["--steer", "lo"]);
    let mut app = Task::app("load", 1);
    let read_only = ReadOnly::new("/run");
    let before = client("load").unwrap().client;
    app.ask("load 300 64 0");
    granted_core(&mut app);
    assert_root_is_served();
    eventually("a word on steering", || {
        daemon::log().contains("steering is off: cannot write /run/scx_flexnet/steer.state")
    });
    assert!(run("flexnet", &["reload"]).status.success());
    // Each start would wait for its turns beside the load.
    app.ask("idle");
    refused(&["--steer", "lo", "--replace"]);
    // One that had come so far dies before it schedules: the old one goes on where it listened.
    let successor = run("/proc/self/exe", &["--role", "successor"]);
    assert!(successor.status.success(), "{successor:?}");
    daemon.await_attached();
    await_executors("load", 1);
    daemon.assert_schedules();
    assert_root_is_served();
    assert_eq!(client("load").unwrap().client, before);
    drop(read_only);
    // Without statistics it schedules all the same.
    let statistics = Small::new("/run/scx", "size=16k");
    let read_only = ReadOnly::new(statistics.0);
    let second = Daemon::start(&["--replace"]);
    assert!(daemon::log().contains("cannot serve statistics: creating"));
    daemon.await_success("the one that was replaced");
    app.ask("load 300 64 0");
    await_executors("load", 1);
    app.await_progress(50);
    second.stop();
    drop(read_only);
}

/// No room for a file, and then no room for a byte, where the daemon writes. What was found of
/// devices outlives a takeover.
pub fn a_full_disk_stops_no_daemon() {
    let found = fs::read_to_string(RPS).unwrap();
    {
        // Its own folder and one file.
        let small = Small::new(DIRECTORY, "nr_inodes=2");
        fs::write(Path::new(small.0).join("last"), "").unwrap();
        let output = run("scx_flexnet", &[]);
        let reasons = ["cannot make the socket", "No space left on device"];
        assert_refused(&output, &reasons);
        assert_eq!(state(), "disabled");
    }
    let small = Small::new(DIRECTORY, "size=16k");
    let daemon = Daemon::start(&["--steer", "lo"]);
    let mut app = Task::app("load", 1);
    app.ask("load 300 64 0");
    eventually("steering", || fs::read_to_string(RPS).unwrap() != found);
    small.fill();
    assert_root_is_served();
    let second = Daemon::start(&["--steer", "lo", "--replace"]);
    daemon.await_success("the one that was replaced");
    await_executors("load", 1);
    app.await_progress(50);
    app.ask("idle");
    second.stop();
    assert_eq!(fs::read_to_string(RPS).unwrap(), found);
}

/// A pipe without room for a byte. Nobody reads it.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut filler = fs::File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
        .unwrap();
    let full = std::iter::repeat_with(|| filler.write(&[b'x'; 4_096])).find_map(Result::err);
    assert_eq!(full.unwrap().kind(), ErrorKind::WouldBlock);
    (reader, writer)
}

/// What a daemon prints may have no room on a disk, nor in a pipe, up to its last word.
pub fn a_full_output_ends_no_daemon() {
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let (_reader, pipe) = full_pipe();
    for error in [Stdio::from(full()), Stdio::from(pipe)] {
        let mut child = Command::new("scx_flexnet")
            .stdin(Stdio::null())
            .stdout(full())
            .stderr(error)
            .spawn()
            .unwrap();
        eventually("an answer", || {
            assert_eq!(child.try_wait().unwrap(), None);
            flexnet::client::status(SOCKET_PATH.as_ref()).is_ok()
        });
        assert_root_is_served();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        assert!(daemon::wait(&mut child, "the end").success());
        await_detached();
    }
}

// --- memory ------------------------------------------------------------------------

/// A cgroup in which a daemon is started.
struct Cell(PathBuf);

impl Cell {
    fn new() -> Self {
        let root = Path::new(CGROUPS);
        fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
        let path = root.join("cell");
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap();
    }

    fn get(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    /// The tests are in it until the daemon is.
    fn start(&self) -> Daemon {
        self.set("cgroup.procs", &std::process::id().to_string());
        let daemon = Daemon::start(&[]);
        Self::leave().unwrap();
        daemon
    }

    fn leave() -> std::io::Result<()> {
        let own = std::process::id().to_string();
        fs::write(Path::new(CGROUPS).join("cgroup.procs"), own)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // After a failure the daemon is in it still.
        let _ = Self::leave();
        let _ = fs::remove_dir(&self.0);
    }
}

/// A daemon over its limit of memory gets slow, and the scheduler does not. One that is killed
/// for memory leaves the kernel's scheduler, and another one starts.
pub fn a_daemon_without_memory_takes_nobody_along() {
    let cell = Cell::new();
    let daemon = cell.start();
    let hog = Task::hog();
    let mut app = Task::app("load", 1);
    app.ask("load 300 64 0");
    granted_core(&mut app);
    cell.set("memory.high", "1M");
    // The kernel has the daemon and its front wait for up to two seconds at a time now.
    let raws = [(); 5].map(|()| Raw::connect());
    eventually("waits for memory", || {
        !cell.get("memory.events").contains("high 0\n")
    });
    assert_root_is_served();
    app.await_progress(50);
    shares(&[&hog], Duration::from_millis(100));
    assert_eq!(state(), "enabled");
    cell.set("memory.high", "max");
    drop(raws);
    assert_root_is_served();
    granted_core(&mut app);
    cell.set("memory.max", "1M");
    await_detached();
    assert!(!cell.get("memory.events").contains("oom_kill 0"));
    app.await_progress(50);
    shares(&[&hog], Duration::from_millis(100));
    let told = run("flexnet", &["status"]);
    assert!(text(&told.stderr).contains("does scx_flexnet run?"));
    daemon.await_kill();
    // The start would wait for its turns beside the load.
    drop(hog);
    app.ask("idle");
    let second = Daemon::start(&[]);
    app.ask("load 300 64 0");
    await_executors("load", 1);
    granted_core(&mut app);
    app.await_progress(50);
    second.stop();
}

// --- many ----------------------------------------------------------------------------

/// The role of a process of so many threads, that sleep.
pub fn crowd(count: usize) {
    let mut started = 0;
    for _ in 0..count {
        let thread = std::thread::Builder::new().stack_size(16 << 10);
        match thread.spawn(std::thread::park) {
            Ok(_) => started += 1,
            Err(_) => break,
        }
    }
    say("ready");
    say(&started.to_string());
    std::thread::park();
}

/// The role of a user that asks about a process again and again, over so many connections.
pub fn askers(pid: i32, count: usize) {
    for _ in 0..count {
        std::thread::spawn(move || {
            loop {
                let _ = flexnet::client::why(SOCKET_PATH.as_ref(), pid);
            }
        });
    }
    say("ready");
    std::thread::park();
}

/// Threads by the thousand, that sleep. A reload reaches all of them, and root is answered while
/// a user asks about them.
pub fn many_threads_slow_nobody() {
    for (file, value) in [
        ("kernel/threads-max", "200000"),
        ("kernel/pid_max", "200000"),
        ("vm/max_map_count", "1000000"),
    ] {
        fs::write(Path::new("/proc/sys").join(file), value).unwrap();
    }
    let none = Rlimit {
        current: None,
        maximum: None,
    };
    setrlimit(Resource::Nproc, none).unwrap();
    let daemon = share("");
    let mut app = Task::app("load", 1);
    let hog = Task::hog();
    let mut crowd = Task::play(&[], &["nobody", "crowd", "5000"]);
    let started = crowd.ask("how many");
    println!("  {started} threads");
    app.ask("load 300 64 0");
    granted_core(&mut app);
    assert_root_is_served();
    // All tasks are walked.
    daemon::configure("[[rule]]\nuser = \"nobody\"\nclass = \"batch\"\n");
    assert!(reload().contains("1 rules"));
    assert_root_is_served();
    let pid = crowd.pid().to_string();
    let askers = Task::play(&[], &["nobody", "askers", &pid, "30"]);
    let root = assert_root_is_served();
    // Another user has its turn among the askers, and root goes first.
    let mut stranger = Task::play(&[], &["user", "4711", "answered"]);
    let stranger = Duration::from_nanos(stranger.ask("how long").parse().unwrap());
    println!("  another user after {stranger:?}");
    assert!(2 * root < stranger);
    drop(askers);
    let threads = flexnet::client::why(SOCKET_PATH.as_ref(), crowd.pid() as i32).unwrap();
    assert!(threads.len() > started.parse().unwrap());
    let of_a_rule = |thread: &&WhyThread| thread.class_origin == ClassOrigin::Rule as u32;
    assert_eq!(threads.iter().filter(of_a_rule).count(), threads.len());
    shares(&[&hog], Duration::from_millis(100));
    app.await_progress(50);
    app.ask("idle");
    crowd.kill();
    assert_root_is_served();
    daemon.assert_schedules();
}

/// The role of a latency client that forks children that compute a little, as fast as it can.
pub fn storm(alive: usize) {
    say("ready");
    let mut children = 0;
    loop {
        // SAFETY: this process has one thread, so its child may do anything.
        match unsafe { libc::fork() } {
            0 => {
                crate::tasks::compute(Duration::from_millis(2));
                std::process::exit(0);
            }
            -1 => {}
            _ => children += 1,
        }
        while children >= alive {
            // SAFETY: a plain call.
            unsafe { libc::wait(std::ptr::null_mut()) };
            children -= 1;
        }
    }
}

/// A latency task that forks without end takes the others' turns, and not all of them.
pub fn a_fork_storm_of_latency_tasks_starves_nobody() {
    let daemon = share("");
    let mut app = Task::app("load", 1);
    let hog = Task::hog();
    let storms = [(); 2].map(|()| {
        Task::play(
            &["flexnet", "run", "--class", "latency", "--"],
            &["storm", "50"],
        )
    });
    app.ask("load 300 64 0");
    granted_core(&mut app);
    assert_root_is_served();
    let start = Instant::now();
    shares(&[&hog], Duration::from_millis(200));
    println!("  the hog had 200 ms after {:?}", start.elapsed());
    app.await_progress(50);
    app.ask("idle");
    drop(storms);
    assert_root_is_served();
    daemon.assert_schedules();
}

/// The daemon and the processes at its two sockets.
fn daemon_and_front(daemon: u32) -> Vec<u32> {
    let comm = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut all = Vec::new();
    // A relay has their name for a moment.
    eventually("the front alone", || {
        let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        all = vec![daemon];
        all.extend(pids.filter(|&pid: &u32| comm(pid).trim() == "flexnet-front"));
        all.len() == 3
    });
    all
}

/// Connections one after the other cost the daemon and its front neither memory nor descriptors.
pub fn many_connections_leave_nothing() {
    /// By hand it was 10,000, with the same result.
    const COUNT: u32 = 1_000;
    let daemon = share("");
    let connect = |count| {
        for number in 0..count {
            let raw = Raw::connect();
            // One in eight is a client for a moment.
            if number % 8 == 0 {
                drop(raw.hello_with_page("short"));
            }
        }
        eventually("the clients' end", || status().clients == 0);
    };
    // What the allocator keeps is there after the first ones.
    connect(200);
    let all = daemon_and_front(daemon.pid());
    let before: Vec<(usize, u64)> = all.iter().map(|&pid| held(pid)).collect();
    connect(COUNT);
    for (&pid, before) in all.iter().zip(before) {
        eventually("the descriptors' end", || held(pid).0 <= before.0 + 1);
        let (_, now) = held(pid);
        println!("  {} KiB, then {now} KiB", before.1);
        assert!(now < before.1 + 256, "{} KiB, then {now} KiB", before.1);
    }
    daemon.assert_schedules();
}
