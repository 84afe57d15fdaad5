// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Processes under the library that run cases, and what became of them.

use crate::plan::Plan;
use rustix::process::{Pid, Signal, kill_process_group};
use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Modes; the first two queue.
pub const MODES: &[&str] = &["always", "adaptive-queued", "strict", "adaptive"];
/// A case takes milliseconds; one that is at it so long hangs.
const HANGS: Duration = Duration::from_secs(60);

/// What a worker does.
#[derive(Clone, Debug)]
pub struct Cases {
    pub mode: &'static str,
    pub executors: u64,
    pub seeds: Range<u64>,
    pub plan: Plan,
}

/// A case that failed, or that hangs.
#[derive(Debug)]
pub struct Failure {
    /// It alone.
    pub cases: Cases,
    /// Where its worker began: what came before may matter.
    first: u64,
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cases {
            mode,
            executors,
            seeds,
            plan,
        } = &self.cases;
        let (seed, what, first) = (seeds.start, &self.what, self.first);
        write!(
            to,
            "{what}\ncase {seed} in the mode {mode} (its worker began with {first}); again: \
             cargo test --release -p flexnet-preload --test differential -- \
             --seed {seed} --mode {mode} --executors {executors} {}",
            plan.arguments().join(" ")
        )
    }
}

fn library() -> PathBuf {
    let own = env::current_exe().expect("a path");
    let file = own
        .ancestors()
        .map(|folder| folder.join("libflexnet_preload.so"))
        .find(|file| file.is_file());
    file.expect("libflexnet_preload.so: cargo build --release -p flexnet-preload")
}

impl Cases {
    pub fn of(mode: &'static str, executors: u64, seeds: Range<u64>) -> Self {
        Self {
            mode,
            executors,
            seeds,
            plan: Plan::ALL,
        }
    }

    fn start(&self) -> Child {
        let Range { start, end } = self.seeds;
        Command::new(env::current_exe().expect("a path"))
            .args(["--work", &start.to_string(), "--to", &end.to_string()])
            .args(self.plan.arguments())
            .env("LD_PRELOAD", library())
            .env("FLEXNET_OFFLOAD", self.mode)
            .env("FLEXNET_EXECUTORS", self.executors.to_string())
            .env("FLEXNET_SOCKET", "/nonexistent")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a worker")
    }

    /// How many steps that were.
    pub fn run(&self) -> Result<u64, Failure> {
        let mut child = self.start();
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut errors = child.stderr.take().expect("its messages");
        let said = thread::spawn(move || {
            let mut said = Vec::new();
            let _ = errors.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let mut last = String::new();
        let hangs = loop {
            match receiver.recv_timeout(HANGS) {
                Ok(line) => last = line,
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => break true,
            }
        };
        let (at, steps) = last.split_once(' ').unwrap_or(("", ""));
        if hangs || at != "end" {
            kill_group(&child);
        }
        let status = child.wait().expect("its status");
        if at == "end" && status.success() {
            return Ok(steps.parse().expect("a number"));
        }
        let said = said.join().unwrap_or_default();
        let seed = at.parse().unwrap_or(self.seeds.start);
        Err(Failure {
            cases: Self {
                seeds: seed..seed + 1,
                ..self.clone()
            },
            first: self.seeds.start,
            what: match hangs {
                true => format!("{said}it hangs ({status})"),
                false => format!("{said}{status}"),
            },
        })
    }
}

/// The worker and its children, which keep its stderr open: what it said would have no end. It is
/// not waited for yet, so the number is its own.
fn kill_group(worker: &Child) {
    let _ = kill_process_group(Pid::from_child(worker), Signal::KILL);
}

/// A mode's executors: in each round both counts occur, and in two rounds both for each mode.
pub fn executors(round: u64, mode: usize) -> u64 {
    1 + (round + mode as u64) % 2
}

/// One executor, and two: what they do to each other is not found with one.
pub fn assert_both_counts(cases: &[Cases]) {
    for count in [1, 2] {
        let mut counts = cases.iter().map(|cases| cases.executors);
        assert!(
            counts.any(|executors| executors == count),
            "none has {count}"
        );
    }
}

/// All at once; how many steps that were.
pub fn all(cases: Vec<Cases>) -> Result<u64, Vec<Failure>> {
    let runs: Vec<_> = cases
        .into_iter()
        .map(|cases| thread::spawn(move || cases.run()))
        .collect();
    let (mut steps, mut failures) = (0, Vec::new());
    for run in runs {
        match run.join().expect("a run") {
            Ok(more) => steps += more,
            Err(failure) => failures.push(failure),
        }
    }
    match failures.is_empty() {
        true => Ok(steps),
        false => Err(failures),
    }
}
