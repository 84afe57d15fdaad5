// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Blocking sockets, and datagrams.

use crate::calls::{Calls, Via};
use crate::plan;
use crate::random::Random;
use crate::side::{End, Side, bytes_at, wait_for};
use std::thread;

/// A blocking sender: every send is taken whole, while the peer reads.
pub fn stream(seed: u64) {
    let mut random = Random::new(seed);
    let accepts = random.one_in(2);
    let buffers = random.pick(&[(1, 20_000), (4096, 20_000), (0, 0), (1, 50_000)]);
    let steps = 3 + random.below(40);
    for calls in [Calls::Plain, Calls::Hooked] {
        let mut random = random.clone();
        let mut side = Side::connected(calls, seed, accepts, buffers);
        let mut reader = Side {
            calls,
            seed,
            fds: Vec::new(),
            peer: side.peer,
            accepted: usize::MAX,
            received: 0,
        };
        // The peer is the reader's from here on.
        side.peer = Calls::Plain.socket(libc::SOCK_STREAM);
        let slow = random.one_in(4);
        let reading = thread::spawn(move || {
            let mut random = Random::new(seed ^ 1);
            loop {
                match reader.read(1 + random.below(60_000)) {
                    Ok(0) => wait_for(reader.peer, libc::POLLIN),
                    Ok(_) if slow && random.one_in(8) => thread::yield_now(),
                    Ok(_) => {}
                    Err(end) => return (end, reader.received),
                }
            }
        });
        for step in plan::steps(steps) {
            let mut random = Random::step(seed, step);
            let vias = [
                Via::Write,
                Via::Send,
                Via::Sendmsg,
                Via::Writev,
                Via::WritevEmpty,
                Via::SendmsgEmpty,
                Via::Dprintf,
                Via::Pwritev2,
                Via::WriteAlias,
                Via::SendAlias,
                Via::Number,
                Via::Pwritev64v2,
                Via::DprintfChecked,
                Via::NumberSendto,
                Via::NumberSendmsg,
                Via::NumberWritev,
            ];
            let (via, length) = (random.pick(&vias), random.size());
            if random.one_in(12) {
                let fd = calls.double(crate::calls::Double::Dup, side.fds[0], 0);
                side.fds.push(fd.expect("a duplicate") as i32);
            }
            let at = random.below(4);
            assert_eq!(
                side.send(at, via, length, 0),
                Ok(length),
                "{calls:?} {via:?}"
            );
        }
        if random.one_in(3) {
            assert_eq!(calls.shutdown(side.fds[0], libc::SHUT_WR), Ok(0));
            let sent = side.send(0, Via::Send, 1, libc::MSG_NOSIGNAL);
            assert_eq!(sent, Err(libc::EPIPE), "{calls:?}: after the end");
        }
        side.close_all();
        let (end, received) = reading.join().expect("the reader");
        assert_eq!((end, received), (End::Eof, side.accepted), "{calls:?}");
    }
}

/// Datagrams keep their boundaries and their order.
pub fn datagrams(seed: u64) {
    let random = Random::new(seed);
    for calls in [Calls::Plain, Calls::Hooked] {
        let mut random = random.clone();
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").expect("a receiver");
        let port = receiver.local_addr().expect("its address").port();
        receiver.set_nonblocking(true).expect("nonblocking");
        // SAFETY: zeros are a valid address.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as u16;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
        let sender = calls.socket(libc::SOCK_DGRAM);
        calls.connect(sender, &address);
        let mut number = 0;
        for step in plan::steps(1 + random.below(10)) {
            let mut random = Random::step(seed, step);
            // No more than the receiver holds.
            let equal = random.one_in(2).then(|| random.below(1500));
            let sent: Vec<Vec<u8>> = (0..1 + random.below(12))
                .map(|_| {
                    number += 1;
                    let length =
                        equal.unwrap_or_else(|| random.pick(&[0, 1, 9, 1400, 3000, 16_000]));
                    bytes_at(seed, number * 1000, length)
                })
                .collect();
            let messages: Vec<_> = sent.iter().map(Vec::as_slice).collect();
            let mut arrives = vec![true; sent.len()];
            if random.one_in(3) {
                let taken = calls.send_several(sender, &messages, 0).expect("sent");
                assert_eq!(taken.len(), messages.len(), "{calls:?}");
            } else {
                for (message, arrives) in messages.iter().zip(&mut arrives) {
                    let via = random.pick(&[
                        Via::Send,
                        Via::Sendto,
                        Via::Sendmsg,
                        Via::Write,
                        Via::SendmsgEmpty,
                        Via::WritevEmpty,
                    ]);
                    assert_eq!(calls.send(via, sender, message, 0), Ok(message.len()));
                    // writev of nothing is no datagram.
                    *arrives = via != Via::WritevEmpty || !message.is_empty();
                }
            }
            let expected = sent.iter().zip(arrives).filter(|(_, arrives)| *arrives);
            for (expected, _) in expected {
                let mut room = vec![0; 20_000];
                let got = loop {
                    match receiver.recv(&mut room) {
                        Ok(got) => break got,
                        Err(_) => {
                            wait_for(std::os::fd::AsRawFd::as_raw_fd(&receiver), libc::POLLIN)
                        }
                    }
                };
                assert!(room[..got] == expected[..], "{calls:?}: another datagram");
            }
        }
        calls.close(sender).expect("closed");
    }
}
