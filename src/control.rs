// SPDX-License-Identifier: GPL-2.0-only
//! Answers the clients: one reply to each request, as abi.h has it.
//!
//! Promises that a client gets its own page and nobody else's, that only its
//! own threads become executors or change class, and that a closed connection
//! ends it. All of it runs on the daemon's one thread and never blocks: what a client
//! passes is looked at by others before (front). daemon.rs calls when there is
//! something to do.

use crate::clients::{Client, Clients};
use crate::connection::{Connection, Listener, Packet, Refused};
use crate::facts::Facts;
use crate::kernel::{ClientOp, Kernel, Limits, Registration};
use crate::message::{self, Request};
use crate::pages::{self, Job, PageMap, Placed, Placer};
use crate::status::status;
use crate::takeover::Successor;
use crate::trace::Trace;
use crate::wake::Wake;
use crate::why;
use anyhow::{Context, Result as AnyResult};
use flexnet::abi::{self, Class, DesignText, Message, TraceReply, Welcome, Why, Wire, name_bytes};
use flexnet::design::Choice;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Connections that need be no clients (`SET_CLASS`, `STATUS`), beyond one
/// for each client; any one user but root may have half of all.
const CONNECTIONS_SPARE: usize = 64;
/// Connections at root's door.
const CONNECTIONS_ROOT: usize = 16;
/// How long a connection is kept that is no client's and asks for nothing.
const IDLE: Duration = Duration::from_secs(10);

/// A request that is not answered here, but by daemon.rs.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Read the configuration file anew.
    Reload,
    /// Give way to the daemon that asks.
    TakeOver,
}

/// The clients and their connections.
pub struct Control {
    /// For everybody, and for root.
    doors: [Listener; 2],
    /// Refused since the last tick, by user.
    refused: BTreeMap<u32, u64>,
    placer: Placer,
    clients: Clients,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    facts: Facts,
    orders: Vec<(u64, Message, Order)>,
    /// The trace that is taken, and over which connection.
    trace: Option<(u64, Trace)>,
}

