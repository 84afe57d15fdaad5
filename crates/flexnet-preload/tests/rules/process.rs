// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Processes: fork, exec, the end, and what stops executors.

use crate::net::*;
use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes a flow and says how many threads there are then.
fn offload() -> usize {
    let (fd, peer) = pair(0, 0);
    assert_eq!(write(fd, b"x"), Ok(1));
    read_exactly(&peer, 1);
    // SAFETY: the test's.
    unsafe { libc::close(fd) };
    threads()
}

fn wait(child: i32) -> i32 {
    let mut status = -1;
    // SAFETY: a child of this process.
    while unsafe { libc::waitpid(child, &mut status, 0) } != child {}
    status
}

/// Forks a child that connects, sends more than the kernel takes, and then does
/// `end`; all that was accepted must arrive.
fn ends_without_loss(end: impl Fn()) {
    let listener = Listener::new(20_000);
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    // SAFETY: the child sends and ends.
    match unsafe { libc::fork() } {
        0 => {
            let fd = listener.connect(4096);
            nonblocking(fd);
            let (taken, _) = fill(fd, &[5; 800]);
            rustix::io::write(&writer, &taken.to_ne_bytes()).expect("written");
            end();
            // SAFETY: ends at once, as a failure.
            unsafe { libc::_exit(9) };
        }
        child => {
            let peer = listener.accept();
            let mut taken = [0; 8];
            assert_eq!(rustix::io::read(&reader, &mut taken), Ok(8));
            let taken = usize::from_ne_bytes(taken);
            assert!(taken > 30_000, "{taken}: nothing was queued");
            assert_eq!(read_exactly(&peer, taken), vec![5; taken]);
            assert_eq!(wait(child), 0);
        }
    }
}

fn arguments() -> (CString, Vec<*const libc::c_char>) {
    let path = CString::new("/bin/true").expect("a path");
    let arguments = vec![path.as_ptr(), ptr::null()];
    (path, arguments)
}

/// What was accepted is sent before the memory goes: exec in each form, and
/// each end.
pub fn ends_lose_nothing() {
    // SAFETY: valid arguments for each.
    unsafe {
        ends_without_loss(|| libc::_exit(0));
        ends_without_loss(|| libc::exit(0));
        ends_without_loss(|| {
            let (path, arguments) = arguments();
            let environment = [ptr::null()];
            libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        });
        ends_without_loss(|| {
            let (path, arguments) = arguments();
            libc::execv(path.as_ptr(), arguments.as_ptr());
        });
        ends_without_loss(|| {
            let (_, arguments) = arguments();
            libc::execvp(c"true".as_ptr(), arguments.as_ptr());
        });
        ends_without_loss(|| {
            let (path, _) = arguments();
            let none = ptr::null::<libc::c_char>();
            libc::execl(
                path.as_ptr(),
                path.as_ptr(),
                c"1".as_ptr(),
                c"2".as_ptr(),
                none,
            );
        });
        ends_without_loss(|| {
            let (path, _) = arguments();
            libc::execlp(c"true".as_ptr(), path.as_ptr(), ptr::null::<libc::c_char>());
        });
    }
}

/// A child's own sockets are offloaded by executors of its own, and the parent's
/// descriptors of ours are not open in it.
pub fn children_have_their_own() {
    let parent = offload();
    assert_eq!(parent, 2, "an executor beside the test");
    let inherited = pair(0, 0);
    assert_eq!(write(inherited.0, b"1"), Ok(1));
    // SAFETY: the child does what follows and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        assert_eq!(threads(), 1);
        assert_eq!(write(inherited.0, b"2"), Ok(1));
        assert_eq!(threads(), 1, "nothing is made for what it inherited");
        let there = std::fs::read_dir("/proc/self/fd").expect("descriptors");
        let of_ours = there.flatten().filter(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let target = target.to_string_lossy().into_owned();
            target.contains("eventpoll") || target.contains("eventfd")
        });
        assert_eq!(of_ours.count(), 0, "the parent's epoll");
        assert_eq!(offload(), 2);
        // SAFETY: ends at once.
        unsafe { libc::_exit(0) };
    }
    assert_eq!(wait(child), 0);
    assert_eq!(write(inherited.0, b"3"), Ok(1));
    assert_eq!(read_exactly(&inherited.1, 3), b"123");
}

