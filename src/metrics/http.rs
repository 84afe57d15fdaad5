// SPDX-License-Identifier: GPL-2.0-only
//! As much of HTTP as a scraper needs: one GET a connection, answered at once.
//!
//! Promises that strangers shut nobody out. A request has a time limit; where too many
//! have not been asked to the end, the oldest one makes room; and the listener goes on
//! when descriptors or threads are short. Leaves to others: what is served, and the
//! grammar of requests (httparse).

use anyhow::{Context, Result};
use httparse::{EMPTY_HEADER, Status};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with, recv, send, shutdown};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections served at a time. A scraper or two is what there is.
const CONNECTIONS_MAX: usize = 16;
/// Threads at a time: those of connections, and of connections that are being closed.
const THREADS_MAX: usize = 64;
/// From a connection's start to the end of its answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two tries to accept, where the kernel refuses.
const REST: Duration = Duration::from_millis(100);
/// The longest request.
const REQUEST_BYTES: usize = 8 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 32;

/// What was asked for.
#[derive(Debug, PartialEq)]
pub struct Request {
    pub path: String,
    /// Its Accept headers.
    pub accept: String,
}

/// What is answered.
#[derive(Debug)]
pub struct Response {
    /// As in `200 OK`.
    pub status: &'static str,
    pub content_type: &'static str,
    pub body: String,
}

impl Response {
    /// A line of text.
    pub fn text(status: &'static str, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{text}\n"),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let Self {
            status,
            content_type,
            body,
        } = self;
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

#[derive(Default)]
struct Open {
    /// The oldest one first, by number.
    connections: VecDeque<(u64, Arc<OwnedFd>)>,
    threads: usize,
}

#[derive(Default)]
struct Server {
    open: Mutex<Open>,
    thread_ended: Condvar,
}

/// Serves a listening socket for ever, on threads of its own.
///
/// # Errors
/// There is no thread to be had.
pub fn serve(
    listener: OwnedFd,
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> Result<()> {
    let (server, answer) = (Arc::new(Server::default()), Arc::new(answer));
    let accept = move || {
        let mut reported = false;
        for number in 0.. {
            match accept_with(&listener, SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    reported = false;
                    server.admit(number, socket, answer.clone());
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => {
                    if !reported {
                        log::warn!("metrics: cannot accept a connection: {errno}");
                    }
                    reported = true;
                    std::thread::sleep(REST);
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(accept)
        .context("cannot start a thread")?;
    Ok(())
}

impl Server {
    /// Serves a connection on a thread of its own, which alone closes it: a close may
    /// wait.
    fn admit<A>(self: &Arc<Self>, number: u64, socket: OwnedFd, answer: Arc<A>)
    where
        A: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        let socket = Arc::new(socket);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |open: &mut Open| open.threads >= THREADS_MAX;
        let waited = self.thread_ended.wait_while(open, full);
        let mut open = waited.unwrap_or_else(PoisonError::into_inner);
        open.threads += 1;
        open.connections.push_back((number, socket.clone()));
        if open.connections.len() > CONNECTIONS_MAX {
            // While it is listed its thread holds it, so that this closes nothing.
            if let Some((_, oldest)) = open.connections.pop_front() {
                let _ = shutdown(&oldest, Shutdown::Both);
            }
        }
        drop(open);
        let server = self.clone();
        let spawned = std::thread::Builder::new().spawn(move || {
            // One that hung up or was too slow has no answer.
            let _ = converse(&socket, &*answer);
            server.forget(number);
            drop(socket);
            let mut open = server.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.threads -= 1;
            server.thread_ended.notify_one();
        });
        if spawned.is_err() {
            self.forget(number);
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.threads -= 1;
            drop(open);
            std::thread::sleep(REST);
        }
    }

    fn forget(&self, number: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.connections.retain(|(other, _)| *other != number);
    }
}

/// Reads a request and answers it.
fn converse(socket: &OwnedFd, answer: impl Fn(&Request) -> Response) -> Result<(), Errno> {
    let end = Instant::now() + LIMIT;
    let mut bytes = Vec::new();
    let response = loop {
        match parse(&bytes) {
            Ok(Some(request)) => break answer(&request),
            Ok(None) => {}
            Err(status) => break Response::text(status, status),
        }
        let mut chunk = [0; 1024];
        limit(socket, Timeout::Recv, end)?;
        match recv(socket, &mut chunk, RecvFlags::empty()) {
            Ok((0, _)) => return Err(Errno::PIPE),
            Ok((length, _)) => bytes.extend_from_slice(&chunk[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    };
    let bytes = response.to_bytes();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        limit(socket, Timeout::Send, end)?;
        match send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    shutdown(socket, Shutdown::Write)
}

/// Has the next call wait until `end` at most.
fn limit(socket: &OwnedFd, which: Timeout, end: Instant) -> Result<(), Errno> {
    let left = end.checked_duration_since(Instant::now());
    let left = left.filter(|left| !left.is_zero()).ok_or(Errno::TIMEDOUT)?;
    set_socket_timeout(socket, which, Some(left))
}

/// A request once it is all there; else the status of what is wrong with it.
fn parse(bytes: &[u8]) -> Result<Option<Request>, &'static str> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if bytes.len() < REQUEST_BYTES => return Ok(None),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err("431 Request Header Fields Too Large");
        }
        Err(_) => return Err("400 Bad Request"),
    }
    if request.method != Some("GET") {
        return Err("405 Method Not Allowed");
    }
    let accept = request.headers.iter();
    let accept = accept.filter(|header| header.name.eq_ignore_ascii_case("Accept"));
    let accept: Vec<_> = accept.map(|h| String::from_utf8_lossy(h.value)).collect();
    Ok(Some(Request {
        path: request.path.unwrap_or_default().to_owned(),
        accept: accept.join(","),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn requests_are_read_in_pieces_and_judged() {
        let text = b"GET /metrics HTTP/1.1\r\naccept: a\r\nAccept: b\r\n\r\n";
        assert_eq!(parse(&text[..30]), Ok(None));
        let request = Request {
            path: "/metrics".to_owned(),
            accept: "a,b".to_owned(),
        };
        assert_eq!(parse(text), Ok(Some(request)));
        assert!(
            parse(b"POST / HTTP/1.1\r\n\r\n")
                .unwrap_err()
                .starts_with("405")
        );
        assert!(parse(b"\x01\x02\r\n\r\n").unwrap_err().starts_with("400"));
        let long = [b"GET /".as_slice(), &[b'x'; REQUEST_BYTES]].concat();
        assert!(parse(&long).unwrap_err().starts_with("431"));
    }

    #[test]
    fn half_requests_shut_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener.into(), |request| {
            Response::text("200 OK", &request.path)
        })
        .unwrap();
        let mut halves: Vec<TcpStream> = Vec::new();
        for _ in 0..4 * THREADS_MAX {
            let mut half = TcpStream::connect(address).unwrap();
            let _ = half.write_all(b"GET /half");
            halves.push(half);
        }
        let start = Instant::now();
        let mut whole = TcpStream::connect(address).unwrap();
        whole.write_all(b"GET /whole HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        whole.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("/whole\n"), "{answer}");
        assert!(start.elapsed() < LIMIT);
        // The youngest half is hung up on when its time is over.
        let last = halves.last_mut().unwrap();
        assert!(matches!(last.read(&mut [0; 16]), Ok(0) | Err(_)));
        assert!(start.elapsed() > LIMIT / 2);
    }
}
