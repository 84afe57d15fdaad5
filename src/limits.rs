// SPDX-License-Identifier: GPL-2.0-only
//! cgroups with a limit of CPU time (`cpu.max`, in version 1 `cpu.cfs_quota_us`) on kernels that
//! tell no scheduler of it.
//!
//! Promises that a start fails there and names the cgroups, unless the operator ignores the limits.
//! It reads the tree once, at the start. Where the kernel tells the limits, bpf/bandwidth.bpf.h
//! enforces them.

use anyhow::{Result, bail};
use scx_utils::compat;
use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// The files of a limit, and how they begin without one.
const FILES: [(&str, &str); 2] = [("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")];
/// cgroups that a message names.
const NAMED: usize = 3;

/// Whether the kernel tells a sched_ext scheduler the limits: from 6.17 on.
pub fn are_told() -> bool {
    compat::struct_has_field("sched_ext_ops", "cgroup_set_bandwidth").unwrap_or(false)
}

/// What to warn of. An error, where a cgroup has a limit that cannot be enforced and that nobody
/// ignores.
pub fn check(ignored: bool) -> Result<Option<String>> {
    if are_told() {
        return Ok(None);
    }
    match text(&limited(Path::new(ROOT))) {
        Some(names) if !ignored => bail!(
            "this kernel tells no scheduler of cpu.max: {names} would run without its limit; \
             use Linux 6.17 or later, or start with --ignore-cpu-max"
        ),
        Some(names) => Ok(Some(format!(
            "cpu.max is not enforced while this scheduler runs: {names}"
        ))),
        None => Ok(None),
    }
}

/// The cgroups below `root` with a limit, by path. A cgroup that goes meanwhile is left out.
fn limited(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let has_limit = FILES.iter().any(|(file, no_limit)| {
            let limit = fs::read_to_string(directory.join(file));
            limit.is_ok_and(|limit| !limit.starts_with(no_limit))
        });
        if has_limit {
            let below = directory.strip_prefix(root).unwrap_or(&directory);
            found.push(Path::new("/").join(below));
        }
        let entries = fs::read_dir(&directory).into_iter().flatten();
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let directories = entries.map_while(Result::ok).filter(is_directory);
        waiting.extend(directories.map(|entry| entry.path()));
    }
    found.sort();
    found
}

fn text(limited: &[PathBuf]) -> Option<String> {
    if limited.is_empty() {
        return None;
    }
    let names: Vec<_> = limited
        .iter()
        .take(NAMED)
        .map(|path| path.to_string_lossy())
        .collect();
    let more = match limited.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("{}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_with_a_limit_are_named() {
        let root = std::env::temp_dir().join(format!("flexnet-limits-{}", std::process::id()));
        let limits = [
            ("a", "cpu.max", "max 100000"),
            ("a/deep", "cpu.max", "10000 100000"),
            ("b", "cpu.max", "200000 100000"),
            ("cpu/c", "cpu.cfs_quota_us", "-1"),
            ("cpu/d", "cpu.cfs_quota_us", "50000"),
        ];
        for (name, file, limit) in limits {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join(file), limit).unwrap();
        }
        let found = limited(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, ["/a/deep", "/b", "/cpu/d"].map(Path::new));
    }

    #[test]
    fn a_message_names_three_and_counts_the_rest() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(text(&[]), None);
        let two = text(&paths(&["/a", "/b"])).unwrap();
        assert_eq!(two, "/a, /b");
        let five = text(&paths(&["/a", "/b", "/c", "/d", "/e"])).unwrap();
        assert_eq!(five, "/a, /b, /c and 2 more");
    }
}
