// SPDX-License-Identifier: GPL-2.0-only
//! The tasks under test: this program again as a child, in one of the roles
//!   hog                         computes for ever
//!   hogs COUNT                  so many threads that do
//!   nested ROLE, nobody ROLE    a role as a child of its own, as another user
//!   user ID ROLE                a role as this user
//!   ping                        sleeps and computes a little, for ever
//!   pair                        two threads that wake each other, for ever
//!   app NAME EXECUTORS [CORES]  an application with executors, and guaranteed
//!                               cores; see `app`
//!   bulk-app NAME EXECUTORS     one with throughput flows
//!   stream NAME EXECUTORS PORT  sends a pattern over TCP until asked to stop
//!   reader                      stays long in RCU read-side critical sections
//!   packets DEVICE BURST US     sends frames into a device, for ever
//! and what is asked of them: CPU time, waiting, affinity. A child dies with
//! its handle, and with the tests.

use crate::daemon::{eventually, wait};
use flexnet::abi::FlowClass::{self, Latency, Throughput};
use flexnet::abi::{Page, SOCKET_PATH};
use flexnet::client::Client;
use flexnet::executor::{Flow, Link, Runtime};
use flexnet::transport::TcpFlow;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of the pattern streams repeat; odd, so that no buffer's size divides it.
pub const PATTERN_BYTES: usize = 65_521;

/// The pattern.
pub fn pattern() -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..PATTERN_BYTES).map(|_| random.next() as u8).collect()
}

/// Repeatable numbers (xorshift).
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of 0..bound.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}

