// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What can be in a run queue: it brings its own place in it.

use crate::sync::AtomicPtr;
use std::ptr::{NonNull, null_mut};

/// The place in a queue of what has it in itself.
#[derive(Debug)]
pub struct Link {
    pub(super) next: AtomicPtr<Link>,
}

impl Link {
    /// Of what is in no queue.
    pub fn new() -> Self {
        Self {
            next: AtomicPtr::new(null_mut()),
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`super::RunQueue`] holds: an owning pointer to something that has a [`Link`].
///
/// # Safety
/// The link of [`Linked::into_link`] stays valid, and where it is, until [`Linked::from_link`] has
/// it back. Between the two nobody else queues by the same link: two values that share one are
/// never queued at once.
pub unsafe trait Linked: Sized {
    /// The link; the value is its queue's from here on.
    fn into_link(self) -> NonNull<Link>;

    /// The value again.
    ///
    /// # Safety
    /// `link` came from [`Linked::into_link`] of this type, and comes back once.
    unsafe fn from_link(link: NonNull<Link>) -> Self;
}

/// A value with a link, for what has none in itself: a box of it can be queued.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Node<T> {
    // First: a pointer to it is one to the node.
    link: Link,
    /// What is queued.
    pub value: T,
}

impl<T> Node<T> {
    /// A node of the value, to be queued.
    pub fn boxed(value: T) -> Box<Self> {
        let link = Link::new();
        Box::new(Self { link, value })
    }
}

// SAFETY: a box's content stays where it is, and a box is not shared.
unsafe impl<T> Linked for Box<Node<T>> {
    fn into_link(self) -> NonNull<Link> {
        // A box is never null.
        NonNull::from(Box::leak(self)).cast()
    }

    unsafe fn from_link(link: NonNull<Link>) -> Self {
        // SAFETY: as promised, of a box that was leaked.
        unsafe { Box::from_raw(link.cast::<Node<T>>().as_ptr()) }
    }
}
