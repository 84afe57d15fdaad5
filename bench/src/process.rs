// SPDX-License-Identifier: GPL-2.0-only
//! A process of an experiment: it says "ready ADDRESS" on its standard output,
//! waits for "go SECONDS" on its standard input, runs that long, prints one line
//! of JSON and ends.

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// One that runs; killed when dropped.
pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(super) address: String,
}

impl Process {
    /// Starts it and waits until it is ready.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without pipes");
        };
        let mut process = Self {
            child,
            input,
            output: BufReader::new(output),
            address: String::new(),
        };
        let line = process.line()?;
        process.address = line
            .strip_prefix("ready ")
            .context("it is not ready")?
            .to_owned();
        Ok(process)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("a process of the experiment ended: {}", self.child.wait()?);
        }
        Ok(line.trim().to_owned())
    }

    pub(super) fn go(&mut self, length: Duration) -> Result<()> {
        writeln!(self.input, "go {}", length.as_secs_f64())?;
        Ok(())
    }

    /// What it measured, once it has ended.
    pub(super) fn outcome<T: DeserializeOwned>(mut self) -> Result<T> {
        let line = self.line()?;
        let outcome = serde_json::from_str(&line).context("an outcome that cannot be read")?;
        self.child.wait()?;
        Ok(outcome)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process's own side: says that it is ready, and is told how long to run.
pub(super) fn ready(address: Option<SocketAddr>) -> Result<Duration> {
    match address {
        Some(address) => println!("ready {address}"),
        None => println!("ready -"),
    }
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let seconds: f64 = line
        .strip_prefix("go ")
        .and_then(|seconds| seconds.trim().parse().ok())
        .context("not asked to go")?;
    Ok(Duration::from_secs_f64(seconds))
}
