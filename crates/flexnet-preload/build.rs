// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The library's own name, by which the loader's cache has it.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libflexnet_preload.so");
    println!("cargo::rerun-if-changed=build.rs");
}
