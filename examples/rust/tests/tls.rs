// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The TLS server, asked by openssl.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

mod common;

use common::{Server, folder, output, pattern, watchdog};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Makes a certificate and its key there, and starts a server with them.
fn start(folder: &Path) -> Server {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-days",
        "2",
    ]);
    output(
        openssl
            .args(["-keyout", "key.pem", "-out", "certificate.pem"])
            .current_dir(folder),
    );
    let mut server = Command::new(env!("CARGO_BIN_EXE_tls_server"));
    Server::start(
        server
            .args(["certificate.pem", "key.pem"])
            .current_dir(folder),
    )
}

/// What comes back of `bytes` over a connection of this version.
fn echo(server: &Server, folder: &Path, version: &str, bytes: Vec<u8>) -> Vec<u8> {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-quiet", "-no_ign_eof", "-nocommands", version]);
    client.args(["-verify_return_error", "-verify_hostname", "localhost"]);
    client.args([
        "-CAfile",
        "certificate.pem",
        "-connect",
        &server.address.to_string(),
    ]);
    let client = client.current_dir(folder).stderr(Stdio::null());
    let mut client = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut echoed = vec![0; bytes.len()];
    // Its input ends when all has come back: at that end it closes.
    let writes = thread::spawn(move || input.write_all(&bytes).map(|()| input));
    output.read_exact(&mut echoed).unwrap();
    drop(writes.join().unwrap().unwrap());
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    assert!(client.wait().unwrap().success());
    echoed
}

#[test]
fn openssl_has_back_what_it_sends() {
    let _watchdog = watchdog();
    let folder = folder("tls-echo");
    let server = start(&folder);
    for version in ["-tls1_2", "-tls1_3"] {
        for length in [1, 1_000_000] {
            let echoed = echo(&server, &folder, version, pattern(length));
            assert!(echoed == pattern(length), "{version}: {length} bytes");
        }
    }
}

#[test]
fn other_bytes_are_no_handshake() {
    let _watchdog = watchdog();
    let folder = folder("tls-other");
    let server = start(&folder);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).unwrap();
    // A fatal alert.
    assert_eq!(alert[..1], [21]);
    assert_eq!(alert[5..6], [2]);
    assert_eq!(echo(&server, &folder, "-tls1_3", b"next".to_vec()), b"next");
}

#[test]
fn a_handshake_that_does_not_begin_is_left() {
    let _watchdog = watchdog();
    let server = start(&folder("tls-silent"));
    let mut stream = TcpStream::connect(server.address).unwrap();
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}
