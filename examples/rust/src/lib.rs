// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Services on flexnet's executors, under what others have written: Redis clients, hyper, rustls.
//! The programs are in src/bin, and the tests ask them by clients that are not of this project.
//!
//! Promised: each program is a model to copy. Left to others: [`flexnet`] carries them all.

pub mod redis;
pub mod resp;

use std::io;
use std::net::TcpListener;

/// A listener at the address that the program was given, else at a free port of this machine.
/// Prints where it is.
///
/// # Errors
/// The address is none, or is in use.
pub fn listen(address: Option<String>) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}
