// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! C programs that say themselves whether they went well, each run plain and under the
//! library in every mode. They do what Rust cannot: longjmp, cancellation, variadic
//! functions, destructors.
//!
//! usage: cases [PART OF A NAME] [--mode MODE]
//!
//! It needs a C compiler (`cc`).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Programs, and the library that one opens.
const CASES: &[(&str, Option<&str>)] = &[
    ("order", None),
    ("longjmp", None),
    ("wakes", None),
    ("threads_end", None),
    ("goodbye", Some("goodbye_library")),
    ("filters", None),
    ("stuck", None),
    ("rests", None),
    ("ends", None),
    ("numbers", None),
    ("cancelled", None),
    ("profiler", None),
    ("raw", None),
    ("reopened", None),
    ("shared_rests", None),
    ("unlocked", None),
];
const MODES: &[&str] = &["plain", "strict", "always", "adaptive", "adaptive-queued"];
/// Each takes some seconds; one that is at it so long hangs.
const HANGS: Duration = Duration::from_secs(90);

fn above(file: &str) -> PathBuf {
    let own = env::current_exe().expect("a path");
    let found = own
        .ancestors()
        .map(|folder| folder.join(file))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{file}: cargo build --release -p flexnet-preload"))
}

fn compile(to: &Path, name: &str, more: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/{name}.c"));
    let made = to.join(name);
    let done = Command::new("cc")
        .args([
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-missing-field-initializers",
            "-Wno-format-zero-length",
            "-pthread",
        ])
        .args(more)
        .arg("-o")
        .arg(&made)
        .arg(source)
        .status();
    assert!(done.expect("a C compiler").success(), "{name}.c");
    made
}

/// It ended well, and what it says if not.
fn finish(mut child: Child) -> Result<(), String> {
    let until = Instant::now() + HANGS;
    let status = loop {
        match child.try_wait().expect("its status") {
            Some(status) => break status.to_string(),
            None if Instant::now() > until => {
                child.kill().expect("killed");
                child.wait().expect("its end");
                break "it hangs".to_owned();
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("its stderr"), &mut said)
        .expect("what it says");
    match status == "exit status: 0" && said.is_empty() {
        true => Ok(()),
        false => Err(format!("{status}\n{said}")),
    }
}

fn run(program: &Path, argument: Option<&Path>, mode: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command
        .args(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if mode != "plain" {
        command
            .env("LD_PRELOAD", above("libflexnet_preload.so"))
            .env("FLEXNET_OFFLOAD", mode)
            .env("FLEXNET_SOCKET", "/nonexistent")
            .env_remove("FLEXNET_LOG");
    }
    finish(command.spawn().expect("a process"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let at = arguments.iter().position(|argument| argument == "--mode");
    let only = at.and_then(|at| arguments.get(at + 1));
    let part = arguments
        .first()
        .filter(|argument| !argument.starts_with('-'));
    let folder = env::temp_dir().join(format!("flexnet-cases-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let mut well = true;
    for (name, library) in CASES {
        if part.is_some_and(|part| !name.contains(part.as_str())) {
            continue;
        }
        let program = compile(&folder, name, &[]);
        let library = library.map(|library| compile(&folder, library, &["-shared", "-fPIC"]));
        let wanted = MODES
            .iter()
            .filter(|mode| only.is_none_or(|only| only == *mode));
        let (program, library) = (&program, library.as_deref());
        let ended: Vec<_> = std::thread::scope(|scope| {
            let runs: Vec<_> = wanted
                .map(|mode| (mode, scope.spawn(move || run(program, library, mode))))
                .collect();
            runs.into_iter()
                .map(|(mode, run)| (mode, run.join().expect("a run")))
                .collect()
        });
        for (mode, ended) in ended {
            let word = if ended.is_ok() { "ok" } else { "FAILED" };
            println!("case {name} ({mode}): {word}");
            if let Err(why) = ended {
                println!("{why}");
                well = false;
            }
        }
    }
    std::fs::remove_dir_all(&folder).expect("removed");
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
