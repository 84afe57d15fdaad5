// SPDX-License-Identifier: GPL-2.0-only
//! The control socket against clients that mean no good: written on raw
//! packets, since the library sends none of these.

use crate::daemon::{Daemon, eventually, share, status};
use crate::tasks::{Random, Task, say};
use flexnet::abi::{self, Hello, Message, Register, SOCKET_PATH, SetClass, Status, Wire};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    recvmsg, sendmsg, socket_with, sockopt,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A connection that waits a minute at most.
pub struct Raw(OwnedFd);

impl Raw {
    pub fn connect() -> Self {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let limit = Some(Duration::from_secs(60));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, limit).unwrap();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, limit).unwrap();
        connect(&socket, &SocketAddrUnix::new(SOCKET_PATH).unwrap()).unwrap();
        Self(socket)
    }

    pub fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<usize, Errno> {
        let fds: Vec<_> = fd.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let flags = SendFlags::NOSIGNAL;
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags)
    }

    /// The next packet's header; `None` at the end of the connection.
    pub fn receive(&self) -> Option<Message> {
        let mut buffer = [0; size_of::<Status>()];
        match recv(&self.0, &mut buffer, RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => None,
            Ok((length, _)) => Some(Message::from_bytes(&buffer[..length]).unwrap()),
            Err(errno) => panic!("no answer: {errno}"),
        }
    }

    /// A request's outcome.
    fn ask<T: Wire>(&self, request: &T, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        self.send(request.as_bytes(), fd).unwrap();
        let reply = self.receive().expect("the daemon hung up");
        match reply.status {
            0 => Ok(()),
            status => Err(Errno::from_raw_os_error(-status)),
        }
    }

    /// The next packet's header and the descriptors that come with it.
    fn receive_with_fds(&self) -> (Message, Vec<OwnedFd>) {
        let mut buffer = [0; size_of::<Status>()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let length = recvmsg(&self.0, &mut slices, &mut control, RecvFlags::empty())
            .unwrap()
            .bytes;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = fds.flatten().collect();
        (Message::from_bytes(&buffer[..length]).unwrap(), fds)
    }

    /// Becomes a client of that name; its page.
    pub fn hello_with_page(&self, name: &str) -> OwnedFd {
        let name = abi::name_bytes(name);
        self.send(Hello { name, ..hello() }.as_bytes(), None)
            .unwrap();
        let (reply, fds) = self.receive_with_fds();
        assert_eq!(reply.status, 0);
        fds.into_iter().next().unwrap()
    }

    fn hello(&self) -> Result<(), Errno> {
        self.ask(&hello(), None)
    }

    pub fn register(&self, slot: u32, thread: BorrowedFd<'_>) -> Result<(), Errno> {
        let message = header(abi::MESSAGE_REGISTER_EXECUTOR, size_of::<Register>());
        let register = Register {
            message,
            slot,
            flow_class: 0,
        };
        self.ask(&register, Some(thread))
    }

    pub fn unregister(&self, slot: u32) -> Result<(), Errno> {
        let message = header(abi::MESSAGE_UNREGISTER_EXECUTOR, size_of::<Register>());
        let flow_class = 0;
        let register = Register {
            message,
            slot,
            flow_class,
        };
        self.ask(&register, None)
    }
}

/// The header of a request.
pub fn header(kind: u16, size: usize) -> Message {
    Message {
        size: size as u32,
        kind,
        version: abi::VERSION,
        sequence: 9,
        status: 0,
    }
}

fn set_class(task_class: u32) -> SetClass {
    SetClass {
        message: header(abi::MESSAGE_SET_CLASS, size_of::<SetClass>()),
        task_class,
        reserved: 0,
    }
}

fn pidfd(tid: i32) -> OwnedFd {
    // PIDFD_THREAD is O_EXCL.
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);
    pidfd_open(Pid::from_raw(tid).unwrap(), flags).unwrap()
}

pub fn own_thread() -> OwnedFd {
    pidfd(rustix::thread::gettid().as_raw_nonzero().get())
}

