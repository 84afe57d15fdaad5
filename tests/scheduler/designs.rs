// SPDX-License-Identifier: GPL-2.0-only
//! Designs: decided in the kernel as on the host, each under load, and switched
//! live from each to each other.

use crate::classes::granted_core;
use crate::daemon::{client, eventually, share, status, transitions};
use crate::loss::{await_executors, receive};
use crate::tasks::{Task, shares};
use flexnet::abi::{SOCKET_PATH, name_text};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::Duration;

const DESIGNS: [&str; 10] = [
    "flexnet",
    "netchannel",
    "snap:mode=dedicating",
    "snap:mode=spreading",
    "snap",
    "shenango",
    "shenango:rule=delay",
    "shenango:rule=utilisation",
    "shinjuku",
    "shinjuku:mode=jbsq",
];

pub fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same inputs through BPF and through the host's build of designs.h.
pub fn the_kernel_decides_as_the_host() {
    let output = run("scx_flexnet", &["--check-designs", "5000"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("5000 rounds"));
}

/// Under each, work is granted a core, and the cores come back.
pub fn every_design_serves() {
    for design in DESIGNS {
        let daemon = share(&format!("design = \"{design}\"\n"));
        let name = name_text(&status().design);
        assert!(design.starts_with(&name), "{design}: {name}");
        let mut app = Task::app("load", 2);
        app.ask("load 300 64 0");
        granted_core(&mut app);
        app.await_progress(100);
        app.ask("idle");
        eventually("the cores' return", || status().cores_granted == 0);
        daemon.assert_schedules();
        app.finish();
        eventually("the client's end", || status().clients == 0);
    }
}

/// The rule itself, not only its name: fixed cores come all at once, the default's
/// one by one.
pub fn a_switch_changes_how_cores_are_granted() {
    share("max-net-cores = 3\n");
    let mut app = Task::app("load", 2);
    // Starting is work, too.
    await_executors("load", 2);
    eventually("no cores", || status().cores_granted == 0);
    let mut first_step = |design: &str| {
        let choice = design.parse().unwrap();
        flexnet::client::design(SOCKET_PATH.as_ref(), Some(&choice)).unwrap();
        let known = transitions().last().map_or(0, |step| step.at_ns);
        app.ask("load 300 64 0");
        granted_core(&mut app);
        app.ask("idle");
        eventually("the cores' return", || status().cores_granted == 0);
        let all = transitions();
        let step = all
            .iter()
            .find(|step| step.at_ns > known && step.before == 0);
        step.map(|step| step.after)
    };
    assert_eq!(first_step("flexnet"), Some(1));
    assert_eq!(first_step("snap:mode=dedicating,workers=3"), Some(3));
    assert_eq!(first_step("shinjuku:workers=2"), Some(2));
    assert_eq!(first_step("flexnet"), Some(1));
}

/// A stream and an application under load while every design follows every other
/// one: what was accepted arrives, in order.
pub fn designs_are_switched_under_load() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let daemon = share("max-net-cores = 2\n");
    let mut app = Task::app("load", 2);
    app.ask("load 300 64 0");
    let mut stream = Task::play(&[], &["stream", "stream", "2", &port]);
    let receiver = receive(listener.accept().unwrap().0);
    await_executors("load", 2);
    await_executors("stream", 2);
    let before = client("stream").unwrap().client;
    for from in DESIGNS {
        for to in DESIGNS.iter().filter(|to| **to != from) {
            for design in [from, to] {
                let choice = design.parse().unwrap();
                let on = flexnet::client::design(SOCKET_PATH.as_ref(), Some(&choice));
                assert_eq!(on.unwrap(), design);
                // Both go on under it, and not the arbiter alone.
                app.await_progress(5);
                eventually("the stack's switch", || app.sample()["design"] == *design);
            }
        }
    }
    // Nobody was disconnected for it.
    assert_eq!(client("stream").unwrap().client, before);
    let accepted: u64 = stream.ask("stop").parse().unwrap();
    assert_eq!(
        receiver.join().unwrap(),
        accepted,
        "bytes received and accepted"
    );
    assert!(accepted > 0);
    println!("  {accepted} bytes over 180 switches");
    stream.finish();
    app.ask("idle");
    eventually("the cores' return", || status().cores_granted == 0);
    daemon.assert_schedules();
}

