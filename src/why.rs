// SPDX-License-Identifier: GPL-2.0-only
//! The class and the history of a process' threads, for `flexnet why`.
//!
//! Promises that only root and the owner of the process get an answer; all identities of the
//! process must be the owner's. Leaves to others: what is counted (bpf/why.bpf.h).

use crate::kernel::Kernel;
use crate::peer::{field, live_pid, read};
use flexnet::abi::{STATUS_CPUS, WHY_THREADS, Why, WhyThread, name_bytes};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::sched_getaffinity;
use std::os::fd::BorrowedFd;

/// The threads with ids above `after`, of the process behind a pidfd.
///
/// # Errors
/// `PERM`: it is not the asker's; `SRCH`: it has ended; `BADF`: no pidfd.
pub fn explain(
    kernel: &Kernel<'_>,
    asker: u32,
    pidfd: BorrowedFd<'_>,
    after: u32,
) -> Result<Why, Errno> {
    let id = live_pid(pidfd)?;
    let status = read(&format!("/proc/{id}/status")).map_err(|_| Errno::SRCH)?;
    if asker != 0 && !is_all_of(&status, asker) {
        return Err(Errno::PERM);
    }
    let pid = field(&status, "Tgid:").ok_or(Errno::SRCH)?;
    let mut tids = threads(pid)?;
    tids.retain(|&tid| tid > after);
    let mut why = Why {
        pid: pid as u32,
        more: u32::from(tids.len() > WHY_THREADS),
        ..Why::default()
    };
    for &tid in tids.iter().take(WHY_THREADS) {
        // One that has ended meanwhile has nothing to tell.
        if let Ok(thread) = thread(kernel, pid, tid) {
            why.thread[why.threads as usize] = thread;
            why.threads += 1;
        }
    }
    // The ids were the process' own for as long as it lived.
    live_pid(pidfd)?;
    Ok(why)
}

/// Is this user what a process was started by, acts as, and may go back to? Of a
/// setuid program it is not.
fn is_all_of(status: &str, user: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut ids = line.unwrap_or_default().split_whitespace().peekable();
    ids.peek().is_some() && ids.all(|id| id.parse() == Ok(user))
}

fn threads(pid: i32) -> Result<Vec<u32>, Errno> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| Errno::SRCH)?;
    let id = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let mut tids: Vec<u32> = folder.filter_map(|entry| id(entry.ok()?)).collect();
    tids.sort_unstable();
    Ok(tids)
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
    fn threads_come_by_their_ids() {
        let own = std::process::id();
        let tids = threads(own as i32).unwrap();
        assert!(tids.contains(&own) && tids.is_sorted());
    }
}