/// A child in some role.
pub struct Task {
    child: Child,
    /// Standard input and output of an application.
    talk: Option<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Task {
    /// Computes for ever.
    pub fn hog() -> Self {
        Self::play(&[], &["hog"])
    }

    /// Runs a command before the role: `chrt`, `nice`, `flexnet run`.
    pub fn play(before: &[&str], role: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        let words = [before, &[program, "--role"], role].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let talk = child.stdin.take().zip(child.stdout.take());
        let talk = talk.map(|(input, output)| (input, BufReader::new(output)));
        let mut task = Self { child, talk };
        // It is in its role, class and priority from here on.
        assert_eq!(task.hear(), "ready", "{words:?}");
        task
    }

    /// An application of so many executors, with latency flows.
    pub fn app(name: &str, executors: usize) -> Self {
        Self::play(&[], &["app", name, &executors.to_string()])
    }

    /// The same with throughput flows.
    pub fn bulk_app(name: &str, executors: usize) -> Self {
        Self::play(&[], &["bulk-app", name, &executors.to_string()])
    }

    /// Tells it something and gives back its answer.
    pub fn ask(&mut self, words: &str) -> String {
        self.tell(words);
        self.hear()
    }

    /// Tells it something.
    pub fn tell(&mut self, words: &str) {
        let (input, _) = self.talk.as_mut().unwrap();
        writeln!(input, "{words}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.talk.as_mut().unwrap().1.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// An application's page and counts.
    pub fn sample(&mut self) -> Value {
        serde_json::from_str(&self.ask("sample")).unwrap()
    }

    /// Messages an application's executors have done.
    pub fn done(&mut self) -> u64 {
        self.sample()["done"].as_u64().unwrap()
    }

    /// Waits until an application's executors have done so many more.
    pub fn await_progress(&mut self, messages: u64) {
        let until = self.done() + messages;
        eventually("progress of executors", || self.done() >= until);
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time it had (ns), all threads.
    pub fn run_ns(&self) -> u64 {
        self.schedstat(0)
    }

    /// Time it was ready and did not run (ns), and how often it ran.
    pub fn waits(&self) -> (u64, u64) {
        (self.schedstat(1), self.schedstat(2))
    }

    /// How often one of its threads ran.
    pub fn turns_of(&self, tid: i32) -> u64 {
        self.schedstat_of(tid, 2)
    }

    pub fn schedstat(&self, field: usize) -> u64 {
        let of = |tid| self.schedstat_of(tid, field);
        threads(self.pid()).into_iter().map(of).sum()
    }

    fn schedstat_of(&self, tid: i32, field: usize) -> u64 {
        let path = format!("/proc/{}/task/{tid}/schedstat", self.pid());
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split(' ')
            .nth(field)
            .map_or(0, |n| n.trim().parse().unwrap())
    }

    /// The CPU its main thread was on last.
    pub fn last_cpu(&self) -> usize {
        last_cpu_of(self.pid() as i32)
    }

    /// Binds all its threads.
    pub fn pin(&self, cpus: &[usize]) {
        for tid in threads(self.pid()) {
            pin(tid, cpus);
        }
    }

    /// Its executors' threads.
    pub fn executor_threads(&self) -> Vec<i32> {
        let is_executor = |tid: &i32| {
            let comm = fs::read_to_string(format!("/proc/{}/task/{tid}/comm", self.pid()));
            comm.is_ok_and(|name| name.contains('/') && !name.contains("/link"))
        };
        threads(self.pid())
            .into_iter()
            .filter(is_executor)
            .collect()
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        wait(&mut self.child, "a killed task");
    }

    /// Has an application end in good order.
    pub fn finish(mut self) {
        drop(self.talk.take());
        let status = wait(&mut self.child, "the end of an application");
        assert!(status.success(), "an application ended with {status}");
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU a process's main thread was on last.
pub fn last_cpu_of(pid: i32) -> usize {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Field 39; the second is a name in parentheses.
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_whitespace().nth(36).unwrap().parse().unwrap()
}

/// Thread ids of a process; none when it is gone.
pub fn threads(pid: u32) -> Vec<i32> {
    let Ok(directory) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let tids = directory.map_while(Result::ok);
    tids.filter_map(|tid| tid.file_name().to_str()?.parse().ok())
        .collect()
}

/// Binds a thread; one that is gone or may not move is left alone.
pub fn pin(tid: i32, cpus: &[usize]) {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    let _ = sched_setaffinity(Pid::from_raw(tid), &set);
}

/// The CPUs this process may use: those online.
pub fn online_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// CPU time of several tasks until they had `total` together (ns).
pub fn shares(tasks: &[&Task], total: Duration) -> Vec<u64> {
    let sample = || -> Vec<u64> { tasks.iter().map(|task| task.run_ns()).collect() };
    let before = sample();
    let mut shares = vec![0; tasks.len()];
    eventually("CPU time", || {
        let now = sample();
        for (share, (now, before)) in shares.iter_mut().zip(now.iter().zip(&before)) {
            *share = now - before;
        }
        shares.iter().sum::<u64>() >= total.as_nanos() as u64
    });
    shares
}

// --- the roles ----------------------------------------------------------------

/// Sends back what comes, for ever.
fn pass_on(stream: &mut UnixStream) {
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
    }
}

/// Plays a role.
pub fn play(role: &str, rest: &[&str]) {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    match (role, rest) {
        ("hog", []) => {
            say("ready");
            compute_for_ever();
        }
        ("hogs", [count]) => {
            for _ in 1..count.parse::<usize>().unwrap() {
                thread::spawn(|| compute_for_ever());
            }
            say("ready");
            compute_for_ever();
        }
        // As a child of its own, for what children inherit.
        ("nested", inner) => {
            let program = std::env::current_exe().unwrap();
            let status = Command::new(program).arg("--role").args(inner).status();
            assert!(status.unwrap().success());
        }
        // As another user.
        ("nobody", inner) => as_user(65534, inner),
        ("user", [id, inner @ ..]) => as_user(id.parse().unwrap(), inner),
        ("ping", []) => {
            say("ready");
            loop {
                thread::sleep(Duration::from_millis(3));
                compute(Duration::from_micros(50));
            }
        }
        ("pair", []) => {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            thread::spawn(move || pass_on(&mut other));
            say("ready");
            one.write_all(&[0]).unwrap();
            pass_on(&mut one);
        }
        ("app", [name, executors]) => app(name, executors.parse().unwrap(), 0, Latency),
        ("bulk-app", [name, executors]) => app(name, executors.parse().unwrap(), 0, Throughput),
        ("app", [name, executors, cores]) => {
            let executors = executors.parse().unwrap();
            app(name, executors, cores.parse().unwrap(), Latency);
        }
        ("stream", [name, executors, port]) => {
            stream(name, executors.parse().unwrap(), port.parse().unwrap());
        }
        ("keepers", [count]) => crate::control::keepers(count.parse().unwrap()),
        ("turns", [uid]) => crate::rules::turns(uid.parse().unwrap()),
        ("writer", [port]) => crate::programs::writer(port.parse().unwrap()),
        ("maps", []) => crate::programs::maps(),
        ("successor", []) => crate::control::successor(),
        ("silent-file", [path]) => crate::attackers::serve_silently(path),
        ("poison", [path]) => crate::attackers::poison(path),
        ("linger", [count]) => crate::attackers::linger(count.parse().unwrap()),
        ("idle", [count]) => crate::attackers::idle(count.parse().unwrap()),
        ("liar", [seed]) => crate::unsteady::liar(seed.parse().unwrap()),
        ("changer", [how]) => crate::unsteady::changer(how),
        ("kills", [count]) => crate::unsteady::kills(count.parse().unwrap()),
        ("crowd", [count]) => crate::hardship::crowd(count.parse().unwrap()),
        ("askers", [pid, count]) => {
            crate::hardship::askers(pid.parse().unwrap(), count.parse().unwrap());
        }
        ("answered", []) => crate::attackers::answered(),
        ("storm", [alive]) => crate::hardship::storm(alive.parse().unwrap()),
        ("at-times", []) => crate::fairness::at_times(),
        ("yielders", []) => crate::fairness::yielders(),
        ("reader", []) => crate::readers::reader(),
        ("packets", [device, burst, pause_us]) => {
            let pause = Duration::from_micros(pause_us.parse().unwrap());
            crate::napi::packets(device, burst.parse().unwrap(), pause);
        }
        ("hellos", [count]) => crate::control::hellos(count.parse().unwrap()),
        _ => panic!("no role {role} {rest:?}"),
    }
}

fn as_user(id: u32, role: &[&str]) {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.arg("--role").args(role).uid(id).gid(id);
    panic!("{}", command.exec());
}

/// A line to the process that started this.
pub fn say(line: &str) {
    println!("{line}");
    io::stdout().flush().unwrap();
}

fn compute_for_ever() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Keeps the CPU busy.
pub fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// What an application's load is made of, in atomics so that it can change.
#[derive(Default)]
struct Load {
    on: AtomicBool,
    message_us: AtomicU64,
    queued_max: AtomicU64,
    pause_us: AtomicU64,
    submitted: AtomicU64,
    done: AtomicU64,
}

impl Load {
    fn queued(&self) -> u64 {
        let done = self.done.load(Ordering::Acquire);
        self.submitted.load(Ordering::Acquire) - done
    }

    /// Submits to the flows in turn, for ever.
    fn drive(self: &Arc<Self>, flows: &[Flow]) {
        for flow in flows.iter().cycle() {
            let pause = Duration::from_micros(self.pause_us.load(Ordering::Relaxed).max(200));
            if !self.on.load(Ordering::Acquire) {
                thread::park();
                continue;
            }
            if self.queued() >= self.queued_max.load(Ordering::Relaxed) {
                thread::sleep(pause);
                continue;
            }
            let time = Duration::from_micros(self.message_us.load(Ordering::Relaxed));
            let load = self.clone();
            self.submitted.fetch_add(1, Ordering::AcqRel);
            let message = async move {
                compute(time);
                load.done.fetch_add(1, Ordering::AcqRel);
            };
            if flow.submit(message).is_err() {
                self.submitted.fetch_sub(1, Ordering::AcqRel);
                thread::sleep(pause);
            } else if self.pause_us.load(Ordering::Relaxed) > 0 {
                thread::sleep(pause);
            }
        }
    }
}

/// An application whose executors compute. It answers, a line each:
///   load US QUEUED PAUSE  from now on messages of US of computing, QUEUED at
///                         most at once, PAUSE us after each
///   idle                  no more; answers when all are done
///   sample                its page and counts as JSON
fn app(name: &str, executors: usize, cores: u32, class: FlowClass) {
    let client = Client::connect_with_guarantee(SOCKET_PATH.as_ref(), name, cores).unwrap();
    let runtime = Runtime::builder()
        .name(name)
        .executors(executors)
        .flow_class(class)
        .link(client.clone())
        .build()
        .unwrap();
    let flows: Vec<Flow> = (0..2 * executors)
        .map(|_| runtime.flow().unwrap())
        .collect();
    let load = Arc::new(Load::default());
    let driver = load.clone();
    let driver = thread::spawn(move || driver.drive(&flows));
    say("ready");
    for line in io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["load", numbers @ ..] => {
                let number = |i: usize| numbers[i].parse().unwrap();
                load.message_us.store(number(0), Ordering::Relaxed);
                load.queued_max.store(number(1), Ordering::Relaxed);
                load.pause_us.store(number(2), Ordering::Relaxed);
                load.on.store(true, Ordering::Release);
                driver.thread().unpark();
                say("loaded");
            }
            ["idle"] => {
                load.on.store(false, Ordering::Release);
                eventually("the queue's end", || load.queued() == 0);
                say("idle");
            }
            ["sample"] => {
                let done = load.done.load(Ordering::Acquire);
                let page = client.page();
                let page = page.as_ref().map(|page| page_json(page.get(), executors));
                let sample = json!({
                    "attached": client.attached(),
                    "done": done,
                    "page": page,
                    "design": runtime.design(),
                    "guaranteed": client.cores_guaranteed(),
                });
                say(&sample.to_string());
            }
            other => panic!("an application was told {other:?}"),
        }
    }
    // Its input ended: the process ends, whatever its threads do.
}

fn page_json(page: &Page, executors: usize) -> Value {
    let executors: Vec<_> = page.executors[..executors]
        .iter()
        .map(|executor| {
            let cpu = executor.sched.on_cpu.load(Ordering::Relaxed);
            let granted = executor.sched.on_granted_core.load(Ordering::Relaxed);
            json!({"on_cpu": cpu, "granted": granted})
        })
        .collect();
    json!({
        "attached": page.grant.attached.load(Ordering::Relaxed),
        "cores_granted": page.grant.cores_granted.load(Ordering::Relaxed),
        "executors_wanted": page.grant.executors_wanted.load(Ordering::Relaxed),
        "saturated": page.grant.saturated.load(Ordering::Relaxed),
        "executors": executors,
    })
}

/// Set once the test says something.
pub fn asked_to_stop() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let reported = stop.clone();
    thread::spawn(move || {
        let _ = io::stdin().read_line(&mut String::new());
        reported.store(true, Ordering::Release);
    });
    stop
}

/// Sends the pattern in pieces of all sizes until its input ends, and then says
/// how many bytes were accepted.
fn stream(name: &str, executors: usize, port: u16) {
    let client = Client::connect_or_wait(SOCKET_PATH.as_ref(), name).unwrap();
    let runtime = Runtime::builder()
        .name(name)
        .executors(executors)
        .link(client);
    let runtime = runtime.build().unwrap();
    let flow = TcpFlow::adopt(&runtime, TcpStream::connect(("127.0.0.1", port)).unwrap());
    let flow = flow.unwrap();
    let stop = asked_to_stop();
    say("ready");
    let pattern = pattern();
    let (mut sent, mut random) = (0, Random(77));
    while !stop.load(Ordering::Acquire) {
        let start = sent % PATTERN_BYTES;
        // Mostly small ones, which are queued; some are handed over.
        let bound = if random.below(8) == 0 { 60_000 } else { 3_000 };
        let end = (start + 1 + random.below(bound)).min(PATTERN_BYTES);
        sent += match random.below(2) {
            0 => match flow.try_send(&pattern[start..end]) {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => panic!("{error}"),
            },
            _ => {
                flow.send_blocking(&pattern[start..end]).unwrap();
                end - start
            }
        };
    }
    flow.close_blocking().unwrap();
    say(&sent.to_string());
    assert_eq!(runtime.shutdown(), 0);
}