pub fn foreign_threads_are_refused() {
    share("");
    let raw = Raw::connect();
    let (own, hog) = (own_thread(), Task::hog());
    let (foreign, init) = (pidfd(hog.pid() as i32), pidfd(1));
    let file = File::open("/dev/null").unwrap();
    // No client yet.
    assert_eq!(raw.register(0, own.as_fd()), Err(Errno::NOTCONN));
    assert_eq!(raw.hello(), Ok(()));
    assert_eq!(raw.hello(), Err(Errno::ALREADY));
    for other in [&foreign, &init] {
        assert_eq!(raw.register(0, other.as_fd()), Err(Errno::PERM));
        assert_eq!(
            raw.ask(&set_class(1), Some(other.as_fd())),
            Err(Errno::PERM)
        );
    }
    assert_eq!(raw.register(0, file.as_fd()), Err(Errno::BADF));
    assert_eq!(raw.ask(&set_class(1), None), Err(Errno::BADF));
    hog.kill();
    assert_eq!(raw.register(0, foreign.as_fd()), Err(Errno::SRCH));
    // The sender's own is taken, and taken once.
    assert_eq!(raw.register(0, own.as_fd()), Ok(()));
    assert_eq!(raw.register(0, own.as_fd()), Err(Errno::BUSY));
    assert_eq!(raw.ask(&set_class(0), Some(own.as_fd())), Ok(()));
    assert_eq!(raw.ask(&set_class(3), Some(own.as_fd())), Err(Errno::INVAL));
    drop(raw);
    eventually("the client's end", || status().clients == 0);
}

fn hello() -> Hello {
    Hello {
        message: header(abi::MESSAGE_HELLO, size_of::<Hello>()),
        name: abi::name_bytes("raw"),
        ..Hello::default()
    }
}

/// A role: asks for the daemon's place, is given it, and dies before it schedules.
/// Meanwhile the old one's timers must stand still: what they asked the kernel for,
/// it would take as its successor's mistake.
pub fn successor() {
    let raw = Raw::connect();
    let take_over = header(abi::MESSAGE_TAKEOVER, size_of::<Message>());
    assert_eq!(raw.ask(&take_over, None), Ok(()));
    assert_eq!(raw.receive().map(|reported| reported.status), Some(0));
    let before = crate::takeover::timer_fires();
    // What is not to happen cannot be awaited. A round is due every few 10 us.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(crate::takeover::timer_fires(), before);
}

/// The role of a user's process: so many hellos, their outcomes on one line.
pub fn hellos(count: usize) {
    let raws: Vec<Raw> = (0..count).map(|_| Raw::connect()).collect();
    let outcome = |raw: &Raw| match raw.hello() {
        Ok(()) => "ok".to_owned(),
        Err(errno) => format!("{errno:?}"),
    };
    say("ready");
    say(&raws.iter().map(outcome).collect::<Vec<_>>().join(" "));
    // Its connections stay until it is killed.
    std::thread::park();
}

/// The role of a process that connects, leaves and keeps the page, so many
/// times; what came of each.
pub fn keepers(count: usize) {
    say("ready");
    let (mut kept, mut outcomes) = (vec![], vec![]);
    for _ in 0..count {
        let raw = Raw::connect();
        raw.send(hello().as_bytes(), None).unwrap();
        let (reply, fds) = raw.receive_with_fds();
        outcomes.push(match reply.status {
            0 => "ok".to_owned(),
            status => format!("{:?}", Errno::from_raw_os_error(-status)),
        });
        kept.extend(fds);
        drop(raw);
        eventually("the client's end", || status().clients == 0);
    }
    say(&outcomes.join(" "));
    // They stay until it is killed.
    std::thread::park();
}

