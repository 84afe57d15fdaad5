// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! One client's connection through its ups and downs.
//!
//! A background thread owns reading: replies are handed to the threads that wait,
//! a detach message or the end of the connection starts over. It sleeps in poll
//! and wakes by itself only while there is no scheduler, once a second.

use super::socket::{ControlSocket, REPLY_TIMEOUT, check_status, header, own_thread};
use crate::abi::{self, FlowClass, Hello, Message, Register, Welcome, Wire};
use crate::executor::PageRef;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// How often a missing scheduler is looked for.
const RETRY: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

type WakeAll = Box<dyn Fn() + Send + Sync>;

pub(super) struct Connection {
    path: PathBuf,
    name: String,
    /// Asked for, and given.
    guarantee: [AtomicU32; 2],
    generation: AtomicU64,
    attached: AtomicBool,
    sequence: AtomicU32,
    page: OnceLock<(PageRef, OwnedFd)>,
    waker: OnceLock<WakeAll>,
    now: Mutex<Now>,
    replied: Condvar,
}

#[derive(Default)]
struct Now {
    socket: Option<Arc<ControlSocket>>,
    replies: HashMap<u32, Message>,
}

/// What a connection came with.
pub(super) struct Connected {
    socket: Arc<ControlSocket>,
    doorbell: OwnedFd,
}

impl Connection {
    pub(super) fn new(path: &Path, name: &str, cores: u32) -> Self {
        Self {
            path: path.to_owned(),
            name: name.to_owned(),
            guarantee: [AtomicU32::new(cores), AtomicU32::new(0)],
            generation: AtomicU64::new(0),
            attached: AtomicBool::new(false),
            sequence: AtomicU32::new(2),
            page: OnceLock::new(),
            waker: OnceLock::new(),
            now: Mutex::default(),
            replied: Condvar::new(),
        }
    }

    pub(super) fn page(&self) -> Option<PageRef> {
        self.page.get().map(|(page, _)| *page)
    }

    pub(super) fn generation(&self) -> &AtomicU64 {
        &self.generation
    }

