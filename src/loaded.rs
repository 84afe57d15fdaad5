// SPDX-License-Identifier: GPL-2.0-only
//! A core rule in the running scheduler: an extension program that replaces the function
//! `loaded_core_rule` of the rounds (bpf/rounds.bpf.h, docs/decisions/0048).
//!
//! Promises that the kernel has verified a rule before the one that was loaded is touched.
//! Leaves to others when it is asked (kernel/designs.rs) and who may load (control/core_rule.rs).

use crate::kernel::Kernel;
use libbpf_rs::{AsRawLibbpf, Link, Object, ObjectBuilder, libbpf_sys};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Longest object, bytes.
const OBJECT_MAX: usize = 1 << 20;
/// Room for the verifier's log, bytes; of its end so many lines are told.
const LOG_BYTES: usize = 256 * 1024;
const LOG_LINES: usize = 20;
/// A round holds the arbiter: a rule may not be long. The verifier walks through so many
/// instructions at most; a built-in rule has some hundred.
const VERIFIED_MAX: u32 = 20_000;
/// The function that is replaced.
const PLACE: &str = "loaded_core_rule";

/// A rule that the kernel has verified.
pub struct Verified(Object);

/// A rule in its place; it goes with this.
pub struct Loaded {
    /// The design's name.
    pub name: String,
    _link: Link,
}

impl Verified {
    /// Reads the object and has the kernel verify it.
    ///
    /// # Errors
    /// What is wrong, in words, lines of the verifier among them.
    pub fn new(kernel: &Kernel<'_>, object: OwnedFd) -> Result<Self, String> {
        let bytes = read(&File::from(object))?;
        let mut open = ObjectBuilder::default()
            .name("core_rule")
            .and_then(|builder| builder.open_memory(&bytes))
            .map_err(|error| format!("this is no BPF object: {error}"))?;
        let mut log = vec![0u8; LOG_BYTES];
        let mut programs = open.progs_mut();
        let (Some(mut program), None) = (programs.next(), programs.next()) else {
            return Err(
                "the object must have one program: FLEXNET_CORE_RULE defines it".to_owned(),
            );
        };
        program
            .set_attach_target(kernel.rounds().as_raw_fd(), Some(PLACE.to_owned()))
            .map_err(|error| format!("the rule does not fit {PLACE}: {error}"))?;
        program.set_log_level(1);
        // SAFETY: the buffer outlives the loading below, after which nothing writes to it.
        unsafe {
            libbpf_sys::bpf_program__set_log_buf(
                program.as_libbpf_object().as_ptr(),
                log.as_mut_ptr().cast(),
                log.len() as _,
            )
        };
        drop(programs);
        let object = open.load().map_err(|error| {
            format!("the kernel's verifier refuses it: {error}\n{}", tail(&log))
        })?;
        let program = object.progs_mut().next();
        let program = program.ok_or("the object has no program")?;
        match walked(program.as_fd()) {
            Some(walked) if walked <= VERIFIED_MAX => Ok(Self(object)),
            _ => Err(format!(
                "the rule is too long: the verifier walks through more than {VERIFIED_MAX} instructions"
            )),
        }
    }

    /// Puts the rule into its place, which must be free.
    ///
    /// # Errors
    /// The kernel refuses, in words.
    pub fn attach(self, name: String) -> Result<Loaded, String> {
        let program = self.0.progs_mut().next();
        let program = program.ok_or("the object has no program")?;
        let link = program
            .attach()
            .map_err(|error| format!("the kernel does not attach it: {error}"))?;
        Ok(Loaded { name, _link: link })
    }
}

/// How many instructions of a program the verifier has walked through.
fn walked(program: BorrowedFd<'_>) -> Option<u32> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut length = size_of_val(&info) as u32;
    // SAFETY: a structure of integers, which the kernel fills up to its length. It holds no
    // pointer for the kernel to follow.
    let failed = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut length)
    };
    (failed == 0).then_some(info.verified_insns)
}

fn read(file: &File) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; OBJECT_MAX + 1];
    let mut length = 0;
    loop {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) => return Err(format!("the object cannot be read: {error}")),
        }
    }
    if length > OBJECT_MAX {
        return Err(format!("the object is longer than {OBJECT_MAX} bytes"));
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// The last lines of the verifier's log.
fn tail(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_told() {
        let text: String = (0..40).map(|line| format!("{line}\n")).collect();
        let mut log = text.into_bytes();
        log.extend([0, b'x']);
        assert!(tail(&log).starts_with("20\n"));
        assert!(tail(&log).ends_with("39"));
        assert_eq!(tail(b"\0"), "");
    }

    #[test]
    fn an_object_has_a_longest_length() {
        let file = File::open("/dev/zero").unwrap();
        assert!(read(&file).unwrap_err().contains("longer"));
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let bytes = read(&File::open(manifest).unwrap()).unwrap();
        assert_eq!(bytes, std::fs::read(manifest).unwrap());
    }
}
