// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Against theory, and what a user would notice.

use super::*;

fn setup(design: &str, cores: usize) -> Setup {
    Setup::new(design.parse().expect("a design"), cores)
}

#[test]
fn smoke() {
    let outcome = simulate(&setup("flexnet", 8));
    eprintln!("{outcome:?}");
    assert!(outcome.requests > 300_000);
}
