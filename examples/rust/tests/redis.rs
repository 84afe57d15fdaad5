// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The Redis server, asked by redis-cli and redis-benchmark, and byte by byte.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

mod common;

use common::{Server, output, watchdog};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

fn start() -> Server {
    Server::start(&mut Command::new(env!("CARGO_BIN_EXE_redis_server")))
}

/// All that the server replies to these bytes.
fn ask(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut replies = Vec::new();
    stream.read_to_end(&mut replies).unwrap();
    replies
}

#[test]
fn replies_have_these_bytes() {
    let _watchdog = watchdog();
    let server = start();
    let rows: [(&[u8], &[u8]); 8] = [
        (b"PING\r\n", b"+PONG\r\n"),
        (b"*2\r\n$4\r\nping\r\n$2\r\n\r\n\r\n", b"$2\r\n\r\n\r\n"),
        (
            b"\r\nSET a 1\r\nGET a\r\nGET b\r\n",
            b"+OK\r\n$1\r\n1\r\n$-1\r\n",
        ),
        (
            b"SET b 2\r\nDEL a b c\r\nDEL a\r\nGET b\r\n",
            b"+OK\r\n:2\r\n:0\r\n$-1\r\n",
        ),
        (
            b"GET\r\n",
            b"-ERR wrong number of arguments for 'get' command\r\n",
        ),
        (
            b"*1\r\n$3\r\nA\r\n\r\n",
            b"-ERR unknown command 'a\\r\\n'\r\n",
        ),
        (
            b"PING\r\n*1\r\n:1\r\n",
            b"+PONG\r\n-ERR Protocol error: expected '$'\r\n",
        ),
        (b"*2\r\n$3\r\nGET\r\n", b""),
    ];
    for (bytes, replies) in rows {
        let replied = ask(&server, bytes);
        assert_eq!(
            replied.escape_ascii().to_string(),
            replies.escape_ascii().to_string()
        );
    }
}

#[test]
fn redis_cli_gets_what_it_has_set() {
    let _watchdog = watchdog();
    let server = start();
    let ask = |words: &[&str]| {
        let mut client = Command::new("redis-cli");
        output(client.args(["-e", "-p", &server.port()]).args(words))
    };
    let value = "value ".repeat(20_000);
    assert_eq!(ask(&["PING"]), b"PONG\n");
    assert_eq!(ask(&["SET", "key", &value]), b"OK\n");
    assert_eq!(ask(&["GET", "key"]), format!("{value}\n").as_bytes());
    assert_eq!(ask(&["DEL", "key"]), b"1\n");
    assert_eq!(ask(&["GET", "key"]), b"\n");
}

/// redis-benchmark ends with an error where a reply is one, or is none.
#[test]
fn redis_benchmark_pipelines() {
    let _watchdog = watchdog();
    let server = start();
    for (depth, requests) in [("1", "5000"), ("64", "50000")] {
        let mut client = Command::new("redis-benchmark");
        client.args([
            "-p",
            &server.port(),
            "-e",
            "--csv",
            "-c",
            "50",
            "-r",
            "1000",
            "-d",
            "200",
        ]);
        client.args([
            "-P",
            depth,
            "-n",
            requests,
            "-t",
            "ping_inline,ping_mbulk,set,get",
        ]);
        let said = String::from_utf8(output(&mut client)).unwrap();
        let tests: Vec<_> = said
            .lines()
            .filter_map(|line| line.split(',').next())
            .collect();
        assert_eq!(
            tests,
            [
                "\"test\"",
                "\"PING_INLINE\"",
                "\"PING_MBULK\"",
                "\"SET\"",
                "\"GET\""
            ]
        );
    }
}
