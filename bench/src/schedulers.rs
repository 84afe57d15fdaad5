// SPDX-License-Identifier: GPL-2.0-only
//! The schedulers that are compared: how each is started, awaited and stopped.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The verifier may take long under emulation (35 s were seen).
const ATTACH_MAX: Duration = Duration::from_secs(120);
const STATE: &str = "/sys/kernel/sched_ext/state";

pub(crate) struct Scheduler {
    pub(crate) name: String,
    /// `None`: the kernel's own.
    pub(super) command: Option<Vec<String>>,
    /// The applications send through the library and ask for their class.
    pub(super) library: bool,
    pub(super) classes: bool,
    /// The latency applications are real-time tasks (`chrt -r 1`).
    pub(super) realtime: bool,
    /// Receive processing goes to this CPU mask for as long as it is attached.
    pub(super) steering: Option<(String, String)>,
}

impl Scheduler {
    pub(super) fn eevdf() -> Self {
        Self {
            name: "eevdf".into(),
            command: None,
            library: false,
            classes: false,
            realtime: false,
            steering: None,
        }
    }

    /// Ours, listening at `socket`; `full`: the applications use the library.
    pub(super) fn flexnet(name: &str, socket: &Path, full: bool, arguments: &[String]) -> Self {
        let mut command = vec![beside("scx_flexnet").display().to_string()];
        command.extend(["--socket".into(), socket.display().to_string()]);
        command.extend_from_slice(arguments);
        Self {
            name: name.into(),
            command: Some(command),
            library: full,
            classes: true,
            realtime: false,
            steering: None,
        }
    }

    /// Is it scx_flexnet, which can be asked how many cores it granted?
    pub(super) fn has_status(&self) -> bool {
        self.classes
    }

    /// Starts it and waits until it schedules. What it says goes to the end of the file
    /// `log`, or to standard error.
    pub(super) fn attach(&self, socket: &Path, log: Option<&Path>) -> Result<Attached> {
        let mut attached = Attached {
            process: None,
            restore: vec![],
        };
        if let Some((device, mask)) = &self.steering {
            attached.restore = steer(device, mask)?;
        }
        let Some(command) = &self.command else {
            return Ok(attached);
        };
        if state() == "enabled" {
            bail!("another sched_ext scheduler is loaded; stop it first");
        }
        let process = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_or_else(|| Ok(Stdio::inherit()), append)?)
            .spawn()
            .with_context(|| format!("cannot start {}", command[0]))?;
        let process = attached.process.insert(process);
        let since = Instant::now();
        loop {
            let there = !self.has_status() || flexnet::client::status(socket).is_ok();
            if state() == "enabled" && there {
                return Ok(attached);
            }
            if let Some(status) = process.try_wait()? {
                bail!("{} ended before it was attached: {status}", self.name);
            }
            if since.elapsed() > ATTACH_MAX {
                bail!(
                    "{} did not attach within {} s",
                    self.name,
                    ATTACH_MAX.as_secs()
                );
            }
            // The kernel has no event for it.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A scheduler that runs; dropped, it is killed.
pub(super) struct Attached {
    process: Option<Child>,
    restore: Vec<(PathBuf, String)>,
}

impl Attached {
    /// Stops it in good order and waits until the kernel's own is back.
    pub(super) fn detach(mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        if let Some(status) = process.try_wait()? {
            bail!("the scheduler ended under load: {status}");
        }
        if let Some(pid) = Pid::from_raw(process.id() as i32) {
            kill_process(pid, Signal::INT)?;
        }
        let status = process.wait()?;
        let since = Instant::now();
        while state() != "disabled" && since.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if status.success() {
            Ok(())
        } else {
            bail!("the scheduler ended with {status}")
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        for (file, old) in &self.restore {
            // Nothing more can be done on the way out.
            let _ = std::fs::write(file, old);
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Where schedulers log: beside the file of results, so that no line of theirs is in a table.
pub(super) fn log_beside(json: Option<&Path>) -> Option<PathBuf> {
    json.map(|file| file.with_file_name("scheduler.log"))
}

fn append(log: &Path) -> Result<Stdio> {
    let file = std::fs::File::options().create(true).append(true).open(log);
    Ok(file
        .with_context(|| format!("cannot write {}", log.display()))?
        .into())
}

fn state() -> String {
    std::fs::read_to_string(STATE)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Sets rps_cpus of every receive queue; what was there before.
fn steer(device: &str, mask: &str) -> Result<Vec<(PathBuf, String)>> {
    let queues = Path::new("/sys/class/net").join(device).join("queues");
    let mut old = Vec::new();
    for entry in std::fs::read_dir(&queues).with_context(|| format!("no device {device}"))? {
        let file = entry?.path().join("rps_cpus");
        if let Ok(before) = std::fs::read_to_string(&file) {
            std::fs::write(&file, mask)?;
            old.push((file, before.trim().to_owned()));
        }
    }
    Ok(old)
}

/// A program of this project: it lies where this one does.
pub(crate) fn beside(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.with_file_name(name)
}
