// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet reload`: the daemon reads its configuration file anew.

use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use flexnet::client::{self, Reloaded};
use std::io::ErrorKind;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match client::reload(&options.socket) {
        Ok(Reloaded::Done(text)) => println!("{text}"),
        Ok(Reloaded::Mistakes(text)) => bail!("nothing changed: the file has mistakes\n{text}"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!("only root may reload the configuration: try with sudo")
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "cannot reload the configuration at {} (does scx_flexnet run?)",
                    options.socket.display()
                )
            });
        }
    }
    Ok(())
}
