// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What the environment asks for. Read once, in .init_array.

use flexnet::abi::{FlowClass, SOCKET_PATH};
use std::env;
use std::path::PathBuf;

/// When sends are offloaded (`FLEXNET_OFFLOAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every send that can be.
    Always,
    /// Where it pays.
    Adaptive,
    /// Always, but in the way of [`Mode::Adaptive`]: for tests of what that does while
    /// it queues.
    AdaptiveQueued,
    /// Nothing is accepted that is not sent, so every send is the program's own.
    Strict,
    /// None: the library is as good as absent.
    Off,
}

impl Mode {
    /// By its name; `None`: there is no such mode.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "always" => Self::Always,
            "" | "adaptive" => Self::Adaptive,
            "adaptive-queued" => Self::AdaptiveQueued,
            "strict" => Self::Strict,
            "off" => Self::Off,
            _ => return None,
        })
    }
}

/// Where messages go (`FLEXNET_LOG`); by default nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTo {
    Nowhere,
    Stderr,
    File(PathBuf),
}

pub(crate) struct Config {
    pub(crate) mode: Mode,
    /// `FLEXNET_OFFLOAD` named no mode: this.
    pub(crate) unknown_mode: Option<String>,
    pub(crate) log: LogTo,
    /// `FLEXNET_SOCKET`: the scheduler's control socket.
    pub(crate) socket: PathBuf,
    /// `FLEXNET_EXECUTORS`: threads, 1 to 16.
    pub(crate) executors: usize,
    /// `FLEXNET_FLOW_CLASS`: `latency` or `throughput`.
    pub(crate) flow_class: FlowClass,
    /// `FLEXNET_SECCOMP=ignore`: start under a filter that was there before the
    /// program (a container's).
    pub(crate) under_filter: bool,
}

impl Config {
    pub(crate) fn from_environment() -> Self {
        let text = |name: &str| env::var(name).unwrap_or_default();
        let asked = text("FLEXNET_OFFLOAD");
        let mode = Mode::parse(&asked);
        Self {
            mode: mode.unwrap_or(Mode::Off),
            unknown_mode: mode.is_none().then_some(asked),
            log: match env::var_os("FLEXNET_LOG") {
                None => LogTo::Nowhere,
                Some(to) if to.is_empty() => LogTo::Nowhere,
                Some(to) if to == "stderr" => LogTo::Stderr,
                Some(path) => LogTo::File(path.into()),
            },
            socket: env::var_os("FLEXNET_SOCKET").map_or(SOCKET_PATH.into(), PathBuf::from),
            executors: text("FLEXNET_EXECUTORS").parse().unwrap_or(1).clamp(1, 16),
            flow_class: match text("FLEXNET_FLOW_CLASS").as_str() {
                "latency" => FlowClass::Latency,
                _ => FlowClass::Throughput,
            },
            under_filter: text("FLEXNET_SECCOMP") == "ignore",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_by_name() {
        for (name, mode) in [
            ("always", Some(Mode::Always)),
            ("adaptive", Some(Mode::Adaptive)),
            ("", Some(Mode::Adaptive)),
            ("adaptive-queued", Some(Mode::AdaptiveQueued)),
            ("strict", Some(Mode::Strict)),
            ("off", Some(Mode::Off)),
            ("on", None),
        ] {
            assert_eq!(Mode::parse(name), mode, "{name}");
        }
    }
}