/// The parent is synchronous on shared sockets while the child lives, and not
/// any more when it has gone.
pub fn shared_sockets_are_synchronous_until_the_child_ends() {
    // Sent on before the fork, and not yet.
    let sockets = [pair(0, 0), pair(0, 0)];
    assert_eq!(write(sockets[0].0, b"x"), Ok(1));
    read_exactly(&sockets[0].1, 1);
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    // SAFETY: the child waits for the pipe's end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop_raw(writer);
        let _ = rustix::io::read(&reader, &mut [0; 1]);
        // SAFETY: ends at once.
        unsafe { libc::_exit(0) };
    }
    for (fd, peer) in &sockets {
        for _ in 0..200 {
            assert_eq!(write(*fd, b"now"), Ok(3));
            assert_eq!(read_now(peer), 3, "sent when write returned");
        }
    }
    drop_raw(writer);
    assert_eq!(wait(child), 0);
    // Queued again: some send returns before the peer has it.
    for (fd, peer) in &sockets {
        wait_until(|| {
            assert_eq!(write(*fd, b"now"), Ok(3));
            let at_once = read_now(peer);
            read_exactly(peer, 3 - at_once);
            at_once == 0
        });
    }
}

/// A server that forks for each connection keeps nothing of children that have
/// gone.
pub fn children_leave_nothing_behind() {
    let (fd, peer) = pair(0, 0);
    assert_eq!(write(fd, b"x"), Ok(1));
    read_exactly(&peer, 1);
    for _ in 0..200 {
        // SAFETY: the child ends at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        assert_eq!(wait(child), 0);
    }
    let pipes = descriptors().into_iter().filter(|fd| {
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        fd.parse::<i32>().is_ok_and(|fd| fd >= 512) && target.to_string_lossy().contains("pipe")
    });
    assert!(pipes.count() <= 1, "the last child's at most");
}

/// A vfork child that closes what it need not have leaves the parent's flow.
pub fn a_vfork_child_is_not_the_parent() {
    extern "C" fn closes(fd: *mut libc::c_void) -> i32 {
        // SAFETY: a number; this process's own table of descriptors.
        unsafe {
            libc::close(fd as i32);
            libc::_exit(0)
        }
    }
    let (fd, peer) = pair(4096, 20_000);
    nonblocking(fd);
    for round in 0..20 {
        let (taken, _) = fill(fd, &[round; 300]);
        let mut stack = vec![0u8; 1 << 16];
        // SAFETY: as vfork: the child has this memory and ends before the parent
        // goes on, on a stack of its own.
        let child = unsafe {
            let top = stack.as_mut_ptr().add(stack.len()).cast();
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            libc::clone(closes, top, flags, fd as usize as *mut libc::c_void)
        };
        assert_eq!(wait(child), 0);
        assert!(read_exactly(&peer, taken).iter().all(|&byte| byte == round));
    }
    let (more, _) = fill(fd, &[9; 300]);
    assert!(more > 40_000, "{more}: the flow was lost");
    assert_eq!(read_exactly(&peer, more).len(), more);
}

