// SPDX-License-Identifier: GPL-2.0-only
//! The class and the history of a process' threads, for `flexnet why`.
//!
//! Promises that only root and the owner of the process get an answer; all identities of the
//! process must be the owner's. An answer costs as much whatever the process' number of threads,
//! since anybody may have many. Leaves to others: what is counted (bpf/why.bpf.h).

use crate::kernel::Kernel;
use crate::peer::{field, live_pid, read};
use flexnet::abi::{STATUS_CPUS, WHY_THREADS, Why, WhyThread, name_bytes};
use rustix::fs::RawDir;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::sched_getaffinity;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

/// Room for as many directory entries as an answer has, at their shortest.
const ENTRIES_BYTES: usize = 24 * WHY_THREADS;

/// A walk over a process' threads, a few for each request of a connection.
#[derive(Debug)]
pub struct Walk {
    pid: i32,
    /// The last one of the last answer; 0: none.
    last: u32,
    /// The folder of the threads, which goes on where it was left.
    folder: File,
}

impl Walk {
    fn of(pid: i32) -> Result<Self, Errno> {
        let folder = File::open(format!("/proc/{pid}/task")).map_err(|_| Errno::SRCH)?;
        let last = 0;
        Ok(Self { pid, last, folder })
    }

    /// The ids of some more threads, as many as an answer has at most; none: that was all.
    fn more(&mut self) -> Result<Vec<u32>, Errno> {
        let mut entries = [MaybeUninit::uninit(); ENTRIES_BYTES];
        let mut entries = RawDir::new(&self.folder, &mut entries);
        let mut tids = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|_| Errno::SRCH)?;
            let name = entry.file_name().to_str().ok();
            tids.extend(name.and_then(|name| name.parse::<u32>().ok()));
            // The rest comes with the next call, but for an answer of no thread.
            if entries.is_buffer_empty() && !tids.is_empty() {
                break;
            }
        }
        Ok(tids)
    }
}

/// The next threads of the process behind a pidfd, after the last one of the last answer; 0: the
/// first ones.
///
/// # Errors
/// `PERM`: it is not the asker's; `SRCH`: it has ended; `BADF`: no pidfd; `INVAL`: `after` is not
/// the last one.
pub fn explain(
    kernel: &Kernel<'_>,
    asker: u32,
    pidfd: BorrowedFd<'_>,
    after: u32,
    walk: &mut Option<Walk>,
) -> Result<Why, Errno> {
    let id = live_pid(pidfd)?;
    let status = read(&format!("/proc/{id}/status")).map_err(|_| Errno::SRCH)?;
    if asker != 0 && !is_all_of(&status, asker) {
        return Err(Errno::PERM);
    }
    let pid = field(&status, "Tgid:").ok_or(Errno::SRCH)?;
    let mut so_far = match walk.take() {
        _ if after == 0 => Walk::of(pid)?,
        Some(walk) if walk.pid == pid && walk.last == after => walk,
        _ => return Err(Errno::INVAL),
    };
    let mut why = Why {
        pid: pid as u32,
        more: 1,
        ..Why::default()
    };
    while why.more == 1 && why.threads == 0 {
        let tids = so_far.more()?;
        why.more = u32::from(!tids.is_empty());
        // One that has ended meanwhile has nothing to tell.
        let threads = tids.iter().filter_map(|&tid| thread(kernel, pid, tid).ok());
        for (to, thread) in why.thread.iter_mut().zip(threads) {
            *to = thread;
            so_far.last = thread.tid;
            why.threads += 1;
        }
    }
    // The ids were the process' own for as long as it lived.
    live_pid(pidfd)?;
    *walk = (why.more == 1).then_some(so_far);
    Ok(why)
}

/// Is this user what a process was started by, acts as, and may go back to? Of a
/// setuid program it is not.
fn is_all_of(status: &str, user: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut ids = line.unwrap_or_default().split_whitespace().peekable();
    ids.peek().is_some() && ids.all(|id| id.parse() == Ok(user))
}

fn thread(kernel: &Kernel<'_>, pid: i32, tid: u32) -> Result<WhyThread, Errno> {
    let sample = kernel.sample_task(tid as i32)?;
    let name = read(&format!("/proc/{pid}/task/{tid}/comm")).map_err(|_| Errno::SRCH)?;
    let allowed = sched_getaffinity(Pid::from_raw(tid as i32))?;
    let mut cpus = [0; STATUS_CPUS / 64];
    for cpu in (0..STATUS_CPUS).filter(|&cpu| allowed.is_set(cpu)) {
        cpus[cpu / 64] |= 1 << (cpu % 64);
    }
    Ok(WhyThread {
        tid,
        task_class: sample.task_class,
        class_origin: sample.class_origin,
        policy: sample.policy,
        client: sample.client,
        slot: sample.slot,
        on_cpu: sample.on_cpu,
        last_queue: sample.history.last_queue,
        name: name_bytes(name.trim_end()),
        run_ns: sample.history.run_ns,
        last_wait_ns: sample.history.last_wait_ns,
        waiting_ns: sample.waiting_ns,
        preemptions: sample.history.preemptions,
        wait_ns: sample.history.wait_ns,
        waits: sample.history.waits,
        cpus,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setuid_program_is_not_its_callers() {
        let status = |ids: &str| format!("Name:\tx\nTgid:\t1\nUid:\t{ids}\nGid:\t0\n");
        assert!(is_all_of(&status("1000\t1000\t1000\t1000"), 1000));
        assert!(!is_all_of(&status("1000\t0\t0\t0"), 1000));
        assert!(!is_all_of(&status("1000\t1000\t0\t1000"), 1000));
        assert!(!is_all_of("Name:\tx\n", 1000));
    }

    #[test]
    fn each_thread_comes_once_and_few_at_a_time() {
        let own = std::process::id();
        let (stay, end) = std::sync::mpsc::channel::<()>();
        let (end, started) = (std::sync::Mutex::new(end), std::sync::Barrier::new(61));
        std::thread::scope(|scope| {
            for _ in 0..60 {
                scope.spawn(|| {
                    started.wait();
                    end.lock().unwrap().recv().unwrap_err();
                });
            }
            started.wait();
            let mut walk = Walk::of(own as i32).unwrap();
            let mut all = Vec::new();
            loop {
                let some = walk.more().unwrap();
                assert!(some.len() <= WHY_THREADS);
                if some.is_empty() {
                    break;
                }
                all.extend(some);
            }
            assert!(all.contains(&own) && all.len() > 60, "{all:?}");
            all.sort_unstable();
            let count = all.len();
            all.dedup();
            assert_eq!(all.len(), count);
            drop(stay);
        });
    }
}
