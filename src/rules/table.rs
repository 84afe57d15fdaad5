// SPDX-License-Identifier: GPL-2.0-only
//! The rules as BPF is given them: `struct flexnet_rules` of bpf/rule.h. Equal
//! globs are there once.

use super::glob::Glob;
use super::path::Part;
use super::rule::Rule;
use crate::bpf_intf::{
    FLEXNET_GLOBS_MAX, FLEXNET_RULES_MAX, flexnet_glob, flexnet_rule, flexnet_rules,
};
use std::fmt::{self, Display};

/// More than BPF has room for: what, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// In which rule.
    pub index: usize,
    what: &'static str,
    most: u32,
}

impl Display for TooMany {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "too many {}: {} at most", self.what, self.most)
    }
}

/// A whole table.
///
/// # Errors
/// The first rule that there is no room for.
pub fn table(rules: &[Rule]) -> Result<Box<flexnet_rules>, TooMany> {
    // SAFETY: integers and arrays of integers: zeros are valid.
    let mut table: Box<flexnet_rules> = Box::new(unsafe { std::mem::zeroed() });
    let mut globs = Globs::default();
    for (index, rule) in rules.iter().enumerate() {
        let Some(entry) = table.rule.get_mut(index) else {
            return Err(TooMany {
                index,
                what: "rules",
                most: FLEXNET_RULES_MAX,
            });
        };
        *entry = globs.rule(rule).ok_or(TooMany {
            index,
            what: "different globs in rules",
            most: FLEXNET_GLOBS_MAX,
        })?;
        if entry.parts == 0 {
            table.anywhere |= 1 << index;
        }
        if entry.command != 0 {
            table.named |= 1 << index;
        }
        table.count = index as u32 + 1;
    }
    for (to, from) in table.glob.iter_mut().zip(&globs.globs) {
        *to = *from;
    }
    Ok(table)
}

/// A table's bytes.
pub fn bytes(table: &flexnet_rules) -> &[u8] {
    // SAFETY: plain integers without padding (the assertion below), as many bytes
    // as are said, borrowed for as long as the table is.
    unsafe { std::slice::from_raw_parts((&raw const *table).cast(), size_of::<flexnet_rules>()) }
}

/// Globs by their text.
#[derive(Default)]
struct Globs {
    texts: Vec<String>,
    globs: Vec<flexnet_glob>,
}

impl Globs {
    fn index(&mut self, glob: &Glob) -> Option<u16> {
        if let Some(at) = self.texts.iter().position(|text| text == glob.text()) {
            return Some(at as u16);
        }
        if self.globs.len() == FLEXNET_GLOBS_MAX as usize {
            return None;
        }
        self.texts.push(glob.text().to_owned());
        self.globs.push(glob.for_bpf());
        Some(self.globs.len() as u16 - 1)
    }

    fn rule(&mut self, rule: &Rule) -> Option<flexnet_rule> {
        // SAFETY: integers and an array of integers: zeros are valid.
        let mut entry: flexnet_rule = unsafe { std::mem::zeroed() };
        entry.task_class = rule.class as u32;
        if let Some(user) = &rule.user {
            (entry.has_uid, entry.uid) = (1, user.uid);
        }
        if let Some(command) = &rule.command {
            entry.command = u32::from(self.index(command)?) + 1;
        }
        let parts = rule.cgroup.iter().flat_map(|path| &path.parts);
        for (at, part) in parts.enumerate() {
            match part {
                Part::Deep => entry.deep |= 1 << at,
                Part::One(glob) => entry.part[at] = self.index(glob)?,
            }
            entry.parts = at as u32 + 1;
        }
        Some(entry)
    }
}

// No padding between the fields.
const _: () = assert!(
    size_of::<flexnet_rules>()
        == 24
            + FLEXNET_RULES_MAX as usize * size_of::<flexnet_rule>()
            + FLEXNET_GLOBS_MAX as usize * size_of::<flexnet_glob>()
);
const _: () = assert!(size_of::<flexnet_rule>() == 6 * 4 + 16 * 2);
const _: () = assert!(size_of::<flexnet_glob>() == 257 * 8 + 8);

#[cfg(test)]
mod tests {
    use super::super::path::CgroupPath;
    use super::super::rule::User;
    use super::*;
    use flexnet::abi::Class;

    unsafe extern "C" {
        fn flexnet_host_path_start(rule: *const flexnet_rule) -> u32;
        fn flexnet_host_path_step(rule: *const flexnet_rule, came: u32, takers: u32) -> u32;
        fn flexnet_host_path_matches(rule: *const flexnet_rule, came: u32) -> u32;
        fn flexnet_host_settled_class(asked: u32, ruled: u32, born: u32, otherwise: u32) -> u32;
    }

    fn rule(cgroup: Option<&str>, command: Option<&str>) -> Rule {
        Rule {
            line: 1,
            cgroup: cgroup.map(|path| CgroupPath::new(path).unwrap()),
            command: command.map(|glob| Glob::new(glob, 15).unwrap()),
            user: None,
            class: Class::Latency,
        }
    }

