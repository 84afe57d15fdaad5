// SPDX-License-Identifier: GPL-2.0-only
//! Designs in folders: written, checked, simulated, and refused where they are wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/designs/backlog"
);

/// A folder for one test, new and empty.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Whether it went well, and all that it said.
fn flexnet(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_flexnet"))
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// A new design's folder, with another rule.
fn with_rule(name: &str, body: &str) -> String {
    let dir = scratch(name).join("own");
    let dir = dir.to_str().unwrap().to_owned();
    let (written, said) = flexnet(&["design", "new", "own", &dir]);
    assert!(written, "{said}");
    let rule = format!(
        "#include <flexnet/core_rule.h>\nstatic int calls;\nFLEXNET_CORE_RULE(round)\n{{\n{body}\n}}\n"
    );
    fs::write(Path::new(&dir).join("core_rule.c"), rule).unwrap();
    dir
}

#[test]
fn a_new_design_works() {
    let dir = scratch("new").join("mine");
    let dir = dir.to_str().unwrap();
    let (written, said) = flexnet(&["design", "new", "mine", dir]);
    assert!(written, "{said}");
    let object = scratch("new-object").join("rule.o");
    let keep = object.to_str().unwrap();
    let (checked, said) = flexnet(&["design", "check", dir, "--object", keep]);
    assert!(checked, "{said}");
    assert!(said.contains("compiled for BPF"), "{said}");
    assert!(fs::read(&object).unwrap().starts_with(b"\x7fELF"));
    // Nothing is written over.
    let (again, said) = flexnet(&["design", "new", "mine", dir]);
    assert!(!again && said.contains("does not exist"), "{said}");
    assert!(!flexnet(&["design", "new", "shenango", "/nonexistent"]).0);
}

/// The example decides by queued work: the fewer messages a core is for, the more cores.
#[test]
fn the_example_follows_queued_work() {
    let (checked, said) = flexnet(&["design", "check", EXAMPLE]);
    assert!(checked, "{said}");
    let out = scratch("backlog");
    let cores = |messages: &str| -> f64 {
        let csv = out.join("out.csv");
        let design = format!("{EXAMPLE}:messages={messages}");
        let (simulated, said) = flexnet(&[
            "sim",
            "--design",
            &design,
            "--cores",
            "8",
            "--load",
            "30%",
            "--seconds",
            "0.1",
            "--csv",
            csv.to_str().unwrap(),
        ]);
        assert!(simulated, "{said}");
        let text = fs::read_to_string(csv).unwrap();
        let line = text.lines().nth(1).unwrap().to_owned();
        assert!(line.starts_with("\"backlog\","), "{line}");
        line.split(',').nth(10).unwrap().parse().unwrap()
    };
    let (few, many) = (cores("64"), cores("1"));
    assert!(few < 0.8 * many, "{few} and {many} cores");
}

#[test]
fn wrong_rules_fail_the_check() {
    for (name, body, why) in [
        (
            "beyond",
            "return round->kept[round->depth];",
            "fails in generated",
        ),
        ("static", "return ++calls % 3;", "two answers"),
        ("syntax", "return 1", "refuses it"),
        ("one-core", "return 1;", "serves"),
        (
            "divides",
            "return round->runnable / (round->parameters[0] - 1);",
            "with patience = 1 the rule fails",
        ),
    ] {
        let dir = with_rule(name, body);
        let (checked, said) = flexnet(&["design", "check", &dir]);
        assert!(!checked && said.contains(why), "{name}: {said}");
    }
}

/// Where a rule has no answer that counts, the built-in one decides: the same simulation.
#[test]
fn nonsense_leaves_the_built_in_rule() {
    let served = |design: &str| {
        let out = scratch("nonsense-out").join("out.csv");
        let (simulated, said) = flexnet(&[
            "sim",
            "--design",
            design,
            "--cores",
            "4",
            "--load",
            "60%",
            "--seconds",
            "0.1",
            "--csv",
            out.to_str().unwrap(),
        ]);
        assert!(simulated, "{said}");
        let text = fs::read_to_string(out).unwrap();
        text.lines()
            .nth(1)
            .unwrap()
            .split_once(',')
            .unwrap()
            .1
            .to_owned()
    };
    let nonsense = with_rule("nonsense", "return round->depth % 2 ? -7 : 4097;");
    assert_eq!(served(&nonsense), served("flexnet"));
    assert_ne!(served(&with_rule("all", "return 4096;")), served("flexnet"));
}

#[test]
fn wrong_folders_are_refused() {
    let dir = with_rule("folder", "return 1;");
    let toml = Path::new(&dir).join("design.toml");
    let good = fs::read_to_string(&toml).unwrap();
    for (from, to, why) in [
        ("min = 1", "min = 60", "must be from 60"),
        ("\"own\"", "\"Own\"", "small letters"),
        ("\"own\"", "\"snap\"", "built-in"),
        ("\"flexnet\"", "\"none\"", "in-stack"),
        ("help", "halp", "halp"),
    ] {
        fs::write(&toml, good.replacen(from, to, 1)).unwrap();
        let (checked, said) = flexnet(&["design", "check", &dir]);
        assert!(!checked && said.contains(why), "{to}: {said}");
    }
    fs::write(&toml, good).unwrap();
    let simulated = Command::new(env!("CARGO_BIN_EXE_flexnet"))
        .args(["sim", "--design", "own:patience=9", "--load", "30%"])
        .current_dir(Path::new(&dir).parent().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&simulated.stderr).into_owned();
    assert!(said.contains("write ./own:patience=9"), "{said}");
    for (keys, why) in [
        ("patience=0", "must be from 1"),
        ("patience=x", "not a whole number"),
        ("cores=1", "has no parameter"),
    ] {
        let (checked, said) = flexnet(&["design", "check", &format!("{dir}:{keys}")]);
        assert!(!checked && said.contains(why), "{keys}: {said}");
    }
}
