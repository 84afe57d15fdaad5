// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A sender that blocks, in a thread of its own, and what may end its waits: signals, shutdown,
//! cancellation, a reset, at random points. Its peer takes what it takes. The stream has its bytes
//! in their order; at most one send's are in doubt.

use crate::calls::Calls;
use crate::fork;
use crate::plan;
use crate::random::Random;
use crate::side::{End, Side, byte_at, wait_for};
use libc::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The longest send.
const LONGEST: usize = 40_000;

unsafe extern "C-unwind" {
    fn write(fd: c_int, data: *const c_void, length: usize) -> isize;
    fn send(fd: c_int, data: *const c_void, length: usize, flags: c_int) -> isize;
    fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const c_void,
        start: extern "C-unwind" fn(*mut c_void) -> *mut c_void,
        of: *mut c_void,
    ) -> c_int;
}
unsafe extern "C" {
    fn pthread_cancel(thread: libc::pthread_t) -> c_int;
}

/// What sender and case share. The sender may be cancelled, so it owns nothing.
struct Shared {
    fd: RawFd,
    seed: u64,
    /// Bytes of the stream that were accepted for certain.
    accepted: AtomicUsize,
    /// Sends that ended.
    sends: AtomicU64,
    stops: AtomicBool,
    /// What ended the sends; 0: they were told to stop.
    errno: AtomicUsize,
    room: std::cell::UnsafeCell<[u8; LONGEST]>,
}

// SAFETY: the sender alone uses `room`.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// Sends until it is told to stop, or fails. Cancellation unwinds it, so it keeps nothing that is
/// to be dropped.
extern "C-unwind" fn sender(of: *mut c_void) -> *mut c_void {
    // SAFETY: the case's, which joins this thread before it goes.
    let shared = unsafe { &*of.cast::<Shared>() };
    let room = shared.room.get().cast::<u8>();
    let mut step = 0;
    while !shared.stops.load(Ordering::Relaxed) {
        let place = shared.accepted.load(Ordering::Relaxed);
        let mut random = Random::step(shared.seed, step);
        step += 1;
        let most = random.pick(&[7, 300, 5000, LONGEST]);
        let length = 1 + random.below(most);
        for at in 0..length {
            // SAFETY: within the room.
            unsafe { room.add(at).write(byte_at(shared.seed, place + at)) };
        }
        // SAFETY: the room's bytes.
        let sent = unsafe {
            match random.one_in(2) {
                true => write(shared.fd, room.cast(), length),
                false => send(shared.fd, room.cast(), length, libc::MSG_NOSIGNAL),
            }
        };
        shared.sends.fetch_add(1, Ordering::Relaxed);
        if sent >= 0 {
            shared
                .accepted
                .store(place + sent as usize, Ordering::Relaxed);
            continue;
        }
        // SAFETY: this thread's.
        let errno = unsafe { *libc::__errno_location() };
        if errno != libc::EINTR && errno != libc::EAGAIN {
            shared.errno.store(errno as usize, Ordering::Relaxed);
            break;
        }
    }
    ptr::null_mut()
}

/// How the sending ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Stop,
    Cancel,
    Shutdown,
    Reset,
}

extern "C" fn on_signal(_: c_int) {}

fn handle(signal: c_int, flags: c_int) {
    // SAFETY: zeros are a valid action; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

/// The peer's reader: pauses while it is told to.
struct Reader {
    peer: RawFd,
    pauses: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(End, usize)>,
}

impl Reader {
    fn start(side: &mut Side, seed: u64) -> Self {
        let pauses = Arc::new(AtomicBool::new(false));
        let (told, peer) = (pauses.clone(), side.peer);
        let mut end = Side {
            calls: Calls::Plain,
            seed,
            fds: Vec::new(),
            peer,
            accepted: usize::MAX,
            received: 0,
        };
        // The peer is the reader's from here on.
        side.peer = Calls::Plain.socket(libc::SOCK_STREAM);
        let thread = std::thread::spawn(move || {
            loop {
                if told.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_micros(300));
                    continue;
                }
                match end.read(30_000) {
                    Ok(0) => wait_for(end.peer, libc::POLLIN),
                    Ok(_) => {}
                    Err(how) => return (how, end.received),
                }
            }
        });
        Self {
            peer,
            pauses,
            thread,
        }
    }

    /// The connection is reset, while the reader waits for it.
    fn reset(&self) {
        // SAFETY: zeros are a valid address, of no family.
        let nowhere: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        Calls::Plain.connect(self.peer, &nowhere);
    }
}

