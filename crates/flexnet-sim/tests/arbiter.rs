// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Compiles include/flexnet/arbiter.h, latency_batch.h, shares.h and designs.h for the host, as C11
//! and as C++17 without a warning, and runs its tables: the source is the one BPF runs.

use std::path::Path;
use std::process::Command;

fn run(command: &mut Command) {
    let output = command.output().expect("the compiler runs");
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn tables_hold(test: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    run(Command::new("cc")
        .args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"])
        .args(["-fsanitize=undefined", "-fno-sanitize-recover=all"])
        .arg("-I")
        .arg(root.join("../../include"))
        .arg(root.join(format!("tests/c/{test}.c")))
        .arg("-o")
        .arg(&binary));
    run(&mut Command::new(&binary));
}

#[test]
fn tables_of_the_arbiter_hold() {
    tables_hold("arbiter_test");
}

#[test]
fn tables_of_latency_batches_hold() {
    tables_hold("latency_batch_test");
}

#[test]
fn tables_of_shares_hold() {
    tables_hold("shares_test");
}

#[test]
fn tables_of_bandwidth_hold() {
    tables_hold("bandwidth_test");
}

#[test]
fn tables_of_the_designs_hold() {
    tables_hold("designs_test");
}

#[test]
fn headers_are_valid_c_and_cpp() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for header in [
        "arbiter.h",
        "latency_batch.h",
        "shares.h",
        "bandwidth.h",
        "designs.h",
        "abi.h",
    ] {
        for (language, standard) in [("c", "-std=c11"), ("c++", "-std=c++17")] {
            run(Command::new("cc")
                .args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror", standard])
                .args(["-x", language, "-I"])
                .arg(root.join("../../include"))
                .arg(root.join("../../include/flexnet").join(header)));
        }
    }
}
