// SPDX-License-Identifier: GPL-2.0-only
//! Answers the clients: one reply to each request, as abi.h has it.
//!
//! Promises that a client gets its own page and nobody else's, that only its
//! own threads become executors or change class, and that a closed connection
//! ends it. All of it runs on the daemon's one thread and never blocks: what a client
//! passes is looked at by others before (front). daemon.rs calls when there is
//! something to do.
//!
//!   requests   what each request does
//!   core_rule  of these, what concerns a loaded core rule

mod core_rule;
mod requests;

use crate::clients::{Client, Clients};
use crate::connection::{Connection, Listener, Refused};
use crate::facts::Facts;
use crate::kernel::{ClientOp, Kernel, Limits};
use crate::loaded::Loaded;
use crate::message;
use crate::pages::{self, Job, PageMap, Placer};
use crate::takeover::Successor;
use crate::trace::Trace;
use crate::wake::Wake;
use anyhow::{Context, Result as AnyResult};
use flexnet::abi::{self, Message, Wire, name_bytes};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Connections that need be no clients (`SET_CLASS`, `STATUS`), beyond one
/// for each client; any one user but root may have half of all.
const CONNECTIONS_SPARE: usize = 64;
/// Connections at root's door.
const CONNECTIONS_ROOT: usize = 16;
/// How long a connection is kept that is no client's and asks for nothing.
const IDLE: Duration = Duration::from_secs(10);
/// How long users but root are served at a time. Root's next request waits no longer for them.
const PASS_TIME: Duration = Duration::from_millis(2);

/// A request that is not answered here, but by daemon.rs.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Read the configuration file anew.
    Reload,
    /// Give way to the daemon that asks.
    TakeOver,
    /// Tell of the rules, and of the keys that wait for a restart.
    Rules,
}

/// The clients and their connections.
pub struct Control {
    /// For everybody, and for root where there is room for a socket of its own.
    doors: Vec<Listener>,
    /// Refused since the last tick, by user.
    refused: BTreeMap<u32, u64>,
    placer: Placer,
    clients: Clients,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// Whose request was the last one that was not root's.
    served: u64,
    facts: Facts,
    orders: Vec<(u64, Message, Order)>,
    /// The trace that is taken, and over which connection.
    trace: Option<(u64, Trace)>,
    /// The core rule that is loaded.
    loaded: Option<Loaded>,
}

impl Control {
    /// Serves the listening sockets for everybody and for root.
    ///
    /// # Errors
    /// No process can be started for them.
    pub fn new(
        doors: Vec<Listener>,
        placer: Placer,
        clients: Clients,
        facts: Facts,
    ) -> AnyResult<Self> {
        let mut control = Self {
            doors,
            refused: BTreeMap::new(),
            placer,
            clients,
            connections: BTreeMap::new(),
            next: 0,
            served: 0,
            facts,
            orders: Vec::new(),
            trace: None,
            loaded: None,
        };
        control.open()?;
        Ok(control)
    }

    /// Lets connections in, where nobody does so.
    fn open(&mut self) -> AnyResult<()> {
        let places = self.clients.capacity() + CONNECTIONS_SPARE;
        for (door, places) in self.doors.iter_mut().zip([places, CONNECTIONS_ROOT]) {
            door.open(places)?;
        }
        Ok(())
    }

    /// Makes a client of a device, which has kernel threads for executors and no
    /// connection. Waits for RCU, 11 to 22 ms: rarely.
    ///
    /// # Errors
    /// There are as many clients as there may be, or the kernel refuses.
    pub fn start_device(
        &mut self,
        kernel: &Kernel<'_>,
        device: &str,
        ifindex: u32,
    ) -> AnyResult<u32> {
        let id = self
            .clients
            .admit(0)
            .with_context(|| format!("--napi {device}: --clients-max is too small"))?;
        let mut client = Client {
            pid: abi::PID_KERNEL as i32,
            uid: 0,
            name: name_bytes(device),
            slots: 0,
            command: String::new(),
            cgroup: String::new(),
            cores_asked: 0,
            limits: Limits::default(),
            bell: Wake::new()?,
            map: None,
            page: None,
        };
        let (rules, cores_max) = (&self.facts.rules, self.facts.cores_max);
        client.limits = self.clients.admit_limits(&client, rules, cores_max);
        let job = Job {
            connection: 0,
            client: id,
            executors_max: self.clients.executors_max(),
            old: None,
        };
        let page = pages::place(&kernel.pages()?, job)?;
        kernel.device_starts(id, ifindex, client.limits)?;
        client.map = Some(page.id);
        client.page = Some(page);
        self.clients.insert(id, client);
        log::info!(client = id; "client {id}: kernel threads of {device}");
        Ok(id)
    }

