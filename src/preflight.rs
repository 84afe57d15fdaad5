// SPDX-License-Identifier: GPL-2.0-only
//! What must hold before anything is loaded, each failure one line that says
//! what to do. Reads only; that the kernel accepts the scheduler is found out
//! by loading it (scheduler.rs).

use std::path::Path;

const SCHED_EXT: &str = "/sys/kernel/sched_ext";

/// Checks kernel, privilege and that nobody else schedules, or (`replace`) only one
/// of ours.
pub fn check(replace: bool) -> Result<(), String> {
    // Else it would look as if the kernel had no sched_ext.
    if !Path::new("/sys/kernel").is_dir() {
        return Err("/sys is not mounted: it says whether the kernel has sched_ext".to_owned());
    }
    verdict(
        replace,
        Path::new(SCHED_EXT).is_dir(),
        &kernel_release(),
        privilege(),
        &state(),
        &ops(),
    )
}

/// What this process lacks to load a BPF scheduler.
fn privilege() -> Result<(), String> {
    let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
    privilege_of(
        rustix::process::geteuid().is_root(),
        &text("uid_map").unwrap_or_default(),
        &text("status").unwrap_or_default(),
    )
}

/// The same, by /proc/PID/uid_map and /proc/PID/status; what cannot be read is not held against it.
fn privilege_of(root: bool, uid_map: &str, status: &str) -> Result<(), String> {
    /// Numbers of include/uapi/linux/capability.h. The last one has the others in it.
    const NEEDED: [(&str, u32); 2] = [("CAP_PERFMON", 38), ("CAP_BPF", 39)];
    const CAP_SYS_ADMIN: u32 = 21;
    if !root {
        return Err("must run as root: it loads a BPF scheduler".to_owned());
    }
    let initial = ["0", "0", "4294967295"];
    if !uid_map.is_empty() && !uid_map.split_whitespace().eq(initial) {
        return Err("must run as the machine's root: this is root of a user namespace".to_owned());
    }
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let has = |number: u32| effective.is_none_or(|bits| bits >> number & 1 == 1);
    let lacks = NEEDED.into_iter().filter(|&(_, number)| !has(number));
    let lacks: Vec<&str> = lacks.map(|(name, _)| name).collect();
    if has(CAP_SYS_ADMIN) || lacks.is_empty() {
        return Ok(());
    }
    Err(format!(
        "root has no {} here: loading a BPF scheduler needs it",
        lacks.join(" and no ")
    ))
}

/// `/sys/kernel/sched_ext/state`: `enabled` while some scheduler is attached.
pub fn state() -> String {
    read("state")
}

/// Name of the attached scheduler, empty when there is none.
pub fn ops() -> String {
    read("root/ops")
}

/// Is a scx_flexnet attached?
pub fn ours_runs() -> bool {
    state() == "enabled" && is_ours(&ops())
}

fn is_ours(ops: &str) -> bool {
    ops.starts_with("flexnet")
}

/// The running kernel's release, like `6.18.15`.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Major and minor number of a release.
pub fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(SCHED_EXT).join(name))
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn verdict(
    replace: bool,
    sched_ext: bool,
    release: &str,
    privilege: Result<(), String>,
    state: &str,
    ops: &str,
) -> Result<(), String> {
    if !sched_ext {
        return Err(format!(
            "kernel {release} has no sched_ext: 6.12 or newer with CONFIG_SCHED_CLASS_EXT \
             is needed (tested: 6.16, 6.18, 7.3); ci/demo shows it in a virtual machine"
        ));
    }
    privilege?;
    if state == "enabled" && is_ours(ops) && !replace {
        return Err(
            "scx_flexnet runs already: use --replace to take over from it, without a stop between"
                .to_owned(),
        );
    }
    if state == "enabled" && !is_ours(ops) {
        let ops = if ops.is_empty() { "another" } else { ops };
        return Err(format!(
            "the scheduler {ops} is attached: stop it first, only one can be"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_one_line_that_names_its_cause() {
        let verdict = |sched_ext, release, root, state, ops| {
            let privilege = privilege_of(root, "", "");
            super::verdict(false, sched_ext, release, privilege, state, ops)
        };
        let error = verdict(false, "6.1.0-debian", true, "", "").unwrap_err();
        assert!(error.contains("6.1.0-debian") && error.contains("ci/demo"));
        let error = verdict(true, "6.18.15", false, "disabled", "").unwrap_err();
        assert!(error.contains("root"));
        let error = verdict(true, "6.18.15", true, "enabled", "bpfland_1.1.4").unwrap_err();
        assert!(error.contains("bpfland_1.1.4") && !error.contains('\n'));
        assert_eq!(verdict(true, "6.18.15", true, "disabled", ""), Ok(()));
        let error = verdict(true, "6.18.15", true, "enabled", "flexnet_1.0").unwrap_err();
        assert!(error.contains("--replace"));
        let replace = |ops| super::verdict(true, true, "6.18.15", Ok(()), "enabled", ops);
        assert_eq!(replace("flexnet_1.0"), Ok(()));
        assert!(replace("bpfland_1.1.4").unwrap_err().contains("stop it"));
    }

    #[test]
    fn what_root_lacks_is_named() {
        let machine = "         0          0 4294967295\n";
        let lacks = |uid_map: &str, status: &str| {
            privilege_of(true, uid_map, status)
                .err()
                .unwrap_or_default()
        };
        assert_eq!(lacks(machine, "CapEff:\t000000c000000000\n"), "");
        // CAP_SYS_ADMIN has them in it.
        assert_eq!(lacks(machine, "CapEff:\t0000000000200000\n"), "");
        let none = lacks(machine, "CapEff:\t0000000000000000\n");
        assert!(none.contains("no CAP_PERFMON and no CAP_BPF"), "{none}");
        let one = lacks(machine, "CapEff:\t0000004000000000\n");
        assert!(one.contains("root has no CAP_BPF here"), "{one}");
        let all = "CapEff:\t000001ffffffffff\n";
        assert!(lacks("0 1000 1\n", all).contains("user namespace"));
        assert_eq!(lacks("", ""), "");
    }

    #[test]
    fn releases_have_two_numbers() {
        assert_eq!(version("6.18.15+deb13-cloud-amd64"), (6, 18));
        assert_eq!(version("7.3-rc1"), (7, 3));
        assert_eq!(version("strange"), (0, 0));
    }
}
