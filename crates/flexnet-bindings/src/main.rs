// SPDX-License-Identifier: GPL-2.0-only
//! Prints the Rust mirror of include/flexnet/abi.h: bindgen's output, with the names and the
//! atomics that the library uses. ci/steps/abi compares it with the committed
//! crates/flexnet/src/abi/generated.rs, so that a user of the library needs no libclang.
//!
//! Promises sizes and offsets as clang has them: the output asserts each of them.

use anyhow::{Context, Result, ensure};
use bindgen::callbacks::{DeriveInfo, EnumVariantValue, IntKind, ItemInfo, ParseCallbacks};

/// Structures of the shared page, which several writers and readers change at once.
const PAGE: &[&str] = &[
    "PageClient",
    "PageGrant",
    "PageDesign",
    "ExecutorForeign",
    "ExecutorOwn",
    "ExecutorSched",
    "Executor",
];
/// Enumerations in the library's words, and what their variants begin with.
const ENUMS: &[(&str, &str, &str)] = &[
    ("flexnet_class", "Class", "FLEXNET_CLASS_"),
    ("flexnet_class_origin", "ClassOrigin", "FLEXNET_ORIGIN_"),
    ("flexnet_queue", "Queue", "FLEXNET_QUEUE_"),
    ("flexnet_flow_class", "FlowClass", "FLEXNET_FLOW_"),
    (
        "flexnet_executor_state",
        "ExecutorState",
        "FLEXNET_EXECUTOR_",
    ),
    ("flexnet_cpu_state", "CpuState", "FLEXNET_CPU_"),
    (
        "flexnet_core_rule_action",
        "CoreRuleAction",
        "FLEXNET_CORE_RULE_",
    ),
    ("flexnet_trace_kind", "TraceKind", "FLEXNET_TRACE_"),
];

/// `some_words` or `SOME_WORDS` as SomeWords.
fn camel(words: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_uppercase() + &rest.to_lowercase()
    };
    words.split('_').map(word).collect()
}

#[derive(Debug)]
struct Names;

impl ParseCallbacks for Names {
    fn int_macro(&self, name: &str, _value: i64) -> Option<IntKind> {
        let kind = match name {
            "FLEXNET_ABI_VERSION" => IntKind::U16,
            "FLEXNET_PAGE_MAGIC" | "FLEXNET_PID_KERNEL" | "FLEXNET_TRACE_NO_EXECUTOR" => {
                IntKind::U32
            }
            "FLEXNET_STAMP_EVERY" => IntKind::U64,
            _ => IntKind::Custom {
                name: "usize",
                is_signed: false,
            },
        };
        Some(kind)
    }

    fn enum_variant_name(
        &self,
        of: Option<&str>,
        variant: &str,
        _value: EnumVariantValue,
    ) -> Option<String> {
        let of = of?.trim_start_matches("enum ");
        let (_, _, prefix) = ENUMS.iter().find(|(name, _, _)| *name == of)?;
        Some(camel(variant.strip_prefix(prefix)?))
    }

    fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
        let name = item.name;
        if let Some((_, ours, _)) = ENUMS.iter().find(|(theirs, _, _)| *theirs == name) {
            return Some((*ours).to_owned());
        }
        if let Some(name) = name.strip_prefix("FLEXNET_") {
            return Some(name.strip_prefix("ABI_").unwrap_or(name).to_owned());
        }
        Some(camel(name.strip_prefix("flexnet_")?))
    }

    fn add_derives(&self, of: &DeriveInfo<'_>) -> Vec<String> {
        match of.name {
            "TraceEvent" => vec!["PartialEq".into(), "Eq".into()],
            _ => vec![],
        }
    }
}

