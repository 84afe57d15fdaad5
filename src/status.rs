// SPDX-License-Identifier: GPL-2.0-only
//! The answer to a STATUS request: one sample of everything, for `flexnet status`
//! and `flexnet top`; and the answer to a RULES request.

use crate::clients::Clients;
use crate::facts::Facts;
use crate::kernel::{Kernel, flexnet_arbiter_state};
use crate::message;
use crate::rules::Rule;
use crate::stats::{integral, monotonic_ns};
use anyhow::Result;
use flexnet::abi::{
    CLIENTS_MAX, Message, PID_KERNEL, STATUS_CHANGES, STATUS_RULES, Status, StatusChange,
    StatusClient, StatusRule, StatusRules, name_bytes, text_bytes,
};

/// What holds now, as a reply to `asked`.
pub fn status(kernel: &Kernel<'_>, clients: &Clients, facts: &Facts, asked: &Message) -> Status {
    let arbiter = kernel.arbiter();
    let uptime_ns = facts.since.elapsed().as_nanos() as u64;
    let mut status = Status {
        message: message::reply(asked, size_of::<Status>(), Ok(())),
        cpus: facts.cpus,
        cores_granted: arbiter.granted,
        cores_max: facts.cores_max,
        grants: arbiter.grants,
        reclaims: arbiter.reclaims,
        granted_core_ns: integral(&arbiter, monotonic_ns()),
        uptime_ns,
        gap_ns: facts.gap_ns,
        version: name_bytes(env!("CARGO_PKG_VERSION")),
        design: name_bytes(facts.loaded.as_deref().unwrap_or(facts.design.name())),
        changes: arbiter.transitions,
        change: changes(&arbiter, monotonic_ns().saturating_sub(uptime_ns)),
        ..Status::default()
    };
    if let Ok(counters) = kernel.counters() {
        status.preemptions = counters.preemptions;
        status.takebacks = counters.takebacks;
        status.flag_kicks = counters.flag_kicks;
        status.anti_starvation = counters.anti_starvation;
    }
    let mut cores = vec![0u32; clients.capacity()];
    for (cpu, state) in status.cpu.iter_mut().enumerate().take(kernel.cpus()) {
        let (does, owner) = kernel.cpu(cpu);
        *state = does as u8;
        if let Some(count) = owner.and_then(|id| cores.get_mut(id as usize)) {
            *count += 1;
        }
    }
    for ((id, client), entry) in clients.iter().zip(&mut status.client) {
        let state = kernel.client(id);
        *entry = StatusClient {
            client: id,
            pid: client.pid as u32,
            name: client.name,
            executors: state.executors,
            executors_wanted: state.wanted,
            depth: state.depth,
            delay_ns: state.delay_ns,
            run_ns: state.run_ns,
            cores: cores.get(id as usize).copied().unwrap_or(0),
            flow_classes: kernel.flow_classes(id),
        };
        status.clients += 1;
    }
    if let Some(entry) = status.client.get_mut(status.clients as usize)
        && let Some(threads) = backlog(kernel)
    {
        *entry = threads;
        status.clients += 1;
    }
    status
}

/// The rules in force with the tasks that each holds, and the keys that wait for a restart.
///
/// # Errors
/// The kernel's.
pub fn rules(
    kernel: &Kernel<'_>,
    rules: &[Rule],
    restart: &[String],
    asked: &Message,
) -> Result<StatusRules> {
    let tasks = match rules {
        [] => [0; STATUS_RULES],
        _ => kernel.rule_tasks()?,
    };
    let mut status = StatusRules {
        message: message::reply(asked, size_of::<StatusRules>(), Ok(())),
        rules: rules.len().min(STATUS_RULES) as u32,
        restart: text_bytes(&restart.join(", ")),
        ..StatusRules::default()
    };
    for ((entry, rule), tasks) in status.rule.iter_mut().zip(rules).zip(tasks) {
        let text = rule.to_string();
        *entry = StatusRule {
            tasks,
            line: rule.line as u32,
            text: text_bytes(&text.trim_end().replace('\n', ", ")),
        };
    }
    Ok(status)
}

/// The backlog NAPI threads, where there are any: none is a client, but they are
/// shown among those of the kernel.
fn backlog(kernel: &Kernel<'_>) -> Option<StatusClient> {
    let backlog = kernel.backlog();
    (backlog.threads > 0).then(|| StatusClient {
        client: CLIENTS_MAX as u32,
        pid: PID_KERNEL,
        name: name_bytes("backlog"),
        executors: backlog.threads,
        executors_wanted: backlog.threads,
        depth: backlog.depth,
        run_ns: backlog.run_ns,
        ..StatusClient::default()
    })
}

/// The last changes of the grants, with their times since `start_ns`.
fn changes(arbiter: &flexnet_arbiter_state, start_ns: u64) -> [StatusChange; STATUS_CHANGES] {
    let mut reported = [StatusChange::default(); STATUS_CHANGES];
    let kept = arbiter.transition.len() as u64;
    let first = arbiter.transitions.saturating_sub(STATUS_CHANGES as u64);
    for number in first..arbiter.transitions {
        let change = &arbiter.transition[(number % kept) as usize];
        reported[(number % STATUS_CHANGES as u64) as usize] = StatusChange {
            at_ns: change.at_ns.saturating_sub(start_ns),
            since_ns: change.at_ns.saturating_sub(change.cause_ns),
            before: change.before,
            after: change.after,
            reason: change.reason,
            reserved: 0,
        };
    }
    reported
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_changes_stand_where_their_numbers_say() {
        let mut arbiter = flexnet_arbiter_state::default();
        for number in 0..70u64 {
            let change = &mut arbiter.transition[(number % 64) as usize];
            (change.at_ns, change.cause_ns) = (1_000 + number, 995 + number);
            arbiter.transitions += 1;
        }
        let reported = changes(&arbiter, 1_000);
        assert_eq!(
            (reported[69 % 16].at_ns, reported[69 % 16].since_ns),
            (69, 5)
        );
        assert_eq!(reported[54 % 16].at_ns, 54);
        assert_eq!(changes(&flexnet_arbiter_state::default(), 0)[0].at_ns, 0);
    }
}
