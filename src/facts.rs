// SPDX-License-Identifier: GPL-2.0-only
//! What the daemon knows of itself, for replies.

use crate::rules::Rules;
use flexnet::design::Choice;
use std::time::{Instant, SystemTime};

/// What replies repeat of the scheduler's configuration.
#[derive(Clone, Debug)]
pub struct Facts {
    /// CPUs online.
    pub cpus: u32,
    /// Most cores granted at once.
    pub cores_max: u32,
    /// The arbiter's objective.
    pub objective_ns: u64,
    /// How long nobody but the kernel did before, when it took over, ns.
    pub gap_ns: u64,
    /// Since when it schedules.
    pub since: Instant,
    /// The same, for others' clocks.
    pub started: SystemTime,
    /// The design that is on.
    pub design: Choice,
    /// The name of the design whose core rule is loaded on top of that.
    pub loaded: Option<String>,
    /// What applications are given.
    pub rules: Rules,
}

impl Facts {
    /// The design that is on, for people: the loaded one by its name.
    pub fn design_text(&self) -> String {
        match &self.loaded {
            Some(name) => name.clone(),
            None => self.design.to_string(),
        }
    }
}
