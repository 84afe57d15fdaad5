// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Draining datagrams: a run of equal sizes goes in one call (UDP_SEGMENT),
//! which costs 0.4 to 1.0 µs a datagram where a call each costs 2.3 to 2.7.

use super::socket::Socket;
use crate::executor::{Drain, Progress, Work};
use crate::queue::{Charge, RecordKind};
use rustix::io::Errno;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// UDP_MAX_SEGMENTS of kernels before 6.9.
const SEGMENTS: usize = 64;
/// An IPv4 datagram before segmentation: 65,535 less the headers.
const SEGMENTS_BYTES: usize = 65_507;
/// After ENOBUFS or ENOMEM nothing tells when there is memory again.
const MEMORY_RETRY: Duration = Duration::from_millis(1);

/// A datagram flow's coroutine.
pub(crate) struct DatagramDrain<S> {
    socket: S,
    /// Datagrams above this size are not cut by the kernel (0: none are): it
    /// refuses segments above the path's MTU.
    segment_max: usize,
    /// The oldest datagram was refused by an error that was about an earlier
    /// one.
    retried: bool,
    /// A coroutine's datagram that the socket did not take: goes before everything in the ring.
    held: Option<Box<[u8]>>,
}

impl<S: Socket> DatagramDrain<S> {
    pub(crate) fn new(socket: S, segmentation: bool) -> Self {
        let segment_max = if segmentation {
            usize::from(u16::MAX)
        } else {
            0
        };
        Self {
            socket,
            segment_max,
            retried: false,
            held: None,
        }
    }

    /// Sends the datagram that is held back, before anything else; what hinders that.
    #[cold]
    fn send_held(&mut self) -> Result<(), Errno> {
        if let Some(datagram) = self.held.take() {
            match self.send_one(&datagram) {
                Err(errno @ (Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.held = Some(datagram);
                    return Err(errno);
                }
                other => return other,
            }
        }
        Ok(())
    }

    fn send_one(&self, datagram: &[u8]) -> Result<(), Errno> {
        loop {
            match self.socket.send(&[IoSlice::new(datagram)]) {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        }
    }

    /// The longest run of datagrams for one call: all of one size but the last,
    /// which may be shorter.
    fn gather<'a>(
        &self,
        work: &Work<'a>,
        slices: &mut [IoSlice<'a>; SEGMENTS],
        charges: &mut [Charge; SEGMENTS],
    ) -> (usize, usize) {
        let (mut count, mut bytes, mut segment) = (0, 0, 0);
        for record in work.records() {
            let length = record.payload.len();
            if record.kind == RecordKind::Coroutine || count == SEGMENTS {
                break;
            }
            if count == 0 {
                segment = length;
            } else if length > segment || length == 0 || bytes + length > SEGMENTS_BYTES {
                break;
            }
            slices[count] = IoSlice::new(record.payload);
            charges[count] = record.charge;
            count += 1;
            bytes += length;
            if length < segment || segment == 0 || segment > self.segment_max {
                break;
            }
        }
        (count, segment)
    }
}

impl<S: Socket> Drain for DatagramDrain<S> {
    fn drain(&mut self, work: &mut Work<'_>, budget: usize) -> Progress {
        if self.held.is_some() {
            match self.send_held() {
                Ok(()) => {}
                Err(Errno::AGAIN) => return Progress::Blocked,
                Err(Errno::NOBUFS | Errno::NOMEM) => return Progress::Later(MEMORY_RETRY),
                Err(errno) => work.fail(errno.raw_os_error()),
            }
        }
        let mut left = budget;
        while left > 0 {
            let mut slices = std::array::from_fn(|_| IoSlice::new(&[]));
            let mut charges = [Charge::default(); SEGMENTS];
            let (mut count, segment) = self.gather(work, &mut slices, &mut charges);
            let outcome = match count {
                0 => return Progress::Empty,
                1 => self.socket.send(&slices[..1]),
                _ => self.socket.send_segments(&slices[..count], segment as u16),
            };
            match outcome {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Progress::Blocked,
                Err(Errno::NOBUFS | Errno::NOMEM) => return Progress::Later(MEMORY_RETRY),
                Err(Errno::INVAL | Errno::IO | Errno::MSGSIZE | Errno::OPNOTSUPP) if count > 1 => {
                    self.segment_max = segment - 1;
                    continue;
                }
                Err(errno) => {
                    work.fail(errno.raw_os_error());
                    // A connected socket reports here that an earlier datagram
                    // met no one; this one was not tried yet.
                    if errno == Errno::CONNREFUSED && !self.retried {
                        self.retried = true;
                        continue;
                    }
                    count = 1;
                }
            }
            self.retried = false;
            for (slice, &charge) in slices.iter().zip(&charges).take(count) {
                left = left.saturating_sub(slice.len().max(1));
                work.consume(charge);
            }
        }
        Progress::More
    }

    fn put_out(&mut self, bytes: &[u8], _budget: usize) -> Result<Option<usize>, i32> {
        if !self.send_rest()? {
            return Ok(None);
        }
        match self.send_one(bytes) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => self.held = Some(bytes.into()),
            Err(errno) => return Err(errno.raw_os_error()),
        }
        Ok(Some(bytes.len()))
    }

    fn send_rest(&mut self) -> Result<bool, i32> {
        match self.send_held() {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Ok(false),
            Err(errno) => Err(errno.raw_os_error()),
        }
    }

    fn has_rest(&self) -> bool {
        self.held.is_some()
    }

    fn abort(&mut self, work: &mut Work<'_>, errno: i32) {
        self.held = None;
        while let Some(record) = work.records().next() {
            if record.kind == RecordKind::Coroutine {
                break;
            }
            work.consume(record.charge);
        }
        work.fail(errno);
    }

    fn send_now(&mut self, bytes: &[u8]) -> Result<Progress, i32> {
        match self.send_one(bytes) {
            Ok(()) => Ok(Progress::Empty),
            Err(errno) => Err(errno.raw_os_error()),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.fd())
    }
}
