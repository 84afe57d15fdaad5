// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What the tests share: a server as a process of its own, and clients of other projects.

#![allow(dead_code, reason = "each test uses a part of it")]

use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// A server that is killed at the end of its test, or with its test's process.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it, and waits until it listens.
    pub fn start(command: &mut Command) -> Self {
        // SAFETY: one system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        Self {
            process,
            address: address.parse().unwrap(),
        }
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What a client prints that must succeed.
pub fn output(command: &mut Command) -> Vec<u8> {
    let done = command.output();
    let done = done.unwrap_or_else(|error| panic!("{command:?}: {error}: run ci/setup"));
    let (said, complaint) = (done.stdout, String::from_utf8_lossy(&done.stderr));
    let shown = String::from_utf8_lossy(&said[..said.len().min(1000)]);
    assert!(done.status.success(), "{command:?}: {shown}{complaint}");
    said
}

/// Bytes of which none are as those beside them.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// An empty folder for a test's files.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Ends the process when the test hangs; dropped, it ends.
pub fn watchdog() -> Sender<()> {
    let (done, watched) = channel();
    thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: a test hangs");
            std::process::abort();
        }
    });
    done
}
