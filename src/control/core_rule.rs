// SPDX-License-Identifier: GPL-2.0-only
//! A core rule of a design in a folder: loaded, unloaded, told of.
//!
//! Promises that the built-in rule decides whenever no loaded one does: it is switched to before
//! a loaded rule goes, and away from after the next one is in its place.

use super::Control;
use crate::kernel::Kernel;
use crate::loaded::Verified;
use crate::message::{self, CoreRule};
use flexnet::abi::{Message, Reload, Wire};
use flexnet::design::Choice;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

impl Control {
    /// What to say of it, or what is wrong. Verifying takes this thread milliseconds.
    ///
    /// # Errors
    /// `PERM`: only root may ask.
    pub(super) fn core_rule(
        &mut self,
        kernel: &Kernel<'_>,
        number: u64,
        asked: CoreRule,
        fd: Option<OwnedFd>,
    ) -> Result<Result<String, String>, Errno> {
        self.admit_root(number)?;
        Ok(self.act(kernel, asked, fd))
    }

    /// Says it, as a reply.
    pub(super) fn say(
        &mut self,
        kernel: &Kernel<'_>,
        number: u64,
        message: &Message,
        said: Result<String, String>,
    ) {
        let (status, text) = match said {
            Ok(text) => (Ok(()), text),
            Err(text) => (Err(Errno::INVAL), text),
        };
        let header = message::reply(message, size_of::<Reload>(), status);
        self.send(kernel, number, Reload::new(header, &text).as_bytes());
    }

    fn act(
        &mut self,
        kernel: &Kernel<'_>,
        asked: CoreRule,
        fd: Option<OwnedFd>,
    ) -> Result<String, String> {
        match asked {
            CoreRule::Tell => Ok(self.tell(kernel)),
            CoreRule::Unload => self.unload(kernel),
            CoreRule::Load {
                name,
                in_stack,
                parameters,
            } => {
                let object = fd.ok_or("no object came with the request")?;
                self.load(kernel, name, in_stack, parameters, object)
            }
        }
    }

    fn tell(&self, kernel: &Kernel<'_>) -> String {
        let Some(loaded) = &self.loaded else {
            return "no core rule is loaded".to_owned();
        };
        let arbiter = kernel.arbiter();
        format!(
            "{} is loaded, on {}: {} rounds decided, {} without an answer",
            loaded.name, self.facts.design, arbiter.rule_rounds, arbiter.rule_refused
        )
    }

    fn unload(&mut self, kernel: &Kernel<'_>) -> Result<String, String> {
        let Some(name) = self.facts.loaded.clone() else {
            return Ok("no core rule is loaded".to_owned());
        };
        let stays = self.facts.design.clone();
        self.switch_design(kernel, stays).map_err(in_words)?;
        Ok(format!("{name} is unloaded; {} is on", self.facts.design))
    }

    fn load(
        &mut self,
        kernel: &Kernel<'_>,
        name: String,
        in_stack: Choice,
        parameters: [u64; 8],
        object: OwnedFd,
    ) -> Result<String, String> {
        let verified = Verified::new(kernel, object)?;
        // The place is free, and the built-in rule decides, until the last line.
        self.switch_design(kernel, in_stack).map_err(in_words)?;
        let loaded = verified.attach(name)?;
        kernel
            .switch_design(&self.facts.design, Some(parameters))
            .map_err(in_words)?;
        let name = loaded.name.clone();
        log::info!(design:% = name; "the core rule of {name} is loaded, on {}", self.facts.design);
        self.facts.loaded = Some(name.clone());
        self.loaded = Some(loaded);
        Ok(format!("{name} is on, on {}", self.facts.design))
    }
}

fn in_words(errno: Errno) -> String {
    format!("the arbiter does not switch: {errno}")
}
