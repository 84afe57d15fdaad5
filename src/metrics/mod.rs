// SPDX-License-Identifier: GPL-2.0-only
//! The OpenMetrics endpoint: off unless asked for, on loopback or a unix socket.
//!
//! Counters are since attaching and only grow; each scrape is one sample of BPF's,
//! asked of the daemon's thread as scx_stats' clients do. Leaves to others: what
//! the numbers are (stats.rs), their text (text.rs), and HTTP (http.rs).

mod http;
mod text;

use crate::stats::{Asker, Snapshot};
use anyhow::{Context, Result, anyhow, bail};
use http::{Request, Response};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use text::{classic, render};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// For clients that do not ask for OpenMetrics: promtool, curl, old scrapers.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where it listens: `unix:PATH`, or a loopback address and port.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// On loopback.
    Tcp(SocketAddr),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| "must be unix:PATH or ADDRESS:PORT".to_owned())?;
        match address.ip().is_loopback() {
            true => Ok(Self::Tcp(address)),
            false => Err("must be a loopback address, since there is no password".to_owned()),
        }
    }
}

/// Whom the endpoint asks: the daemon that runs, which a change of the CPUs
/// online replaces by another.
#[derive(Clone, Default)]
pub struct Source(Arc<Mutex<Option<Asker>>>);

impl Source {
    /// This daemon's from here on.
    pub fn set(&self, asker: Asker) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(asker);
    }

    fn sample(&self) -> Result<Snapshot> {
        let asker = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        asker.context("the scheduler is gone")?.sample()
    }
}

/// Serves what the source knows until the process ends.
///
/// # Errors
/// The address cannot be listened at.
pub fn start(address: &Address) -> Result<Source> {
    let source = Source::default();
    let of = source.clone();
    serve(address, move || of.sample())?;
    Ok(source)
}

fn serve(
    address: &Address,
    sample: impl Fn() -> Result<Snapshot> + Send + Sync + 'static,
) -> Result<()> {
    let listener = match address {
        Address::Tcp(address) => TcpListener::bind(address).map(OwnedFd::from),
        Address::Unix(path) => {
            remove_socket(path)?;
            UnixListener::bind(path).map(OwnedFd::from)
        }
    };
    let listener =
        listener.map_err(|error| anyhow!("cannot serve metrics at {address}: {error}"))?;
    http::serve(listener, move |request| answer(request, &sample))
}

fn answer(request: &Request, sample: impl Fn() -> Result<Snapshot>) -> Response {
    if request.path != "/metrics" {
        return Response::text("404 Not Found", "metrics are at /metrics");
    }
    let modern = request.accept.contains("application/openmetrics-text");
    match sample().and_then(|snapshot| render(&snapshot)) {
        Ok(text) => Response {
            status: "200 OK",
            content_type: [CLASSIC, OPENMETRICS][usize::from(modern)],
            body: if modern { text } else { classic(&text) },
        },
        Err(error) => Response::text("503 Service Unavailable", &format!("{error:#}")),
    }
}

/// A socket that a daemon before this one left behind.
fn remove_socket(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {
            std::fs::remove_file(path).with_context(|| format!("cannot write {}", path.display()))
        }
        Ok(_) => bail!(
            "cannot serve metrics at {}: it exists and is not a socket",
            path.display()
        ),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{flexnet_arbiter_state, flexnet_client_state};
    use flexnet::abi::CpuState;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    pub(super) fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot {
            now_ns: 1,
            arbiter: flexnet_arbiter_state {
                granted: 2,
                grants: 7,
                granted_core_ns: 1_500_000_000,
                ..Default::default()
            },
            // SAFETY: integers only.
            counters: unsafe { std::mem::zeroed() },
            clients: vec![(
                "0:kv".to_owned(),
                flexnet_client_state {
                    depth: 3,
                    delay_ns: 2_000_000,
                    ..Default::default()
                },
            )],
            cpus: vec![CpuState::Idle, CpuState::Executor],
            cores: vec!["0:kv".to_owned()],
            cores_max: 3,
            design: "flexnet".to_owned(),
            start_s: 1.0,
        };
        snapshot.counters.run_ns[1] = 250_000_000;
        snapshot.counters.histogram[2].count[3] = 4;
        let delay = &mut snapshot.counters.histogram[5];
        (delay.sum_ns, delay.count[0], delay.count[1]) = (3_000_000, 1, 2);
        delay.count[24] = 3;
        snapshot
    }

    #[test]
    fn addresses_are_loopback_or_unix() {
        assert!("127.0.0.1:9100".parse::<Address>().is_ok());
        assert!("[::1]:9100".parse::<Address>().is_ok());
        assert_eq!("unix:/x".parse(), Ok(Address::Unix("/x".into())));
        assert!(
            "0.0.0.0:9100"
                .parse::<Address>()
                .unwrap_err()
                .contains("loopback")
        );
        assert!("9100".parse::<Address>().is_err());
    }

    #[test]
    fn it_serves_over_a_unix_socket_again_and_again() {
        let path = std::env::temp_dir().join(format!("flexnet-metrics-{}", std::process::id()));
        for _ in 0..2 {
            serve(&Address::Unix(path.clone()), || Ok(snapshot())).unwrap();
            for (url, part) in [("/metrics", "flexnet_grants_total 7"), ("/", "404")] {
                let mut stream = UnixStream::connect(&path).unwrap();
                let request = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.contains(part), "{answer}");
                assert!(!answer.contains("# EOF"), "not asked for: {answer}");
            }
        }
        std::fs::write(path.with_extension("file"), "").unwrap();
        let no_socket = Address::Unix(path.with_extension("file"));
        assert!(serve(&no_socket, || Ok(snapshot())).is_err());
        std::fs::remove_file(path.with_extension("file")).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
