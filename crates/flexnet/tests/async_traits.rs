// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Connections under what is written for the traits of tokio and of futures-io.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::executor::{Output, Runtime};
use flexnet::transport::{TcpConnection, TcpFlow};
use futures_io::{AsyncRead as _, AsyncWrite as _};
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// What a client gets that sends `bytes` to a service, which is aborted then.
fn ask<F>(serve: impl Fn(TcpConnection) -> F + Send + Sync + 'static, bytes: Vec<u8>) -> Vec<u8>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (_done, watched) = mpsc::channel::<()>();
    thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: a service hangs");
            std::process::abort();
        }
    });
    let runtime = Runtime::builder().executors(2).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let service = runtime.serve(listener, serve).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writes = thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    writes.join().unwrap();
    service.abort();
    all
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn tokio_copies_both_ways() {
    let echo = |connection| async {
        let (mut reader, mut writer) = tokio::io::split(connection);
        tokio::io::copy(&mut reader, &mut writer).await?;
        writer.shutdown().await
    };
    assert!(ask(echo, pattern(3_000_000)) == pattern(3_000_000));
}

#[test]
fn tokio_reads_lines() {
    let upper = |connection| async {
        let mut connection = BufReader::new(connection);
        let mut line = String::new();
        while connection.read_line(&mut line).await? > 0 {
            connection.write_all(line.to_uppercase().as_bytes()).await?;
            line.clear();
        }
        connection.flush().await
    };
    assert_eq!(ask(upper, b"one\ntwo\nthree".to_vec()), b"ONE\nTWO\nTHREE");
}

#[test]
fn tokio_reads_exactly_into_what_is_there() {
    let reverse = |mut connection: TcpConnection| async move {
        let length = AsyncReadExt::read_u32(&mut connection).await? as usize;
        let mut frame = Vec::with_capacity(length);
        while frame.len() < length {
            AsyncReadExt::read_buf(&mut connection, &mut frame).await?;
        }
        frame.reverse();
        AsyncWriteExt::write_all(&mut connection, &frame).await
    };
    let mut sent = 100_000u32.to_be_bytes().to_vec();
    let mut expected = pattern(100_000);
    sent.extend_from_slice(&expected);
    expected.reverse();
    assert!(ask(reverse, sent) == expected);
}

#[test]
fn futures_io_copies() {
    let echo = |mut connection: TcpConnection| async move {
        let mut buffer = vec![0; 10_000];
        loop {
            let read = poll_fn(|context| Pin::new(&mut connection).poll_read(context, &mut buffer));
            let length = read.await?;
            if length == 0 {
                return poll_fn(|context| Pin::new(&mut connection).poll_close(context)).await;
            }
            let mut left = &buffer[..length];
            while !left.is_empty() {
                let write = poll_fn(|context| Pin::new(&mut connection).poll_write(context, left));
                left = &left[write.await?..];
            }
        }
    };
    assert!(ask(echo, pattern(1_000_000)) == pattern(1_000_000));
}

#[test]
fn an_output_is_a_writer() {
    let runtime = Runtime::builder().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = TcpFlow::connect(&runtime, listener.local_addr().unwrap()).unwrap();
    let mut peer = listener.accept().unwrap().0;
    let writes = |mut output: Output| async move {
        AsyncWriteExt::write_all(&mut output, b"between")
            .await
            .unwrap();
        AsyncWriteExt::shutdown(&mut output).await.unwrap();
        poll_fn(|context| futures_io::AsyncWrite::poll_close(Pin::new(&mut output), context))
            .await
            .unwrap();
    };
    flow.try_send(b"before ").unwrap();
    flow.flow().submit_with(writes).unwrap();
    flow.try_send(b" after").unwrap();
    drop(flow);
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before between after");
}
