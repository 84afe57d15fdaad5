// SPDX-License-Identifier: GPL-2.0-only
//! A client of the scheduler in words, for `flexnet status` and `flexnet top`.

use flexnet::abi::StatusClient;

/// What a client is: an application, or the kernel's own network threads.
pub(crate) fn kind(client: &StatusClient) -> &'static str {
    if client.is_kernel() {
        "kernel"
    } else {
        "application"
    }
}

/// A client's process, if it has one.
pub(crate) fn pid(client: &StatusClient) -> Option<u32> {
    (!client.is_kernel()).then_some(client.pid)
}

/// What a client's flows are, in words; `bits` are those of `1 << enum flexnet_flow_class`.
pub(crate) fn flow_class(bits: u32) -> &'static str {
    match bits {
        0 => "none",
        1 => "throughput",
        2 => "latency",
        _ => "both",
    }
}
