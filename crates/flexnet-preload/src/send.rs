// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What becomes of a send on a socket of ours: queued, handed over, or the
//! caller's own; the rules are README.md's.

use crate::barrier::{self, BarrierResult, deadline, is_nonblocking};
use crate::config::Mode;
use crate::entry::{Entry, Kind, Used};
use crate::hook_guard::HookGuard;
use crate::policy::SendMode;
use crate::sender;
use crate::table::{self, CANDIDATE, ProcessState, Slot, is_entry};
use flexnet::executor::Slept;
use flexnet::transport::{Drained, HandedOver};
use libc::c_int;
use std::io::IoSlice;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// From this size on a blocking send is handed over without a copy: copying 16
/// KB costs 560 ns here.
const HANDOVER_BYTES: usize = 16 * 1024;
/// Flags of a send that may be queued.
const QUEUED_FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What the hook does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Calls the real function.
    Real,
    /// Returns so many bytes as sent.
    Accepted(usize),
    /// The real function sends the rest, from here on.
    RealFrom(usize),
    /// Fails with this errno.
    Failed(c_int),
}

/// One message or stretch of a stream.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) slices: &'a [IoSlice<'a>],
    pub(crate) length: usize,
    pub(crate) flags: c_int,
    /// Bytes only: no address and no control messages.
    pub(crate) plain: bool,
}

impl Message<'_> {
    fn may_queue(&self) -> bool {
        self.plain && self.flags & !QUEUED_FLAGS == 0
    }
}

/// May the hook have something to do with sends on this descriptor?
#[inline(always)]
pub(crate) fn concerns(fd: RawFd) -> Option<(&'static Slot, usize)> {
    let slot = table::slot(fd)?;
    let tagged = slot.tagged();
    (tagged >= CANDIDATE).then_some((slot, tagged))
}

/// A send on a descriptor that may concern us.
#[inline(never)]
pub(crate) fn offer(
    fd: RawFd,
    slot: &'static Slot,
    tagged: usize,
    message: &Message<'_>,
) -> Verdict {
    let Some(process) = table::process_state() else {
        return Verdict::Real;
    };
    let verdict = decide(fd, slot, tagged, process, message);
    if process.leaving.load(Ordering::Relaxed) != 0 {
        crate::start::withdraw(process);
    }
    verdict
}

fn decide(
    fd: RawFd,
    slot: &'static Slot,
    tagged: usize,
    process: &'static ProcessState,
    message: &Message<'_>,
) -> Verdict {
    let Some(config) = crate::start::config() else {
        return Verdict::Real;
    };
    let mut counted = None;
    let tagged = match tagged {
        CANDIDATE => match make(fd, slot, process, config.mode, message, &mut counted) {
            true => slot.tagged(),
            false => return Verdict::Real,
        },
        tagged => tagged,
    };
    if !is_entry(tagged) {
        return Verdict::Real;
    }
    let Some(guard) = HookGuard::enter() else {
        return Verdict::Real;
    };
    let Some(entry) = Entry::of(slot, tagged) else {
        return Verdict::Real;
    };
    let send = Send {
        fd,
        process,
        mode: config.mode,
        guard: &guard,
        entry: &entry,
        message,
        counted,
    };
    send.decide()
}

/// A candidate's send: is it time that it has a flow? `counted`: the way, if the send
/// was counted for it.
fn make(
    fd: RawFd,
    slot: &Slot,
    process: &ProcessState,
    mode: Mode,
    message: &Message<'_>,
    counted: &mut Option<SendMode>,
) -> bool {
    if process.off.load(Ordering::Relaxed) != 0 {
        return false;
    }
    let worth = match mode {
        Mode::Off => false,
        Mode::Always => true,
        Mode::Strict => message.length >= HANDOVER_BYTES,
        Mode::Adaptive => {
            // Nothing is made for what may not be queued.
            let backlog = (!message.may_queue()).then_some(0);
            let send_mode = sender::send_mode(process, message.length, || backlog);
            *counted = Some(send_mode);
            send_mode == SendMode::Queued && message.may_queue()
        }
    };
    if !worth {
        return false;
    }
    match HookGuard::enter() {
        Some(_guard) => crate::start::make_flow(fd, slot),
        None => false,
    }
}

struct Send<'a> {
    fd: RawFd,
    process: &'a ProcessState,
    mode: Mode,
    guard: &'a HookGuard,
    entry: &'a Used,
    message: &'a Message<'a>,
    /// The way, where this send was counted already.
    counted: Option<SendMode>,
}

