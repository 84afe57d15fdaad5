// SPDX-License-Identifier: GPL-2.0-only
//! What cgroups divide the CPUs by: cpu.weight at every level, cpu.idle and cpu.max.

use crate::attach::told_limits;
use crate::daemon::{client, eventually, share, status};
use crate::rules::Cgroup;
use crate::tasks::{Task, online_cpus};
use std::fs;
use std::path::Path;
use std::time::Instant;

const ROOT: &str = "/sys/fs/cgroup";
/// CPU time of all groups that is divided in an interval (ns), and the number of these.
const DIVIDED: u64 = 1_000_000_000;
const INTERVALS: usize = 5;
/// A task that was worth less waits for so long at most (ns): AGED_NS of bpf/general.bpf.h.
const SETTLES: u64 = 2_500_000_000;

/// Tasks that compute for ever in one cgroup; "" is the root.
struct Leaf {
    path: &'static str,
    hogs: Vec<Task>,
    _group: Option<Cgroup>,
}

impl Leaf {
    fn new(path: &'static str, hogs: usize) -> Self {
        Self::of(path, (0..hogs).map(|_| Task::hog()).collect())
    }

    fn of(path: &'static str, hogs: Vec<Task>) -> Self {
        let group = (!path.is_empty()).then(|| Cgroup::new(path));
        let leaf = Self {
            path,
            hogs,
            _group: group,
        };
        if !path.is_empty() {
            // A level divides by weight where the one above has the controller.
            let mut level = Path::new(ROOT).to_path_buf();
            for name in Path::new(path) {
                fs::write(level.join("cgroup.subtree_control"), "+cpu").unwrap();
                level.push(name);
            }
            for hog in &leaf.hogs {
                fs::write(level.join("cgroup.procs"), hog.pid().to_string()).unwrap();
            }
        }
        leaf
    }

    fn run_ns(&self) -> u64 {
        self.hogs.iter().map(Task::run_ns).sum()
    }
}

fn set(path: &str, value: &str) {
    fs::write(Path::new(ROOT).join(path), value).unwrap();
}

/// Each has the expected share of what all of them have, in the median of some intervals: the run of a
/// task whose virtual CPU stands still counts as its own.
fn assert_shares(what: &str, leaves: &[Leaf], expected: &[f64]) {
    let run_ns = || -> Vec<u64> { leaves.iter().map(Leaf::run_ns).collect() };
    let divide = |least: u64| -> Vec<f64> {
        let before = run_ns();
        let mut ran = Vec::new();
        eventually("CPU time", || {
            let now = run_ns();
            ran = now.iter().zip(&before).map(|(n, b)| n - b).collect();
            ran.iter().sum::<u64>() > least
        });
        let all = ran.iter().sum::<u64>() as f64;
        ran.iter().map(|ns| *ns as f64 / all).collect()
    };
    // What they had before is forgotten by then.
    divide(SETTLES * online_cpus().len() as u64);
    let intervals: Vec<_> = (0..INTERVALS).map(|_| divide(DIVIDED)).collect();
    for (index, (leaf, expected)) in leaves.iter().zip(expected).enumerate() {
        let mut shares: Vec<f64> = intervals.iter().map(|shares| shares[index]).collect();
        shares.sort_by(f64::total_cmp);
        let share = shares[INTERVALS / 2];
        println!("  {what}: {:?} has {share:.4} of {expected:.4}", leaf.path);
        let allowed = 0.75 * expected - 0.02..1.25 * expected + 0.02;
        assert!(allowed.contains(&share), "{what}: {:?}", leaf.path);
    }
}

/// Siblings divide by weight at each level, however many tasks they have.
pub fn weights_divide_at_every_level() {
    share("");
    let many = 2 * online_cpus().len();
    {
        let leaves = [
            Leaf::new("light/inner", many),
            Leaf::new("heavy/inner", many),
        ];
        set("light/cpu.weight", "10");
        set("heavy/cpu.weight", "1000");
        assert_shares("parents 10:1000", &leaves, &[0.0099, 0.9901]);
        // While they run.
        set("light/cpu.weight", "300");
        set("heavy/cpu.weight", "100");
        assert_shares("parents 300:100", &leaves, &[0.75, 0.25]);
    }
    {
        let leaves = [
            Leaf::new("a/x/deep/deeper", many),
            Leaf::new("a/y", many),
            Leaf::new("b", many),
        ];
        set("a/cpu.weight", "200");
        set("a/x/cpu.weight", "300");
        assert_shares("a tree", &leaves, &[0.5, 0.1667, 0.3333]);
        // A group without a runnable task leaves its part to its siblings.
        let [x, y, b] = leaves;
        drop(y);
        assert_shares("a smaller tree", &[x, b], &[0.6667, 0.3333]);
    }
}

