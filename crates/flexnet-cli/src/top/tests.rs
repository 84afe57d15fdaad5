// SPDX-License-Identifier: GPL-2.0-only
//! What a screen says, at both widths.

use super::*;
use flexnet::abi::{CpuState, PID_KERNEL, Status, StatusChange, StatusClient, name_bytes};

fn status(uptime_s: u64) -> Status {
    let mut status = Status {
        cpus: 20,
        cores_granted: 2,
        cores_max: 19,
        clients: 2,
        uptime_ns: uptime_s * 1_000_000_000,
        version: name_bytes("1.2.3"),
        design: name_bytes("shenango"),
        ..Status::default()
    };
    status.cpu[..20].fill(CpuState::Busy as u8);
    status.cpu[17] = CpuState::Lent as u8;
    status.cpu[18] = CpuState::Executor as u8;
    status.client[0] = StatusClient {
        client: 0,
        pid: 4711,
        name: name_bytes("kv"),
        executors: 4,
        executors_wanted: 2,
        depth: 12,
        delay_ns: 34_000,
        run_ns: uptime_s * 1_500_000_000,
        cores: 1,
        flow_classes: 2,
    };
    status.client[1] = StatusClient {
        client: 1,
        pid: PID_KERNEL,
        name: name_bytes("eth0"),
        executors: 8,
        ..StatusClient::default()
    };
    status
}

fn history() -> History {
    let mut before = status(10);
    before.cores_granted = 1;
    before.grants = 5;
    let mut now = status(12);
    now.grants = 9;
    now.preemptions = 31;
    now.takebacks = 4;
    // Nineteen since the sample before, of which sixteen are told.
    before.changes = 1;
    now.changes = 20;
    for number in 4..20u64 {
        now.change[number as usize % 16] = StatusChange {
            at_ns: 11_000_000_000 + number * 10_000_000,
            since_ns: 1_500_000,
            before: number as u32 % 2,
            after: 1 - number as u32 % 2,
            reason: 1 + 3 * (number as u32 % 2),
            reserved: 0,
        };
    }
    let mut history = History::new(Sample::new(before));
    history.add(Sample::new(now));
    history
}

#[test]
fn a_screen_says_it_all_at_any_width() {
    for width in [80, 300] {
        let lines = text(&history(), width).unwrap();
        let screen = lines.join("\n");
        for part in [
            "scx_flexnet 1.2.3, design shenango, up 12 s",
            "granted 2 of 20 CPUs (at most 19)",
            "2.0 grants",
            "gggggggg gggggggg gGEg",
            "4711",
            "kv",
            " kernel eth0",
            " 1.50 ",
            "latency        1    4    2  1.50      12        34",
            "12.0  31 preemptions, 4 lent cores taken back",
            "11.2  reclaim: cores 1 → 0 (no work, after 1.5 ms)",
            "11.2  grant: cores 0 → 1 (work arrived, after 1.5 ms)",
        ] {
            assert!(screen.contains(part), "{width}: {part:?} in\n{screen}");
        }
        assert!(
            lines
                .iter()
                .all(|line| line.chars().count() <= width.into())
        );
    }
}

#[test]
fn many_cores_wrap() {
    let mut many = status(1);
    many.cpu.fill(CpuState::Idle as u8);
    let lines = text(&History::new(Sample::new(many)), 80).unwrap();
    let cores: usize = lines
        .iter()
        .map(|line| line.split_whitespace().skip(1))
        .map(|words| words.filter(|word| word.chars().all(|c| c == '.')))
        .map(|groups| groups.map(str::len).sum::<usize>())
        .sum();
    assert_eq!(cores, 1024 + 1, "and the legend's");
}

#[test]
fn scripts_get_json_and_a_loss_is_reported() {
    let mut history = history();
    let json: serde_json::Value = serde_json::from_str(&history.json()).unwrap();
    assert_eq!(json["applications"][0]["cpus"], 1.5);
    assert_eq!(json["applications"][0]["kind"], "application");
    assert_eq!(json["applications"][1]["kind"], "kernel");
    assert!(json["applications"][1]["pid"].is_null());
    assert_eq!(json["cpus"][18], "executor");
    assert_eq!(json["cpus"].as_array().unwrap().len(), 20);
    history.lose("no status");
    let screen = text(&history, 80).unwrap().join("\n");
    assert!(screen.contains("GONE") && screen.contains("no status"));
    // A new scheduler counts from its own start.
    history.add(Sample::new(status(1)));
    assert_eq!(history.rate(|status| status.grants), 0.0);
}

#[test]
fn events_stand_beside_applications_where_there_is_room() {
    let line = |width, part: &str| {
        let lines = text(&history(), width).unwrap();
        lines.iter().position(|line| line.contains(part)).unwrap()
    };
    assert_eq!(line(300, "application"), line(300, "last events"));
    assert!(line(80, "application") < line(80, "last events"));
}

#[test]
fn what_is_lost_between_two_samples_is_reported() {
    let events: Vec<_> = history().events().cloned().collect();
    assert_eq!(events.len(), 1 + 16 + 1);
    assert_eq!(events[17].1, "3 more grants and reclaims");
    assert!(events.is_sorted_by(|a, b| a.0 >= b.0));
}

#[test]
fn applications_without_a_line_are_counted() {
    let mut many = status(1);
    many.clients = 40;
    for (id, client) in many.client.iter_mut().enumerate().take(40) {
        client.pid = id as u32 + 1;
    }
    let history = History::new(Sample::new(many));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw::draw(frame, &history)).unwrap();
    let screen = terminal.backend().to_string();
    let reported: usize = screen
        .lines()
        .filter_map(|line| {
            line.split(" more")
                .next()?
                .split_whitespace()
                .last()?
                .parse()
                .ok()
        })
        .next()
        .unwrap();
    let shown = screen.lines().filter(|line| line.contains("none")).count();
    // The first one's is latency.
    assert!(
        shown > 5 && 1 + shown + reported == 40,
        "{shown} and {reported} in\n{screen}"
    );
}
