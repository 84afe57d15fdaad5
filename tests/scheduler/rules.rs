// SPDX-License-Identifier: GPL-2.0-only
//! The operator's rules on real tasks: whatever a rule looks at changes, and the
//! class that BPF has for the task follows.

use crate::daemon::{Daemon, eventually, share};
use crate::tasks::{Task, say, threads};
use libbpf_rs::{MapCore, MapFlags, MapHandle, query::MapInfoIter};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NORMAL: u32 = 0;
const LATENCY: u32 = 1;
const BATCH: u32 = 2;
const EXECUTOR: u32 = 3;

/// The class BPF has for a thread: the first word of its task_ctx.
pub fn class_of(tid: i32) -> u32 {
    // PIDFD_THREAD is O_EXCL.
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);
    let pidfd = pidfd_open(Pid::from_raw(tid).unwrap(), flags).unwrap();
    let map = MapInfoIter::default()
        .find(|map| map.name == "task_ctxs")
        .unwrap();
    let map = MapHandle::from_map_id(map.id).unwrap();
    let key = pidfd.as_raw_fd().to_ne_bytes();
    let value = map.lookup(&key, MapFlags::ANY).unwrap();
    u32::from_ne_bytes(value.unwrap()[..4].try_into().unwrap())
}

/// A configuration file.
pub fn config(name: &str, text: &str) -> PathBuf {
    let path = Path::new("/tmp").join(name);
    fs::write(&path, text).unwrap();
    path
}

/// The daemon with a configuration file.
pub fn start_with(path: &Path) -> Daemon {
    Daemon::start(&["--config", path.to_str().unwrap()])
}

/// A program that waits until it is dropped.
pub struct Program(Child);

impl Program {
    pub fn start(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        let command = command.args(&words[1..]).stdin(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Its only child, once that has its own name.
    pub fn child(&self, name: &str) -> i32 {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let mut child = 0;
        eventually("a child", || {
            let text = fs::read_to_string(&path).unwrap();
            child = text.trim().parse().unwrap_or(0);
            let comm = fs::read_to_string(format!("/proc/{child}/comm"));
            comm.is_ok_and(|comm| comm.trim() == name)
        });
        child
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cgroup, removed when it goes; what is in it dies with its handle before.
pub struct Cgroup(PathBuf);

impl Cgroup {
    pub fn new(path: &str) -> Self {
        let path = Path::new("/sys/fs/cgroup").join(path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn take(&self, pid: u32) {
        fs::write(self.procs(), pid.to_string()).unwrap();
    }

    /// The file that takes processes in.
    pub fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What was in it has been waited for, and may still be on its way out.
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // Those above it, where they were made for it.
        for above in self.0.ancestors().skip(1) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
    }
}

const RULES: &str = r#"
[[rule]]
cgroup = "/rules/**/deep-[0-9]*.scope"
class = "latency"
[[rule]]
command = "tail"
user = "nobody"
class = "batch"
[[rule]]
command = "t?il"
class = "latency"
[[rule]]
command = "bash"
class = "batch"
[[rule]]
user = 65534
class = "batch"
[[rule]]
command = "pool-*"
class = "latency"
"#;

/// A role: becomes another user when it is told to, without an exec.
pub fn turns(uid: u32) {
    say("ready");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    // SAFETY: a plain call in a process of one thread.
    let status = unsafe { libc::setuid(uid) };
    say(&status.to_string());
    std::thread::park();
}

pub fn a_rule_holds_when_a_task_comes_to_fit() {
    let (outside, inside) = (
        Cgroup::new("rules/a"),
        Cgroup::new("rules/a/b/deep-7.scope"),
    );
    // What runs already.
    let [before, other] = [&["tail", "-f", "/dev/null"][..], &["cat"]].map(Program::start);
    let moved = Program::start(&["cat"]);
    inside.take(moved.pid() as u32);
    let started = Program::start(&["bash", "-c", "cat; true"]);
    let grandchild = started.child("cat");
    let daemon = start_with(&config("rules.toml", RULES));
    let classes = [&before, &other, &moved, &started].map(|program| class_of(program.pid()));
    assert_eq!(classes, [LATENCY, NORMAL, LATENCY, BATCH]);
    assert_eq!(
        class_of(grandchild),
        BATCH,
        "what a command started already"
    );

    // New ones: by exec, by the parent, by another user.
    let tail = Program::start(&["tail", "-f", "/dev/null"]);
    eventually("exec", || class_of(tail.pid()) == LATENCY);
    let script = Program::start(&["bash", "-c", "cat; true"]);
    assert_eq!(class_of(script.child("cat")), BATCH, "the parent's rule");
    let mut turns = Task::play(&[], &["turns", "65534"]);
    assert_eq!(class_of(turns.pid() as i32), NORMAL);
    assert_eq!(turns.ask("now"), "0");
    assert_eq!(class_of(turns.pid() as i32), BATCH, "another user");

    // A process of several threads there and back; an executor stays one.
    let app = Task::app("moves", 1);
    eventually("an executor's thread", || app.executor_threads().len() == 1);
    let executors = app.executor_threads();
    let others = || {
        threads(app.pid())
            .into_iter()
            .filter(|tid| !executors.contains(tid))
    };
    eventually("an executor", || class_of(executors[0]) == EXECUTOR);
    inside.take(app.pid());
    assert!(others().count() > 1);
    others().for_each(|tid| assert_eq!(class_of(tid), LATENCY, "in the cgroup"));
    assert_eq!(class_of(executors[0]), EXECUTOR);
    outside.take(app.pid());
    others().for_each(|tid| assert_eq!(class_of(tid), NORMAL, "out of it"));
    // A cgroup that is new.
    let new = Cgroup::new("rules/deep-1.scope");
    new.take(app.pid());
    others().for_each(|tid| assert_eq!(class_of(tid), LATENCY, "in a new one"));
    outside.take(app.pid());

    // A thread by its own name, for as long as it has that.
    let thread = || rustix::thread::gettid().as_raw_nonzero().get();
    let named = std::thread::Builder::new().name("pool-1".to_owned());
    let named = named.spawn(move || {
        let first = class_of(thread());
        rustix::thread::set_name(c"other").unwrap();
        (first, class_of(thread()))
    });
    assert_eq!(named.unwrap().join().unwrap(), (LATENCY, NORMAL));
    drop((app, moved));
    daemon.stop();
}

pub fn registration_goes_before_a_rule_and_that_before_the_parent() {
    share(RULES);
    let run = ["flexnet", "run", "--class", "batch", "--"];
    let asked = Program::start(&[&run[..], &["tail", "-f", "/dev/null"]].concat());
    eventually("the class asked for", || class_of(asked.pid()) == BATCH);
    // As tail it would be latency.
    eventually("exec", || {
        let comm = fs::read_to_string(format!("/proc/{}/comm", asked.pid()));
        comm.unwrap().trim() == "tail"
    });
    assert_eq!(class_of(asked.pid()), BATCH);
    let script = Program::start(&[&run[..], &["ash", "-c", "tail -f /dev/null; true"]].concat());
    assert_eq!(class_of(script.child("tail")), LATENCY, "its own rule");
    let script = Program::start(&[&run[..], &["ash", "-c", "cat; true"]].concat());
    assert_eq!(class_of(script.child("cat")), BATCH, "the parent's wish");
}
