// SPDX-License-Identifier: GPL-2.0-only
//! What cgroups divide the CPUs by: cpu.weight at every level, and cpu.idle.

use crate::daemon::{eventually, share};
use crate::rules::Cgroup;
use crate::tasks::{Task, online_cpus};
use std::fs;
use std::path::Path;

const ROOT: &str = "/sys/fs/cgroup";
/// CPU time that is divided, of all groups (ns).
const DIVIDED: u64 = 4_000_000_000;
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
        let group = (!path.is_empty()).then(|| Cgroup::new(path));
        let hogs = (0..hogs).map(|_| Task::hog()).collect();
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

/// Each has the expected share of what all of them have.
fn assert_shares(what: &str, leaves: &[Leaf], expected: &[f64]) {
    let run_ns = || -> Vec<u64> { leaves.iter().map(Leaf::run_ns).collect() };
    let divide = |least: u64| {
        let before = run_ns();
        let mut shares = Vec::new();
        eventually("CPU time", || {
            let now = run_ns();
            shares = now.iter().zip(&before).map(|(n, b)| n - b).collect();
            shares.iter().sum::<u64>() > least
        });
        shares
    };
    // What they had before is forgotten by then.
    divide(SETTLES * online_cpus().len() as u64);
    let shares = divide(DIVIDED);
    let all: u64 = shares.iter().sum();
    for ((leaf, ns), expected) in leaves.iter().zip(&shares).zip(expected) {
        let share = *ns as f64 / all as f64;
        println!("  {what}: {:?} has {share:.4} of {expected:.4}", leaf.path);
        let most = 1.1 * expected + 0.01;
        let least = 0.9 * expected - 0.01;
        assert!((least..most).contains(&share), "{what}: {:?}", leaf.path);
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
