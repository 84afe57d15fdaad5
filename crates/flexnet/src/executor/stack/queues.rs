// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The queues of a design's stack, as the design sees them: lists over one set of nodes. The set
//! grows to as many as were ever in use at once, so no queue is ever full, and nothing is
//! allocated once it has grown.

use crate::design::{Item, View};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The end of a list.
const NONE: u32 = u32::MAX;

struct Node<T> {
    item: Item,
    value: Option<T>,
    next: u32,
}

#[derive(Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

/// Queues of items with a value each.
pub(super) struct Queues<T> {
    nodes: Vec<Node<T>>,
    free: u32,
    /// The queues, and one more: senders that found no room.
    ends: Box<[Ends]>,
    lengths: Box<[u32]>,
    heads_ns: Box<[u64]>,
    queued: usize,
    held: usize,
    /// Paced items: when, in which order, node, queue.
    later: BinaryHeap<Reverse<(u64, u64, u32, u32)>>,
    later_count: u64,
    idles: Box<[bool]>,
    /// Workers that shall work: numbers below this.
    workers: usize,
    /// Of the next item a worker has been given ahead of time.
    ahead: Box<[u32]>,
}

impl<T> Queues<T> {
    /// So many queues (at least one), and workers, all at work. Allocates for `capacity` items;
    /// more make it grow.
    pub fn new(queues: usize, workers: usize, capacity: usize) -> Self {
        let queues = queues.max(workers).max(1);
        let empty = Ends {
            head: NONE,
            tail: NONE,
        };
        Self {
            nodes: Vec::with_capacity(capacity),
            free: NONE,
            ends: vec![empty; queues + 1].into(),
            lengths: vec![0; queues].into(),
            heads_ns: vec![0; queues].into(),
            queued: 0,
            held: 0,
            later: BinaryHeap::with_capacity(capacity),
            later_count: 0,
            idles: vec![false; workers].into(),
            workers,
            ahead: vec![NONE; workers].into(),
        }
    }

