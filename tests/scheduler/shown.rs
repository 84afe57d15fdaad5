// SPDX-License-Identifier: GPL-2.0-only
//! What operators are shown.

use crate::classes::granted_core;
use crate::daemon::{Daemon, eventually, status};
use crate::tasks::Task;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
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

/// The OpenMetrics endpoint, scraped while there is something to tell.
pub fn metrics_are_served() {
    let daemon = Daemon::start(&["--metrics", "127.0.0.1:9595"]);
    let mut app = Task::app("scraped", 1);
    app.ask("load 300 64 0");
    granted_core(&mut app);
    let scrape_as = |accept: &str| {
        let mut stream = TcpStream::connect("127.0.0.1:9595").unwrap();
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: flexnet\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let scrape = || scrape_as("application/openmetrics-text;version=1.0.0,*/*;q=0.1");
    let value_in = |answer: &str, name: &str| {
        let mut lines = answer.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let mut last = String::new();
    eventually("the application's numbers", || {
        let answer = scrape();
        let value = |name| value_in(&answer, name);
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("# EOF"),
            "{answer}"
        );
        let there = value("flexnet_client_run_seconds_total{client=\"0:scraped\"}") > 0.0
            && value("flexnet_client_cores{client=\"0:scraped\"}") == 1.0
            && value("flexnet_granted_core_seconds_total") > 0.0
            && value("flexnet_queue_delay_seconds_count") > 0.0
            && value("flexnet_grant_latency_seconds_count") > 0.0
            && value("flexnet_class_wait_seconds_count{class=\"executor\"}") > 0.0
            && value("flexnet_cores_granted") == 1.0;
        last = answer;
        there
    });
    // For parsers outside: ci/test has them.
    for (name, answer) in [("openmetrics", last), ("prometheus", scrape_as("*/*"))] {
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        fs::write(format!("/out/metrics.{name}"), body).unwrap();
    }

    // Without load no message waits and no core is granted; with it, they are.
    app.ask("idle");
    eventually("the cores' return", || status().cores_granted == 0);
    let grants = |answer: &str| value_in(answer, "flexnet_grant_latency_seconds_count");
    let looks = |answer: &str| value_in(answer, "flexnet_queue_delay_seconds_count");
    let calm = scrape();
    app.ask("load 300 64 0");
    eventually("counts that move", || {
        let answer = scrape();
        grants(&answer) > grants(&calm) && looks(&answer) > looks(&calm)
    });
    app.ask("idle");
    daemon.stop();
}
