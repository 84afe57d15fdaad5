// SPDX-License-Identifier: GPL-2.0-only
//! A trace: BPF's events from its ring into a pipe, on a thread of its own, and
//! what is attached to the library's probes in applications.
//!
//! Promises that the scheduler does not wait for the reader of the pipe: while the pipe is full the
//! ring fills, and BPF loses events and counts them. Leaves to others: which users may trace
//! (control/), and what the events are (bpf/trace.bpf.h).

use crate::kernel::Kernel;
use crate::stats::monotonic_ns;
use flexnet::abi::{CpuState, TRACE_NO_EXECUTOR, TraceEvent, TraceKind, TraceReply};
use libbpf_rs::{Link, MapHandle, RingBufferBuilder};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two samples of the ring, which holds some 20,000 events.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes that wait for the pipe at most before the ring is left alone.
const BACKLOG: usize = 4 << 20;
/// How long the end of a trace may take to go into the pipe.
const END_LIMIT: Duration = Duration::from_secs(1);
/// The probes of the library.
const PROBES: [TraceKind; 4] = [
    TraceKind::Submit,
    TraceKind::Resume,
    TraceKind::Yield,
    TraceKind::Finish,
];

/// A trace that is taken.
pub struct Trace {
    probes: Vec<Link>,
    stop: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
}

impl Trace {
    /// Starts one, into a pipe.
    ///
    /// # Errors
    /// For want of a thread or a descriptor.
    pub fn start(kernel: &Kernel<'_>, pipe: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let ring = kernel.trace_events().map_err(|_| Errno::MFILE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let first = standing(kernel);
        let pump = std::thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || {
                if let Err(error) = pump(&ring, &pipe, first, &stopped) {
                    log::warn!("the trace ends early: {error:#}");
                }
            })
            .map_err(|_| Errno::AGAIN)?;
        kernel.set_tracing(true);
        log::info!("a trace begins");
        Ok(Self {
            probes: Vec::new(),
            stop,
            pump: Some(pump),
        })
    }

    /// Traces what a process tells of itself, by the probes in a file that it
    /// runs, if it has any.
    pub fn attach(&mut self, kernel: &Kernel<'_>, pid: i32, file: &OwnedFd) {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        for probe in PROBES {
            match kernel.attach_probe(probe, pid, &path) {
                Ok(link) => self.probes.push(link),
                Err(error) => log::debug!("process {pid} lacks a probe: {error:#}"),
            }
        }
    }

    /// What it has come to.
    pub fn reply(&self, kernel: &Kernel<'_>) -> TraceReply {
        TraceReply {
            probes: self.probes.len() as u32,
            lost: kernel.trace_lost(),
            ..TraceReply::default()
        }
    }

    /// Ends it; what is in the ring still goes into the pipe.
    pub fn stop(mut self, kernel: &Kernel<'_>) -> TraceReply {
        kernel.set_tracing(false);
        self.probes.clear();
        self.stop.store(true, Ordering::Release);
        if let Some(pump) = self.pump.take() {
            // It has said what went wrong.
            let _ = pump.join();
        }
        self.reply(kernel)
    }
}

/// What holds when a trace starts, as events.
fn standing(kernel: &Kernel<'_>) -> Vec<u8> {
    let at_ns = monotonic_ns();
    let mut events = Vec::new();
    for cpu in 0..kernel.cpus() {
        use CpuState::{Executor, GrantedIdle, Lent};
        if matches!(kernel.cpu(cpu).0, Executor | GrantedIdle | Lent) {
            events.push(TraceEvent {
                at_ns,
                kind: TraceKind::Grant as u16,
                cpu: cpu as i16,
                executor: TRACE_NO_EXECUTOR,
                ..TraceEvent::default()
            });
        }
    }
    // Their threads are known when they are next on a CPU.
    for (executor, cpu) in kernel.running_executors() {
        events.push(TraceEvent {
            at_ns,
            kind: TraceKind::OnCpu as u16,
            cpu: cpu as i16,
            executor,
            ..TraceEvent::default()
        });
    }
    events.iter().flat_map(TraceEvent::as_bytes).collect()
}

/// From the ring into the pipe until it is asked to stop and the ring is empty, or
/// nobody reads any longer.
fn pump(ring: &MapHandle, pipe: &OwnedFd, first: Vec<u8>, stop: &AtomicBool) -> anyhow::Result<()> {
    let waiting = Rc::new(RefCell::new(first));
    let inbox = waiting.clone();
    let mut builder = RingBufferBuilder::new();
    builder.add(ring, move |bytes| {
        inbox.borrow_mut().extend_from_slice(bytes);
        0
    })?;
    let ring = builder.build()?;
    let mut end = Instant::now() + END_LIMIT;
    loop {
        let stopping = stop.load(Ordering::Acquire);
        if waiting.borrow().len() < BACKLOG {
            ring.consume()?;
        }
        let mut bytes = waiting.borrow_mut();
        if !flush(pipe, &mut bytes)? {
            return Ok(());
        }
        match stopping {
            true if bytes.is_empty() || Instant::now() > end => return Ok(()),
            true => wait(pipe)?,
            false => {
                end = Instant::now() + END_LIMIT;
                drop(bytes);
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// Writes what the pipe takes; false: nobody reads it any longer.
fn flush(pipe: &OwnedFd, bytes: &mut Vec<u8>) -> Result<bool, Errno> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(pipe, &bytes[written..]) {
            Ok(count) => written += count,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
    bytes.drain(..written);
    Ok(true)
}

fn wait(pipe: &OwnedFd) -> Result<(), Errno> {
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK.as_nanos() as _,
    };
    let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::OUT)];
    match poll(&mut fds, Some(&pause)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_full_pipe_keeps_the_rest_and_a_closed_one_ends_it() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut bytes = vec![7; 1 << 20];
        assert_eq!(flush(&writer, &mut bytes), Ok(true));
        let taken = (1 << 20) - bytes.len();
        assert!(taken > 0 && !bytes.is_empty());
        let mut read = vec![0; taken];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(flush(&writer, &mut bytes), Ok(true));
        drop(reader);
        // A write to a pipe without a reader is EPIPE: Rust ignores SIGPIPE.
        assert_eq!(flush(&writer, &mut vec![1]), Ok(false));
    }
}
