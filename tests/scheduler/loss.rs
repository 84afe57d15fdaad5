// SPDX-License-Identifier: GPL-2.0-only
//! Loss: of a client, and of the scheduler under a client.

use crate::classes::granted_core;
use crate::daemon::{Daemon, client, eventually, share, status};
use crate::tasks::{PATTERN_BYTES, Task, pattern, shares};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub fn a_killed_client_is_forgotten() {
    let daemon = share("");
    let mut survivor = Task::app("survivor", 1);
    let mut ids = Vec::new();
    for _ in 0..5 {
        let mut victim = Task::app("victim", 2);
        victim.ask("load 1000 64 0");
        granted_core(&mut victim);
        eventually("queued work", || {
            client("victim").is_some_and(|c| c.depth > 0)
        });
        ids.push(client("victim").unwrap().client);
        victim.kill();
        eventually("the client's end", || client("victim").is_none());
        eventually("the cores' return", || status().cores_granted == 0);
        survivor.ask("load 200 64 0");
        granted_core(&mut survivor);
        survivor.await_progress(20);
        survivor.ask("idle");
        daemon.assert_schedules();
    }
    assert!(
        ids.iter().all(|&id| id == ids[0]),
        "slots {ids:?} are not used again"
    );
}

pub fn a_stream_survives_the_daemon_killed() {
    survive(Daemon::kill);
}

pub fn a_stream_survives_an_orderly_restart() {
    survive(Daemon::stop);
}

/// A stream and an application under load over three ends of the scheduler.
fn survive(end: fn(Daemon)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let hog = Task::hog();
    let mut daemon = Daemon::start(&[]);
    let mut app = Task::app("load", 2);
    app.ask("load 300 64 0");
    let mut stream = Task::play(&[], &["stream", "stream", "2", &port]);
    let receiver = receive(listener.accept().unwrap().0);
    for _ in 0..3 {
        granted_core(&mut app);
        await_executors("stream", 2);
        end(daemon);
        eventually("notice of the loss", || app.sample()["attached"] == false);
        app.await_progress(50);
        shares(&[&hog, &stream], Duration::from_millis(200));
        daemon = Daemon::start(&[]);
        await_executors("load", 2);
        await_executors("stream", 2);
        assert_eq!(app.sample()["attached"], true);
    }
    granted_core(&mut app);
    assert!(status().grants > 0);
    let accepted: u64 = stream.ask("stop").parse().unwrap();
    assert_eq!(
        receiver.join().unwrap(),
        accepted,
        "bytes received and accepted"
    );
    println!("  {accepted} bytes");
    assert!(accepted > 0);
    stream.finish();
    app.ask("idle");
    daemon.stop();
}

/// Waits until a client has registered its executors and they were given a CPU.
pub fn await_executors(name: &str, executors: u32) {
    eventually("executors of a client", || {
        client(name).is_some_and(|c| c.executors == executors && c.run_ns > 0)
    });
}

/// Reads the pattern to its end and counts it.
pub fn receive(mut stream: TcpStream) -> JoinHandle<u64> {
    thread::spawn(move || {
        let pattern = pattern();
        let mut buffer = vec![0; 64 * 1024];
        let mut received = 0;
        loop {
            let start = received as usize % PATTERN_BYTES;
            let most = buffer.len().min(PATTERN_BYTES - start);
            let length = stream.read(&mut buffer[..most]).unwrap();
            if length == 0 {
                return received;
            }
            let expected = &pattern[start..start + length];
            assert!(buffer[..length] == *expected, "byte {received} on differs");
            received += length as u64;
        }
    })
}
