// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet run --class CLASS -- COMMAND`.

use anyhow::{Context, Result, bail};
use flexnet::abi::{Class, SOCKET_PATH};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ClassName {
    /// Goes before normal and batch tasks, within a budget
    Latency,
    /// As everything else
    Normal,
    /// Has the least share
    Batch,
}

impl ClassName {
    pub(crate) fn class(self) -> Class {
        match self {
            Self::Latency => Class::Latency,
            Self::Normal => Class::Normal,
            Self::Batch => Class::Batch,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The class
    #[arg(long, value_enum)]
    class: ClassName,
    /// The scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    flexnet::client::set_class_of_self(&options.socket, options.class.class()).with_context(
        || {
            format!(
                "no class from the scheduler at {} (does scx_flexnet run?)",
                options.socket.display()
            )
        },
    )?;
    let Some((program, arguments)) = options.command.split_first() else {
        bail!("no command");
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
