// SPDX-License-Identifier: GPL-2.0-only
//! How much of the processor others took: of this machine, or, in a VM that is
//! told where to ask, of the machine the VM runs on.

use std::fs::OpenOptions;
use std::io::{Read, Write};

/// Names a device: "stat\n" written to it is answered by the first line of the
/// outer machine's /proc/stat (ci/vm sets it).
const OUTER: &str = "FLEXNET_HOST_STAT";

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    total: u64,
    stolen: u64,
}

fn parse(line: &str) -> Option<Times> {
    let fields: Vec<u64> = line
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|f| f.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guest times are in user.
    Some(Times {
        total: fields.iter().take(8).sum(),
        stolen: *fields.get(7)?,
    })
}

fn ask_outer(device: &str) -> Option<Times> {
    let mut port = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .ok()?;
    port.write_all(b"stat\n").ok()?;
    let mut line = Vec::new();
    let mut byte = [0];
    while port.read(&mut byte).ok()? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    parse(std::str::from_utf8(&line).ok()?)
}

fn now() -> Option<Times> {
    if let Ok(device) = std::env::var(OUTER)
        && let Some(times) = ask_outer(&device)
    {
        return Some(times);
    }
    parse(std::fs::read_to_string("/proc/stat").ok()?.lines().next()?)
}

pub(super) struct Steal(Option<Times>);

impl Steal {
    pub(super) fn start() -> Self {
        Self(now())
    }

    /// The share of all processor time that was stolen since, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        let (Some(before), Some(after)) = (self.0, now()) else {
            return 0.0;
        };
        let total = after.total.saturating_sub(before.total);
        after.stolen.saturating_sub(before.stolen) as f64 / total.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn guest_time_is_not_counted_twice() {
        let times = super::parse("cpu  100 0 50 800 10 0 5 35 60 0").unwrap();
        assert_eq!((times.total, times.stolen), (1000, 35));
        assert!(super::parse("cpu0 1 2 3 4 5 6 7 8").is_none());
    }
}
