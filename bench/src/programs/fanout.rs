// SPDX-License-Identifier: GPL-2.0-only
//! Publishing over redis: one publisher, which asks again when redis has answered,
//! and many subscribers of one channel. redis makes a send of its own to each of
//! them, so it is busy sending and not waiting. Counted are messages that reached a
//! subscriber, each compared byte for byte.

use super::client::{Outcome, WARM_UP};
use super::protocol::Service;
use crate::process::ready;
use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use flexnet_command::ClassName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for redis: it must not hang the experiment.
const LIMIT: Duration = Duration::from_secs(30);
const SUBSCRIBE: &[u8] = b"*2\r\n$9\r\nSUBSCRIBE\r\n$2\r\nch\r\n";
const SUBSCRIBED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n";

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    peer: SocketAddr,
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    subscribers: u32,
    /// Ask the scheduler for this class
    #[arg(long, value_enum)]
    class: Option<ClassName>,
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

/// As redis is told, and as a subscriber gets it; 100 B as with GET.
fn message() -> (Vec<u8>, Vec<u8>) {
    let value = Service::Redis.value();
    let with = |head: &str| [head.as_bytes(), &value, b"\r\n"].concat();
    let length = value.len();
    (
        with(&format!("*3\r\n$7\r\nPUBLISH\r\n$2\r\nch\r\n${length}\r\n")),
        with(&format!("*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n${length}\r\n")),
    )
}

struct Subscriber {
    stream: TcpStream,
    /// Bytes of a message that have come of the one under way.
    at: usize,
}

impl Subscriber {
    fn new(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(SUBSCRIBE)?;
        let mut answer = [0; SUBSCRIBED.len()];
        stream.read_exact(&mut answer)?;
        if answer != SUBSCRIBED {
            bail!("redis does not subscribe");
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream, at: 0 })
    }

    /// Reads once; how many messages are whole now.
    fn read(&mut self, buffer: &mut [u8], message: &[u8]) -> Result<u64> {
        let count = match self.stream.read(buffer) {
            Ok(0) => bail!("redis ended a subscriber's connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error).context("redis gives a subscriber nothing"),
        };
        let (mut left, mut whole) = (&buffer[..count], 0);
        while !left.is_empty() {
            let part = left.len().min(message.len() - self.at);
            if left[..part] != message[self.at..self.at + part] {
                bail!("a subscriber got what was not published");
            }
            left = &left[part..];
            self.at += part;
            if self.at == message.len() {
                self.at = 0;
                whole += 1;
            }
        }
        Ok(whole)
    }
}

/// Publishes until asked to stop.
fn publish(address: SocketAddr, stop: &AtomicBool) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let command = message().0;
    let mut answer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&command)?;
        let mut got = 0;
        while !answer[..got].ends_with(b"\r\n") {
            match stream.read(&mut answer[got..]) {
                Ok(0) => bail!("redis ended the publisher's connection"),
                Ok(count) => got += count,
                Err(error) => return Err(error).context("redis does not answer the publisher"),
            }
        }
    }
    Ok(())
}

/// Messages that reach subscribers between the two times.
fn subscribe(subscribers: &mut [Subscriber], start: Instant, end: Instant) -> Result<u64> {
    let message = message().1;
    let mut buffer = vec![0; 64 * 1024];
    let mut delivered = 0;
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(delivered);
        }
        let left = end - now;
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds: Vec<PollFd<'_>> = subscribers
            .iter()
            .map(|one| PollFd::from_borrowed_fd(one.stream.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("poll: {error}"),
        }
        let readable: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (one, _) in subscribers.iter_mut().zip(&readable).filter(|(_, r)| **r) {
            let whole = one.read(&mut buffer, &message)?;
            if now >= start {
                delivered += whole;
            }
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(class) = options.class {
        flexnet::client::set_class_of_self(&options.socket, class.class())
            .context("no class from the scheduler")?;
    }
    let mut subscribers = (0..options.subscribers)
        .map(|_| Subscriber::new(options.peer))
        .collect::<Result<Vec<_>>>()?;
    let length = ready(None)?;
    let outcome = measure(options.peer, &mut subscribers, length)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn measure(peer: SocketAddr, subscribers: &mut [Subscriber], length: Duration) -> Result<Outcome> {
    let start = Instant::now() + WARM_UP;
    let stop = AtomicBool::new(false);
    let delivered = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(peer, &stop));
        let delivered = subscribe(subscribers, start, start + length);
        stop.store(true, Ordering::Relaxed);
        match publisher.join() {
            Ok(ended) => ended.and(delivered),
            Err(_) => bail!("the publisher panicked"),
        }
    })?;
    Ok(Outcome {
        requests: delivered,
        seconds: length.as_secs_f64(),
        ..Outcome::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn subscriber() -> (Subscriber, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Subscriber { stream, at: 0 }, listener.accept().unwrap().0)
    }

    #[test]
    fn messages_are_counted_in_pieces_and_compared() {
        let message = message().1;
        let mut buffer = vec![0; 4096];
        let (mut subscriber, mut redis) = subscriber();
        let mut both = [&message[..], &message].concat();
        redis.write_all(&both.split_off(150)).unwrap();
        // Not the start of a message.
        assert!(subscriber.read(&mut buffer, &message).is_err());
        subscriber.at = 0;
        redis.write_all(&both[..100]).unwrap();
        assert_eq!(subscriber.read(&mut buffer, &message).unwrap(), 0);
        redis.write_all(&both[100..]).unwrap();
        assert_eq!(subscriber.read(&mut buffer, &message).unwrap(), 1);
        drop(redis);
        assert!(subscriber.read(&mut buffer, &message).is_err());
    }
}