/// Signals for the process come to its own threads.
pub fn sigsuspend_gets_its_signals() {
    static CAME: AtomicBool = AtomicBool::new(false);
    extern "C" fn came(_: i32) {
        CAME.store(true, Ordering::SeqCst);
    }
    // SAFETY: plain calls on local sets.
    unsafe {
        let handler = came as extern "C" fn(i32);
        libc::signal(libc::SIGUSR2, handler as usize);
        let (mut blocked, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        assert_eq!(offload(), 2);
        libc::sigemptyset(&mut blocked);
        libc::sigaddset(&mut blocked, libc::SIGUSR2);
        libc::sigprocmask(libc::SIG_BLOCK, &blocked, &mut before);
        for _ in 0..10 {
            CAME.store(false, Ordering::SeqCst);
            libc::kill(libc::getpid(), libc::SIGUSR2);
            // Another thread that may take it would have by now.
            std::thread::sleep(std::time::Duration::from_millis(5));
            let mut pending = std::mem::zeroed();
            libc::sigpending(&mut pending);
            assert_eq!(
                libc::sigismember(&pending, libc::SIGUSR2),
                1,
                "an executor took it"
            );
            libc::sigsuspend(&before);
            assert!(CAME.load(Ordering::SeqCst));
        }
    }
}

fn synchronous() -> bool {
    let (fd, peer) = pair(0, 0);
    (0..200).all(|_| {
        assert_eq!(write(fd, b"now"), Ok(3));
        let at_once = read_now(&peer);
        read_exactly(&peer, 3 - at_once);
        at_once == 3
    })
}

/// A filter ends the executors, whatever it allows, and none are started after.
pub fn filters_end_executors() {
    let rest = pair(0, 0);
    assert_eq!(write(rest.0, b"before"), Ok(6));
    assert_eq!(threads(), 2);
    let allow = [libc::sock_filter {
        code: 6, // BPF_RET
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: allow.as_ptr().cast_mut(),
    };
    // SAFETY: a valid program.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let filter = libc::syscall(libc::SYS_seccomp, 1, 0, &raw const program);
        assert_eq!(filter, 0);
    }
    assert_eq!(threads(), 1);
    assert_eq!(write(rest.0, b" after"), Ok(6));
    assert_eq!(read_exactly(&rest.1, 12), b"before after");
    assert!(synchronous());
    assert_eq!(threads(), 1);
}

/// Namespaces want a process to be alone.
pub fn unshare_ends_executors() {
    let rest = pair(0, 0);
    assert_eq!(write(rest.0, b"before"), Ok(6));
    assert_eq!(threads(), 2);
    // SAFETY: changes nothing.
    assert_eq!(unsafe { libc::unshare(0) }, 0);
    assert_eq!(threads(), 1);
    assert_eq!(read_exactly(&rest.1, 6), b"before");
    assert!(synchronous());
}

/// Without a thread to be had the program runs as ever.
pub fn no_threads_no_executors() {
    // SAFETY: plain calls. Root is not held to the limit.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setresuid(65_534, 65_534, 65_534), 0);
        }
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &none), 0);
    }
    assert!(synchronous());
    assert_eq!(threads(), 1);
}

/// A mode in which nothing is offloaded.
pub fn off_is_off() {
    assert!(synchronous());
    assert_eq!(threads(), 1);
}

/// The program's descriptors are the lowest free ones, and closing all of them
/// leaves the library's.
pub fn descriptors_stay_the_programs() {
    let lowest = || {
        let file = std::fs::File::open("/dev/null").expect("a file");
        std::os::fd::AsRawFd::as_raw_fd(&file)
    };
    let before = lowest();
    offload();
    assert_eq!(lowest(), before);
    for fd in 3..4096 {
        // SAFETY: what is open from 3 on is nobody's in this test.
        unsafe { libc::close(fd) };
    }
    offload();
    // SAFETY: as above.
    unsafe { libc::close_range(3, u32::MAX, 0) };
    offload();
    let open = descriptors();
    assert!(
        open.contains(&"512".to_owned()) && open.contains(&"513".to_owned()),
        "{open:?}"
    );
    let (fd, peer) = pair(4096, 20_000);
    nonblocking(fd);
    let (taken, _) = fill(fd, &[1; 500]);
    assert_eq!(read_exactly(&peer, taken).len(), taken);
}

/// A thread whose bytes must have come before it sends the next is tried, since it
/// never waits as long as it sends by itself, and loses by it. After the trial
/// nothing is left of it, and no byte is lost or comes twice.
pub fn what_gains_nothing_leaves_nothing() {
    const SOCKETS: usize = 8;
    let pairs: Vec<_> = (0..SOCKETS).map(|_| pair(0, 0)).collect();
    let open = descriptors();
    let (mut sent, mut tried) = (0usize, false);
    let mut exchange = || {
        let bytes = (sent as u32).to_ne_bytes();
        let (fd, peer) = &pairs[sent % SOCKETS];
        assert_eq!(write(*fd, &bytes), Ok(4));
        assert_eq!(read_exactly(peer, 4), bytes);
        sent += 1;
    };
    loop {
        // A trial is at least a sample's sends long.
        (0..8).for_each(|_| exchange());
        match threads() {
            1 if tried => break,
            threads => tried |= threads > 1,
        }
    }
    assert_eq!(descriptors(), open);
    (0..1000).for_each(|_| exchange());
    for (fd, peer) in pairs {
        // SAFETY: the test's.
        assert_eq!(unsafe { libc::close(fd) }, 0);
        assert_eq!(read_to_end(&peer), Ok(vec![]));
    }
}
