// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet run [--class CLASS] [--offload[=MODE]] -- COMMAND`: a scheduling
//! class from the scheduler, and the preload library in the command's
//! environment.

use crate::program::obstacle;
use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use flexnet_command::ClassName;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// The preload library's file.
const LIBRARY: &str = "libflexnet_preload.so";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Mode {
    /// Executors do every send that can be queued
    Always,
    /// Executors do sends where that is measured to pay
    Adaptive,
    /// As off, and the log says so
    Strict,
    /// The program does all sends itself
    Off,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Adaptive => "adaptive",
            Self::Strict => "strict",
            Self::Off => "off",
        }
    }
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["class", "offload"]))]
pub(crate) struct Options {
    /// Scheduling class of the command; its children inherit it
    #[arg(long, value_enum)]
    class: Option<ClassName>,
    /// Executors do the command's sends, by the preload library [without MODE: adaptive]
    #[arg(long, value_enum, value_name = "MODE", num_args = 0..=1, require_equals = true,
        default_missing_value = "adaptive")]
    offload: Option<Mode>,
    /// Say nothing of what is set for the command
    #[arg(long, short)]
    quiet: bool,
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let Some((program, arguments)) = options.command.split_first() else {
        bail!("no command");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(why) = options.offload.and_then(|_| obstacle(program)) {
        if !options.quiet {
            let program = program.display();
            eprintln!("flexnet: {program} runs without the preload library: {why}");
        }
    } else if let Some(mode) = options.offload {
        for (name, value) in offload(mode, options)? {
            if !options.quiet {
                eprintln!("flexnet: {name}={}", value.display());
            }
            command.env(name, value);
        }
    }
    if let Some(class) = options.class {
        set_class(class, options)?;
    }
    inherit_signals(&mut command);
    let error = command.exec();
    eprintln!("flexnet: cannot run {}: {error}", program.display());
    std::process::exit(match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT_RUN,
    })
}

/// As shells and env(1) say it: there is no such command; it cannot be run.
const NOT_FOUND: i32 = 127;
const CANNOT_RUN: i32 = 126;

/// Was SIGPIPE ignored when this program started? Rust's runtime ignores it in any case.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_signals() {
    // SAFETY: zeros are a valid action, which the call overwrites.
    let ignored = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    };
    PIPE_IGNORED.store(ignored, Ordering::Relaxed);
}

#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_SIGNALS: extern "C" fn() = note_signals;

/// The command gets the signals that were ignored or blocked here, as by env(1): the
/// standard library would set them back.
fn inherit_signals(command: &mut Command) {
    // SAFETY: plain calls on a local set, which is written before it is read.
    let blocked = unsafe {
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &mut blocked);
        blocked
    };
    let set = move || {
        // SAFETY: plain calls, in the thread that is about to exec.
        unsafe {
            if PIPE_IGNORED.load(Ordering::Relaxed) {
                libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &blocked, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: it allocates nothing, and there is no other thread's state it needs.
    unsafe { command.pre_exec(set) };
}

fn set_class(class: ClassName, options: &Options) -> Result<()> {
    flexnet::client::set_class_of_self(&options.socket, class.class()).with_context(|| {
        format!(
            "cannot set the class through the scheduler at {} (does scx_flexnet run?)",
            options.socket.display()
        )
    })
}

/// What is set in the command's environment.
fn offload(mode: Mode, options: &Options) -> Result<Vec<(&'static str, OsString)>> {
    let named = env::var_os("FLEXNET_PRELOAD").map(PathBuf::from);
    let own = env::current_exe().ok();
    let library = library(named, own.as_deref())?;
    if !can_be_preloaded(&library) {
        bail!(
            "the loader takes no path with a space or a colon ({}): name another in FLEXNET_PRELOAD",
            library.display()
        );
    }
    let mut set = vec![
        (
            "LD_PRELOAD",
            appended(env::var_os("LD_PRELOAD"), library.as_os_str()),
        ),
        ("FLEXNET_OFFLOAD", mode.name().into()),
    ];
    if options.socket.as_os_str() != SOCKET_PATH {
        set.push(("FLEXNET_SOCKET", options.socket.clone().into()));
    }
    if options.class == Some(ClassName::Latency) {
        set.push(("FLEXNET_FLOW_CLASS", "latency".into()));
    }
    Ok(set)
}

/// The library's file: the one named, one next to the tool or in ../lib, or
/// (by its name alone) one on the loader's path.
fn library(named: Option<PathBuf>, tool: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        if !named.is_file() {
            bail!(
                "there is no preload library at {} (FLEXNET_PRELOAD)",
                named.display()
            );
        }
        // Relative to where the command is started, not to where it goes.
        return std::path::absolute(&named)
            .with_context(|| format!("there is no preload library at {}", named.display()));
    }
    if let Some(found) = tool.and_then(near) {
        return Ok(found);
    }
    if !is_on_loaders_path() {
        bail!(
            "there is no {LIBRARY} next to flexnet, in ../lib or on the loader's path; \
             build it (cargo build --release -p flexnet-preload) or name it in FLEXNET_PRELOAD"
        );
    }
    Ok(LIBRARY.into())
}

/// LD_PRELOAD has spaces and colons between its files, and no way to write one in a name.
fn can_be_preloaded(library: &Path) -> bool {
    !library
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b" :".contains(byte))
}

