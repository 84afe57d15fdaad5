// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The randomised differential test: the same operations, from a seed, on two
//! connections in step, one plain and one through the preload library; streams,
//! results and ends are compared. What may differ: through the library more is
//! accepted than the kernel's buffer holds.
//!
//! usage: differential [--cases N] [--seed S [--mode MODE]]
//!
//! It runs itself under the library, once for each mode. A case that fails or
//! hangs is named with its seed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod blocking;
mod calls;
mod fork;
mod pipes;
mod random;
mod side;
mod stream;

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Cases unless --cases says otherwise.
const CASES: u64 = 3000;
/// A case takes milliseconds; one that is at it so long hangs.
const HANGS: Duration = Duration::from_secs(60);

fn library() -> PathBuf {
    let own = env::current_exe().expect("a path");
    let file = own
        .ancestors()
        .map(|folder| folder.join("libflexnet_preload.so"))
        .find(|file| file.is_file());
    file.expect("libflexnet_preload.so: cargo build --release -p flexnet-preload")
}

fn case(seed: u64) {
    match seed % 8 {
        0 | 1 => blocking::stream(seed),
        2 => blocking::datagrams(seed),
        _ => stream::Case::new(seed, false).run(),
    }
}

/// Under the library: runs the cases from `first` to before `end`.
fn work(first: u64, end: u64) {
    // SAFETY: a handler that only counts.
    unsafe {
        let handler = stream::on_broken_pipe as extern "C" fn(i32);
        libc::signal(libc::SIGPIPE, handler as usize);
    }
    for seed in first..end {
        println!("{seed}");
        case(seed);
    }
}

struct Worker {
    mode: &'static str,
    child: Child,
}

fn start(mode: &'static str, first: u64, end: u64) -> Worker {
    let executors = if first.is_multiple_of(2) { "1" } else { "2" };
    let child = Command::new(env::current_exe().expect("a path"))
        .args(["--work", &first.to_string(), &end.to_string()])
        .env("LD_PRELOAD", library())
        .env("FLEXNET_OFFLOAD", mode)
        .env("FLEXNET_EXECUTORS", executors)
        .env("FLEXNET_LOG", "stderr")
        .env("FLEXNET_SOCKET", "/nonexistent")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a worker");
    Worker { mode, child }
}

/// Runs them; false when one failed, which is named.
fn watch(mut worker: Worker) -> bool {
    let lines = BufReader::new(worker.child.stdout.take().expect("its output")).lines();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut last = String::new();
    let hangs = loop {
        match receiver.recv_timeout(HANGS) {
            Ok(line) => last = line,
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if hangs {
        let _ = worker.child.kill();
    }
    let status = worker.child.wait().expect("its status");
    if !hangs && status.success() {
        return true;
    }
    let what = if hangs {
        "hangs".to_owned()
    } else {
        format!("{status}")
    };
    eprintln!(
        "case {last} in the mode {} {what}; again: \
         cargo test --release -p flexnet-preload --test differential -- --seed {last} --mode {}",
        worker.mode, worker.mode
    );
    false
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str| value(name).map(|text| text.parse::<u64>().expect("a number"));
    if let Some(at) = arguments.iter().position(|argument| argument == "--work") {
        let of = |i: usize| arguments[at + i].parse().expect("a number");
        work(of(1), of(2));
        return ExitCode::SUCCESS;
    }
    let mode = match value("--mode").as_deref() {
        Some("strict") => "strict",
        Some("adaptive") => "adaptive",
        Some("adaptive-queued") => "adaptive-queued",
        _ => "always",
    };
    let workers = match number("--seed") {
        Some(seed) => vec![start(mode, seed, seed + 1)],
        None => {
            let cases = number("--cases").unwrap_or(CASES);
            // Most where most is done.
            let (few, most) = (cases / 10, cases - 2 * (cases / 10));
            vec![
                start("always", 0, most / 2),
                start("adaptive-queued", most / 2 + 1, most + 1),
                start("strict", most + 1, most + few + 1),
                start("adaptive", most + few + 1, cases + 1),
            ]
        }
    };
    let begun = Instant::now();
    let watchers: Vec<_> = workers
        .into_iter()
        .map(|worker| std::thread::spawn(move || watch(worker)))
        .collect();
    let mut well = true;
    for watcher in watchers {
        well &= watcher.join().expect("a watcher");
    }
    println!(
        "differential cases: {} ({:.0} s)",
        if well { "ok" } else { "FAILED" },
        begun.elapsed().as_secs_f64()
    );
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
