// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! 100,000 idle flows beside ten that work: what an idle one allocates, that it costs the others
//! nothing, and that the end frees everything. Work is counted in instructions, by the CPU's
//! single-step trap. So the speed of the machine is no matter. Memory in RAM is in many_flows.rs.
//! A test binary of its own, since the allocator and the trap's handler are the process's.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::executor::{Flow, Runtime};
use std::alloc::{GlobalAlloc, Layout, System};
use std::arch::asm;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;

/// Bytes that are allocated now.
static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE_BYTES.fetch_add(size as isize - layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Instructions of the one thread that counts.
static INSTRUCTIONS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_one(_signal: libc::c_int) {
    INSTRUCTIONS.fetch_add(1, Ordering::Relaxed);
}

fn handle_traps() {
    // SAFETY: the handler does one atomic addition, which a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_one as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(
            libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()),
            0
        );
    }
}

/// This thread's instructions count from here on: each is a SIGTRAP.
fn start_counting() {
    INSTRUCTIONS.store(0, Ordering::Relaxed);
    // SAFETY: sets the trap flag (bit 8), which the handler is there for. Stack and registers stay.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
}

/// Ends [`start_counting`]: how many there were.
fn stop_counting() -> u64 {
    // SAFETY: clears the trap flag. Stack and registers stay.
    unsafe { asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    INSTRUCTIONS.load(Ordering::Relaxed)
}

const IDLE_FLOWS: usize = 100_000;
const BUSY_FLOWS: usize = 10;
/// Coroutines on each busy flow while instructions count.
const ROUNDS: usize = 2;
/// An idle flow allocates less than this, bytes.
const IDLE_BYTES: usize = 4096;

/// Instructions, each the sum of `ROUNDS * BUSY_FLOWS` coroutines.
#[derive(Debug)]
struct Work {
    /// Of the thread that submits.
    submit: u64,
    /// Of the executor, which takes them from its queue and runs them.
    run: u64,
}

/// What it takes to submit to each of these flows in turn, and to run that.
fn work(runtime: &Runtime, flows: &[Flow]) -> Work {
    // The executor waits in a coroutine, so that it takes everything at one time.
    let (holder, (release, released)) = (runtime.flow().unwrap(), mpsc::channel::<()>());
    let (held, holds) = mpsc::channel();
    let waits = async move {
        held.send(()).unwrap();
        released.recv().unwrap();
        start_counting();
    };
    holder.submit(waits).unwrap();
    holds.recv().unwrap();
    let left = Arc::new(AtomicUsize::new(ROUNDS * flows.len()));
    let (counted, counts) = mpsc::channel();
    start_counting();
    for _ in 0..ROUNDS {
        for flow in flows {
            let (left, counted) = (left.clone(), counted.clone());
            let runs = async move {
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    counted.send(stop_counting()).unwrap();
                }
            };
            flow.submit(runs).unwrap();
        }
    }
    let submit = stop_counting();
    release.send(()).unwrap();
    let run = counts.recv().unwrap();
    holder.flush_blocking().unwrap();
    Work { submit, run }
}

/// Instructions of making a flow, of its first coroutine's submission, and of its end.
fn life(runtime: &Runtime) -> u64 {
    start_counting();
    let flow = runtime.flow().unwrap();
    flow.submit(async {}).unwrap();
    let mut instructions = stop_counting();
    flow.flush_blocking().unwrap();
    start_counting();
    drop(flow);
    instructions += stop_counting();
    instructions
}

fn expect_as_cheap(what: &str, alone: u64, beside: u64) {
    println!("{what}: {alone} instructions alone, {beside} beside {IDLE_FLOWS} idle flows");
    assert!(alone > 100, "{what}: {alone}: the trap counts");
    // An allocator's paths differ. Anything for each idle flow is 100,000 more.
    assert!(
        beside < 2 * alone,
        "{what}: {alone} alone, {beside} beside idle flows"
    );
}

/// Descriptors and threads of this process.
fn descriptors_and_threads() -> [usize; 2] {
    ["/proc/self/fd", "/proc/self/task"].map(|path| std::fs::read_dir(path).unwrap().count())
}

/// Flows that have run a coroutine, and have nothing to do now.
fn idle(runtime: &Runtime, flows: &mut Vec<Flow>, count: usize) {
    flows.extend((0..count).map(|_| runtime.flow().unwrap()));
    for flow in &*flows {
        flow.submit(async {}).unwrap();
    }
    for flow in &*flows {
        flow.flush_blocking().unwrap();
    }
}

/// With ten busy flows and so many idle ones: the work, a flow's life, and bytes of the idle ones.
fn exercise(idle_flows: usize) -> (Work, u64, usize) {
    let runtime = Runtime::builder()
        .coroutines(IDLE_FLOWS as u32)
        .build()
        .unwrap();
    let busy: Vec<Flow> = (0..BUSY_FLOWS).map(|_| runtime.flow().unwrap()).collect();
    // Warm: rings and queues have grown, threads have what they make at their first use.
    work(&runtime, &busy);
    life(&runtime);
    let mut flows = Vec::with_capacity(idle_flows);
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    idle(&runtime, &mut flows, idle_flows);
    let bytes = (LIVE_BYTES.load(Ordering::Relaxed) - before) as usize;
    let counted = (work(&runtime, &busy), life(&runtime), bytes);
    drop((busy, flows));
    assert_eq!(runtime.shutdown(), 0, "nothing is given up");
    counted
}

/// One test, since the counters are the process's.
#[test]
fn idle_flows_cost_the_others_nothing_and_the_end_frees_all() {
    // A test that hangs ends by SIGALRM.
    // SAFETY: a plain call.
    unsafe { libc::alarm(120) };
    handle_traps();
    // What a process makes once and keeps.
    exercise(1);
    let before = (
        LIVE_BYTES.load(Ordering::Relaxed),
        descriptors_and_threads(),
    );
    let (alone, alone_life, _) = exercise(0);
    let (beside, beside_life, bytes) = exercise(IDLE_FLOWS);
    let after = (
        LIVE_BYTES.load(Ordering::Relaxed),
        descriptors_and_threads(),
    );

    let each = bytes / IDLE_FLOWS;
    println!("an idle flow: {each} bytes allocated");
    assert!((1..IDLE_BYTES).contains(&each), "{each} bytes each");
    expect_as_cheap("submit", alone.submit, beside.submit);
    expect_as_cheap("run", alone.run, beside.run);
    expect_as_cheap("a flow's life", alone_life, beside_life);
    assert_eq!(before, after, "bytes; descriptors and threads");
}
