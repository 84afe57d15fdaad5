// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Which steps of its cases a worker takes: all, unless a failure is made smaller. And how many it
//! took.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many, without these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub most: usize,
    pub without: Vec<usize>,
}

impl Plan {
    pub const ALL: Self = Self {
        most: usize::MAX,
        without: Vec::new(),
    };

    /// As `--steps` and `--without` have it.
    pub fn parse(most: Option<&str>, without: Option<&str>) -> Self {
        let number = |text: &str| text.parse().expect("a number");
        Self {
            most: most.map_or(usize::MAX, number),
            without: without.map_or(Vec::new(), |list| list.split(',').map(number).collect()),
        }
    }

    /// As arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.most != usize::MAX {
            arguments.extend(["--steps".to_owned(), self.most.to_string()]);
        }
        if !self.without.is_empty() {
            let list: Vec<_> = self.without.iter().map(usize::to_string).collect();
            arguments.extend(["--without".to_owned(), list.join(",")]);
        }
        arguments
    }
}

static PLAN: OnceLock<Plan> = OnceLock::new();
static TAKEN: AtomicU64 = AtomicU64::new(0);

pub fn set(plan: Plan) {
    PLAN.set(plan).expect("one plan");
}

/// The steps of a case that would have so many.
pub fn steps(count: usize) -> impl Iterator<Item = usize> {
    let plan = PLAN.get_or_init(|| Plan::ALL);
    (0..count.min(plan.most))
        .filter(|step| !plan.without.contains(step))
        .inspect(|_| {
            TAKEN.fetch_add(1, Ordering::Relaxed);
        })
}

/// Steps beside those that are planned.
pub fn add(steps: u64) {
    TAKEN.fetch_add(steps, Ordering::Relaxed);
}

/// Steps that this process took.
pub fn taken() -> u64 {
    TAKEN.load(Ordering::Relaxed)
}