/// What happens while the other thread sends.
fn disturb(random: &mut Random, sender: libc::pthread_t, fd: RawFd, pauses: &AtomicBool) {
    std::thread::sleep(Duration::from_micros(random.below(800) as u64));
    let kill = |signal| {
        // SAFETY: not joined yet.
        unsafe { libc::pthread_kill(sender, signal) };
    };
    match random.below(8) {
        0 | 1 => kill(libc::SIGUSR1),
        2 | 3 => kill(libc::SIGUSR2),
        4 | 5 => {
            pauses.fetch_xor(true, Ordering::Relaxed);
        }
        6 => fork::ends_at_once(random.below(4)),
        _ => {
            let copy = Calls::Hooked.double(crate::calls::Double::Dup, fd, 0);
            let closed = Calls::Hooked.close(copy.expect("a duplicate") as RawFd);
            assert_eq!(closed, Ok(0));
        }
    }
}

fn joined(thread: libc::pthread_t) {
    let mut value = ptr::null_mut();
    // SAFETY: joined once.
    assert_eq!(unsafe { libc::pthread_join(thread, &mut value) }, 0);
}

/// Under the hooks only: a wait past them could not be cancelled.
pub fn interrupted(seed: u64) {
    let mut random = Random::new(seed);
    let buffers = random.pick(&[(1, 20_000), (4096, 20_000), (16_384, 30_000), (0, 0)]);
    let accepts = random.one_in(2);
    let mut side = Side::connected(Calls::Hooked, seed, accepts, buffers);
    handle(libc::SIGUSR1, 0);
    handle(libc::SIGUSR2, libc::SA_RESTART);
    let ending = random.pick(&[
        Ending::Stop,
        Ending::Cancel,
        Ending::Shutdown,
        Ending::Reset,
    ]);
    let shared = Box::new(Shared {
        fd: side.fds[0],
        seed,
        accepted: AtomicUsize::new(0),
        sends: AtomicU64::new(0),
        stops: AtomicBool::new(false),
        errno: AtomicUsize::new(0),
        room: std::cell::UnsafeCell::new([0; LONGEST]),
    });
    let reader = Reader::start(&mut side, seed);
    let mut thread: libc::pthread_t = 0;
    let of = (&raw const *shared).cast_mut().cast();
    // SAFETY: `shared` stays until the thread is joined.
    let made = unsafe { pthread_create(&mut thread, ptr::null(), sender, of) };
    assert_eq!(made, 0);
    for step in plan::steps(random.below(12)) {
        let mut random = Random::step(!seed, step);
        disturb(&mut random, thread, side.fds[0], &reader.pauses);
    }
    match ending {
        Ending::Stop => shared.stops.store(true, Ordering::Relaxed),
        // SAFETY: not joined yet.
        Ending::Cancel => assert_eq!(unsafe { pthread_cancel(thread) }, 0),
        Ending::Shutdown => {
            let how = random.pick(&[libc::SHUT_WR, libc::SHUT_RDWR]);
            assert_eq!(Calls::Hooked.shutdown(side.fds[0], how), Ok(0));
        }
        Ending::Reset => reader.reset(),
    }
    // A stuck peer does not hold up what ended by itself.
    if ending == Ending::Stop {
        reader.pauses.store(false, Ordering::Relaxed);
    }
    joined(thread);
    reader.pauses.store(false, Ordering::Relaxed);
    side.close_all();
    let (end, received) = reader.thread.join().expect("the reader");
    let (accepted, errno) = (
        shared.accepted.load(Ordering::Relaxed),
        shared.errno.load(Ordering::Relaxed) as i32,
    );
    plan::add(shared.sends.load(Ordering::Relaxed));
    let said = || format!("{ending:?}: {end:?}, {received} of {accepted} bytes, errno {errno}");
    match ending {
        Ending::Stop => assert!(
            (end, received, errno) == (End::Eof, accepted, 0),
            "{}",
            said()
        ),
        // One send's bytes are in doubt.
        Ending::Cancel => assert!(
            end == End::Eof && errno == 0 && (accepted..accepted + LONGEST).contains(&received),
            "{}",
            said()
        ),
        Ending::Shutdown => assert!(
            end == End::Eof && errno == libc::EPIPE && received == accepted,
            "{}",
            said()
        ),
        Ending::Reset => assert!(
            matches!(errno, libc::EPIPE | libc::ECONNRESET),
            "{}",
            said()
        ),
    }
}
