// SPDX-License-Identifier: GPL-2.0-only
//! The clients' pages: BPF maps of one page each, made or adopted, and put
//! where BPF looks for them.
//!
//! Putting a map into the table waits for RCU, 11 to 22 ms, so a thread of its
//! own does it. Promises that no other client had the page before: it is new, or the same client
//! had it from an earlier daemon. BPF's lines in it start fresh. clients.rs decides which client
//! gets a page.

use crate::wake::Wake;
use anyhow::{Context, Result};
use flexnet::abi::{PAGE_BYTES, PAGE_MAGIC, Page, PageHeader, VERSION};
use libbpf_rs::libbpf_sys::{BPF_F_MMAPABLE, bpf_map_create_opts};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapInfo, MapType};
use rustix::io::Errno;
use rustix::mm::{MapFlags as MmapFlags, ProtFlags, mmap, munmap};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

const MAP_NAME: &str = "flexnet_page";

/// A client's page.
#[derive(Debug)]
pub struct PageMap {
    fd: OwnedFd,
    /// The kernel's number of the map; never used twice.
    pub id: u32,
}

impl PageMap {
    fn create() -> Result<Self, Errno> {
        let options = bpf_map_create_opts {
            sz: size_of::<bpf_map_create_opts>() as _,
            map_flags: BPF_F_MMAPABLE,
            ..Default::default()
        };
        let map = MapHandle::create(
            MapType::Array,
            Some(MAP_NAME),
            4,
            PAGE_BYTES as u32,
            1,
            &options,
        )
        .map_err(|error| crate::kernel::errno_of(&error))?;
        let fd = map.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        Self::adopt(fd)
    }

    /// Takes a map a client had before, if it is a page: a map of exactly the
    /// kind that `create` makes.
    pub fn adopt(fd: OwnedFd) -> Result<Self, Errno> {
        let info = MapInfo::new(fd.as_fd()).map_err(|_| Errno::INVAL)?.info;
        let shape = (
            info.key_size,
            info.value_size,
            info.max_entries,
            info.map_flags,
        );
        if MapType::from(info.type_) != MapType::Array
            || shape != (4, PAGE_BYTES as u32, 1, BPF_F_MMAPABLE)
        {
            return Err(Errno::INVAL);
        }
        Ok(Self { fd, id: info.id })
    }

    /// Runs a closure on the page, mapped for so long.
    fn with<T>(&self, read: impl FnOnce(&Page) -> T) -> Result<T, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe {
            mmap(
                null_mut(),
                PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MmapFlags::SHARED,
                &self.fd,
                0,
            )
        }?;
        // SAFETY: PAGE_BYTES are mapped until the end of this function, and
        // what others write meanwhile are atomics that any value fits.
        let value = read(unsafe { &*address.cast::<Page>() });
        // SAFETY: mapped above; no reference is left.
        unsafe { munmap(address, PAGE_BYTES) }?;
        Ok(value)
    }

    /// Writes the header and makes BPF's lines say that nothing runs. BPF does
    /// not know the page yet.
    fn prepare(&self, client: u32, executors_max: u32) -> Result<(), Errno> {
        self.with(|page| {
            let header = PageHeader {
                magic: PAGE_MAGIC,
                version: u32::from(VERSION),
                page_bytes: PAGE_BYTES as u32,
                client,
                executors_max,
                reserved: [0; 11],
            };
            // SAFETY: inside a writable mapping. A client that adopted its old
            // page may read meanwhile, and reads the header after WELCOME.
            unsafe { (&raw const page.header).cast_mut().write_volatile(header) };
            for executor in &page.executors {
                executor.sched.on_cpu.store(-1, Ordering::Relaxed);
                executor.sched.park_request.store(0, Ordering::Relaxed);
                executor.sched.quantum_expired.store(0, Ordering::Relaxed);
                executor.sched.on_granted_core.store(0, Ordering::Relaxed);
            }
            std::sync::atomic::fence(Ordering::Release);
        })
    }

    /// Says which design is on, for the client's own stack to follow.
    pub fn tell_design(&self, text: &str) -> Result<(), Errno> {
        self.with(|page| page.design.write(text))
    }

    /// Says that nobody schedules, once BPF is gone that would say it.
    pub fn mark_detached(&self) -> Result<(), Errno> {
        self.with(|page| {
            page.grant.attached.store(0, Ordering::Relaxed);
            page.grant.generation.fetch_add(1, Ordering::Release);
        })
    }
}

impl AsFd for PageMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A page to be put in place.
#[derive(Debug)]
pub struct Job {
    /// Whom the answer is for.
    pub connection: u64,
    /// The client's id.
    pub client: u32,
    /// Its quota.
    pub executors_max: u32,
    /// The page it had before, if it had one.
    pub old: Option<PageMap>,
}

/// What became of a [`Job`].
#[derive(Debug)]
pub struct Placed {
    /// As in the job.
    pub connection: u64,
    /// As in the job.
    pub client: u32,
    /// The page, in the table.
    pub page: Result<PageMap, Errno>,
}

/// The thread that places pages.
#[derive(Debug)]
pub struct Placer {
    jobs: Option<Sender<Job>>,
    placed: Receiver<Placed>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Placer {
    /// Starts the thread on the table of pages.
    pub fn start(table: MapHandle) -> Result<Self> {
        let (jobs, inbox) = channel::<Job>();
        let (outbox, placed) = channel();
        let wake = Arc::new(Wake::new()?);
        let ring = wake.clone();
        let thread = std::thread::Builder::new()
            .name("pages".to_owned())
            .spawn(move || {
                for job in inbox {
                    let (connection, client) = (job.connection, job.client);
                    let page = place(&table, job);
                    let placed = Placed {
                        connection,
                        client,
                        page,
                    };
                    if outbox.send(placed).is_err() {
                        return;
                    }
                    ring.ring();
                }
            })
            .context("cannot start a thread")?;
        Ok(Self {
            jobs: Some(jobs),
            placed,
            wake,
            thread: Some(thread),
        })
    }

    /// Has a page placed; its [`Placed`] comes later.
    pub fn place(&self, job: Job) -> Result<(), Errno> {
        let jobs = self.jobs.as_ref().ok_or(Errno::SHUTDOWN)?;
        jobs.send(job).map_err(|_| Errno::IO)
    }

    /// What was placed since the last call.
    pub fn take(&self) -> Vec<Placed> {
        self.wake.drain();
        self.placed.try_iter().collect()
    }
}

impl AsFd for Placer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Placer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // It can only have ended in order or by a panic already printed.
            let _ = thread.join();
        }
    }
}

/// Makes the page of a job, or prepares the old one, and puts it into the table.
///
/// # Errors
/// The kernel's. Waits for RCU, 11 to 22 ms.
pub fn place(table: &MapHandle, job: Job) -> Result<PageMap, Errno> {
    let page = match job.old {
        Some(page) => page,
        None => PageMap::create()?,
    };
    page.prepare(job.client, job.executors_max)?;
    table
        .update(
            &job.client.to_ne_bytes(),
            &page.fd.as_raw_fd().to_ne_bytes(),
            MapFlags::ANY,
        )
        .map_err(|error| crate::kernel::errno_of(&error))?;
    Ok(page)
}
