// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet run` as a prefix of a command: what the command gets, and what is said when it
//! cannot be run.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::process::{Command, Output};

fn run(shell: &str) -> Output {
    Command::new("sh")
        .args(["-c", shell])
        .env("FLEXNET", env!("CARGO_BIN_EXE_flexnet"))
        // Any library that can be preloaded: what it does is not asked here.
        .env("FLEXNET_PRELOAD", "/proc/self/exe")
        .output()
        .expect("a shell")
}

fn status(shell: &str) -> i32 {
    run(shell).status.code().expect("a status")
}

#[test]
fn the_status_says_why_a_command_was_not_run() {
    assert_eq!(status("$FLEXNET run --offload=off -q -- true"), 0);
    assert_eq!(status("$FLEXNET run --offload=off -q -- sh -c 'exit 7'"), 7);
    assert_eq!(
        status("$FLEXNET run --offload=off -q -- /nonexistent/x"),
        127
    );
    assert_eq!(status("$FLEXNET run --offload=off -q -- /etc/passwd"), 126);
}

#[test]
fn quiet_is_quiet() {
    let said = |flags: &str| run(&format!("$FLEXNET run --offload=off {flags} -- true")).stderr;
    let loud = String::from_utf8(said("")).expect("text");
    assert!(loud.contains("flexnet: FLEXNET_OFFLOAD=off"), "{loud}");
    let quiet = String::from_utf8(said("--quiet")).expect("text");
    assert!(!quiet.contains("flexnet: "), "{quiet}");
}

#[test]
fn ignored_signals_stay_ignored() {
    let ignored = "sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status";
    for trap in ["", "trap '' PIPE HUP;"] {
        let plain = run(&format!("{trap} {ignored}")).stdout;
        let under = run(&format!(
            "{trap} $FLEXNET run --offload=off -q -- {ignored}"
        ))
        .stdout;
        assert_eq!(plain, under, "with {trap:?}");
    }
}