    pub fn view(&self, now_ns: u64) -> View<'_> {
        let idles = &self.idles[..self.workers];
        View {
            now_ns,
            lengths: &self.lengths,
            heads_ns: &self.heads_ns,
            queued: self.queued,
            workers: self.workers,
            idle: idles.iter().position(|&idle| idle),
            idles,
        }
    }

    pub fn workers(&self) -> usize {
        self.workers
    }

    pub fn set_workers(&mut self, workers: usize) {
        self.workers = workers.clamp(1, self.idles.len());
    }

    pub fn set_idle(&mut self, worker: usize, idle: bool) {
        self.idles[worker] = idle;
    }

    /// Clears the worker's idleness; was it idle?
    pub fn take_idle(&mut self, worker: usize) -> bool {
        std::mem::replace(&mut self.idles[worker], false)
    }

    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Queues that have something.
    pub fn filled(&self) -> impl Iterator<Item = usize> {
        let filled = self.lengths.iter().enumerate();
        filled.filter(|(_, length)| **length > 0).map(|(at, _)| at)
    }

    fn node(&mut self, item: Item, value: T) -> u32 {
        let node = Node {
            item,
            value: Some(value),
            next: NONE,
        };
        let at = self.free;
        match self.nodes.get_mut(at as usize) {
            Some(free) => {
                self.free = free.next;
                *free = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        }
    }

    fn release(&mut self, at: u32) -> Option<(Item, T)> {
        let node = &mut self.nodes[at as usize];
        let value = node.value.take();
        let item = node.item;
        node.next = self.free;
        self.free = at;
        value.map(|value| (item, value))
    }

    fn link(&mut self, list: usize, at: u32) {
        let tail = self.ends[list].tail;
        if tail == NONE {
            self.ends[list].head = at;
        } else {
            self.nodes[tail as usize].next = at;
        }
        self.ends[list].tail = at;
    }

    fn unlink(&mut self, list: usize) -> Option<u32> {
        let at = self.ends[list].head;
        if at == NONE {
            return None;
        }
        let next = std::mem::replace(&mut self.nodes[at as usize].next, NONE);
        self.ends[list].head = next;
        if next == NONE {
            self.ends[list].tail = NONE;
        }
        Some(at)
    }

    /// The queue of that number, or the last one.
    fn queue(&self, queue: usize) -> usize {
        queue.min(self.lengths.len() - 1)
    }

    fn enter(&mut self, queue: usize, at: u32) {
        let queue = self.queue(queue);
        if self.lengths[queue] == 0 {
            self.heads_ns[queue] = self.nodes[at as usize].item.arrival_ns;
        }
        self.link(queue, at);
        self.lengths[queue] += 1;
        self.queued += 1;
    }

    fn remove(&mut self, queue: usize) -> Option<u32> {
        let queue = self.queue(queue);
        let at = self.unlink(queue)?;
        self.lengths[queue] -= 1;
        self.queued -= 1;
        let head = self.ends[queue].head;
        self.heads_ns[queue] = match self.nodes.get(head as usize) {
            Some(next) => next.item.arrival_ns,
            None => 0,
        };
        Some(at)
    }

    /// To a queue's tail.
    pub fn push(&mut self, queue: usize, item: Item, value: T) {
        let at = self.node(item, value);
        self.enter(queue, at);
    }

    /// Into a queue, once it is time ([`Queues::admit_due`]).
    pub fn push_later(&mut self, at_ns: u64, queue: usize, item: Item, value: T) {
        let at = self.node(item, value);
        let order = self.later_count;
        self.later_count += 1;
        let queue = self.queue(queue) as u32;
        self.later.push(Reverse((at_ns, order, at, queue)));
    }

    /// To those that found no room.
    pub fn hold(&mut self, item: Item, value: T) {
        let at = self.node(item, value);
        self.link(self.lengths.len(), at);
        self.held += 1;
    }

    /// The first of those.
    pub fn first_held(&self) -> Option<Item> {
        let head = self.ends[self.lengths.len()].head;
        self.nodes.get(head as usize).map(|node| node.item)
    }

    /// Takes that out.
    pub fn take_held(&mut self) -> Option<(Item, T)> {
        let at = self.unlink(self.lengths.len())?;
        self.held -= 1;
        self.release(at)
    }

    /// The head of a queue, and `more` of it to the tail of the worker's own.
    pub fn take(&mut self, queue: usize, more: usize, worker: usize) -> Option<(Item, T)> {
        let at = self.remove(queue)?;
        if self.queue(queue) != worker {
            for _ in 0..more {
                let Some(at) = self.remove(queue) else {
                    break;
                };
                self.enter(worker, at);
            }
        }
        self.release(at)
    }

    /// The worker's next, if it was given one.
    pub fn take_ahead(&mut self, worker: usize) -> Option<(Item, T)> {
        match std::mem::replace(&mut self.ahead[worker], NONE) {
            NONE => None,
            at => self.release(at),
        }
    }

    /// Gives a worker the head of a queue as its next, ahead of time.
    pub fn give_ahead(&mut self, worker: usize, queue: usize) {
        if self.ahead[worker] == NONE {
            self.ahead[worker] = self.remove(queue).unwrap_or(NONE);
        }
    }

    /// Moves paced items whose time has come into their queues; are there any?
    pub fn admit_due(&mut self, now_ns: u64) -> bool {
        let mut any = false;
        while let Some(&Reverse((at_ns, _, at, queue))) = self.later.peek()
            && at_ns <= now_ns
        {
            self.later.pop();
            self.enter(queue as usize, at);
            any = true;
        }
        any
    }

    /// When the next paced item's time comes.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.later.peek().map(|Reverse((at_ns, ..))| *at_ns)
    }

    /// Anything there is, whatever the design would say: what is queued first.
    pub fn take_any(&mut self) -> Option<(Item, T)> {
        for worker in 0..self.ahead.len() {
            if let Some(taken) = self.take_ahead(worker) {
                return Some(taken);
            }
        }
        let queue = self.filled().next();
        if let Some(at) = queue.and_then(|queue| self.remove(queue)) {
            return self.release(at);
        }
        if let Some(Reverse((_, _, at, _))) = self.later.pop() {
            return self.release(at);
        }
        self.take_held()
    }

    /// Everything there is, paced and held included.
    pub fn len(&self) -> usize {
        let ahead = self.ahead.iter().filter(|at| **at != NONE).count();
        self.queued + self.held + self.later.len() + ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(arrival_ns: u64) -> Item {
        Item {
            arrival_ns,
            ..Item::default()
        }
    }

    #[test]
    fn order_heads_and_growth() {
        let mut queues = Queues::new(2, 1, 1);
        for value in 0..3u64 {
            queues.push(1, at(10 + value), value);
        }
        assert_eq!(queues.view(0).lengths, [0, 3]);
        assert_eq!(queues.view(0).heads_ns[1], 10);
        assert_eq!(queues.take(1, 1, 0).unwrap().1, 0);
        assert_eq!(queues.view(0).lengths, [1, 1], "one more went along");
        assert_eq!(queues.view(0).heads_ns, [11, 12]);
        assert_eq!(queues.take(9, 0, 0).unwrap().1, 2, "taken as the last one");
        assert_eq!(queues.take(1, 0, 0), None);
        assert_eq!(queues.take(0, 0, 0).unwrap().1, 1);
        assert_eq!(queues.len(), 0);
        assert_eq!(queues.nodes.len(), 3, "nodes are used again");
        (0..5000).for_each(|value| queues.push(0, at(0), value));
        assert_eq!(queues.len(), 5000);
    }

    #[test]
    fn paced_held_and_ahead() {
        let mut queues = Queues::new(1, 2, 8);
        queues.push_later(50, 0, at(1), 'b');
        queues.push_later(40, 0, at(2), 'a');
        queues.push_later(50, 0, at(3), 'c');
        queues.hold(at(4), 'h');
        assert_eq!(queues.next_due_ns(), Some(40));
        assert!(!queues.admit_due(39));
        assert!(queues.admit_due(50));
        queues.give_ahead(1, 0);
        queues.give_ahead(1, 0);
        assert_eq!((queues.len(), queues.queued()), (4, 2));
        assert_eq!(queues.take_ahead(0), None);
        assert_eq!(queues.take_ahead(1).unwrap().1, 'a');
        assert_eq!(queues.first_held().unwrap().arrival_ns, 4);
        let rest = std::iter::from_fn(|| queues.take_any().map(|taken| taken.1));
        assert_eq!(rest.collect::<String>(), "bch");
    }
}
