// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The shared library's name, which stays as long as its interface does.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libflexnet.so.0");
    println!("cargo::rerun-if-changed=build.rs");
}
