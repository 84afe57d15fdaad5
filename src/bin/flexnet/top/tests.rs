// SPDX-License-Identifier: GPL-2.0-only
//! What a screen says, at both widths.

use super::*;
use flexnet::abi::{CpuState, Status, StatusClient, name_bytes};

fn status(uptime_s: u64) -> Status {
    let mut status = Status {
        cpus: 20,
        cores_granted: 2,
        cores_max: 19,
        clients: 1,
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
    };
    status
}

fn history() -> History {
    let mut before = status(10);
    before.cores_granted = 1;
    before.grants = 5;
    let mut now = status(12);
    now.grants = 9;
    let mut history = History::new(Look::new(before));
    history.add(Look::new(now));
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
            " 1.50 ",
            "cores 1 → 2",
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
    let lines = text(&History::new(Look::new(many)), 80).unwrap();
    let cores: usize = lines
        .iter()
        .map(|line| line.split_whitespace().skip(1))
        .map(|words| words.filter(|word| word.chars().all(|c| c == '.')))
        .map(|groups| groups.map(str::len).sum::<usize>())
        .sum();
    assert_eq!(cores, 1024 + 1, "and the legend's");
}

#[test]
fn scripts_get_json_and_a_loss_is_told() {
    let mut history = history();
    let json: serde_json::Value = serde_json::from_str(&history.json()).unwrap();
    assert_eq!(json["applications"][0]["cpus"], 1.5);
    assert_eq!(json["cpus"][18], "executor");
    assert_eq!(json["cpus"].as_array().unwrap().len(), 20);
    history.lose("no status");
    let screen = text(&history, 80).unwrap().join("\n");
    assert!(screen.contains("GONE") && screen.contains("no status"));
    // A new scheduler counts from its own start.
    history.add(Look::new(status(1)));
    assert_eq!(history.rate(|status| status.grants), 0.0);
}
