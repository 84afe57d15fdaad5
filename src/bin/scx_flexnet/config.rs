// SPDX-License-Identifier: GPL-2.0-only
//! The configuration file: every flag by its long name, checked by the flags'
//! own definitions (cli.rs), so that there is one place that knows them.
//!
//! Promises: flags go before the file, the file before defaults; every mistake
//! is told with its line and column, all of them in one run. Leaves to others:
//! what a value means.

use crate::cli::Options;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Read when it is there and no other is named.
pub const PATH: &str = "/etc/scx_flexnet/config.toml";

/// Flags that say what to do now, not how it is done.
const NOT_IN_A_FILE: [&str; 8] = [
    "config",
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
struct Entry {
    line: usize,
    /// As flags.
    arguments: Vec<String>,
}

type Entries = BTreeMap<String, Entry>;

/// What is wrong in a file, a line each, in the order of the file.
#[derive(Debug, PartialEq)]
struct Mistakes(Vec<(usize, usize, String)>);

/// The options that hold, and where each comes from.
pub struct Config {
    pub options: Options,
    path: PathBuf,
    /// Is there a file?
    found: bool,
    matches: ArgMatches,
    entries: Entries,
}

/// Reads the command line and the file.
///
/// # Errors
/// In words, a line a mistake. A wrong command line ends the program, as clap
/// does it.
pub fn load(arguments: &[String]) -> Result<Config, String> {
    let flags = Options::command().get_matches_from(arguments);
    let named: Option<&PathBuf> = flags.get_one("config");
    let path = named.cloned().unwrap_or_else(|| PathBuf::from(PATH));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => None,
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let entries = read(text.as_deref().unwrap_or_default());
    let entries = entries.map_err(|mistakes| mistakes.in_file(&path))?;
    let mut config = merge(arguments, &flags, path, entries)?;
    config.found = text.is_some();
    Ok(config)
}

/// Flags before the file's entries.
fn merge(
    arguments: &[String],
    flags: &ArgMatches,
    path: PathBuf,
    entries: Entries,
) -> Result<Config, String> {
    let command = Options::command();
    let is_flag = |name: &str| {
        let of_name = |arg: &&Arg| arg.get_long() == Some(name);
        let id = command.get_arguments().find(of_name).map(Arg::get_id);
        id.is_some_and(|id| flags.value_source(id.as_str()) == Some(ValueSource::CommandLine))
    };
    let entries: Entries = entries
        .into_iter()
        .filter(|(name, _)| !is_flag(name))
        .collect();
    let from_file = entries.values().flat_map(|entry| entry.arguments.clone());
    let program = arguments.first().cloned().unwrap_or_default();
    let all: Vec<String> = std::iter::once(program)
        .chain(from_file)
        .chain(arguments.iter().skip(1).cloned())
        .collect();
    let matches = Options::command()
        .try_get_matches_from(all)
        .map_err(|error| error.to_string())?;
    let options = Options::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    Ok(Config {
        options,
        path,
        found: true,
        matches,
        entries,
    })
}

/// The file's keys as flags.
fn read(text: &str) -> Result<Entries, Mistakes> {
    let place = |offset: usize| {
        let before = &text[..offset.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    };
    let mut mistakes = Vec::new();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let (line, column) = place(error.span().unwrap_or(0..0).start);
        mistakes.push((line, column, error.message().to_owned()));
    }
    // What is read of a line with such an error is a guess.
    let broken: Vec<usize> = mistakes.iter().map(|(line, ..)| *line).collect();
    let mut wrong = |span: Range<usize>, what: String| {
        let (line, column) = place(span.start);
        if !broken.contains(&line) {
            mistakes.push((line, column, what));
        }
    };
    let command = Options::command();
    let mut entries = Entries::new();
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        let known = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(name) && !NOT_IN_A_FILE.contains(&name));
        let Some(arg) = known else {
            wrong(
                key.span(),
                format!("unknown key {name:?}; keys are the flags of --help"),
            );
            continue;
        };
        match arguments(arg, value.get_ref()) {
            Ok(arguments) => {
                let line = place(key.span().start).0;
                entries.insert(name.to_owned(), Entry { line, arguments });
            }
            Err(what) => wrong(value.span(), what),
        }
    }
    if mistakes.is_empty() {
        Ok(entries)
    } else {
        mistakes.sort();
        Err(Mistakes(mistakes))
    }
}

/// A value as flags, checked.
fn arguments(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let name = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            DeValue::Boolean(true) => Ok(vec![format!("--{name}")]),
            DeValue::Boolean(false) => Ok(vec![]),
            _ => Err(format!("{name}: true or false it must be")),
        };
    }
    let values: Vec<String> = match value {
        DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            let all = values.iter().map(|value| scalar(value.get_ref()));
            all.collect::<Option<_>>()
        }
        value => scalar(value).map(|value| vec![value]),
    }
    .ok_or_else(|| format!("{name}: a number or a text it must be, or for steer several"))?;
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

