// SPDX-License-Identifier: GPL-2.0-only
//! What a switch to another process costs on this machine.
//!
//! Two processes on one CPU hand a byte to and fro and touch some memory of
//! their own at each turn, as lmbench's lat_ctx does: caches and TLB are then
//! as cold as a short request finds them. A microsecond or a few natively, a
//! hundred and more where the processor is emulated.
//!
//! The slice and the preemption cooldown follow from it ([`Turns`]). Promises an answer within a
//! moment, or none: there is a default.

use crate::cli::Options;
use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes each side touches at a turn, a line a page: several times the pages of
/// a first-level data TLB.
const TOUCHED: usize = 1024 * 1024;
/// A page.
const STEP: usize = 4096;
/// Samples, each with a process of its own, some time apart: what others do on the
/// CPU while one is taken spoils that one alone.
const SAMPLES: u32 = 5;
const APART: Duration = Duration::from_millis(10);
/// Round trips at most in a sample, and how long they may take in all.
const ROUNDS: u32 = 100;
const LIMIT: Duration = Duration::from_millis(30);
/// Preempting somebody is two switches: there and back.
const SWITCHES: u64 = 2;
/// Of a core's time, what latency tasks may spend on preempting others by this
/// measure: 1 in 60. Then eight bulk senders keep six sevenths of their throughput
/// beside a service they share two processors with (bench/README.md has the table).
const PREEMPTING: u64 = 60;
/// Of a core's time, what taking turns may cost: 1 in 150.
const TURNING: u64 = 150;
/// Bounds of a preemption cooldown, ns: shorter than a wakeup takes is none, and nobody asked
/// for one longer than a turn.
const PREEMPTION_COOLDOWN_NS: RangeInclusive<u64> = 50_000..=10_000_000;
/// Bounds of a slice, ns. From 4 ms on longer ones gain nothing where switches
/// cost microseconds; over 10 ms is felt.
const SLICE_NS: RangeInclusive<u64> = 4_000_000..=10_000_000;

/// How long a running task is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// The slice of normal and batch tasks, ns.
    pub slice_ns: u64,
    /// From latency tasks' run on a core until they may preempt others there, ns.
    pub preemption_cooldown_ns: u64,
}

impl Default for Turns {
    /// For a server processor of today: where it cannot be measured.
    fn default() -> Self {
        Self::of(3_000)
    }
}

impl Turns {
    /// These, where the operator gives no numbers.
    pub fn or_by(self, options: &Options) -> Self {
        Self {
            slice_ns: options.slice_us.map_or(self.slice_ns, |us| us * 1_000),
            preemption_cooldown_ns: options
                .preemption_cooldown_us
                .map_or(self.preemption_cooldown_ns, |us| us * 1_000),
        }
    }

    /// Such that switches which cost `switch_ns` take no more than their share.
    pub fn of(switch_ns: u64) -> Self {
        let within = |times: u64, bounds: &RangeInclusive<u64>| {
            switch_ns
                .saturating_mul(times)
                .clamp(*bounds.start(), *bounds.end())
        };
        Self {
            slice_ns: within(TURNING, &SLICE_NS),
            preemption_cooldown_ns: within(SWITCHES * PREEMPTING, &PREEMPTION_COOLDOWN_NS),
        }
    }
}

/// Measures it, ns. On this thread, which is back on its CPUs afterwards.
///
/// # Errors
/// No second process can be started, or it does not answer.
pub fn measure() -> Result<u64> {
    let before = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    let cpu = (0..CpuSet::MAX_CPU).find(|&cpu| before.is_set(cpu));
    one.set(cpu.context("no CPU")?);
    sched_setaffinity(None, &one)?;
    let mut sample = |number| {
        std::thread::sleep(if number > 0 { APART } else { Duration::ZERO });
        ping_pong()
    };
    let samples: Result<Vec<u64>> = (0..SAMPLES).map(&mut sample).collect();
    // The least: others only ever add to it.
    let measured = samples.map(|samples| {
        log::debug!("a process switch, sample by sample: {samples:?} ns");
        samples.into_iter().min().unwrap_or(u64::MAX)
    });
    sched_setaffinity(None, &before)?;
    measured
}

/// The other side of [`measure`]: echoes until its input ends.
pub fn echo() -> Result<()> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut memory = vec![0u8; TOUCHED];
    let mut byte = [0u8];
    while input.read(&mut byte)? == 1 {
        touch(&mut memory);
        output.write_all(&byte)?;
        output.flush()?;
    }
    Ok(())
}

struct Partner(Child);

impl Drop for Partner {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ping_pong() -> Result<u64> {
    // It inherits the one CPU of this thread.
    let child = Command::new("/proc/self/exe")
        .arg("--echo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut partner = Partner(child);
    let mut input = partner.0.stdin.take().context("no pipe")?;
    let mut output = partner.0.stdout.take().context("no pipe")?;
    let mut memory = vec![0u8; TOUCHED];
    let mut byte = [0u8];
    let mut best = Duration::MAX;
    let start = Instant::now();
    for round in 0..ROUNDS {
        let from = Instant::now();
        input.write_all(&byte)?;
        output.read_exact(&mut byte)?;
        touch(&mut memory);
        // The first brings the other up.
        if round > 0 {
            // The least: all else is what others did on this CPU meanwhile.
            best = best.min(from.elapsed());
        }
        if round > 1 && start.elapsed() > LIMIT {
            break;
        }
    }
    Ok((best / 2).as_nanos().try_into()?)
}

fn touch(memory: &mut [u8]) {
    for byte in memory.iter_mut().step_by(STEP) {
        *byte = std::hint::black_box(byte.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_keep_switching_within_its_share() {
        for (switch_ns, slice_ns, preemption_cooldown_ns) in [
            (0, 4_000_000, 50_000),
            (600, 4_000_000, 72_000),
            (2_600, 4_000_000, 312_000),
            (36_000, 5_400_000, 4_320_000),
            (67_000, 10_000_000, 8_040_000),
            (1_000_000, 10_000_000, 10_000_000),
            (u64::MAX, 10_000_000, 10_000_000),
        ] {
            let turns = Turns {
                slice_ns,
                preemption_cooldown_ns,
            };
            assert_eq!(Turns::of(switch_ns), turns, "{switch_ns} ns");
        }
    }
}