    /// Ends a device's client.
    pub fn end_device(&mut self, kernel: &Kernel<'_>, id: u32) {
        self.forget(kernel, id);
    }

    /// The descriptors of new connections.
    pub fn arrivals(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.doors.iter().filter_map(Listener::arrivals)
    }

    /// The descriptor of placed pages.
    pub fn placer(&self) -> &Placer {
        &self.placer
    }

    /// What holds of the scheduler.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The clients.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The connections to read from, by number.
    pub fn readable(&self) -> impl Iterator<Item = (u64, &Connection)> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.hello.is_none())
            .map(|(&number, connection)| (number, connection))
    }

    /// Takes in clients that have connected.
    pub fn accept(&mut self) {
        for door in &mut self.doors {
            while let Some(arrived) = door.accept() {
                match arrived {
                    Ok(connection) => {
                        self.connections.insert(self.next, connection);
                        self.next += 1;
                    }
                    Err(Refused(user)) => *self.refused.entry(user).or_default() += 1,
                }
            }
        }
    }

    /// Once a second: ends connections that ask for nothing, tells of those that
    /// were refused, and lets connections in again should that have ended.
    pub fn tick(&mut self, kernel: &Kernel<'_>) {
        for (user, count) in std::mem::take(&mut self.refused) {
            log::warn!("too many connections: refused {count} of user {user}");
        }
        let tracing = self.trace.as_ref().map(|(number, _)| *number);
        let idle = self.connections.iter().filter(|&(&number, connection)| {
            let used = connection.client.is_some() || connection.hello.is_some();
            !used && tracing != Some(number) && connection.heard.elapsed() > IDLE
        });
        let idle: Vec<u64> = idle.map(|(&number, _)| number).collect();
        for number in idle {
            self.close(kernel, number);
        }
        if let Err(error) = self.open() {
            log::warn!("nobody can connect: {error:#}");
        }
    }

    /// Answers one packet of each of these connections, in ascending order: root's first, then
    /// others' by turns for as long as a pass may take. What is left is readable still.
    pub fn serve(&mut self, kernel: &Kernel<'_>, readable: &[u64]) {
        let is_roots = |number: &u64| {
            let connection = self.connections.get(number);
            connection.is_some_and(|connection| connection.peer.uid == 0)
        };
        let (roots, others): (Vec<u64>, Vec<u64>) = readable.iter().partition(|n| is_roots(n));
        for number in roots {
            self.serve_one(kernel, number);
        }
        let start = Instant::now();
        for number in by_turns(&others, self.served) {
            self.serve_one(kernel, number);
            self.served = number;
            if start.elapsed() > PASS_TIME {
                break;
            }
        }
    }

    /// Answers one packet of a connection, or ends it.
    fn serve_one(&mut self, kernel: &Kernel<'_>, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        connection.heard = Instant::now();
        match connection.receive() {
            Ok(None) => {}
            Ok(Some(packet)) => self.answer(kernel, number, packet),
            Err(_) => self.close(kernel, number),
        }
    }

    /// Takes in placed pages and welcomes the clients that wait for them.
    pub fn placed(&mut self, kernel: &Kernel<'_>) {
        for placed in self.placer.take() {
            let (number, id) = (placed.connection, placed.client);
            let hello = self
                .connections
                .get_mut(&number)
                .and_then(|connection| connection.hello.take());
            let Some(hello) = hello else {
                // It hung up meanwhile.
                self.clients.remove(id);
                continue;
            };
            if let Err(errno) = self.welcome(kernel, &hello, placed) {
                self.clients.remove(id);
                self.refuse(kernel, number, &hello, errno);
            }
        }
    }

    /// Rings a client's bell.
    pub fn ring(&self, id: u32) {
        if let Some(client) = self.clients.get(id) {
            client.bell.ring();
        }
    }

    /// What was asked since the last call and is to be answered by [`reply`].
    ///
    /// [`reply`]: Control::reply
    pub fn orders(&mut self) -> Vec<(u64, Message, Order)> {
        std::mem::take(&mut self.orders)
    }

    /// Sends a reply to a connection.
    pub fn reply(&mut self, kernel: &Kernel<'_>, number: u64, reply: &impl Wire) {
        self.send(kernel, number, reply.as_bytes());
    }

    /// Hands the listening socket to the daemon at a connection.
    pub fn give_way(&mut self, number: u64, asked: Message) -> Option<Successor> {
        let connection = self.connections.remove(&number)?;
        self.doors.iter_mut().for_each(Listener::close);
        // The clients that were let in until now hear that this one goes.
        self.accept();
        // If the other is gone, the next tick lets connections in again.
        let successor = Successor::accept(connection, asked, self.doors.first()?).ok()?;
        self.doors.iter_mut().for_each(Listener::leave);
        Some(successor)
    }

    /// Follows other rules and numbers.
    pub fn follow(&mut self, kernel: &Kernel<'_>, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts);
        let (rules, cores_max) = (&self.facts.rules, self.facts.cores_max);
        for (id, limits) in self.clients.follow(rules, cores_max) {
            let Limits {
                guarantee,
                weight,
                max_cores,
            } = limits;
            log::info!(
                client = id;
                "client {id}: guarantee {guarantee}, weight {weight}, max cores {max_cores}"
            );
            if let Err(errno) = kernel.client_limits(ClientOp::Limits, id, limits) {
                log::warn!(client = id, reason:% = errno; "client {id} keeps its cores and weight: {errno}");
            }
        }
    }

    /// Tells all that the scheduler goes, hangs up, and gives back the pages,
    /// to be marked once it has gone, and the listening sockets.
    pub fn detach(mut self, kernel: &Kernel<'_>) -> (Vec<PageMap>, Vec<Listener>) {
        let message = Message {
            size: size_of::<Message>() as u32,
            kind: abi::MESSAGE_DETACH,
            version: abi::VERSION,
            ..Message::default()
        };
        let clients = self.connections.values();
        for connection in clients.filter(|connection| connection.client.is_some()) {
            // A client that does not listen sees the connection end.
            let _ = connection.send(message.as_bytes(), &[]);
        }
        if let Some((_, trace)) = self.trace.take() {
            trace.stop(kernel);
        }
        let ids: Vec<u32> = self.clients.iter().map(|(id, _)| id).collect();
        let pages = ids.iter().filter_map(|&id| {
            let page = self.clients.remove(id)?.page?;
            let _ = kernel.client_event(ClientOp::Forget, id, 0);
            Some(page)
        });
        (pages.collect(), self.doors)
    }

    fn refuse(&mut self, kernel: &Kernel<'_>, number: u64, to: &Message, errno: Errno) {
        let reply = message::reply(to, size_of::<Message>(), Err(errno));
        self.send(kernel, number, reply.as_bytes());
    }

    fn send(&mut self, kernel: &Kernel<'_>, number: u64, bytes: &[u8]) {
        let sent = self
            .connections
            .get(&number)
            .map(|connection| connection.send(bytes, &[]));
        if matches!(sent, Some(Err(_))) {
            self.close(kernel, number);
        }
    }

    fn close(&mut self, kernel: &Kernel<'_>, number: u64) {
        if let Some((_, trace)) = self.trace.take_if(|(of, _)| *of == number) {
            trace.stop(kernel);
        }
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        let Some(id) = connection.client else {
            return;
        };
        self.forget(kernel, id);
    }

    fn forget(&mut self, kernel: &Kernel<'_>, id: u32) {
        self.clients.remove(id);
        if let Err(errno) = kernel.client_event(ClientOp::Forget, id, 0) {
            log::warn!(client = id, reason:% = errno; "cannot forget client {id}: {errno}");
        }
        log::info!(client = id; "client {id} left");
    }
}

/// Ascending numbers, those after `last` first.
fn by_turns(numbers: &[u64], last: u64) -> impl Iterator<Item = u64> {
    let (before, after) = numbers.split_at(numbers.partition_point(|&number| number <= last));
    after.iter().chain(before).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_turns() {
        let turns = |last| by_turns(&[2, 4, 7], last).collect::<Vec<_>>();
        assert_eq!(turns(0), [2, 4, 7]);
        assert_eq!(turns(4), [7, 2, 4]);
        assert_eq!(turns(9), [2, 4, 7]);
    }
}
