// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Cases over TCP: the same sequence of operations on both connections.

use crate::calls::{Calls, Double, Outcome, Via};
use crate::random::Random;
use crate::side::{End, Side, bytes_at, wait_for, wait_until};
use crate::{fork, pipes, plan};
use rustix::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

static BROKEN_PIPES: AtomicU32 = AtomicU32::new(0);

pub extern "C" fn on_broken_pipe(_: i32) {
    BROKEN_PIPES.fetch_add(1, Ordering::Relaxed);
}

const VIAS: [Via; 16] = [
    Via::Write,
    Via::Writev,
    Via::Send,
    Via::Sendto,
    Via::Sendmsg,
    Via::Sendmmsg,
    Via::WritevEmpty,
    Via::SendmsgEmpty,
    Via::Pwritev2,
    Via::WriteAlias,
    Via::SendAlias,
    Via::Number,
    Via::Pwritev64v2,
    Via::NumberSendto,
    Via::NumberSendmsg,
    Via::NumberWritev,
];
const DOUBLES: [Double; 4] = [Double::Dup, Double::Dup2, Double::Dup3, Double::Fcntl];

/// Bytes a case sends at most, roughly.
const BYTES: usize = 3_000_000;

pub struct Case {
    seed: u64,
    random: Random,
    plain: Side,
    hooked: Side,
    small: bool,
}

/// Runs it on one side and counts SIGPIPE.
fn counted<T>(f: impl FnOnce() -> T) -> (T, u32) {
    let before = BROKEN_PIPES.load(Ordering::Relaxed);
    let result = f();
    (result, BROKEN_PIPES.load(Ordering::Relaxed) - before)
}

impl Case {
    pub fn new(seed: u64, blocking: bool) -> Self {
        let mut random = Random::new(seed);
        let accepts = random.one_in(2);
        let small = blocking || !random.one_in(4);
        let buffers = match small {
            // Receivers of a few hundred bytes stall the kernel's own sender for
            // seconds (window probes), whatever sends.
            true => random.pick(&[
                (1, 20_000),
                (4096, 20_000),
                (1, 60_000),
                (16_384, 30_000),
                (30_000, 20_000),
            ]),
            false => (0, 0),
        };
        let plain = Side::connected(Calls::Plain, seed, accepts, buffers);
        let hooked = Side::connected(Calls::Hooked, seed, accepts, buffers);
        if !blocking {
            plain.set_nonblocking();
            hooked.set_nonblocking();
        }
        Self {
            seed,
            random,
            plain,
            hooked,
            small,
        }
    }

    pub fn run(mut self) {
        for step in plan::steps(5 + self.random.below(40)) {
            if self.hooked.accepted > BYTES {
                break;
            }
            self.random = Random::step(self.seed, step);
            self.step();
        }
        self.random = Random::step(self.seed, usize::MAX);
        self.end();
    }

    fn step(&mut self) {
        match self.random.below(42) {
            0..18 => self.send(),
            18..22 => self.read(),
            22 => self.equalize(),
            23..25 => self.double(),
            25 => self.close_one(),
            26 => self.option(),
            27..29 => self.unsent(),
            29..31 => self.sendfile(),
            31 => self.splice(),
            32 if self.small => self.edge(),
            33 => self.fork(),
            34 => self.pass_descriptor(),
            35..37 => self.send_several(),
            37 => self.no_error(),
            38 => self.stdio(),
            39 => self.child(),
            _ => self.burst(),
        }
    }

    /// What one and the same call came to on both sides.
    fn compare(&self, what: &str, plain: (Outcome, u32), hooked: (Outcome, u32)) {
        let context = || format!("{what}: plain {plain:?}, hooked {hooked:?}");
        assert_eq!(plain.1, hooked.1, "SIGPIPE: {}", context());
        match (plain.0, hooked.0) {
            (Err(libc::EAGAIN) | Ok(_), Ok(_)) => {}
            // More was accepted before, the kernel cut its buffers in other
            // places, or an acknowledgement is late. That it is never made up,
            // `rules` and the edges in here see to.
            (_, Err(libc::EAGAIN)) => {}
            (Err(plain), Err(hooked)) => assert_eq!(plain, hooked, "{what}"),
            _ => panic!("{}", context()),
        }
    }

