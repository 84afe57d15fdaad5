// SPDX-License-Identifier: GPL-2.0-only
//! What operators are shown.

use crate::classes::granted_core;
use crate::daemon::{Daemon, configure, eventually, share, status};
use crate::reload::reload;
use crate::rules::Program;
use crate::tasks::{Task, online_cpus};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// `flexnet top` names the core an executor is on, and whose it is.
pub fn top_shows_cores_and_applications() {
    share("");
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
        let sample: Value = serde_json::from_str(&top(&["--json"])).unwrap();
        let busy = sample["applications"][0]["cpus"].as_f64() > Some(0.0);
        let held = sample["applications"][0]["cores"] == 1;
        sample["applications"][0]["name"] == "watched"
            && busy
            && held
            && sample["cpus"][core] == "executor"
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
    let samples = |answer: &str| value_in(answer, "flexnet_queue_delay_seconds_count");
    let calm = scrape();
    app.ask("load 300 64 0");
    eventually("counts that move", || {
        let answer = scrape();
        grants(&answer) > grants(&calm) && samples(&answer) > samples(&calm)
    });
    app.ask("idle");
    daemon.stop();
}

/// What `flexnet why` tells as JSON, of each thread.
fn why(uid: u32, pid: u32) -> Result<Vec<Value>, String> {
    let mut command = Command::new("flexnet");
    let output = command
        .args(["why", "--json", &pid.to_string()])
        .uid(uid)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let sample: Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(sample["threads"].as_array().unwrap().clone())
}

/// A task's class and what gave it, where it may run and has waited; for its owner
/// and root alone.
pub fn why_explains_classes_places_and_waits() {
    const NOBODY: u32 = 65534;
    share("");
    // It asked; what it forks inherits.
    let asked = Task::play(&["flexnet", "run", "--class", "batch", "--"], &["hog"]);
    let parent = Task::play(
        &["flexnet", "run", "--class", "latency", "--"],
        &["nested", "hog"],
    );
    let first = |pid| why(0, pid).unwrap()[0].clone();
    eventually("the class that was asked for", || {
        let thread = first(asked.pid());
        thread["class"] == "batch" && thread["origin"] == "registration"
    });
    let children = format!("/proc/{0}/task/{0}/children", parent.pid());
    eventually("whose parent asked", || {
        let children = fs::read_to_string(&children).unwrap();
        let child = children.split_whitespace().next();
        let thread = child.and_then(|pid| why(0, pid.parse().unwrap()).ok());
        thread.is_some_and(|threads| {
            threads[0]["class"] == "latency" && threads[0]["origin"] == "parent"
        })
    });

    // More hogs than CPUs: they wait in the shared queue, and are preempted.
    let hogs: Vec<Task> = (0..3).map(|_| Task::hog()).collect();
    hogs[0].pin(&[0]);
    eventually("a hog's waits", || {
        let (pinned, free) = (first(hogs[0].pid()), first(hogs[1].pid()));
        let count = |of: &Value, queue: &str| of["waits"][queue]["count"].as_u64().unwrap();
        let cpus = |of: &Value| {
            let lists = ["general_cpus", "granted_cpus"];
            lists
                .map(|list| of[list].as_array().unwrap().len())
                .iter()
                .sum::<usize>()
        };
        assert_eq!((cpus(&pinned), cpus(&free)), (1, online_cpus().len()));
        assert_eq!(
            (&free["class"], &free["origin"]),
            (&"normal".into(), &"default".into())
        );
        count(&pinned, "cpu") > 0
            && count(&free, "general") > 0
            && free["run_ns"].as_u64() > Some(0)
    });
    drop(hogs);

    let mut app = Task::app("asking", 1);
    app.ask("load 300 64 0");
    let core = granted_core(&mut app);
    eventually("the executor", || {
        let threads = why(0, app.pid()).unwrap();
        assert_eq!(threads.len(), crate::tasks::threads(app.pid()).len());
        threads.iter().any(|thread| {
            thread["class"] == "executor"
                && thread["origin"] == "registration"
                && thread["granted_cpus"] == json!([core])
                && thread["waits"]["executor"]["count"].as_u64() > Some(0)
        })
    });
    app.ask("idle");

    // Another's is not told, one's own is.
    let refused = why(NOBODY, app.pid()).unwrap_err();
    assert!(refused.contains("only root may ask"), "{refused}");
    let mut own = Command::new("sleep")
        .arg("1000")
        .uid(NOBODY)
        .spawn()
        .unwrap();
    assert_eq!(why(NOBODY, own.id()).unwrap().len(), 1);
    own.kill().unwrap();
    own.wait().unwrap();
    let gone = why(0, own.id()).unwrap_err();
    assert!(gone.contains("no process"), "{gone}");
}

