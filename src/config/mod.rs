// SPDX-License-Identifier: GPL-2.0-only
//! The configuration file: every flag by its long name, checked by the flags'
//! own definitions (cli.rs), so that there is one place that knows them; and
//! tables of rules.
//!
//!   file    its text: keys as flags, and what is wrong where
//!   tables  [[rule]] and [[application]]
//!
//! Promises: a flag overrides the file, and the file overrides the defaults. Every mistake is
//! reported with its line and column, all of them in one run. Leaves to others: what a value means.

mod file;
mod mistakes;
mod tables;

use crate::cli::Options;
use crate::cpus;
use crate::renamed;
use crate::rules::Rules;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches};
use file::{Entries, File, NOT_IN_A_FILE};
use scx_utils::NR_CPU_IDS;
use std::fmt::Write;
use std::path::PathBuf;

/// Read when it is there and no other is named.
pub const PATH: &str = "/etc/scx_flexnet/config.toml";

/// The options that hold, and where each comes from.
#[derive(Clone)]
pub struct Config {
    pub options: Options,
    /// The file's; there are no flags for them.
    pub rules: Rules,
    path: PathBuf,
    /// Is there a file?
    found: bool,
    arguments: Vec<String>,
    matches: ArgMatches,
    entries: Entries,
}

/// Can this flag stand in a file?
fn in_files(arg: &Arg) -> bool {
    let name = arg.get_long();
    !arg.is_hide_set() && name.is_some_and(|name| !NOT_IN_A_FILE.contains(&name))
}

/// Reads the command line and the file.
///
/// # Errors
/// In words, a line a mistake. A wrong command line ends the program, as clap
/// does it.
pub fn load(arguments: &[String]) -> Result<Config, String> {
    if let Some(error) = arguments
        .iter()
        .skip(1)
        .find_map(|word| renamed::flag(word))
    {
        return Err(error);
    }
    let flags = Options::command().get_matches_from(arguments);
    let named: Option<&PathBuf> = flags.get_one("config");
    let path = named.cloned().unwrap_or_else(|| PathBuf::from(PATH));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => None,
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let mut config = of_text(
        arguments,
        &flags,
        path,
        text.as_deref().unwrap_or_default(),
        grantable,
    )?;
    config.found = text.is_some();
    Ok(config)
}

/// Cores there may be for executors on this machine, by the options.
fn grantable(options: &Options) -> Option<u32> {
    let online = cpus::online().ok()?;
    let (least, most) = (options.min_general_cores, options.max_net_cores);
    Some(cpus::plan(&online, *NR_CPU_IDS, least, most).net_cores_max)
}

/// The command line and a file's text.
fn of_text(
    arguments: &[String],
    flags: &ArgMatches,
    path: PathBuf,
    text: &str,
    grantable: fn(&Options) -> Option<u32>,
) -> Result<Config, String> {
    let (file, mut mistakes) = file::read(text);
    let config = merge(arguments, flags, path, file)?;
    if let Some(cores) = grantable(&config.options) {
        tables::check_guarantees(&config.rules, cores, &mut mistakes);
    }
    mistakes.verdict(&config.path)?;
    Ok(config)
}

/// Flags before the file's entries.
fn merge(
    arguments: &[String],
    flags: &ArgMatches,
    path: PathBuf,
    file: File,
) -> Result<Config, String> {
    let command = Options::command();
    let is_flag = |name: &str| {
        let of_name = |arg: &&Arg| arg.get_long() == Some(name);
        let id = command.get_arguments().find(of_name).map(Arg::get_id);
        id.is_some_and(|id| flags.value_source(id.as_str()) == Some(ValueSource::CommandLine))
    };
    let entries: Entries = file
        .entries
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
        rules: file.rules,
        path,
        found: true,
        arguments: arguments.to_vec(),
        matches,
        entries,
    })
}

impl Config {
    /// The command line.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Reads the file anew, for the same command line.
    ///
    /// # Errors
    /// As [`load`].
    pub fn again(&self) -> Result<Self, String> {
        load(&self.arguments)
    }

    /// Keys whose value is another one there.
    pub fn changed(&self, new: &Self) -> Vec<String> {
        let command = Options::command();
        let other = |arg: &&Arg| {
            let id = arg.get_id().as_str();
            self.values(arg, id) != new.values(arg, id)
        };
        let args = command
            .get_arguments()
            .filter(|arg| in_files(arg))
            .filter(other);
        args.filter_map(Arg::get_long).map(str::to_owned).collect()
    }

    /// What was checked.
    pub fn checked(&self) -> String {
        let path = self.path.display();
        match self.found {
            true => format!("{path} has no mistakes\n"),
            false => format!("{path} does not exist: flags and defaults apply\n"),
        }
    }

