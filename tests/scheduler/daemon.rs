// SPDX-License-Identifier: GPL-2.0-only
//! scx_flexnet as a child of the tests. A test has a daemon of its own
//! ([`Daemon::start`]), which ends with its handle, or uses the one that tests share
//! ([`share`]). Each attach costs the verifier's work, which takes seconds under
//! emulation. Promises that no test finds what another left behind.

use crate::reload::reload;
use flexnet::abi::{SOCKET_PATH, Status, StatusClient, name_text};
use rustix::process::{Pid, Signal, kill_process};
use scx_stats::prelude::StatsClient;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const LOG: &str = "/tmp/daemon.log";
/// Longest anything may take on a machine that others use, too.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Longest a start may take: the verifier's work, beside the load of the test. It took
/// over 60 s in a VM that had half of two processors.
const ATTACH_DEADLINE: Duration = Duration::from_secs(240);

/// The scheduler, attached.
pub struct Daemon {
    child: Child,
    lines: Receiver<String>,
}

impl Daemon {
    /// Starts it and waits until it schedules.
    pub fn start(arguments: &[&str]) -> Self {
        assert!(
            shared().is_none(),
            "a test of SHARING starts its own daemon"
        );
        Self::spawn(arguments, false)
    }

    /// The same, with its standard error as the journal's.
    pub fn start_under_journal(arguments: &[&str]) -> Self {
        Self::spawn(arguments, true)
    }

    fn spawn(arguments: &[&str], journal: bool) -> Self {
        // A second one writes behind the first.
        let log = fs::File::options()
            .create(true)
            .append(true)
            .truncate(false)
            .open(LOG)
            .unwrap();
        if !arguments.contains(&"--replace") {
            log.set_len(0).unwrap();
        }
        let mut command = Command::new("scx_flexnet");
        if journal {
            let file = log.metadata().unwrap();
            command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()));
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let daemon = Self { child, lines };
        daemon.await_attached();
        assert_eq!(state(), "enabled");
        daemon
    }

    /// Waits for the line that says that it schedules (again).
    pub fn await_attached(&self) {
        let start = Instant::now();
        match self.lines.recv_timeout(ATTACH_DEADLINE) {
            Ok(line) => assert_eq!(line, "scx_flexnet attached"),
            Err(error) => panic!("scx_flexnet does not attach: {error}"),
        }
        // A line each, since ci/vm ends a run that is silent.
        println!("  attached after {:.1} s", start.elapsed().as_secs_f64());
    }

    /// Ends it in good order.
    pub fn stop(mut self) {
        self.signal(Signal::INT);
        let status = wait(&mut self.child, "scx_flexnet after SIGINT");
        assert!(status.success(), "scx_flexnet ended with {status}");
        await_detached();
    }

    /// Waits for its own end in good order.
    pub fn await_success(mut self, what: &str) {
        let status = wait(&mut self.child, what);
        assert!(status.success(), "{what}: {status}");
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        wait(&mut self.child, "scx_flexnet after SIGKILL");
        await_detached();
    }

    /// Waits for its end by the kernel's hand.
    pub fn await_kill(mut self) {
        let status = wait(&mut self.child, "the end of scx_flexnet");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    }

    /// Has it read its configuration anew.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Is it still there, and the kernel's scheduler?
    pub fn assert_schedules(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "scx_flexnet died");
        assert_eq!(state(), "enabled");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `stop` and `kill` it has been waited for, and this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon that tests share, once there is one.
static SHARED: Mutex<Option<Daemon>> = Mutex::new(None);
/// Its configuration file.
pub const SHARED_CONFIG: &str = "/tmp/shared.toml";

/// The use of the daemon that tests share.
pub struct Shared(());

/// The daemon that tests share, with this configuration (the file's text). It may
/// have keys that hold at once when they are read anew, and no others.
pub fn share(configuration: &str) -> Shared {
    let mut shared = shared();
    configure("");
    if shared.is_none() {
        *shared = Some(Daemon::spawn(&["--config", SHARED_CONFIG], false));
    } else {
        // A failing test shows its own lines only.
        fs::File::create(LOG).unwrap();
        reload();
    }
    drop(shared);
    // A design that was switched by hand stays where the file's does not change.
    let first = "flexnet".parse().unwrap();
    flexnet::client::design(SOCKET_PATH.as_ref(), Some(&first)).unwrap();
    configure(configuration);
    let said = reload();
    assert!(!said.contains("restart"), "a key that is not live: {said}");
    Shared(())
}