/// A class by the operator's rule: of the task that fits, of what it starts, and
/// no longer when the rule is gone.
pub fn why_names_a_rule() {
    let rule = "[[rule]]\ncommand = \"bash\"\nclass = \"batch\"\n";
    share(rule);
    let script = Program::start(&["bash", "-c", "cat; true"]);
    let child = script.child("cat");
    let origin_of = |pid: i32| {
        let thread = why(0, pid as u32).unwrap()[0].clone();
        ["class", "origin"].map(|key| thread[key].as_str().unwrap().to_owned())
    };
    assert_eq!(origin_of(script.pid()), ["batch", "rule"]);
    assert_eq!(origin_of(child), ["batch", "parent"]);
    let text = Command::new("flexnet")
        .args(["why", &script.pid().to_string()])
        .output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    assert!(text.contains("class  batch: an operator's rule"), "{text}");
    // One that asks for itself is not the rule's.
    let asked = Program::start(&[
        "flexnet",
        "run",
        "--class",
        "latency",
        "--",
        "bash",
        "-c",
        "cat; true",
    ]);
    asked.child("cat");
    assert_eq!(origin_of(asked.pid()), ["latency", "registration"]);
    configure("");
    reload();
    assert_eq!(origin_of(script.pid()), ["normal", "default"]);
    assert_eq!(origin_of(child), ["normal", "default"]);
}

fn trace(uid: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("flexnet");
    command.arg("trace").args(arguments).uid(uid);
    command
}

/// Does this trace have slices that nest on every track, grants with executors in
/// them and turns of flows in executors' time on a CPU?
fn is_whole(trace: &Value, app: u32) -> bool {
    let mut open: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut last: BTreeMap<(u64, u64), f64> = BTreeMap::new();
    let (mut granted, mut turns, mut submits) = (0, 0, 0);
    for event in trace["traceEvents"].as_array().unwrap() {
        let track = (
            event["pid"].as_u64().unwrap(),
            event["tid"].as_u64().unwrap_or(0),
        );
        let (phase, name) = (event["ph"].as_str().unwrap(), event["name"].as_str());
        if matches!(phase, "M" | "C") {
            continue;
        }
        let at = event["ts"].as_f64().unwrap();
        let before = last.insert(track, at).unwrap_or(0.0);
        assert!(before <= at, "{event} is earlier than {before}");
        let stack = open.entry(track).or_default();
        let outer = stack.last().map(String::as_str).unwrap_or_default();
        match phase {
            "B" => {
                let name = name.unwrap();
                let turn = name.starts_with("flow ");
                assert!(!turn || outer.starts_with("CPU "), "{event} in {outer}");
                turns += usize::from(turn && track.0 == u64::from(app));
                granted += usize::from(name == "traced/0" && outer == "granted");
                stack.push(name.to_owned());
            }
            "E" => assert!(stack.pop().is_some(), "{event} ends nothing"),
            "i" => submits += usize::from(name == Some("submit")),
            other => panic!("phase {other}"),
        }
    }
    assert!(open.values().all(Vec::is_empty), "left open: {open:?}");
    println!("  {granted} times on a granted core, {turns} turns, {submits} submits");
    granted > 0 && turns > 0 && submits > 0
}

/// `flexnet trace` under load: it is root's, its file has what it should, and one
/// that is killed leaves nothing behind.
pub fn a_trace_has_cores_executors_and_turns() {
    const FILE: &str = "/out/trace.json";
    share("");
    let mut app = Task::app("traced", 1);
    app.ask("load 300 64 0");
    granted_core(&mut app);
    let refused = trace(65534, &["--output", "/tmp/no"]).output().unwrap();
    assert!(!refused.status.success());

    let long = ["--seconds", "60", "--output", "/tmp/killed"];
    let mut killed = trace(0, &long).spawn().unwrap();
    let short = ["--seconds", "0.5", "--output", FILE];
    eventually("somebody else's trace", || {
        // The other one may have been first: then it was this one's turn to be
        // refused.
        if killed.try_wait().unwrap().is_some() {
            killed = trace(0, &long).spawn().unwrap();
        }
        let output = trace(0, &short).output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("another trace is running")
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    eventually("a whole trace", || {
        let output = trace(0, &short).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return false; // the killed one's end is still to be seen
        }
        print!("  {said}");
        let file: Value = serde_json::from_slice(&fs::read(FILE).unwrap()).unwrap();
        assert!(said.contains("1 of 1 applications"), "{said}");
        is_whole(&file, app.pid())
    });
    app.await_progress(20);
    app.ask("idle");
}
