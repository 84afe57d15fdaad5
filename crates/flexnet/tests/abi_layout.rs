// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Compares src/abi.rs with what the C compiler makes of include/flexnet/abi.h:
//! every size, alignment and offset, and the constants. The C program also
//! asserts by itself what abi.h promises about lines, as C11 and as C++17.

use flexnet::abi::{
    self, Class, ClassOrigin, CpuState, ExecutorState, FlowClass, Queue, TraceKind,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the compiler runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{text}{errors}");
    text
}

/// Compiles the C program in that language and runs it.
fn printed_by(language: &str, standard: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary: PathBuf =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("abi_layout-{language}"));
    run(Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", standard, "-x", language])
        .arg("-I")
        .arg(root.join("../../include"))
        .arg(root.join("tests/c/abi_layout.c"))
        .arg("-o")
        .arg(&binary));
    run(&mut Command::new(&binary))
}

/// The size of a field behind a pointer that is never followed.
fn size_behind<S, F>(_: impl Fn(*const S) -> *const F) -> usize {
    size_of::<F>()
}

/// The lines of some structures, as the C program prints them. `type` is a
/// keyword in Rust, so a field may go by another name here.
macro_rules! layout {
    ($lines:ident: $($c:ident = $rust:ident { $($field:ident $(as $name:ident)?),* })*) => { $(
        $lines.push(format!(
            "struct {} {} {}",
            stringify!($c), size_of::<abi::$rust>(), align_of::<abi::$rust>()
        ));
        $( $lines.push(layout!(@field $c $rust $field $($name)?)); )*
    )* };
    (@field $c:ident $rust:ident $field:ident) => {
        layout!(@line $c $rust $field stringify!($field))
    };
    (@field $c:ident $rust:ident $field:ident $name:ident) => {
        layout!(@line $c $rust $name stringify!($field))
    };
    (@line $c:ident $rust:ident $field:ident $name:expr) => {
        format!(
            "field {}.{} {} {}",
            stringify!($c),
            $name,
            std::mem::offset_of!(abi::$rust, $field),
            // SAFETY: the address is computed, the memory is not touched; and
            // the closure is never called.
            size_behind(|of: *const abi::$rust| unsafe { &raw const (*of).$field })
        )
    };
}

