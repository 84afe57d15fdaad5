// SPDX-License-Identifier: GPL-2.0-only
//! Settings of network devices (files of /sys/class/net) that the daemon changes
//! for as long as it runs.
//!
//! Promises that the values found are written back, by this daemon or, after a
//! crash, by the next: they are on disk before the first change. What to write,
//! and when, is steer.rs's and napi.rs's.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const DEVICES: &str = "/sys/class/net";

/// A file of a device and the value found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub device: String,
    /// Below the device's directory.
    pub file: String,
    pub value: String,
}

impl Setting {
    /// Reads the value that holds now.
    ///
    /// # Errors
    /// There is no such file.
    pub fn find(device: &str, file: String) -> io::Result<Self> {
        let value = fs::read_to_string(directory(device).join(&file))?;
        Ok(Self {
            device: device.to_owned(),
            file,
            value: value.trim().to_owned(),
        })
    }

    /// Writes another value, or the one that was found.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, value: &str) -> io::Result<()> {
        fs::write(directory(&self.device).join(&self.file), value)
    }

    /// Writes the value that was found, where another holds now.
    fn write_back(&self) {
        let now = Self::find(&self.device, self.file.clone());
        if !now.is_ok_and(|now| now == *self) {
            self.try_write(&self.value);
        }
    }

    /// As `write`, in the log where it fails.
    pub fn try_write(&self, value: &str) {
        if let Err(error) = self.write(value) {
            let path = directory(&self.device).join(&self.file);
            log::warn!("cannot write {}: {error}", path.display());
        }
    }
}

/// Settings that are changed together, and the file that remembers them.
#[derive(Debug)]
pub struct Settings {
    found: Vec<Setting>,
    state: PathBuf,
    saved: bool,
    /// Another daemon has changed them, and what it found is found here.
    taken: bool,
}

impl Settings {
    /// `state`: where found values are kept. What a crashed daemon left there is
    /// written back first, so that what `find` finds is the operator's; unless a
    /// running one is about to hand it over ([`Settings::take_on`]).
    pub fn new<E>(
        state: PathBuf,
        handed_over: bool,
        find: impl FnOnce() -> Result<Vec<Setting>, E>,
    ) -> Result<Self, E> {
        if !handed_over {
            restore_left(&state);
        }
        Ok(Self {
            found: find()?,
            state,
            saved: false,
            taken: false,
        })
    }

    /// Leaves all as it is, for the daemon that takes over.
    pub fn leave(&mut self) {
        (self.saved, self.taken) = (false, false);
    }

    /// Takes on what another daemon has left: what it found is what was found of
    /// those that are ours, too, and the rest is written back. Is there any?
    ///
    /// # Errors
    /// The file's, which is as the other daemon left it then.
    pub fn take_on(&mut self) -> io::Result<bool> {
        let left = left_in(&self.state);
        for left in left.iter().cloned() {
            let mut found = self.found.iter_mut();
            match found.find(|found| found.device == left.device && found.file == left.file) {
                Some(found) => {
                    found.value = left.value;
                    self.taken = true;
                }
                None => left.write_back(),
            }
        }
        match self.taken {
            true if left == self.found => self.saved = true,
            true => self.save()?,
            false => drop(fs::remove_file(&self.state)),
        }
        Ok(self.taken)
    }

    /// The files, with the values found.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.found.iter()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Puts the found values on disk: before the first change.
    ///
    /// # Errors
    /// The file's.
    pub fn save(&mut self) -> io::Result<()> {
        // A daemon that goes on where it could not write since has said so before.
        if !self.saved && left_in(&self.state) != self.found {
            self.remember()?;
        }
        self.saved = true;
        Ok(())
    }

    fn remember(&self) -> io::Result<()> {
        let line = |found: &Setting| format!("{} {} {}\n", found.device, found.file, found.value);
        let text: String = self.found.iter().map(line).collect();
        // On a full disk the file stays as it was.
        let new = self.state.with_extension("new");
        let _ = fs::remove_file(&new);
        let written = fs::File::create_new(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&new, &self.state));
        written.inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Takes another for the one at this place: its device was made anew.
    ///
    /// # Errors
    /// The file's.
    pub fn replace(&mut self, at: usize, found: Setting) -> io::Result<()> {
        if let Some(place) = self.found.get_mut(at) {
            *place = found;
        }
        match self.saved {
            true => self.remember(),
            false => Ok(()),
        }
    }

    /// Writes the found values back.
    pub fn restore(&mut self) {
        if self.saved || self.taken {
            self.found.iter().for_each(Setting::write_back);
            let _ = fs::remove_file(&self.state);
            (self.saved, self.taken) = (false, false);
        }
    }

