// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! `NAME[:key=value,…]`: a design as operators write it.

use super::catalogue::{CATALOGUE, Entry, Key, Kind};
use super::core_rule::{CoreRule, Rule};
use super::units::{duration_ns, duration_text};
use std::fmt;
use std::str::FromStr;

/// Longest text of a choice, bytes: what a control message carries.
pub const TEXT_MAX: usize = 63;

/// A design by name, with its keys in their bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    entry: usize,
    /// A value for each of the entry's keys.
    values: Vec<u64>,
}

/// What is wrong with a design's text, and what there is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unknown {}

impl Default for Choice {
    fn default() -> Self {
        Self {
            entry: 0,
            values: defaults(&CATALOGUE[0]),
        }
    }
}

impl FromStr for Choice {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let (name, keys) = text.split_once(':').unwrap_or((text, ""));
        let Some(index) = CATALOGUE.iter().position(|entry| entry.name == name) else {
            let names: Vec<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
            return Err(Unknown(format!(
                "there is no design {name:?}; there are {}",
                names.join(", ")
            )));
        };
        let entry = &CATALOGUE[index];
        let mut values = defaults(entry);
        for pair in keys.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Unknown(format!("{name}: {pair:?} is not key=value")))?;
            let Some(at) = entry.keys.iter().position(|known| known.name == key) else {
                let known: Vec<_> = entry.keys.iter().map(|known| known.name).collect();
                return Err(Unknown(format!(
                    "{name} has no key {key:?}; it has {}",
                    known.join(", ")
                )));
            };
            values[at] = read(&entry.keys[at], value)
                .map_err(|error| Unknown(format!("{name}: {key}={value}: {error}")))?;
        }
        let choice = Self {
            entry: index,
            values,
        };
        choice.check()?;
        Ok(choice)
    }
}

impl fmt::Display for Choice {
    /// The name and what differs from the defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = &CATALOGUE[self.entry];
        f.write_str(entry.name)?;
        let mut separator = ':';
        let defaults = defaults(entry);
        for ((key, &value), default) in entry.keys.iter().zip(&self.values).zip(defaults) {
            if value == default {
                continue;
            }
            let text = match key.kind {
                Kind::Time(..) => duration_text(value),
                Kind::Number(..) => value.to_string(),
                Kind::Keyword(words) => words[value as usize].to_owned(),
            };
            write!(f, "{separator}{}={text}", key.name)?;
            separator = ',';
        }
        Ok(())
    }
}

impl Choice {
    /// The design's name, without its keys.
    pub fn name(&self) -> &'static str {
        CATALOGUE[self.entry].name
    }

    /// The value of a key (ns, a number, or a word's place in the catalogue); 0
    /// where the design has none of that name.
    pub(super) fn value(&self, key: &str) -> u64 {
        let keys = CATALOGUE[self.entry].keys;
        keys.iter()
            .position(|known| known.name == key)
            .map_or(0, |at| self.values[at])
    }

    /// What the arbiter follows.
    pub fn core_rule(&self) -> CoreRule {
        let number = |key| u32::try_from(self.value(key)).unwrap_or(u32::MAX);
        let design = match (self.name(), self.value("mode"), self.value("rule")) {
            ("netchannel", ..) => Rule::NetChannel,
            ("snap", 0, _) => Rule::SnapDedicating,
            ("snap", 1, _) => Rule::SnapSpreading,
            ("snap", ..) => Rule::SnapCompacting,
            ("shenango", _, 0) => Rule::Shenango,
            ("shenango", _, 1) => Rule::ShenangoDelay,
            ("shenango", ..) => Rule::ShenangoUtilisation,
            ("shinjuku", 0, _) => Rule::Shinjuku,
            ("shinjuku", ..) => Rule::ShinjukuJbsq,
            _ => Rule::Flexnet,
        };
        let spreading = design == Rule::SnapSpreading;
        CoreRule {
            design: design as u32,
            workers: number("workers"),
            high_percent: number("busy"),
            low_percent: number("calm"),
            high_ns: self.value("high").max(self.value("slo")),
            low_ns: self.value("low"),
            runtime_ns: if spreading { self.value("runtime") } else { 0 },
            period_ns: if spreading { self.value("period") } else { 0 },
        }
    }

    /// An executor's turn while others wait, ns; `None`: the operator's.
    pub fn quantum_ns(&self) -> Option<u64> {
        match self.name() {
            // Its coroutines yield by themselves; the turn of the thread is the
            // operator's.
            "flexnet" => None,
            _ => Some(self.value("quantum")).filter(|&quantum| quantum > 0),
        }
    }

    fn check(&self) -> Result<(), Unknown> {
        let less = |low: &str, high: &str| {
            let (a, b) = (self.value(low), self.value(high));
            match a > b {
                true => Err(Unknown(format!("{}: {low} is over {high}", self.name()))),
                false => Ok(()),
            }
        };
        match self.name() {
            "snap" => less("runtime", "period")?,
            "shenango" => {
                less("low", "high")?;
                less("calm", "busy")?;
            }
            _ => {}
        }
        let text = self.to_string();
        if text.len() > TEXT_MAX {
            return Err(Unknown(format!(
                "{text}: longer than {TEXT_MAX} bytes; leave out what is a default"
            )));
        }
        Ok(())
    }
}

