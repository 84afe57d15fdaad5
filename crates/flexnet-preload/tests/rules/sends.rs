// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The eight rules of a send.

use crate::net::*;
use rustix::event::{PollFlags, epoll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// A small send returns before the kernel has it, and more is accepted than the
/// kernel's buffer holds.
pub fn more_is_accepted() {
    let (plain, _plain_peer) = pair(4096, 20_000);
    let (queued, peer) = pair(4096, 20_000);
    nonblocking(plain);
    nonblocking(queued);
    // What the kernel alone takes.
    let mut alone = 0;
    let fd = unsafe_borrow(plain);
    while let Ok(sent) = rustix::net::send(fd, &[0; 500], rustix::net::SendFlags::DONTWAIT) {
        alone += sent;
    }
    let (taken, errno) = fill(queued, &[7; 500]);
    assert_eq!(errno, libc::EAGAIN);
    assert!(
        taken > alone + 30_000,
        "{taken} with the queue, {alone} without"
    );
    assert_eq!(read_exactly(&peer, taken), vec![7; taken]);
}

fn unsafe_borrow(fd: i32) -> rustix::fd::BorrowedFd<'static> {
    // SAFETY: the test's, open to its end.
    unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) }
}

/// EAGAIN only when the kernel is full, and an edge when the peer has read.
pub fn edges_come_after_eagain() {
    let (fd, peer) = pair(4096, 20_000);
    nonblocking(fd);
    let events = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let (data, flags) = (
        epoll::EventData::new_u64(1),
        epoll::EventFlags::OUT | epoll::EventFlags::ET,
    );
    epoll::add(&events, unsafe_borrow(fd), data, flags).expect("added");
    let mut room = [const { std::mem::MaybeUninit::uninit() }; 4];
    for round in 0..50 {
        let (ready, _) = epoll::wait(&events, &mut room, None).expect("an edge");
        assert_eq!(ready.len(), 1);
        let (taken, errno) = fill(fd, &[round; 300]);
        assert_eq!(errno, libc::EAGAIN);
        assert!(taken > 0, "an edge, and no room in round {round}");
        assert!(!is_writable(fd), "EAGAIN while the kernel has room");
        assert_eq!(read_exactly(&peer, taken), vec![round; taken]);
    }
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);
static SIGNALLED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(_: i32) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    SIGNALLED.store(tid, Ordering::SeqCst);
}

fn handle(signal: i32, flags: i32) {
    // SAFETY: a handler that only counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as extern "C" fn(i32) as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// A failed send is reported once, on the next operation; SIGPIPE comes in the
/// thread that sends.
pub fn errors_are_reported_once() {
    handle(libc::SIGPIPE, 0);
    let (fd, peer) = pair(0, 0);
    assert_eq!(write(fd, b"x"), Ok(1));
    read_exactly(&peer, 1);
    reset(peer);
    wait_for(fd, PollFlags::HUP);
    assert_eq!(write(fd, b"accepted"), Ok(8), "as by a larger buffer");
    let mut reported = Vec::new();
    wait_until(|| {
        reported.extend(write(fd, b"more").err());
        reported.len() == 3
    });
    assert_eq!(reported, [libc::ECONNRESET, libc::EPIPE, libc::EPIPE]);
    let signals = SIGNALS.load(Ordering::SeqCst);
    assert_eq!(signals, 2, "one for each EPIPE");
    let here = rustix::thread::gettid().as_raw_nonzero().get();
    assert_eq!(SIGNALLED.load(Ordering::SeqCst), here);
}

/// A program that does not handle SIGPIPE ends by it.
pub fn sigpipe_ends_who_does_not_handle_it() {
    // SAFETY: the test program ignored it at its start, as Rust does.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: the child only sends.
    match unsafe { libc::fork() } {
        0 => {
            let (fd, peer) = pair(0, 0);
            let _ = write(fd, b"x");
            reset(peer);
            loop {
                let _ = write(fd, b"x");
            }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child.
            unsafe { libc::waitpid(child, &mut status, 0) };
            assert!(libc::WIFSIGNALED(status));
            assert_eq!(libc::WTERMSIG(status), libc::SIGPIPE);
        }
    }
}

/// A blocking send waits for room, until SO_SNDTIMEO.
pub fn timeouts_end_the_wait() {
    let (fd, peer) = pair(4096, 20_000);
    let timeout = libc::timeval {
        tv_sec: 0,
        tv_usec: 100_000,
    };
    set(fd, libc::SO_SNDTIMEO, timeout);
    let begun = std::time::Instant::now();
    let (taken, errno) = fill(fd, &[1; 700]);
    assert_eq!(errno, libc::EAGAIN);
    assert!(begun.elapsed().as_millis() >= 100, "it did not wait");
    assert_eq!(read_exactly(&peer, taken).len(), taken);
    assert_eq!(write(fd, &[2; 700]), Ok(700), "and there is room again");
    assert_eq!(read_exactly(&peer, 700), [2; 700]);
}

/// Sends signals to a thread until asked to stop.
struct Alarm(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Alarm {
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // SAFETY: the caller's thread, which outlives this.
        let thread = unsafe { libc::pthread_self() };
        let rings = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                // SAFETY: as above.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        Self(stop, Some(rings))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        if let Some(rings) = self.1.take() {
            rings.join().expect("the alarm");
        }
    }
}

