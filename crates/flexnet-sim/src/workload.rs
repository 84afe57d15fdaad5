// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What comes and how long it takes: arrivals and service times.

use flexnet::design::units::duration_ns;
use rand_distr::{Distribution, Exp1, StandardNormal, StandardUniform};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Service times.
#[derive(Clone, Debug, PartialEq)]
pub enum Service {
    /// Exponential with that mean, ns.
    Exponential(f64),
    /// Lognormal.
    LogNormal {
        /// ns.
        mean: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Pareto: many short ones, and few that are very long.
    Pareto {
        /// ns.
        mean: f64,
        /// Above 1; up to 2 the variance is infinite.
        shape: f64,
    },
    /// Each of these (ns) as often as the others: measured ones. At least one.
    Empirical(Vec<u64>),
    /// Probability and time (ns) of each type; probabilities sum up to 1.
    Types(Vec<(f64, u64)>),
}

/// Distributions in common use, by name.
pub const NAMED: [(&str, &str); 9] = [
    ("fixed-1us", "100%:1us"),
    ("fixed-10us", "100%:10us"),
    ("exponential-10us", "exp:10us"),
    ("high-bimodal", "50%:1us,50%:100us"),
    ("extreme-bimodal", "99.5%:0.5us,0.5%:500us"),
    ("dispersive", "99.5%:4us,0.5%:10ms"),
    ("tpcc", "44%:5.7us,4%:6us,44%:20us,4%:88us,4%:100us"),
    ("rocksdb", "50%:1.25us,50%:613us"),
    ("shenango-bimodal-10us", "90%:5us,10%:55us"),
];

impl FromStr for Service {
    type Err = String;

    /// A name of [`NAMED`], `exp:MEAN`, `lognormal:MEAN/SIGMA`, `pareto:MEAN/SHAPE`, or
    /// `P%:TIME[,…]`. Measured times are files, which this does not read.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, named)) = NAMED.iter().find(|(name, _)| *name == text) {
            return named.parse();
        }
        if let Some(mean) = text.strip_prefix("exp:") {
            return match duration_ns(mean)? {
                0 => Err("a mean of 0 it cannot have".to_owned()),
                mean => Ok(Self::Exponential(mean as f64)),
            };
        }
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let form = "lognormal:MEAN/SIGMA, such as lognormal:10us/1.2";
            let (mean, sigma) = mean_and(rest, form)?;
            return match sigma >= 0.0 {
                true => Ok(Self::LogNormal { mean, sigma }),
                false => Err(form.to_owned()),
            };
        }
        if let Some(rest) = text.strip_prefix("pareto:") {
            let form = "pareto:MEAN/SHAPE, such as pareto:10us/1.5; the shape is above 1";
            let (mean, shape) = mean_and(rest, form)?;
            return match shape > 1.0 {
                true => Ok(Self::Pareto { mean, shape }),
                false => Err(form.to_owned()),
            };
        }
        let mut types = Vec::new();
        for part in text.split(',') {
            let parsed = part.split_once("%:").and_then(|(share, time)| {
                let share: f64 = share.trim().parse().ok()?;
                (0.0..=100.0).contains(&share).then_some((share, time))
            });
            let Some((share, time)) = parsed else {
                let names = NAMED.map(|(name, _)| name).join(", ");
                return Err(format!(
                    "{text:?} is none of P%:TIME[,…], exp:MEAN, lognormal:MEAN/SIGMA, \
                     pareto:MEAN/SHAPE, file:FILE, {names}"
                ));
            };
            types.push((share / 100.0, duration_ns(time)?.max(1)));
        }
        let sum: f64 = types.iter().map(|(share, _)| share).sum();
        if (sum - 1.0).abs() > 1e-6 {
            return Err(format!("{text}: the shares sum up to {}%", sum * 100.0));
        }
        Ok(Self::Types(types))
    }
}

