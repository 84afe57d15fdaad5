// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Compiles include/flexnet/arbiter.h for the host, as C11 and as C++17
//! without a warning, and runs its tables: the source is the one BPF runs.

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

#[test]
fn tables_hold_on_the_host() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("arbiter_test");
    run(Command::new("cc")
        .args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"])
        .args(["-fsanitize=undefined", "-fno-sanitize-recover=all"])
        .arg("-I")
        .arg(root.join("include"))
        .arg(root.join("tests/c/arbiter_test.c"))
        .arg("-o")
        .arg(&binary));
    run(&mut Command::new(&binary));
}

#[test]
fn headers_are_valid_c_and_cpp() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for header in ["arbiter.h", "abi.h"] {
        for (language, standard) in [("c", "-std=c11"), ("c++", "-std=c++17")] {
            run(Command::new("cc")
                .args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror", standard])
                .args(["-x", language])
                .arg(root.join("include/flexnet").join(header)));
        }
    }
}
