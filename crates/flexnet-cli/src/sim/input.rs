// SPDX-License-Identifier: GPL-2.0-only
//! What is read from files: arrivals of a trace, and measured service times.

use anyhow::{Context, Result, anyhow, ensure};
use flexnet_sim::{Arrivals, Service};

/// Service times, where `file:FILE` has measured ones: µs, one a line.
pub(super) fn service(text: &str) -> Result<Service, String> {
    let Some(path) = text.strip_prefix("file:") else {
        return text.parse();
    };
    let file = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let lines = file.lines().map(str::trim).enumerate();
    let times: Vec<u64> = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| match line.parse::<f64>() {
            Ok(us) if us > 0.0 && us.is_finite() => Ok((us * 1e3) as u64),
            _ => Err(format!("{path}:{}: no time in µs: {line:?}", at + 1)),
        })
        .collect::<Result<_, _>>()?;
    match times.is_empty() {
        true => Err(format!("{path}: no times")),
        false => Ok(Service::Empirical(times)),
    }
}

pub(super) fn arrivals(text: &str) -> Result<Arrivals> {
    let Some(path) = text.strip_prefix("trace:") else {
        return text.parse().map_err(|error: String| anyhow!(error));
    };
    let file = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let mut trace = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let line = line.trim();
        if line.is_empty()
            || line.starts_with('#')
            || (number == 0 && line.starts_with(|c: char| c.is_alphabetic()))
        {
            continue;
        }
        let mut fields = line.split(',').map(|field| field.trim().parse::<f64>());
        let (at, service) = match (fields.next(), fields.next()) {
            (Some(Ok(at)), None) => (at, 0.0),
            (Some(Ok(at)), Some(Ok(service))) => (at, service),
            _ => {
                return Err(anyhow!(
                    "{path}:{}: not seconds[,service µs]: {line:?}",
                    number + 1
                ));
            }
        };
        ensure!(
            at >= 0.0 && service >= 0.0,
            "{path}:{}: below 0",
            number + 1
        );
        trace.push(((at * 1e9) as u64, (service * 1e3) as u64));
    }
    ensure!(
        trace.is_sorted_by_key(|entry| entry.0),
        "{path}: times must not go back"
    );
    ensure!(!trace.is_empty(), "{path}: no arrivals");
    Ok(Arrivals::Trace(trace))
}
