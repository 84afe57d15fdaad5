// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What designs there are, what each chooses, and its keys with bounds.

/// What a key's value may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A time, from and to, ns.
    Time(u64, u64),
    /// A number, from and to.
    Number(u64, u64),
    /// One of these keywords; its place is the value.
    Keyword(&'static [&'static str]),
}

/// A key of a design.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written.
    pub default: &'static str,
    pub what: &'static str,
}

/// A design.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: &'static str,
    /// What is encapsulated, how the stack schedules it, how cores are given.
    pub choices: [&'static str; 3],
    pub keys: &'static [Key],
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

const fn time(
    name: &'static str,
    from: u64,
    to: u64,
    default: &'static str,
    what: &'static str,
) -> Key {
    Key {
        name,
        kind: Kind::Time(from, to),
        default,
        what,
    }
}

const fn number(
    name: &'static str,
    from: u64,
    to: u64,
    default: &'static str,
    what: &'static str,
) -> Key {
    Key {
        name,
        kind: Kind::Number(from, to),
        default,
        what,
    }
}

const fn keyword(
    name: &'static str,
    words: &'static [&'static str],
    default: &'static str,
    what: &'static str,
) -> Key {
    Key {
        name,
        kind: Kind::Keyword(words),
        default,
        what,
    }
}

pub(super) static CATALOGUE: [Entry; 5] = [
    Entry {
        name: "flexnet",
        choices: [
            "sends and coroutines on flows",
            "a run queue an executor; new work goes home, or to an idle one or the shorter of \
             two while work waits there, idle ones steal half; a coroutine yields after the \
             quantum while others wait",
            "one more while the oldest message is older than the objective, one less when the \
             rest carry the load",
        ],
        keys: &[time(
            "quantum",
            US,
            100 * MS,
            "20us",
            "time after which a coroutine yields at a checkpoint while others wait",
        )],
    },
    Entry {
        name: "netchannel",
        choices: [
            "units of at most 62,620 B of a send",
            "channels: sticky round robin, full ones are skipped, none free blocks the sender",
            "one more while each channel is full, one less when the rest hold what is queued",
        ],
        keys: &[
            time(
                "quantum",
                10 * US,
                100 * MS,
                "1ms",
                "CPU time of a worker while others wait (NetChannel's artifact)",
            ),
            number(
                "sticky",
                1,
                1024,
                "6",
                "units on a channel before the next (its artifact)",
            ),
            number(
                "queued",
                1,
                4096,
                "32",
                "units queued at which a channel is full (its artifact)",
            ),
        ],
    },
    Entry {
        name: "snap",
        choices: [
            "operations to stateful single-threaded engines",
            "an engine polls its own queue, 16 at a time; engines never steal",
            "dedicating: fixed; spreading: a core an awake engine, within MicroQuanta; \
             compacting: one, more while an engine's delay is above the SLO",
        ],
        keys: &[
            keyword(
                "mode",
                &["dedicating", "spreading", "compacting"],
                "compacting",
                "how engines get cores",
            ),
            number(
                "workers",
                0,
                1024,
                "0",
                "cores when dedicating; 0: as many as may be",
            ),
            number("engines", 1, 1024, "16", "engines of an application"),
            time(
                "slo",
                US,
                S,
                "50us",
                "compacting: an engine's delay to stay under",
            ),
            time(
                "runtime",
                10 * US,
                MS,
                "20us",
                "MicroQuanta: CPU time a period (Snap, section 2.4)",
            ),
            time(
                "period",
                20 * US,
                10 * MS,
                "40us",
                "MicroQuanta: the period",
            ),
        ],
    },
    Entry {
        name: "shenango",
        choices: [
            "packets and user threads",
            "a run queue a kernel thread; own, sibling hyperthread, a random victim, all; steal half",
            "congestion: one more when something queued at the last sample still is, back at once \
             with nothing to do; or Caladan's delay or utilisation range",
        ],
        keys: &[
            keyword(
                "rule",
                &["congestion", "delay", "utilisation"],
                "congestion",
                "how cores are given",
            ),
            time(
                "high",
                100,
                S,
                "4us",
                "delay range: one more above (Caladan)",
            ),
            time("low", 0, S, "1us", "delay range: one less below (Caladan)"),
            number(
                "busy",
                1,
                100,
                "95",
                "utilisation range: one more above, % (Caladan)",
            ),
            number(
                "calm",
                0,
                99,
                "75",
                "utilisation range: one less below, % (Caladan)",
            ),
            time(
                "quantum",
                0,
                100 * MS,
                "0ns",
                "time of a coroutine while work waits; 0: to completion (Caladan: 100us)",
            ),
        ],
    },
    Entry {
        name: "shinjuku",
        choices: [
            "a request with a context",
            "a central dispatcher, a FIFO a type, the largest waiting time to objective first; \
             preempted after the quantum to its queue's tail, keeping its arrival time",
            "fixed workers",
        ],
        keys: &[
            keyword(
                "mode",
                &["central", "jbsq"],
                "central",
                "jbsq: a worker has one more waiting (Concord)",
            ),
            number("workers", 0, 1024, "0", "cores; 0: as many as may be"),
            time(
                "quantum",
                0,
                100 * MS,
                "5us",
                "time of a request while others wait; 0: to completion (Shinjuku, section 3)",
            ),
            time("slo", US, 4 * S, "100us", "objective of requests of type 0"),
            time("slo1", US, 4 * S, "100us", "of type 1"),
            time("slo2", US, 4 * S, "100us", "of type 2"),
            time("slo3", US, 4 * S, "100us", "of type 3"),
        ],
    },
];

/// What designs there are, with their choices, keys, bounds and defaults, for a
/// terminal.
pub fn catalogue() -> String {
    use super::units::duration_text;
    use std::fmt::Write;
    let mut text = String::new();
    for entry in &CATALOGUE {
        let [what, when, cores] = entry.choices;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}\n  what   {what}\n  when   {when}\n  where  {cores}",
            entry.name
        );
        for key in entry.keys {
            let range = match key.kind {
                Kind::Time(from, to) => {
                    format!("{}..{}", duration_text(from), duration_text(to))
                }
                Kind::Number(from, to) => format!("{from}..{to}"),
                Kind::Keyword(words) => words.join("|"),
            };
            let _ = writeln!(
                text,
                "  :{}={} [{range}]  {}",
                key.name, key.default, key.what
            );
        }
    }
    text
}
