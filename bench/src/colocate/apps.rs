// SPDX-License-Identifier: GPL-2.0-only
//! The experiment's processes: a latency service and its open-loop client, and
//! bulk senders and their sinks.

use crate::process::ready;
use anyhow::{Context, Result, bail};
use flexnet::abi::{FlowClass, SOCKET_PATH};
use flexnet::client::Client;
use flexnet::executor::Runtime;
use flexnet::transport::TcpFlow;
use flexnet_command::ClassName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    LatencyServer,
    LatencyClient,
    Sender,
    Sink,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    role: Role,
    /// Whom to connect to
    #[arg(long)]
    peer: Option<SocketAddr>,
    /// Bytes of a request and its reply, or of a write
    #[arg(long)]
    bytes: usize,
    /// Requests a second; 0: the next when the reply is there
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Send through the library
    #[arg(long)]
    library: bool,
    /// Ask the scheduler for this class
    #[arg(long, value_enum)]
    class: Option<ClassName>,
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

/// What the latency client leaves out at its start.
pub(super) const WARM_UP: Duration = Duration::from_millis(200);

/// What a process measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// µs from the intended send time to the reply's last byte.
    pub(crate) latencies_us: Vec<f64>,
    /// Requests that were due and not answered, or not even sent, at the end.
    pub(crate) unanswered: u64,
    pub(crate) unsent: u64,
    /// Bytes that arrived (sinks).
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(class) = options.class {
        flexnet::client::set_class_of_self(&options.socket, class.class())
            .context("no class from the scheduler")?;
    }
    let outcome = match options.role {
        Role::LatencyServer => latency_server(options)?,
        Role::LatencyClient => latency_client(options)?,
        Role::Sender => sender(options)?,
        Role::Sink => sink()?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn peer(options: &Options) -> Result<TcpStream> {
    let stream = TcpStream::connect(options.peer.context("--peer is needed")?)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How a process sends: by the library, or by the system call.
enum Sending {
    Flow(
        TcpFlow,
        #[allow(dead_code, reason = "lives as long as its flow")] Runtime,
    ),
    Plain(TcpStream),
}

impl Sending {
    fn new(options: &Options, stream: TcpStream, class: FlowClass) -> Result<Self> {
        if !options.library {
            return Ok(Self::Plain(stream));
        }
        let client = Client::connect_or_wait(&options.socket, "colocate")?;
        let runtime = Runtime::builder()
            .name("colocate")
            .flow_class(class)
            .link(client)
            .build()?;
        Ok(Self::Flow(TcpFlow::adopt(&runtime, stream)?, runtime))
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Flow(flow, _) => flow.send_blocking(bytes),
            Self::Plain(stream) => stream.write_all(bytes),
        }
    }

    fn stream(&self) -> &TcpStream {
        match self {
            Self::Flow(flow, _) => flow.stream(),
            Self::Plain(stream) => stream,
        }
    }
}

/// Did the other side end the connection, as it does at the end of a run?
fn is_end(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

fn latency_server(options: &Options) -> Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    ready(Some(listener.local_addr()?))?;
    let stream = listener.accept()?.0;
    stream.set_nodelay(true)?;
    let mut sending = Sending::new(options, stream, FlowClass::Latency)?;
    let mut message = vec![0; options.bytes];
    loop {
        let exchanged = sending
            .stream()
            .read_exact(&mut message)
            .and_then(|()| sending.send(&message));
        match exchanged {
            Ok(()) => {}
            Err(error) if is_end(&error) => return Ok(Outcome::default()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// One request after the other at fixed times, whether replies come or not.
struct PacedClient {
    stream: TcpStream,
    message: Vec<u8>,
    /// Bytes of the request under way that are sent, of the reply received.
    sent: usize,
    received: usize,
    start: Instant,
    interval: Duration,
    started: u64,
    answered: u64,
    closed: bool,
    /// Requests due before are not counted: first touches of code and memory.
    warm: Instant,
    outcome: Outcome,
}

impl PacedClient {
    /// When request `i` is intended to leave.
    fn due(&self, i: u64) -> Instant {
        self.start + Duration::from_nanos((self.interval.as_nanos() as u64).saturating_mul(i))
    }

    fn is_sending(&self) -> bool {
        self.sent < self.message.len()
    }

    fn may_start(&self, now: Instant) -> bool {
        !self.is_sending()
            && if self.closed {
                self.started == self.answered
            } else {
                now >= self.due(self.started)
            }
    }

    fn write(&mut self) -> std::io::Result<()> {
        while self.is_sending() {
            match self.stream.write(&self.message[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => self.received += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            while self.received >= self.message.len() {
                self.received -= self.message.len();
                let from = if self.closed {
                    self.start
                } else {
                    self.due(self.answered)
                };
                let latency = now.saturating_duration_since(from);
                if from >= self.warm {
                    self.outcome
                        .latencies_us
                        .push(latency.as_nanos() as f64 / 1e3);
                }
                self.answered += 1;
            }
        }
    }

    fn run(&mut self, length: Duration) -> Result<()> {
        let mut buffer = vec![0; self.message.len().max(64 * 1024)];
        let end = self.start + length;
        let mut now = Instant::now();
        while now < end {
            if self.may_start(now) {
                self.started += 1;
                self.sent = 0;
                if self.closed {
                    self.start = now;
                }
            }
            self.write()?;
            let next = if self.closed {
                end
            } else {
                self.due(self.started).min(end)
            };
            let wait = next.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: wait.subsec_nanos().into(),
            };
            let out = if self.is_sending() {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            let fd = self.stream.as_fd();
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN | out)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => bail!("poll: {error}"),
            }
            self.read(&mut buffer)?;
            now = Instant::now();
        }
        Ok(())
    }
}

fn latency_client(options: &Options) -> Result<Outcome> {
    let stream = peer(options)?;
    stream.set_nonblocking(true)?;
    let closed = options.rate <= 0.0;
    // The kernel ends a wait up to 50 µs late unless the thread is a real-time one. The times at
    // which requests leave shall not depend on the scheduler.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let length = ready(None)? + WARM_UP;
    let start = Instant::now();
    let mut client = PacedClient {
        stream,
        message: vec![0x5a; options.bytes],
        sent: options.bytes,
        received: 0,
        start,
        warm: start + WARM_UP,
        interval: if closed {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(1.0 / options.rate)
        },
        started: 0,
        answered: 0,
        closed,
        outcome: Outcome::default(),
    };
    client.run(length)?;
    let due = if closed {
        client.started
    } else {
        (length.as_secs_f64() * options.rate) as u64
    };
    client.outcome.unsent = due.saturating_sub(client.started);
    client.outcome.unanswered = client.started.saturating_sub(client.answered);
    client.outcome.seconds = (length - WARM_UP).as_secs_f64();
    Ok(client.outcome)
}

fn sender(options: &Options) -> Result<Outcome> {
    let stream = peer(options)?;
    let mut sending = Sending::new(options, stream, FlowClass::Throughput)?;
    let buffer = vec![0xa5; options.bytes];
    let length = ready(None)?;
    let end = Instant::now() + length;
    while Instant::now() < end {
        match sending.send(&buffer) {
            Ok(()) => {}
            Err(error) if is_end(&error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Outcome::default())
}

/// Counts what arrives within its time, then hangs up.
fn sink() -> Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let length = ready(Some(listener.local_addr()?))?;
    let mut stream = listener.accept()?.0;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut buffer = vec![0; 256 * 1024];
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < length {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes += count as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if is_end(&error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Outcome {
        bytes,
        seconds: start.elapsed().as_secs_f64(),
        ..Outcome::default()
    })
}