/// `flexnet design ACTION`, for a folder with the object that was compiled for it.
fn folder(action: &str, folder: &str, keys: &str) -> Output {
    let dir = format!("/flexnet/designs/{folder}");
    let object = format!("{dir}/core_rule.o");
    let named = match keys {
        "" => dir.clone(),
        keys => format!("{dir}:{keys}"),
    };
    run("flexnet", &["design", action, &named, "--object", &object])
}

fn loaded(name: &str, keys: &str) {
    let output = folder("load", name, keys);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(name_text(&status().design), name);
}

fn cores(number: u32) {
    eventually("the rule's number of cores", || {
        status().cores_granted == number
    });
}

/// Rules from outside come and go under load. Cores follow the one that is loaded, and the
/// built-in one where it has no answer, is gone or was refused.
pub fn a_core_rule_is_loaded_under_load() {
    let list = || text(&run("flexnet", &["design", "list"]).stdout);
    let daemon = share("max-net-cores = 3\n");
    let mut app = Task::app("load", 3);
    app.ask("load 300 64 0");
    granted_core(&mut app);
    let client_before = client("load").unwrap().client;
    // By the default rule three executors that are behind have three cores.
    cores(3);
    loaded("fixed", "cores=1");
    cores(1);
    app.await_progress(100);
    assert_eq!(status().cores_granted, 1);
    loaded("fixed", "cores=2");
    cores(2);
    // More than there may be is bounded, and none is not for long where there is work.
    loaded("fixed", "cores=4000");
    cores(3);
    loaded("fixed", "cores=0");
    cores(1);
    app.await_progress(100);
    assert!(
        list().starts_with("fixed is loaded, on flexnet:"),
        "{}",
        list()
    );

    // Refused: the verifier says why, and the rule before stays on.
    let refused = folder("load", "beyond", "");
    assert!(!refused.status.success());
    let why = text(&refused.stderr);
    assert!(
        why.contains("verifier refuses it") && why.contains("processed "),
        "{why}"
    );
    assert_eq!(name_text(&status().design), "fixed");
    app.await_progress(100);
    assert_eq!(status().cores_granted, 1);

    // Nonsense: the default rule decides.
    loaded("fixed", "cores=5000");
    cores(3);
    assert!(!list().ends_with(" 0 without an answer\n"), "{}", list());

    // By queued messages.
    loaded("backlog", "messages=1000");
    cores(1);
    loaded("backlog", "messages=8");
    cores(3);
    app.ask("idle");
    cores(0);
    app.ask("load 300 64 0");

    // Unloaded, by name or by a switch.
    loaded("fixed", "cores=1");
    cores(1);
    let output = run("flexnet", &["design", "unload"]);
    assert!(text(&output.stdout).starts_with("fixed is unloaded"));
    assert_eq!(name_text(&status().design), "flexnet");
    cores(3);
    loaded("fixed", "cores=1");
    cores(1);
    switch("snap:mode=dedicating,workers=2");
    cores(2);
    assert!(list().starts_with("no core rule is loaded"));

    // It was connected all the time.
    assert_eq!(client("load").unwrap().client, client_before);
    app.ask("idle");
    cores(0);
    daemon.assert_schedules();
}

fn switch(design: &str) {
    let choice = design.parse().unwrap();
    flexnet::client::design(SOCKET_PATH.as_ref(), Some(&choice)).unwrap();
}

