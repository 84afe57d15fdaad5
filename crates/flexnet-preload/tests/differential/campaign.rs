// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Cases for as long as it is asked for, from where the last campaign stopped. A case that fails is
//! made smaller: fewer steps, then without those that do not matter.

use crate::worker::{self, Cases, Failure, MODES};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Cases of a worker; then the state is written.
const ROUND: u64 = 300;
/// A failure may need luck: so often it is tried before it counts as gone.
const TRIES: u32 = 4;
/// Making it smaller takes so long at most.
const SHRINKS: Duration = Duration::from_secs(120);
/// No case has more steps.
const STEPS_MAX: usize = 64;

/// What is done, over all runs of the campaign.
struct State {
    file: PathBuf,
    first: u64,
    next: u64,
    steps: u64,
    seconds: u64,
}

impl State {
    /// As the file has it; a new one with a seed.
    fn read(file: PathBuf, seed: Option<u64>) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let numbers: Vec<u64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let (first, next, steps, seconds) = match (seed, &numbers[..]) {
            (None, &[first, next, steps, seconds]) => (first, next, steps, seconds),
            (seed, _) => (seed.unwrap_or(0), seed.unwrap_or(0), 0, 0),
        };
        Self {
            file,
            first,
            next,
            steps,
            seconds,
        }
    }

    fn write(&self) {
        let Self {
            first,
            next,
            steps,
            seconds,
            ..
        } = self;
        let text = format!("{first} {next} {steps} {seconds}\n");
        fs::write(&self.file, text).expect("the state is written");
    }

    /// A worker for each mode.
    fn next_round(&mut self) -> Vec<Cases> {
        let round = self.next / (ROUND * MODES.len() as u64);
        let workers = MODES.iter().enumerate().map(|(at, mode)| {
            let first = self.next;
            self.next += ROUND;
            Cases::of(mode, worker::executors(round, at), first..first + ROUND)
        });
        let workers: Vec<_> = workers.collect();
        worker::assert_both_counts(&workers);
        workers
    }

    fn say(&self, how: &str) {
        println!(
            "campaign: {} steps, seeds {} to {}, {} s, {how}",
            self.steps,
            self.first,
            self.next - 1,
            self.seconds
        );
    }
}

pub fn run(time: Duration, seed: Option<u64>, file: PathBuf) -> ExitCode {
    let (begun, mut state) = (Instant::now(), State::read(file, seed));
    let before = state.seconds;
    while begun.elapsed() < time {
        let done = worker::all(state.next_round());
        state.seconds = before + begun.elapsed().as_secs();
        match done {
            Ok(steps) => {
                state.steps += steps;
                state.write();
                state.say("no difference");
            }
            Err(failures) => {
                state.say("a DIFFERENCE");
                for failure in failures {
                    println!("{}", smallest(failure));
                }
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// The same failure, with fewer steps.
fn smallest(failure: Failure) -> Failure {
    let until = Instant::now() + SHRINKS;
    let fails = |cases: &Cases| {
        (0..TRIES)
            .take_while(|_| Instant::now() < until)
            .find_map(|_| cases.run().err())
    };
    let Some(mut found) = fails(&failure.cases) else {
        println!("the case alone does not fail again in {TRIES} tries");
        return failure;
    };
    let mut less = STEPS_MAX / 2;
    found.cases.plan.most = STEPS_MAX;
    while less > 0 && found.cases.plan.most > 0 {
        let mut fewer = found.cases.clone();
        fewer.plan.most = fewer.plan.most.saturating_sub(less);
        match fails(&fewer) {
            Some(smaller) => found = smaller,
            None => less /= 2,
        }
    }
    for step in (0..found.cases.plan.most).rev() {
        let mut fewer = found.cases.clone();
        fewer.plan.without.push(step);
        if let Some(smaller) = fails(&fewer) {
            found = smaller;
        }
    }
    found
}
