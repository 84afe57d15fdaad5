// SPDX-License-Identifier: GPL-2.0-only
//! Shell completions and manual pages, from the same definitions as --help.

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use std::io::Write;
use std::path::PathBuf;

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

/// What a program's manual pages say beyond --help.
pub struct Related<'a> {
    /// Files, and what each one is for: on the pages of commands with an option `--socket`.
    pub files: &'a [(&'a str, &'a str)],
    /// Other pages, and their sections.
    pub pages: &'a [(&'a str, u8)],
}

/// Writes a manual page for `command` and one for each of its commands and their actions.
pub fn man(options: &Man, command: Command, related: &Related<'_>) -> Result<()> {
    let mut command = command.disable_help_subcommand(true);
    // Gives commands the names they are shown by: flexnet-sim.
    command.build();
    let main = command.get_name().to_owned();
    let write = |command: &Command, name: &str, related: &Related<'_>| {
        let path = options.directory.join(format!("{name}.1"));
        let text = page(command, "1", "User Commands", related);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write(&command, &main, related)?;
    let pages: Vec<_> = [(main.as_str(), 1)]
        .into_iter()
        .chain(related.pages.iter().copied())
        .collect();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let files = match sub
            .get_arguments()
            .any(|argument| argument.get_id() == "socket")
        {
            true => related.files,
            false => &[],
        };
        let related = Related {
            files,
            pages: &pages,
        };
        let name = format!("{main}-{}", sub.get_name());
        write(sub, &name, &related)?;
        for action in sub.get_subcommands() {
            write(action, &format!("{name}-{}", action.get_name()), &related)?;
        }
    }
    Ok(())
}

/// The manual page of a command: --help, then files and other pages.
pub fn page(command: &Command, section: &str, manual: &str, related: &Related<'_>) -> String {
    let page = clap_mangen::Man::new(command.clone())
        .section(section)
        .manual(manual);
    let mut text = Vec::new();
    // Into memory, which takes all.
    let _ = page.render(&mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    let plain = |text: &str| text.replace('\\', "\\e").replace('-', "\\-");
    if !related.files.is_empty() {
        text += ".SH FILES\n";
    }
    for (path, what) in related.files {
        text += &format!(".TP\n.I {}\n{}\n", plain(path), plain(what));
    }
    let pages: Vec<_> = related
        .pages
        .iter()
        .map(|(name, section)| format!(".BR {} ({section})", plain(name)))
        .collect();
    text + ".SH \"SEE ALSO\"\n" + &pages.join(",\n") + "\n"
}
