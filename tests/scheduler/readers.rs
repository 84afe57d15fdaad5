// SPDX-License-Identifier: GPL-2.0-only
//! A task inside an RCU read-side critical section: every grace period waits for the end of the
//! section. When that takes 21 s, the kernel reports a stall of RCU and ends the scheduler.

use crate::daemon::{eventually, share};
use crate::tasks::{Task, say};
use libbpf_rs::libbpf_sys::{BPF_PROG_TYPE_SOCKET_FILTER, bpf_insn, bpf_prog_load};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Sections that the test looks at.
const SECTIONS: usize = 7;

/// An instruction of BPF without registers: a jump, or an exit.
fn instruction(code: u8, off: i16) -> bpf_insn {
    bpf_insn {
        code,
        off,
        ..Default::default()
    }
}

/// A socket filter that loops until the kernel's limit for BPF loops, 250 ms, and drops the packet.
fn slow_filter() -> OwnedFd {
    const MAY_GOTO: u8 = 0xe5;
    const GOTO: u8 = 0x05;
    const MOVE_TO_R0: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    let program = [
        instruction(MAY_GOTO, 1),
        instruction(GOTO, -2),
        instruction(MOVE_TO_R0, 0),
        instruction(EXIT, 0),
    ];
    // SAFETY: the strings end with NUL, and the kernel copies the instructions. No options.
    let fd = unsafe {
        bpf_prog_load(
            BPF_PROG_TYPE_SOCKET_FILTER,
            c"slow".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as u64,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "the kernel refuses the filter: {fd}");
    // SAFETY: the descriptor was just opened, and nothing else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The role: sends datagrams through the filter, and prints how long each took in ms. A filter runs
/// in the sender, inside an RCU read-side critical section, and can be preempted.
pub fn reader() {
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    let program = slow_filter();
    let filter = program.as_raw_fd();
    // SAFETY: the option is a descriptor, an int, which lives through the call.
    let attached = unsafe {
        libc::setsockopt(
            receiver.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            (&raw const filter).cast(),
            size_of_val(&filter) as u32,
        )
    };
    assert_eq!(attached, 0);
    say("ready");
    for line in std::io::stdin().lines() {
        line.unwrap();
        let start = Instant::now();
        sender.send(b"datagram").unwrap();
        say(&start.elapsed().as_millis().to_string());
    }
}

/// Sections of a reader of nice 19 beside hogs, in ms.
fn sections(reader: &mut Task, hogs: &Task) -> Vec<u64> {
    // Its first turn is over then, and the next one is far.
    let from = hogs.run_ns();
    eventually("the hogs' turns", || hogs.run_ns() - from > 1_000_000_000);
    let ask = |_| reader.ask("send").parse().unwrap();
    let mut sections: Vec<u64> = (0..SECTIONS).map(ask).collect();
    println!("  sections of {sections:?} ms");
    sections.sort_unstable();
    // The kernel's limit: a shorter one would say nothing.
    assert!(sections[0] >= 200, "{sections:?}");
    sections
}

/// The third of seven: a turn may end between a section and the look at the clock, one time in ten,
/// and the next turn is two seconds away. Were a section itself held up, all would be long.
fn assert_short(sections: &[u64]) {
    let third = Duration::from_millis(sections[2]);
    assert!(third < Duration::from_secs(1), "{sections:?}");
}

/// A task of nice 19 beside forty hogs has a turn in two seconds. A section that is longer than its
/// turn still ends soon, also where all of them are bound to one CPU.
pub fn a_preempted_rcu_reader_goes_on() {
    let daemon = share("");
    let mut reader = Task::play(&["nice", "-n", "19"], &["reader"]);
    let hogs = Task::play(&[], &["hogs", "40"]);
    assert_short(&sections(&mut reader, &hogs));
    reader.pin(&[0]);
    hogs.pin(&[0]);
    assert_short(&sections(&mut reader, &hogs));
    daemon.assert_schedules();
}

/// A reader's long sections take from all others alike, and no more than a third of the CPU.
pub fn an_rcu_reader_leaves_the_rest_their_shares() {
    let daemon = share("");
    let mut reader = Task::play(&["nice", "-n", "19"], &["reader"]);
    let hogs = [Task::hog(), Task::hog()];
    for task in hogs.iter().chain([&reader]) {
        task.pin(&[0]);
    }
    let sample = || hogs.each_ref().map(Task::run_ns);
    let (before, before_reader) = (sample(), reader.run_ns());
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        reader.ask("send");
    }
    let after = sample();
    let had = [after[0] - before[0], after[1] - before[1]];
    let reader = reader.run_ns() - before_reader;
    println!("  hogs {had:?} ns, the reader {reader} ns");
    let (less, more) = (had[0].min(had[1]), had[0].max(had[1]));
    assert!(less * 10 > more * 9, "{had:?}");
    assert!(
        reader * 5 < (less + more + reader) * 2,
        "{reader} beside {had:?}"
    );
    daemon.assert_schedules();
}