fn rust_constants() -> Vec<String> {
    let constants = [
        ("ABI_VERSION", u64::from(abi::VERSION)),
        ("PAGE_MAGIC", abi::PAGE_MAGIC.into()),
        ("PAGE_BYTES", abi::PAGE_BYTES as u64),
        ("EXECUTORS_MAX", abi::EXECUTORS_MAX as u64),
        ("CLIENTS_MAX", abi::CLIENTS_MAX as u64),
        ("STAMPS", abi::STAMPS as u64),
        ("STAMP_EVERY", abi::STAMP_EVERY),
        ("CLASS_NORMAL", Class::Normal as u64),
        ("CLASS_LATENCY", Class::Latency as u64),
        ("CLASS_BATCH", Class::Batch as u64),
        ("CLASS_EXECUTOR", Class::Executor as u64),
        ("ORIGIN_DEFAULT", ClassOrigin::Default as u64),
        ("ORIGIN_PARENT", ClassOrigin::Parent as u64),
        ("ORIGIN_RULE", ClassOrigin::Rule as u64),
        ("ORIGIN_REGISTRATION", ClassOrigin::Registration as u64),
        ("ORIGIN_KERNEL", ClassOrigin::Kernel as u64),
        ("QUEUE_DIRECT", Queue::Direct as u64),
        ("QUEUE_LATENCY", Queue::Latency as u64),
        ("QUEUE_GENERAL", Queue::General as u64),
        ("QUEUE_CPU", Queue::Cpu as u64),
        ("QUEUE_EXECUTOR", Queue::Executor as u64),
        ("QUEUE_COUNT", abi::QUEUE_COUNT as u64),
        ("TRACE_GRANT", TraceKind::Grant as u64),
        ("TRACE_RECLAIM", TraceKind::Reclaim as u64),
        ("TRACE_PREEMPT", TraceKind::Preempt as u64),
        ("TRACE_ON_CPU", TraceKind::OnCpu as u64),
        ("TRACE_OFF_CPU", TraceKind::OffCpu as u64),
        ("TRACE_SUBMIT", TraceKind::Submit as u64),
        ("TRACE_RESUME", TraceKind::Resume as u64),
        ("TRACE_YIELD", TraceKind::Yield as u64),
        ("TRACE_FINISH", TraceKind::Finish as u64),
        ("TRACE_NO_EXECUTOR", abi::TRACE_NO_EXECUTOR.into()),
        ("MESSAGE_TRACE", abi::MESSAGE_TRACE.into()),
        ("WHY_THREADS", abi::WHY_THREADS as u64),
        ("FLOW_THROUGHPUT", FlowClass::Throughput as u64),
        ("FLOW_LATENCY", FlowClass::Latency as u64),
        ("EXECUTOR_ABSENT", ExecutorState::Absent as u64),
        ("EXECUTOR_RUNNING", ExecutorState::Running as u64),
        ("EXECUTOR_PARKED", ExecutorState::Parked as u64),
        ("EXECUTOR_WAITING", ExecutorState::Waiting as u64),
        ("MESSAGE_HELLO", abi::MESSAGE_HELLO.into()),
        (
            "MESSAGE_REGISTER_EXECUTOR",
            abi::MESSAGE_REGISTER_EXECUTOR.into(),
        ),
        (
            "MESSAGE_UNREGISTER_EXECUTOR",
            abi::MESSAGE_UNREGISTER_EXECUTOR.into(),
        ),
        ("MESSAGE_SET_CLASS", abi::MESSAGE_SET_CLASS.into()),
        ("MESSAGE_STATUS", abi::MESSAGE_STATUS.into()),
        ("MESSAGE_DETACH", abi::MESSAGE_DETACH.into()),
        ("MESSAGE_DESIGN", abi::MESSAGE_DESIGN.into()),
        ("MESSAGE_WHY", abi::MESSAGE_WHY.into()),
        ("DESIGN_BYTES", abi::DESIGN_BYTES as u64),
        ("MESSAGE_RELOAD", abi::MESSAGE_RELOAD.into()),
        ("RELOAD_BYTES", abi::RELOAD_BYTES as u64),
        ("MESSAGE_TAKEOVER", abi::MESSAGE_TAKEOVER.into()),
        ("STATUS_CHANGES", abi::STATUS_CHANGES as u64),
        ("STATUS_CPUS", abi::STATUS_CPUS as u64),
        ("PID_KERNEL", abi::PID_KERNEL.into()),
        ("CPU_ABSENT", CpuState::Absent as u64),
        ("CPU_IDLE", CpuState::Idle as u64),
        ("CPU_BUSY", CpuState::Busy as u64),
        ("CPU_LATENCY", CpuState::Latency as u64),
        ("CPU_GRANTED_IDLE", CpuState::GrantedIdle as u64),
        ("CPU_EXECUTOR", CpuState::Executor as u64),
        ("CPU_LENT", CpuState::Lent as u64),
    ];
    let mut lines: Vec<String> = constants
        .iter()
        .map(|(name, value)| format!("constant FLEXNET_{name} {value}"))
        .collect();
    lines.push(format!("text FLEXNET_SOCKET_PATH {}", abi::SOCKET_PATH));
    lines
}

