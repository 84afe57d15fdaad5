// SPDX-License-Identifier: GPL-2.0-only
//! The configuration file read anew under a running scheduler, by signal and by
//! command.

use crate::daemon::{self, SHARED_CONFIG, client, configure, eventually, share, status};
use crate::designs::{run, text};
use crate::rules::{Cgroup, Program, class_of, config, start_with};
use crate::tasks::Task;
use flexnet::abi::name_text;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

const NORMAL: u32 = 0;
const LATENCY: u32 = 1;
const BATCH: u32 = 2;

/// Has the daemon read its file anew, and tells what it said.
pub fn reload() -> String {
    let output = run("flexnet", &["reload"]);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// The status has the keys that wait for a restart, and the tasks of the rules below.
fn assert_status_has_the_rules() {
    let shown = || {
        let shown = run("flexnet", &["status", "--json"]).stdout;
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        (shown["after_restart"].clone(), shown["rules"].clone())
    };
    let rule = |tasks: u32, line: u32, command: &str, class: &str| {
        let text = format!("command = \"{command}\", class = \"{class}\"");
        json!({"tasks": tasks, "line": line, "rule": text})
    };
    let expected = || {
        let tails = fs::read_dir("/proc").unwrap().map_while(Result::ok);
        let tails = tails.filter(|process| {
            let name = fs::read_to_string(process.path().join("comm"));
            name.is_ok_and(|name| name == "tail\n")
        });
        let tails = rule(tails.count() as u32, 3, "tail", "latency");
        let rules = [tails, rule(2, 6, "bash", "batch")];
        (json!(["clients-max"]), json!(rules))
    };
    // Another test's `tail` may be there still, and end between the two.
    eventually("the rules in the status", || {
        let (shown, expected) = (shown(), expected());
        if shown != expected {
            println!("  {shown:?}, not {expected:?}");
        }
        shown == expected
    });
    let text_shown = text(&run("flexnet", &["status"]).stdout);
    assert!(
        text_shown.contains("after a restart: clients-max"),
        "{text_shown}"
    );
    assert!(
        text_shown.contains("     2    6 command = \"bash\""),
        "{text_shown}"
    );
}

/// Rules for what runs already, a number BPF reads, and what needs a restart.
pub fn a_file_read_anew_holds_at_once() {
    let daemon = share("max-net-cores = 0\n");
    let tail = Program::start(&["tail", "-f", "/dev/null"]);
    let script = Program::start(&["bash", "-c", "cat; true"]);
    let child = script.child("cat");
    let mut app = Task::app("load", 2);
    app.ask("load 300 64 0");
    app.await_progress(50);
    assert_eq!((status().cores_max, status().cores_granted), (0, 0));

    let rules = "[[rule]]\ncommand = \"tail\"\nclass = \"latency\"\n\
                 [[rule]]\ncommand = \"bash\"\nclass = \"batch\"\n";
    configure(&format!("max-net-cores = 1\nclients-max = 5\n{rules}"));
    let said = reload();
    assert!(
        said.contains("from now on: max-net-cores, 2 rules"),
        "{said}"
    );
    assert!(said.contains("after a restart: clients-max"), "{said}");
    eventually("a granted core", || status().cores_granted == 1);
    assert_eq!(class_of(tail.pid()), LATENCY);
    assert_eq!((class_of(script.pid()), class_of(child)), (BATCH, BATCH));
    assert_status_has_the_rules();

    // Mistakes change nothing, and are told to both.
    configure("max-net-cores = 0\n[[rule]]\nclass = \"fast\"\n");
    let output = run("flexnet", &["reload"]);
    assert!(!output.status.success());
    let mistake = format!("{SHARED_CONFIG}:3:9: class \"fast\"");
    assert!(text(&output.stderr).contains(&mistake), "{output:?}");
    assert!(daemon::log().contains(&mistake));
    assert_eq!((class_of(tail.pid()), status().cores_max), (LATENCY, 1));
    let other = Command::new("flexnet")
        .arg("reload")
        .uid(65534)
        .output()
        .unwrap();
    assert!(text(&other.stderr).contains("only root"), "{other:?}");

    // By signal; without rules all is as before, and a design switched by hand stays.
    run("flexnet", &["design", "snap"]);
    configure("max-net-cores = 1\nobjective-us = 60\n");
    daemon.hang_up();
    eventually("the rules' end", || class_of(tail.pid()) == NORMAL);
    assert_eq!((class_of(script.pid()), class_of(child)), (NORMAL, NORMAL));
    // Kernel threads are root's, too, but nobody names them.
    configure("max-net-cores = 1\n[[rule]]\nuser = \"root\"\nclass = \"batch\"\n");
    reload();
    assert_eq!((class_of(tail.pid()), class_of(2)), (BATCH, NORMAL));
    let design = || name_text(&status().design);
    assert_eq!(design(), "snap");
    configure("design = \"shinjuku\"\n");
    daemon.hang_up();
    eventually("the file's design", || design() == "shinjuku");
    app.await_progress(50);
    daemon.assert_schedules();
}

/// What the operator gives an application goes before what it asks for.
pub fn an_application_has_the_operators_terms() {
    let bounded = "design = \"snap:mode=dedicating,workers=3\"\n\
                   [[application]]\nname = \"bounded\"\nmax-cores = 1\n";
    share(bounded);
    let mut app = Task::app("bounded", 3);
    app.ask("load 300 64 0");
    app.await_progress(50);
    eventually("granted cores", || status().cores_granted > 1);
    eventually("the bound", || {
        client("bounded").is_some_and(|c| c.executors_wanted == 1)
    });
    let bound = |app: &mut Task| app.sample()["page"]["executors_wanted"].as_u64().unwrap();
    assert_eq!(bound(&mut app), 1);
    // Live, for connected clients.
    configure(&bounded.replace("max-cores = 1", "max-cores = 2"));
    assert!(reload().contains("1 applications"));
    eventually("two", || bound(&mut app) == 2);
    configure("design = \"snap:mode=dedicating,workers=3\"\n");
    reload();
    eventually("no bound", || bound(&mut app) == 3);
}

/// Cores guaranteed by the operator, to an application of an ordinary user: with the
/// design and the limits that the daemon starts with.
pub fn a_guarantee_by_the_operator_needs_no_root() {
    let rule = "max-net-cores = 1\ndesign = \"shenango\"\n\
                [[application]]\nuser = \"nobody\"\nguarantee = 1\n";
    let daemon = start_with(&config("guarantee.toml", rule));
    assert_eq!(name_text(&status().design), "shenango");
    let mut nobody = Task::play(&[], &["nobody", "app", "nobody", "1"]);
    eventually("the guarantee", || nobody.sample()["guaranteed"] == 1);
    let mut late = Task::play(&[], &["app", "late", "1", "1"]);
    assert_eq!(late.sample()["guaranteed"], 0);
    drop((nobody, late));

    // The same by the cgroup that its process is in when it connects.
    config(
        "guarantee.toml",
        &rule.replace("user = \"nobody\"", "cgroup = \"/**/kept\""),
    );
    assert!(reload().contains("1 applications"));
    let kept = Cgroup::new("guarantees/kept");
    let enter = format!("echo $$ > {}; exec \"$@\"", kept.procs().display());
    let enter = ["ash", "-c", &enter, "ash"];
    let mut inside = Task::play(&enter, &["nobody", "app", "inside", "1"]);
    eventually("the cgroup's guarantee", || {
        inside.sample()["guaranteed"] == 1
    });
    drop(inside);
    let mut outside = Task::play(&[], &["nobody", "app", "inside", "1"]);
    assert_eq!(outside.sample()["guaranteed"], 0);
    drop(outside);
    daemon.stop();
}