    fn send(&mut self) {
        let (at, via, length) = (
            self.random.below(8),
            self.random.pick(&VIAS),
            self.random.size(),
        );
        let flags = match via.has_flags() {
            false => 0,
            true => {
                self.random
                    .pick(&[0, 0, libc::MSG_NOSIGNAL, libc::MSG_DONTWAIT, libc::MSG_MORE])
            }
        };
        self.send_so(at, via, length, flags);
    }

    fn send_so(&mut self, at: usize, via: Via, length: usize, flags: i32) {
        let plain = counted(|| self.plain.send(at, via, length, flags));
        let hooked = counted(|| self.hooked.send(at, via, length, flags));
        self.compare(
            &format!("{via:?} of {length}, flags {flags:x}"),
            plain,
            hooked,
        );
    }

    fn burst(&mut self) {
        let (via, length) = (self.random.pick(&VIAS), 1 + self.random.below(600));
        for _ in 0..self.random.below(60) {
            self.send_so(0, via, length, 0);
        }
    }

    fn send_several(&mut self) {
        let lengths: Vec<_> = (0..1 + self.random.below(5))
            .map(|_| 1 + self.random.below(3000))
            .collect();
        for side in [&mut self.plain, &mut self.hooked] {
            let mut place = side.accepted;
            let messages: Vec<_> = lengths
                .iter()
                .map(|&length| {
                    place += length;
                    bytes_at(side.seed, place - length, length)
                })
                .collect();
            let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
            match side.calls.send_several(side.fds[0], &messages, 0) {
                Ok(sent) => {
                    side.accepted += sent.iter().sum::<usize>();
                    // Only the last one may be taken in part.
                    let whole = sent.len() - 1;
                    assert_eq!(sent[..whole], lengths[..whole], "{:?}", side.calls);
                }
                Err(errno) => assert_eq!(errno, libc::EAGAIN, "sendmmsg"),
            }
        }
    }

    fn read(&mut self) {
        let most = 1 + self.random.below(30_000);
        for side in [&mut self.plain, &mut self.hooked] {
            side.read(most).expect("an open stream");
        }
    }

    fn equalize(&mut self) {
        self.plain.equalize();
        self.hooked.equalize();
    }

    fn double(&mut self) {
        let (how, at) = (self.random.pick(&DOUBLES), self.random.below(8));
        for side in [&mut self.plain, &mut self.hooked] {
            let fd = side.fds[at % side.fds.len()];
            // A number that is open, for those that close it.
            let to = Calls::Plain.socket(libc::SOCK_STREAM);
            let made = side.calls.double(how, fd, to).expect("a duplicate") as RawFd;
            if made != to {
                Calls::Plain.close(to).expect("closed");
            }
            side.fds.push(made);
        }
    }

    fn close_one(&mut self) {
        let at = self.random.below(8);
        for side in [&mut self.plain, &mut self.hooked] {
            if side.fds.len() > 1 {
                let fd = side.fds.swap_remove(at % side.fds.len());
                side.calls.close(fd).expect("closed");
            }
        }
    }

    fn option(&mut self) {
        let (level, name, value) = self.random.pick(&[
            (libc::SOL_SOCKET, libc::SO_SNDBUF, 4096),
            (libc::SOL_SOCKET, libc::SO_SNDBUF, 100_000),
            (libc::SOL_TCP, libc::TCP_NODELAY, 1),
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        ]);
        for side in [&self.plain, &self.hooked] {
            side.calls
                .set_option(side.fds[0], level, name, value)
                .expect("an option");
        }
    }

    fn unsent(&mut self) {
        for side in [&mut self.plain, &mut self.hooked] {
            let unsent = side.calls.unsent(side.fds[0]).expect("SIOCOUTQ");
            let most = side.accepted - side.received;
            // Acknowledgements come in their own time: only a lower bound is
            // exact.
            assert!(unsent <= side.accepted, "{:?}: {unsent}", side.calls);
            let mut arrived: i32 = 0;
            // SAFETY: writes to a local.
            unsafe { libc::ioctl(side.peer, libc::FIONREAD, &mut arrived) };
            assert!(
                unsent + arrived as usize >= most,
                "{:?}: {unsent} unsent and {arrived} arrived of {most}",
                side.calls
            );
        }
    }

