// SPDX-License-Identifier: GPL-2.0-only
//! Paths of cgroups below the cgroup2 mount, a glob a component; `**` is any
//! number of components. A path names a cgroup and all below it.

use super::glob::Glob;
use crate::bpf_intf::{FLEXNET_NAME_BYTES, FLEXNET_PARTS_MAX};

/// One component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `**`; never two in a row, never the last.
    Deep,
    /// A cgroup's name.
    One(Glob),
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath {
    text: String,
    /// None: all cgroups.
    pub parts: Vec<Part>,
}

impl CgroupPath {
    /// Reads one.
    ///
    /// # Errors
    /// In words: it does not begin at the root, has a component that cannot be, or
    /// too many.
    pub fn new(text: &str) -> Result<Self, String> {
        let Some(below) = text.strip_prefix('/') else {
            return Err(format!(
                "{text:?} is no path of a cgroup: it begins with \"/\", the cgroup2 mount"
            ));
        };
        let mut parts = Vec::new();
        let below = below.strip_suffix('/').unwrap_or(below);
        for name in below.split('/').filter(|_| !below.is_empty()) {
            match name {
                "" | "." | ".." => {
                    return Err(format!(
                        "{text:?} is no path of a cgroup: it has {name:?} in it"
                    ));
                }
                "**" if matches!(parts.last(), Some(Part::Deep)) => {}
                "**" => parts.push(Part::Deep),
                name => parts.push(Part::One(Glob::new(name, FLEXNET_NAME_BYTES as usize - 1)?)),
            }
        }
        // What is below a cgroup is meant anyway.
        if matches!(parts.last(), Some(Part::Deep)) {
            parts.pop();
        }
        if parts.len() > FLEXNET_PARTS_MAX as usize {
            return Err(format!(
                "{text:?} is too deep: {FLEXNET_PARTS_MAX} components at most"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// Does it name this cgroup, or one above it? As BPF does it (bpf/rule.h), a step a
    /// component: however deep a cgroup is, the time is in proportion.
    pub fn holds(&self, cgroup: &str) -> bool {
        let bits = |take: &dyn Fn(&Part) -> bool| -> u32 {
            let parts = self.parts.iter().enumerate();
            parts.map(|(at, part)| u32::from(take(part)) << at).sum()
        };
        let deep = bits(&|part| *part == Part::Deep);
        let end = 1 << self.parts.len();
        let mut came = 1 | (1 & deep) << 1;
        for name in cgroup.split('/').filter(|name| !name.is_empty()) {
            let takers = bits(&|part| matches!(part, Part::One(glob) if glob.matches(name)));
            came = (came & takers) << 1 | came & (deep | end);
            came |= (came & deep) << 1;
        }
        came & end != 0
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}
