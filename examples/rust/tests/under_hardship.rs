// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The Redis service with 1,000 connections, of which more than half misbehave.
//!
//! The service runs in this process, where its flows, threads and descriptors can be counted. So
//! this file has one test.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

mod common;

use common::{pattern, watchdog};
use flexnet::executor::Runtime;
use flexnet_examples::redis;
use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::read_dir;
use std::io::{Read, Write, stderr};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 1000;
const THREADS: usize = 8;
const ROUNDS: usize = 10;
/// No reply by then is a failure.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Commands that a good client sends at once.
const PIPELINED: usize = 20;
/// What slow readers ask for, and how often: more than sockets hold.
const LARGE_BYTES: usize = 64 * 1024;
const LARGE_GETS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Sends and reads all the time.
    Good,
    /// Resets in the middle of a command.
    Resets,
    /// Resets while replies are on their way.
    ResetsReplies,
    /// Closes without reading its replies.
    Closes,
    /// Ends its half in the middle of a command.
    Ends,
    /// Reads nothing until the good clients are done, then all.
    ReadsLate,
    /// Reads nothing, and resets at the end.
    ReadsNever,
}

impl Kind {
    fn of(number: usize) -> Self {
        match number % 20 {
            0..8 => Self::Good,
            8..12 => Self::Resets,
            12..14 => Self::ResetsReplies,
            14..16 => Self::Closes,
            16..18 => Self::Ends,
            18 => Self::ReadsLate,
            _ => Self::ReadsNever,
        }
    }
}

struct Client {
    number: usize,
    kind: Kind,
    stream: TcpStream,
}

impl Client {
    /// Connects, and waits until it is served.
    fn new(address: SocketAddr, number: usize) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(READ_LIMIT)).unwrap();
        let kind = Kind::of(number);
        let mut client = Self {
            number,
            kind,
            stream,
        };
        client.send(b"PING\r\n");
        client.expect(b"+PONG\r\n");
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next replies are these, byte by byte.
    fn expect(&mut self, replies: &[u8]) {
        let mut replied = vec![0; replies.len()];
        self.stream.read_exact(&mut replied).unwrap();
        assert!(
            replied == replies,
            "client {} has other replies",
            self.number
        );
    }

    /// The peer reads ECONNRESET.
    fn reset(self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }

    /// Commands of a round, and their replies.
    fn round(&self, round: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut commands, mut replies) = (Vec::new(), Vec::new());
        for at in 0..PIPELINED {
            let key = format!("key-{}-{at}", self.number);
            let value = format!("{round}-{}\r\n", self.number).repeat(1 + at * 10);
            let (keys, values) = (key.len(), value.len());
            write!(
                commands,
                "*3\r\n$3\r\nSET\r\n${keys}\r\n{key}\r\n${values}\r\n{value}\r\n"
            )
            .unwrap();
            write!(
                commands,
                "*2\r\n$3\r\nGET\r\n${keys}\r\n{key}\r\nDEL {key} {key}\r\n"
            )
            .unwrap();
            write!(replies, "+OK\r\n${values}\r\n{value}\r\n:1\r\n").unwrap();
        }
        (commands, replies)
    }

    /// Asks for more than it reads for now, and for a mark at the end.
    fn ask_for_much(&mut self) {
        let mark = format!("SET late-{} 1\r\n", self.number);
        self.send(&"GET large\r\n".repeat(LARGE_GETS).into_bytes());
        self.send(mark.as_bytes());
    }

    /// What a client does that misbehaves early. None: it is gone.
    fn misbehave(mut self) -> Option<Self> {
        let half = b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$100\r\nonly a part";
        match self.kind {
            Kind::Good => return Some(self),
            Kind::Resets => {
                self.send(half);
                self.reset();
            }
            Kind::ResetsReplies => {
                self.ask_for_much();
                self.reset();
            }
            Kind::Closes => self.send(&b"GET large\r\n".repeat(4)),
            Kind::Ends => {
                self.send(half);
                self.stream.shutdown(Shutdown::Write).unwrap();
                let mut nothing = Vec::new();
                self.stream.read_to_end(&mut nothing).unwrap();
                assert_eq!(nothing, b"");
            }
            Kind::ReadsLate | Kind::ReadsNever => {
                self.ask_for_much();
                return Some(self);
            }
        }
        None
    }
}

