// SPDX-License-Identifier: GPL-2.0-only
//! A design in a folder: `design.toml` says its name and its parameters, `core_rule.c` is its
//! core rule (include/flexnet/core_rule.h).
//!
//! Promises that an opened folder has a name, a built-in design for the stack, and a value in its
//! range for each parameter. Leaves compiling to compile.rs.

use anyhow::{Context, Result, ensure};
use flexnet::design::Choice;
use flexnet_sim::RULE_PARAMETERS;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest name: what a status has room for.
const NAME_MAX: usize = 15;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    name: String,
    description: String,
    /// The built-in design whose in-stack half goes with the rule.
    #[serde(default)]
    in_stack: String,
    #[serde(default)]
    parameter: Vec<Parameter>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameter {
    name: String,
    /// For people; the rule gets the number.
    #[serde(default)]
    unit: String,
    default: u64,
    min: u64,
    max: u64,
    help: String,
}

/// A design's folder, with values for its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The design's name.
    pub name: String,
    /// The built-in design whose in-stack half goes with the rule.
    pub in_stack: Choice,
    /// As core_rule.c gets them.
    pub parameters: [u64; RULE_PARAMETERS],
    description: String,
    described: Vec<Parameter>,
}

impl FromStr for Folder {
    type Err = String;

    /// `DIR[:key=value,…]`.
    fn from_str(text: &str) -> Result<Self, String> {
        open(text).map_err(|error| format!("{error:#}"))
    }
}

impl Folder {
    /// Its name and its parameters, for people.
    pub fn describe(&self) -> String {
        let mut text = format!("{}: {}\n", self.name, self.description);
        for (parameter, value) in self.described.iter().zip(self.parameters) {
            let Parameter {
                name,
                unit,
                min,
                max,
                help,
                ..
            } = parameter;
            let unit = if unit.is_empty() {
                String::new()
            } else {
                format!(" {unit}")
            };
            text += &format!("  {name} = {value}{unit} ({min} to {max}): {help}\n");
        }
        text
    }

    /// The parameters with one of them at its min or its max, and which one that is.
    pub fn at_bounds(&self) -> Vec<(String, [u64; RULE_PARAMETERS])> {
        let mut all = Vec::new();
        for (at, Parameter { name, min, max, .. }) in self.described.iter().enumerate() {
            for bound in [*min, *max] {
                let mut parameters = self.parameters;
                parameters[at] = bound;
                all.push((format!("{name} = {bound}"), parameters));
            }
        }
        all
    }
}

fn open(text: &str) -> Result<Folder> {
    let (path, pairs) = match text.rsplit_once(':') {
        Some((path, pairs)) if pairs.contains('=') => (path, pairs),
        _ => (text, ""),
    };
    let file_path = Path::new(path).join("design.toml");
    let shown = file_path.display().to_string();
    let content = fs::read_to_string(&file_path)
        .with_context(|| format!("{shown} (flexnet design new writes one)"))?;
    let file: File = toml::from_str(&content).with_context(|| shown.clone())?;
    check_name(&file.name).with_context(|| shown.clone())?;
    let in_stack = match file.in_stack.as_str() {
        "" => Choice::default(),
        text => text.parse().with_context(|| format!("{shown}: in-stack"))?,
    };
    ensure!(
        file.parameter.len() <= RULE_PARAMETERS,
        "{shown}: more than {RULE_PARAMETERS} parameters"
    );
    let mut parameters = [0; RULE_PARAMETERS];
    for (value, parameter) in parameters.iter_mut().zip(&file.parameter) {
        *value = parameter.default;
        in_range(parameter, *value).with_context(|| shown.clone())?;
    }
    for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').context("not key=value")?;
        let at = file.parameter.iter().position(|known| known.name == key);
        let at = at.with_context(|| format!("{} has no parameter {key:?}", file.name))?;
        let value = value
            .parse()
            .with_context(|| format!("{key}={value}: not a whole number"))?;
        in_range(&file.parameter[at], value)?;
        parameters[at] = value;
    }
    Ok(Folder {
        path: PathBuf::from(path),
        name: file.name,
        in_stack,
        parameters,
        description: file.description,
        described: file.parameter,
    })
}

fn in_range(parameter: &Parameter, value: u64) -> Result<()> {
    let Parameter { name, min, max, .. } = parameter;
    ensure!(
        (min..=max).contains(&&value),
        "{name} = {value}: must be from {min} to {max}"
    );
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let of = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ensure!(
        (1..=NAME_MAX).contains(&name.len())
            && name.bytes().all(of)
            && name.starts_with(|first: char| first.is_ascii_lowercase()),
        "a design's name has at most {NAME_MAX} small letters, digits and hyphens, a letter first"
    );
    ensure!(
        name.parse::<Choice>().is_err(),
        "{name} is a built-in design"
    );
    Ok(())
}

/// Writes the folder of a new design.
pub(super) fn create(name: &str, dir: &Path) -> Result<()> {
    check_name(name)?;
    fs::create_dir(dir)
        .with_context(|| format!("{} (name a folder that does not exist)", dir.display()))?;
    let toml = include_str!("new/design.toml").replace("NAME", name);
    // What is made of it has its author's licence.
    let rule = include_str!("new/core_rule.c");
    let rule = rule.split_once('\n').map_or(rule, |(_, rest)| rest);
    for (file, text) in [("design.toml", toml.as_str()), ("core_rule.c", rule)] {
        let path = dir.join(file);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    println!("{0}: next, flexnet design check {0}", dir.display());
    Ok(())
}
