// SPDX-License-Identifier: GPL-2.0-only
//! `flexnet design load`, `unload` and `list`: a core rule in the running scheduler.

use super::compile::Workshop;
use super::folder::Folder;
use anyhow::{Context, Result, bail};
use flexnet::client::{self, CoreRuleObject, Reloaded};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;

pub(super) fn load(socket: &Path, folder: &Folder, object: Option<&Path>) -> Result<()> {
    let workshop = Workshop::new()?;
    let path = match object {
        Some(path) => path.to_owned(),
        None => workshop.bpf(folder)?,
    };
    let object = File::open(&path).with_context(|| path.display().to_string())?;
    let rule = CoreRuleObject {
        name: &folder.name,
        in_stack: &folder.in_stack,
        parameters: folder.parameters,
        object: object.as_fd(),
    };
    match answer(socket, client::load_core_rule(socket, &rule))? {
        Reloaded::Done(text) => println!("{text}"),
        Reloaded::Mistakes(text) => {
            bail!("the rule is not loaded, and what was on stays on\n{text}")
        }
    }
    Ok(())
}

pub(super) fn unload(socket: &Path) -> Result<()> {
    match answer(socket, client::unload_core_rule(socket))? {
        Reloaded::Done(text) | Reloaded::Mistakes(text) => println!("{text}"),
    }
    Ok(())
}

pub(super) fn list(socket: &Path) -> Result<()> {
    match answer(socket, client::loaded_core_rule(socket))? {
        Reloaded::Done(text) | Reloaded::Mistakes(text) => println!("{text}"),
    }
    Ok(())
}

fn answer(socket: &Path, answered: io::Result<Reloaded>) -> Result<Reloaded> {
    match answered {
        Ok(answer) => Ok(answer),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!("only root may load core rules: try with sudo")
        }
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot reach the scheduler at {} (does scx_flexnet run?)",
                socket.display()
            )
        }),
    }
}
