// SPDX-License-Identifier: GPL-2.0-only
//! The programs: how each is started, plain or with the preload library, when
//! it is ready, and what its own threads cost.

use super::protocol::Service;
use crate::schedulers::beside;
use anyhow::{Context, Result, bail};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program is ready within this time.
const READY_MAX: Duration = Duration::from_secs(30);

/// Whether the program's sends are offloaded, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Offload {
    Plain,
    Adaptive,
    Always,
}

impl Offload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Adaptive => "adaptive",
            Self::Always => "always",
        }
    }
}

/// In which way a program runs.
pub(super) struct Way<'a> {
    pub(super) offload: Offload,
    /// Ask the scheduler, which is there, for the latency class.
    pub(super) latency: bool,
    pub(super) socket: &'a Path,
}

impl Way<'_> {
    /// The command, run by `flexnet run` where that has something to set.
    pub(super) fn command(&self, words: &[String]) -> Result<Command> {
        let mut all = Vec::new();
        if self.latency || self.offload != Offload::Plain {
            let tool = beside("flexnet").display().to_string();
            all.extend([tool, "run".into(), "--socket".into()]);
            all.push(self.socket.display().to_string());
            if self.latency {
                all.extend(["--class".into(), "latency".into()]);
            }
            if self.offload != Offload::Plain {
                all.push(format!("--offload={}", self.offload.name()));
            }
            all.push("--".into());
        }
        all.extend_from_slice(words);
        let (program, arguments) = all.split_first().context("no command")?;
        let mut command = Command::new(program);
        // What a program says is kept away from the table.
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command)
    }
}

/// A directory of the experiment's own; gone when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("flexnet-bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that serves; killed when dropped.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
}

/// A port that nobody has now.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Server {
    pub(super) fn start(service: Service, way: &Way<'_>, scratch: &Scratch) -> Result<Self> {
        let address = free_address()?;
        let port = address.port();
        let command = match service {
            Service::Redis => words(&format!(
                "redis-server --bind 127.0.0.1 --port {port} --appendonly no --save"
            ))
            .into_iter()
            .chain([String::new()])
            .collect(),
            Service::Memcached => words(&format!(
                "memcached -u root -l 127.0.0.1 -p {port} -U 0 -t 1 -m 64"
            )),
            Service::Nginx => {
                let config = nginx_config(service, port, scratch.path())?;
                let log = scratch.path().join("error.log");
                words(&format!(
                    "nginx -c {} -e {}",
                    config.display(),
                    log.display()
                ))
            }
        };
        Self::spawn(&command, way, scratch, address, true)
    }

    /// iperf3's receiver; plain, since it sends nothing to speak of.
    pub(super) fn iperf3(scratch: &Scratch, socket: &Path) -> Result<Self> {
        let address = free_address()?;
        let way = Way {
            offload: Offload::Plain,
            latency: false,
            socket,
        };
        let command = words(&format!("iperf3 -s -B 127.0.0.1 -p {}", address.port()));
        Self::spawn(&command, &way, scratch, address, false)
    }

    fn spawn(
        command: &[String],
        way: &Way<'_>,
        scratch: &Scratch,
        address: SocketAddr,
        connects: bool,
    ) -> Result<Self> {
        let child = way
            .command(command)?
            .current_dir(scratch.path())
            .spawn()
            .with_context(|| format!("cannot start {} (ci/setup installs it)", command[0]))?;
        let mut server = Self { child, address };
        let since = Instant::now();
        // A program of its own accord tells nobody that it listens.
        while !server.listens(connects) {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended: {status}", command[0]);
            }
            if since.elapsed() > READY_MAX {
                bail!(
                    "{} is not ready within {} s",
                    command[0],
                    READY_MAX.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// By a connection, or by the kernel's table where one would be served.
    fn listens(&self, connects: bool) -> bool {
        if connects {
            return TcpStream::connect(self.address).is_ok();
        }
        let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let port = format!(":{:04X}", self.address.port());
        table.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.len() > 3 && fields[1].ends_with(&port) && fields[3] == "0A"
        })
    }

    /// Nanoseconds on a CPU of its own threads, executors not among them.
    pub(super) fn own_cpu_ns(&self) -> u64 {
        let mut total = 0;
        let mut pending = vec![self.child.id()];
        while let Some(pid) = pending.pop() {
            for task in tasks(pid) {
                if !is_executor(&read(&task, "comm")) {
                    total += parse_first(&read(&task, "schedstat"));
                }
                let children = read(&task, "children");
                pending.extend(
                    children
                        .split_whitespace()
                        .filter_map(|c| c.parse::<u32>().ok()),
                );
            }
        }
        total
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx's workers end with their master, not by its death.
        for pid in descendants(self.child.id()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    entries
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in tasks(pid) {
        let children = read(&task, "children");
        for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

fn read(task: &Path, file: &str) -> String {
    fs::read_to_string(task.join(file)).unwrap_or_default()
}

fn parse_first(text: &str) -> u64 {
    text.split_whitespace()
        .next()
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}

/// The library's threads are named `program/0`, `program/1`, … and
/// `program/link`, of which the kernel keeps 15 bytes.
fn is_executor(comm: &str) -> bool {
    comm.trim_end().rsplit_once('/').is_some_and(|(_, last)| {
        !last.is_empty() && ("link".starts_with(last) || last.bytes().all(|c| c.is_ascii_digit()))
    })
}

/// One worker, so that one core's worth of work is compared.
fn nginx_config(service: Service, port: u16, scratch: &Path) -> Result<PathBuf> {
    let dir = scratch.display();
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {dir}/nginx.pid;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 1000000000;\n\
         client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n\
         fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; root {dir}; }} }}\n"
    );
    let config = scratch.join("nginx.conf");
    fs::write(&config, text)?;
    fs::write(scratch.join("page"), service.value())?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_are_recognised_by_their_names() {
        for (comm, executor) in [
            ("redis-server/0\n", true),
            ("nginx/12\n", true),
            ("nginx/link\n", true),
            ("redis-server/li\n", true),
            ("redis-server\n", false),
            ("bio_close_file\n", false),
            ("a/\n", false),
            ("kworker/0:1\n", false),
        ] {
            assert_eq!(is_executor(comm), executor, "{comm}");
        }
    }

    #[test]
    fn the_time_on_a_cpu_is_the_first_field() {
        assert_eq!(parse_first("123456 789 10\n"), 123_456);
        assert_eq!(parse_first(""), 0);
    }
}