/// One thread's clients. Those that misbehave early do so between the rounds of the good ones.
fn converse(address: SocketAddr, thread: usize, steps: &Barrier) {
    let numbers = (thread..CONNECTIONS).step_by(THREADS);
    let mut clients: Vec<_> = numbers.map(|number| Client::new(address, number)).collect();
    steps.wait(); // All are connected.
    steps.wait(); // All were counted.
    for round in 0..ROUNDS {
        let good = |client: &&mut Client| client.kind == Kind::Good;
        for client in clients.iter_mut().filter(good) {
            client.send(&client.round(round).0);
        }
        let turn = |client: &Client| client.number / 20 % ROUNDS == round;
        let (now, later): (Vec<_>, Vec<_>) = clients.into_iter().partition(turn);
        clients = later;
        clients.extend(now.into_iter().filter_map(Client::misbehave));
        for client in clients.iter_mut().filter(good) {
            client.expect(&client.round(round).1);
        }
    }
    steps.wait(); // The good ones are done.
    steps.wait(); // The slow ones were seen to wait.
    for mut client in clients {
        match client.kind {
            Kind::ReadsNever => client.reset(),
            Kind::ReadsLate => {
                let large = [large_reply(), b"\r\n".to_vec()].concat();
                (0..LARGE_GETS).for_each(|_| client.expect(&large));
                client.expect(b"+OK\r\n");
            }
            _ => {}
        }
    }
}

fn large_reply() -> Vec<u8> {
    let mut reply = format!("${LARGE_BYTES}\r\n").into_bytes();
    reply.extend(pattern(LARGE_BYTES));
    reply
}

/// Flows, threads and descriptors of the service, and those of this process beside it.
#[derive(Debug, PartialEq)]
struct Counts {
    flows: usize,
    threads: usize,
    descriptors: usize,
}

impl Counts {
    fn now(runtime: &Runtime) -> Self {
        let entries = |folder| read_dir(folder).unwrap().count();
        Self {
            flows: runtime.flows(),
            threads: entries("/proc/self/task"),
            descriptors: entries("/proc/self/fd"),
        }
    }
}

/// Descriptors for both ends of all connections.
fn allow_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wanted = (2 * CONNECTIONS + 200) as u64;
    assert!(
        maximum.is_none_or(|maximum| maximum >= wanted),
        "ulimit -Hn is below {wanted}"
    );
    let current = Some(wanted);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// A thread that panics would leave the others at the barrier.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        writeln!(stderr(), "{panic}").ok(); // eprintln! would be captured, and lost.
        std::process::abort();
    }));
}

#[test]
fn good_clients_get_their_bytes_and_nothing_is_left_of_the_others() {
    let _watchdog = watchdog();
    abort_on_panic();
    allow_descriptors();
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Its connections have it, too: whatever the machine allows, their sockets hold little.
    set_socket_send_buffer_size(&listener, LARGE_BYTES).unwrap();
    let address = listener.local_addr().unwrap();
    let service = redis::serve(&runtime, listener).unwrap();

    let mut observer = Client::new(address, 0);
    let set = [
        b"*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n".to_vec(),
        large_reply(),
        b"\r\n".to_vec(),
    ];
    observer.send(&set.concat());
    observer.expect(b"+OK\r\n");
    let before = Counts::now(&runtime);

    let steps = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let steps = &steps;
            scope.spawn(move || converse(address, thread, steps));
        }
        steps.wait();
        assert_eq!(runtime.flows(), before.flows + CONNECTIONS);
        steps.wait();
        steps.wait();
        // The service holds no replies for clients that do not read: it has not come to the mark.
        for number in (0..CONNECTIONS).filter(|number| Kind::of(*number) == Kind::ReadsLate) {
            observer.send(format!("GET late-{number}\r\n").as_bytes());
            observer.expect(b"$-1\r\n");
        }
        steps.wait();
    });

    // Nothing tells when a server has noticed a reset.
    let limit = Instant::now() + Duration::from_secs(20);
    while Counts::now(&runtime) != before && Instant::now() < limit {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(Counts::now(&runtime), before);
    observer.send(b"GET late-18\r\nGET half\r\nPING\r\n");
    observer.expect(b"$1\r\n1\r\n$-1\r\n+PONG\r\n");
    drop(observer);
    service.abort();
    assert_eq!(runtime.shutdown(), 0);
}