/// bindgen's output.
fn bindings(header: &str, include: &str) -> Result<String> {
    let page = "flexnet_(page.*|executor|executor_(foreign|own|sched))";
    let bindings = bindgen::Builder::default()
        .header(header)
        .clang_arg(format!("-I{include}"))
        .allowlist_file(".*/flexnet/abi.h")
        .parse_callbacks(Box::new(Names))
        .default_enum_style(bindgen::EnumVariation::Rust {
            non_exhaustive: false,
        })
        .constified_enum("flexnet_message_type")
        .prepend_enum_name(false)
        .derive_default(true)
        .no_copy(page)
        .no_debug(page)
        .no_default(page)
        .generate_comments(false)
        .disable_header_comment()
        .use_core()
        .formatter(bindgen::Formatter::Prettyplease)
        .generate()
        .context("bindgen reads include/flexnet/abi.h")?;
    Ok(bindings.to_string())
}

/// The types that bindgen does not choose: atomics in the page, bytes for text.
fn with_the_librarys_types(text: &str) -> Result<String> {
    let mut out = String::new();
    let (mut within, mut counts, mut atomics) = (String::new(), String::new(), 0);
    for line in text.lines() {
        let mut line = line.replace("::core::ffi::c_char", "u8");
        let begun = line.strip_prefix("pub struct ");
        if let Some(rest) = begun.or(line.strip_prefix("pub enum ")) {
            within = rest.trim_end_matches(" {").to_owned();
        } else if line == "}" {
            within.clear();
        } else if PAGE.contains(&within.as_str()) && !line.contains("reserved") {
            let before = line.clone();
            for (plain, atomic) in [
                ("__u64", "AtomicU64"),
                ("__u32", "AtomicU32"),
                ("__s32", "AtomicI32"),
                // Read while it is written, so it is made of words.
                ("[u8; 64usize]", "[AtomicU64; 8usize]"),
            ] {
                line = line.replace(plain, atomic);
            }
            atomics += usize::from(line != before);
        }
        for (theirs, ours) in [
            ("__u64", "u64"),
            ("__u32", "u32"),
            ("__s32", "i32"),
            ("__u16", "u16"),
            ("__s16", "i16"),
            ("__u8", "u8"),
            ("pub type_: ", "pub kind: "),
            (", type_)", ", kind)"),
            ("::type_\"", "::kind\""),
            ("pub const FLEXNET_MESSAGE_", "pub const MESSAGE_"),
            (": MessageType = ", ": u16 = "),
        ] {
            line = line.replace(theirs, ours);
        }
        // bindgen has text as bytes that end with a zero.
        if let Some(rest) = line.strip_prefix("pub const SOCKET_PATH: ") {
            let path = rest.split('"').nth(1).context("no socket path")?;
            line = format!(
                "pub const SOCKET_PATH: &str = \"{}\";",
                path.trim_end_matches("\\0")
            );
        }
        // Names of the kernel's integers, which are Rust's here; a count is no class or
        // queue; no task is ever asked to be a kernel thread.
        let dropped = line.starts_with("pub type u") || line.starts_with("pub type i");
        if dropped || line.starts_with("pub type MessageType") {
            continue;
        }
        if let Some(count) = line.trim().strip_prefix("Count = ") {
            let name = within.to_uppercase();
            let count = count.trim_end_matches(',');
            counts.push_str(&format!("pub const {name}_COUNT: usize = {count};\n"));
            continue;
        }
        if line.trim() == "Kthread = 4," {
            continue;
        }
        out.push_str(&line);
        out.push('\n');
    }
    ensure!(
        atomics >= 15,
        "only {atomics} fields of the page became atomics"
    );
    Ok(out + &counts)
}

fn main() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../include");
    let text = bindings(&format!("{root}/flexnet/abi.h"), root)?;
    print!(
        "// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause\n\
         //! include/flexnet/abi.h in Rust: written by ci/steps/abi --write, not by hand.\n\n\
         use std::sync::atomic::{{AtomicI32, AtomicU32, AtomicU64}};\n\n{}",
        with_the_librarys_types(&text)?
    );
    Ok(())
}
