// SPDX-License-Identifier: GPL-2.0-only
//! Has kernel threads poll the network devices the operator names (`--napi`), and
//! makes them executors.
//!
//! Each device is a client without a process: it gets cores, shares and shrinks as
//! applications do. BPF knows its threads by what the kernel says of them
//! (bpf/napi.bpf.h) and takes in later ones by itself; here those that are there at
//! the start are shown to it, so that they count before their first packet.
//! Promises that the devices' own setting returns (device.rs).

use crate::control::Control;
use crate::device::{self, Setting, Settings};
use crate::kernel::{Adopted, Kernel};
use crate::{logging, netdev};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Of a device, in sysfs: may kernel threads poll it?
const FILE: &str = "threaded";

/// A device that kernel threads poll.
#[derive(Debug, Default)]
struct Device {
    /// Its number; one that was made anew has another.
    ifindex: u32,
    /// Its queues, receiving and sending.
    queues: usize,
    /// The clients it is.
    clients: Vec<u32>,
}

/// The devices that kernel threads poll.
#[derive(Debug)]
pub struct Napi {
    settings: Settings,
    /// As in the settings.
    devices: Vec<Device>,
}

impl Napi {
    /// Looks the devices up. `state` and `handed_over` as for [`Settings`].
    ///
    /// # Errors
    /// One of them is none, or the kernel cannot.
    pub fn find(devices: &[String], state: PathBuf, handed_over: bool) -> Result<Self> {
        let devices: BTreeSet<&String> = devices.iter().collect();
        let find = || devices.into_iter().map(|device| find(device)).collect();
        let settings = Settings::new(state, handed_over, find)?;
        let devices = settings.iter().map(|_| Device::default()).collect();
        Ok(Self { settings, devices })
    }

    /// Switches threaded NAPI on, where it is not.
    ///
    /// # Errors
    /// One of the devices cannot; none is changed then.
    pub fn switch_on(&mut self) -> Result<()> {
        if self.settings.is_empty() {
            return Ok(());
        }
        let state = self.settings.state().to_owned();
        let cannot = || format!("no threaded NAPI: cannot write {}", state.display());
        self.settings.save().with_context(cannot)?;
        self.settings.iter().try_for_each(switch_on)
    }

    /// Takes on what another daemon has left, and switches on the rest.
    ///
    /// # Errors
    /// As `switch_on`.
    pub fn take_on(&mut self) -> Result<()> {
        self.settings
            .take_on()
            .context("cannot write the devices' state")?;
        self.switch_on()
    }

    /// Leaves all as it is, for the daemon that takes over.
    pub fn leave(&mut self) {
        self.settings.leave();
    }

    /// Makes a client of each device, and its threads that client's executors.
    ///
    /// # Errors
    /// There is no room for another client, or the kernel refuses.
    pub fn adopt(&mut self, kernel: &Kernel<'_>, control: &mut Control) -> Result<()> {
        for (found, device) in self.settings.iter().zip(&mut self.devices) {
            device.queues = queues(&found.device);
            device.ifindex = ifindex(&found.device)
                .with_context(|| format!("--napi {}: the device is gone", found.device))?;
            device.start(&found.device, kernel, control)?;
        }
        self.take_in(kernel, control)
    }

    /// Once a second: takes in queues that were added, and a device that was
    /// deleted and made anew.
    pub fn watch(&mut self, kernel: &Kernel<'_>, control: &mut Control) -> Result<()> {
        let mut more = false;
        for at in 0..self.devices.len() {
            let Some(found) = self.settings.iter().nth(at) else {
                break;
            };
            let (name, device) = (found.device.clone(), &mut self.devices[at]);
            // Gone: it may come back.
            let Some(ifindex) = ifindex(&name) else {
                continue;
            };
            let queues = queues(&name);
            if ifindex != device.ifindex {
                let anew = find(&name)?;
                // Not yet up, most likely: the next sample tries again.
                let Ok(()) = switch_on(&anew) else {
                    continue;
                };
                log::info!("{name} is there anew");
                for id in device.clients.drain(..) {
                    control.end_device(kernel, id);
                }
                device.ifindex = ifindex;
                device.start(&name, kernel, control)?;
                self.settings
                    .replace(at, anew)
                    .context("cannot write the devices' state")?;
            } else if queues == device.queues {
                continue;
            }
            self.devices[at].queues = queues;
            more = true;
        }
        match more {
            true => self.take_in(kernel, control),
            false => Ok(()),
        }
    }