/// With budgets an ordinary task has what is left of each period, without them a
/// turn now and then: the same work, the same core.
pub fn micro_quanta_leave_the_rest_of_a_core() {
    let limited = "snap:mode=spreading,runtime=1ms,period=10ms";
    share(&format!("max-net-cores = 1\ndesign = \"{limited}\"\n"));
    let mut app = Task::app("load", 1);
    app.ask("load 200 64 0");
    let cpu = granted_core(&mut app);
    let hog = Task::hog();
    hog.pin(&[cpu]);
    // Or the executor would go on elsewhere meanwhile.
    let other = Task::hog();
    other.pin(&[1 - cpu]);
    let share_of_hog = || {
        // Of the executor's thread alone: its driver runs elsewhere.
        let executor = || client("load").unwrap().run_ns;
        let before = executor();
        let hog = shares(&[&hog], Duration::from_secs(1))[0];
        hog as f64 / (hog + executor() - before) as f64
    };
    let within = share_of_hog();
    // A period that is all runtime is no limit.
    switch("snap:mode=spreading,runtime=1ms,period=1ms");
    let without = share_of_hog();
    println!("  an ordinary task's share: {within:.2} with a budget, {without:.2} without");
    assert!(within > 2.0 * without, "{within} {without}");
    // It is work-conserving, and nothing is stuck.
    switch(limited);
    drop((hog, other));
    app.await_progress(100);
    app.ask("idle");
    eventually("the cores' return", || status().cores_granted == 0);
}

/// Shenango: an application below its guarantee takes the core of one above its own, at once and
/// for as long as it has work; the executor that lost it goes on as an ordinary task.
pub fn a_guarantee_takes_a_core_above_anothers_guarantee() {
    share("max-net-cores = 1\ndesign = \"shenango\"\n");
    let mut borrower = Task::app("borrower", 1);
    let mut owner = Task::play(&[], &["app", "owner", "1", "1"]);
    // There is one core to guarantee, and it is given.
    let mut late = Task::play(&[], &["app", "late", "1", "1"]);
    let nobody = Task::play(&[], &["nobody", "app", "nobody", "1", "1"]);
    eventually("guarantees", || owner.sample()["guaranteed"] == 1);
    assert_eq!(late.sample()["guaranteed"], 0);
    drop((late, nobody));
    borrower.ask("load 200 2000 0");
    granted_core(&mut borrower);
    for _ in 0..3 {
        owner.ask("load 200 2000 0");
        granted_core(&mut owner);
        let until = owner.done() + 200;
        let before = borrower.done();
        let (mut samples, mut had_it) = (0, 0);
        eventually("the owner's work", || {
            samples += 1;
            had_it += u32::from(has_granted_core(&mut borrower));
            owner.done() >= until
        });
        // A sample may fall on the moment in between.
        assert!(had_it <= 1 + samples / 10, "{had_it} of {samples}");
        borrower.await_progress(1);
        assert!(borrower.done() > before, "not stopped");
        owner.ask("idle");
        granted_core(&mut borrower);
    }
    borrower.ask("idle");
    eventually("the cores' return", || status().cores_granted == 0);
}

/// Does an executor of it run on a granted core now?
fn has_granted_core(app: &mut Task) -> bool {
    let sample = app.sample();
    let executors = sample["page"]["executors"].as_array().unwrap();
    executors
        .iter()
        .any(|executor| executor["on_cpu"].as_i64() >= Some(0) && executor["granted"] == 1)
}

pub fn only_root_switches_and_errors_list() {
    let refused = run("scx_flexnet", &["--design", "shenjuku"]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("netchannel, snap, shenango, shinjuku"));
    share("design = \"snap:mode=spreading\"\n");
    let shown = text(&run("flexnet", &["design"]).stdout);
    assert!(shown.starts_with("snap:mode=spreading is on"), "{shown}");
    assert!(
        shown.contains("shinjuku") && shown.contains(":quantum="),
        "{shown}"
    );
    let switched = run("flexnet", &["design", "shinjuku:quantum=20us"]);
    assert_eq!(text(&switched.stdout), "shinjuku:quantum=20us is on\n");
    assert_eq!(name_text(&status().design), "shinjuku");
    let wrong = run("flexnet", &["design", "snap:mode=wide"]);
    assert!(!wrong.status.success());
    assert!(text(&wrong.stderr).contains("dedicating, spreading, compacting"));
    let other = Command::new("flexnet")
        .args(["design", "flexnet"])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(!other.status.success());
    assert!(text(&other.stderr).contains("only root"), "{other:?}");
    assert_eq!(name_text(&status().design), "shinjuku");
}