    pub(super) fn cores_guaranteed(&self) -> u32 {
        self.guarantee[1].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    pub(super) fn set_waker(&self, wake_all: WakeAll) {
        // One runtime a client: a second one's executors would share slots.
        if self.waker.set(wake_all).is_err() {
            log::warn!(
                "{}: a client serves one runtime; the second is not woken",
                self.name
            );
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `flexnet status` shows it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Says hello, and maps the page if that is the first time.
    pub(super) fn connect(&self) -> io::Result<Connected> {
        let socket = ControlSocket::connect(&self.path)?;
        let asked = self.guarantee[0].load(Ordering::Relaxed);
        let hello = Hello {
            message: header(abi::MESSAGE_HELLO, size_of::<Hello>(), 1),
            name: abi::name_bytes(&self.name),
            cores_guaranteed: asked,
            ..Hello::default()
        };
        let old = self.page.get().map(|(_, fd)| fd.as_fd());
        let (welcome, descriptors) = socket.call::<_, Welcome>(&hello, old)?;
        self.guarantee[1].store(welcome.cores_guaranteed, Ordering::Relaxed);
        if welcome.cores_guaranteed < asked {
            let (name, given) = (&self.name, welcome.cores_guaranteed);
            log::warn!(
                "{name}: {given} of {asked} cores are guaranteed: only root may ask, \
                 and for no more than others left"
            );
        }
        let mut descriptors = descriptors.into_iter();
        let (Some(page), Some(doorbell)) = (descriptors.next(), descriptors.next()) else {
            return Err(io::Error::other(
                "the scheduler's welcome came without its descriptors",
            ));
        };
        if self.page.get().is_none() {
            let mapped = map_page(&page, welcome.page_bytes)?;
            let _ = self.page.set((mapped, page));
        }
        let socket = Arc::new(socket);
        self.now().socket = Some(socket.clone());
        self.attached.store(true, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.wake_all();
        Ok(Connected { socket, doorbell })
    }

    /// Every parked executor looks: at the generation, or at the queues.
    fn wake_all(&self) {
        if let Some(wake_all) = self.waker.get() {
            wake_all();
        }
    }

    /// The background thread, until `stop` is readable.
    pub(super) fn run(&self, first: Option<Connected>, stop: BorrowedFd<'_>) {
        crate::executor::block_signals();
        let mut connected = first;
        loop {
            if let Some(connected) = connected.take() {
                let stopped = self.listen(&connected, stop);
                self.lost();
                if stopped {
                    return;
                }
            }
            connected = self.connect().ok();
            let mut fds = [PollFd::from_borrowed_fd(stop, PollFlags::IN)];
            if connected.is_none() && poll(&mut fds, Some(&RETRY)).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }

    fn lost(&self) {
        self.attached.store(false, Ordering::Release);
        {
            let mut now = self.now();
            now.socket = None;
            now.replies.clear();
            // Within the lock: a thread that waits for a reply must see it or be told.
            self.generation.fetch_add(1, Ordering::AcqRel);
            self.replied.notify_all();
        }
        self.wake_all();
    }

    /// Until the scheduler goes (false) or `stop` (true).
    fn listen(&self, connected: &Connected, stop: BorrowedFd<'_>) -> bool {
        let mut buffer = [0; 256];
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(stop, PollFlags::IN),
                PollFd::from_borrowed_fd(connected.socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(connected.doorbell.as_fd(), PollFlags::IN),
            ];
            if poll(&mut fds, None).is_err() {
                continue; // interrupted
            }
            let [stopped, message, rung] = fds.map(|fd| !fd.revents().is_empty());
            if stopped {
                return true;
            }
            if rung {
                let mut count = [0; 8];
                let _ = rustix::io::read(&connected.doorbell, &mut count);
                self.wake_all();
            }
            if message {
                let Ok(packet) = connected.socket.receive(&mut buffer) else {
                    return false;
                };
                let Some(message) = Message::from_bytes(&buffer[..packet.length]) else {
                    return false;
                };
                if message.kind == abi::MESSAGE_DETACH {
                    return false;
                }
                self.now().replies.insert(message.sequence, message);
                self.replied.notify_all();
            }
        }
    }

    pub(super) fn register(&self, slot: u32, flow_class: FlowClass) -> io::Result<()> {
        let thread = own_thread()?;
        let kind = abi::MESSAGE_REGISTER_EXECUTOR;
        self.request(kind, slot, flow_class, Some(thread))
    }

    pub(super) fn unregister(&self, slot: u32) {
        let kind = abi::MESSAGE_UNREGISTER_EXECUTOR;
        // A scheduler that is gone has forgotten it.
        let _ = self.request(kind, slot, FlowClass::Throughput, None);
    }

    fn request(
        &self,
        kind: u16,
        slot: u32,
        flow_class: FlowClass,
        fd: Option<OwnedFd>,
    ) -> io::Result<()> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let request = Register {
            message: header(kind, size_of::<Register>(), sequence),
            slot,
            flow_class: flow_class as u32,
        };
        let generation = self.generation.load(Ordering::Acquire);
        let Some(socket) = self.now().socket.clone() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        socket.send(&request, fd.as_ref().map(AsFd::as_fd))?;
        // The message holds it from here on.
        drop(fd);
        let waits = |now: &mut Now| {
            !now.replies.contains_key(&sequence)
                && self.generation.load(Ordering::Acquire) == generation
        };
        let (mut now, _) = self
            .replied
            .wait_timeout_while(self.now(), REPLY_TIMEOUT, waits)
            .unwrap_or_else(PoisonError::into_inner);
        match now.replies.remove(&sequence) {
            Some(reply) => check_status(&reply),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn map_page(fd: &OwnedFd, bytes: u32) -> io::Result<PageRef> {
    if bytes as usize != abi::PAGE_BYTES {
        return Err(io::Error::other("the scheduler's page has another size"));
    }
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping at an address the kernel chooses; never unmapped.
    let page = unsafe {
        mmap(
            std::ptr::null_mut(),
            abi::PAGE_BYTES,
            protection,
            flags,
            fd,
            0,
        )
    }?;
    let Some(page) = NonNull::new(page.cast::<abi::Page>()) else {
        return Err(io::Error::other("the page was mapped at zero"));
    };
    // SAFETY: mapped above, page-aligned, for ever; the daemon initialised it,
    // and every bit pattern of the rest is valid.
    let page = unsafe { PageRef::new(page) };
    let header = &page.get().header;
    if header.magic != abi::PAGE_MAGIC || header.version != u32::from(abi::VERSION) {
        return Err(io::Error::other(
            "the scheduler's page is of another version",
        ));
    }
    Ok(page)
}
