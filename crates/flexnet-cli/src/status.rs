// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet status`.

use crate::client::{flow_class, kind, pid};
use anyhow::{Context, Result};
use flexnet::abi::{
    CpuState, SOCKET_PATH, Status, StatusClient, StatusRule, StatusRules, name_text,
};
use serde_json::json;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
    /// Print one line of JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn fetch(socket: &Path) -> Result<Status> {
    flexnet::client::status(socket).with_context(|| {
        format!(
            "cannot get the status of the scheduler at {} (does scx_flexnet run?)",
            socket.display()
        )
    })
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let status = fetch(&options.socket)?;
    let rules = fetch_rules(&options.socket)?;
    if options.json {
        println!("{}", as_json(&status, rules.as_ref()));
    } else {
        println!("{}", as_text(&status));
        print!("{}", rules.as_ref().map(rules_text).unwrap_or_default());
    }
    Ok(())
}

/// The rules, where the caller is root and the daemon tells of them.
fn fetch_rules(socket: &Path) -> Result<Option<StatusRules>> {
    match flexnet::client::rules(socket) {
        Ok(rules) => Ok(Some(rules)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).context("cannot get the rules of the scheduler"),
    }
}

fn entries(rules: &StatusRules) -> &[StatusRule] {
    let count = (rules.rules as usize).min(rules.rule.len());
    &rules.rule[..count]
}

fn rules_text(rules: &StatusRules) -> String {
    let mut text = String::new();
    let restart = name_text(&rules.restart);
    if !restart.is_empty() {
        text.push_str(&format!("after a restart: {restart}\n"));
    }
    if rules.rules > 0 {
        text.push_str(" tasks line rule\n");
    }
    for rule in entries(rules) {
        let says = name_text(&rule.text);
        text.push_str(&format!("{:>6} {:>4} {says}\n", rule.tasks, rule.line));
    }
    text
}

fn clients(status: &Status) -> &[StatusClient] {
    let count = (status.clients as usize).min(status.client.len());
    &status.client[..count]
}

fn as_json(status: &Status, rules: Option<&StatusRules>) -> String {
    let restart = rules.map(|rules| {
        let keys = name_text(&rules.restart);
        let keys = keys.split(", ").filter(|key| !key.is_empty());
        keys.map(str::to_owned).collect::<Vec<_>>()
    });
    let rules = rules.map(|rules| {
        let entry = |rule: &StatusRule| {
            let text = name_text(&rule.text);
            json!({ "tasks": rule.tasks, "line": rule.line, "rule": text })
        };
        entries(rules).iter().map(entry).collect::<Vec<_>>()
    });
    let clients: Vec<_> = clients(status)
        .iter()
        .map(|client| {
            json!({
                "client": client.client, "kind": kind(client), "pid": pid(client),
                "name": name_text(&client.name),
                "cores": client.cores, "class": flow_class(client.flow_classes),
                "executors": client.executors, "executors_wanted": client.executors_wanted,
                "depth": client.depth, "delay_ns": client.delay_ns, "run_ns": client.run_ns,
            })
        })
        .collect();
    json!({
        "version": name_text(&status.version), "design": name_text(&status.design),
        "cpus": status.cpus, "cores_granted": status.cores_granted, "cores_max": status.cores_max,
        "takebacks": status.takebacks, "anti_starvation": status.anti_starvation,
        "grants": status.grants, "reclaims": status.reclaims, "preemptions": status.preemptions,
        "granted_core_ns": status.granted_core_ns, "uptime_ns": status.uptime_ns,
        "takeover_gap_ns": status.gap_ns, "clients": clients,
        "after_restart": restart, "rules": rules,
    })
    .to_string()
}

/// How many CPUs do what, where there are any.
fn states(status: &Status) -> String {
    use CpuState::{Busy, Executor, GrantedIdle, Idle, Latency, Lent};
    [Executor, Lent, GrantedIdle, Latency, Busy, Idle]
        .into_iter()
        .filter_map(|state| {
            let cpus = status.cpu.iter().filter(|&&of| of == state as u8).count();
            (cpus > 0).then(|| format!("{cpus} {}", state.name()))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn as_text(status: &Status) -> String {
    let uptime = status.uptime_ns.max(1) as f64;
    let mut text = format!(
        "scx_flexnet {} (design {}), up {:.0} s\n\
         granted cores: {} of {} CPUs, at most {}, {:.2} on average\n\
         now: {}\n\
         grants {}, reclaims {}, preemptions {} ({} lent cores taken back), anti-starvation {}",
        name_text(&status.version),
        name_text(&status.design),
        uptime / 1e9,
        status.cores_granted,
        status.cpus,
        status.cores_max,
        status.granted_core_ns as f64 / uptime,
        states(status),
        status.grants,
        status.reclaims,
        status.preemptions,
        status.takebacks,
        status.anti_starvation,
    );
    if status.gap_ns > 0 {
        text.push_str(&format!(
            "\ntook over from another scx_flexnet, {:.0} ms under the kernel's own scheduler",
            status.gap_ns as f64 / 1e6
        ));
    }
    if status.clients == 0 {
        text.push_str("\nno clients");
    } else {
        text.push_str(
            "\nclient      pid name            class      cores exec want    depth delay µs   CPU s",
        );
    }
    for client in clients(status) {
        text.push_str(&format!(
            "\n{:>6} {:>8} {:<15} {:<10} {:>5} {:>4} {:>4} {:>8} {:>8.0} {:>7.2}",
            client.client,
            pid(client).map_or_else(|| kind(client).to_owned(), |pid| pid.to_string()),
            name_text(&client.name),
            flow_class(client.flow_classes),
            client.cores,
            client.executors,
            client.executors_wanted,
            client.depth,
            client.delay_ns as f64 / 1e3,
            client.run_ns as f64 / 1e9,
        ));
    }
    text
}