    /// The file that would say the same, with the origin of each value.
    pub fn print(&self) -> String {
        let mut text = String::new();
        for arg in Options::command()
            .get_arguments()
            .filter(|arg| in_files(arg))
        {
            let name = arg.get_long().unwrap_or_default();
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
        let path = self.path.display();
        for rule in &self.rules.rules {
            let _ = write!(text, "\n[[rule]]  # {path}:{}\n{rule}", rule.line);
        }
        for application in &self.rules.applications {
            let line = application.line;
            let _ = write!(text, "\n[[application]]  # {path}:{line}\n{application}");
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
        of_text(&arguments, &matches, "config.toml".into(), file, |_| {
            Some(3)
        })
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

    const RULES: &str = "objective-us = 70\n\
        [[rule]]\n\
        cgroup = \"/system.slice/redis*.service\"\n\
        command = 'redis-\"server\"'\n\
        user = \"root\"\n\
        class = \"latency\"\n\
        [[rule]]\n\
        user = 4711\n\
        class = \"batch\"\n\
        [[application]]\n\
        name = \"kv*\"\n\
        user = \"root\"\n\
        guarantee = 2\n\
        max-cores = 4\n\
        weight = 200\n";

    #[test]
    fn rules_are_read_in_their_order_and_printed() {
        let read = config(&[], RULES).unwrap();
        let [first, second] = &read.rules.rules[..] else {
            panic!("{:?}", read.rules);
        };
        assert_eq!((first.line, first.class), (2, flexnet::abi::Class::Latency));
        assert!(first.command.as_ref().unwrap().matches("redis-\"server\""));
        assert_eq!(first.user.as_ref().unwrap().uid, 0);
        assert_eq!((second.line, second.user.as_ref().unwrap().uid), (7, 4711));
        let [kv] = &read.rules.applications[..] else {
            panic!("{:?}", read.rules);
        };
        assert_eq!(kv.guarantee, Some((2, (13, 13))));
        assert_eq!((kv.max_cores, kv.weight), (Some(4), Some(200)));
        let printed = read.print();
        assert!(printed.contains("[[rule]]  # config.toml:7\n"), "{printed}");
        let again = config(&[], &printed).unwrap();
        assert_eq!(again.rules.rules.len(), 2);
        assert_eq!(again.rules.rules[0].command, first.command);
        assert_eq!(again.rules.applications[0].weight, Some(200));
    }

    #[test]
    fn mistakes_among_rules_are_a_line_each() {
        let rows = [
            ("[[rule]]", Some(":1: a rule needs a class")),
            ("command = \"a[b\"", Some(":11: a set does not end")),
            ("group = 5", Some(":1: unknown key \"group\" in [[rule]]")),
            ("user = \"no-such-user\"", Some(":8: there is no user")),
            ("[[rule]]", None),
            (
                "cgroup = \"system.slice\"",
                Some(":10: \"system.slice\" is no path"),
            ),
            (
                "class = \"fast\"",
                Some(":9: class \"fast\": must be latency, normal or batch"),
            ),
            ("[[application]]", None),
            ("name = 7", Some(":8: name: must be a text")),
            (
                "guarantee = 2",
                Some(":13: guarantee: add a user or a cgroup to this [[application]]"),
            ),
            (
                "max-cores = 1",
                Some(":13: max-cores: 1 is less than the guarantee"),
            ),
            (
                "weight = 10001",
                Some(":10: weight: must be a whole number from 1 to 10000"),
            ),
            ("[[application]]", None),
            ("user = 0", None),
            (
                "guarantee = 2",
                Some(":13: guarantee: up to here 4 cores are guaranteed; there may be 3"),
            ),
        ];
        let text: String = rows.iter().map(|(line, _)| format!("{line}\n")).collect();
        let error = config(&[], &text).map(|_| ()).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 11, "{error}");
        let expected = rows.iter().enumerate();
        let expected = expected.filter_map(|(at, (_, what))| {
            Some(format!("config.toml:{}{}", at + 1, what.as_ref()?))
        });
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(&expected), "{line}\n{expected}");
        }
    }

    #[test]
    fn what_changed_is_found_by_value() {
        let old = config(
            &["--grace-us", "7"],
            "objective-us = 70\nsteer = [\"lo\"]\n",
        )
        .unwrap();
        let new = config(
            &["--grace-us", "7"],
            "objective-us = 70\ngrace-us = 9\nquantum-us = 99\n",
        )
        .unwrap();
        assert_eq!(old.changed(&new), ["quantum-us", "steer"]);
        assert!(new.changed(&new).is_empty());
    }
}