    /// Where the found values are kept.
    pub fn state(&self) -> &Path {
        &self.state
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Where the kernel has a device's files.
pub fn directory(device: &str) -> PathBuf {
    Path::new(DEVICES).join(device)
}

/// Can a device have this name?
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\0', ' ']) && name != "." && name != ".."
}

/// What a daemon before this one has found and not written back.
fn left_in(state: &Path) -> Vec<Setting> {
    // Somebody else's file beside a socket in a public place is no word of ours.
    let ours = fs::symlink_metadata(state)
        .is_ok_and(|file| file.is_file() && file.uid() == rustix::process::geteuid().as_raw());
    if !ours {
        return Vec::new();
    }
    let left = fs::read_to_string(state).unwrap_or_default();
    left.lines().filter_map(parse_left).collect()
}

fn restore_left(state: &Path) {
    let left = left_in(state);
    if left.is_empty() {
        return;
    }
    for found in left {
        log::info!("{} {}: restored after a crash", found.device, found.file);
        found.write_back();
    }
    let _ = fs::remove_file(state);
}

fn parse_left(line: &str) -> Option<Setting> {
    let mut words = line.split(' ').map(str::to_owned);
    let (device, file, value) = (words.next()?, words.next()?, words.next()?);
    let good = words.next().is_none()
        && is_name(&device)
        && is_ours(&file)
        && value.chars().all(|c| c.is_ascii_hexdigit() || c == ',');
    good.then_some(Setting {
        device,
        file,
        value,
    })
}

/// A file the daemon may have changed.
fn is_ours(file: &str) -> bool {
    let queue = file
        .strip_prefix("queues/rx-")
        .and_then(|rest| rest.strip_suffix("/rps_cpus"));
    file == "threaded"
        || queue.is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_state_names_files_of_ours_only() {
        let found = parse_left("eth0 queues/rx-0/rps_cpus ff,00000000").unwrap();
        assert_eq!(
            (found.device.as_str(), found.value.as_str()),
            ("eth0", "ff,00000000")
        );
        assert_eq!(parse_left("eth0 threaded 0").unwrap().file, "threaded");
        for line in [
            "",
            "eth0 threaded",
            "eth0 queues/rx-0/rps_cpus zz",
            "../x threaded 1",
            ".. threaded 1",
            "eth0 queues/rx-/rps_cpus 1",
            "eth0 queues/rx-../rps_cpus 1",
            "eth0 ../threaded 1",
            "eth0 mtu 1",
            "eth0 queues/tx-0/rps_cpus 1",
            "eth0 threaded 1 2",
        ] {
            assert_eq!(parse_left(line), None, "{line}");
        }
    }

    #[test]
    fn a_state_that_cannot_be_written_stays_as_it_was() {
        let place = std::env::temp_dir().join(format!("flexnet-state-{}", std::process::id()));
        let state = place.join("it.state");
        // In the way of the file that is to replace it.
        fs::create_dir_all(place.join("it.new")).unwrap();
        let setting = |device: &str, value: &str| Setting {
            device: device.to_owned(),
            file: "threaded".to_owned(),
            value: value.to_owned(),
        };
        fs::write(&state, "no-device-0 threaded 0\n").unwrap();
        let found = |list: Vec<Setting>| move || Ok::<_, io::Error>(list);
        let find = found(vec![
            setting("no-device-0", "1"),
            setting("no-device-1", "1"),
        ]);
        let mut settings = Settings::new(state.clone(), true, find).unwrap();
        assert!(settings.take_on().is_err());
        assert_eq!(settings.found[0].value, "0");
        assert_eq!(left_in(&state), [setting("no-device-0", "0")]);
        // It is given back all the same.
        drop(settings);
        assert!(!state.exists());
        // Where nothing is to be written, nothing can fail.
        fs::write(&state, "no-device-0 threaded 0\n").unwrap();
        let find = found(vec![setting("no-device-0", "1")]);
        let mut settings = Settings::new(state.clone(), true, find).unwrap();
        assert!(settings.take_on().unwrap());
        drop(settings);
        assert!(!state.exists());
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn nothing_is_remembered_before_the_first_change() {
        let state = std::env::temp_dir().join(format!("flexnet-settings-{}", std::process::id()));
        // No such device: writing back warns and goes on.
        let found = Setting {
            device: "no-such-device".to_owned(),
            file: "threaded".to_owned(),
            value: "0".to_owned(),
        };
        let mut settings = Settings::new(state.clone(), false, || {
            Ok::<_, io::Error>(vec![found.clone()])
        })
        .unwrap();
        assert!(!state.exists());
        settings.save().unwrap();
        let text = fs::read_to_string(&state).unwrap();
        assert_eq!(parse_left(text.trim()).as_ref(), Some(&found));
        // Another takes over, and what it finds by then is not the operator's.
        settings.leave();
        drop(settings);
        let now = Setting {
            value: "1".to_owned(),
            ..found.clone()
        };
        let find = || Ok::<_, io::Error>(vec![now]);
        let mut successor = Settings::new(state.clone(), true, find).unwrap();
        assert!(successor.take_on().unwrap());
        assert_eq!(successor.iter().next(), Some(&found));
        drop(successor);
        assert!(!state.exists());
        // One that a crash left is taken up before anything is looked for.
        fs::write(&state, text).unwrap();
        let refused = Settings::new(state.clone(), false, || Err(()));
        assert!(refused.is_err() && !state.exists());
    }
}