fn rust_layout() -> Vec<String> {
    let mut lines = Vec::new();
    layout! { lines:
        flexnet_page_header = PageHeader { magic, version, page_bytes, client, executors_max, reserved }
        flexnet_page_client = PageClient { weight, max_cores, reserved }
        flexnet_page_grant = PageGrant { generation, attached, executors_wanted, cores_granted, saturated, reserved }
        flexnet_page_design = PageDesign { generation, text, reserved }
        flexnet_executor_foreign = ExecutorForeign { enqueued, moved, reserved }
        flexnet_executor_own = ExecutorOwn { completed, run_start_ns, state, flow_class, parks, resumes, reserved }
        flexnet_executor_sched = ExecutorSched { on_cpu, park_request, quantum_expired, on_granted_core, generation, reserved }
        flexnet_executor = Executor { foreign, own, sched, reserved, stamps }
        flexnet_page = Page { header, client, grant, design, reserved, executors, reserve }
        flexnet_message = Message { size, type as kind, version, sequence, status }
        flexnet_hello = Hello { message, name, executors, cores_guaranteed, reserved }
        flexnet_welcome = Welcome { message, client, page_bytes, executors_max, cores_guaranteed, objective_ns }
        flexnet_register = Register { message, slot, flow_class }
        flexnet_set_class = SetClass { message, task_class, reserved }
        flexnet_design_text = DesignText { message, text }
        flexnet_reload = Reload { message, text }
        flexnet_takeover = Takeover { message, detached_ns }
        flexnet_why_ask = WhyAsk { message, after, reserved }
        flexnet_why_thread = WhyThread { tid, task_class, class_origin, policy, client, slot, on_cpu, last_queue, name, run_ns, last_wait_ns, waiting_ns, preemptions, wait_ns, waits, cpus }
        flexnet_why = Why { message, pid, threads, more, reserved, thread }
        flexnet_trace_ask = TraceAsk { message, on, pid }
        flexnet_trace_reply = TraceReply { message, probes, reserved, lost }
        flexnet_trace_event = TraceEvent { at_ns, value, kind, cpu, tid, pid, executor }
        flexnet_status_client = StatusClient { client, pid, name, executors, executors_wanted, depth, delay_ns, run_ns, cores, flow_classes }
        flexnet_status_change = StatusChange { at_ns, since_ns, before, after, reason, reserved }
        flexnet_status = Status { message, cpus, cores_granted, cores_max, clients, grants, reclaims, preemptions, granted_core_ns, uptime_ns, version, design, client, cpu, gap_ns, takebacks, flag_kicks, anti_starvation, changes, change }
    }
    lines
}

#[test]
fn rust_and_c_agree() {
    let ours: Vec<String> = [rust_constants(), rust_layout()].concat();
    for (language, standard) in [("c", "-std=c11"), ("c++", "-std=c++17")] {
        let printed = printed_by(language, standard);
        let theirs: BTreeSet<&str> = printed.lines().collect();
        let ours: BTreeSet<&str> = ours.iter().map(String::as_str).collect();
        let only_c: Vec<_> = theirs.difference(&ours).collect();
        let only_rust: Vec<_> = ours.difference(&theirs).collect();
        assert!(
            only_c.is_empty() && only_rust.is_empty(),
            "{language} has {only_c:#?}, Rust has {only_rust:#?}"
        );
    }
}

/// A field or structure of abi.h that the C program does not print is not
/// compared with anything.
#[test]
fn nothing_of_the_header_is_left_out() {
    let header = include_str!("../../../include/flexnet/abi.h");
    let program = include_str!("c/abi_layout.c");
    let (mut within, mut declaration) = (None, String::new());
    let mut seen = 0;
    for line in header.lines() {
        if let Some(name) = line
            .strip_prefix("struct ")
            .and_then(|l| l.strip_suffix(" {"))
        {
            within = Some(name);
            let expected = format!("STRUCT({name});");
            assert!(program.contains(&expected), "{expected} is missing");
        } else if line.starts_with('}') {
            within = None;
        } else if let Some(name) = within {
            declaration.push_str(line);
            if declaration.contains(';') {
                let field = declaration.split(['[', ';']).next().unwrap_or_default();
                let field = field.split_whitespace().next_back().unwrap_or_default();
                let expected = format!("FIELD({name}, {field});");
                assert!(program.contains(&expected), "{expected} is missing");
                declaration.clear();
                seen += 1;
            }
        }
    }
    assert!(seen > 70, "only {seen} fields were recognised");
}