/// A signal ends a blocked send as it ends the kernel's own.
pub fn signals_end_the_wait() {
    handle(libc::SIGUSR1, 0);
    let (fd, peer) = pair(4096, 20_000);
    let alarm = Alarm::new();
    let (taken, errno) = fill(fd, &[1; 700]);
    drop(alarm);
    assert_eq!(errno, libc::EINTR);
    assert_eq!(read_exactly(&peer, taken).len(), taken);
    // A large send: as much as was sent by then.
    let alarm = Alarm::new();
    let large = vec![3; 4_000_000];
    let sent = loop {
        match write(fd, &large) {
            Err(libc::EINTR) => {}
            other => break other.expect("a part"),
        }
    };
    drop(alarm);
    assert!(sent > 0 && sent < large.len(), "{sent}");
    assert!(read_exactly(&peer, sent).iter().all(|&byte| byte == 3));
    assert_eq!(read_now(&peer), 0, "no more than was said");
}

/// A handler that is to restart system calls ends nothing.
pub fn restarting_signals_end_nothing() {
    handle(libc::SIGUSR1, libc::SA_RESTART);
    let (fd, peer) = pair(4096, 20_000);
    let reading = std::thread::spawn(move || {
        // Not before the writer has been signalled while it waits.
        wait_until(|| SIGNALS.load(Ordering::SeqCst) > 20);
        read_to_end(&peer).expect("the stream").len()
    });
    let alarm = Alarm::new();
    for _ in 0..400 {
        assert_eq!(write(fd, &[1; 700]), Ok(700));
    }
    drop(alarm);
    // SAFETY: the test's.
    unsafe { libc::close(fd) };
    assert_eq!(reading.join().expect("the reader"), 400 * 700);
}

/// Close does not wait, and nothing that was accepted is lost.
pub fn close_keeps_the_rest() {
    let listener = Listener::new(20_000);
    // The library's own two: epoll and its doorbell.
    let open = descriptors().len() + 2;
    for round in 0..50 {
        let fd = listener.connect(4096);
        let peer = listener.accept();
        nonblocking(fd);
        let (taken, errno) = fill(fd, &[round; 900]);
        assert_eq!(errno, libc::EAGAIN);
        // SAFETY: the test's.
        assert_eq!(unsafe { libc::close(fd) }, 0);
        assert_eq!(write(fd, b"x"), Err(libc::EBADF));
        assert_eq!(read_to_end(&peer), Ok(vec![round; taken]));
        drop_raw(peer);
        // The rest's descriptor goes with the rest.
        wait_until(|| descriptors().len() == open);
        assert_eq!(threads(), 2);
    }
}

/// A socket that is closed with a rest is in no epoll set any more: its number
/// may be another's.
pub fn closed_sockets_raise_no_events() {
    // SAFETY: plain calls on locals.
    unsafe {
        let events = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        let (fd, peer) = pair(4096, 20_000);
        nonblocking(fd);
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP) as u32,
            u64: 7,
        };
        assert_eq!(
            libc::epoll_ctl(events, libc::EPOLL_CTL_ADD, fd, &mut event),
            0
        );
        let (taken, _) = fill(fd, &[1; 900]);
        libc::close(fd);
        assert_eq!(read_exactly(&peer, taken - 1000).len(), taken - 1000);
        reset(peer);
        let mut room = event;
        assert_eq!(libc::epoll_wait(events, &mut room, 1, 100), 0);
    }
}

/// SO_LINGER of 0 drops the rest and resets at once, whether the peer reads or
/// not; of some seconds it waits for the rest.
pub fn linger_decides_at_close() {
    let (fd, peer) = pair(4096, 20_000);
    nonblocking(fd);
    fill(fd, &[1; 900]);
    let linger = |l_linger| libc::linger {
        l_onoff: 1,
        l_linger,
    };
    set(fd, libc::SO_LINGER, linger(0));
    // SAFETY: the test's.
    unsafe { libc::close(fd) };
    wait_for(std::os::fd::AsRawFd::as_raw_fd(&peer), PollFlags::HUP);

    let (fd, peer) = pair(4096, 20_000);
    nonblocking(fd);
    let (taken, _) = fill(fd, &[2; 900]);
    set(fd, libc::SO_LINGER, linger(60));
    let closed = Arc::new(AtomicBool::new(false));
    let signal = closed.clone();
    let closing = std::thread::spawn(move || {
        // SAFETY: the test's.
        unsafe { libc::close(fd) };
        signal.store(true, Ordering::SeqCst);
    });
    // More than the kernel's buffers hold is left after this.
    assert_eq!(read_exactly(&peer, 1000), [2; 1000]);
    assert!(!closed.load(Ordering::SeqCst), "close did not wait");
    assert_eq!(read_to_end(&peer), Ok(vec![2; taken - 1000]));
    closing.join().expect("the closer");
}