fn defaults(entry: &Entry) -> Vec<u64> {
    // The catalogue's own are in their bounds: a test reads them all.
    let value = |key: &Key| read(key, key.default).unwrap_or_default();
    entry.keys.iter().map(value).collect()
}

fn read(key: &Key, text: &str) -> Result<u64, String> {
    match key.kind {
        Kind::Time(from, to) => {
            let ns = duration_ns(text)?;
            let range = format!("{} to {}", duration_text(from), duration_text(to));
            in_range(ns, from, to, &range)
        }
        Kind::Number(from, to) => {
            let number = text.parse().map_err(|_| "not a number".to_owned())?;
            in_range(number, from, to, &format!("{from} to {to}"))
        }
        Kind::Keyword(words) => words
            .iter()
            .position(|word| *word == text)
            .map(|at| at as u64)
            .ok_or_else(|| format!("must be one of {}", words.join(", "))),
    }
}

fn in_range(value: u64, from: u64, to: u64, range: &str) -> Result<u64, String> {
    if (from..=to).contains(&value) {
        Ok(value)
    } else {
        Err(format!("out of its range, {range}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_their_bounds_and_written_as_the_name() {
        for entry in &CATALOGUE {
            for key in entry.keys {
                assert!(
                    read(key, key.default).is_ok(),
                    "{} {}",
                    entry.name,
                    key.name
                );
            }
            let choice: Choice = entry.name.parse().unwrap();
            assert_eq!(choice.to_string(), entry.name);
        }
        assert_eq!(Choice::default().to_string(), "flexnet");
    }

    #[test]
    fn texts_are_read_and_written_alike() {
        for text in [
            "shinjuku:workers=20,quantum=30us",
            "snap:mode=spreading,runtime=25us",
            "shenango:rule=delay,high=10us",
            "netchannel:sticky=8",
            "flexnet:quantum=1ms",
        ] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        let rule = "snap:mode=spreading".parse::<Choice>().unwrap().core_rule();
        assert_eq!((rule.runtime_ns, rule.period_ns), (20_000, 40_000));
        let rule = "shenango:rule=delay".parse::<Choice>().unwrap().core_rule();
        assert_eq!(rule.design, Rule::ShenangoDelay as u32);
        assert_eq!((rule.high_ns, rule.low_ns), (4_000, 1_000));
    }

    #[test]
    fn errors_list_what_there_is() {
        for (text, part) in [
            ("shenjuku", "netchannel"),
            ("", "there are flexnet"),
            ("snap:mode=wide", "spreading"),
            ("snap:quantum=1us", "engines"),
            ("shinjuku:quantum=30", "unit"),
            ("shinjuku:workers=2000", "0 to 1024"),
            ("snap:runtime=100us", "over period"),
            ("shenango:low=5us", "over high"),
            ("shenango:rule", "key=value"),
            (
                "shinjuku:workers=9,quantum=1.111us,slo=1.234us,slo1=1.235us,slo2=1.236us",
                "63",
            ),
        ] {
            let error = text.parse::<Choice>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
