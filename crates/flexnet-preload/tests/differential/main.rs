// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The randomised differential test: the same operations, from a seed, on two
//! connections in step, one plain and one through the preload library; streams,
//! results and ends are compared. What may differ: through the library more is
//! accepted than the kernel's buffer holds.
//!
//! usage: differential [--cases N]
//!        differential --seed S [--mode MODE] [--executors N] [--steps N] [--without STEP,...]
//!        differential --minutes N --state FILE [--seed S]
//!
//! It runs itself under the library, once for each mode. A case that fails or
//! hangs is named with its seed. The last form is what `ci/campaign` calls.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod blocking;
mod calls;
mod campaign;
mod fork;
mod pipes;
mod plan;
mod random;
mod side;
mod stream;
mod stuck;
mod waits;
mod worker;

use plan::Plan;
use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use worker::{Cases, MODES};

/// Cases unless --cases says otherwise.
const CASES: u64 = 3000;

fn case(seed: u64) {
    match seed % 12 {
        0 | 1 => blocking::stream(seed),
        2 => blocking::datagrams(seed),
        3 => waits::interrupted(seed),
        4 => stuck::peers(seed),
        _ => stream::Case::new(seed, false).run(),
    }
}

/// Under the library: runs the cases.
fn work(seeds: std::ops::Range<u64>) {
    // SAFETY: a handler that only counts.
    unsafe {
        let handler = stream::on_broken_pipe as extern "C" fn(i32);
        libc::signal(libc::SIGPIPE, handler as usize);
    }
    for seed in seeds {
        println!("{seed} {}", plan::taken());
        case(seed);
    }
    println!("end {}", plan::taken());
}

struct Arguments(Vec<String>);

impl Arguments {
    fn value(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name).map(|text| text.parse().expect("a number"))
    }

    fn plan(&self) -> Plan {
        Plan::parse(self.value("--steps"), self.value("--without"))
    }
}

/// Most where most is done.
fn shares(cases: u64) -> Vec<Cases> {
    let few = cases / 10;
    let mut first = 0;
    let all = MODES.iter().enumerate().map(|(at, mode)| {
        let count = match at {
            0 | 1 => cases / 2 - few,
            _ => few,
        };
        first += count;
        Cases::of(mode, worker::executors(0, at), first - count..first)
    });
    let all: Vec<_> = all.collect();
    worker::assert_both_counts(&all);
    all
}

fn main() -> ExitCode {
    let arguments = Arguments(env::args().collect());
    if let Some(first) = arguments.number("--work") {
        plan::set(arguments.plan());
        // It has a process group of its own, so the terminal's Ctrl-C does not reach it.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .expect("a signal");
        work(first..arguments.number("--to").expect("an end"));
        return ExitCode::SUCCESS;
    }
    if let Some(minutes) = arguments.number("--minutes") {
        let (state, seed) = (arguments.value("--state"), arguments.number("--seed"));
        let state = state.expect("--state FILE").into();
        return campaign::run(Duration::from_secs(60 * minutes), seed, state);
    }
    let cases = match arguments.number("--seed") {
        Some(seed) => {
            let mode = arguments.value("--mode").unwrap_or("always");
            let mode = MODES.iter().find(|known| **known == mode);
            let executors = arguments.number("--executors").unwrap_or(1);
            let mut one = Cases::of(mode.expect("a mode"), executors, seed..seed + 1);
            one.plan = arguments.plan();
            vec![one]
        }
        None => shares(arguments.number("--cases").unwrap_or(CASES)),
    };
    let begun = Instant::now();
    let done = worker::all(cases);
    let (word, steps) = match &done {
        Ok(steps) => ("ok", format!("{steps} steps, ")),
        Err(_) => ("FAILED", String::new()),
    };
    let seconds = begun.elapsed().as_secs_f64();
    println!("differential cases: {word} ({steps}{seconds:.0} s)");
    match done {
        Ok(_) => ExitCode::SUCCESS,
        Err(failures) => {
            for failure in failures {
                eprintln!("{failure}");
            }
            ExitCode::FAILURE
        }
    }
}
