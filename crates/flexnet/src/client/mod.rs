// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The link to the scheduler: control socket, shared page, and what happens
//! when either is missing.
//!
//! A [`Client`] connects when the scheduler is there, now or later, and again
//! after it was lost; a runtime it is given to ([`crate::executor::Builder::link`])
//! registers its executors each time. Nothing here needs privilege.
//!
//! Promised: no call fails or waits because there is no scheduler; the shared
//! page, once there, stays mapped and is brought back to a scheduler that
//! restarts. Left to others: what executors do with it. This module alone talks to
//! the scheduler; executors only read and write their page.

mod connection;
mod core_rule;
mod socket;
mod words;

use crate::abi::{
    self, Class, DesignText, FlowClass, Message, SetClass, Status, StatusRules, TraceAsk,
    TraceReply, Why, WhyAsk, WhyThread,
};
use crate::descriptors::raised;
use crate::design::Choice;
use crate::executor::{Link, PageRef};
use connection::{Connected, Connection};
pub use core_rule::{CoreRuleObject, load_core_rule, loaded_core_rule, unload_core_rule};
use rustix::event::{EventfdFlags, eventfd};
pub use socket::root_door;
use socket::{ControlSocket, header, own_thread};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
pub use words::Reloaded;
use words::in_words;

/// The connection to the scheduler, for one process.
///
/// ```
/// use flexnet::{client::Client, executor::Runtime};
///
/// // Works with and without a scheduler, and notices when one comes or goes.
/// let client = Client::connect_or_wait(flexnet::abi::SOCKET_PATH.as_ref(), "kv")?;
/// let runtime = Runtime::builder().name("kv").executors(4).link(client).build()?;
/// # drop(runtime);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Client {
    connection: Arc<Connection>,
    stop: Arc<OwnedFd>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Client {
    /// Connects to the scheduler's control socket at `path`, or waits for it in
    /// the background. `name` (15 bytes of it) is shown by `flexnet status`.
    ///
    /// # Errors
    /// Only for want of a thread or a descriptor in this process.
    pub fn connect_or_wait(path: &Path, name: &str) -> io::Result<Arc<Self>> {
        Self::connect_with_guarantee(path, name, 0)
    }

    /// [`Client::connect_or_wait`], asking for `cores` that are this process's
    /// own while it has work, under designs in which applications claim cores
    /// (`shenango`; the others share by weight). For processes of root;
    /// [`Client::cores_guaranteed`] says what came of it.
    ///
    /// # Errors
    /// As there.
    pub fn connect_with_guarantee(path: &Path, name: &str, cores: u32) -> io::Result<Arc<Self>> {
        let connection = Arc::new(Connection::new(path, name, cores));
        // Now, if it is there, so that the first packet knows.
        let first = connection.connect().ok();
        Self::follow(connection, first)
    }

    /// [`Client::connect_or_wait`], which never waits for the scheduler's answer: all of the
    /// connection is made in the background. For callers that must not stand still, such as
    /// a program's own `send()`.
    ///
    /// # Errors
    /// As there.
    pub fn connect_in_background(path: &Path, name: &str) -> io::Result<Arc<Self>> {
        Self::follow(Arc::new(Connection::new(path, name, 0)), None)
    }

    fn follow(connection: Arc<Connection>, first: Option<Connected>) -> io::Result<Arc<Self>> {
        let stop = Arc::new(raised(eventfd(0, EventfdFlags::CLOEXEC)?)?);
        let (background, stopped) = (connection.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name(format!("{}/link", connection.name()))
            .stack_size(128 * 1024)
            .spawn(move || background.run(first, stopped.as_fd()))?;
        Ok(Arc::new(Self {
            connection,
            stop,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Closes the connection for good, and waits for its thread to end: a few
    /// moments, or up to 5 s where the scheduler is just asked for something.
    /// For a process that must have no other threads (unshare, setns).
    pub fn close(&self) {
        self.stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It has nothing more to say.
            let _ = thread.join();
        }
    }

    fn stop(&self) {
        // The thread's poll sees it; its connection closes, and the daemon
        // forgets the client.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
    }

    /// Cores the scheduler guaranteed at the last connection, of those asked for.
    pub fn cores_guaranteed(&self) -> u32 {
        self.connection.cores_guaranteed()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Link for Client {
    fn page(&self) -> Option<PageRef> {
        self.connection.page()
    }
    fn register(&self, slot: u32, flow_class: FlowClass) -> io::Result<()> {
        self.connection.register(slot, flow_class)
    }
    fn unregister(&self, slot: u32) {
        self.connection.unregister(slot);
    }
    fn generation(&self) -> &AtomicU64 {
        self.connection.generation()
    }
    #[inline]
    fn attached(&self) -> bool {
        self.connection.attached()
    }
    fn set_waker(&self, wake_all: Box<dyn Fn() + Send + Sync>) {
        self.connection.set_waker(wake_all);
    }
}

/// Puts the calling thread into a scheduling class; what it forks or executes
/// later inherits it.
///
/// ```
/// use flexnet::abi::{Class, SOCKET_PATH};
///
/// if let Err(error) = flexnet::client::set_class_of_self(SOCKET_PATH.as_ref(), Class::Latency) {
///     eprintln!("an ordinary task, then: {error}");
/// }
/// ```
///
/// # Errors
/// No scheduler listens at `path`, or it refuses.
pub fn set_class_of_self(path: &Path, class: Class) -> io::Result<()> {
    let socket = ControlSocket::connect_to_ask(path)?;
    let request = SetClass {
        message: header(abi::MESSAGE_SET_CLASS, size_of::<SetClass>(), 1),
        task_class: class as u32,
        reserved: 0,
    };
    let thread = own_thread()?;
    socket.call::<_, Message>(&request, Some(thread.as_fd()))?;
    Ok(())
}

/// Has the scheduler switch to a design, live, or asks which is on (`None`); the
/// design that is on then, as operators write it.
///
/// # Errors
/// No scheduler listens at `path`, or it refuses: only root may switch.
pub fn design(path: &Path, choice: Option<&Choice>) -> io::Result<String> {
    let socket = ControlSocket::connect_to_ask(path)?;
    let text = choice.map(Choice::to_string).unwrap_or_default();
    let message = header(abi::MESSAGE_DESIGN, size_of::<DesignText>(), 1);
    let reply = socket.call::<_, DesignText>(&DesignText::new(message, &text), None)?;
    Ok(abi::name_text(&reply.0.text))
}

/// Has the scheduler read its configuration file anew; root's to ask.
///
/// # Errors
/// No scheduler listens at `path`, or it refuses.
pub fn reload(path: &Path) -> io::Result<Reloaded> {
    let socket = ControlSocket::connect_to_ask(path)?;
    let request = header(abi::MESSAGE_RELOAD, size_of::<Message>(), 1);
    in_words(&socket, &request, None)
}

/// A trace that is being taken; it ends with this.
pub struct Tracing {
    socket: ControlSocket,
}

impl Tracing {
    /// Has events written into the write end of a pipe, as
    /// [`abi::TraceEvent`]s, from now on.
    ///
    /// # Errors
    /// No scheduler listens at `path`, the caller is not root, or somebody else
    /// traces (`ResourceBusy`).
    pub fn start(path: &Path, pipe: OwnedFd) -> io::Result<Self> {
        let socket = ControlSocket::connect_to_ask(path)?;
        let this = Self { socket };
        this.call(1, 0, Some(pipe.as_fd()))?;
        Ok(this)
    }

    /// Has a process' own events in it: submits, resumes, yields and finishes,
    /// by the probes of this library in `file`, which it runs. How many kinds of
    /// events are attached to by now, over all calls.
    ///
    /// # Errors
    /// The scheduler went away.
    pub fn attach(&self, pid: u32, file: BorrowedFd<'_>) -> io::Result<u32> {
        Ok(self.call(2, pid, Some(file))?.probes)
    }

    /// Ends it; the pipe's other end sees its end after the last event. How many
    /// events were lost.
    ///
    /// # Errors
    /// The scheduler went away.
    pub fn stop(self) -> io::Result<u64> {
        Ok(self.call(0, 0, None)?.lost)
    }

    fn call(&self, on: u32, pid: u32, fd: Option<BorrowedFd<'_>>) -> io::Result<TraceReply> {
        let message = header(abi::MESSAGE_TRACE, size_of::<TraceAsk>(), on);
        Ok(self.socket.call(&TraceAsk { message, on, pid }, fd)?.0)
    }
}

/// What the scheduler has for the threads of the process that `pid` (in the
/// caller's pid namespace) is, or is a thread of; lowest id first.
///
/// # Errors
/// No scheduler listens at `path`, there is no such process, or it is another
/// user's and the caller not root.
pub fn why(path: &Path, pid: i32) -> io::Result<Vec<WhyThread>> {
    let socket = ControlSocket::connect_to_ask(path)?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = socket::pidfd_of(pid)?;
    let mut threads: Vec<WhyThread> = Vec::new();
    loop {
        let ask = WhyAsk {
            message: header(abi::MESSAGE_WHY, size_of::<WhyAsk>(), 1),
            after: threads.last().map_or(0, |thread| thread.tid),
            reserved: 0,
        };
        let (reply, _) = socket.call::<_, Why>(&ask, Some(pidfd.as_fd()))?;
        let reported = (reply.threads as usize).min(reply.thread.len());
        threads.extend_from_slice(&reply.thread[..reported]);
        if reply.more == 0 || reported == 0 {
            threads.sort_unstable_by_key(|thread| thread.tid);
            return Ok(threads);
        }
    }
}

/// Asks the scheduler what goes on.
///
/// ```
/// match flexnet::client::status(flexnet::abi::SOCKET_PATH.as_ref()) {
///     Ok(status) => println!("{} of {} CPUs granted", status.cores_granted, status.cpus),
///     Err(error) => println!("no scheduler: {error}"),
/// }
/// ```
///
/// # Errors
/// No scheduler listens at `path`, or it refuses.
pub fn status(path: &Path) -> io::Result<Status> {
    let socket = ControlSocket::connect_to_ask(path)?;
    let request = header(abi::MESSAGE_STATUS, size_of::<Message>(), 1);
    Ok(socket.call::<_, Status>(&request, None)?.0)
}

/// The operator's rules with the tasks that each holds, and the keys of the configuration
/// that wait for a restart; root's to ask.
///
/// # Errors
/// No scheduler listens at `path`, or it refuses.
pub fn rules(path: &Path) -> io::Result<StatusRules> {
    let socket = ControlSocket::connect_to_ask(path)?;
    let request = header(abi::MESSAGE_RULES, size_of::<Message>(), 1);
    Ok(socket.call::<_, StatusRules>(&request, None)?.0)
}
