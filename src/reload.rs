// SPDX-License-Identifier: GPL-2.0-only
//! A configuration file that is read anew while the scheduler runs: what changes
//! at once, and which keys need a restart.
//!
//! Promises that a file with mistakes changes nothing. A key that did not change in the file
//! changes nothing either: a design that was switched by hand stays.
//! A key that waits for a restart is told at each reload, until the file has again what runs.

use crate::config::Config;
use crate::control::Control;
use crate::cpus::Plan;
use crate::kernel::Kernel;
use crate::scheduler;
use anyhow::{Context, Result};

/// Keys that hold at once; all others are read at the start alone.
const LIVE: [&str; 14] = [
    "design",
    "objective-us",
    "low-mark-us",
    "interval-us",
    "idle-delay-ms",
    "quantum-us",
    "grace-us",
    "slice-us",
    "latency-slice-us",
    "preemption-cooldown-us",
    "latency-batch-us",
    "starvation-ms",
    "max-net-cores",
    "idle-cores",
];

/// What a reload works on.
pub struct Reload<'a, 'obj> {
    pub kernel: &'a Kernel<'obj>,
    pub control: &'a mut Control,
    /// Of the start; its most cores are those of the configuration.
    pub plan: &'a mut Plan,
}

/// Keys that changed: those that hold from now on, and those that need a restart.
fn sort(changed: Vec<String>) -> (Vec<String>, Vec<String>) {
    changed
        .into_iter()
        .partition(|key| LIVE.contains(&key.as_str()))
}

/// Keys that wait for a restart.
pub fn waiting(started: &Config, now: &Config) -> Vec<String> {
    sort(started.changed(now)).1
}

/// Keys that hold from now on, and those that wait for a restart: what they are at
/// was read at the start, and not again since.
fn changes(started: &Config, old: &Config, new: &Config) -> (Vec<String>, Vec<String>) {
    (sort(old.changed(new)).0, waiting(started, new))
}

impl Reload<'_, '_> {
    /// Goes over from one configuration to another; what is to be said of it beside
    /// the one that was started with.
    ///
    /// # Errors
    /// The kernel's: some of the keys hold then, some do not.
    pub fn follow(self, started: &Config, old: &Config, new: &Config) -> Result<String> {
        let (live, restart) = changes(started, old, new);
        let options = &new.options;
        self.plan.bound(options.max_net_cores);
        let plan = &*self.plan;
        self.kernel
            .configure(|settings| scheduler::configure(settings, options, plan))?;
        if live.iter().any(|key| key == "design") {
            self.control
                .switch_design(self.kernel, options.design.clone())
                .context("the design is unchanged")?;
        }
        if old.rules.rules != new.rules.rules {
            self.kernel.follow_rules(&new.rules.rules)?;
        }
        self.control.follow(self.kernel, |facts| {
            facts.cores_max = plan.net_cores_max;
            facts.objective_ns = options.objective_us * 1_000;
            facts.rules = new.rules.clone();
        });
        Ok(report(old, new, &live, &restart))
    }
}

fn report(old: &Config, new: &Config, live: &[String], restart: &[String]) -> String {
    let mut changes = live.to_vec();
    if old.rules.rules != new.rules.rules {
        changes.push(format!("{} rules", new.rules.rules.len()));
    }
    if old.rules.applications != new.rules.applications {
        changes.push(format!("{} applications", new.rules.applications.len()));
    }
    let mut text = match changes.is_empty() {
        true => "nothing has changed".to_owned(),
        false => format!("from now on: {}", changes.join(", ")),
    };
    if !restart.is_empty() {
        text.push_str("\nafter a restart: ");
        text.push_str(&restart.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;
    use clap::CommandFactory;

    #[test]
    fn live_keys_are_flags() {
        let command = Options::command();
        for key in LIVE {
            let known = command
                .get_arguments()
                .any(|arg| arg.get_long() == Some(key));
            assert!(known, "{key}");
        }
    }

    #[test]
    fn what_waits_for_a_restart_is_told_until_it_runs() {
        let path = std::env::temp_dir().join(format!("flexnet-reload-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let words = ["scx_flexnet", "--config", path.to_str().unwrap()];
            crate::config::load(&words.map(str::to_owned)).unwrap()
        };
        let started = read("clients-max = 7\n");
        let second = read("clients-max = 8\nquantum-us = 99\n");
        let keys = |old, new| {
            let (live, restart) = changes(&started, old, new);
            (live.join(" "), restart.join(" "))
        };
        let reported = |live: &str, restart: &str| (live.to_owned(), restart.to_owned());
        assert_eq!(
            keys(&started, &second),
            reported("quantum-us", "clients-max")
        );
        assert_eq!(keys(&second, &second), reported("", "clients-max"));
        assert_eq!(keys(&second, &started), reported("quantum-us", ""));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_needs_a_restart_is_kept_apart() {
        let keys = ["steer", "quantum-us", "socket"].map(str::to_owned);
        let (live, restart) = sort(keys.to_vec());
        assert_eq!(
            (live.join(" "), restart.join(" ")),
            ("quantum-us".to_owned(), "steer socket".to_owned())
        );
    }
}
