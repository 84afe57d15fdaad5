// SPDX-License-Identifier: GPL-2.0-only
//! What a send costs the application's core, over loopback TCP.
//!
//! flexnet: `try_send` while the executor runs, in bursts that fit the ring.
//! inline: `send` on a socket of the same kind. Between two bursts, not timed,
//! both wait until a reader on another thread has taken everything. The
//! executor has a coroutine that yields without end, so that it never parks: no
//! burst finds it asleep, and no send is done inline.

use super::case::Case;
use anyhow::Result;
use flexnet_command::measure::{bursts, connect, try_send};
use std::io::Write;

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for (bench, bytes) in [("send-64", 64), ("send-1400", 1400)] {
        cases.push(Case::new(bench, "flexnet", move || try_send(bytes)));
        cases.push(Case::new(bench, "inline", move || inline(bytes)));
    }
}

fn inline(bytes: usize) -> Result<f64> {
    let (mut stream, reader) = connect()?;
    // On a TcpStream `write` is `send` with MSG_NOSIGNAL.
    let ns = bursts(bytes, &reader, |message| Ok(stream.write_all(message)?));
    drop(stream);
    reader.join();
    ns
}
