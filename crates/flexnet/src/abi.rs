// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The Rust mirror of include/flexnet/abi.h: the shared page and the control
//! socket's messages. tests/abi_layout.rs compares every size and offset with
//! the C compiler's.
//!
//! Fields of the page that several threads or the kernel touch are atomics;
//! who may write which line is said in abi.h.

#![allow(
    missing_docs,
    reason = "each field is documented in abi.h, the one definition"
)]

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence};

pub const VERSION: u16 = 1;
pub const PAGE_MAGIC: u32 = 0x3158_4c46;
pub const PAGE_BYTES: usize = 16384;
pub const EXECUTORS_MAX: usize = 16;
pub const CLIENTS_MAX: usize = 64;
pub const STAMPS: usize = 64;
pub const STAMP_EVERY: u64 = 16;
pub const SOCKET_PATH: &str = "/run/scx_flexnet/control.sock";

/// Scheduling class of a task (`enum flexnet_class`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    Normal = 0,
    Latency = 1,
    Batch = 2,
    Executor = 3,
}

/// Where a task's class comes from (`enum flexnet_class_origin`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ClassOrigin {
    Default = 0,
    Parent = 1,
    Rule = 2,
    Registration = 3,
    Kernel = 4,
}

/// Where a task waits for a CPU (`enum flexnet_queue`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Queue {
    Direct = 0,
    Latency = 1,
    General = 2,
    Cpu = 3,
    Executor = 4,
}

/// What happened, in a trace (`enum flexnet_trace_kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum TraceKind {
    Grant = 1,
    Reclaim = 2,
    Preempt = 3,
    OnCpu = 4,
    OffCpu = 5,
    Submit = 6,
    Resume = 7,
    Yield = 8,
    Finish = 9,
}

impl TraceKind {
    /// Of an event, if it is known.
    pub fn of(kind: u16) -> Option<Self> {
        [
            Self::Grant,
            Self::Reclaim,
            Self::Preempt,
            Self::OnCpu,
            Self::OffCpu,
            Self::Submit,
            Self::Resume,
            Self::Yield,
            Self::Finish,
        ]
        .into_iter()
        .find(|known| *known as u16 == kind)
    }
}

/// What kind of flows an executor serves (`enum flexnet_flow_class`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum FlowClass {
    #[default]
    Throughput = 0,
    Latency = 1,
}

/// `enum flexnet_executor_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExecutorState {
    Absent = 0,
    Running = 1,
    Parked = 2,
    Waiting = 3,
}

#[repr(C, align(64))]
pub struct PageHeader {
    pub magic: u32,
    pub version: u32,
    pub page_bytes: u32,
    pub client: u32,
    pub executors_max: u32,
    pub reserved: [u32; 11],
}

#[repr(C, align(64))]
pub struct PageClient {
    pub weight: AtomicU32,
    pub max_cores: AtomicU32,
    pub reserved: [u32; 14],
}

#[repr(C, align(64))]
pub struct PageGrant {
    pub generation: AtomicU64,
    pub attached: AtomicU32,
    pub executors_wanted: AtomicU32,
    pub cores_granted: AtomicU32,
    pub saturated: AtomicU32,
    pub reserved: [u32; 10],
}

#[repr(C, align(64))]
pub struct PageDesign {
    pub generation: AtomicU64,
    /// As words, since it may be read while it is written.
    pub text: [AtomicU64; DESIGN_BYTES / 8],
    pub reserved: [u64; 7],
}

impl PageDesign {
    /// Tells the page's client; for the daemon alone, one thread of it.
    pub fn write(&self, text: &str) {
        let text = DesignText::new(Message::default(), text).text;
        let generation = self.generation.load(Ordering::Relaxed) | 1;
        self.generation.store(generation, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, bytes) in self.text.iter().zip(text.chunks_exact(8)) {
            let bytes = std::array::from_fn(|at| bytes[at]);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        self.generation.store(generation + 1, Ordering::Release);
    }

    /// The generation and its text; `None` while that is written.
    pub fn read(&self) -> Option<(u64, String)> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut bytes = [0; DESIGN_BYTES];
        for (word, bytes) in self.text.iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        fence(Ordering::Acquire);
        let still = self.generation.load(Ordering::Relaxed) == generation;
        (generation & 1 == 0 && still).then(|| (generation, name_text(&bytes)))
    }
}

#[repr(C, align(64))]
pub struct ExecutorForeign {
    pub enqueued: AtomicU64,
    pub moved: AtomicU64,
    pub reserved: [u64; 6],
}

#[repr(C, align(64))]
pub struct ExecutorOwn {
    pub completed: AtomicU64,
    pub run_start_ns: AtomicU64,
    pub state: AtomicU32,
    pub flow_class: AtomicU32,
    pub parks: AtomicU64,
    pub resumes: AtomicU64,
    pub reserved: [u64; 3],
}

#[repr(C, align(64))]
pub struct ExecutorSched {
    pub on_cpu: AtomicI32,
    pub park_request: AtomicU32,
    pub quantum_expired: AtomicU32,
    pub on_granted_core: AtomicU32,
    pub generation: AtomicU64,
    pub reserved: [u64; 5],
}

