// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Run queues on threads: order, bounds that are none, and nothing lost or doubled.

use super::*;
use std::sync::atomic::AtomicU32;

fn value<T>(node: Option<Box<Node<T>>>) -> Option<T> {
    node.map(|node| node.value)
}

#[test]
fn what_is_left_is_dropped_once() {
    let token = std::sync::Arc::new(());
    let queue = RunQueue::new();
    let owner = queue.own().unwrap();
    for _ in 0..3 {
        queue.push(Node::boxed(token.clone()));
        owner.push(Node::boxed(token.clone()));
    }
    drop(owner.pop());
    drop(owner);
    assert_eq!(std::sync::Arc::strong_count(&token), 6);
    drop(queue);
    assert_eq!(std::sync::Arc::strong_count(&token), 1);
}

#[test]
fn first_in_first_out_and_never_full() {
    let queue = RunQueue::new();
    let owner = queue.own().unwrap();
    for i in 0..100_000 {
        queue.push(Node::boxed(i));
    }
    assert_eq!(queue.len(), 100_000);
    assert!((0..100_000).eq(std::iter::from_fn(|| value(owner.pop()))));
    assert!(queue.is_empty());
    for i in 0..100_000 {
        owner.push(Node::boxed(i));
    }
    assert!((0..100_000).eq(std::iter::from_fn(|| value(owner.pop()))));
    assert!(queue.is_empty());
}

#[test]
fn the_inbox_gets_its_turn_behind_what_is_local() {
    let queue = RunQueue::without_thieves();
    let owner = queue.own().unwrap();
    owner.push(Node::boxed(0));
    queue.push(Node::boxed(1));
    // A flow that goes on for ever.
    assert_eq!(value(owner.pop()), Some(0));
    owner.push(Node::boxed(0));
    assert_eq!(value(owner.pop()), Some(1));
}

#[test]
fn one_owner_at_a_time_and_thieves_only_where_wanted() {
    let queue = RunQueue::without_thieves();
    let owner = queue.own().unwrap();
    assert!(queue.own().is_none());
    owner.push(Node::boxed(1));
    assert!(queue.steal(|_| ()).is_none());
    assert!(queue.take_abandoned().is_none());
    drop(owner);
    assert_eq!(value(queue.take_abandoned()), Some(1));
    assert!(queue.own().is_some());
}

#[test]
fn a_thief_takes_the_oldest_and_half_of_the_rest() {
    let queue = RunQueue::new();
    let owner = queue.own().unwrap();
    for i in 0..5 {
        owner.push(Node::boxed(i));
    }
    let mut more = Vec::new();
    assert_eq!(value(queue.steal(|node| more.push(node.value))), Some(0));
    assert_eq!(more, [1, 2]);
    assert_eq!(value(owner.pop()), Some(3));
}

#[test]
fn nothing_is_lost_or_doubled_between_threads() {
    const EACH: usize = 20_000;
    let queue = RunQueue::new();
    let seen: Vec<AtomicU32> = (0..3 * EACH).map(|_| 0.into()).collect();
    let got = AtomicU32::new(0);
    let count = |node: Box<Node<usize>>| {
        seen[node.value].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        got.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let all = || got.load(std::sync::atomic::Ordering::Relaxed) as usize == 3 * EACH;
    std::thread::scope(|scope| {
        for producer in 0..2 {
            let queue = &queue;
            scope.spawn(move || {
                for i in 0..EACH {
                    queue.push(Node::boxed(producer * EACH + i));
                }
            });
        }
        scope.spawn(|| {
            while !all() {
                match queue.steal(count) {
                    Some(node) => count(node),
                    None => std::thread::yield_now(),
                }
            }
        });
        let owner = queue.own().unwrap();
        let mut own = 2 * EACH..3 * EACH;
        while !all() {
            if let Some(value) = own.next() {
                owner.push(Node::boxed(value));
            }
            match owner.pop() {
                Some(node) => count(node),
                None => std::thread::yield_now(),
            }
        }
    });
    assert!(
        seen.iter()
            .all(|n| n.load(std::sync::atomic::Ordering::Relaxed) == 1)
    );
}