/// Next to the tool, or in ../lib.
fn near(tool: &Path) -> Option<PathBuf> {
    let folder = tool.parent()?;
    let lib = folder.parent().map(|prefix| prefix.join("lib"));
    let files = [Some(folder), lib.as_deref()];
    let mut files = files
        .into_iter()
        .flatten()
        .map(|folder| folder.join(LIBRARY));
    files.find(|file| file.is_file())
}

/// A missing one would only be a warning of the loader, in each command.
fn is_on_loaders_path() -> bool {
    let configured = ["/sbin/ldconfig", "/usr/sbin/ldconfig", "ldconfig"];
    let cached = configured.iter().find_map(|ldconfig| {
        let output = Command::new(ldconfig).arg("-p").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).contains(LIBRARY))
    });
    let paths = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    cached == Some(true) || env::split_paths(&paths).any(|path| path.join(LIBRARY).is_file())
}

/// Behind what is there already, which goes first.
fn appended(before: Option<OsString>, library: &OsStr) -> OsString {
    match before.filter(|before| !before.is_empty()) {
        None => library.to_owned(),
        Some(mut before) => {
            before.push(":");
            before.push(library);
            before
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_found_near_the_tool() {
        let prefix = env::temp_dir().join(format!("flexnet-run-{}", std::process::id()));
        let (bin, lib) = (prefix.join("bin"), prefix.join("lib"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&lib).unwrap();
        let tool = bin.join("flexnet");
        assert_eq!(near(&tool), None);
        for folder in [&lib, &bin] {
            let file = folder.join(LIBRARY);
            std::fs::write(&file, "").unwrap();
            assert_eq!(library(None, Some(&tool)).unwrap(), file);
        }
        assert!(library(Some(prefix.join("none.so")), Some(&tool)).is_err());
        assert_eq!(
            library(Some(lib.join(LIBRARY)), None).unwrap(),
            lib.join(LIBRARY)
        );
        std::fs::remove_dir_all(&prefix).unwrap();
    }

    #[test]
    fn a_path_that_the_loader_would_cut_is_refused() {
        for (path, can) in [
            ("/opt/x.so", true),
            ("/opt/a b/x.so", false),
            ("/a:b/x.so", false),
        ] {
            assert_eq!(can_be_preloaded(Path::new(path)), can, "{path}");
        }
    }

    #[test]
    fn other_preload_libraries_stay_first() {
        let library = OsStr::new("/x.so");
        assert_eq!(appended(None, library), "/x.so");
        assert_eq!(appended(Some("".into()), library), "/x.so");
        assert_eq!(appended(Some("/a.so".into()), library), "/a.so:/x.so");
    }
}
