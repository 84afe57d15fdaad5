// SPDX-License-Identifier: GPL-2.0-only
//! What each request of a client does, and its reply.

use super::{Control, Order};
use crate::clients::Client;
use crate::connection::Packet;
use crate::kernel::{ClientOp, Kernel, Limits, Registration};
use crate::message::{self, Request};
use crate::pages::{Job, PageMap, Placed};
use crate::status::status;
use crate::trace::Trace;
use crate::wake::Wake;
use crate::why;
use flexnet::abi::{self, Class, DesignText, Message, TraceReply, Welcome, Why, Wire};
use flexnet::design::Choice;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

impl Control {
    pub(super) fn answer(&mut self, kernel: &Kernel<'_>, number: u64, packet: Packet) {
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
                    let text = DesignText::new(header, &self.facts.design_text());
                    return self.send(kernel, number, text.as_bytes());
                }
                Err(errno) => Err(errno),
            },
            Request::CoreRule(asked) => match self.core_rule(kernel, number, asked, packet.fd) {
                Ok(said) => return self.say(kernel, number, &message, said),
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
            Request::Rules => match self.admit_root(number) {
                Ok(()) => return self.orders.push((number, message, Order::Rules)),
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
            cgroup: connection.peer.cgroup(),
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

    pub(super) fn welcome(
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
        log::info!(client = id; "client {id}: process {} of user {}", client.pid, client.uid);
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

    pub(super) fn admit_root(&self, number: u64) -> Result<(), Errno> {
        let connection = self.connections.get(&number).ok_or(Errno::NOTCONN)?;
        match connection.peer.uid {
            0 => Ok(()),
            _ => Err(Errno::PERM),
        }
    }

    /// Switches to a built-in design for all. A loaded core rule goes.
    pub fn switch_design(&mut self, kernel: &Kernel<'_>, choice: Choice) -> Result<(), Errno> {
        kernel.switch_design(&choice, None)?;
        log::info!(design:% = choice; "design {choice} (was {})", self.facts.design_text());
        self.loaded = None;
        self.facts.loaded = None;
        let text = choice.to_string();
        self.facts.design = choice;
        for (id, client) in self.clients.iter() {
            let reported = client.page.as_ref().map(|page| page.tell_design(&text));
            if let Some(Err(errno)) = reported {
                log::warn!(client = id, design:% = text, reason:% = errno; "client {id} keeps its design: cannot map its page: {errno}");
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
        &mut self,
        kernel: &Kernel<'_>,
        number: u64,
        after: u32,
        pidfd: Option<OwnedFd>,
    ) -> Result<Why, Errno> {
        let connection = self.connections.get_mut(&number).ok_or(Errno::NOTCONN)?;
        let pidfd = pidfd.ok_or(Errno::BADF)?;
        let (asker, walk) = (connection.peer.uid, &mut connection.walk);
        why::explain(kernel, asker, pidfd.as_fd(), after, walk)
    }

    fn client_of(&self, number: u64) -> Result<u32, Errno> {
        self.connections
            .get(&number)
            .and_then(|connection| connection.client)
            .ok_or(Errno::NOTCONN)
    }
}
