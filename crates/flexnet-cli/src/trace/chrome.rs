// SPDX-License-Identifier: GPL-2.0-only
//! From events to tracks, in the JSON trace format (of Chrome's about:tracing)
//! that Perfetto's viewer reads.
//!
//! A core's track has its grants, and nested in them the executors on it; an
//! executor's track when it was on a CPU, and nested in that the turns of flows.
//! Where one of two that overlap would stick out of the other, it is cut there
//! and goes on behind: slices of one track always nest.

use flexnet::abi::{EXECUTORS_MAX, TRACE_NO_EXECUTOR, TraceEvent, TraceKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The process all cores are shown under: above any process id (PID_MAX_LIMIT).
const CORES: u32 = (1 << 22) + 1;
/// The threads of executors whose ids are not known.
const UNKNOWN: u32 = 2 * CORES;

/// Where something is shown: a process and a thread of it.
type Track = (u32, u32);

/// What is open on a core's track, outermost first.
#[derive(Default)]
struct Core {
    granted: bool,
    executor: Option<String>,
}

/// What is open on an executor's track, outermost first.
#[derive(Default)]
struct Thread {
    on_cpu: Option<i16>,
    flow: Option<u64>,
}

/// The trace of these events, in any order; names are those of processes.
pub(super) fn trace(events: &[TraceEvent], names: &BTreeMap<u32, String>, lost: u64) -> Value {
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.at_ns);
    let mut tracks = Tracks {
        start_ns: events.first().map_or(0, |event| event.at_ns),
        names,
        executors: executors(&events),
        cores: BTreeMap::new(),
        threads: BTreeMap::new(),
        out: Vec::new(),
    };
    for event in &events {
        tracks.add(event);
    }
    tracks.close(events.last().map_or(0, |event| event.at_ns));
    let lost = json!({ "lost_events": lost });
    json!({ "displayTimeUnit": "ns", "otherData": lost, "traceEvents": tracks.out })
}

/// The thread that each executor is, as far as events tell.
fn executors(events: &[TraceEvent]) -> BTreeMap<u32, Track> {
    let known = |event: &&TraceEvent| event.executor != TRACE_NO_EXECUTOR && event.tid != 0;
    let events = events.iter().filter(known);
    events
        .map(|event| (event.executor, (event.pid, event.tid)))
        .collect()
}

struct Tracks<'a> {
    start_ns: u64,
    names: &'a BTreeMap<u32, String>,
    executors: BTreeMap<u32, Track>,
    cores: BTreeMap<i16, Core>,
    threads: BTreeMap<Track, Thread>,
    out: Vec<Value>,
}

