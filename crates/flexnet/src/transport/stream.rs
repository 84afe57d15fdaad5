// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Draining a stream: records are coalesced into one `sendmsg`, short writes
//! are taken up where they stopped. No I/O but through [`Socket`].

use super::handover;
use super::socket::Socket;
use crate::executor::{Drain, Progress, Work};
use crate::queue::{Record, RecordKind};
use rustix::io::Errno;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Slices of one `sendmsg`. More hardly lower the cost a message, and this many
/// fit the stack (64 of 16 bytes).
const SLICES: usize = 64;
/// After ENOBUFS or ENOMEM nothing tells when there is memory again.
const MEMORY_RETRY: Duration = Duration::from_millis(1);

/// Bytes of a coroutine's output that are held back to go with what follows. Larger ones cost less
/// to send at once than to copy.
const OUTPUT_BYTES: usize = 16 * 1024;

/// A stream's coroutine: its state between two resumes.
pub(crate) struct StreamDrain<S> {
    socket: S,
    /// Bytes of the oldest record that are sent.
    sent: usize,
    /// The oldest record was given back to its caller.
    given_back: bool,
    /// What an inline send could not place: goes before everything in the ring.
    rest: Vec<u8>,
    rest_sent: usize,
    failed: Option<i32>,
    /// The stream ends when nothing is left.
    ends: bool,
}

fn bytes_of<'a>(record: &Record<'a>) -> &'a [u8] {
    match record.kind {
        // SAFETY: the record is in the ring, so its caller waits.
        RecordKind::Handover => unsafe { handover::buffer(record) },
        _ => record.payload,
    }
}

impl<S: Socket> StreamDrain<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self {
            socket,
            sent: 0,
            given_back: false,
            rest: Vec::new(),
            rest_sent: 0,
            failed: None,
            ends: false,
        }
    }

    /// What is to be sent next, at most `budget` bytes; how many slices and
    /// bytes that is.
    fn gather<'a>(
        &'a self,
        work: &Work<'a>,
        slices: &mut [IoSlice<'a>; SLICES],
        budget: usize,
    ) -> (usize, usize) {
        let rest = &self.rest[self.rest_sent..];
        let mut skip = self.sent;
        let (mut count, mut bytes) = (0, 0);
        let records = work
            .records()
            .take_while(|record| record.kind != RecordKind::Coroutine)
            .map(|record| {
                let slice = &bytes_of(&record)[skip..];
                skip = 0;
                slice
            });
        for slice in std::iter::once(rest).chain(records) {
            let room = budget - bytes;
            if count == SLICES || room == 0 {
                break;
            }
            if !slice.is_empty() {
                let slice = &slice[..slice.len().min(room)];
                slices[count] = IoSlice::new(slice);
                count += 1;
                bytes += slice.len();
            }
        }
        (count, bytes)
    }

    /// Bytes that are held back.
    fn held(&self) -> usize {
        self.rest.len() - self.rest_sent
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.rest.drain(..std::mem::take(&mut self.rest_sent));
        self.rest.extend_from_slice(bytes);
    }

    /// Takes what was sent off what is held back; how many bytes are beyond that.
    fn advance_rest(&mut self, bytes: usize) -> usize {
        let from_rest = bytes.min(self.held());
        self.rest_sent += from_rest;
        if self.rest_sent == self.rest.len() {
            self.rest.clear();
            self.rest_sent = 0;
        }
        bytes - from_rest
    }

    /// One call with what is held back and `bytes`; how many of these were sent.
    fn send_behind_rest(&mut self, bytes: &[u8]) -> Result<usize, i32> {
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        let slices = [
            IoSlice::new(&self.rest[self.rest_sent..]),
            IoSlice::new(bytes),
        ];
        match self.socket.send(&slices) {
            Ok(sent) => Ok(self.advance_rest(sent)),
            Err(Errno::INTR | Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Ok(0),
            Err(errno) => {
                self.break_off(errno.raw_os_error());
                Err(errno.raw_os_error())
            }
        }
    }

    /// Takes the oldest record off.
    fn take_off(&mut self, work: &mut Work<'_>, record: &Record<'_>) {
        self.sent = 0;
        if std::mem::take(&mut self.given_back) {
            work.consume_settled();
        } else {
            work.consume(record.charge);
        }
    }

    /// Nothing is left, or a coroutine is next: was the end asked for?
    fn end_if_empty(&mut self, work: &Work<'_>) {
        let empty = self.rest.is_empty() && work.records().next().is_none();
        if empty && std::mem::take(&mut self.ends) {
            self.socket.shutdown_write();
        }
    }

    /// Takes the oldest record off; a caller that waits for it is told last, and
    /// finds it settled.
    fn finish(&mut self, work: &mut Work<'_>, record: &Record<'_>, errno: i32) {
        self.take_off(work, record);
        if record.kind == RecordKind::Handover {
            work.settle();
            // SAFETY: it was in the ring until just now, and is finished once.
            unsafe { handover::finish(record, errno) };
        }
    }

    /// Gives the oldest record back to its caller, if it has one and there are
    /// too few cores for the executor that is about to do it.
    fn give_back(&mut self, work: &mut Work<'_>) -> bool {
        if !work.exceeds_cores() {
            return false;
        }
        match work.records().next() {
            Some(record) if record.kind == RecordKind::Handover => {
                if !std::mem::replace(&mut self.given_back, true) {
                    work.settle_oldest(record.charge);
                }
                // SAFETY: it is in the ring.
                unsafe { handover::give_back(&record) };
                true
            }
            _ => false,
        }
    }

    /// `bytes` more are sent: consumes what that completes.
    fn advance(&mut self, work: &mut Work<'_>, mut bytes: usize) {
        bytes = self.advance_rest(bytes);
        while bytes > 0 {
            let Some(record) = work.records().next() else {
                return;
            };
            let left = bytes_of(&record).len() - self.sent;
            if bytes < left {
                self.sent += bytes;
                return;
            }
            bytes -= left;
            self.finish(work, &record, 0);
        }
    }

    /// The stream is broken: whatever is there cannot be sent any more.
    fn discard(&mut self, work: &mut Work<'_>, errno: i32) -> Progress {
        self.break_off(errno);
        work.fail(errno);
        while let Some(record) = work.records().next() {
            if record.kind == RecordKind::Coroutine {
                break;
            }
            self.finish(work, &record, errno);
        }
        Progress::Empty
    }
}

