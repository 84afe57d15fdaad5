// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Several connections whose peers take nothing. What the program does with them waits for none;
//! what was accepted arrives once they read, unless they reset the connection.

use crate::calls::{Calls, Via};
use crate::fork;
use crate::plan;
use crate::random::Random;
use crate::side::{End, Side};
use std::time::Instant;

struct Connection {
    side: Side,
    reset: bool,
}

fn connected(random: &mut Random, seed: u64) -> Connection {
    let accepts = random.one_in(2);
    let buffers = random.pick(&[(1, 20_000), (4096, 20_000), (16_384, 30_000)]);
    let side = Side::connected(Calls::Hooked, seed, accepts, buffers);
    side.set_nonblocking();
    Connection { side, reset: false }
}

impl Connection {
    /// Until nothing more is accepted.
    fn fill(&mut self, random: &mut Random) {
        let (via, length) = (
            random.pick(&[Via::Write, Via::Send, Via::Writev, Via::Sendmsg]),
            1 + random.below(3000),
        );
        while self.side.send(0, via, length, 0).is_ok() {}
    }

    fn reset(&mut self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let plain = Calls::Plain;
        plain
            .set_option(self.side.peer, libc::SOL_SOCKET, libc::SO_LINGER, linger)
            .expect("an option");
        plain.close(self.side.peer).expect("closed");
        self.side.peer = plain.socket(libc::SOCK_STREAM); // for the code that closes it
        self.reset = true;
    }

    fn step(&mut self, random: &mut Random) {
        let open = !self.side.fds.is_empty();
        match random.below(10) {
            0..4 if open && !self.reset => self.fill(random),
            4 if open => self.side.close_all(),
            5 if open && !self.reset => {
                let shut = Calls::Hooked.shutdown(self.side.fds[0], libc::SHUT_WR);
                assert!(matches!(shut, Ok(0)), "{shut:?}");
                self.side.close_all();
            }
            6 if !self.reset => {
                let read = self.side.read(1 + random.below(20_000));
                assert!(matches!(read, Ok(_) | Err(End::Eof)), "{read:?}");
            }
            7 if !self.reset && random.one_in(4) => self.reset(),
            _ => fork::ends_at_once(random.below(4)),
        }
    }
}

pub fn peers(seed: u64) {
    let mut random = Random::new(seed);
    let count = 1 + random.below(6);
    let mut all: Vec<_> = (0..count).map(|_| connected(&mut random, seed)).collect();
    for step in plan::steps(4 + random.below(24)) {
        let mut random = Random::step(seed, step);
        let begun = Instant::now();
        let at = random.below(count);
        all[at].step(&mut random);
        let took = begun.elapsed();
        assert!(took < fork::QUICK, "step {step} took {took:?}");
    }
    for Connection { side, reset } in &mut all {
        side.close_all();
        if !*reset {
            assert_eq!(side.read_to_end(), End::Eof);
            assert_eq!(side.received, side.accepted);
        }
    }
}
