// SPDX-License-Identifier: GPL-2.0-only
//! What operators are shown.

use crate::classes::granted_core;
use crate::daemon::{Daemon, eventually};
use crate::tasks::Task;
use serde_json::Value;
use std::process::{Command, Stdio};

/// `flexnet top` names the core an executor is on, and whose it is.
pub fn top_shows_cores_and_applications() {
    let daemon = Daemon::start(&[]);
    let mut app = Task::app("watched", 1);
    app.ask("load 300 64 0");
    let core = granted_core(&mut app);
    let top = |arguments: &[&str]| {
        let mut command = Command::new("flexnet");
        let output = command
            .args(["top", "--once", "--interval", "0.2"])
            .args(arguments);
        let output = output.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    eventually("the executor in top", || {
        let look: Value = serde_json::from_str(&top(&["--json"])).unwrap();
        let busy = look["applications"][0]["cpus"].as_f64() > Some(0.0);
        look["applications"][0]["name"] == "watched" && busy && look["cpus"][core] == "executor"
    });
    let screen = top(&["--width", "80"]);
    assert!(
        screen.contains("watched") && screen.contains("granted 1 of"),
        "{screen}"
    );
    let mut terminal = Command::new("flexnet");
    let refused = terminal.arg("top").stdout(Stdio::piped()).output().unwrap();
    assert!(!refused.status.success(), "no terminal");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--once"));
    app.ask("idle");
    daemon.stop();
}
