// SPDX-License-Identifier: GPL-2.0-only
//! The tables of a configuration file, [[rule]] and [[application]]: read key by
//! key, so that one mistake hides no other.

use super::mistakes::Mistakes;
use crate::bpf_intf::{FLEXNET_COMM_BYTES, FLEXNET_CPUS_MAX};
use crate::renamed;
use crate::rules::{Application, CgroupPath, Glob, Rule, Rules, User, table};
use flexnet::abi::Class;
use std::ops::RangeInclusive;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of a name without its zero.
const NAME_BYTES: usize = FLEXNET_COMM_BYTES as usize - 1;
/// As messages name the table.
const APPLICATION: &str = "[[application]]";
const CORES: u64 = FLEXNET_CPUS_MAX as u64;

type Value<'t> = Spanned<DeValue<'t>>;

/// One table's keys, each taken once.
struct Keys<'a, 't> {
    table: &'a DeTable<'t>,
    mistakes: &'a mut Mistakes,
}

impl Keys<'_, '_> {
    /// All keys are among these.
    fn known(&mut self, table: &str, keys: &[&str]) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !keys.contains(&name) {
                let old = match table {
                    APPLICATION => renamed::application_key(name),
                    _ => None,
                };
                let what = old.unwrap_or_else(|| {
                    format!("unknown key {name:?} in {table}; {}", keys.join(", "))
                });
                self.mistakes.add(&key.span(), what);
            }
        }
    }

    /// A key's value, made from its text.
    fn text<T>(&mut self, key: &str, make: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.table.get(key)?;
        let made = match value.get_ref() {
            DeValue::String(text) => make(text),
            DeValue::Integer(number) if key == "user" => make(&number.to_string()),
            _ => Err(format!("{key}: must be a text")),
        };
        made.map_err(|what| self.mistakes.add(&value.span(), what))
            .ok()
    }

    fn number(&mut self, key: &str, bounds: RangeInclusive<u64>) -> Option<u32> {
        let value = self.table.get(key)?;
        let number: Option<u64> = match value.get_ref() {
            DeValue::Integer(number) => number.to_string().parse().ok(),
            _ => None,
        };
        match number.filter(|number| bounds.contains(number)) {
            Some(number) => u32::try_from(number).ok(),
            None => {
                let (least, most) = (bounds.start(), bounds.end());
                let what = format!("{key}: must be a whole number from {least} to {most}");
                self.mistakes.add(&value.span(), what);
                None
            }
        }
    }

    fn glob(&mut self, key: &str) -> Option<Glob> {
        self.text(key, |text| Glob::new(text, NAME_BYTES))
    }

    fn user(&mut self) -> Option<User> {
        self.text("user", |text| {
            User::find(text).map_err(|error| error.to_string())
        })
    }
}

/// The tables of a name, and the line of each.
fn tables<'a, 't>(
    name: &str,
    value: &'a Value<'t>,
    mistakes: &mut Mistakes,
) -> Vec<(&'a Value<'t>, &'a DeTable<'t>)> {
    let wrong = format!("{name}: must be tables, each of which begins with [[{name}]]");
    let DeValue::Array(values) = value.get_ref() else {
        mistakes.add(&value.span(), wrong);
        return Vec::new();
    };
    let mut tables = Vec::new();
    for value in values {
        match value.get_ref() {
            DeValue::Table(table) => tables.push((value, table)),
            _ => mistakes.add(&value.span(), wrong.clone()),
        }
    }
    tables
}

fn class(text: &str) -> Result<Class, String> {
    match text {
        "latency" => Ok(Class::Latency),
        "normal" => Ok(Class::Normal),
        "batch" => Ok(Class::Batch),
        _ => Err(format!("class {text:?}: must be latency, normal or batch")),
    }
}

/// Reads `[[rule]]`.
pub fn rules(value: &Value<'_>, mistakes: &mut Mistakes) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (value, table) in tables("rule", value, mistakes) {
        let place = mistakes.place(value.span().start);
        let mut keys = Keys { table, mistakes };
        keys.known("[[rule]]", &["cgroup", "command", "user", "class"]);
        let rule = Rule {
            line: place.0,
            cgroup: keys.text("cgroup", CgroupPath::new),
            command: keys.glob("command"),
            user: keys.user(),
            class: keys.text("class", class).unwrap_or(Class::Normal),
        };
        if !table.contains_key("class") {
            mistakes.add_at(place, "a rule needs a class: latency, normal or batch");
        }
        rules.push(rule);
    }
    if let Err(many) = table(&rules) {
        let line = rules[many.index].line;
        mistakes.add_at((line, 1), many.to_string());
    }
    rules
}

/// Reads `[[application]]`.
pub fn applications(value: &Value<'_>, mistakes: &mut Mistakes) -> Vec<Application> {
    let mut applications = Vec::new();
    for (value, table) in tables("application", value, mistakes) {
        let line = mistakes.place(value.span().start).0;
        let at = |key| table.get(key).map_or(value.span(), Spanned::span);
        let place = mistakes.place(at("guarantee").start);
        let mut keys = Keys { table, mistakes };
        keys.known(
            "[[application]]",
            &[
                "name",
                "command",
                "user",
                "cgroup",
                "guarantee",
                "max-cores",
                "weight",
            ],
        );
        let application = Application {
            line,
            name: keys.glob("name"),
            command: keys.glob("command"),
            user: keys.user(),
            cgroup: keys.text("cgroup", CgroupPath::new),
            guarantee: keys
                .number("guarantee", 0..=CORES)
                .map(|cores| (cores, place)),
            max_cores: keys.number("max-cores", 1..=CORES),
            weight: keys.number("weight", 1..=10_000),
        };
        if let (Some((guarantee, _)), Some(max_cores)) =
            (application.guarantee, application.max_cores)
            && max_cores < guarantee
        {
            let what = format!("max-cores: {max_cores} is less than the guarantee of {guarantee}");
            mistakes.add(&at("max-cores"), what);
        }
        // A path without components is that of all.
        let everywhere = |path: &CgroupPath| path.parts.is_empty();
        let anywhere = application.cgroup.as_ref().is_none_or(everywhere);
        let anybody = application.user.is_none() && anywhere;
        if application.guarantee.is_some_and(|(cores, _)| cores > 0) && anybody {
            let what = "guarantee: add a user or a cgroup to this [[application]]: any process may \
                        give itself any name";
            mistakes.add(&at("guarantee"), what.to_owned());
        }
        applications.push(application);
    }
    applications
}

/// Guarantees are kept together or not at all.
pub fn check_guarantees(rules: &Rules, cores: u32, mistakes: &mut Mistakes) {
    let mut sum = 0;
    for (guarantee, place) in rules.applications.iter().filter_map(|a| a.guarantee) {
        let before = sum;
        sum += guarantee;
        if sum > cores && before <= cores {
            let what = format!(
                "guarantee: up to here {sum} cores are guaranteed; there may be {cores} \
                 (max-net-cores, min-general-cores)"
            );
            mistakes.add_at(place, what);
        }
    }
}