/// Writes the shared daemon's configuration file.
pub fn configure(text: &str) {
    fs::write(SHARED_CONFIG, text).unwrap();
}

fn shared() -> MutexGuard<'static, Option<Daemon>> {
    // A test that failed says so itself.
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the shared daemon in good order, where there is one.
pub fn end_shared() {
    let daemon = shared().take();
    if let Some(daemon) = daemon {
        daemon.stop();
    }
}

/// Kills the shared daemon, where there is one: after a failure nobody knows what
/// state it is in.
pub fn discard_shared() {
    drop(shared().take());
    await_detached();
}

impl Shared {
    fn with<R>(&self, what: impl FnOnce(&mut Daemon) -> R) -> R {
        what(shared().as_mut().expect("the shared daemon is gone"))
    }

    /// Has it read its configuration anew.
    pub fn hang_up(&self) {
        self.with(|daemon| daemon.hang_up());
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.with(|daemon| daemon.pid())
    }

    /// Is it still there, and the kernel's scheduler?
    pub fn assert_schedules(&self) {
        self.with(Daemon::assert_schedules);
    }
}

/// Statistics since the last sample.
pub struct Stats(StatsClient);

impl Stats {
    /// From now on.
    pub fn connect() -> Self {
        let mut stats = Self(StatsClient::new().connect(Some(20_000)).unwrap());
        stats.sample();
        stats
    }

    /// What happened since the last sample.
    pub fn sample(&mut self) -> Value {
        let target = ("target".to_owned(), "top".to_owned());
        self.0.request("stats", vec![target]).unwrap()
    }
}

/// One change of the grants, as the statistics tell it.
#[derive(Debug)]
pub struct Transition {
    pub at_ns: u64,
    pub cause_ns: u64,
    pub before: u64,
    pub after: u64,
    pub rounds: u64,
    pub reason: String,
}

/// The last 64 changes.
pub fn transitions() -> Vec<Transition> {
    let lines = Stats::connect().sample()["transitions"].clone();
    let parse = |line: &Value| {
        let words: Vec<&str> = line.as_str().unwrap().split(' ').collect();
        let number = |i: usize| words[i].parse().unwrap();
        Transition {
            at_ns: number(0),
            cause_ns: number(1),
            before: number(2),
            after: number(3),
            rounds: number(4),
            reason: words[5].to_owned(),
        }
    };
    lines.as_array().unwrap().iter().map(parse).collect()
}

/// A class's number in statistics.
pub fn class(stats: &Value, class: &str, field: &str) -> f64 {
    stats["classes"][class][field].as_f64().unwrap()
}

/// What the daemon says of itself.
pub fn status() -> Status {
    flexnet::client::status(SOCKET_PATH.as_ref()).unwrap()
}

/// The client of that name.
pub fn client(name: &str) -> Option<StatusClient> {
    let status = status();
    let clients = &status.client[..status.clients as usize];
    clients.iter().find(|c| name_text(&c.name) == name).copied()
}

/// The state the kernel tells: `enabled` with a scheduler, else `disabled`.
pub fn state() -> String {
    let state = fs::read_to_string("/sys/kernel/sched_ext/state").unwrap();
    state.trim().to_owned()
}

/// Waits until the kernel's own scheduler is back.
pub fn await_detached() {
    eventually("the kernel's own scheduler", || state() == "disabled");
}

/// Waits until nothing is left of a test: no scheduler of its own, and in the shared
/// one no client and no granted core.
pub fn await_clean() {
    let mut shared = shared();
    match shared.as_mut() {
        None => await_detached(),
        Some(daemon) => {
            daemon.assert_schedules();
            eventually("the clients' end", || status().clients == 0);
            eventually("the cores' return", || status().cores_granted == 0);
        }
    }
}

/// What the daemon wrote on its standard error.
pub fn log() -> String {
    fs::read_to_string(LOG).unwrap_or_default()
}

/// Polls until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a process that should end.
pub fn wait(child: &mut Child, what: &str) -> ExitStatus {
    let mut ended = None;
    eventually(what, || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap()
}

/// The middle one.
pub fn median(mut numbers: Vec<u64>) -> u64 {
    assert!(!numbers.is_empty(), "no numbers");
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}
