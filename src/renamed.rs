// SPDX-License-Identifier: GPL-2.0-only
//! Names that flags and keys of the configuration file had before.
//!
//! An old name is an error that names the new one. It is not accepted silently: the
//! meaning may have changed with the name, and a file that is read for years would keep it.
//! This is the only source file in which old names stand.

/// Flags, which are keys of the file as well: the old name, and the name that replaced it.
const FLAGS: [(&str, &str); 2] = [
    ("respite-us", "preemption-cooldown-us"),
    ("burst-us", "latency-batch-us"),
];

/// Keys of `[[application]]`, in the same order.
const APPLICATION_KEYS: [(&str, &str); 1] = [("burst", "max-cores")];

fn find(table: &[(&str, &'static str)], old: &str) -> Option<&'static str> {
    let row = table.iter().find(|(name, _)| *name == old);
    row.map(|(_, new)| *new)
}

/// The error for an old flag of the command line, without its dashes and value.
pub fn flag(argument: &str) -> Option<String> {
    let name = argument.strip_prefix("--")?.split('=').next()?;
    let new = find(&FLAGS, name)?;
    Some(format!("--{name} has a new name: use --{new}"))
}

/// The error for an old key at the top level of the configuration file.
pub fn key(name: &str) -> Option<String> {
    let new = find(&FLAGS, name)?;
    Some(format!("{name} has a new name: use {new}"))
}

/// The error for an old key of `[[application]]`.
pub fn application_key(name: &str) -> Option<String> {
    let new = find(&APPLICATION_KEYS, name)?;
    Some(format!("{name} has a new name: use {new}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;
    use crate::config;
    use clap::CommandFactory;

    #[test]
    fn new_names_are_flags_and_old_ones_are_not() {
        let command = Options::command();
        let known = |name: &str| {
            command
                .get_arguments()
                .any(|arg| arg.get_long() == Some(name))
        };
        for (old, new) in FLAGS {
            assert!(known(new), "{new}");
            assert!(!known(old), "{old}");
        }
    }

    #[test]
    fn an_old_flag_names_the_new_one() {
        for argument in ["--respite-us", "--respite-us=100"] {
            let arguments = ["scx_flexnet", argument, "100"].map(str::to_owned);
            let error = config::load(&arguments).map(|_| ()).unwrap_err();
            assert_eq!(
                error,
                "--respite-us has a new name: use --preemption-cooldown-us"
            );
        }
        assert_eq!(flag("--preemption-cooldown-us=100"), None);
        assert_eq!(flag("respite-us"), None);
    }

    #[test]
    fn an_old_key_names_the_new_one_and_its_place() {
        let folder = std::env::temp_dir().join(format!("renamed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.toml");
        let text = "burst-us = 1700\n[[application]]\nname = \"kv*\"\nburst = 4\n";
        std::fs::write(&file, text).unwrap();
        let path = file.display().to_string();
        let arguments = ["scx_flexnet", "--config", &path].map(str::to_owned);
        let error = config::load(&arguments).map(|_| ()).unwrap_err();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            error,
            format!(
                "{path}:1:1: burst-us has a new name: use latency-batch-us\n\
                 {path}:4:1: burst has a new name: use max-cores"
            )
        );
    }
}
