// SPDX-License-Identifier: GPL-2.0-only
//! The ring of a flow against a queue that is plainly right: the input says what is pushed, read
//! and consumed. What comes out is what went in, in order, whole, and with its account.

#![no_main]

use flexnet::queue::{Charge, FlowRing, Full, RecordKind};
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;
use std::io::IoSlice;

/// A record, as it was pushed.
struct Pushed {
    kind: RecordKind,
    data: u64,
    charge: Charge,
    payload: Vec<u8>,
}

/// The input, a few bytes at a time; zeros at its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// Up to `most`; short ones and those at the end are more frequent.
    fn length(&mut self, most: usize) -> usize {
        let (shape, value) = (self.byte(), usize::from(self.byte()));
        match shape % 4 {
            0 => value.min(most),
            1 => (value << 8 | usize::from(self.byte())).min(most + 1),
            2 => most.saturating_sub(value % 20),
            _ => most + 1 - value % 2,
        }
    }
}

const KINDS: [RecordKind; 3] = [
    RecordKind::Bytes,
    RecordKind::Handover,
    RecordKind::Coroutine,
];

fn push(ring: &FlowRing, input: &mut Input<'_>, number: u64) -> Result<Pushed, Full> {
    let how = input.byte();
    let length = input.length(ring.message_max());
    let payload: Vec<u8> = (0..length).map(|i| (i as u64 ^ number) as u8).collect();
    let charge = Charge {
        executor: u16::from(how >> 4),
        epoch: how >> 3 & 1,
    };
    let (mut asked, was_empty) = (false, ring.is_empty());
    let mut charged = || {
        asked = true;
        charge
    };
    let (kind, data, pushed) = if how % 4 == 3 {
        let (first, second) = payload.split_at(length.min(input.byte().into()));
        let slices = [IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)];
        let pushed = ring.push_gathered(&slices, length, &mut charged);
        (RecordKind::Bytes, 0, pushed)
    } else {
        let kind = KINDS[usize::from(how % 4)];
        let pushed = ring.push(kind, number, &payload, &mut charged);
        (kind, number, pushed)
    };
    assert_eq!(pushed.is_ok(), asked, "what is refused is not counted");
    let fits = was_empty && length <= ring.message_max();
    assert!(pushed.is_ok() || !fits, "an empty ring is not full");
    pushed.map(|()| Pushed {
        kind,
        data,
        charge,
        payload,
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let sizes = input.byte();
    let limit = 256usize << (sizes & 7);
    let ring = FlowRing::growing(limit >> (sizes >> 3 & 7), limit);
    let (mut model, mut number) = (VecDeque::new(), 0);
    while !input.0.is_empty() {
        // SAFETY: the only reader, one at a time, on one thread.
        let mut reader = unsafe { ring.reader() };
        // Several steps with one reader: what is pushed meanwhile it sees, too.
        for _ in 0..1 + input.byte() % 8 {
            match input.byte() % 4 {
                0 | 1 => {
                    model.extend(push(&ring, &mut input, number));
                    number += 1;
                }
                2 => {
                    reader.consume();
                    model.pop_front();
                }
                _ => {
                    let count = usize::from(input.byte());
                    for _ in 0..count.min(model.len()) {
                        reader.consume();
                        model.pop_front();
                    }
                }
            }
            assert_eq!(ring.is_empty(), model.is_empty());
            assert_eq!(ring.is_drained_to(ring.tail()), model.is_empty());
            assert!(ring.used() <= ring.capacity());
        }
        let mut records = reader.records();
        for pushed in &model {
            let record = records.next().expect("a record that was pushed");
            assert_eq!((record.kind, record.data), (pushed.kind, pushed.data));
            assert_eq!(record.charge, pushed.charge);
            assert_eq!(record.payload, pushed.payload);
        }
        assert!(records.next().is_none(), "a record that nobody pushed");
    }
});
