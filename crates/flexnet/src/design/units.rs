// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Times as people write them: `30us`, `5.7 µs`, `10ms`.

/// Reads a time with its unit (ns, us or µs, ms, s), fractions allowed; in ns.
///
/// # Errors
/// What is wrong with it, in words.
pub fn duration_ns(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "" => return Err(format!("{text:?} has no unit (ns, us, ms, s)")),
        other => return Err(format!("{other:?} is no unit of time (ns, us, ms, s)")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no time, such as 30us"))?;
    let ns = (number * scale).round();
    if ns > 1e15 {
        return Err(format!("{text:?} is over eleven days"));
    }
    Ok(ns as u64)
}

/// A time with the unit that makes it short.
pub fn duration_text(ns: u64) -> String {
    for (scale, unit) in [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")] {
        if ns >= scale {
            let text = format!("{:.3}", ns as f64 / scale as f64);
            return format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'));
        }
    }
    format!("{ns}ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, ns, again) in [
            ("30us", 30_000, "30us"),
            ("5.7us", 5_700, "5.7us"),
            ("0.5 µs", 500, "500ns"),
            ("1000ms", 1_000_000_000, "1s"),
            ("0ns", 0, "0ns"),
        ] {
            assert_eq!(duration_ns(text), Ok(ns), "{text}");
            assert_eq!(duration_text(ns), again);
        }
        for text in ["", "30", "us", "1.2.3us", "-5us", "3 parsecs", "1e9s"] {
            assert!(duration_ns(text).is_err(), "{text}");
        }
    }
}
