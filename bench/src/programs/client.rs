// SPDX-License-Identifier: GPL-2.0-only
//! The client of redis, memcached and nginx: open-loop at a fixed rate, latency
//! from the time a request was due, or closed-loop, for throughput. Over several
//! connections in turn. It is never preloaded: what it sees is what a client
//! elsewhere would.

use super::protocol::{Exchange, Service};
use crate::process::ready;
use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use flexnet_command::ClassName;
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Requests due before are not counted: first touches of code and memory.
pub(super) const WARM_UP: Duration = Duration::from_millis(200);

/// Requests under way at the end are awaited this long, and those that are not
/// answered then are counted with the time they have waited: leaving them out
/// would favour a program that stands still. Bulk senders run on meanwhile.
const DRAIN: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(crate) struct Options {
    service: Service,
    #[arg(long)]
    peer: SocketAddr,
    /// Requests a second; 0: on each connection the next when the reply is there
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Ask the scheduler for this class
    #[arg(long, value_enum)]
    class: Option<ClassName>,
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

/// What the client measured; times in µs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(super) requests: u64,
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    /// Not answered within a quarter of a second after the end.
    pub(super) unanswered: u64,
}

impl Outcome {
    /// Requests with those of the warm-up, which cost as well and are not counted.
    pub(super) fn with_warm_up(&self) -> f64 {
        self.requests as f64 * (1.0 + WARM_UP.as_secs_f64() / self.seconds)
    }
}

/// One connection: requests to send, those under way, and what has come.
struct Connection {
    stream: TcpStream,
    out: VecDeque<u8>,
    /// When each request under way was due.
    due: VecDeque<Instant>,
    inbox: Vec<u8>,
    /// It is also awaited that it takes more.
    awaits_room: bool,
}

/// Connections told of by one sample.
const EVENTS: usize = 64;

impl Connection {
    fn new(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            out: VecDeque::new(),
            due: VecDeque::new(),
            inbox: Vec::new(),
            awaits_room: false,
        })
    }

    fn write(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(self.out.as_slices().0) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("the program takes no requests"),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.stream.read(buffer) {
            Ok(0) => bail!("the program ended the connection"),
            Ok(count) => self.inbox.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("the program gives no replies"),
        }
        Ok(())
    }
}

struct Run {
    exchange: Exchange,
    connections: Vec<Connection>,
    /// Has each connection, by its index.
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    start: Instant,
    end: Instant,
    /// `None`: closed loop.
    interval: Option<Duration>,
    started: u64,
    latencies_ns: Histogram<u64>,
}

impl Run {
    /// When request `i` is due.
    fn due(&self, i: u64) -> Instant {
        let interval = self.interval.unwrap_or_default().as_nanos() as u64;
        self.start + Duration::from_nanos(interval.saturating_mul(i))
    }

    fn begin(&mut self, connection: usize, due: Instant) {
        let connection = &mut self.connections[connection];
        connection.out.extend(self.exchange.request);
        connection.due.push_back(due);
        self.started += 1;
    }

    /// Sends what is due; a closed loop, one on each connection with none.
    fn send(&mut self, now: Instant) -> Result<()> {
        if self.interval.is_some() {
            while self.due(self.started) <= now && self.due(self.started) < self.end {
                let connection = self.started as usize % self.connections.len();
                self.begin(connection, self.due(self.started));
            }
        } else {
            for connection in 0..self.connections.len() {
                if self.connections[connection].due.is_empty() {
                    self.begin(connection, now);
                }
            }
        }
        self.connections.iter_mut().try_for_each(Connection::write)
    }

