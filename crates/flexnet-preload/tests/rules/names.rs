// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Every exported name of the C library that may write to a descriptor is known, and
//! why its bytes overtake nothing: names.txt.

use std::collections::BTreeSet;
use std::process::Command;

const TABLE: &str = include_str!("names.txt");

#[derive(Default)]
struct Table {
    parts: Vec<&'static str>,
    hooked: Vec<&'static str>,
    others: Vec<&'static str>,
}

fn table() -> Table {
    let mut table = Table::default();
    let mut hooked = false;
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        if let Some(parts) = line.strip_prefix("parts ") {
            table.parts.extend(parts.split_whitespace());
        } else if let Some(group) = line.strip_prefix("group ") {
            hooked = group.starts_with("hooked:");
        } else {
            let of = if hooked {
                &mut table.hooked
            } else {
                &mut table.others
            };
            of.extend(line.split_whitespace());
        }
    }
    table
}

fn is(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// The C library's file, as this process has it.
fn c_library() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the process's files");
    let file = maps.lines().find_map(|line| {
        let path = line.split_whitespace().last()?;
        path.contains("/libc.so.").then(|| path.to_owned())
    });
    file.expect("the C library's file")
}

/// Its exported names.
fn exported() -> BTreeSet<String> {
    let output = Command::new("nm")
        .args([
            "-D",
            "--defined-only",
            "--with-symbol-versions",
            "--format=posix",
        ])
        .arg(c_library())
        .output()
        .expect("nm");
    let text = String::from_utf8(output.stdout).expect("names");
    // "NAME TYPE ...": functions, weak ones and those chosen at run time.
    let functions = text.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let name = fields.next()?;
        matches!(fields.next(), Some("T" | "W" | "i")).then_some(name)
    });
    let public = functions.filter(|name| !name.contains("@GLIBC_PRIVATE"));
    public
        .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        .collect()
}

/// What is wrong, in words. `ours`: what the library exports.
pub fn wrong(ours: &[&str]) -> Vec<String> {
    let (table, exported) = (table(), exported());
    assert!(exported.contains("write"), "no names");
    let mut wrong = Vec::new();
    for name in &exported {
        let scanned = table.parts.iter().any(|part| name.contains(part));
        let mut known = table.hooked.iter().chain(&table.others);
        if scanned && !known.any(|pattern| is(name, pattern)) {
            wrong.push(format!("{name}: in no group of names.txt"));
        }
    }
    for name in &table.hooked {
        if !ours.contains(name) {
            wrong.push(format!(
                "{name}: no function of the library stands before it"
            ));
        }
    }
    wrong
}