/// `MEAN/NUMBER`, the mean in ns and above 0.
fn mean_and(text: &str, form: &str) -> Result<(f64, f64), String> {
    let (mean, number) = text.split_once('/').ok_or(form)?;
    let number: f64 = number.trim().parse().map_err(|_| form.to_owned())?;
    match duration_ns(mean)? {
        1.. if number.is_finite() => Ok((duration_ns(mean)? as f64, number)),
        _ => Err(form.to_owned()),
    }
}

impl Service {
    /// Its mean, ns.
    pub fn mean_ns(&self) -> f64 {
        match self {
            Self::Exponential(mean) | Self::LogNormal { mean, .. } | Self::Pareto { mean, .. } => {
                *mean
            }
            Self::Empirical(times) => {
                times.iter().map(|ns| *ns as f64).sum::<f64>() / times.len().max(1) as f64
            }
            Self::Types(types) => types.iter().map(|(share, ns)| share * *ns as f64).sum(),
        }
    }

    /// One: its time (ns, at least 1) and its type.
    pub fn draw(&self, random: &mut Xoshiro256PlusPlus) -> (u64, u32) {
        match self {
            Self::Exponential(mean) => {
                let unit: f64 = Exp1.sample(random);
                ((unit * mean) as u64 + 1, 0)
            }
            Self::LogNormal { mean, sigma } => {
                let unit: f64 = StandardNormal.sample(random);
                let ns = mean * (sigma * unit - sigma * sigma / 2.0).exp();
                (ns as u64 + 1, 0)
            }
            Self::Pareto { mean, shape } => {
                let unit: f64 = Exp1.sample(random);
                let least = mean * (shape - 1.0) / shape;
                ((least * (unit / shape).exp()) as u64 + 1, 0)
            }
            Self::Empirical(times) => {
                let unit: f64 = StandardUniform.sample(random);
                let at = (unit * times.len() as f64) as usize;
                (times.get(at).map_or(1, |ns| (*ns).max(1)), 0)
            }
            Self::Types(types) => {
                let mut left: f64 = StandardUniform.sample(random);
                for (kind, &(share, ns)) in types.iter().enumerate() {
                    if left < share {
                        return (ns, kind as u32);
                    }
                    left -= share;
                }
                types.last().map_or((1, 0), |last| (last.1, 0))
            }
        }
    }
}

/// When requests come, of all applications together.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Poisson, at the load.
    Poisson,
    /// Poisson bursts: `on` ns at a rate such that the mean is the load, then
    /// `off` ns of nothing.
    OnOff {
        /// Length of a burst, ns.
        on: u64,
        /// Of the pause after it, ns.
        off: u64,
    },
    /// Poisson, at each rate (requests/s) for so long (ns), then again from the
    /// first; the load is not used.
    Steps {
        /// How long each lasts, ns.
        every: u64,
        /// Requests/s.
        rates: Vec<f64>,
    },
    /// Poisson, at one of two rates whose mean is the load (an MMPP of two states). Each
    /// application is in the one or the other for itself.
    Mmpp {
        /// The high rate, times the low one. At least 1.
        ratio: f64,
        /// Mean of the exponential time at the high rate, ns.
        high: f64,
        /// At the low one.
        low: f64,
    },
    /// A closed loop, without a load: each client sends a request, waits until it is served, and
    /// thinks. Clients begin by thinking.
    Closed {
        /// How many there are; applications have equal shares of them.
        clients: usize,
        /// How long each thinks. `None`: not at all.
        think: Option<Service>,
    },
    /// At these times from the start (ns), with these service times where they
    /// are not 0.
    Trace(Vec<(u64, u64)>),
}

/// The rate that an application's arrivals have for now, where it changes at random.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phase {
    high: bool,
    /// ns; 0: nothing has come yet.
    until: u64,
}

/// An exponential time around a mean, ns.
fn exponential(mean: f64, random: &mut Xoshiro256PlusPlus) -> u64 {
    let unit: f64 = Exp1.sample(random);
    (unit * mean).min(1e15) as u64
}

