// SPDX-License-Identifier: GPL-2.0-only
//! Has network devices process what they receive on the granted cores
//! (`--steer`): receive packet steering follows the grants.
//!
//! The problem: an acknowledgement that arrives on a latency application's
//! core makes TCP transmit there from softirq, where no scheduler reaches.
//! The mechanism: each receive queue's rps_cpus is set to the granted cores.
//! It is followed coarsely: every change of the mask moves flows and reorders
//! segments (changed each millisecond, 124 segments in 3,000 changes; each
//! 100 ms, 2 in 40), and one from empty to non-empty patches kernel text.
//! Promises that the devices' own setting returns (device.rs).

use crate::device::{self, Setting, Settings};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;

/// At least so long between two changes.
const CHANGE_NS: u64 = 100_000_000;
/// With no core granted for so long, the devices' own setting returns.
const IDLE_NS: u64 = 1_000_000_000;

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Steer to these CPUs.
    Write(Vec<u64>),
    /// Write back what was there.
    Restore,
}

/// When to change the steering and to what: a state machine without clock or
/// files.
#[derive(Debug, Default)]
pub struct Follower {
    /// What the devices have; empty is their own setting.
    written: Vec<u64>,
    changed_ns: Option<u64>,
    wanted: Vec<u64>,
    empty_since_ns: Option<u64>,
}

impl Follower {
    /// Takes note of the granted CPUs; none: they are too few for the executors
    /// alone, and receive processing is better off where the devices have it.
    pub fn granted(&mut self, now_ns: u64, mask: Option<&[u64]>) {
        let Some(mask) = mask else {
            self.empty_since_ns = None;
            self.wanted.clear();
            return;
        };
        if mask.iter().all(|&word| word == 0) {
            self.empty_since_ns.get_or_insert(now_ns);
        } else {
            self.empty_since_ns = None;
            self.wanted = mask.to_vec();
        }
    }

    /// The devices are steered, to where is not known; no core is granted yet.
    pub fn written_by_another(&mut self, now_ns: u64) {
        self.written = vec![u64::MAX];
        self.empty_since_ns = Some(now_ns);
    }

    /// When to call `step` next, if nothing else happens.
    pub fn due_ns(&self) -> Option<u64> {
        let settled = self.changed_ns.map_or(0, |at| at + CHANGE_NS);
        match self.empty_since_ns {
            Some(_) if self.written.is_empty() => None,
            Some(since) => Some(settled.max(since + IDLE_NS)),
            None if self.wanted == self.written => None,
            None => Some(settled),
        }
    }

    /// What to do now; it is taken as done.
    pub fn step(&mut self, now_ns: u64) -> Action {
        if self.due_ns().is_none_or(|due| now_ns < due) {
            return Action::Keep;
        }
        self.changed_ns = Some(now_ns);
        if self.empty_since_ns.is_some() || self.wanted.is_empty() {
            self.written.clear();
            self.wanted.clear();
            return Action::Restore;
        }
        self.written = self.wanted.clone();
        Action::Write(self.written.clone())
    }
}

/// The steered devices.
#[derive(Debug)]
pub struct Steer {
    follower: Follower,
    queues: Settings,
}

/// Can these devices be steered? Changes nothing.
///
/// # Errors
/// The first one that cannot.
pub fn check(devices: &[String]) -> Result<()> {
    devices
        .iter()
        .try_for_each(|device| queues_of(device).map(drop))
}

impl Steer {
    /// Looks up the devices' queues. `state` and `handed_over` as for [`Settings`].
    pub fn new(devices: &[String], state: PathBuf, handed_over: bool) -> Result<Self> {
        let find = || {
            let queues: Result<Vec<_>> = devices.iter().map(|device| queues_of(device)).collect();
            queues.map(|queues| queues.concat())
        };
        Ok(Self {
            follower: Follower::default(),
            queues: Settings::new(state, handed_over, find)?,
        })
    }

    /// Leaves all as it is, for the daemon that takes over.
    pub fn leave(&mut self) {
        self.queues.leave();
    }

    /// Takes on what another daemon has left: its steered devices stay steered
    /// where they are ours, too, and are given back in the end as it found them.
    pub fn take_on(&mut self, now_ns: u64) {
        match self.queues.take_on() {
            Ok(false) => {}
            Ok(true) => self.follower.written_by_another(now_ns),
            Err(error) => {
                self.follower.written_by_another(now_ns);
                self.cannot_save(&error);
            }
        }
    }

    /// Are there devices to steer?
    pub fn active(&self) -> bool {
        !self.queues.is_empty()
    }

    /// [`Follower::granted`].
    pub fn granted(&mut self, now_ns: u64, mask: Option<&[u64]>) {
        self.follower.granted(now_ns, mask);
    }

    /// When `step` has something to do.
    pub fn due_ns(&self) -> Option<u64> {
        self.follower.due_ns()
    }

    /// Changes the devices' steering if it is time.
    pub fn step(&mut self, now_ns: u64) {
        match self.follower.step(now_ns) {
            Action::Keep => {}
            Action::Write(mask) => {
                if let Err(error) = self.queues.save() {
                    return self.cannot_save(&error);
                }
                let text = mask_text(&mask);
                self.queues.iter().for_each(|queue| queue.try_write(&text));
            }
            Action::Restore => self.queues.restore(),
        }
    }

