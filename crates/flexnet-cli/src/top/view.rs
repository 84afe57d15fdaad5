// SPDX-License-Identifier: GPL-2.0-only
//! From two samples of the scheduler to what is shown. Numbers only.

use crate::client::{flow_class, kind, pid};
use flexnet::abi::{CpuState, STATUS_CHANGES, Status, StatusChange, StatusClient, name_text};
use serde_json::json;
use std::collections::VecDeque;

/// Events that are kept.
const EVENTS: usize = 64;

/// The scheduler's status.
pub(super) struct Sample {
    pub(super) status: Status,
}

impl Sample {
    pub(super) fn new(status: Status) -> Self {
        Self { status }
    }

    fn clients(&self) -> &[StatusClient] {
        let count = (self.status.clients as usize).min(self.status.client.len());
        &self.status.client[..count]
    }

    /// The state of each CPU the scheduler knows.
    pub(super) fn cpus(&self) -> Vec<CpuState> {
        let states = self.status.cpu.map(CpuState::of);
        let last = states.iter().rposition(|state| *state != CpuState::Absent);
        states[..last.map_or(0, |last| last + 1)].to_vec()
    }
}

/// The process, or that it is the kernel's.
fn whose(client: &StatusClient) -> String {
    pid(client).map_or_else(|| kind(client).to_owned(), |pid| pid.to_string())
}

/// An application, or a device that the kernel's threads poll.
#[derive(Debug, PartialEq)]
pub(super) struct App {
    /// None: the kernel's own network threads.
    pub(super) pid: Option<u32>,
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) executors: u32,
    pub(super) wanted: u32,
    pub(super) depth: u64,
    pub(super) delay_us: f64,
    /// CPUs' worth of time its executors had between the samples.
    pub(super) cpus: f64,
    /// Granted cores its executors are on.
    pub(super) cores: u32,
    /// What its executors serve.
    pub(super) class: &'static str,
}

/// In the order of `enum flexnet_reason`.
const REASONS: [&str; 7] = [
    "",
    "work arrived",
    "delay",
    "calm",
    "no work",
    "limit",
    "pressure",
];

/// A change of the grants, in words.
fn change(of: &StatusChange) -> String {
    let reason = REASONS.get(of.reason as usize).unwrap_or(&"");
    let what = match of.after > of.before {
        true => "grant",
        false => "reclaim",
    };
    format!(
        "{what}: cores {} → {} ({reason}, after {:.1} ms)",
        of.before,
        of.after,
        of.since_ns as f64 / 1e6
    )
}

/// What was seen, up to now.
pub(super) struct History {
    before: Option<Sample>,
    now: Sample,
    /// Seconds of the scheduler's uptime, and what happened; the last one first.
    events: VecDeque<(f64, String)>,
    lost: Option<String>,
}

impl History {
    pub(super) fn new(now: Sample) -> Self {
        Self {
            before: None,
            now,
            events: VecDeque::new(),
            lost: None,
        }
    }

    pub(super) fn now(&self) -> &Sample {
        &self.now
    }

