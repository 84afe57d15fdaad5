// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet trace`: some seconds of what cores and executors do, as a file that
//! Perfetto's viewer opens.
//!
//!   chrome  from events to tracks, in the JSON trace format

mod chrome;

use crate::status::fetch;
use anyhow::{Context, Result, anyhow, bail};
use flexnet::abi::{SOCKET_PATH, Status, TraceEvent, name_text};
use flexnet::client::Tracing;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// Bytes the pipe should hold, so that a busy reader loses nothing.
const PIPE_BYTES: libc::c_int = 1 << 20;

const ONLY_ROOT: &str = "only root may trace: try with sudo";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long to trace (s, 0.01 to 60)
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// File into which the trace is written
    #[arg(long, default_value = "flexnet-trace.json")]
    output: PathBuf,
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.01..=60.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("must be 0.01 to 60 s".to_owned()),
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let status = fetch(&options.socket)?;
    // Before the file: a user who may not trace would have an empty one.
    // SAFETY: a plain call.
    if unsafe { libc::geteuid() } != 0 {
        bail!(ONLY_ROOT);
    }
    // Before the trace: a file that cannot be written wastes nobody's time.
    let file = File::create(&options.output)
        .with_context(|| format!("cannot write {}", options.output.display()))?;
    let (events, applications, lost) = record(options, &status)?;
    let trace = chrome::trace(&events, &names(&status), lost);
    let mut writer = BufWriter::new(file);
    serde_json::to_writer(&mut writer, &trace)
        .map_err(std::io::Error::from)
        .and_then(|()| writer.flush())
        .with_context(|| format!("cannot write {}", options.output.display()))?;
    println!(
        "{} events of {} s in {}, {lost} lost; {applications} of {} applications with their own",
        events.len(),
        options.seconds,
        options.output.display(),
        names(&status).len(),
    );
    Ok(())
}

/// The applications' names by their processes' ids.
fn names(status: &Status) -> BTreeMap<u32, String> {
    let clients = status.client.iter().take(status.clients as usize);
    clients
        .map(|client| (client.pid, name_text(&client.name)))
        .collect()
}

/// What of the library a process runs: linked in, or as a library of its name.
fn files(pid: u32) -> Vec<File> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let libraries: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| Some(&line[line.find('/')?..]))
        .filter(|path| {
            path.rsplit('/')
                .next()
                .unwrap_or_default()
                .starts_with("libflexnet")
        })
        .collect();
    let libraries = libraries
        .into_iter()
        .map(|path| format!("/proc/{pid}/root{path}"));
    // One that has ended, or whose library was replaced, is left out.
    std::iter::once(format!("/proc/{pid}/exe"))
        .chain(libraries)
        .filter_map(|path| File::open(path).ok())
        .collect()
}

/// Attaches to the probes of the applications that are there; of how many.
fn attach(tracing: &Tracing, status: &Status) -> Result<u32> {
    let (mut applications, mut before) = (0, 0);
    for &pid in names(status).keys() {
        let mut after = before;
        for file in files(pid) {
            after = tracing.attach(pid, file.as_fd())?;
        }
        applications += u32::from(after > before);
        before = after;
    }
    Ok(applications)
}

/// The events, of how many applications their own are in it, and how many were lost.
fn record(options: &Options, status: &Status) -> Result<(Vec<TraceEvent>, u32, u64)> {
    let (mut reader, writer) = std::io::pipe().context("no pipe")?;
    // SAFETY: a plain call on an open descriptor; a smaller pipe will do, too.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
    let tracing = match Tracing::start(&options.socket, OwnedFd::from(writer)) {
        Ok(tracing) => tracing,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!(ONLY_ROOT)
        }
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            bail!("another trace is running: try again later")
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot trace the scheduler at {}", options.socket.display())
            });
        }
    };
    let collector = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    let applications = attach(&tracing, status).context("the scheduler is gone")?;
    std::thread::sleep(Duration::from_secs_f64(options.seconds));
    let lost = tracing.stop().context("the scheduler is gone")?;
    let bytes = collector
        .join()
        .map_err(|_| anyhow!("the trace's reader failed"))??;
    let (events, _) = bytes.as_chunks();
    Ok((
        events.iter().map(TraceEvent::from_bytes).collect(),
        applications,
        lost,
    ))
}