/// A task is worth as much as its group leaves it.
pub fn a_group_of_many_has_no_more() {
    share("");
    let leaves = [Leaf::new("few", 1), Leaf::new("many", 20)];
    assert_shares("one and twenty", &leaves, &[0.5, 0.5]);
    let [few, many] = leaves;
    drop(few);
    let leaves = [Leaf::new("", 1), many];
    assert_shares("one in the root", &leaves, &[0.5, 0.5]);
}

/// A group with cpu.idle has what others leave.
pub fn an_idle_group_has_the_rest() {
    share("");
    let many = 2 * online_cpus().len();
    let leaves = [Leaf::new("lazy/inner", many), Leaf::new("ordinary", many)];
    set("lazy/cpu.idle", "1");
    assert_shares("cpu.idle", &leaves, &[0.003, 0.997]);
    set("lazy/cpu.idle", "0");
    assert_shares("no longer idle", &leaves, &[0.5, 0.5]);
    set("lazy/cpu.idle", "1");
    let [lazy, ordinary] = leaves;
    drop(ordinary);
    assert_shares("alone", &[lazy], &[1.0]);
}

/// What each of the groups ran for in some seconds of the machine's time, in CPUs.
fn used(leaves: &[&Leaf], seconds: f64) -> Vec<f64> {
    let run_ns = || -> Vec<u64> { leaves.iter().map(|leaf| leaf.run_ns()).collect() };
    let (start, before) = (Instant::now(), run_ns());
    eventually("time", || start.elapsed().as_secs_f64() > seconds);
    let (elapsed, now) = (start.elapsed().as_nanos() as f64, run_ns());
    let used = now.iter().zip(&before);
    used.map(|(now, before)| (now - before) as f64 / elapsed)
        .collect()
}

/// A group runs for its quota, at every level and with as many tasks as it likes, and others have
/// the rest. When the limit is lifted it has its share again. A kernel before 6.17 tells no limit, so
/// there it has none.
pub fn a_limit_is_enforced() {
    share("");
    let cpus = online_cpus().len();
    let inner = Leaf::new("limited/inner", 2 * cpus);
    let outer = Leaf::new("limited/beside", 1);
    let other = Leaf::new("other", cpus);
    set("limited/inner/cpu.max", "10000 100000");
    let leaves = [&inner, &outer, &other];
    // What the last tick ran too much has been paid.
    used(&leaves, 1.0);
    let shares = used(&leaves, 8.0);
    println!("  CPUs: 0.1 are {:.4}", shares[0]);
    if !told_limits() {
        assert!(shares[0] > 0.2, "the kernel tells no limit: {shares:?}");
        return;
    }
    assert!((0.075..0.11).contains(&shares[0]), "{shares:?}");
    set("limited/cpu.max", "60000 200000");
    used(&leaves, 1.0);
    let shares = used(&leaves, 8.0);
    println!("  CPUs: 0.3 are {:.4}", shares[0] + shares[1]);
    assert!(shares[0] < 0.11, "{shares:?}");
    assert!(
        (0.285..0.315).contains(&(shares[0] + shares[1])),
        "{shares:?}"
    );
    assert!(shares[2] > 0.5 * (cpus as f64 - 0.3), "{shares:?}");
    // Each task of it has a part.
    let parts = inner.hogs.iter().map(Task::run_ns);
    let parts: Vec<u64> = parts.collect();
    assert!(parts.iter().all(|part| *part > 0), "{parts:?}");
    // A limit that is lifted throttles no longer. This one would for a second.
    drop(other);
    set("limited/inner/cpu.max", "1000 1000000");
    used(&[&inner, &outer], 0.1);
    set("limited/inner/cpu.max", "max");
    set("limited/cpu.max", "max");
    let shares = used(&[&inner, &outer], 1.0);
    println!("  CPUs: {cpus} are {:.4}", shares[0] + shares[1]);
    assert!(shares[0] > 0.3 * cpus as f64, "{shares:?}");
}

/// A task that is alone on its CPU is throttled, too, and an executor on a granted core is.
pub fn a_limit_holds_on_idle_cpus_and_granted_cores() {
    share("");
    let mut app = Task::app("limited", 1);
    app.ask("load 300 64 0");
    eventually("a core", || status().cores_granted > 0);
    let group = Leaf::of("limited", vec![app]);
    set("limited/cpu.max", "20000 100000");
    used(&[&group], 1.0);
    let before = client("limited").unwrap().run_ns;
    let start = Instant::now();
    eventually("time", || start.elapsed().as_secs_f64() > 5.0);
    let ran = client("limited").unwrap().run_ns - before;
    let executor = ran as f64 / start.elapsed().as_nanos() as f64;
    println!("  the executor had {executor:.3} CPUs");
    if !told_limits() {
        assert!(executor > 0.3, "the kernel tells no limit: {executor}");
        return;
    }
    assert!((0.05..0.21).contains(&executor), "{executor}");
}
