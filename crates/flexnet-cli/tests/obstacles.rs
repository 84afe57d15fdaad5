// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet run --offload` of programs that the preload library cannot be in: they run as without
//! it, and one line says why.
//!
//! It needs gcc with its sanitizers' runtimes. Whether these can run here is not what it tests: some
//! end at random addresses, or where nobody may trace.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Says whether there is a preload library in its environment.
const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
	printf("preload: %s\n", getenv("LD_PRELOAD") ? "yes" : "no");
	return 0;
}
"#;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("flexnet-obstacles-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("it.c"), SOURCE).expect("a source");
        Self(folder)
    }

    fn compiled(&self, options: &[&str]) -> PathBuf {
        let program = self.0.join("it");
        let mut gcc = Command::new("gcc");
        gcc.args(["it.c", "-o", "it"]).args(options);
        let done = gcc.current_dir(&self.0).status().expect("gcc");
        assert!(done.success(), "gcc {options:?}");
        program
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A library that the loader takes and that does nothing.
fn library() -> String {
    let mut gcc = Command::new("gcc");
    let output = gcc.arg("-print-file-name=libm.so.6").output();
    let path = String::from_utf8(output.expect("gcc").stdout);
    path.expect("a path").trim_end().to_owned()
}

/// The command `flexnet`, at addresses that are not random where that is allowed.
fn flexnet() -> Command {
    let flexnet = env!("CARGO_BIN_EXE_flexnet");
    let mut setarch = Command::new("setarch");
    let fixed = setarch.args(["-R", "true"]).stderr(Stdio::null()).status();
    if !fixed.is_ok_and(|status| status.success()) {
        return Command::new(flexnet);
    }
    let mut command = Command::new("setarch");
    command.args(["-R", flexnet]);
    command
}

fn run(flags: &[&str], program: &Path) -> Output {
    flexnet()
        .arg("run")
        .args(flags)
        .arg("--")
        .arg(program)
        .env("FLEXNET_PRELOAD", library())
        .env_remove("LD_PRELOAD")
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .env("LSAN_OPTIONS", "detect_leaks=0")
        .output()
        .expect("flexnet")
}

/// The line is the first one, and not there with --quiet.
#[track_caller]
fn says(program: &Path, why: &str) -> Output {
    let output = run(&["--offload"], program);
    let said = String::from_utf8_lossy(&output.stderr);
    let line = format!(
        "flexnet: {} runs without the preload library: {why}\n",
        program.display()
    );
    assert!(said.starts_with(&line), "{said:?}, not {line:?}");
    assert_eq!(said.matches("flexnet: ").count(), 1, "{said:?}");
    let quiet = run(&["--offload", "--quiet"], program);
    let said = String::from_utf8_lossy(&quiet.stderr);
    assert!(!said.contains("flexnet: "), "{quiet:?}");
    output
}

#[track_caller]
fn runs_without(program: &Path, why: &str) {
    let output = says(program, why);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"preload: no\n", "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// A sanitizer may end its program before that says anything.
#[track_caller]
fn sanitizer_runs_without(program: &Path, why: &str) {
    let output = says(program, why);
    if output.status.success() {
        assert_eq!(output.stdout, b"preload: no\n", "{output:?}");
    }
    assert_ne!(output.stdout, b"preload: yes\n", "{output:?}");
}

#[test]
fn programs_with_a_sanitizer() {
    let folder = Folder::new("sanitizers");
    for (option, name) in [
        ("address", "AddressSanitizer"),
        ("thread", "ThreadSanitizer"),
        ("leak", "LeakSanitizer"),
    ] {
        let program = folder.compiled(&[&format!("-fsanitize={option}")]);
        sanitizer_runs_without(&program, &format!("it is built with {name}"));
    }
    // By a script's first line.
    folder.compiled(&["-fsanitize=address"]);
    let script = folder.0.join("script");
    let first = format!("#!{}\n", folder.0.join("it").display());
    std::fs::write(&script, first).expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("a mode");
    sanitizer_runs_without(&script, "it is built with AddressSanitizer");
}

#[test]
fn static_programs() {
    let folder = Folder::new("static");
    runs_without(&folder.compiled(&["-static"]), "it is linked statically");
    let pie = folder.compiled(&["-static-pie"]);
    runs_without(&pie, "it is linked statically");
}

/// A program of glibc's that names musl's loader, which is a link to glibc's here.
#[test]
fn programs_of_musl() {
    let folder = Folder::new("musl");
    let loader = folder.0.join("ld-musl-x86_64.so.1");
    std::os::unix::fs::symlink("/lib64/ld-linux-x86-64.so.2", &loader).expect("a link");
    let option = format!("-Wl,--dynamic-linker={}", loader.display());
    runs_without(&folder.compiled(&[&option]), "its C library is musl");
}

#[test]
fn other_programs_get_the_library() {
    let folder = Folder::new("others");
    for options in [
        &[][..],
        &["-fsanitize=undefined"],
        &["-no-pie"],
        &["-rdynamic"],
    ] {
        let output = run(&["--offload"], &folder.compiled(options));
        assert_eq!(output.stdout, b"preload: yes\n", "{options:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("flexnet: LD_PRELOAD="), "{said}");
    }
}