#[repr(C, align(64))]
pub struct Executor {
    pub foreign: ExecutorForeign,
    pub own: ExecutorOwn,
    pub sched: ExecutorSched,
    pub reserved: [u64; 8],
    pub stamps: [AtomicU64; STAMPS],
}

#[repr(C, align(64))]
pub struct Page {
    pub header: PageHeader,
    pub client: PageClient,
    pub grant: PageGrant,
    pub design: PageDesign,
    pub reserved: [u8; 3 * 64],
    pub executors: [Executor; EXECUTORS_MAX],
    pub reserve: [u8; PAGE_BYTES - 8 * 64 - EXECUTORS_MAX * size_of::<Executor>()],
}

const _: () = assert!(size_of::<Page>() == PAGE_BYTES);
const _: () = assert!(size_of::<Executor>() == 768);
const _: () = assert!(std::mem::offset_of!(Page, executors) == 512);

pub const MESSAGE_HELLO: u16 = 1;
pub const MESSAGE_REGISTER_EXECUTOR: u16 = 2;
pub const MESSAGE_UNREGISTER_EXECUTOR: u16 = 3;
pub const MESSAGE_SET_CLASS: u16 = 4;
pub const MESSAGE_STATUS: u16 = 5;
pub const MESSAGE_DETACH: u16 = 6;
pub const MESSAGE_DESIGN: u16 = 7;
pub const MESSAGE_WHY: u16 = 10;
pub const MESSAGE_TRACE: u16 = 11;
pub const TRACE_NO_EXECUTOR: u32 = u32::MAX;
pub const WHY_THREADS: usize = 16;
pub const QUEUE_COUNT: usize = 5;
pub const DESIGN_BYTES: usize = 64;
pub const MESSAGE_RELOAD: u16 = 8;
pub const RELOAD_BYTES: usize = 4080;
pub const MESSAGE_TAKEOVER: u16 = 9;
pub const STATUS_CPUS: usize = 1024;
pub const STATUS_CHANGES: usize = 16;
pub const PID_KERNEL: u32 = u32::MAX;

/// What a CPU does (`enum flexnet_cpu_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CpuState {
    Absent = 0,
    Idle = 1,
    Busy = 2,
    Latency = 3,
    GrantedIdle = 4,
    Executor = 5,
    Lent = 6,
}

impl CpuState {
    /// Of a status; what is unknown is absent.
    pub fn of(state: u8) -> Self {
        match state {
            1 => Self::Idle,
            2 => Self::Busy,
            3 => Self::Latency,
            4 => Self::GrantedIdle,
            5 => Self::Executor,
            6 => Self::Lent,
            _ => Self::Absent,
        }
    }

