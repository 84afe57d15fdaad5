// SPDX-License-Identifier: GPL-2.0-only
//! What is asked of each program, and how long its answer is: always the same
//! one, so that replies are distinguished by their length and checked by their end.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A program that answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    /// GET of a value of 100 B
    Redis,
    /// get of a value of 1 kB
    Memcached,
    /// A page of 1 kB, connections kept alive
    Nginx,
}

/// The setting up must not hang the experiment.
const LIMIT: Duration = Duration::from_secs(30);
/// As many of a reply's last bytes are compared.
const TAIL: usize = 64;

impl Service {
    /// Bytes of the value or page.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Redis => 100,
            Self::Memcached | Self::Nginx => 1024,
        }
    }

    /// As many as the program's own benchmark has by default: redis-benchmark's
    /// `-c`, memcaslap's `--concurrency`, wrk's `-c`.
    pub(super) fn connections(self) -> u32 {
        match self {
            Self::Redis => 50,
            Self::Memcached => 128,
            Self::Nginx => 10,
        }
    }

    /// What is stored: letters, the same in every run.
    pub(super) fn value(self) -> Vec<u8> {
        (0..self.size()).map(|i| b'a' + (i % 23) as u8).collect()
    }

    fn request(self) -> &'static [u8] {
        match self {
            Self::Redis => b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n",
            Self::Memcached => b"get key\r\n",
            Self::Nginx => b"GET /page HTTP/1.1\r\nHost: bench\r\n\r\n",
        }
    }

    /// Stores the value, where the program keeps one, and the answer to that.
    fn store(self) -> Option<(Vec<u8>, &'static [u8])> {
        let (head, done): (String, &[u8]) = match self {
            Self::Redis => (
                format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${}\r\n", self.size()),
                b"+OK\r\n",
            ),
            Self::Memcached => (format!("set key 0 0 {}\r\n", self.size()), b"STORED\r\n"),
            Self::Nginx => return None,
        };
        let mut bytes = head.into_bytes();
        bytes.extend(self.value());
        bytes.extend(b"\r\n");
        Some((bytes, done))
    }

    /// What ends a reply.
    fn end(self) -> &'static [u8] {
        match self {
            Self::Redis => b"\r\n",
            Self::Memcached => b"\r\nEND\r\n",
            Self::Nginx => b"",
        }
    }

    /// Stores the value, asks for it once and sees how long the answer is.
    pub(super) fn learn(self, address: SocketAddr) -> Result<Exchange> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        if let Some((bytes, done)) = self.store() {
            stream.write_all(&bytes)?;
            let mut answer = vec![0; done.len()];
            stream.read_exact(&mut answer)?;
            if answer != done {
                bail!("the value is not stored");
            }
        }
        stream.write_all(self.request())?;
        let wanted = [self.value().as_slice(), self.end()].concat();
        let mut reply = Vec::new();
        let mut buffer = [0; 4096];
        while !reply.ends_with(&wanted) {
            let read = stream
                .read(&mut buffer)
                .context("no answer to the first request")?;
            if read == 0 || reply.len() > 4 * wanted.len() + 4096 {
                bail!("the first request's answer is not the value");
            }
            reply.extend(&buffer[..read]);
        }
        Ok(Exchange {
            request: self.request(),
            length: reply.len(),
            tail: reply[reply.len() - TAIL.min(reply.len())..].to_vec(),
        })
    }
}

/// A request and the answer to it.
#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) request: &'static [u8],
    length: usize,
    tail: Vec<u8>,
}

impl Exchange {
    /// Takes the whole replies off the front of `buffer`; how many they were.
    pub(super) fn take(&self, buffer: &mut Vec<u8>) -> Result<usize> {
        let mut at = 0;
        while buffer.len() - at >= self.length {
            at += self.length;
            if !buffer[..at].ends_with(&self.tail) {
                bail!("a reply that is not the value");
            }
        }
        buffer.drain(..at);
        Ok(at / self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn replies_are_counted_and_checked() {
        let exchange = Exchange {
            request: b"",
            length: 5,
            tail: b"de".to_vec(),
        };
        let mut buffer = b"abcdeABCdeab".to_vec();
        assert_eq!(exchange.take(&mut buffer).unwrap(), 2);
        assert_eq!(buffer, b"ab");
        buffer.extend(b"cdX");
        assert!(exchange.take(&mut buffer).is_err());
    }

    #[test]
    fn the_first_answer_is_learnt_in_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let value = Service::Redis.value();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let (store, done) = Service::Redis.store().unwrap();
            let mut asked = vec![0; store.len()];
            stream.read_exact(&mut asked).unwrap();
            assert_eq!(asked, store);
            stream.write_all(done).unwrap();
            let mut asked = vec![0; Service::Redis.request().len()];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(b"$100\r\n").unwrap();
            stream.write_all(&value[..50]).unwrap();
            stream.write_all(&value[50..]).unwrap();
            stream.write_all(b"\r\n").unwrap();
        });
        let exchange = Service::Redis.learn(address).unwrap();
        server.join().unwrap();
        assert_eq!(exchange.length, 6 + 100 + 2);
        assert_eq!(exchange.tail.len(), TAIL);
    }
}