    /// Why there is nothing newer, if so.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    pub(super) fn lose(&mut self, why: &str) {
        if self.lost.is_none() {
            self.event("the scheduler is gone".to_owned());
        }
        self.lost = Some(why.to_owned());
    }

    pub(super) fn add(&mut self, now: Sample) {
        let before = std::mem::replace(&mut self.now, now);
        if self.lost.take().is_some() {
            self.event("the scheduler is back".to_owned());
        }
        let (old, new) = (&before.status, &self.now.status);
        let mut events = Vec::new();
        if old.design != new.design {
            let names = (name_text(&old.design), name_text(&new.design));
            events.push(format!("design {} → {}", names.0, names.1));
        }
        let is = |of: &StatusClient, other: &StatusClient| {
            (of.client, of.pid) == (other.client, other.pid)
        };
        let known = |clients: &[StatusClient], of: &StatusClient| {
            clients.iter().any(|client| is(client, of))
        };
        for client in self.now.clients() {
            if !known(before.clients(), client) {
                events.push(format!(
                    "{} came ({})",
                    name_text(&client.name),
                    whose(client)
                ));
            }
        }
        for client in before.clients() {
            if !known(self.now.clients(), client) {
                events.push(format!(
                    "{} left ({})",
                    name_text(&client.name),
                    whose(client)
                ));
            }
        }
        // Another scheduler counts anew.
        let same = old.uptime_ns <= new.uptime_ns;
        if same {
            events.extend(counted(old, new));
        }
        let changes = match same {
            true => self.changes(before.status.changes),
            false => Vec::new(),
        };
        // The changes happened on the way here.
        self.events.extend(changes);
        events.into_iter().for_each(|event| self.event(event));
        if same {
            let newest_first = |a: &(f64, String), b: &(f64, String)| b.0.total_cmp(&a.0);
            self.events.make_contiguous().sort_by(newest_first);
        }
        self.events.truncate(EVENTS);
        self.before = same.then_some(before);
    }

    /// The changes of the grants from number `from` on, with their times.
    fn changes(&self, from: u64) -> Vec<(f64, String)> {
        let status = &self.now.status;
        let kept = status.changes.saturating_sub(STATUS_CHANGES as u64);
        let first = from.max(kept);
        let at = |number: u64| &status.change[(number % STATUS_CHANGES as u64) as usize];
        let mut reported: Vec<_> = (first..status.changes)
            .map(|number| (at(number).at_ns as f64 / 1e9, change(at(number))))
            .collect();
        if let (Some(oldest), true) = (reported.first(), kept > from) {
            let what = format!("{} more grants and reclaims", kept - from);
            reported.insert(0, (oldest.0, what));
        }
        reported.reverse();
        reported
    }

    fn event(&mut self, what: String) {
        let at = self.now.status.uptime_ns as f64 / 1e9;
        self.events.push_front((at, what));
        self.events.truncate(EVENTS);
    }

    /// The last one first: uptime in seconds, and what happened.
    pub(super) fn events(&self) -> impl Iterator<Item = &(f64, String)> {
        self.events.iter()
    }

    /// How much a counter of the scheduler grew a second between the samples.
    pub(super) fn rate(&self, value: fn(&Status) -> u64) -> f64 {
        let Some(before) = &self.before else {
            return 0.0;
        };
        let grown = value(&self.now.status).saturating_sub(value(&before.status));
        grown as f64 / self.seconds(before)
    }

    fn seconds(&self, before: &Sample) -> f64 {
        let elapsed = self.now.status.uptime_ns - before.status.uptime_ns;
        (elapsed as f64 / 1e9).max(1e-6)
    }

    /// The applications, the busiest first.
    pub(super) fn apps(&self) -> Vec<App> {
        let run_ns = |client: &StatusClient| {
            let before = self.before.as_ref()?;
            let mut clients = before.clients().iter();
            let same = clients.find(|c| (c.client, c.pid) == (client.client, client.pid))?;
            let grown = client.run_ns.saturating_sub(same.run_ns);
            Some(grown as f64 / 1e9 / self.seconds(before))
        };
        let app = |client: &StatusClient| App {
            pid: pid(client),
            kind: kind(client),
            name: name_text(&client.name),
            executors: client.executors,
            wanted: client.executors_wanted,
            depth: client.depth,
            delay_us: client.delay_ns as f64 / 1e3,
            cpus: run_ns(client).unwrap_or(0.0),
            cores: client.cores,
            class: flow_class(client.flow_classes),
        };
        let mut apps: Vec<App> = self.now.clients().iter().map(app).collect();
        apps.sort_by(|a, b| b.cpus.total_cmp(&a.cpus).then(a.pid.cmp(&b.pid)));
        apps
    }

    /// For scripts.
    pub(super) fn json(&self) -> String {
        let status = &self.now.status;
        let apps: Vec<_> = self
            .apps()
            .into_iter()
            .map(|app| {
                json!({
                    "kind": app.kind, "pid": app.pid, "name": app.name,
                    "executors": app.executors,
                    "executors_wanted": app.wanted, "depth": app.depth,
                    "delay_us": app.delay_us, "cpus": app.cpus,
                    "cores": app.cores, "class": app.class,
                })
            })
            .collect();
        let events: Vec<_> = self
            .events()
            .map(|(at, what)| json!({ "at_s": at, "what": what }))
            .collect();
        let cpus: Vec<_> = self.now.cpus().iter().map(|state| state.name()).collect();
        json!({
            "version": name_text(&status.version), "design": name_text(&status.design),
            "uptime_s": status.uptime_ns as f64 / 1e9,
            "cores_granted": status.cores_granted, "cores_max": status.cores_max,
            "cores_granted_now": self.rate(|status| status.granted_core_ns) / 1e9,
            "grants_per_s": self.rate(|status| status.grants),
            "reclaims_per_s": self.rate(|status| status.reclaims),
            "preemptions_per_s": self.rate(|status| status.preemptions),
            "takebacks_per_s": self.rate(|status| status.takebacks),
            "cpus": cpus, "applications": apps, "events": events,
        })
        .to_string()
    }
}

/// What is counted only, where there was any between two samples.
fn counted(old: &Status, new: &Status) -> Option<String> {
    let parts: Vec<String> = [
        (old.preemptions, new.preemptions, "preemptions"),
        (old.takebacks, new.takebacks, "lent cores taken back"),
        (
            old.flag_kicks,
            new.flag_kicks,
            "executors that did not yield",
        ),
        (
            old.anti_starvation,
            new.anti_starvation,
            "starving tasks served",
        ),
    ]
    .into_iter()
    .filter(|(old, new, _)| new > old)
    .map(|(old, new, what)| format!("{} {what}", new - old))
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