/// Large blocking sends arrive whole, between small ones.
pub fn large_sends_arrive_whole() {
    let (fd, peer) = pair(0, 0);
    let reading = std::thread::spawn(move || read_to_end(&peer).expect("the stream"));
    let mut expected = Vec::new();
    for i in 0..40u32 {
        let large: Vec<u8> = (0..100_000 + i).map(|n| (n * 31 + i) as u8).collect();
        let small = [i as u8; 100];
        assert_eq!(write(fd, &large), Ok(large.len()));
        assert_eq!(write(fd, &small), Ok(small.len()));
        expected.extend_from_slice(&large);
        expected.extend_from_slice(&small);
    }
    // SAFETY: the test's.
    unsafe { libc::close(fd) };
    assert!(reading.join().expect("the reader") == expected);
}

/// A handler that interrupts a send, and sends on the same socket itself: what it sends
/// comes behind what was accepted before.
pub fn handlers_may_send() {
    static FD: AtomicI32 = AtomicI32::new(-1);
    static SENT: AtomicU32 = AtomicU32::new(0);
    static ACCEPTED: AtomicU32 = AtomicU32::new(0);
    const HANDLERS: u32 = 1 << 31;
    extern "C" fn send(_: i32) {
        let record = HANDLERS | ACCEPTED.load(Ordering::SeqCst);
        if write(FD.load(Ordering::SeqCst), &record.to_ne_bytes()) == Ok(4) {
            SENT.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (fd, peer) = pair(4096, 20_000);
    FD.store(fd, Ordering::SeqCst);
    // SAFETY: a handler that only sends.
    unsafe {
        let handler = send as extern "C" fn(i32);
        libc::signal(libc::SIGUSR1, handler as usize);
    }
    let reading = std::thread::spawn(move || read_to_end(&peer).expect("the stream"));
    let alarm = Alarm::new();
    let mut next = 0u32;
    while SENT.load(Ordering::SeqCst) < 60 {
        if write(fd, &next.to_ne_bytes()) == Ok(4) {
            next += 1;
            ACCEPTED.store(next, Ordering::SeqCst);
        }
    }
    drop(alarm);
    // SAFETY: the test's.
    unsafe { libc::close(fd) };
    let got = reading.join().expect("the reader");
    let (mut own, mut others) = (0, 0);
    for record in got.chunks_exact(4) {
        match u32::from_ne_bytes(record.try_into().expect("four bytes")) {
            of if of & HANDLERS != 0 => {
                assert!(of & !HANDLERS <= own, "a handler's send overtook others");
                others += 1;
            }
            number => {
                assert_eq!(number, own);
                own += 1;
            }
        }
    }
    assert_eq!((own, others), (next, SENT.load(Ordering::SeqCst)));
}

/// What stdio writes comes behind what write() has queued.
pub fn stdio_comes_behind() {
    let (fd, peer) = pair(0, 0);
    for i in 0..100 {
        assert_eq!(write(fd, b"queued "), Ok(7));
        if i == 99 {
            // SAFETY: the test's; the FILE owns the descriptor from here on.
            unsafe {
                let file = libc::fdopen(fd, c"w".as_ptr());
                assert!(!file.is_null());
                assert!(libc::fputs(c"printed ".as_ptr(), file) >= 0);
                assert_eq!(libc::fflush(file), 0);
                assert_eq!(write(fd, b"after"), Ok(5));
                libc::fclose(file);
            }
        }
    }
    let expected = ["queued ".repeat(100).as_bytes(), b"printed after"].concat();
    assert_eq!(read_to_end(&peer), Ok(expected));
}

/// A FILE closes its descriptor within the C library, and the stream still ends.
pub fn a_file_closes_its_number() {
    let (fd, peer) = pair(0, 0);
    assert_eq!(write(fd, b"queued "), Ok(7));
    // SAFETY: the test's; the FILE owns the duplicate.
    unsafe {
        let file = libc::fdopen(libc::dup(fd), c"w".as_ptr());
        assert!(libc::fputs(c"printed ".as_ptr(), file) >= 0);
        assert_eq!(libc::fclose(file), 0);
        assert_eq!(write(fd, b"after"), Ok(5));
        assert_eq!(libc::close(fd), 0);
    }
    assert_eq!(read_to_end(&peer), Ok(b"queued printed after".to_vec()));
}