impl Tracks<'_> {
    fn add(&mut self, event: &TraceEvent) {
        let at = event.at_ns;
        match TraceKind::of(event.kind) {
            Some(TraceKind::Grant) => self.grant(event.cpu, at, true),
            Some(TraceKind::Reclaim) => self.grant(event.cpu, at, false),
            Some(TraceKind::Preempt) => {
                let track = self.core(event.cpu);
                self.instant(track, at, "preempt", json!({}));
            }
            Some(TraceKind::OnCpu) => self.on_cpu(event),
            Some(TraceKind::OffCpu) => self.off_cpu(event),
            Some(TraceKind::Submit) => {
                let track = self.thread((event.pid, event.tid));
                self.instant(track, at, "submit", json!({ "flow": flow(event.value) }));
            }
            Some(TraceKind::Resume) => self.resume(event),
            Some(kind @ (TraceKind::Yield | TraceKind::Finish)) => {
                let track = self.thread((event.pid, event.tid));
                let had = self.threads.entry(track).or_default().flow.take();
                if had.is_some() {
                    let how = match kind {
                        TraceKind::Yield => "yield",
                        _ => "finish",
                    };
                    self.end(track, at, json!({ "end": how }));
                }
            }
            // Of a newer daemon.
            None => {}
        }
    }

    fn grant(&mut self, cpu: i16, at: u64, granted: bool) {
        let track = self.core(cpu);
        let core = self.cores.entry(cpu).or_default();
        let (was, executor) = (core.granted, core.executor.clone());
        core.granted = granted;
        if was == granted {
            return;
        }
        if executor.is_some() {
            self.end(track, at, json!({}));
        }
        match granted {
            true => self.begin(track, at, "granted", json!({})),
            false => self.end(track, at, json!({})),
        }
        if let Some(name) = executor {
            self.begin(track, at, &name, json!({}));
        }
        let count = self.cores.values().filter(|core| core.granted).count();
        self.out.push(json!({
            "ph": "C", "name": "cores granted", "pid": CORES, "ts": self.us(at),
            "args": { "cores": count },
        }));
    }

    fn on_cpu(&mut self, event: &TraceEvent) {
        // What an event that was lost would have ended.
        self.off_cpu(event);
        let (at, cpu) = (event.at_ns, event.cpu);
        let track = self.executor(event);
        let name = self.executor_name(event.executor, track);
        let core = self.core(cpu);
        self.cores.entry(cpu).or_default().executor = Some(name.clone());
        self.begin(core, at, &name, json!({}));
        let thread = self.threads.entry(track).or_default();
        thread.on_cpu = Some(cpu);
        let goes_on = thread.flow;
        self.begin(track, at, &format!("CPU {cpu}"), json!({}));
        if let Some(id) = goes_on {
            self.begin(track, at, &flow(id), json!({ "begin": "goes on" }));
        }
    }

    fn off_cpu(&mut self, event: &TraceEvent) {
        let (at, core) = (event.at_ns, self.core(event.cpu));
        if let Some(of) = self.cores.get_mut(&event.cpu)
            && of.executor.take().is_some()
        {
            self.end(core, at, json!({}));
        }
        let track = self.executor(event);
        let thread = self.threads.entry(track).or_default();
        let (was, in_turn) = (thread.on_cpu.take(), thread.flow.is_some());
        if was.is_some() {
            if in_turn {
                self.end(track, at, json!({ "end": "off the CPU" }));
            }
            self.end(track, at, json!({}));
        }
    }

    fn resume(&mut self, event: &TraceEvent) {
        let (at, track) = (event.at_ns, self.thread((event.pid, event.tid)));
        let thread = self.threads.entry(track).or_default();
        let before = thread.flow.replace(event.value);
        let was_on = thread.on_cpu.replace(event.cpu).is_some();
        if before.is_some() {
            self.end(track, at, json!({ "end": "not told" }));
        }
        if !was_on {
            self.begin(track, at, &format!("CPU {}", event.cpu), json!({}));
        }
        self.begin(track, at, &flow(event.value), json!({}));
    }

    /// Ends all that is open.
    fn close(&mut self, at: u64) {
        for (cpu, core) in std::mem::take(&mut self.cores) {
            let open = usize::from(core.granted) + usize::from(core.executor.is_some());
            let track = (CORES, CORES + 1 + cpu as u32);
            (0..open).for_each(|_| self.end(track, at, json!({})));
        }
        for (track, thread) in std::mem::take(&mut self.threads) {
            let on_cpu = usize::from(thread.on_cpu.is_some());
            let open = on_cpu + usize::from(on_cpu == 1 && thread.flow.is_some());
            (0..open).for_each(|_| self.end(track, at, json!({})));
        }
    }

    /// The track of a core, named when it is new.
    fn core(&mut self, cpu: i16) -> Track {
        let track = (CORES, CORES + 1 + cpu as u32);
        if self.cores.is_empty() {
            self.name("process_name", (CORES, 0), "cores");
        }
        if let Entry::Vacant(new) = self.cores.entry(cpu) {
            new.insert(Core::default());
            self.name("thread_name", track, &format!("CPU {cpu}"));
        }
        track
    }

    /// The track of the executor of an event.
    fn executor(&mut self, event: &TraceEvent) -> Track {
        let known = match event.tid {
            0 => self.executors.get(&event.executor).copied(),
            tid => Some((event.pid, tid)),
        };
        self.thread(known.unwrap_or((UNKNOWN, UNKNOWN + 1 + event.executor)))
    }

    /// The track of a thread, named when it is new.
    fn thread(&mut self, track: Track) -> Track {
        if self.threads.contains_key(&track) {
            return track;
        }
        if !self.threads.keys().any(|(pid, _)| *pid == track.0) {
            let name = self.process_name(track.0);
            self.name("process_name", track, &name);
        }
        self.threads.insert(track, Thread::default());
        let executors = &mut self.executors.iter();
        let of = executors.find(|(_, of)| **of == track);
        let name = match of.map(|(index, _)| *index) {
            Some(index) => self.executor_name(index, track),
            None => format!("thread {}", track.1),
        };
        self.name("thread_name", track, &name);
        track
    }

    fn process_name(&self, pid: u32) -> String {
        let known = self.names.get(&pid).cloned();
        known.unwrap_or_else(|| match pid {
            UNKNOWN => "executors without a switch".to_owned(),
            _ => format!("process {pid}"),
        })
    }

    fn executor_name(&self, index: u32, track: Track) -> String {
        let slot = index % EXECUTORS_MAX as u32;
        format!("{}/{slot}", self.process_name(track.0))
    }

    fn us(&self, at: u64) -> f64 {
        at.saturating_sub(self.start_ns) as f64 / 1e3
    }

    fn begin(&mut self, (pid, tid): Track, at: u64, name: &str, args: Value) {
        self.out.push(json!({
            "ph": "B", "pid": pid, "tid": tid, "ts": self.us(at), "name": name, "args": args,
        }));
    }

    fn end(&mut self, (pid, tid): Track, at: u64, args: Value) {
        self.out
            .push(json!({ "ph": "E", "pid": pid, "tid": tid, "ts": self.us(at), "args": args }));
    }

    fn instant(&mut self, (pid, tid): Track, at: u64, name: &str, args: Value) {
        self.out.push(json!({
            "ph": "i", "s": "t", "pid": pid, "tid": tid, "ts": self.us(at), "name": name,
            "args": args,
        }));
    }

    fn name(&mut self, what: &str, (pid, tid): Track, name: &str) {
        self.out.push(json!({
            "ph": "M", "name": what, "pid": pid, "tid": tid, "args": { "name": name },
        }));
    }
}

