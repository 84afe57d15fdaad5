// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A core rule of a design in a folder, in the running scheduler: for root's tools.

use super::socket::{ControlSocket, header};
use super::words::{Reloaded, in_words};
use crate::abi::{self, CoreRuleAction, CoreRuleAsk};
use crate::design::Choice;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// A compiled core rule.
#[derive(Clone, Copy, Debug)]
pub struct CoreRuleObject<'a> {
    /// The design's name; 15 bytes of it are shown.
    pub name: &'a str,
    /// The built-in design whose in-stack half goes with it.
    pub in_stack: &'a Choice,
    /// The rule's parameters, in its own units.
    pub parameters: [u64; 8],
    /// A regular file: the BPF object of include/flexnet/core_rule.h's form.
    pub object: BorrowedFd<'a>,
}

/// Puts a core rule into the running scheduler; root's to ask. The rule that was loaded before
/// goes. [`Reloaded::Mistakes`] says why the rule was refused: then nothing has changed.
///
/// # Errors
/// No scheduler listens at `path`, or it refuses.
pub fn load_core_rule(path: &Path, rule: &CoreRuleObject<'_>) -> io::Result<Reloaded> {
    let request = CoreRuleAsk {
        name: abi::name_bytes(rule.name),
        text: abi::text_bytes(&rule.in_stack.to_string()),
        parameters: rule.parameters,
        ..ask(CoreRuleAction::Load)
    };
    let socket = ControlSocket::connect_to_ask(path)?;
    in_words(&socket, &request, Some(rule.object))
}

/// Takes the loaded core rule out again; root's to ask. The built-in rule of the design whose
/// in-stack half is on decides the next round.
///
/// # Errors
/// As [`load_core_rule`].
pub fn unload_core_rule(path: &Path) -> io::Result<Reloaded> {
    in_words(
        &ControlSocket::connect_to_ask(path)?,
        &ask(CoreRuleAction::Unload),
        None,
    )
}

/// Tells of the loaded core rule; root's to ask.
///
/// # Errors
/// As [`load_core_rule`].
pub fn loaded_core_rule(path: &Path) -> io::Result<Reloaded> {
    in_words(
        &ControlSocket::connect_to_ask(path)?,
        &ask(CoreRuleAction::Tell),
        None,
    )
}

fn ask(action: CoreRuleAction) -> CoreRuleAsk {
    CoreRuleAsk {
        message: header(abi::MESSAGE_CORE_RULE, size_of::<CoreRuleAsk>(), 1),
        action: action as u32,
        ..CoreRuleAsk::default()
    }
}