/// Pages that clients keep beyond their connection count, until they are gone.
pub fn kept_pages_count() {
    let daemon = Daemon::start(&["--clients-max", "3"]);
    let mut user = Task::play(&[], &["nobody", "keepers", "4"]);
    let outcomes = user.ask("");
    assert_eq!(outcomes, format!("ok ok ok {:?}", Errno::DQUOT));
    user.kill();
    let mut user = Task::play(&[], &["nobody", "keepers", "4"]);
    let outcomes = user.ask("");
    assert_eq!(outcomes, format!("ok ok ok {:?}", Errno::DQUOT));
    user.kill();
    daemon.stop();
}

pub fn quotas_hold() {
    let daemon = Daemon::start(&["--clients-max", "4", "--executors-max", "2"]);
    // A user has half of the clients, root what is left, and no more.
    let mut user = Task::play(&[], &["nobody", "hellos", "3"]);
    let outcomes = user.ask("");
    assert_eq!(outcomes, format!("ok ok {:?}", Errno::DQUOT));
    let raws = [Raw::connect(), Raw::connect(), Raw::connect()];
    let outcomes = raws.each_ref().map(Raw::hello);
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(Errno::NOSPC)]);
    let own = own_thread();
    assert_eq!(raws[0].register(2, own.as_fd()), Err(Errno::DQUOT));
    assert_eq!(raws[0].register(16, own.as_fd()), Err(Errno::INVAL));
    assert_eq!(raws[0].register(1, own.as_fd()), Ok(()));
    // A client that leaves makes room.
    user.kill();
    eventually("room for another client", || raws[2].hello() == Ok(()));
    drop(raws);
    eventually("the clients' end", || status().clients == 0);
    daemon.stop();
}

/// A packet that may be anything, more often nearly right.
fn random_packet(random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..1 + random.below(120))
        .map(|_| random.next() as u8)
        .collect();
    if random.below(8) == 0 {
        return bytes;
    }
    bytes.resize(bytes.len().max(16), 0);
    let length = bytes.len() as u32;
    let size = if random.below(8) == 0 {
        random.next() as u32
    } else {
        length
    };
    let kind = random.below(8) as u16;
    let version = if random.below(8) == 0 {
        7
    } else {
        abi::VERSION
    };
    bytes[0..4].copy_from_slice(&size.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&version.to_ne_bytes());
    for at in (16..bytes.len().min(24)).step_by(4) {
        // Small numbers are slots and classes.
        if random.below(2) == 0 && at + 4 <= bytes.len() {
            bytes[at..at + 4].copy_from_slice(&(random.below(20) as u32).to_ne_bytes());
        }
    }
    bytes
}

pub fn random_packets_are_answered() {
    let daemon = share("");
    let mut app = Task::app("beside", 1);
    app.ask("load 200 16 1000");
    let hog = Task::hog();
    let fds = [
        own_thread(),
        pidfd(hog.pid() as i32),
        File::open("/dev/null").unwrap().into(),
    ];
    let mut random = Random(0x5eed);
    let mut raws: Vec<Raw> = (0..4).map(|_| Raw::connect()).collect();
    let (mut good, mut refused, mut closed) = (0, 0, 0);
    for number in 0..2000 {
        let bytes = random_packet(&mut random);
        let fd = match random.below(3) {
            0 => Some(fds[random.below(fds.len())].as_fd()),
            _ => None,
        };
        let at = random.below(raws.len());
        raws[at].send(&bytes, fd).unwrap();
        match raws[at].receive() {
            Some(reply) if reply.status == 0 => good += 1,
            Some(reply) => {
                assert!(reply.status < 0, "packet {number}: {reply:?}");
                refused += 1;
            }
            None => closed += 1,
        }
        // Some leave in the middle of things, with a request under way.
        if random.below(40) == 0 {
            let _ = raws[at].send(&random_packet(&mut random), None);
            raws[at] = Raw::connect();
        }
    }
    println!("  {good} done, {refused} refused, {closed} connections closed");
    assert!(good > 100 && refused > 1000 && closed == 0);
    // It made this thread what not; all ends with the connections.
    drop(raws);
    eventually("the clients' end", || status().clients == 1);
    daemon.assert_schedules();
    app.await_progress(20);
}