fn flow(id: u64) -> String {
    format!("flow {id:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ns: u64, kind: TraceKind, cpu: i16, tid: u32, value: u64) -> TraceEvent {
        let scheduled = matches!(kind, TraceKind::OnCpu | TraceKind::OffCpu);
        TraceEvent {
            at_ns,
            value,
            kind: kind as u16,
            cpu,
            tid,
            pid: if tid == 0 { 0 } else { 100 },
            executor: if scheduled { 18 } else { TRACE_NO_EXECUTOR },
        }
    }

    /// Each track's slices as (depth, name), all of which nest.
    fn slices(trace: &Value) -> BTreeMap<Track, Vec<(usize, String)>> {
        let mut open: BTreeMap<Track, Vec<f64>> = BTreeMap::new();
        let mut seen: BTreeMap<Track, Vec<(usize, String)>> = BTreeMap::new();
        for event in trace["traceEvents"].as_array().unwrap() {
            let number = |name: &str| event[name].as_u64().unwrap_or(0) as u32;
            let track = (number("pid"), number("tid"));
            let stack = open.entry(track).or_default();
            let at = event["ts"].as_f64().unwrap_or(0.0);
            match event["ph"].as_str().unwrap() {
                "B" => {
                    assert!(stack.last().is_none_or(|before| *before <= at));
                    let name = event["name"].as_str().unwrap().to_owned();
                    seen.entry(track).or_default().push((stack.len(), name));
                    stack.push(at);
                }
                "E" => assert!(stack.pop().expect("an end of nothing") <= at),
                _ => {}
            }
        }
        assert!(open.values().all(Vec::is_empty), "left open");
        seen
    }

    #[test]
    fn turns_nest_in_cpus_and_executors_in_grants() {
        use TraceKind::*;
        let names = BTreeMap::from([(100, "kv".to_owned())]);
        let events = [
            event(50, Finish, 1, 7, 0xa), // out of order, as rings have them
            event(10, Grant, 1, 0, 5),
            event(20, OnCpu, 1, 7, 0),
            event(30, Resume, 1, 7, 0xa),
            event(40, Submit, 0, 9, 0xa),
            event(60, Resume, 1, 7, 0xb),
            event(70, OffCpu, 1, 7, 0), // preempted in its turn
            event(75, Preempt, 1, 0, 0),
            event(80, OnCpu, 1, 7, 0),
            event(90, Reclaim, 1, 0, 0), // while it runs
            event(95, Yield, 1, 7, 0xb),
        ];
        let trace = trace(&events, &names, 3);
        assert_eq!(trace["otherData"]["lost_events"], 3);
        let slices = slices(&trace);
        let named = |of: &[(usize, &str)]| -> Vec<(usize, String)> {
            of.iter().map(|(d, n)| (*d, (*n).to_owned())).collect()
        };
        assert_eq!(
            slices[&(CORES, CORES + 2)],
            named(&[(0, "granted"), (1, "kv/2"), (1, "kv/2"), (0, "kv/2")])
        );
        assert_eq!(
            slices[&(100, 7)],
            named(&[
                (0, "CPU 1"),
                (1, "flow a"),
                (1, "flow b"),
                (0, "CPU 1"),
                (1, "flow b"),
            ])
        );
        let all = trace["traceEvents"].as_array().unwrap();
        let count = |name: &str| all.iter().filter(|event| event["name"] == name).count();
        assert_eq!((count("submit"), count("preempt")), (1, 1));
        assert_eq!(count("cores granted"), 2);
    }

    #[test]
    fn lost_events_leave_no_slice_open() {
        use TraceKind::*;
        let mut standing = event(1, OnCpu, 0, 0, 0);
        standing.tid = 0;
        let events = [
            standing,
            event(5, Finish, 0, 7, 1), // its resume was before
            event(10, OnCpu, 0, 7, 0), // the end of the turn before is lost
            event(20, Resume, 0, 7, 1),
            event(30, Resume, 0, 7, 2),
            event(40, OnCpu, 1, 7, 0),
            event(50, Reclaim, 3, 0, 0),
        ];
        let trace = trace(&events, &BTreeMap::new(), 0);
        assert!(slices(&trace).len() >= 3);
        assert!(trace["traceEvents"].to_string().contains("process 100"));
        assert_eq!(
            super::trace(&[], &BTreeMap::new(), 0)["traceEvents"],
            json!([])
        );
    }
}
