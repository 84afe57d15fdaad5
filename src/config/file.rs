// SPDX-License-Identifier: GPL-2.0-only
//! The text of a configuration file: its keys as flags, its tables as rules, and
//! whatever is wrong with it, by line and column.

use super::mistakes::Mistakes;
use super::tables;
use crate::cli::Options;
use crate::renamed;
use crate::rules::Rules;
use clap::{Arg, ArgAction, CommandFactory};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// Flags that say what to do now, not how it is done.
pub const NOT_IN_A_FILE: [&str; 9] = [
    "config",
    "replace",
    "check-config",
    "print-config",
    "completions",
    "man",
    "monitor",
    "help-stats",
    "echo",
];

/// A key of the file, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub line: usize,
    /// As flags.
    pub arguments: Vec<String>,
}

pub type Entries = BTreeMap<String, Entry>;

/// What a file says, as far as it is right.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub entries: Entries,
    pub rules: Rules,
}

/// Reads all that is right, and collects the rest.
pub fn read(text: &str) -> (File, Mistakes) {
    let mut mistakes = Mistakes::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        mistakes.add(&error.span().unwrap_or(0..0), error.message());
    }
    mistakes.believe_no_more();
    let command = Options::command();
    let mut file = File::default();
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        match name {
            "rule" => file.rules.rules = tables::rules(value, &mut mistakes),
            "application" => file.rules.applications = tables::applications(value, &mut mistakes),
            _ => {
                let known = command
                    .get_arguments()
                    .find(|arg| arg.get_long() == Some(name) && !NOT_IN_A_FILE.contains(&name));
                let Some(arg) = known else {
                    let what = renamed::key(name).unwrap_or_else(|| {
                        format!(
                            "unknown key {name:?}; keys are the flags of --help, [[rule]] and \
                             [[application]]"
                        )
                    });
                    mistakes.add(&key.span(), what);
                    continue;
                };
                match arguments(arg, value.get_ref()) {
                    Ok(arguments) => {
                        let line = mistakes.place(key.span().start).0;
                        file.entries
                            .insert(name.to_owned(), Entry { line, arguments });
                    }
                    Err(what) => mistakes.add(&value.span(), what),
                }
            }
        }
    }
    (file, mistakes)
}

/// A value as flags, checked.
fn arguments(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let name = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            DeValue::Boolean(true) => Ok(vec![format!("--{name}")]),
            DeValue::Boolean(false) => Ok(vec![]),
            _ => Err(format!("{name}: must be true or false")),
        };
    }
    let values: Vec<String> = match value {
        DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            let all = values.iter().map(|value| scalar(value.get_ref()));
            all.collect::<Option<_>>()
        }
        value => scalar(value).map(|value| vec![value]),
    }
    .ok_or_else(|| {
        format!("{name}: must be a number or a text; steer and napi also take a list")
    })?;
    let arguments: Vec<String> = values
        .into_iter()
        .map(|value| format!("--{name}={value}"))
        .collect();
    let program = ["scx_flexnet".to_owned()];
    let tried = Options::command().try_get_matches_from(program.iter().chain(&arguments));
    match tried {
        Ok(_) => Ok(arguments),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(first.trim_start_matches("error: ").to_owned())
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        _ => None,
    }
}
