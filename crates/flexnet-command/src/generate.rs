// SPDX-License-Identifier: GPL-2.0-only
//! Shell completions and manual pages, from the same definitions as --help.

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
/// Arguments of `completions`.
pub struct Completions {
    /// The shell; its completions go to standard output
    shell: Shell,
}

#[derive(clap::Args)]
/// Arguments of `man`.
pub struct Man {
    /// Directory into which the pages are written: section 1, one page per command
    directory: PathBuf,
}

/// Prints the completions of `command`, which goes by its own name.
pub fn completions(options: &Completions, mut command: Command) -> Result<()> {
    // Into memory first: it panics where it cannot write.
    let mut text = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(options.shell, &mut command, name, &mut text);
    std::io::stdout().write_all(&text).context("cannot write")
}

/// Writes a manual page for `command` and one for each of its commands.
pub fn man(options: &Man, mut command: Command) -> Result<()> {
    // Gives commands the names they are shown by: flexnet-sim.
    command.build();
    let name = command.get_name().to_owned();
    page(&command, &name, &options.directory)?;
    for sub in command.get_subcommands() {
        if !sub.is_hide_set() && sub.get_name() != "help" {
            page(
                sub,
                &format!("{name}-{}", sub.get_name()),
                &options.directory,
            )?;
        }
    }
    Ok(())
}

fn page(command: &Command, name: &str, directory: &Path) -> Result<()> {
    let path = directory.join(format!("{name}.1"));
    let failed = || format!("cannot write {}", path.display());
    let mut file = File::create(&path).with_context(failed)?;
    let page = clap_mangen::Man::new(command.clone()).manual("User Commands");
    page.render(&mut file).with_context(failed)
}