    fn cannot_save(&self, error: &std::io::Error) {
        let state = self.queues.state().display();
        log::warn!("steering is off: cannot write {state}: {error}");
    }
}

fn queues_of(device: &str) -> Result<Vec<Setting>> {
    ensure!(
        device::is_name(device),
        "--steer {device}: no device's name"
    );
    let entries = fs::read_dir(device::directory(device).join("queues"))
        .with_context(|| format!("--steer {device}: there is no such device"))?;
    let mut queues = Vec::new();
    for entry in entries {
        let queue = entry?.file_name().to_string_lossy().into_owned();
        if queue.starts_with("rx-") {
            let found = Setting::find(device, format!("queues/{queue}/rps_cpus"))
                .with_context(|| format!("--steer {device}: it has no receive packet steering"))?;
            queues.push(found);
        }
    }
    if queues.is_empty() {
        bail!("--steer {device}: it has no receive queues");
    }
    Ok(queues)
}

/// A CPU mask as sysfs has it: hexadecimal, a comma every 32 bits.
fn mask_text(mask: &[u64]) -> String {
    let halves: Vec<u32> = mask
        .iter()
        .flat_map(|&word| [word as u32, (word >> 32) as u32])
        .collect();
    let used = halves.iter().rposition(|&half| half != 0).unwrap_or(0) + 1;
    let texts = halves[..used.min(halves.len())]
        .iter()
        .rev()
        .enumerate()
        .map(|(at, half)| match at {
            0 => format!("{half:x}"),
            _ => format!("{half:08x}"),
        });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn follows_grants_coarsely_and_lets_go_late() {
        let write = |mask: u64| Action::Write(vec![mask]);
        // at ms, mask granted then (if any news), what to do, due then
        type Row = (u64, Option<u64>, Action, Option<u64>);
        let rows: [Row; 12] = [
            (0, Some(0), Action::Keep, None),
            (10, Some(2), write(2), None),
            (20, Some(6), Action::Keep, Some(110)),
            (30, Some(2), Action::Keep, None),
            (40, Some(6), Action::Keep, Some(110)),
            (110, None, write(6), None),
            (120, Some(0), Action::Keep, Some(1120)),
            (300, Some(6), Action::Keep, None),
            (400, Some(0), Action::Keep, Some(1400)),
            (900, Some(0), Action::Keep, Some(1400)),
            (1400, None, Action::Restore, None),
            (1450, Some(2), Action::Keep, Some(1500)),
        ];
        let mut follower = Follower::default();
        for (at, news, action, due) in rows {
            if let Some(mask) = news {
                follower.granted(at * MS, Some(&[mask]));
            }
            assert_eq!(follower.step(at * MS), action, "at {at} ms");
            assert_eq!(follower.due_ns(), due.map(|due| due * MS), "at {at} ms");
        }
    }

    #[test]
    fn lets_go_at_once_when_the_cores_are_too_few() {
        let write = |mask: u64| Action::Write(vec![mask]);
        // at ms, mask granted then (None: too few), what to do, due then
        type Row = (u64, Option<u64>, Action, Option<u64>);
        let rows: [Row; 7] = [
            (10, Some(2), write(2), None),
            (50, None, Action::Keep, Some(110)),
            (110, None, Action::Restore, None),
            (300, None, Action::Keep, None),
            (400, Some(2), write(2), None),
            (450, Some(0), Action::Keep, Some(1450)),
            (600, None, Action::Restore, None),
        ];
        let mut follower = Follower::default();
        for (at, mask, action, due) in rows {
            follower.granted(at * MS, mask.as_ref().map(std::slice::from_ref));
            assert_eq!(follower.step(at * MS), action, "at {at} ms");
            assert_eq!(follower.due_ns(), due.map(|due| due * MS), "at {at} ms");
        }
    }

    #[test]
    fn what_another_has_written_is_kept_for_a_while() {
        let mut follower = Follower::default();
        follower.written_by_another(50 * MS);
        assert_eq!(follower.step(1049 * MS), Action::Keep);
        assert_eq!(follower.step(1050 * MS), Action::Restore);
        let mut follower = Follower::default();
        follower.written_by_another(50 * MS);
        follower.granted(60 * MS, Some(&[2]));
        assert_eq!(follower.step(60 * MS), Action::Write(vec![2]));
    }

    #[test]
    fn never_two_changes_within_the_interval() {
        let mut follower = Follower::default();
        let mut changed = None;
        for at in 0..3000u64 {
            // Grants that change at every sample, with pauses.
            let mask = if at % 1500 > 300 { 0 } else { 1 << (at % 7) };
            follower.granted(at * MS, Some(&[mask]));
            if follower.step(at * MS) != Action::Keep {
                assert!(changed.is_none_or(|last| at - last >= 100), "{at}");
                changed = Some(at);
            }
        }
        assert!(changed.is_some());
    }

    #[test]
    fn masks_have_a_comma_every_32_bits() {
        for (mask, text) in [
            (&[0u64][..], "0"),
            (&[2], "2"),
            (&[0xf0_0000_0001], "f0,00000001"),
            (&[0, 1], "1,00000000,00000000"),
            (&[5, 0, 0], "5"),
            (&[], ""),
        ] {
            if !mask.is_empty() {
                assert_eq!(mask_text(mask), text);
            }
        }
    }
}
