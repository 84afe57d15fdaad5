// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A service with the Redis protocol: PING, SET, GET and DEL, also many of them at once.
//!
//! Promised: replies come in the order of the commands; for a client that does not read, one reply
//! beyond [`REPLY_BYTES`] is held at most, and nothing more is read from it. Left to others: what
//! a command looks like (resp.rs), and connections (flexnet).

use crate::resp::parse;
use flexnet::executor::{Runtime, Task};
use flexnet::transport::TcpConnection;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;
/// Replies are written once they have so many bytes.
const REPLY_BYTES: usize = 64 * 1024;

/// Serves the connections of `listener` from one store, which lives as long as they do.
///
/// # Errors
/// As [`Runtime::serve`].
pub fn serve(runtime: &Runtime, listener: TcpListener) -> io::Result<Task<io::Result<()>>> {
    let store = Arc::new(Store::default());
    runtime.serve(listener, move |connection| {
        converse(connection, store.clone())
    })
}

/// The coroutine of one connection.
async fn converse(mut connection: TcpConnection, store: Arc<Store>) -> io::Result<()> {
    let mut chunk = vec![0; READ_BYTES];
    let (mut unparsed, mut replies) = (Vec::new(), Vec::new());
    loop {
        let length = connection.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        unparsed.extend_from_slice(&chunk[..length]);
        let mut done = 0;
        loop {
            match parse(&unparsed[done..]) {
                Ok(None) => break,
                Ok(Some((words, length))) => {
                    store.answer(&words, &mut replies);
                    done += length;
                }
                Err(mistake) => {
                    reply(&mut replies, format_args!("-ERR Protocol error: {mistake}"));
                    return connection.write_all(&replies).await;
                }
            }
            if replies.len() >= REPLY_BYTES {
                connection.write_all(&replies).await?;
                replies.clear();
            }
        }
        unparsed.drain(..done);
        // All replies to what was read leave together.
        connection.write_all(&replies).await?;
        replies.clear();
    }
}

/// Values by their keys.
#[derive(Default)]
struct Store(Mutex<HashMap<Vec<u8>, Arc<[u8]>>>);

impl Store {
    /// Does what a command says, and appends its reply.
    fn answer(&self, words: &[&[u8]], replies: &mut Vec<u8>) {
        let Some((name, arguments)) = words.split_first() else {
            return;
        };
        let name = name.to_ascii_lowercase();
        match (name.as_slice(), arguments) {
            (b"ping", []) => reply(replies, format_args!("+PONG")),
            (b"ping", [text]) => bulk(replies, text),
            (b"set", [key, value]) => {
                self.lock().insert(key.to_vec(), Arc::from(*value));
                reply(replies, format_args!("+OK"));
            }
            (b"get", [key]) => {
                let value = self.lock().get(*key).cloned();
                match value {
                    Some(value) => bulk(replies, &value),
                    None => reply(replies, format_args!("$-1")),
                }
            }
            (b"del", keys @ [_, ..]) => {
                let mut values = self.lock();
                let removed = keys.iter().filter(|key| values.remove(**key).is_some());
                reply(replies, format_args!(":{}", removed.count()));
            }
            (b"ping" | b"set" | b"get" | b"del", _) => {
                let name = name.escape_ascii();
                let text = format_args!("-ERR wrong number of arguments for '{name}' command");
                reply(replies, text);
            }
            _ => {
                let name = name.escape_ascii();
                reply(replies, format_args!("-ERR unknown command '{name}'"));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<[u8]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends one line. A Vec takes all that is written.
fn reply(replies: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = replies.write_fmt(format_args!("{text}\r\n"));
}

/// Appends bytes with their length before them.
fn bulk(replies: &mut Vec<u8>, bytes: &[u8]) {
    reply(replies, format_args!("${}", bytes.len()));
    replies.extend_from_slice(bytes);
    replies.extend_from_slice(b"\r\n");
}
