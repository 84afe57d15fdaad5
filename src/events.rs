// SPDX-License-Identifier: GPL-2.0-only
//! What BPF asks the daemon to do, read from its ring buffer. Doing it is
//! daemon.rs's.

use crate::bpf_intf::{
    flexnet_event, flexnet_event_kind_FLEXNET_EVENT_DOORBELL as DOORBELL,
    flexnet_event_kind_FLEXNET_EVENT_GRANTS as GRANTS,
};
use crate::kernel::Kernel;
use crate::plain::Plain;
use anyhow::Result;
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// `struct flexnet_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// No thread of this client runs and it has work.
    Doorbell(u32),
    /// The granted cores changed.
    Grants,
}

impl Event {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let event = flexnet_event::read(bytes)?;
        match event.kind {
            DOORBELL => Some(Self::Doorbell(event.client)),
            GRANTS => Some(Self::Grants),
            _ => None,
        }
    }
}

/// The ring buffer.
pub struct Events {
    ring: RingBuffer<'static>,
    arrived: Rc<RefCell<Vec<Event>>>,
}

impl Events {
    /// Reads the ring buffer of a loaded object.
    pub fn new(kernel: &Kernel<'_>) -> Result<Self> {
        let arrived = Rc::new(RefCell::new(Vec::new()));
        let inbox = arrived.clone();
        let mut builder = RingBufferBuilder::new();
        builder.add(kernel.events(), move |bytes| {
            inbox.borrow_mut().extend(Event::from_bytes(bytes));
            0
        })?;
        Ok(Self {
            ring: builder.build()?,
            arrived,
        })
    }

    /// The events since the last call.
    pub fn take(&self) -> Vec<Event> {
        if let Err(error) = self.ring.consume() {
            log::warn!("cannot read events: {error}");
        }
        self.arrived.take()
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer's own descriptor, open as long as it lives.
        unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_two_words() {
        let bytes = |kind: u32, client: u32| [kind.to_ne_bytes(), client.to_ne_bytes()].concat();
        assert_eq!(Event::from_bytes(&bytes(1, 9)), Some(Event::Doorbell(9)));
        assert_eq!(Event::from_bytes(&bytes(2, 0)), Some(Event::Grants));
        assert_eq!(Event::from_bytes(&bytes(3, 0)), None);
        assert_eq!(Event::from_bytes(&bytes(1, 9)[..6]), None);
    }
}
