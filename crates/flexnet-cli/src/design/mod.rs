// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet design`: what designs there are, which is on, another one, and designs in folders.
//!
//!   folder   design.toml: what a folder says
//!   compile  core_rule.c into objects for this process, for a check, and for BPF
//!   check    the rule under sanitizers, for BPF, and simulated
//!   live     a rule into the running scheduler, and out of it

mod check;
mod compile;
mod folder;
mod live;

pub(crate) use compile::rule_of;
pub(crate) use folder::Folder;

use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use flexnet::client;
use flexnet::design::{Choice, catalogue};
use std::io::ErrorKind;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// Switch to this design, NAME[:key=value,…], without a restart; without it, list all
    design: Option<Choice>,
    /// Path of the scheduler's control socket
    #[arg(long, global = true, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Write the folder of a new design, which works: design.toml and core_rule.c
    New {
        /// The design's name: at most 15 small letters, digits and hyphens
        name: String,
        /// The folder, which must not exist
        dir: PathBuf,
    },
    /// Compile the core rule of a folder, run it under sanitizers, and simulate the design
    Check {
        /// The folder, DIR[:key=value,…]
        folder: Folder,
        /// Keep the object for the kernel in this file, for a machine without a compiler
        #[arg(long, value_name = "FILE")]
        object: Option<PathBuf>,
    },
    /// Put the core rule of a folder into the running scheduler (root only)
    Load {
        /// The folder, DIR[:key=value,…]
        folder: Folder,
        /// Load this object, which `check --object` has kept, and compile nothing
        #[arg(long, value_name = "FILE")]
        object: Option<PathBuf>,
    },
    /// Take the loaded core rule out of the running scheduler (root only)
    Unload,
    /// Show the loaded core rule, and how many rounds it has decided (root only)
    List,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.action {
        Some(Action::New { name, dir }) => folder::create(name, dir),
        Some(Action::Check { folder, object }) => check::run(folder, object.as_deref()),
        Some(Action::Load { folder, object }) => {
            live::load(&options.socket, folder, object.as_deref())
        }
        Some(Action::Unload) => live::unload(&options.socket),
        Some(Action::List) => live::list(&options.socket),
        None => switch(options),
    }
}

fn switch(options: &Options) -> Result<()> {
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
