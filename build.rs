// SPDX-License-Identifier: GPL-2.0-only
//! Compiles bpf/main.bpf.c and generates its skeleton, and its rules' arithmetic for the
//! host's tests.

fn main() {
    // The builder tracks only *.[hc] beside the main source.
    println!("cargo:rerun-if-changed=include/flexnet");
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-changed=src/rules/host.c");
    cc::Build::new()
        .file("src/rules/host.c")
        .include("include")
        .std("c11")
        .flag("-Wextra")
        .warnings_into_errors(true)
        .compile("flexnet_rules");
    // Read when this runs: a tree that was copied with what it built has another path.
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let include = format!("{root}/include");
    let mut builder = match scx_cargo::BpfBuilder::new() {
        Ok(builder) => builder,
        Err(error) => panic!("no BPF toolchain (run ci/setup): {error}"),
    };
    builder
        .add_include_path(&include)
        .add_cflag("-Wall")
        .add_cflag("-Wextra")
        .add_cflag("-Wno-unused-parameter")
        .add_cflag("-Wno-missing-field-initializers")
        .add_cflag("-Wno-sign-compare")
        .enable_intf("bpf/intf.h", "bpf_intf.rs")
        .enable_skel("bpf/main.bpf.c", "bpf");
    if let Err(error) = builder.build() {
        panic!("the BPF scheduler does not build: {error:?}");
    }
}
