// SPDX-License-Identifier: GPL-2.0-only
//! `RPS[,RPS…]`, `A..B` or `A..B/STEPS`, each in requests/s or per cent.

use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    Rps(f64),
    /// Of what the cores can serve.
    Percent(f64),
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = |text: &str| {
            text.parse::<f64>()
                .ok()
                .filter(|number| *number > 0.0 && number.is_finite())
                .ok_or_else(|| format!("{text:?} is no load: requests/s, or per cent as in 50%"))
        };
        match text.strip_suffix('%') {
            Some(percent) => number(percent).map(Self::Percent),
            None => number(text).map(Self::Rps),
        }
    }
}

/// Loads to simulate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Loads {
    These(Vec<f64>, Vec<bool>),
    Range(f64, f64, bool, usize),
}

impl FromStr for Loads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = |load: Load| match load {
            Load::Rps(rps) => (rps, false),
            Load::Percent(percent) => (percent / 100.0, true),
        };
        let Some((from, rest)) = text.split_once("..") else {
            let loads: Result<Vec<_>, _> =
                text.split(',').map(|one| one.parse().map(parts)).collect();
            let (numbers, percent) = loads?.into_iter().unzip();
            return Ok(Self::These(numbers, percent));
        };
        let (to, steps) = rest.split_once('/').unwrap_or((rest, "10"));
        let steps: usize = steps
            .parse()
            .ok()
            .filter(|steps| (2..=1000).contains(steps))
            .ok_or("from 2 to 1000 steps")?;
        let ((from, percent), (to, same)) = (parts(from.parse()?), parts(to.parse()?));
        if percent != same || from >= to {
            return Err(format!("{text}: from less to more, both in the same unit"));
        }
        Ok(Self::Range(from, to, percent, steps))
    }
}

impl Loads {
    /// In requests/s, `full` being what the cores can serve.
    pub fn rps(&self, full: f64) -> Vec<f64> {
        let scale = |percent: bool| if percent { full } else { 1.0 };
        match self {
            Self::These(numbers, percent) => numbers
                .iter()
                .zip(percent)
                .map(|(number, &percent)| number * scale(percent))
                .collect(),
            &Self::Range(from, to, percent, steps) => (0..steps)
                .map(|step| from + (to - from) * step as f64 / (steps - 1) as f64)
                .map(|number| number * scale(percent))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_read() {
        let rps = |text: &str| text.parse::<Loads>().map(|loads| loads.rps(1000.0));
        assert_eq!(rps("100,50%"), Ok(vec![100.0, 500.0]));
        assert_eq!(rps("10..30/3"), Ok(vec![10.0, 20.0, 30.0]));
        assert_eq!(rps("10%..95%").map(|loads| loads.len()), Ok(10));
        for text in ["", "0", "-5", "10..5", "10..50%", "1..2/1", "inf"] {
            assert!(rps(text).is_err(), "{text}");
        }
    }
}
