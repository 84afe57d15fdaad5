// SPDX-License-Identifier: GPL-2.0-only
//! Why the scheduler has left the kernel, as the kernel says it.
//!
//! Promises that it is in the log, and that a log without room ends nothing: the report of
//! scx_utils panics there. Leaves to others what follows from it (main.rs).

use crate::bpf_skel::BpfSkel;
use anyhow::{Result, bail};
use libbpf_rs::{MapCore, MapFlags};
use scx_utils::{ScxExitKind, UserExitInfo};

/// Says why it left, where it has.
///
/// # Errors
/// It left by a fault.
pub fn report(skel: &BpfSkel<'_>) -> Result<UserExitInfo> {
    let info = scx_utils::uei_read!(skel, uei);
    let Some(data) = &skel.maps.data_data else {
        return Ok(info);
    };
    // SAFETY: mapped as long as the object is; BPF writes it once.
    let exit = unsafe { (&raw const data.uei).read_volatile() };
    if exit.kind == 0 {
        return Ok(info);
    }
    let dump = &skel.maps.data_uei_dump;
    let dump = dump.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
    let dump = text(dump.ok().flatten().unwrap_or_default().into_iter());
    dump.lines().for_each(|line| log::warn!("{line}"));
    let bytes = |text: &[libc::c_char]| self::text(text.iter().map(|&byte| byte as u8));
    let why = why(&bytes(&exit.reason), &bytes(&exit.msg), info.exit_cpu());
    if exit.kind > ScxExitKind::UnregKern as i32 {
        bail!(why);
    }
    log::info!("{why}");
    Ok(info)
}

/// Up to the zero.
fn text(bytes: impl Iterator<Item = u8>) -> String {
    let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn why(reason: &str, message: &str, cpu: Option<i32>) -> String {
    let message = match message {
        "" => String::new(),
        _ => format!(" ({message})"),
    };
    let cpu = cpu.map(|cpu| format!(" on CPU {cpu}")).unwrap_or_default();
    format!("EXIT: {reason}{message}{cpu}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_one_line() {
        let reason = text(b"runtime error\0rest".iter().copied());
        assert_eq!(why(&reason, "", None), "EXIT: runtime error");
        let whole = why(&reason, "a stall", Some(3));
        assert_eq!(whole, "EXIT: runtime error (a stall) on CPU 3");
    }
}
