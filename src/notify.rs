// SPDX-License-Identifier: GPL-2.0-only
//! Tells systemd that the scheduler is attached or going: sd_notify(3), which
//! is one datagram. Does nothing where nobody asked (no NOTIFY_SOCKET).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state like `READY=1`.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&path, state) {
        log::warn!("cannot notify the service manager: {error}");
    }
}

/// Says that another process is the service from now on, if it runs in the same
/// unit (SIGUSR2): one that an operator has started by hand is none.
pub fn notify_of_successor(pid: i32) {
    let unit = |pid: &str| std::fs::read(format!("/proc/{pid}/cgroup")).ok();
    if unit("self").is_some_and(|ours| unit(&pid.to_string()) == Some(ours)) {
        // And a sign of life: its own come only from its first tick on.
        notify(&format!("MAINPID={pid}\nWATCHDOG=1"));
    }
}

fn send(path: &OsStr, state: &str) -> io::Result<()> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_an_abstract_address() {
        let name = format!("scx_flexnet-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "READY=1").unwrap();
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}
