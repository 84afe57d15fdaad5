// SPDX-License-Identifier: GPL-2.0-only
//! Records for systemd's journal: by its socket, with fields. Where that is not there, or does not
//! take the record, they go to standard error, with a priority before each line.
//!
//! Promises that nobody waits for the journal. A record that has no room is lost and counted. The
//! next record that has room brings the count with it.

use super::standard_error::{StandardError, lines};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, Log, Metadata, Record};
use rustix::fs::fstat;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A crate that logs what is of no use to operators.
pub const LEFT_OUT: &str = "scx_stats";
/// Where the journal takes records with fields.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Is standard error the journal's? systemd says which file that is.
pub fn connected_to_journal() -> bool {
    let Ok(file) = fstat(io::stderr()) else {
        return false;
    };
    let name = format!("{}:{}", file.st_dev, file.st_ino);
    std::env::var_os("JOURNAL_STREAM").is_some_and(|stream| stream == *name)
}

pub struct Journal {
    /// Does not block.
    socket: Option<UnixDatagram>,
    path: PathBuf,
    /// Records without room that nobody has been told of.
    lost: AtomicU64,
}

impl Journal {
    /// With the journal's socket at this path, or without one.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let socket = UnixDatagram::unbound().ok();
        Self {
            socket: socket.filter(|socket| socket.set_nonblocking(true).is_ok()),
            path: path.as_ref().to_owned(),
            lost: AtomicU64::new(0),
        }
    }

    /// Errors: there is no room for it now, or nobody to write to.
    fn write(&self, record: &Record<'_>) -> io::Result<()> {
        let sent = match &self.socket {
            Some(socket) => socket.send_to(&datagram(record), &self.path),
            None => Err(ErrorKind::NotFound.into()),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
            Err(_) => {
                let text = lines(record.level(), &record.args().to_string());
                StandardError.write_all(text.as_bytes())
            }
        }
    }

    /// Tells how many records were lost, if that has room.
    fn report_lost(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let reported = self.write(
            &Record::builder()
                .level(Level::Warn)
                .target(module_path!())
                .args(format_args!(
                    "{lost} log lines were lost while the journal did not take them"
                ))
                .build(),
        );
        if reported.is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.target().starts_with(LEFT_OUT)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        self.report_lost();
        if self.write(record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// A record in the journal's native protocol.
fn datagram(record: &Record<'_>) -> Vec<u8> {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 5,
        Level::Debug => 6,
        Level::Trace => 7,
    };
    let mut fields = Fields(format!("PRIORITY={priority}\n").into_bytes());
    fields.add("MESSAGE", &record.args().to_string());
    fields.add("SYSLOG_IDENTIFIER", "scx_flexnet");
    fields.add("SYSLOG_PID", &std::process::id().to_string());
    fields.add("TARGET", record.target());
    for (name, value) in [
        ("CODE_FILE", record.file().map(str::to_owned)),
        ("CODE_LINE", record.line().map(|line| line.to_string())),
        ("CODE_MODULE", record.module_path().map(str::to_owned)),
    ] {
        if let Some(value) = value {
            fields.add(name, &value);
        }
    }
    // `visit_pair` does not fail.
    let _ = record.key_values().visit(&mut fields);
    fields.0
}

struct Fields(Vec<u8>);

impl Fields {
    /// With its length, so that the value may have any bytes.
    fn add(&mut self, name: &str, value: &str) {
        self.0.extend(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend((value.len() as u64).to_le_bytes());
        self.0.extend(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.add(&key.as_str().to_ascii_uppercase(), &value.to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    fn say(journal: &Journal, text: &str) {
        let record = Record::builder();
        journal.log(
            &{ record }
                .level(Level::Info)
                .args(format_args!("{text}"))
                .build(),
        );
    }

    #[test]
    fn nobody_waits_for_a_full_journal_and_losses_are_counted() {
        let folder = std::env::temp_dir().join(format!("flexnet-journal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let reader = UnixDatagram::bind(&path).unwrap();
        let journal = Arc::new(Journal::new(&path));
        let (writes, full) = (journal.clone(), mpsc::channel());
        thread::spawn(move || {
            let mut taken = 0;
            loop {
                say(&writes, "taken");
                if writes.lost.load(Ordering::Relaxed) > 0 {
                    break;
                }
                taken += 1;
            }
            say(&writes, "lost");
            say(&writes, "lost");
            full.0.send(taken).unwrap();
        });
        // A writer that waits sends nothing here.
        let taken = full.1.recv_timeout(Duration::from_secs(10)).unwrap();
        let mut buffer = [0; 4096];
        let mut next = || {
            let length = reader.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert!(taken > 0);
        for _ in 0..taken {
            assert!(next().contains("taken"));
        }
        say(&journal, "again");
        let report = next();
        let text = "3 log lines were lost while the journal did not take them\n";
        assert!(report.contains(text), "{report}");
        assert!(report.starts_with("PRIORITY=4\n"), "{report}");
        assert!(next().contains("again"));
        say(&journal, "once");
        assert!(next().contains("once"), "a loss is reported once");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
