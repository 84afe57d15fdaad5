// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet design`: what designs there are, which is on, and another one.

use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use flexnet::client;
use flexnet::design::{Choice, catalogue};
use std::io::ErrorKind;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Switch to this design, NAME[:key=value,…], without a restart; without it, list all
    design: Option<Choice>,
    /// Path of the scheduler's control socket
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let Some(choice) = &options.design else {
        match client::design(&options.socket, None) {
            Ok(on) => println!("{on} is on\n"),
            Err(_) => println!("no scheduler runs\n"),
        }
        print!("{}", catalogue());
        return Ok(());
    };
    match client::design(&options.socket, Some(choice)) {
        Ok(on) => println!("{on} is on"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!("only root may switch the design: try with sudo")
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "cannot switch the design at {} (does scx_flexnet run?)",
                    options.socket.display()
                )
            });
        }
    }
    Ok(())
}