    fn receive(&mut self, connection: usize, buffer: &mut [u8]) -> Result<()> {
        let connection = &mut self.connections[connection];
        connection.read(buffer)?;
        let now = Instant::now();
        for _ in 0..self.exchange.take(&mut connection.inbox)? {
            let due = connection
                .due
                .pop_front()
                .context("a reply to no request")?;
            if due >= self.start + WARM_UP {
                let latency = now.saturating_duration_since(due).as_nanos() as u64;
                self.latencies_ns.record(latency)?;
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let now = Instant::now();
            if now >= self.end {
                break;
            }
            self.send(now)?;
            let next = match self.interval {
                Some(_) => self.due(self.started).min(self.end),
                None => self.end,
            };
            self.wait(next, &mut buffer)?;
        }
        if self.interval.is_some() {
            // What was due and this client itself was late for, too.
            self.send(self.end)?;
            self.drain(&mut buffer)?;
        }
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.connections.iter().map(|c| c.due.len()).sum()
    }

    fn drain(&mut self, buffer: &mut [u8]) -> Result<()> {
        while self.waiting() > 0 && Instant::now() < self.end + DRAIN {
            self.connections
                .iter_mut()
                .try_for_each(Connection::write)?;
            self.wait(self.end + DRAIN, buffer)?;
        }
        let now = Instant::now();
        let counted = self.start + WARM_UP;
        let left = self.connections.iter().flat_map(|c| &c.due);
        for due in left.filter(|due| **due >= counted) {
            let waited = now.saturating_duration_since(*due).as_nanos() as u64;
            self.latencies_ns.record(waited)?;
        }
        Ok(())
    }

    /// Until `next` or until a connection can be read or written, and reads.
    fn wait(&mut self, next: Instant, buffer: &mut [u8]) -> Result<()> {
        for at in 0..self.connections.len() {
            self.await_room(at)?;
        }
        let wait = next.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        };
        // epoll's own timeout may be in whole milliseconds: a request would be late by
        // one, and come together with others.
        let mut epoll = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut epoll, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => bail!("poll: {error}"),
        }
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let space = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, space, Some(&Timespec::default())) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("epoll_wait: {error}"),
        }
        for event in &events {
            let flags = event.flags;
            if !flags.difference(epoll::EventFlags::OUT).is_empty() {
                self.receive(event.data.u64() as usize, buffer)?;
            }
        }
        self.events = events;
        Ok(())
    }

    /// Has epoll tell when a connection with something left to send takes more.
    fn await_room(&mut self, at: usize) -> Result<()> {
        let connection = &mut self.connections[at];
        let awaits = !connection.out.is_empty();
        if awaits != connection.awaits_room {
            connection.awaits_room = awaits;
            let out = match awaits {
                true => epoll::EventFlags::OUT,
                false => epoll::EventFlags::empty(),
            };
            let data = epoll::EventData::new_u64(at as u64);
            epoll::modify(
                &self.epoll,
                &connection.stream,
                data,
                epoll::EventFlags::IN | out,
            )?;
        }
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        let us = |quantile: f64| self.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
        Outcome {
            requests: self.latencies_ns.len(),
            seconds: (self.end - self.start - WARM_UP).as_secs_f64(),
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: us(1.0),
            unanswered: match self.interval {
                Some(_) => self.waiting() as u64,
                None => 0,
            },
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(class) = options.class {
        flexnet::client::set_class_of_self(&options.socket, class.class())
            .context("no class from the scheduler")?;
    }
    let exchange = options.service.learn(options.peer)?;
    let connections = (0..options.connections)
        .map(|_| Connection::new(options.peer))
        .collect::<Result<Vec<_>>>()?;
    let outcome = measure(exchange, connections, options.rate, || ready(None))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// `ready`: waits to be told how long.
fn measure(
    exchange: Exchange,
    connections: Vec<Connection>,
    rate: f64,
    ready: impl FnOnce() -> Result<Duration>,
) -> Result<Outcome> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (at, connection) in connections.iter().enumerate() {
        let data = epoll::EventData::new_u64(at as u64);
        epoll::add(&epoll, &connection.stream, data, epoll::EventFlags::IN)?;
    }
    let length = ready()? + WARM_UP;
    let start = Instant::now();
    let mut run = Run {
        exchange,
        connections,
        epoll,
        events: Vec::with_capacity(EVENTS),
        start,
        end: start + length,
        interval: (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate)),
        started: 0,
        latencies_ns: Histogram::new(3)?,
    };
    run.run()?;
    Ok(run.outcome())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// memcached for `answers` requests; then it stands still, connections open.
    fn server(answers: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut left = answers;
            let mut streams = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let mut buffer = [0; 4096];
                while left > 0 {
                    let count = stream.read(&mut buffer).unwrap_or(0);
                    if count == 0 {
                        break;
                    }
                    if buffer.starts_with(b"set") {
                        stream.write_all(b"STORED\r\n").unwrap();
                        continue;
                    }
                    for _ in 0..(count / b"get key\r\n".len()).min(left) {
                        left -= 1;
                        let value = Service::Memcached.value();
                        let reply = [b"VALUE key 0 1024\r\n", &value[..], b"\r\nEND\r\n"].concat();
                        stream.write_all(&reply).unwrap();
                    }
                }
                streams.push(stream);
            }
        });
        address
    }

    #[test]
    fn who_stands_still_is_charged_for_all_that_was_due() {
        let address = server(4);
        let exchange = Service::Memcached.learn(address).unwrap();
        let connections = vec![Connection::new(address).unwrap()];
        let length = Duration::from_millis(300);
        let outcome = measure(exchange, connections, 100.0, || Ok(length)).unwrap();
        // 50 were due, 3 answered; 20 fall into the warm-up.
        assert_eq!(outcome.requests, 30);
        assert_eq!(outcome.unanswered, 47);
        // The first that counts waited to the end and for the drain.
        assert!(outcome.max_us >= (length + DRAIN).as_micros() as f64 * 0.99);
    }

    #[test]
    fn a_closed_loop_asks_when_the_answer_is_there() {
        let address = server(usize::MAX);
        let exchange = Service::Memcached.learn(address).unwrap();
        let connections = vec![Connection::new(address).unwrap()];
        let outcome =
            measure(exchange, connections, 0.0, || Ok(Duration::from_millis(50))).unwrap();
        assert!(outcome.requests > 0);
        assert_eq!(outcome.unanswered, 0);
    }
}