impl Arrivals {
    /// The time of the next after one at `now`, `rate` being the load (both of
    /// one application, ns and requests/s). A closed loop has none: its clients send.
    pub fn next(
        &self,
        now: u64,
        rate: f64,
        apps: f64,
        phase: &mut Phase,
        random: &mut Xoshiro256PlusPlus,
    ) -> u64 {
        let gap = |rate: f64, random: &mut _| exponential(1e9 / rate.max(1e-6), random);
        match self {
            Self::Poisson | Self::Trace(_) | Self::Closed { .. } => now + gap(rate, random),
            Self::Mmpp { ratio, high, low } => {
                let low_rate = rate * (high + low) / (ratio * high + low);
                if phase.until == 0 {
                    // As if it had always been there.
                    let unit: f64 = StandardUniform.sample(random);
                    phase.high = unit * (high + low) < *high;
                    let mean = if phase.high { *high } else { *low };
                    phase.until = now + exponential(mean, random) + 1;
                }
                let mut at = now;
                loop {
                    let times = if phase.high { *ratio } else { 1.0 };
                    let next = at + gap(low_rate * times, random);
                    // Poisson has no memory: begin anew where the rate changes.
                    if next < phase.until {
                        return next;
                    }
                    at = phase.until;
                    phase.high = !phase.high;
                    let mean = if phase.high { *high } else { *low };
                    phase.until = at + exponential(mean, random) + 1;
                }
            }
            Self::OnOff { on, off } => {
                let period = on + off;
                let boost = period as f64 / (*on).max(1) as f64;
                // In time that counts only bursts, then back.
                let within = now / period * on + (now % period).min(*on);
                let next = within + gap(rate * boost, random);
                next / (*on).max(1) * period + next % (*on).max(1)
            }
            Self::Steps { every, rates } => {
                let mut at = now;
                loop {
                    let step = at / every;
                    let rate = rates[step as usize % rates.len()] / apps;
                    let next = at + gap(rate, random);
                    // Poisson has no memory: begin anew at the step's end.
                    if next < (step + 1) * every {
                        return next;
                    }
                    at = (step + 1) * every;
                }
            }
        }
    }

    /// Which step a time is in, and how far.
    pub fn step(&self, now: u64) -> (usize, u64) {
        match self {
            Self::Steps { every, rates } => ((now / every) as usize % rates.len(), now % every),
            _ => (0, u64::MAX),
        }
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        match self {
            Self::Steps { rates, .. } => rates.len(),
            _ => 1,
        }
    }
}

/// How long a phase of arrivals may be: shorter ones would be most of the work.
const PHASE_MIN_NS: u64 = 1_000;
const PHASE_MAX_NS: u64 = 3_600_000_000_000;
/// The largest ratio of two rates.
const RATIO_MAX: f64 = 1e6;
/// Requests/s of a step.
const RATES: RangeInclusive<f64> = 0.001..=1e9;

/// How long `what` is, if it may be as long.
fn phase_ns(what: &str, text: &str) -> Result<u64, String> {
    match duration_ns(text)? {
        ns @ PHASE_MIN_NS..=PHASE_MAX_NS => Ok(ns),
        _ => Err(format!(
            "{what}, {}: 1us to 3600s are possible",
            text.trim()
        )),
    }
}

impl FromStr for Arrivals {
    type Err = String;

