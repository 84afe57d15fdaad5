// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Compiles include/flexnet/designs.h for the host: the rules for cores that BPF runs.

fn main() {
    println!("cargo::rerun-if-changed=../../include/flexnet");
    println!("cargo::rerun-if-changed=src/designs.c");
    cc::Build::new()
        .file("src/designs.c")
        .include("../../include")
        .std("c11")
        .flag("-Wextra")
        .warnings_into_errors(true)
        .compile("flexnet_designs");
}