impl Mistakes {
    fn in_file(&self, path: &Path) -> String {
        let lines = self
            .0
            .iter()
            .map(|(line, column, what)| format!("{}:{line}:{column}: {what}", path.display()));
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Config {
    /// What was checked.
    pub fn checked(&self) -> String {
        let path = self.path.display();
        match self.found {
            true => format!("{path} is right\n"),
            false => format!("there is no {path}: flags and defaults hold\n"),
        }
    }

    /// The file that would say the same, with the origin of each value.
    pub fn print(&self) -> String {
        let mut text = String::new();
        for arg in Options::command().get_arguments() {
            let Some(name) = arg.get_long() else {
                continue;
            };
            if arg.is_hide_set() || NOT_IN_A_FILE.contains(&name) {
                continue;
            }
            let id = arg.get_id().as_str();
            let origin = match (self.matches.value_source(id), self.entries.get(name)) {
                (Some(ValueSource::CommandLine), Some(entry)) => {
                    format!("{}:{}", self.path.display(), entry.line)
                }
                (Some(ValueSource::CommandLine), None) => "flag".to_owned(),
                (Some(ValueSource::EnvVariable), _) => "environment".to_owned(),
                _ => "default".to_owned(),
            };
            let values = self.values(arg, id);
            // Writing to a string cannot fail.
            let _ = match values {
                Some(values) => writeln!(text, "{name} = {values}  # {origin}"),
                None => writeln!(text, "# {name} is not set"),
            };
        }
        text
    }

    fn values(&self, arg: &Arg, id: &str) -> Option<String> {
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            return Some(self.matches.get_flag(id).to_string());
        }
        let quoted = |value: &std::ffi::OsStr| {
            let text = value.to_string_lossy();
            match text.parse::<i64>() {
                Ok(number) => number.to_string(),
                Err(_) => format!("{text:?}"),
            }
        };
        let mut values: Vec<String> = self.matches.get_raw(id)?.map(quoted).collect();
        match arg.get_action() {
            ArgAction::Append => Some(format!("[{}]", values.join(", "))),
            _ => values.pop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[&str], file: &str) -> Result<Config, String> {
        let arguments: Vec<String> = ["scx_flexnet"]
            .iter()
            .chain(flags)
            .map(|word| (*word).to_owned())
            .collect();
        let matches = Options::command()
            .try_get_matches_from(&arguments)
            .map_err(|error| error.to_string())?;
        let path = Path::new("config.toml");
        let entries = read(file).map_err(|mistakes| mistakes.in_file(path))?;
        merge(&arguments, &matches, path.to_owned(), entries)
    }

    #[test]
    fn flags_go_before_the_file_and_that_before_defaults() {
        let file =
            "objective-us = 70\nlow-mark-us = 30\nsteer = [\"lo\", \"eth0\"]\ndebug = true\n";
        let merged = config(&["--low-mark-us", "5"], file).unwrap();
        let options = &merged.options;
        assert_eq!((options.objective_us, options.low_mark_us), (70, 5));
        assert_eq!(options.interval_us, 100);
        assert_eq!(options.steer, ["lo", "eth0"]);
        assert!(options.debug);
        let text = merged.print();
        for line in [
            "objective-us = 70  # config.toml:1",
            "low-mark-us = 5  # flag",
            "interval-us = 100  # default",
            "steer = [\"lo\", \"eth0\"]  # config.toml:3",
            "debug = true  # config.toml:4",
            "design = \"flexnet\"  # default",
            "# max-net-cores is not set",
        ] {
            assert!(
                text.lines().any(|printed| printed == line),
                "{line}\n{text}"
            );
        }
        let steer = config(&["--steer", "eth1"], file).unwrap().options.steer;
        assert_eq!(steer, ["eth1"], "not in addition");
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let printed = config(&["--steer", "lo", "--idle-cores", "strict"], "").unwrap();
        let again = config(&[], &printed.print()).unwrap();
        assert_eq!(
            format!("{:?}", again.options),
            format!("{:?}", printed.options)
        );
    }

    #[test]
    fn ten_mistakes_are_ten_lines() {
        let file = "objective-us = 0\n\
                    objectives = 5\n\
                    idle-cores = \"sometimes\"\n\
                    steer = [1, [2]]\n\
                    debug = 1\n\
                    design = \"shenjuku\"\n\
                    quantum-us = 1.5\n\
                    monitor = 1\n\
                    clients-max = 65\n\
                    min-general-cores = \n";
        let error = config(&[], file).map(|_| ()).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 10, "{error}");
        for (at, line) in lines.iter().enumerate() {
            assert!(
                line.starts_with(&format!("config.toml:{}:", at + 1)),
                "{error}"
            );
        }
        for (at, part) in [
            (0, ":16: invalid value '0' for '--objective-us"),
            (1, ":1: unknown key \"objectives\""),
            (5, "netchannel, snap"),
        ] {
            assert!(lines[at].contains(part), "{part}: {error}");
        }
    }
}
