// SPDX-License-Identifier: GPL-2.0-only
//! The OpenMetrics endpoint: off unless asked for, on loopback or a unix socket.
//!
//! Counters are since attaching and only grow; each scrape is one look at BPF's,
//! asked of the daemon's thread as scx_stats' clients do. Leaves to others: what
//! the numbers are (stats.rs), and HTTP (tiny_http).

use crate::stats::{Asker, CLASSES, Snapshot, integral};
use anyhow::{Context, Result, anyhow, bail};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use tiny_http::{Header, Response, Server};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Seconds = Counter<f64, AtomicU64>;

/// Where it listens: `unix:PATH`, or a loopback address and port.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// On loopback.
    Tcp(SocketAddr),
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| "unix:PATH or ADDRESS:PORT it must be".to_owned())?;
        match address.ip().is_loopback() {
            true => Ok(Self::Tcp(address)),
            false => Err("a loopback address it must be: it has no password".to_owned()),
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

    fn look(&self) -> Result<Snapshot> {
        let asker = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        asker.context("the scheduler is gone")?.look()
    }
}

/// Serves what the source knows until the process ends.
///
/// # Errors
/// The address cannot be listened at.
pub fn start(address: &Address) -> Result<Source> {
    let source = Source::default();
    let of = source.clone();
    serve(address, move || of.look())?;
    Ok(source)
}

fn serve(address: &Address, look: impl Fn() -> Result<Snapshot> + Send + 'static) -> Result<()> {
    let server = match address {
        Address::Tcp(address) => Server::http(address),
        Address::Unix(path) => {
            remove_socket(path)?;
            Server::http_unix(path)
        }
    };
    let server = server.map_err(|error| anyhow!("no metrics at {address:?}: {error}"))?;
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            for request in server.incoming_requests() {
                let (status, text) = match request.url() {
                    "/metrics" => match look().and_then(|snapshot| render(&snapshot)) {
                        Ok(text) => (200, text),
                        Err(error) => (503, format!("{error:#}\n")),
                    },
                    _ => (404, "metrics are at /metrics\n".to_owned()),
                };
                let mut response = Response::from_string(text).with_status_code(status);
                if status == 200
                    && let Ok(header) = Header::from_bytes("Content-Type", CONTENT_TYPE)
                {
                    response = response.with_header(header);
                }
                // Who hung up does not want it.
                let _ = request.respond(response);
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// A socket that a daemon before this one left behind.
fn remove_socket(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {
            std::fs::remove_file(path).with_context(|| format!("cannot write {}", path.display()))
        }
        Ok(_) => bail!(
            "no metrics at {}: it is there and no socket",
            path.display()
        ),
        Err(_) => Ok(()),
    }
}

/// A snapshot as OpenMetrics' text.
fn render(snapshot: &Snapshot) -> Result<String> {
    let mut registry = Registry::with_prefix("flexnet");
    let (arbiter, counters) = (&snapshot.arbiter, &snapshot.counters);
    gauge(
        &mut registry,
        "cores_granted",
        "Cores granted to executors",
        arbiter.granted.into(),
    );
    gauge(
        &mut registry,
        "clients",
        "Clients connected",
        snapshot.clients.len() as i64,
    );
    let granted = Seconds::default();
    granted.inc_by(integral(arbiter) as f64 / 1e9);
    let help = "Granted cores integrated over time";
    registry.register_with_unit("granted_core", help, Unit::Seconds, granted);
    for (name, help, value) in [
        ("grants", "Cores granted", arbiter.grants),
        ("reclaims", "Cores given back", arbiter.reclaims),
        ("rounds", "Rounds of the arbiter", arbiter.rounds),
        ("preemptions", "Tasks preempted", counters.preemptions),
        ("takebacks", "Lent cores taken back", counters.takebacks),
        (
            "flags_raised",
            "Executors asked to yield",
            counters.flags_raised,
        ),
        (
            "flag_kicks",
            "Executors preempted since they did not yield",
            counters.flag_kicks,
        ),
        (
            "rescues",
            "Tasks served by the starvation bound",
            counters.rescues,
        ),
        ("idle_kicks", "Idle CPUs woken", counters.kicks),
    ] {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    classes(&mut registry, snapshot);
    clients(&mut registry, snapshot);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn classes(registry: &mut Registry, snapshot: &Snapshot) {
    let run = Family::<Labels, Seconds>::default();
    let wait = Family::<Labels, Seconds>::default();
    let waits = Family::<Labels, Counter>::default();
    for (class, name) in CLASSES.iter().enumerate() {
        let labels = vec![("class", (*name).to_owned())];
        let seconds = |ns: u64| ns as f64 / 1e9;
        let counters = &snapshot.counters;
        run.get_or_create(&labels)
            .inc_by(seconds(counters.run_ns[class]));
        wait.get_or_create(&labels)
            .inc_by(seconds(counters.wait_ns[class]));
        waits.get_or_create(&labels).inc_by(counters.waits[class]);
    }
    registry.register_with_unit("class_run", "CPU time of a class", Unit::Seconds, run);
    let help = "Time tasks of a class were ready and did not run";
    registry.register_with_unit("class_wait", help, Unit::Seconds, wait);
    registry.register("class_waits", "Waits for a CPU", waits);
}

fn clients(registry: &mut Registry, snapshot: &Snapshot) {
    let depth = Family::<Labels, Gauge>::default();
    let executors = Family::<Labels, Gauge>::default();
    let delay = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    let run = Family::<Labels, Seconds>::default();
    for (name, client) in &snapshot.clients {
        let labels = vec![("client", name.clone())];
        depth.get_or_create(&labels).set(client.depth as i64);
        executors
            .get_or_create(&labels)
            .set(client.executors.into());
        delay
            .get_or_create(&labels)
            .set(client.delay_ns as f64 / 1e9);
        run.get_or_create(&labels)
            .inc_by(client.run_ns as f64 / 1e9);
    }
    registry.register("client_depth", "Messages queued at the last look", depth);
    registry.register("client_executors", "Executors registered", executors);
    let help = "Age of the oldest message at the last look";
    registry.register_with_unit("client_delay", help, Unit::Seconds, delay);
    registry.register_with_unit(
        "client_run",
        "CPU time of its executors",
        Unit::Seconds,
        run,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{flexnet_arbiter_state, flexnet_client_state};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn snapshot() -> Snapshot {
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
        };
        snapshot.counters.run_ns[1] = 250_000_000;
        snapshot
    }

    #[test]
    fn names_follow_prometheus() {
        let text = render(&snapshot()).unwrap();
        for line in [
            "flexnet_cores_granted 2",
            "flexnet_granted_core_seconds_total 1.5",
            "flexnet_grants_total 7",
            "flexnet_class_run_seconds_total{class=\"latency\"} 0.25",
            "flexnet_client_depth{client=\"0:kv\"} 3",
            "flexnet_client_delay_seconds{client=\"0:kv\"} 0.002",
            "# EOF",
        ] {
            assert!(text.lines().any(|had| had == line), "{line}\n{text}");
        }
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
            }
        }
        std::fs::write(path.with_extension("file"), "").unwrap();
        let no_socket = Address::Unix(path.with_extension("file"));
        assert!(serve(&no_socket, || Ok(snapshot())).is_err());
        std::fs::remove_file(path.with_extension("file")).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