    /// For scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Latency => "latency",
            Self::GrantedIdle => "granted idle",
            Self::Executor => "executor",
            Self::Lent => "lent",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Message {
    pub size: u32,
    pub kind: u16,
    pub version: u16,
    pub sequence: u32,
    pub status: i32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Hello {
    pub message: Message,
    pub name: [u8; 16],
    pub executors: u32,
    pub cores_guaranteed: u32,
    pub reserved: [u32; 2],
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Welcome {
    pub message: Message,
    pub client: u32,
    pub page_bytes: u32,
    pub executors_max: u32,
    pub cores_guaranteed: u32,
    pub objective_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Register {
    pub message: Message,
    pub slot: u32,
    pub flow_class: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SetClass {
    pub message: Message,
    pub task_class: u32,
    pub reserved: u32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DesignText {
    pub message: Message,
    pub text: [u8; DESIGN_BYTES],
}

impl Default for DesignText {
    fn default() -> Self {
        Self {
            message: Message::default(),
            text: [0; DESIGN_BYTES],
        }
    }
}

impl DesignText {
    /// With that text; what is too long is cut.
    pub fn new(message: Message, text: &str) -> Self {
        let mut this = Self {
            message,
            ..Self::default()
        };
        let length = text.len().min(DESIGN_BYTES - 1);
        this.text[..length].copy_from_slice(&text.as_bytes()[..length]);
        this
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Reload {
    pub message: Message,
    pub text: [u8; RELOAD_BYTES],
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            message: Message::default(),
            text: [0; RELOAD_BYTES],
        }
    }
}

impl Reload {
    /// With that text; what is too long is cut.
    pub fn new(message: Message, text: &str) -> Self {
        let mut this = Self {
            message,
            ..Self::default()
        };
        let length = text.len().min(RELOAD_BYTES - 1);
        this.text[..length].copy_from_slice(&text.as_bytes()[..length]);
        this
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Takeover {
    pub message: Message,
    pub detached_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct StatusClient {
    pub client: u32,
    pub pid: u32,
    pub name: [u8; 16],
    pub executors: u32,
    pub executors_wanted: u32,
    pub depth: u64,
    pub delay_ns: u64,
    pub run_ns: u64,
    pub cores: u32,
    pub flow_classes: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct StatusChange {
    pub at_ns: u64,
    pub since_ns: u64,
    pub before: u32,
    pub after: u32,
    pub reason: u32,
    pub reserved: u32,
}

impl StatusClient {
    /// Are its executors the kernel's own network threads? Then it has no process,
    /// and its name is the device's, or `backlog`.
    pub fn is_kernel(&self) -> bool {
        self.pid == PID_KERNEL
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Status {
    pub message: Message,
    pub cpus: u32,
    pub cores_granted: u32,
    pub cores_max: u32,
    pub clients: u32,
    pub grants: u64,
    pub reclaims: u64,
    pub preemptions: u64,
    pub granted_core_ns: u64,
    pub uptime_ns: u64,
    pub version: [u8; 16],
    pub design: [u8; 16],
    pub client: [StatusClient; CLIENTS_MAX],
    pub cpu: [u8; STATUS_CPUS],
    pub gap_ns: u64,
    pub takebacks: u64,
    pub flag_kicks: u64,
    pub anti_starvation: u64,
    pub changes: u64,
    pub change: [StatusChange; STATUS_CHANGES],
}

impl Default for Status {
    fn default() -> Self {
        Self {
            message: Message::default(),
            cpus: 0,
            cores_granted: 0,
            cores_max: 0,
            clients: 0,
            grants: 0,
            reclaims: 0,
            preemptions: 0,
            granted_core_ns: 0,
            uptime_ns: 0,
            version: [0; 16],
            design: [0; 16],
            client: [StatusClient::default(); CLIENTS_MAX],
            cpu: [0; STATUS_CPUS],
            gap_ns: 0,
            takebacks: 0,
            flag_kicks: 0,
            anti_starvation: 0,
            changes: 0,
            change: [StatusChange::default(); STATUS_CHANGES],
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct WhyAsk {
    pub message: Message,
    pub after: u32,
    pub reserved: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct WhyThread {
    pub tid: u32,
    pub task_class: u32,
    pub class_origin: u32,
    pub policy: u32,
    pub client: u32,
    pub slot: u32,
    pub on_cpu: i32,
    pub last_queue: u32,
    pub name: [u8; 16],
    pub run_ns: u64,
    pub last_wait_ns: u64,
    pub waiting_ns: u64,
    pub preemptions: u64,
    pub wait_ns: [u64; QUEUE_COUNT],
    pub waits: [u64; QUEUE_COUNT],
    pub cpus: [u64; STATUS_CPUS / 64],
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Why {
    pub message: Message,
    pub pid: u32,
    pub threads: u32,
    pub more: u32,
    pub reserved: u32,
    pub thread: [WhyThread; WHY_THREADS],
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TraceAsk {
    pub message: Message,
    pub on: u32,
    pub pid: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TraceReply {
    pub message: Message,
    pub probes: u32,
    pub reserved: u32,
    pub lost: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TraceEvent {
    pub at_ns: u64,
    pub value: u64,
    pub kind: u16,
    pub cpu: i16,
    pub tid: u32,
    pub pid: u32,
    pub executor: u32,
}

impl TraceEvent {
    /// As it stands in a pipe.
    pub fn as_bytes(&self) -> [u8; size_of::<Self>()] {
        // SAFETY: integers only, laid out without padding (tests/abi_layout.rs).
        unsafe { std::mem::transmute::<Self, [u8; size_of::<Self>()]>(*self) }
    }

    /// From a pipe.
    pub fn from_bytes(bytes: &[u8; size_of::<Self>()]) -> Self {
        // SAFETY: as above; every bit pattern is valid.
        unsafe { std::mem::transmute::<[u8; size_of::<Self>()], Self>(*bytes) }
    }
}

/// Structures that travel over the control socket as their bytes.
///
/// # Safety
/// `repr(C)`, no padding, every bit pattern valid, starts with a [`Message`].
pub unsafe trait Wire: Copy + Default {
    /// The message type of requests of this form.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: the trait promises plain bytes without padding.
        unsafe { std::slice::from_raw_parts((self as *const Self).cast(), size_of::<Self>()) }
    }

    /// Fills a structure from what arrived: a shorter message leaves zeros, a
    /// longer one is cut. `None` when not even the header is there.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Message>() {
            return None;
        }
        let mut value = Self::default();
        let length = bytes.len().min(size_of::<Self>());
        // SAFETY: every bit pattern is valid, and `length` is within both.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut value).cast(), length);
        }
        Some(value)
    }
}

macro_rules! wire {
    ($($name:ident)*) => { $(
        // SAFETY: integers only, laid out without padding (tests/abi_layout.rs).
        unsafe impl Wire for $name {}
    )* };
}
wire!(Message Hello Welcome Register SetClass DesignText Reload Takeover Status WhyAsk Why TraceAsk TraceReply);

/// A name of at most 15 bytes, zero-terminated.
pub fn name_bytes(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// The text of a zero-terminated field; bytes that are no text are replaced.
pub fn name_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
