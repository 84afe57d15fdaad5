// SPDX-License-Identifier: GPL-2.0-only
//! Attaching, detaching, and what is refused.

use crate::daemon::{Daemon, eventually, log, share, state, status};
use crate::tasks::Task;
use flexnet::abi::SOCKET_PATH;
use libbpf_rs::query::ProgInfoIter;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub fn attaches_and_detaches_in_cycles() {
    let hogs = [Task::hog(), Task::hog()];
    for _ in 0..20 {
        let daemon = Daemon::start(&[]);
        assert!(status().cpus > 0);
        daemon.stop();
    }
    assert!(!std::path::Path::new(flexnet::abi::SOCKET_PATH).exists());
    progress(&hogs);
}

pub fn a_killed_daemon_leaves_the_kernels_scheduler() {
    let hogs = [Task::hog(), Task::hog()];
    Daemon::start(&[]).kill();
    progress(&hogs);
    // Its socket's file is still there, and in nobody's way.
    Daemon::start(&[]).stop();
}

/// Most instructions that the verifier may walk through at a start. It walked through
/// 64,811 on 6.18, and an emulated processor took 47 µs for each (docs/decisions/0001).
const VERIFIED_MAX: u64 = 100_000;

/// A start costs what the verifier has to walk through, and nothing else shows when
/// a change multiplies that.
pub fn the_verifier_has_little_to_do() {
    share("");
    let programs = ProgInfoIter::default();
    let walked: Vec<(u32, String)> = programs
        .map(|program| {
            let name = program.name.to_string_lossy().into_owned();
            (program.verified_insns, name)
        })
        .collect();
    let total: u64 = walked.iter().map(|(count, _)| u64::from(*count)).sum();
    println!("  {total} instructions verified");
    assert!(walked.iter().any(|(_, name)| name == "flexnet_dispatc"));
    assert!(total < VERIFIED_MAX, "{walked:?}");
}

fn progress(tasks: &[Task]) {
    for task in tasks {
        let until = task.run_ns() + Duration::from_millis(50).as_nanos() as u64;
        eventually("progress of a task", || task.run_ns() > until);
    }
}

fn become_root_of_a_user_namespace() -> std::io::Result<()> {
    // SAFETY: a plain call.
    match unsafe { libc::unshare(libc::CLONE_NEWUSER) } {
        0 => fs::write("/proc/self/uid_map", "0 0 1"),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// What the bounding set lacks, no program has that is executed.
fn lose_capabilities() -> std::io::Result<()> {
    // CAP_SYS_ADMIN, CAP_PERFMON and CAP_BPF.
    for capability in [21, 38, 39] {
        // SAFETY: a plain call.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

pub fn refusals_are_one_line() {
    let refused = |command: &mut Command, reason: &str| {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(reason), "{text}");
    };
    refused(Command::new("scx_flexnet").uid(65534).gid(65534), "root");
    let mut other = Command::new("scx_flexnet");
    other.args(["--socket", "/tmp/other.sock"]);
    let mut namespaced = Command::new("scx_flexnet");
    // SAFETY: system calls alone, which may be made between fork and exec.
    unsafe { namespaced.pre_exec(become_root_of_a_user_namespace) };
    refused(&mut namespaced, "root of a user namespace");
    let mut bounded = Command::new("scx_flexnet");
    // SAFETY: as above.
    unsafe { bounded.pre_exec(lose_capabilities) };
    refused(&mut bounded, "no CAP_PERFMON and no CAP_BPF");
    let mut trace = Command::new("flexnet");
    trace.arg("trace").current_dir("/").uid(65534).gid(65534);
    let mut daemon = Daemon::start(&[]);
    refused(&mut trace, "only root may trace");
    let mut monitor = Command::new("scx_flexnet");
    monitor.args(["--monitor", "1"]).uid(65534).gid(65534);
    refused(&mut monitor, "only root may read");
    refused(&mut other, "flexnet");
    refused(&mut Command::new("scx_flexnet"), "flexnet");
    daemon.assert_schedules();
    assert_eq!(status().clients, 0);
    daemon.stop();
    assert_eq!(state(), "disabled");
    refused(
        Command::new("flexnet").arg("status"),
        "does scx_flexnet run?",
    );
}

/// Where the kernel tells no limits, a start fails and names the cgroup, unless limits are ignored.
pub fn a_limit_that_is_not_enforced_is_named() {
    const WARNING: &str = "cpu.max is not enforced while this scheduler runs";
    let told = told_limits();
    let root = Path::new("/sys/fs/cgroup");
    fs::write(root.join("cgroup.subtree_control"), "+cpu").unwrap();
    let limited = root.join("limited");
    fs::create_dir_all(&limited).unwrap();
    fs::write(limited.join("cpu.max"), "10000 100000").unwrap();
    if !told {
        let output = Command::new("scx_flexnet").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = "/limited would run without its limit";
        assert!(
            !output.status.success() && said.contains(expected),
            "{said}"
        );
    }
    let daemon = Daemon::start(&["--ignore-cpu-max"]);
    let warned = log().contains(&format!("{WARNING}: /limited"));
    assert_eq!(warned, !told, "{}", log());
    daemon.stop();
    fs::remove_dir(&limited).unwrap();
}

/// Does the kernel tell a scheduler of cpu.max? From 6.17 on.
pub fn told_limits() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 17)
}

/// Where standard error is the journal, records go there with a priority and fields.
pub fn the_journal_has_priorities_and_fields() {
    const SOCKET: &str = "/run/systemd/journal/socket";
    fs::create_dir_all(Path::new(SOCKET).parent().unwrap()).unwrap();
    let journal = UnixDatagram::bind(SOCKET).unwrap();
    let records = Arc::new(Mutex::new(Vec::new()));
    let reader = records.clone();
    // A full socket loses records.
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(length) = journal.recv(&mut buffer) {
            let record = String::from_utf8_lossy(&buffer[..length]).into_owned();
            reader.lock().unwrap().push(record);
        }
    });
    let daemon = Daemon::start_under_journal(&["--debug"]);
    let mut app = Task::app("logged", 1);
    app.ask("load 300 64 0");
    let design = "snap".parse().unwrap();
    flexnet::client::design(SOCKET_PATH.as_ref(), Some(&design)).unwrap();
    // The value's length stands before it.
    let has = |fields: &[&str]| {
        let records = records.lock().unwrap();
        records
            .iter()
            .any(|record| fields.iter().all(|field| record.contains(field)))
    };
    eventually("a client's record", || {
        has(&["CLIENT\n\u{1}\0\0\0\0\0\0\x000\n", "PRIORITY=5\n"])
    });
    eventually("a design's record", || {
        has(&["DESIGN\n", "snap", "PRIORITY=5\n"])
    });
    eventually("a grant's record", || has(&["REASON\n", "PRIORITY=6\n"]));
    drop(app);
    daemon.stop();
    fs::remove_file(SOCKET).unwrap();
    assert!(!log().contains("client 0"), "a second time: {}", log());
}