impl Send<'_> {
    fn decide(&self) -> Verdict {
        let (entry, message) = (self.entry, self.message);
        if entry.flow().error().is_some()
            && let Some(errno) = entry.take_error()
        {
            return Verdict::Failed(errno);
        }
        if entry.ended.load(Ordering::Relaxed) && !entry.flow().is_drained() {
            return Verdict::Failed(libc::EPIPE);
        }
        if message.flags & libc::MSG_MORE != 0 && entry.kind() == Kind::Datagrams {
            // A datagram that the kernel keeps open for the next send's bytes.
            entry.passthrough.store(true, Ordering::Relaxed);
        }
        let may_queue = message.may_queue()
            && !entry.passthrough.load(Ordering::Relaxed)
            && !entry.ended.load(Ordering::Relaxed)
            && !self
                .process
                .forks
                .shares(entry.forks.load(Ordering::Relaxed));
        if may_queue && self.pays() {
            if self.fits() {
                if entry.flow().submit(message.slices, message.length) {
                    return Verdict::Accepted(message.length);
                }
                return self.queue_full();
            }
            if let Some(bytes) = self.for_hand_over() {
                return self.hand_over(bytes);
            }
        }
        if entry.flow().is_drained() {
            return Verdict::Real;
        }
        self.behind_rest(may_queue)
    }

    /// As one record. A send of nothing is the kernel's, but for datagrams.
    fn fits(&self) -> bool {
        let length = self.message.length;
        length <= self.entry.flow().message_max()
            && (length > 0 || self.entry.kind() == Kind::Datagrams)
            && (length < HANDOVER_BYTES || self.entry.kind() == Kind::Datagrams)
    }

    /// Does queueing (or handing over) it pay?
    #[inline]
    fn pays(&self) -> bool {
        match self.mode {
            Mode::Always => true,
            Mode::Off => false,
            Mode::Strict => self.message.length >= HANDOVER_BYTES,
            Mode::Adaptive => self.pays_adaptively(),
        }
    }

    fn pays_adaptively(&self) -> bool {
        let flow = self.entry.flow();
        let send_mode = self.counted.unwrap_or_else(|| {
            sender::send_mode(self.process, self.message.length, || Some(flow.backlog()))
        });
        // A core that the scheduler has granted, with an executor on it.
        let has_core = || flow.is_attached() && flow.is_served() && !flow.is_saturated();
        // What a datagram's sender gains may be its receiver's loss: nothing holds
        // it back (iperf3 -u: as many sent, and 60% instead of 3% lost, where the
        // executor took the receiver's turns).
        let measured = send_mode == SendMode::Queued && self.entry.kind() == Kind::Stream;
        (measured && self.fits()) || (send_mode != SendMode::InlineOnly && has_core())
    }

    fn blocks(&self) -> bool {
        self.message.flags & libc::MSG_DONTWAIT == 0 && !is_nonblocking(self.fd)
    }

    /// The ring is full: who wants room makes it. EAGAIN only when the kernel
    /// has just said so to this thread.
    #[cold]
    fn queue_full(&self) -> Verdict {
        let flow = self.entry.flow();
        let mut until: Option<Option<Instant>> = None;
        loop {
            let drained = flow.drain();
            if let Some(errno) = self.entry.take_error() {
                return Verdict::Failed(errno);
            }
            if flow.error().is_some() {
                return Verdict::Real;
            }
            if flow.submit(self.message.slices, self.message.length) {
                return Verdict::Accepted(self.message.length);
            }
            match drained {
                Drained::Empty => continue, // others were faster
                Drained::NoMemory => return Verdict::Failed(libc::ENOBUFS),
                Drained::WouldBlock if !self.blocks() => return Verdict::Failed(libc::EAGAIN),
                Drained::WouldBlock => {}
            }
            let deadline = *until.get_or_insert_with(|| deadline(self.fd));
            match self.guard.suspended(|| flow.wait_room(deadline)) {
                Slept::Done => {}
                Slept::TimedOut => return Verdict::Failed(libc::EAGAIN),
                Slept::Interrupted => return Verdict::Failed(libc::EINTR),
            }
        }
    }

    /// Not to be queued, and not the first: what is before it goes first.
    #[cold]
    fn behind_rest(&self, may_queue: bool) -> Verdict {
        // Without waiting: then it is queued behind the rest, where it may.
        let queue = may_queue && self.fits();
        if queue && self.entry.flow().drain() != Drained::Empty {
            return match self
                .entry
                .flow()
                .submit(self.message.slices, self.message.length)
            {
                true => Verdict::Accepted(self.message.length),
                false => self.queue_full(),
            };
        }
        let waits = self.message.flags & libc::MSG_DONTWAIT == 0;
        let result = barrier::drain(self.guard, self.entry, self.fd, waits);
        if let Some(errno) = self.entry.take_error() {
            return Verdict::Failed(errno);
        }
        match result {
            BarrierResult::Drained => Verdict::Real,
            BarrierResult::Failed(errno) => Verdict::Failed(errno),
        }
    }

    /// A large blocking send's bytes, if an executor is to send them while the
    /// caller waits: in one piece, without a limit on the time.
    fn for_hand_over(&self) -> Option<&[u8]> {
        let whole = match self.message.slices {
            [one] if one.len() >= HANDOVER_BYTES => one,
            _ => return None,
        };
        let can = self.entry.kind() == Kind::Stream
            && self.entry.flow().is_drained()
            && self.blocks()
            && deadline(self.fd).is_none();
        can.then_some(whole)
    }

    fn hand_over(&self, bytes: &[u8]) -> Verdict {
        let sleeps = |sleeps| self.guard.set_suspended(sleeps);
        match self.entry.flow().hand_over(bytes, sleeps) {
            HandedOver::Sent => Verdict::Accepted(bytes.len()),
            HandedOver::Failed(errno) => Verdict::Failed(self.entry.take_error().unwrap_or(errno)),
            HandedOver::Interrupted(0) => Verdict::Failed(libc::EINTR),
            HandedOver::Interrupted(sent) => Verdict::Accepted(sent),
            HandedOver::GivenBack(sent) => Verdict::RealFrom(sent),
        }
    }
}
