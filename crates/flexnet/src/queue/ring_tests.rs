// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Rings: order across ends and segments, bounds, growth.

use super::*;

fn push(ring: &FlowRing, bytes: &[u8]) -> Result<(), Full> {
    ring.push(RecordKind::Bytes, 0, bytes, Charge::default)
}

#[test]
fn records_come_back_in_order_across_the_end() {
    let ring = FlowRing::new(1024);
    // SAFETY: the only reader.
    let mut reader = unsafe { ring.reader() };
    let mut seed = 7u32;
    let (mut sent, mut received) = (0u32, 0u32);
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (seed >> 16) as usize % (ring.message_max() + 1);
        let message = vec![sent as u8; length];
        if !seed.is_multiple_of(3) && push(&ring, &message).is_ok() {
            sent += 1;
        } else if let Some(record) = reader.records().next() {
            assert!(record.payload.iter().all(|&b| b == received as u8));
            received += 1;
            reader.consume();
        }
    }
    assert!(received > 1_000);
    assert_eq!(reader.records().count() as u32, sent - received);
}

#[test]
fn a_ring_grows_to_its_limit_and_no_further() {
    let ring = FlowRing::growing(256, 4096);
    let segment_bytes = || {
        // SAFETY: no other thread appends.
        unsafe { (*(*ring.writing.get()).segment).capacity() }
    };
    let mut seed = 7u32;
    let (mut sent, mut received) = (0u32, 0u32);
    for round in 0..5_000 {
        // SAFETY: the only reader, one at a time.
        let mut reader = unsafe { ring.reader() };
        if round == 100 {
            assert_eq!(segment_bytes(), 4096);
        }
        // Full, then empty, now and then.
        for _ in 0..40 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let length = (seed >> 16) as usize % (ring.message_max() + 1);
            let pushes = (seed >> 8) % 5 < 2 + round / 50 % 2;
            if pushes && push(&ring, &vec![sent as u8; length]).is_ok() {
                sent += 1;
            } else if let Some(record) = reader.records().next() {
                assert!(record.payload.iter().all(|&byte| byte == received as u8));
                received += 1;
                reader.consume();
            }
            assert!(ring.used() <= 4096);
        }
    }
    assert!(received > 10_000);
    // SAFETY: as above.
    let reader = unsafe { ring.reader() };
    assert_eq!(reader.records().count() as u32, sent - received);
}

#[test]
fn a_large_record_makes_a_small_ring_large_enough_at_once() {
    let ring = FlowRing::growing(256, 1 << 17);
    assert_eq!(push(&ring, &[1; 100]), Ok(()));
    assert_eq!(push(&ring, &vec![2; ring.message_max()]), Ok(()));
    // SAFETY: the only reader.
    let lengths: Vec<_> = unsafe { ring.reader() }
        .records()
        .map(|record| record.payload.len())
        .collect();
    assert_eq!(lengths, [100, ring.message_max()]);
}

#[test]
fn slices_become_one_record() {
    let ring = FlowRing::new(256);
    let slices = [&b"one "[..], b"", b"two"].map(IoSlice::new);
    assert_eq!(ring.push_gathered(&slices, 7, Charge::default), Ok(()));
    // SAFETY: the only reader.
    let reader = unsafe { ring.reader() };
    let payloads: Vec<_> = reader.records().map(|record| record.payload).collect();
    assert_eq!(payloads, [b"one two"]);
}

#[test]
fn a_full_ring_refuses_and_counts_nothing() {
    let ring = FlowRing::new(256);
    assert_eq!(push(&ring, &[1; 48]), Ok(()));
    assert_eq!(
        push(&ring, &[2; 49]),
        Err(Full),
        "longer than a record may be"
    );
    while push(&ring, &[3; 48]).is_ok() {}
    let mut asked = false;
    let refused = ring.push(RecordKind::Bytes, 0, &[4; 48], || {
        asked = true;
        Charge::default()
    });
    assert_eq!(refused, Err(Full));
    assert!(!asked);
    // SAFETY: the only reader.
    unsafe { ring.reader() }.consume();
    assert_eq!(push(&ring, &[5; 48]), Ok(()));
}

#[test]
fn a_message_of_the_greatest_length_always_fits_an_empty_ring() {
    let ring = FlowRing::new(256);
    // SAFETY: the only reader.
    let mut reader = unsafe { ring.reader() };
    for offset in 0..100 {
        assert_eq!(push(&ring, &vec![0; offset % 20]), Ok(()));
        reader.consume();
        assert_eq!(
            push(&ring, &vec![0; ring.message_max()]),
            Ok(()),
            "at step {offset}"
        );
        reader.consume();
    }
}