    /// Does this path name that cgroup? Walks as BPF does.
    fn names(path: &str, cgroup: &str) -> bool {
        let parsed = CgroupPath::new(path).unwrap();
        let table = table(&[rule(Some(path), None)]).unwrap();
        let entry = &table.rule[0];
        // SAFETY: each gets a rule that lives.
        let mut came = unsafe { flexnet_host_path_start(entry) };
        for name in cgroup.split('/').filter(|name| !name.is_empty()) {
            let takes = |(at, part): (usize, &Part)| match part {
                Part::One(glob) if glob.matches(name) => 1 << at,
                _ => 0,
            };
            let takers = parsed.parts.iter().enumerate().map(takes).sum();
            // SAFETY: as above.
            came = unsafe { flexnet_host_path_step(entry, came, takers) };
        }
        // SAFETY: as above.
        let matched = unsafe { flexnet_host_path_matches(entry, came) != 0 };
        matched || parsed.parts.is_empty()
    }

    #[test]
    fn paths_name_a_cgroup_and_all_below() {
        for (path, cgroups, others) in [
            ("/", &["/", "/a", "/a/b"][..], &[][..]),
            ("/**", &["/", "/a"], &[]),
            ("/a", &["/a", "/a/b", "/a/b/c"], &["/", "/b", "/b/a", "/ab"]),
            ("/a/", &["/a", "/a/b"], &["/b"]),
            ("/a/**", &["/a", "/a/b"], &["/b"]),
            (
                "/system.slice/redis*.service",
                &[
                    "/system.slice/redis.service",
                    "/system.slice/redis-2.service/x",
                ],
                &[
                    "/system.slice",
                    "/system.slice/x/redis.service",
                    "/redis.service",
                ],
            ),
            ("/*/x", &["/a/x", "/b/x/y"], &["/x", "/a/b/x"]),
            ("/**/x", &["/x", "/a/x", "/a/b/x/c"], &["/", "/a", "/xx"]),
            (
                "/a/**/b/c",
                &["/a/b/c", "/a/b/b/c", "/a/x/y/b/c"],
                &["/a/b", "/a/c", "/b/c"],
            ),
            ("/**/**/x", &["/x"], &["/a"]),
            (
                "/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f",
                &["/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g"],
                &["/1"],
            ),
        ] {
            for (cgroups, expected) in [(cgroups, true), (others, false)] {
                for cgroup in cgroups {
                    assert_eq!(names(path, cgroup), expected, "{path} {cgroup}");
                    let holds = CgroupPath::new(path).unwrap().holds(cgroup);
                    assert_eq!(holds, expected, "{path} {cgroup}");
                }
            }
        }
        for wrong in [
            "a",
            "",
            "/a//b",
            "/../a",
            "/a/.",
            "/a/[b",
            "/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g",
        ] {
            assert!(CgroupPath::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sources_of_a_class_go_in_their_order() {
        const NONE: u32 = 0;
        let (normal, latency, batch) = (1, 2, 3);
        for (asked, ruled, born, class) in [
            (NONE, NONE, NONE, Class::Normal),
            (NONE, NONE, batch, Class::Batch),
            (NONE, latency, batch, Class::Latency),
            (NONE, normal, latency, Class::Normal),
            (batch, latency, latency, Class::Batch),
            (normal, batch, NONE, Class::Normal),
        ] {
            // SAFETY: plain numbers.
            let settled = unsafe { flexnet_host_settled_class(asked, ruled, born, 0) };
            assert_eq!(settled, class as u32, "{asked} {ruled} {born}");
        }
    }

    #[test]
    fn equal_globs_are_there_once() {
        let mut rules = vec![
            rule(Some("/a/redis"), Some("redis")),
            rule(Some("/b/**/redis"), None),
        ];
        rules[1].user = Some(User::find("7").unwrap());
        let table = table(&rules).unwrap();
        assert_eq!((table.count, table.anywhere, table.named), (2, 0, 1));
        let [first, second, ..] = &table.rule;
        assert_eq!((first.command, first.parts, first.part[1]), (1, 2, 0));
        assert_eq!((second.parts, second.deep, second.part[2]), (3, 0b10, 0));
        assert_eq!((second.has_uid, second.uid), (1, 7));
        assert_eq!(table.rule[2].parts, 0);
        assert_eq!(bytes(&table).len(), size_of::<flexnet_rules>());
    }

    #[test]
    fn what_there_is_no_room_for_is_reported() {
        let many: Vec<Rule> = (0..65).map(|_| rule(None, Some("a"))).collect();
        assert!(table(&many[..64]).is_ok());
        assert_eq!(table(&many).unwrap_err().index, 64);
        let path = |n: usize| format!("/{n}/{n}a/{n}b");
        let many: Vec<Rule> = (0..43).map(|n| rule(Some(&path(n)), None)).collect();
        let error = table(&many).unwrap_err();
        assert_eq!(error.index, 42);
        assert_eq!(
            error.to_string(),
            "too many different globs in rules: 128 at most"
        );
    }
}