    /// `poisson`, `onoff:ON/OFF`, `mmpp:RATIO/HIGH/LOW` or `steps:EVERY:RPS/RPS/…`; traces
    /// are files, which this does not read.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        match name {
            "poisson" => Ok(Self::Poisson),
            "onoff" => {
                let (on, off) = rest
                    .split_once('/')
                    .ok_or("onoff:ON/OFF, such as onoff:1ms/9ms")?;
                let on = phase_ns("a burst", on)?;
                match duration_ns(off)? {
                    off @ 0..=PHASE_MAX_NS => Ok(Self::OnOff { on, off }),
                    _ => Err(format!("the pause {off}: up to 3600s are possible")),
                }
            }
            "mmpp" => {
                let form = "mmpp:RATIO/HIGH/LOW, such as mmpp:10/1ms/9ms";
                let (ratio, times) = rest.split_once('/').ok_or(form)?;
                let (high, low) = times.split_once('/').ok_or(form)?;
                let ratio: f64 = ratio.trim().parse().map_err(|_| form.to_owned())?;
                if !(1.0..=RATIO_MAX).contains(&ratio) {
                    return Err(format!("the ratio {ratio}: 1 to {RATIO_MAX} are possible"));
                }
                Ok(Self::Mmpp {
                    ratio,
                    high: phase_ns("the time at the high rate", high)? as f64,
                    low: phase_ns("the time at the low rate", low)? as f64,
                })
            }
            "steps" => {
                let form = "steps:EVERY:RPS/RPS/…, such as steps:1s:100000/5000000";
                let (every, rates) = rest.split_once(':').ok_or(form)?;
                let every = phase_ns("a step", every)?;
                let rates: Vec<f64> = rates
                    .split('/')
                    .map(|rate| rate.trim().parse().ok())
                    .collect::<Option<_>>()
                    .ok_or(form)?;
                let (least, most) = (*RATES.start(), *RATES.end());
                match rates.iter().find(|rate| !RATES.contains(rate)) {
                    Some(rate) => Err(format!("{rate} requests/s: {least} to {most} are possible")),
                    None => Ok(Self::Steps { every, rates }),
                }
            }
            _ => Err(format!(
                "{text:?} is none of poisson, onoff:ON/OFF, mmpp:RATIO/HIGH/LOW, \
                 steps:EVERY:RPS/…, trace:FILE"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    #[test]
    fn means_are_what_is_drawn() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        for (name, _) in NAMED {
            let service: Service = name.parse().unwrap();
            let n = 2_000_000;
            let sum: u64 = (0..n).map(|_| service.draw(&mut random).0).sum();
            let ratio = sum as f64 / f64::from(n) / service.mean_ns();
            assert!((0.97..1.03).contains(&ratio), "{name}: {ratio}");
        }
        for (text, mean) in [("lognormal:10us/1", 1e4), ("pareto:10us/3", 1e4)] {
            let service: Service = text.parse().unwrap();
            assert_eq!(service.mean_ns(), mean);
            let sum: f64 = (0..2_000_000)
                .map(|_| service.draw(&mut random).0 as f64)
                .sum();
            assert!((0.97..1.03).contains(&(sum / 2e6 / mean)), "{text}");
        }
        let measured = Service::Empirical(vec![1_000, 3_000]);
        assert_eq!(measured.mean_ns(), 2_000.0);
        let drawn: Vec<u64> = (0..1000).map(|_| measured.draw(&mut random).0).collect();
        let long = drawn.iter().filter(|ns| **ns == 3_000).count();
        assert!((400..600).contains(&long) && drawn.iter().all(|ns| [1_000, 3_000].contains(ns)));
        for text in [
            "lognormal:10us",
            "lognormal:10us/-1",
            "pareto:10us/1",
            "pareto:0us/2",
            "90%:1us",
            "1us",
            "50%:1us,50%",
            "-1%:1us,101%:1us",
            "exp:0us",
        ] {
            assert!(text.parse::<Service>().is_err(), "{text}");
        }
    }

    #[test]
    fn arrivals_have_their_rates() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut count = |text: &str, from: u64, to: u64| {
            let arrivals: Arrivals = text.parse().unwrap();
            let (mut now, mut count, mut phase) = (0, 0, Phase::default());
            while now < to {
                now = arrivals.next(now, 1e6, 1.0, &mut phase, &mut random);
                count += u32::from((from..to).contains(&now));
            }
            f64::from(count)
        };
        let second = 1_000_000_000;
        assert!((count("poisson", 0, second) / 1e6 - 1.0).abs() < 0.01);
        assert!((count("onoff:1ms/9ms", 0, second) / 1e6 - 1.0).abs() < 0.01);
        assert_eq!(count("onoff:1ms/9ms", 1_000_001, 10_000_000), 0.0);
        let steps = "steps:100ms:100000/5000000";
        assert!((count(steps, 0, second / 10) / 1e4 - 1.0).abs() < 0.05);
        assert!((count(steps, second / 10, second / 5) / 5e5 - 1.0).abs() < 0.01);
        for text in [
            "bursty",
            "onoff:1ms",
            "mmpp:10/1ms",
            "steps:1s",
            "steps:1s:many",
        ] {
            assert!(text.parse::<Arrivals>().is_err(), "{text}");
        }
        // What is out of its range is named, and the range.
        let phase = "1us to 3600s are possible";
        for (text, range) in [
            ("mmpp:0.5/1ms/1ms", "the ratio 0.5: 1 to 1000000"),
            ("mmpp:NaN/1ms/1ms", "the ratio NaN: 1 to 1000000"),
            ("mmpp:inf/1ms/1ms", "the ratio inf: 1 to 1000000"),
            ("mmpp:1e300/1ms/1ms", "1 to 1000000"),
            ("mmpp:10/0ms/1ms", phase),
            ("mmpp:10/1ns/1ms", phase),
            ("mmpp:10/1ms/999ns", phase),
            ("mmpp:10/1ms/3601s", phase),
            ("onoff:1ns/1ms", phase),
            ("onoff:1ms/3601s", "up to 3600s"),
            ("steps:0s:1", phase),
            ("steps:1ns:1", phase),
            ("steps:1s:0", "0.001 to 1000000000"),
            ("steps:1s:10/-1", "0.001 to 1000000000"),
            ("steps:1s:10/inf", "0.001 to 1000000000"),
        ] {
            let error = text.parse::<Arrivals>().unwrap_err();
            assert!(error.contains(range), "{text}: {error}");
        }
        for text in ["mmpp:1/1us/3600s", "mmpp:1e6/3600s/1us", "onoff:1us/0s"] {
            assert!(text.parse::<Arrivals>().is_ok(), "{text}");
        }
    }

