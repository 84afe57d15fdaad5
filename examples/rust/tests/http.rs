// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The HTTP server, asked by curl and wrk, and by a client that never ends its request.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

mod common;

use common::{Server, folder, output, pattern, watchdog};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

fn start() -> Server {
    Server::start(&mut Command::new(env!("CARGO_BIN_EXE_http_server")))
}

fn curl(arguments: &[&str]) -> String {
    let mut client = Command::new("curl");
    String::from_utf8(output(
        client.args(["-sS", "--max-time", "60"]).args(arguments),
    ))
    .unwrap()
}

#[test]
fn curl_gets_pages_over_one_connection() {
    let _watchdog = watchdog();
    let server = start();
    let (page, none) = (
        format!("http://{}/", server.address),
        format!("http://{}/moon", server.address),
    );
    // The status, and how many connections were made for it.
    let said = curl(&["-w", "%{response_code} %{num_connects}\n", &page, &none]);
    assert_eq!(
        said,
        "Hello from an executor\n200 1\nThere is no such page\n404 0\n"
    );
}

#[test]
fn curl_has_its_body_back() {
    let _watchdog = watchdog();
    let server = start();
    let (page, folder) = (format!("http://{}/echo", server.address), folder("http"));
    let (sent, got) = (folder.join("sent"), folder.join("got"));
    std::fs::write(&sent, pattern(3_000_000)).unwrap();
    let data = format!("@{}", sent.display());
    // With its length before it, and in chunks.
    for header in ["Expect:", "Transfer-Encoding: chunked"] {
        std::fs::remove_file(&got).ok();
        curl(&[
            "--data-binary",
            &data,
            "-H",
            header,
            "-o",
            got.to_str().unwrap(),
            &page,
        ]);
        assert!(
            std::fs::read(&got).unwrap() == pattern(3_000_000),
            "{header}"
        );
    }
}

#[test]
fn wrk_has_all_its_requests_answered() {
    let _watchdog = watchdog();
    let server = start();
    let page = format!("http://{}/", server.address);
    let mut client = Command::new("wrk");
    let said = output(client.args([
        "-t",
        "1",
        "-c",
        "100",
        "-d",
        "1s",
        "--timeout",
        "30s",
        &page,
    ]));
    let said = String::from_utf8(said).unwrap();
    assert!(
        !said.contains("Socket errors") && !said.contains("Non-2xx"),
        "{said}"
    );
    let line = said.lines().find(|line| line.contains(" requests in "));
    let requests = line.and_then(|line| line.split_whitespace().next());
    assert!(requests.unwrap().parse::<u64>().unwrap() > 0, "{said}");
}

/// hyper's timer is the executors': the server leaves this client after some seconds.
#[test]
fn a_request_without_an_end_is_left() {
    let _watchdog = watchdog();
    let server = start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut nothing = Vec::new();
    stream.read_to_end(&mut nothing).unwrap();
    assert_eq!(String::from_utf8(nothing).unwrap(), "");
}