impl<S: Socket> Drain for StreamDrain<S> {
    fn drain(&mut self, work: &mut Work<'_>, budget: usize) -> Progress {
        if let Some(errno) = self.failed {
            return self.discard(work, errno);
        }
        let mut left = budget;
        while left > 0 {
            if self.give_back(work) {
                return Progress::Waiting;
            }
            let mut slices = std::array::from_fn(|_| IoSlice::new(&[]));
            let (count, bytes) = self.gather(work, &mut slices, left);
            if count == 0 {
                self.end_if_empty(work);
                return Progress::Empty;
            }
            match self.socket.send(&slices[..count]) {
                Ok(sent) => {
                    left -= sent.min(bytes);
                    self.advance(work, sent);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::Blocked,
                Err(Errno::NOBUFS | Errno::NOMEM) => return Progress::Later(MEMORY_RETRY),
                Err(errno) => return self.discard(work, errno.raw_os_error()),
            }
        }
        Progress::More
    }

    fn send_now(&mut self, bytes: &[u8]) -> Result<Progress, i32> {
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        let sent = loop {
            match self.socket.send(&[IoSlice::new(bytes)]) {
                Ok(sent) => break sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                Err(Errno::NOBUFS | Errno::NOMEM) => {
                    self.rest.extend_from_slice(bytes);
                    return Ok(Progress::Later(MEMORY_RETRY));
                }
                Err(errno) => {
                    self.failed = Some(errno.raw_os_error());
                    return Err(errno.raw_os_error());
                }
            }
        };
        if sent == bytes.len() {
            return Ok(Progress::Empty);
        }
        // Accepted all the same, as a larger send buffer would.
        self.rest.extend_from_slice(&bytes[sent..]);
        Ok(Progress::Blocked)
    }

    fn send_waiting(&mut self, bytes: &[u8]) -> Result<(), i32> {
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        let mut left = bytes;
        while !left.is_empty() {
            match self.socket.send_waiting(left) {
                Ok(sent) => left = &left[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS | Errno::NOMEM) => std::thread::sleep(MEMORY_RETRY),
                Err(errno) => {
                    self.failed = Some(errno.raw_os_error());
                    return Err(errno.raw_os_error());
                }
            }
        }
        Ok(())
    }

    fn put_out(&mut self, bytes: &[u8], budget: usize) -> Result<Option<usize>, i32> {
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        let bytes = &bytes[..bytes.len().min(budget)];
        if self.held() + bytes.len() > OUTPUT_BYTES {
            let sent = self.send_behind_rest(bytes)?;
            if sent > 0 {
                return Ok(Some(sent));
            }
        }
        let part = &bytes[..bytes.len().min(OUTPUT_BYTES.saturating_sub(self.held()))];
        self.hold(part);
        Ok((bytes.is_empty() || !part.is_empty()).then_some(part.len()))
    }

    fn send_rest(&mut self) -> Result<bool, i32> {
        if self.has_rest() || self.failed.is_some() {
            self.send_behind_rest(&[])?;
        }
        Ok(!self.has_rest())
    }

    fn break_off(&mut self, errno: i32) {
        self.failed = Some(errno);
        self.rest.clear();
        self.rest_sent = 0;
    }

    fn failed(&self) -> Option<i32> {
        self.failed
    }

    fn end_when_empty(&mut self, work: &mut Work<'_>) {
        self.ends = true;
        self.end_if_empty(work);
    }

    fn abort(&mut self, work: &mut Work<'_>, errno: i32) {
        self.discard(work, errno);
    }

    fn pending_bytes(&self, work: &Work<'_>) -> usize {
        let queued: usize = work.records().map(|record| bytes_of(&record).len()).sum();
        self.held() + queued - self.sent
    }

    fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.fd())
    }
}