    /// Counts in windows: their mean, and their variance by the mean, against the theory of the
    /// MMPP of two states.
    #[test]
    fn an_mmpp_has_the_mean_and_the_dispersion_of_theory() {
        let (ratio, high, low, rate) = (10.0, 1e-4, 4e-4, 1e6);
        let arrivals: Arrivals = "mmpp:10/100us/400us".parse().unwrap();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut phase = Phase::default();
        let (window_ns, windows) = (200_000, 200_000);
        let mut counts = vec![0.0; windows];
        let mut now = 0;
        loop {
            now = arrivals.next(now, rate, 1.0, &mut phase, &mut random);
            match counts.get_mut((now / window_ns) as usize) {
                Some(count) => *count += 1.0,
                None => break,
            }
        }
        let mean = counts.iter().sum::<f64>() / windows as f64;
        let square = counts.iter().map(|count| (count - mean).powi(2));
        let dispersion = square.sum::<f64>() / windows as f64 / mean;

        let window = window_ns as f64 / 1e9;
        assert!((mean / (rate * window) - 1.0).abs() < 0.01, "mean {mean}");
        let slow = rate * (high + low) / (ratio * high + low);
        let fast = ratio * slow;
        let (leave_high, leave_low) = (1.0 / high, 1.0 / low);
        let both = leave_high + leave_low;
        let limit = 2.0 * (fast - slow).powi(2) * leave_high * leave_low
            / (both.powi(2) * (leave_low * fast + leave_high * slow));
        let expected = 1.0 + limit * (1.0 - (1.0 - (-both * window).exp()) / (both * window));
        let ratio = dispersion / expected;
        assert!((ratio - 1.0).abs() < 0.03, "{dispersion}, not {expected}");
    }
}