impl Control {
    /// Serves the listening sockets for everybody and for root.
    ///
    /// # Errors
    /// No process can be started for them.
    pub fn new(
        doors: [Listener; 2],
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
            facts,
            orders: Vec::new(),
            trace: None,
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
        log::info!("client {id}: kernel threads of {device}");
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

    /// Takes in who has connected.
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

    /// Answers one packet of a connection, or ends it.
    pub fn serve(&mut self, kernel: &Kernel<'_>, number: u64) {
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

    /// Takes in placed pages and welcomes who waits for them.
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
        // Who was let in until now hears that this one goes.
        self.accept();
        // If the other is gone, the next tick lets connections in again.
        let successor = Successor::accept(connection, asked, &self.doors[0]).ok()?;
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
                "client {id}: guarantee {guarantee}, weight {weight}, max cores {max_cores}"
            );
            if let Err(errno) = kernel.client_limits(ClientOp::Limits, id, limits) {
                log::warn!("client {id} keeps its cores and weight: {errno}");
            }
        }
    }

    /// Tells all that the scheduler goes, hangs up, and gives back the pages,
    /// to be marked once it has gone.
    pub fn detach(mut self, kernel: &Kernel<'_>) -> Vec<PageMap> {
        let message = Message {
            size: size_of::<Message>() as u32,
            kind: abi::MESSAGE_DETACH,
            version: abi::VERSION,
            ..Message::default()
        };
        let clients = self.connections.values();
        for connection in clients.filter(|connection| connection.client.is_some()) {
            // One who does not listen sees the connection end.
            let _ = connection.send(message.as_bytes(), &[]);
        }
        if let Some((_, trace)) = self.trace.take() {
            trace.stop(kernel);
        }
        let ids: Vec<u32> = self.clients.iter().map(|(id, _)| id).collect();
        ids.iter()
            .filter_map(|&id| {
                let page = self.clients.remove(id)?.page?;
                let _ = kernel.client_event(ClientOp::Forget, id, 0);
                Some(page)
            })
            .collect()
    }

    fn answer(&mut self, kernel: &Kernel<'_>, number: u64, packet: Packet) {
        let (message, request) = match message::parse(&packet.bytes[..packet.kept], packet.length) {
            Ok(parsed) => parsed,
            Err((message, errno)) => return self.refuse(kernel, number, &message, errno),
        };
        let outcome = match request {
            Request::Hello {
                name,
                cores_guaranteed,
            } => {
                match self.hello(kernel, number, &message, name, cores_guaranteed, packet.fd) {
                    // The reply comes with the page.
                    Ok(()) => return,
                    Err(errno) => Err(errno),
                }
            }
            Request::Register { slot, flow_class } => {
                self.register(kernel, number, slot, flow_class, packet.fd)
            }
            Request::Unregister { slot } => self.unregister(kernel, number, slot),
            Request::SetClass { task_class } => {
                let registration = Registration {
                    task_class,
                    client: 0,
                    slot: 0,
                    flow_class: 0,
                };
                self.apply(kernel, number, packet.fd, registration)
            }
            Request::Design(choice) => match self.design(kernel, number, choice) {
                Ok(()) => {
                    let header = message::reply(&message, size_of::<DesignText>(), Ok(()));
                    let text = DesignText::new(header, &self.facts.design.to_string());
                    return self.send(kernel, number, text.as_bytes());
                }
                Err(errno) => Err(errno),
            },
            Request::Reload => match self.admit_root(number) {
                Ok(()) => return self.orders.push((number, message, Order::Reload)),
                Err(errno) => Err(errno),
            },
            Request::TakeOver => match self.admit_root(number) {
                Ok(()) => return self.orders.push((number, message, Order::TakeOver)),
                Err(errno) => Err(errno),
            },
            request @ (Request::TraceStart | Request::TraceStop | Request::TraceAttach { .. }) => {
                match self.trace(kernel, number, &request, packet.fd) {
                    Ok(mut reported) => {
                        reported.message =
                            message::reply(&message, size_of::<TraceReply>(), Ok(()));
                        return self.send(kernel, number, reported.as_bytes());
                    }
                    Err(errno) => Err(errno),
                }
            }
            Request::Why { after } => match self.why(kernel, number, after, packet.fd) {
                Ok(mut why) => {
                    why.message = message::reply(&message, size_of::<Why>(), Ok(()));
                    return self.send(kernel, number, why.as_bytes());
                }
                Err(errno) => Err(errno),
            },
            Request::Status => {
                let status = status(kernel, &self.clients, &self.facts, &message);
                return self.send(kernel, number, status.as_bytes());
            }
        };
        let reply = message::reply(&message, size_of::<Message>(), outcome);
        self.send(kernel, number, reply.as_bytes());
    }

    fn hello(
        &mut self,
        kernel: &Kernel<'_>,
        number: u64,
        message: &Message,
        name: [u8; 16],
        cores_guaranteed: u32,
        old: Option<OwnedFd>,
    ) -> Result<(), Errno> {
        let connection = self.connections.get_mut(&number).ok_or(Errno::NOTCONN)?;
        if connection.client.is_some() {
            return Err(Errno::ALREADY);
        }
        let (pid, uid) = (connection.peer.pid, connection.peer.uid);
        let id = self.clients.admit(uid)?;
        let old = old.map(PageMap::adopt).transpose()?;
        match &old {
            Some(page) if self.clients.uses_map(page.id) => return Err(Errno::BUSY),
            Some(_) => {}
            None => {
                let living = kernel.living_pages()?;
                self.clients.admit_page(uid, |map| living.contains(&map))?;
            }
        }
        let mut client = Client {
            pid,
            uid,
            name,
            slots: 0,
            command: connection.peer.command(),
            cores_asked: cores_guaranteed,
            limits: Limits::default(),
            bell: Wake::new().map_err(|_| Errno::MFILE)?,
            map: old.as_ref().map(|page| page.id),
            page: None,
        };
        let (rules, cores_max) = (&self.facts.rules, self.facts.cores_max);
        client.limits = self.clients.admit_limits(&client, rules, cores_max);
        self.placer.place(Job {
            connection: number,
            client: id,
            executors_max: self.clients.executors_max(),
            old,
        })?;
        self.clients.insert(id, client);
        connection.hello = Some(*message);
        Ok(())
    }

    fn welcome(
        &mut self,
        kernel: &Kernel<'_>,
        hello: &Message,
        placed: Placed,
    ) -> Result<(), Errno> {
        let page = placed.page?;
        let id = placed.client;
        let executors_max = self.clients.executors_max();
        page.tell_design(&self.facts.design.to_string())?;
        let client = self.clients.get(id).ok_or(Errno::NOTCONN)?;
        kernel.client_limits(ClientOp::Start, id, client.limits)?;
        let welcome = Welcome {
            message: message::reply(hello, size_of::<Welcome>(), Ok(())),
            client: id,
            page_bytes: abi::PAGE_BYTES as u32,
            executors_max,
            cores_guaranteed: client.limits.guarantee,
            objective_ns: self.facts.objective_ns,
        };
        let client = self.clients.get_mut(id).ok_or(Errno::NOTCONN)?;
        let connection = self.connections.get_mut(&placed.connection);
        let connection = connection.ok_or(Errno::NOTCONN)?;
        connection.client = Some(id);
        log::info!("client {id}: process {} of user {}", client.pid, client.uid);
        let fds = [page.as_fd(), client.bell.as_fd()];
        let sent = connection.send(welcome.as_bytes(), &fds);
        let (uid, map) = (client.uid, page.id);
        client.map = Some(map);
        client.page = Some(page);
        self.clients.note_page(uid, map);
        if sent.is_err() {
            self.close(kernel, placed.connection);
        }
        Ok(())
    }

    fn register(
        &mut self,
        kernel: &Kernel<'_>,
        number: u64,
        slot: u32,
        flow_class: u32,
        pidfd: Option<OwnedFd>,
    ) -> Result<(), Errno> {
        let client = self.client_of(number)?;
        self.clients.admit_slot(client, slot)?;
        let registration = Registration {
            task_class: Class::Executor as u32,
            client,
            slot,
            flow_class,
        };
        self.apply(kernel, number, pidfd, registration)?;
        if let Some(client) = self.clients.get_mut(client) {
            client.slots |= 1 << slot;
        }
        Ok(())
    }

    fn unregister(&mut self, kernel: &Kernel<'_>, number: u64, slot: u32) -> Result<(), Errno> {
        let id = self.client_of(number)?;
        let client = self.clients.get_mut(id).ok_or(Errno::NOTCONN)?;
        if client.slots & (1 << slot) == 0 {
            return Err(Errno::NOENT);
        }
        client.slots &= !(1 << slot);
        kernel.client_event(ClientOp::DropSlot, id, slot)
    }

    /// Registers a thread after it has been found to be the sender's own.
    fn apply(
        &self,
        kernel: &Kernel<'_>,
        number: u64,
        pidfd: Option<OwnedFd>,
        registration: Registration,
    ) -> Result<(), Errno> {
        let connection = self.connections.get(&number).ok_or(Errno::NOTCONN)?;
        let pidfd = pidfd.ok_or(Errno::BADF)?;
        let tid = connection.peer.own_thread(pidfd.as_fd())?;
        kernel.register(pidfd.as_fd(), tid, registration)
    }

    /// Switches the design, if one is asked for and the asker is root: the
    /// arbiter's half first, then what each client's stack follows.
    fn design(
        &mut self,
        kernel: &Kernel<'_>,
        number: u64,
        choice: Option<Choice>,
    ) -> Result<(), Errno> {
        let Some(choice) = choice else {
            return Ok(());
        };
        self.admit_root(number)?;
        self.switch_design(kernel, choice)
    }

    fn admit_root(&self, number: u64) -> Result<(), Errno> {
        let connection = self.connections.get(&number).ok_or(Errno::NOTCONN)?;
        match connection.peer.uid {
            0 => Ok(()),
            _ => Err(Errno::PERM),
        }
    }

    /// Switches the design for all.
    pub fn switch_design(&mut self, kernel: &Kernel<'_>, choice: Choice) -> Result<(), Errno> {
        kernel.switch_design(&choice)?;
        log::info!("design {choice} (was {})", self.facts.design);
        let text = choice.to_string();
        self.facts.design = choice;
        for (id, client) in self.clients.iter() {
            let reported = client.page.as_ref().map(|page| page.tell_design(&text));
            if let Some(Err(errno)) = reported {
                log::warn!("client {id} keeps its design: cannot map its page: {errno}");
            }
        }
        Ok(())
    }

    /// Starts, feeds or stops a trace. Attaching takes this thread tens of
    /// milliseconds.
    fn trace(
        &mut self,
        kernel: &Kernel<'_>,
        number: u64,
        request: &Request,
        fd: Option<OwnedFd>,
    ) -> Result<TraceReply, Errno> {
        let connection = self.connections.get(&number).ok_or(Errno::NOTCONN)?;
        if connection.peer.uid != 0 {
            return Err(Errno::PERM);
        }
        if *request == Request::TraceStart {
            if self.trace.is_some() {
                return Err(Errno::BUSY);
            }
            let trace = Trace::start(kernel, fd.ok_or(Errno::BADF)?)?;
            let reported = trace.reply(kernel);
            self.trace = Some((number, trace));
            return Ok(reported);
        }
        let own = self.trace.take_if(|(of, _)| *of == number);
        let (_, mut trace) = own.ok_or(Errno::NOENT)?;
        let Request::TraceAttach { pid } = *request else {
            return Ok(trace.stop(kernel));
        };
        if let Some(file) = fd {
            trace.attach(kernel, pid, &file);
        }
        let reported = trace.reply(kernel);
        self.trace = Some((number, trace));
        Ok(reported)
    }

    fn why(
        &self,
        kernel: &Kernel<'_>,
        number: u64,
        after: u32,
        pidfd: Option<OwnedFd>,
    ) -> Result<Why, Errno> {
        let connection = self.connections.get(&number).ok_or(Errno::NOTCONN)?;
        let pidfd = pidfd.ok_or(Errno::BADF)?;
        why::explain(kernel, connection.peer.uid, pidfd.as_fd(), after)
    }

    fn client_of(&self, number: u64) -> Result<u32, Errno> {
        self.connections
            .get(&number)
            .and_then(|connection| connection.client)
            .ok_or(Errno::NOTCONN)
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
            log::warn!("cannot forget client {id}: {errno}");
        }
        log::info!("client {id} left");
    }
}
