// SPDX-License-Identifier: GPL-2.0-only
//! Programs that know nothing of the scheduler: one in C
//! (crates/flexnet-capi/tests/attached.c, which ci/c-interface compiles), and ones that are
//! run with the preload library.

use crate::daemon::{Daemon, client, eventually, share, status};
use crate::loss::{await_executors, receive};
use crate::tasks::{PATTERN_BYTES, Task, asked_to_stop, pattern, say};
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::Ordering;

/// What the library calls this program: the kernel's name of it.
const NAME: &str = "scheduler-tests";
/// Bytes after which the writer closes all it finds: its sends are queued by then.
const CLOSES_AT: usize = 100_000;
const LIBRARY: &str = "/flexnet/bin/libflexnet_preload.so";

/// A program that links libflexnet finds the scheduler and is granted a core.
pub fn a_c_program_is_granted_a_core() {
    share("");
    let output = Command::new("c-attached").output();
    let output =
        output.expect("ci/vm --add target/test/c-interface/attached:/flexnet/bin/c-attached");
    assert!(output.status.success(), "{output:?}");
}

/// So does one whose sends the preload library queues; it outlives takeover, loss
/// and return of the scheduler and a program that closes whatever is not its own,
/// and its peer gets every byte in order.
pub fn an_unmodified_program_is_granted_a_core() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let daemon = Daemon::start(&[]);
    // Two CPUs are full of the writer and its receiver: throughput flows would have no core.
    let run = [
        "flexnet",
        "run",
        "--offload=always",
        "--class=latency",
        "--",
    ];
    let mut writer = Task::play(&run, &["writer", &port]);
    let receiver = receive(listener.accept().unwrap().0);
    let granted = || {
        await_executors(NAME, 1);
        eventually("a granted core", || {
            status().cores_granted > 0 && client(NAME).is_some_and(|c| c.cores > 0)
        });
    };
    granted();
    let new = Daemon::start(&["--replace"]);
    daemon.await_success("the one that was replaced");
    granted();
    new.stop();
    let daemon = Daemon::start(&[]);
    granted();
    let reported = writer.ask("stop");
    let (accepted, closed) = reported.split_once(':').unwrap();
    let accepted: u64 = accepted.parse().unwrap();
    writer.finish();
    assert_eq!(closed, "", "descriptors that are not the program's");
    assert_eq!(
        receiver.join().unwrap(),
        accepted,
        "bytes received and sent"
    );
    eventually("the client's end", || status().clients == 0);
    daemon.stop();
}

/// A role: writes the pattern in small pieces, and knows of nothing. On its way it
/// closes what else may be open, and counts what was.
pub fn writer(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let stop = asked_to_stop();
    say("ready");
    let pattern = pattern();
    let (mut sent, mut closed) = (0, Vec::new());
    while !stop.load(Ordering::Acquire) {
        let start = sent % PATTERN_BYTES;
        let end = (start + 200).min(PATTERN_BYTES);
        stream.write_all(&pattern[start..end]).unwrap();
        if (sent..sent + (end - start)).contains(&CLOSES_AT) {
            let own = stream.as_raw_fd();
            let what = |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}"));
            for fd in (3..4096).filter(|fd| *fd != own) {
                let what = what(fd);
                // SAFETY: what is open from 3 on is nobody's but the socket's owner's.
                if unsafe { libc::close(fd) } == 0 {
                    closed.push(format!(" {fd}={what:?}"));
                }
            }
        }
        sent += end - start;
    }
    drop(stream);
    say(&format!("{sent}:{}", closed.concat()));
}

/// A program that runs with another's rights is run as if there were no library:
/// the loader leaves it out.
pub fn a_setuid_program_runs_without_the_library() {
    let program = std::env::current_exe().unwrap();
    let setuid = program.with_file_name("setuid-tests");
    fs::copy(&program, &setuid).unwrap();
    let loaded = |mode: u32| {
        fs::set_permissions(&setuid, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = Command::new(&setuid);
        command.args(["--role", "maps"]).env("LD_PRELOAD", LIBRARY);
        let output = command.uid(65534).gid(65534).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(loaded(0o755), "user 65534, preloaded true");
    assert_eq!(loaded(0o4755), "user 0, preloaded false");
    fs::remove_file(&setuid).unwrap();
}

/// A role: as whom it runs, and whether the library is in it.
pub fn maps() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let user = rustix::process::geteuid().as_raw();
    let preloaded = maps.contains("libflexnet_preload");
    say(&format!("user {user}, preloaded {preloaded}"));
}
