// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What a transport implements, and what it works on: a flow's records, and the account of the
//! executors that did them.

use super::link::Pages;
use crate::queue::{Charge, Record, RingReader};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What draining came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left that this drain knows how to send.
    Empty,
    /// The budget is used up; there is more.
    More,
    /// The socket takes nothing now.
    Blocked,
    /// Try again after so long (the kernel lacks memory).
    Later(Duration),
    /// The coroutine whose turn it is waits, and wakes the flow itself; or the
    /// submitter, which waits, was asked to go on.
    Waiting,
}

/// Sends a flow's records: what a transport implements.
pub trait Drain: Send {
    /// Sends records until one of the outcomes of [`Progress`] is reached, and
    /// consumes what was sent. A [`crate::queue::RecordKind::Coroutine`] ends it with
    /// [`Progress::Empty`]. `budget` is in bytes. Errors go to
    /// [`Work::fail`].
    fn drain(&mut self, work: &mut Work<'_>, budget: usize) -> Progress;

    /// Sends `bytes` at once, before anything in the ring (which is empty), and
    /// holds back what the socket does not take. An errno when nothing was
    /// taken and nothing is held back.
    ///
    /// # Errors
    /// The socket's errno.
    fn send_now(&mut self, _bytes: &[u8]) -> Result<Progress, i32> {
        Err(libc::EOPNOTSUPP)
    }

    /// Sends all of `bytes`, before anything in the ring (which is empty),
    /// waiting for the socket as long as it takes. For a caller that blocks.
    ///
    /// # Errors
    /// The socket's errno; some of the bytes may have been sent.
    fn send_waiting(&mut self, _bytes: &[u8]) -> Result<(), i32> {
        Err(libc::EOPNOTSUPP)
    }

    /// Sends `bytes` of the coroutine at the ring's head, or holds them back to go with what
    /// follows; a stream takes at most `budget`. How many it took. None: the socket takes nothing,
    /// and as much is held back as may be.
    ///
    /// # Errors
    /// The socket's errno.
    fn put_out(&mut self, _bytes: &[u8], _budget: usize) -> Result<Option<usize>, i32> {
        Err(libc::EOPNOTSUPP)
    }

    /// Sends what is held back; is nothing left of it?
    ///
    /// # Errors
    /// The socket's errno.
    fn send_rest(&mut self) -> Result<bool, i32> {
        Ok(true)
    }

    /// What comes next in the order was lost, so nothing behind it may leave. Where the order
    /// means nothing, this does nothing.
    fn break_off(&mut self, _errno: i32) {}

    /// The errno that ended the stream, if one did.
    fn failed(&self) -> Option<i32> {
        None
    }

    /// Ends the stream once nothing is left to send, at once if nothing is.
    fn end_when_empty(&mut self, _work: &mut Work<'_>) {}

    /// Nothing is sent any more: drops what there is.
    fn abort(&mut self, _work: &mut Work<'_>, _errno: i32) {}

    /// Bytes accepted and not yet sent.
    fn pending_bytes(&self, work: &Work<'_>) -> usize {
        work.records().map(|record| record.payload.len()).sum()
    }

    /// Is something held back outside of the ring (the rest of an inline send)?
    fn has_rest(&self) -> bool {
        false
    }

    /// What to wait on when [`Progress::Blocked`]: open, and the same, as long
    /// as this lives, unless its transport tells the flow of another.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// What a drain may ask of the flow whose records it sends.
pub(super) trait Drained: Sync {
    /// Keeps an errno for the flow's next operation.
    fn fail(&self, errno: i32);

    /// Do executors wait for a core and no more can be granted?
    fn is_saturated(&self) -> bool;
}

/// What a [`Drain`] works on: the flow's records, and the account of what
/// did them.
pub struct Work<'a> {
    reader: RingReader<'a>,
    flow: &'a dyn Drained,
    pages: &'a Pages,
    by: Option<u16>,
    charge: Charge,
    done: u64,
}

impl<'a> Work<'a> {
    /// The flow's records, for executor `by` or (None) a submitter.
    pub(super) fn new(
        flow: &'a dyn Drained,
        pages: &'a Pages,
        reader: RingReader<'a>,
        by: Option<u16>,
    ) -> Self {
        Self {
            reader,
            flow,
            pages,
            by,
            charge: Charge::default(),
            done: 0,
        }
    }

    /// The records there are, oldest first.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        self.reader.records()
    }

    /// The oldest record was sent (or failed): takes it off.
    #[inline]
    pub fn consume(&mut self, charge: Charge) {
        self.reader.consume();
        if charge != self.charge {
            self.settle();
            self.charge = charge;
        }
        self.done += 1;
    }

    /// The oldest record counts as done: its submitter does the rest of it, and
    /// takes it off by [`Work::consume_settled`].
    pub(crate) fn settle_oldest(&mut self, charge: Charge) {
        self.settle();
        self.pages.settle(charge, 1, self.by);
    }

    /// Takes off the oldest record, which was counted before.
    pub(crate) fn consume_settled(&mut self) {
        self.reader.consume();
    }

    /// The flow failed with this errno: kept for the next operation.
    pub fn fail(&self, errno: i32) {
        self.flow.fail(errno);
    }

    /// Does an executor do this for which there are too few cores? Then what a
    /// caller waits for is better left to that caller.
    pub(crate) fn exceeds_cores(&self) -> bool {
        self.by.is_some() && self.flow.is_saturated()
    }

    /// Counts what was consumed as done, now and not when this is dropped.
    pub(crate) fn settle(&mut self) {
        if self.done > 0 {
            self.pages.settle(self.charge, self.done, self.by);
            self.done = 0;
        }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}