    /// Shows BPF all threads that may be ours.
    fn take_in(&mut self, kernel: &Kernel<'_>, control: &mut Control) -> Result<()> {
        if self.devices.is_empty() {
            return Ok(());
        }
        for tid in candidates()? {
            // A client has room for 16: a device of more queues is several.
            while let Adopted::NoRoom(index) = kernel.adopt_napi_thread(tid)? {
                let mut both = self.settings.iter().zip(&mut self.devices);
                let Some((found, device)) = both.find(|(_, device)| device.ifindex == index) else {
                    break;
                };
                device.start(&found.device, kernel, control)?;
            }
        }
        Ok(())
    }
}

impl Device {
    fn start(&mut self, name: &str, kernel: &Kernel<'_>, control: &mut Control) -> Result<()> {
        self.clients
            .push(control.start_device(kernel, name, self.ifindex)?);
        Ok(())
    }
}

/// Looks for what a start would refuse, and changes nothing. The kernel shows the NAPI of devices
/// that are up: of another one it warns.
///
/// # Errors
/// As [`Napi::find`], or it has no NAPI.
pub fn check(device: &str) -> Result<()> {
    /// ARPHRD_LOOPBACK of include/uapi/linux/if_arp.h.
    const LOOPBACK: &str = "772";
    /// IFF_UP of include/uapi/linux/if.h.
    const UP: u32 = 1;
    find(device)?;
    let read = |file: &str| fs::read_to_string(device::directory(device).join(file));
    ensure!(
        !read("type").is_ok_and(|kind| kind.trim() == LOOPBACK),
        "--napi {device}: it has no NAPI: loopback never has one"
    );
    let flags = read("flags").unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
    if flags.is_ok_and(|flags| flags & UP == 0) {
        logging::warn(&format_args!(
            "--napi {device}: it is down, so nobody knows whether it has a NAPI"
        ));
        return Ok(());
    }
    match ifindex(device).map(netdev::has_napi) {
        Some(Ok(false)) => bail!(no_napi(device)),
        Some(Err(errno)) => logging::warn(&format_args!(
            "--napi {device}: the kernel does not say whether it has a NAPI: {errno}"
        )),
        _ => {}
    }
    Ok(())
}

fn is_without_napi(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

fn no_napi(device: &str) -> String {
    format!(
        "--napi {device}: it has no NAPI (a veth has it while it is up and GRO is on: \
         ethtool -K {device} gro on)"
    )
}

/// Has kernel threads poll a device, where they do not.
fn switch_on(found: &Setting) -> Result<()> {
    if found.value != "0" {
        return Ok(());
    }
    match found.write("1") {
        Err(error) if is_without_napi(&error) => bail!(no_napi(&found.device)),
        written => written
            .with_context(|| format!("--napi {}: cannot switch threaded NAPI on", found.device)),
    }
}

/// Inode of this process's network namespace: devices are known by number, and
/// each namespace has numbers of its own.
pub fn namespace() -> Result<u32> {
    let file = fs::metadata("/proc/self/ns/net").context("cannot read the network namespace")?;
    Ok(file.ino() as u32)
}

fn find(device: &str) -> Result<Setting> {
    ensure!(device::is_name(device), "--napi {device}: no device's name");
    ensure!(
        device::directory(device).is_dir(),
        "--napi {device}: there is no such device"
    );
    Setting::find(device, FILE.to_owned())
        .with_context(|| format!("--napi {device}: the kernel has no threaded NAPI"))
}

fn ifindex(device: &str) -> Option<u32> {
    let text = fs::read_to_string(device::directory(device).join("ifindex"));
    text.ok()?.trim().parse().ok()
}

fn queues(device: &str) -> usize {
    fs::read_dir(device::directory(device).join("queues")).map_or(0, Iterator::count)
}

/// Threads that may be a device's: kernel threads are processes here. BPF knows
/// better than their name, and refuses all others.
fn candidates() -> Result<Vec<i32>> {
    let processes = fs::read_dir("/proc").context("cannot read /proc")?;
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let is_named = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("napi/"))
    };
    Ok(processes
        .map_while(Result::ok)
        .filter_map(pid)
        .filter(is_named)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_would_refuse_is_told_before() {
        let refused = |device: &str| check(device).unwrap_err().to_string();
        assert!(refused("lo").contains("it has no NAPI"));
        assert!(refused("no-such").contains("there is no such device"));
        assert!(refused("../lo").contains("no device's name"));
    }
}