    fn sendfile(&mut self) {
        let count = 1 + self.random.below(40_000);
        let mut outcomes = Vec::new();
        for side in [&mut self.plain, &mut self.hooked] {
            let file = pipes::file(&side.next(count));
            let sent = side.calls.sendfile(side.fds[0], file, 0, count);
            side.accepted += sent.unwrap_or(0);
            Calls::Plain.close(file).expect("closed");
            outcomes.push((sent, 0));
        }
        self.compare("sendfile", outcomes[0], outcomes[1]);
    }

    fn splice(&mut self) {
        let count = 1 + self.random.below(4000);
        let mut outcomes = Vec::new();
        for side in [&mut self.plain, &mut self.hooked] {
            let pipe = pipes::filled(&side.next(count));
            let sent = side.calls.splice(pipe.0, side.fds[0], count, 0);
            side.accepted += sent.unwrap_or(0);
            pipes::close(pipe);
            outcomes.push((sent, 0));
        }
        self.compare("splice", outcomes[0], outcomes[1]);
    }

    /// After EAGAIN an edge comes when the peer has read.
    fn edge(&mut self) {
        for side in [&mut self.plain, &mut self.hooked] {
            let fd = side.fds[0];
            let events = pipes::edges(fd);
            let mut sends = 0;
            while side.send(0, Via::Write, 1000, 0) != Err(libc::EAGAIN) {
                sends += 1;
                assert!(sends < 20_000, "{:?}: never full", side.calls);
            }
            side.equalize();
            wait_for(events, libc::POLLIN);
            Calls::Plain.close(events).expect("closed");
        }
    }

    fn fork(&mut self) {
        self.equalize();
        let lengths = [(); 3].map(|()| 1 + self.random.below(1000));
        fork::take_turns(&mut [&mut self.plain, &mut self.hooked], lengths);
        self.equalize();
    }

    fn pass_descriptor(&mut self) {
        for side in [&mut self.plain, &mut self.hooked] {
            side.equalize();
            let over = pipes::unix_pair();
            side.fds.push(side.calls.pass_descriptor(over, side.fds[0]));
            pipes::close(over);
        }
    }

    /// A FILE over a duplicate: nothing is queued from here on.
    fn stdio(&mut self) {
        self.equalize();
        let length = 1 + self.random.below(2000);
        for side in [&mut self.plain, &mut self.hooked] {
            let fd = side.calls.double(Double::Dup, side.fds[0], 0);
            // stdio does not say which part was taken, so all is to be.
            side.set_flags(|flags| flags & !libc::O_NONBLOCK);
            let bytes = side.next(length);
            let written = side.calls.stdio(fd.expect("a duplicate") as RawFd, &bytes);
            side.set_flags(|flags| flags | libc::O_NONBLOCK);
            assert_eq!(written, Ok(length), "{:?}", side.calls);
            side.accepted += length;
        }
    }

    /// Of whichever kind: it ends at once, and nothing waits for what the peer has not taken.
    fn child(&mut self) {
        let begun = std::time::Instant::now();
        fork::ends_at_once(self.random.below(4));
        assert!(
            begun.elapsed() < fork::QUICK,
            "a child took {:?}",
            begun.elapsed()
        );
    }

    fn no_error(&mut self) {
        for side in [&self.plain, &self.hooked] {
            assert_eq!(side.calls.error(side.fds[0]), Ok(0), "{:?}", side.calls);
        }
    }

    fn end(mut self) {
        match self.random.below(7) {
            0 | 1 => self.end_by_close(),
            2 => self.end_by_close_range(),
            3 => self.end_by_shutdown(),
            4 => self.end_by_abort(),
            _ => self.end_by_peer(),
        }
    }

    fn all_arrives(&mut self) {
        for side in [&mut self.plain, &mut self.hooked] {
            assert_eq!(side.read_to_end(), End::Eof, "{:?}", side.calls);
            assert_eq!(side.received, side.accepted, "{:?}", side.calls);
        }
    }

