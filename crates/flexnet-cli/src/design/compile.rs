// SPDX-License-Identifier: GPL-2.0-only
//! `core_rule.c` into objects, by the compilers of this machine.
//!
//! Promises that the headers are those that this tool was built with, so that a rule and the
//! scheduler of the same version agree on what a round is. The objects are in a folder of their
//! own that only this user can write, and that goes with its owner.

use super::Folder;
use anyhow::{Context, Result, bail, ensure};
use flexnet_sim::LoadedRule;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names of a clang that may compile for BPF, after the variable BPF_CLANG.
const CLANGS: [&str; 6] = [
    "clang", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17",
];

/// A folder for objects, removed at its end.
pub(super) struct Workshop(PathBuf);

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Workshop {
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "flexnet-design-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| path.display().to_string())?;
        let this = Self(path);
        fs::create_dir(this.0.join("flexnet"))?;
        for (name, text) in [
            (
                "flexnet/arbiter.h",
                include_str!("../../../../include/flexnet/arbiter.h"),
            ),
            (
                "flexnet/core_rule.h",
                include_str!("../../../../include/flexnet/core_rule.h"),
            ),
            ("rounds.c", include_str!("rounds.c")),
        ] {
            fs::write(this.0.join(name), text)?;
        }
        Ok(this)
    }

    /// A shared object for the simulator.
    pub fn shared(&self, folder: &Folder) -> Result<PathBuf> {
        let object = self.0.join("rule.so");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2"]);
        self.compile(cc, folder, &[], &object)
    }

    /// A program that runs the rule through rounds, under sanitizers.
    pub fn checker(&self, folder: &Folder) -> Result<PathBuf> {
        let program = self.0.join("rounds");
        let mut cc = Command::new("cc");
        cc.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        cc.arg("-O1");
        self.compile(cc, folder, &[self.0.join("rounds.c")], &program)
    }

    /// An object for the kernel.
    pub fn bpf(&self, folder: &Folder) -> Result<PathBuf> {
        let object = self.0.join("rule.bpf.o");
        let mut clang = Command::new(clang()?);
        clang.args(["-target", "bpf", "-mcpu=v3", "-O2", "-c"]);
        self.compile(clang, folder, &[], &object)
    }

    fn compile(
        &self,
        mut compiler: Command,
        folder: &Folder,
        more: &[PathBuf],
        output: &Path,
    ) -> Result<PathBuf> {
        let source = folder.path.join("core_rule.c");
        ensure!(
            source.exists(),
            "{}: there is no such file",
            source.display()
        );
        compiler.args(["-g", "-std=gnu11", "-Wall", "-Wextra", "-I"]);
        compiler.arg(&self.0).arg(&source).args(more);
        compiler.arg("-o").arg(output);
        let name = compiler.get_program().to_string_lossy().into_owned();
        let status = compiler
            .status()
            .with_context(|| format!("{name} (is a C compiler installed?)"))?;
        ensure!(status.success(), "{}: {name} refuses it", source.display());
        Ok(output.to_owned())
    }
}

/// A clang that starts.
fn clang() -> Result<String> {
    let named = std::env::var("BPF_CLANG").ok();
    let names = named.into_iter().chain(CLANGS.map(str::to_owned));
    for name in names {
        let found = Command::new(&name).arg("--version").output();
        if found.is_ok_and(|output| output.status.success()) {
            return Ok(name);
        }
    }
    bail!(
        "there is no clang, which compiles for BPF: install one, or name it in BPF_CLANG; \
         load --object needs none"
    )
}

/// A folder's rule for the simulator.
pub(crate) fn rule_of(folder: &Folder) -> Result<LoadedRule> {
    let workshop = Workshop::new()?;
    let object = workshop.shared(folder)?;
    // SAFETY: compiled above against the headers that the simulator was compiled with. Its user
    // has named the folder for this process to run.
    unsafe { LoadedRule::open(&object, &folder.name, folder.parameters) }
        .map_err(anyhow::Error::msg)
}