    fn end_by_close(mut self) {
        self.plain.close_all();
        self.hooked.close_all();
        self.all_arrives();
    }

    fn end_by_close_range(mut self) {
        for side in [&mut self.plain, &mut self.hooked] {
            for fd in std::mem::take(&mut side.fds) {
                side.calls.close_range(fd, fd).expect("closed");
            }
        }
        self.all_arrives();
    }

    fn end_by_shutdown(mut self) {
        let how = self.random.pick(&[libc::SHUT_WR, libc::SHUT_RDWR]);
        for side in [&self.plain, &self.hooked] {
            assert_eq!(side.calls.shutdown(side.fds[0], how), Ok(0));
        }
        for _ in 0..3 {
            let via = self.random.pick(&VIAS);
            let flags = match via.has_flags() {
                false => 0,
                true => self.random.pick(&[0, libc::MSG_NOSIGNAL]),
            };
            self.send_so(0, via, 10, flags);
        }
        self.all_arrives();
    }

    fn end_by_abort(mut self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        for side in [&mut self.plain, &mut self.hooked] {
            side.calls
                .set_option(side.fds[0], libc::SOL_SOCKET, libc::SO_LINGER, linger)
                .expect("an option");
            side.close_all();
            assert_eq!(
                side.read_to_end(),
                End::Failed(libc::ECONNRESET),
                "{:?}",
                side.calls
            );
        }
    }

    /// The peer resets the connection; the error is reported once, by whatever
    /// comes next.
    fn end_by_peer(mut self) {
        self.equalize();
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let way = self.random.below(3);
        let mut reported = Vec::new();
        for side in [&mut self.plain, &mut self.hooked] {
            let plain = Calls::Plain;
            plain
                .set_option(side.peer, libc::SOL_SOCKET, libc::SO_LINGER, linger)
                .expect("an option");
            plain.close(side.peer).expect("closed");
            side.peer = plain.socket(libc::SOCK_STREAM); // for the code that closes it
            wait_for(side.fds[0], libc::POLLHUP);
            reported.push(match way {
                0 => reported_by_sends(side),
                1 => reported_by_receiving(side),
                _ => reported_by_option(side),
            });
        }
        assert_eq!(reported[0], reported[1], "errors by way {way}");
    }
}

/// The first two errors, and how often SIGPIPE came.
fn reported_by_sends(side: &mut Side) -> Vec<(i32, u32)> {
    let mut reported = Vec::new();
    wait_until(|| {
        let (sent, signals) = counted(|| side.calls.send(Via::Send, side.fds[0], b"x", 0));
        if let Err(errno) = sent {
            reported.push((errno, signals));
        }
        reported.len() == 2
    });
    reported
}

/// One send, then what receiving says; the reset once.
fn reported_by_receiving(side: &mut Side) -> Vec<(i32, u32)> {
    let mut resets = 0;
    let sent = side
        .calls
        .send(Via::Send, side.fds[0], b"x", libc::MSG_NOSIGNAL);
    resets += u32::from(sent == Err(libc::ECONNRESET));
    wait_until(|| {
        let received = side.calls.receive(side.fds[0], &mut [0; 10]);
        resets += u32::from(received == Err(libc::ECONNRESET));
        resets > 0
    });
    for _ in 0..3 {
        let received = side.calls.receive(side.fds[0], &mut [0; 10]);
        assert_eq!(
            received,
            Ok(0),
            "{:?}: after the error was told",
            side.calls
        );
    }
    vec![(libc::ECONNRESET, resets)]
}

fn reported_by_option(side: &mut Side) -> Vec<(i32, u32)> {
    let mut resets = 0;
    let sent = side
        .calls
        .send(Via::Send, side.fds[0], b"x", libc::MSG_NOSIGNAL);
    resets += u32::from(sent == Err(libc::ECONNRESET));
    wait_until(|| {
        let error = side.calls.error(side.fds[0]);
        resets += u32::from(error == Ok(libc::ECONNRESET as usize));
        resets > 0
    });
    assert_eq!(side.calls.error(side.fds[0]), Ok(0), "{:?}", side.calls);
    vec![(libc::ECONNRESET, resets)]
}
