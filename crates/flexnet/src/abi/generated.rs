// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! include/flexnet/abi.h in Rust: written by ci/steps/abi --write, not by hand.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

pub const VERSION: u16 = 1;
pub const PAGE_MAGIC: u32 = 827870278;
pub const LINE_BYTES: usize = 64;
pub const PAGE_BYTES: usize = 16384;
pub const EXECUTORS_MAX: usize = 16;
pub const CLIENTS_MAX: usize = 64;
pub const STAMPS: usize = 64;
pub const STAMP_EVERY: u64 = 16;
pub const DESIGN_BYTES: usize = 64;
pub const SOCKET_PATH: &str = "/run/scx_flexnet/control.sock";
pub const RELOAD_BYTES: usize = 4080;
pub const PID_KERNEL: u32 = 4294967295;
pub const STATUS_CHANGES: usize = 16;
pub const STATUS_CPUS: usize = 1024;
pub const STATUS_RULES: usize = 64;
pub const WHY_THREADS: usize = 16;
pub const TRACE_NO_EXECUTOR: u32 = 4294967295;
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum Class {
    Normal = 0,
    Latency = 1,
    Batch = 2,
    Executor = 3,
}
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum ClassOrigin {
    Default = 0,
    Parent = 1,
    Rule = 2,
    Registration = 3,
    Kernel = 4,
}
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum Queue {
    Direct = 0,
    Latency = 1,
    General = 2,
    Cpu = 3,
    Executor = 4,
}
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum FlowClass {
    Throughput = 0,
    Latency = 1,
}
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum ExecutorState {
    Absent = 0,
    Running = 1,
    Parked = 2,
    Waiting = 3,
}
#[repr(C)]
#[repr(align(64))]
pub struct PageHeader {
    pub magic: u32,
    pub version: u32,
    pub page_bytes: u32,
    pub client: u32,
    pub executors_max: u32,
    pub reserved: [u32; 11usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PageHeader"][::core::mem::size_of::<PageHeader>() - 64usize];
    ["Alignment of PageHeader"][::core::mem::align_of::<PageHeader>() - 64usize];
    ["Offset of field: PageHeader::magic"][::core::mem::offset_of!(PageHeader, magic) - 0usize];
    ["Offset of field: PageHeader::version"][::core::mem::offset_of!(PageHeader, version) - 4usize];
    ["Offset of field: PageHeader::page_bytes"]
        [::core::mem::offset_of!(PageHeader, page_bytes) - 8usize];
    ["Offset of field: PageHeader::client"][::core::mem::offset_of!(PageHeader, client) - 12usize];
    ["Offset of field: PageHeader::executors_max"]
        [::core::mem::offset_of!(PageHeader, executors_max) - 16usize];
    ["Offset of field: PageHeader::reserved"]
        [::core::mem::offset_of!(PageHeader, reserved) - 20usize];
};
#[repr(C)]
#[repr(align(64))]
pub struct PageClient {
    pub weight: AtomicU32,
    pub max_cores: AtomicU32,
    pub reserved: [u32; 14usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PageClient"][::core::mem::size_of::<PageClient>() - 64usize];
    ["Alignment of PageClient"][::core::mem::align_of::<PageClient>() - 64usize];
    ["Offset of field: PageClient::weight"][::core::mem::offset_of!(PageClient, weight) - 0usize];
    ["Offset of field: PageClient::max_cores"]
        [::core::mem::offset_of!(PageClient, max_cores) - 4usize];
    ["Offset of field: PageClient::reserved"]
        [::core::mem::offset_of!(PageClient, reserved) - 8usize];
};
#[repr(C)]
#[repr(align(64))]
pub struct PageGrant {
    pub generation: AtomicU64,
    pub attached: AtomicU32,
    pub executors_wanted: AtomicU32,
    pub cores_granted: AtomicU32,
    pub saturated: AtomicU32,
    pub reserved: [u32; 10usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PageGrant"][::core::mem::size_of::<PageGrant>() - 64usize];
    ["Alignment of PageGrant"][::core::mem::align_of::<PageGrant>() - 64usize];
    ["Offset of field: PageGrant::generation"]
        [::core::mem::offset_of!(PageGrant, generation) - 0usize];
    ["Offset of field: PageGrant::attached"][::core::mem::offset_of!(PageGrant, attached) - 8usize];
    ["Offset of field: PageGrant::executors_wanted"]
        [::core::mem::offset_of!(PageGrant, executors_wanted) - 12usize];
    ["Offset of field: PageGrant::cores_granted"]
        [::core::mem::offset_of!(PageGrant, cores_granted) - 16usize];
    ["Offset of field: PageGrant::saturated"]
        [::core::mem::offset_of!(PageGrant, saturated) - 20usize];
    ["Offset of field: PageGrant::reserved"]
        [::core::mem::offset_of!(PageGrant, reserved) - 24usize];
};
#[repr(C)]
#[repr(align(64))]
pub struct PageDesign {
    pub generation: AtomicU64,
    pub text: [AtomicU64; 8usize],
    pub reserved: [u64; 7usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PageDesign"][::core::mem::size_of::<PageDesign>() - 128usize];
    ["Alignment of PageDesign"][::core::mem::align_of::<PageDesign>() - 64usize];
    ["Offset of field: PageDesign::generation"]
        [::core::mem::offset_of!(PageDesign, generation) - 0usize];
    ["Offset of field: PageDesign::text"][::core::mem::offset_of!(PageDesign, text) - 8usize];
    ["Offset of field: PageDesign::reserved"]
        [::core::mem::offset_of!(PageDesign, reserved) - 72usize];
};
#[repr(C)]
#[repr(align(64))]
pub struct ExecutorForeign {
    pub enqueued: AtomicU64,
    pub moved: AtomicU64,
    pub reserved: [u64; 6usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ExecutorForeign"][::core::mem::size_of::<ExecutorForeign>() - 64usize];
    ["Alignment of ExecutorForeign"][::core::mem::align_of::<ExecutorForeign>() - 64usize];
    ["Offset of field: ExecutorForeign::enqueued"]
        [::core::mem::offset_of!(ExecutorForeign, enqueued) - 0usize];
    ["Offset of field: ExecutorForeign::moved"]
        [::core::mem::offset_of!(ExecutorForeign, moved) - 8usize];
    ["Offset of field: ExecutorForeign::reserved"]
        [::core::mem::offset_of!(ExecutorForeign, reserved) - 16usize];
};
#[repr(C)]
#[repr(align(64))]
pub struct ExecutorOwn {
    pub completed: AtomicU64,
    pub run_start_ns: AtomicU64,
    pub state: AtomicU32,
    pub flow_class: AtomicU32,
    pub parks: AtomicU64,
    pub resumes: AtomicU64,
    pub reserved: [u64; 3usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ExecutorOwn"][::core::mem::size_of::<ExecutorOwn>() - 64usize];
    ["Alignment of ExecutorOwn"][::core::mem::align_of::<ExecutorOwn>() - 64usize];
    ["Offset of field: ExecutorOwn::completed"]
        [::core::mem::offset_of!(ExecutorOwn, completed) - 0usize];
    ["Offset of field: ExecutorOwn::run_start_ns"]
        [::core::mem::offset_of!(ExecutorOwn, run_start_ns) - 8usize];
    ["Offset of field: ExecutorOwn::state"][::core::mem::offset_of!(ExecutorOwn, state) - 16usize];
    ["Offset of field: ExecutorOwn::flow_class"]
        [::core::mem::offset_of!(ExecutorOwn, flow_class) - 20usize];
    ["Offset of field: ExecutorOwn::parks"][::core::mem::offset_of!(ExecutorOwn, parks) - 24usize];
    ["Offset of field: ExecutorOwn::resumes"]
        [::core::mem::offset_of!(ExecutorOwn, resumes) - 32usize];
    ["Offset of field: ExecutorOwn::reserved"]
        [::core::mem::offset_of!(ExecutorOwn, reserved) - 40usize];
};
#[repr(C)]
#[repr(align(64))]
pub struct ExecutorSched {
    pub on_cpu: AtomicI32,
    pub park_request: AtomicU32,
    pub quantum_expired: AtomicU32,
    pub on_granted_core: AtomicU32,
    pub generation: AtomicU64,
    pub reserved: [u64; 5usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ExecutorSched"][::core::mem::size_of::<ExecutorSched>() - 64usize];
    ["Alignment of ExecutorSched"][::core::mem::align_of::<ExecutorSched>() - 64usize];
    ["Offset of field: ExecutorSched::on_cpu"]
        [::core::mem::offset_of!(ExecutorSched, on_cpu) - 0usize];
    ["Offset of field: ExecutorSched::park_request"]
        [::core::mem::offset_of!(ExecutorSched, park_request) - 4usize];
    ["Offset of field: ExecutorSched::quantum_expired"]
        [::core::mem::offset_of!(ExecutorSched, quantum_expired) - 8usize];
    ["Offset of field: ExecutorSched::on_granted_core"]
        [::core::mem::offset_of!(ExecutorSched, on_granted_core) - 12usize];
    ["Offset of field: ExecutorSched::generation"]
        [::core::mem::offset_of!(ExecutorSched, generation) - 16usize];
    ["Offset of field: ExecutorSched::reserved"]
        [::core::mem::offset_of!(ExecutorSched, reserved) - 24usize];
};
#[repr(C)]
#[repr(align(64))]
pub struct Executor {
    pub foreign: ExecutorForeign,
    pub own: ExecutorOwn,
    pub sched: ExecutorSched,
    pub reserved: [u64; 8usize],
    pub stamps: [AtomicU64; 64usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Executor"][::core::mem::size_of::<Executor>() - 768usize];
    ["Alignment of Executor"][::core::mem::align_of::<Executor>() - 64usize];
    ["Offset of field: Executor::foreign"][::core::mem::offset_of!(Executor, foreign) - 0usize];
    ["Offset of field: Executor::own"][::core::mem::offset_of!(Executor, own) - 64usize];
    ["Offset of field: Executor::sched"][::core::mem::offset_of!(Executor, sched) - 128usize];
    ["Offset of field: Executor::reserved"][::core::mem::offset_of!(Executor, reserved) - 192usize];
    ["Offset of field: Executor::stamps"][::core::mem::offset_of!(Executor, stamps) - 256usize];
};
#[repr(C)]
#[repr(align(64))]
pub struct Page {
    pub header: PageHeader,
    pub client: PageClient,
    pub grant: PageGrant,
    pub design: PageDesign,
    pub reserved: [u8; 192usize],
    pub executors: [Executor; 16usize],
    pub reserve: [u8; 3584usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Page"][::core::mem::size_of::<Page>() - 16384usize];
    ["Alignment of Page"][::core::mem::align_of::<Page>() - 64usize];
    ["Offset of field: Page::header"][::core::mem::offset_of!(Page, header) - 0usize];
    ["Offset of field: Page::client"][::core::mem::offset_of!(Page, client) - 64usize];
    ["Offset of field: Page::grant"][::core::mem::offset_of!(Page, grant) - 128usize];
    ["Offset of field: Page::design"][::core::mem::offset_of!(Page, design) - 192usize];
    ["Offset of field: Page::reserved"][::core::mem::offset_of!(Page, reserved) - 320usize];
    ["Offset of field: Page::executors"][::core::mem::offset_of!(Page, executors) - 512usize];
    ["Offset of field: Page::reserve"][::core::mem::offset_of!(Page, reserve) - 12800usize];
};
pub const MESSAGE_HELLO: u16 = 1;
pub const MESSAGE_REGISTER_EXECUTOR: u16 = 2;
pub const MESSAGE_UNREGISTER_EXECUTOR: u16 = 3;
pub const MESSAGE_SET_CLASS: u16 = 4;
pub const MESSAGE_STATUS: u16 = 5;
pub const MESSAGE_DESIGN: u16 = 7;
pub const MESSAGE_RELOAD: u16 = 8;
pub const MESSAGE_TAKEOVER: u16 = 9;
pub const MESSAGE_WHY: u16 = 10;
pub const MESSAGE_TRACE: u16 = 11;
pub const MESSAGE_RULES: u16 = 12;
pub const MESSAGE_CORE_RULE: u16 = 13;
pub const MESSAGE_DETACH: u16 = 6;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct Message {
    pub size: u32,
    pub kind: u16,
    pub version: u16,
    pub sequence: u32,
    pub status: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Message"][::core::mem::size_of::<Message>() - 16usize];
    ["Alignment of Message"][::core::mem::align_of::<Message>() - 4usize];
    ["Offset of field: Message::size"][::core::mem::offset_of!(Message, size) - 0usize];
    ["Offset of field: Message::kind"][::core::mem::offset_of!(Message, kind) - 4usize];
    ["Offset of field: Message::version"][::core::mem::offset_of!(Message, version) - 6usize];
    ["Offset of field: Message::sequence"][::core::mem::offset_of!(Message, sequence) - 8usize];
    ["Offset of field: Message::status"][::core::mem::offset_of!(Message, status) - 12usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct Hello {
    pub message: Message,
    pub name: [u8; 16usize],
    pub executors: u32,
    pub cores_guaranteed: u32,
    pub reserved: [u32; 2usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Hello"][::core::mem::size_of::<Hello>() - 48usize];
    ["Alignment of Hello"][::core::mem::align_of::<Hello>() - 4usize];
    ["Offset of field: Hello::message"][::core::mem::offset_of!(Hello, message) - 0usize];
    ["Offset of field: Hello::name"][::core::mem::offset_of!(Hello, name) - 16usize];
    ["Offset of field: Hello::executors"][::core::mem::offset_of!(Hello, executors) - 32usize];
    ["Offset of field: Hello::cores_guaranteed"]
        [::core::mem::offset_of!(Hello, cores_guaranteed) - 36usize];
    ["Offset of field: Hello::reserved"][::core::mem::offset_of!(Hello, reserved) - 40usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct Welcome {
    pub message: Message,
    pub client: u32,
    pub page_bytes: u32,
    pub executors_max: u32,
    pub cores_guaranteed: u32,
    pub objective_ns: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Welcome"][::core::mem::size_of::<Welcome>() - 40usize];
    ["Alignment of Welcome"][::core::mem::align_of::<Welcome>() - 8usize];
    ["Offset of field: Welcome::message"][::core::mem::offset_of!(Welcome, message) - 0usize];
    ["Offset of field: Welcome::client"][::core::mem::offset_of!(Welcome, client) - 16usize];
    ["Offset of field: Welcome::page_bytes"]
        [::core::mem::offset_of!(Welcome, page_bytes) - 20usize];
    ["Offset of field: Welcome::executors_max"]
        [::core::mem::offset_of!(Welcome, executors_max) - 24usize];
    ["Offset of field: Welcome::cores_guaranteed"]
        [::core::mem::offset_of!(Welcome, cores_guaranteed) - 28usize];
    ["Offset of field: Welcome::objective_ns"]
        [::core::mem::offset_of!(Welcome, objective_ns) - 32usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct Register {
    pub message: Message,
    pub slot: u32,
    pub flow_class: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Register"][::core::mem::size_of::<Register>() - 24usize];
    ["Alignment of Register"][::core::mem::align_of::<Register>() - 4usize];
    ["Offset of field: Register::message"][::core::mem::offset_of!(Register, message) - 0usize];
    ["Offset of field: Register::slot"][::core::mem::offset_of!(Register, slot) - 16usize];
    ["Offset of field: Register::flow_class"]
        [::core::mem::offset_of!(Register, flow_class) - 20usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SetClass {
    pub message: Message,
    pub task_class: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SetClass"][::core::mem::size_of::<SetClass>() - 24usize];
    ["Alignment of SetClass"][::core::mem::align_of::<SetClass>() - 4usize];
    ["Offset of field: SetClass::message"][::core::mem::offset_of!(SetClass, message) - 0usize];
    ["Offset of field: SetClass::task_class"]
        [::core::mem::offset_of!(SetClass, task_class) - 16usize];
    ["Offset of field: SetClass::reserved"][::core::mem::offset_of!(SetClass, reserved) - 20usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct DesignText {
    pub message: Message,
    pub text: [u8; 64usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of DesignText"][::core::mem::size_of::<DesignText>() - 80usize];
    ["Alignment of DesignText"][::core::mem::align_of::<DesignText>() - 4usize];
    ["Offset of field: DesignText::message"][::core::mem::offset_of!(DesignText, message) - 0usize];
    ["Offset of field: DesignText::text"][::core::mem::offset_of!(DesignText, text) - 16usize];
};
impl Default for DesignText {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum CoreRuleAction {
    Tell = 0,
    Load = 1,
    Unload = 2,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CoreRuleAsk {
    pub message: Message,
    pub action: u32,
    pub reserved: u32,
    pub name: [u8; 16usize],
    pub text: [u8; 64usize],
    pub parameters: [u64; 8usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CoreRuleAsk"][::core::mem::size_of::<CoreRuleAsk>() - 168usize];
    ["Alignment of CoreRuleAsk"][::core::mem::align_of::<CoreRuleAsk>() - 8usize];
    ["Offset of field: CoreRuleAsk::message"]
        [::core::mem::offset_of!(CoreRuleAsk, message) - 0usize];
    ["Offset of field: CoreRuleAsk::action"]
        [::core::mem::offset_of!(CoreRuleAsk, action) - 16usize];
    ["Offset of field: CoreRuleAsk::reserved"]
        [::core::mem::offset_of!(CoreRuleAsk, reserved) - 20usize];
    ["Offset of field: CoreRuleAsk::name"][::core::mem::offset_of!(CoreRuleAsk, name) - 24usize];
    ["Offset of field: CoreRuleAsk::text"][::core::mem::offset_of!(CoreRuleAsk, text) - 40usize];
    ["Offset of field: CoreRuleAsk::parameters"]
        [::core::mem::offset_of!(CoreRuleAsk, parameters) - 104usize];
};
impl Default for CoreRuleAsk {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct Reload {
    pub message: Message,
    pub text: [u8; 4080usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Reload"][::core::mem::size_of::<Reload>() - 4096usize];
    ["Alignment of Reload"][::core::mem::align_of::<Reload>() - 4usize];
    ["Offset of field: Reload::message"][::core::mem::offset_of!(Reload, message) - 0usize];
    ["Offset of field: Reload::text"][::core::mem::offset_of!(Reload, text) - 16usize];
};
impl Default for Reload {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct Takeover {
    pub message: Message,
    pub detached_ns: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Takeover"][::core::mem::size_of::<Takeover>() - 24usize];
    ["Alignment of Takeover"][::core::mem::align_of::<Takeover>() - 8usize];
    ["Offset of field: Takeover::message"][::core::mem::offset_of!(Takeover, message) - 0usize];
    ["Offset of field: Takeover::detached_ns"]
        [::core::mem::offset_of!(Takeover, detached_ns) - 16usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct StatusClient {
    pub client: u32,
    pub pid: u32,
    pub name: [u8; 16usize],
    pub executors: u32,
    pub executors_wanted: u32,
    pub depth: u64,
    pub delay_ns: u64,
    pub run_ns: u64,
    pub cores: u32,
    pub flow_classes: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of StatusClient"][::core::mem::size_of::<StatusClient>() - 64usize];
    ["Alignment of StatusClient"][::core::mem::align_of::<StatusClient>() - 8usize];
    ["Offset of field: StatusClient::client"]
        [::core::mem::offset_of!(StatusClient, client) - 0usize];
    ["Offset of field: StatusClient::pid"][::core::mem::offset_of!(StatusClient, pid) - 4usize];
    ["Offset of field: StatusClient::name"][::core::mem::offset_of!(StatusClient, name) - 8usize];
    ["Offset of field: StatusClient::executors"]
        [::core::mem::offset_of!(StatusClient, executors) - 24usize];
    ["Offset of field: StatusClient::executors_wanted"]
        [::core::mem::offset_of!(StatusClient, executors_wanted) - 28usize];
    ["Offset of field: StatusClient::depth"]
        [::core::mem::offset_of!(StatusClient, depth) - 32usize];
    ["Offset of field: StatusClient::delay_ns"]
        [::core::mem::offset_of!(StatusClient, delay_ns) - 40usize];
    ["Offset of field: StatusClient::run_ns"]
        [::core::mem::offset_of!(StatusClient, run_ns) - 48usize];
    ["Offset of field: StatusClient::cores"]
        [::core::mem::offset_of!(StatusClient, cores) - 56usize];
    ["Offset of field: StatusClient::flow_classes"]
        [::core::mem::offset_of!(StatusClient, flow_classes) - 60usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct StatusChange {
    pub at_ns: u64,
    pub since_ns: u64,
    pub before: u32,
    pub after: u32,
    pub reason: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of StatusChange"][::core::mem::size_of::<StatusChange>() - 32usize];
    ["Alignment of StatusChange"][::core::mem::align_of::<StatusChange>() - 8usize];
    ["Offset of field: StatusChange::at_ns"][::core::mem::offset_of!(StatusChange, at_ns) - 0usize];
    ["Offset of field: StatusChange::since_ns"]
        [::core::mem::offset_of!(StatusChange, since_ns) - 8usize];
    ["Offset of field: StatusChange::before"]
        [::core::mem::offset_of!(StatusChange, before) - 16usize];
    ["Offset of field: StatusChange::after"]
        [::core::mem::offset_of!(StatusChange, after) - 20usize];
    ["Offset of field: StatusChange::reason"]
        [::core::mem::offset_of!(StatusChange, reason) - 24usize];
    ["Offset of field: StatusChange::reserved"]
        [::core::mem::offset_of!(StatusChange, reserved) - 28usize];
};
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum CpuState {
    Absent = 0,
    Idle = 1,
    Busy = 2,
    Latency = 3,
    GrantedIdle = 4,
    Executor = 5,
    Lent = 6,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
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
    pub version: [u8; 16usize],
    pub design: [u8; 16usize],
    pub client: [StatusClient; 64usize],
    pub cpu: [u8; 1024usize],
    pub gap_ns: u64,
    pub takebacks: u64,
    pub flag_kicks: u64,
    pub anti_starvation: u64,
    pub changes: u64,
    pub change: [StatusChange; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Status"][::core::mem::size_of::<Status>() - 5776usize];
    ["Alignment of Status"][::core::mem::align_of::<Status>() - 8usize];
    ["Offset of field: Status::message"][::core::mem::offset_of!(Status, message) - 0usize];
    ["Offset of field: Status::cpus"][::core::mem::offset_of!(Status, cpus) - 16usize];
    ["Offset of field: Status::cores_granted"]
        [::core::mem::offset_of!(Status, cores_granted) - 20usize];
    ["Offset of field: Status::cores_max"][::core::mem::offset_of!(Status, cores_max) - 24usize];
    ["Offset of field: Status::clients"][::core::mem::offset_of!(Status, clients) - 28usize];
    ["Offset of field: Status::grants"][::core::mem::offset_of!(Status, grants) - 32usize];
    ["Offset of field: Status::reclaims"][::core::mem::offset_of!(Status, reclaims) - 40usize];
    ["Offset of field: Status::preemptions"]
        [::core::mem::offset_of!(Status, preemptions) - 48usize];
    ["Offset of field: Status::granted_core_ns"]
        [::core::mem::offset_of!(Status, granted_core_ns) - 56usize];
    ["Offset of field: Status::uptime_ns"][::core::mem::offset_of!(Status, uptime_ns) - 64usize];
    ["Offset of field: Status::version"][::core::mem::offset_of!(Status, version) - 72usize];
    ["Offset of field: Status::design"][::core::mem::offset_of!(Status, design) - 88usize];
    ["Offset of field: Status::client"][::core::mem::offset_of!(Status, client) - 104usize];
    ["Offset of field: Status::cpu"][::core::mem::offset_of!(Status, cpu) - 4200usize];
    ["Offset of field: Status::gap_ns"][::core::mem::offset_of!(Status, gap_ns) - 5224usize];
    ["Offset of field: Status::takebacks"][::core::mem::offset_of!(Status, takebacks) - 5232usize];
    ["Offset of field: Status::flag_kicks"]
        [::core::mem::offset_of!(Status, flag_kicks) - 5240usize];
    ["Offset of field: Status::anti_starvation"]
        [::core::mem::offset_of!(Status, anti_starvation) - 5248usize];
    ["Offset of field: Status::changes"][::core::mem::offset_of!(Status, changes) - 5256usize];
    ["Offset of field: Status::change"][::core::mem::offset_of!(Status, change) - 5264usize];
};
impl Default for Status {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct StatusRule {
    pub tasks: u32,
    pub line: u32,
    pub text: [u8; 120usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of StatusRule"][::core::mem::size_of::<StatusRule>() - 128usize];
    ["Alignment of StatusRule"][::core::mem::align_of::<StatusRule>() - 4usize];
    ["Offset of field: StatusRule::tasks"][::core::mem::offset_of!(StatusRule, tasks) - 0usize];
    ["Offset of field: StatusRule::line"][::core::mem::offset_of!(StatusRule, line) - 4usize];
    ["Offset of field: StatusRule::text"][::core::mem::offset_of!(StatusRule, text) - 8usize];
};
impl Default for StatusRule {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct StatusRules {
    pub message: Message,
    pub rules: u32,
    pub reserved: u32,
    pub restart: [u8; 488usize],
    pub rule: [StatusRule; 64usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of StatusRules"][::core::mem::size_of::<StatusRules>() - 8704usize];
    ["Alignment of StatusRules"][::core::mem::align_of::<StatusRules>() - 4usize];
    ["Offset of field: StatusRules::message"]
        [::core::mem::offset_of!(StatusRules, message) - 0usize];
    ["Offset of field: StatusRules::rules"][::core::mem::offset_of!(StatusRules, rules) - 16usize];
    ["Offset of field: StatusRules::reserved"]
        [::core::mem::offset_of!(StatusRules, reserved) - 20usize];
    ["Offset of field: StatusRules::restart"]
        [::core::mem::offset_of!(StatusRules, restart) - 24usize];
    ["Offset of field: StatusRules::rule"][::core::mem::offset_of!(StatusRules, rule) - 512usize];
};
impl Default for StatusRules {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct WhyAsk {
    pub message: Message,
    pub after: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of WhyAsk"][::core::mem::size_of::<WhyAsk>() - 24usize];
    ["Alignment of WhyAsk"][::core::mem::align_of::<WhyAsk>() - 4usize];
    ["Offset of field: WhyAsk::message"][::core::mem::offset_of!(WhyAsk, message) - 0usize];
    ["Offset of field: WhyAsk::after"][::core::mem::offset_of!(WhyAsk, after) - 16usize];
    ["Offset of field: WhyAsk::reserved"][::core::mem::offset_of!(WhyAsk, reserved) - 20usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct WhyThread {
    pub tid: u32,
    pub task_class: u32,
    pub class_origin: u32,
    pub policy: u32,
    pub client: u32,
    pub slot: u32,
    pub on_cpu: i32,
    pub last_queue: u32,
    pub name: [u8; 16usize],
    pub run_ns: u64,
    pub last_wait_ns: u64,
    pub waiting_ns: u64,
    pub preemptions: u64,
    pub wait_ns: [u64; 5usize],
    pub waits: [u64; 5usize],
    pub cpus: [u64; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of WhyThread"][::core::mem::size_of::<WhyThread>() - 288usize];
    ["Alignment of WhyThread"][::core::mem::align_of::<WhyThread>() - 8usize];
    ["Offset of field: WhyThread::tid"][::core::mem::offset_of!(WhyThread, tid) - 0usize];
    ["Offset of field: WhyThread::task_class"]
        [::core::mem::offset_of!(WhyThread, task_class) - 4usize];
    ["Offset of field: WhyThread::class_origin"]
        [::core::mem::offset_of!(WhyThread, class_origin) - 8usize];
    ["Offset of field: WhyThread::policy"][::core::mem::offset_of!(WhyThread, policy) - 12usize];
    ["Offset of field: WhyThread::client"][::core::mem::offset_of!(WhyThread, client) - 16usize];
    ["Offset of field: WhyThread::slot"][::core::mem::offset_of!(WhyThread, slot) - 20usize];
    ["Offset of field: WhyThread::on_cpu"][::core::mem::offset_of!(WhyThread, on_cpu) - 24usize];
    ["Offset of field: WhyThread::last_queue"]
        [::core::mem::offset_of!(WhyThread, last_queue) - 28usize];
    ["Offset of field: WhyThread::name"][::core::mem::offset_of!(WhyThread, name) - 32usize];
    ["Offset of field: WhyThread::run_ns"][::core::mem::offset_of!(WhyThread, run_ns) - 48usize];
    ["Offset of field: WhyThread::last_wait_ns"]
        [::core::mem::offset_of!(WhyThread, last_wait_ns) - 56usize];
    ["Offset of field: WhyThread::waiting_ns"]
        [::core::mem::offset_of!(WhyThread, waiting_ns) - 64usize];
    ["Offset of field: WhyThread::preemptions"]
        [::core::mem::offset_of!(WhyThread, preemptions) - 72usize];
    ["Offset of field: WhyThread::wait_ns"][::core::mem::offset_of!(WhyThread, wait_ns) - 80usize];
    ["Offset of field: WhyThread::waits"][::core::mem::offset_of!(WhyThread, waits) - 120usize];
    ["Offset of field: WhyThread::cpus"][::core::mem::offset_of!(WhyThread, cpus) - 160usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct Why {
    pub message: Message,
    pub pid: u32,
    pub threads: u32,
    pub more: u32,
    pub reserved: u32,
    pub thread: [WhyThread; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Why"][::core::mem::size_of::<Why>() - 4640usize];
    ["Alignment of Why"][::core::mem::align_of::<Why>() - 8usize];
    ["Offset of field: Why::message"][::core::mem::offset_of!(Why, message) - 0usize];
    ["Offset of field: Why::pid"][::core::mem::offset_of!(Why, pid) - 16usize];
    ["Offset of field: Why::threads"][::core::mem::offset_of!(Why, threads) - 20usize];
    ["Offset of field: Why::more"][::core::mem::offset_of!(Why, more) - 24usize];
    ["Offset of field: Why::reserved"][::core::mem::offset_of!(Why, reserved) - 28usize];
    ["Offset of field: Why::thread"][::core::mem::offset_of!(Why, thread) - 32usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct TraceAsk {
    pub message: Message,
    pub on: u32,
    pub pid: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of TraceAsk"][::core::mem::size_of::<TraceAsk>() - 24usize];
    ["Alignment of TraceAsk"][::core::mem::align_of::<TraceAsk>() - 4usize];
    ["Offset of field: TraceAsk::message"][::core::mem::offset_of!(TraceAsk, message) - 0usize];
    ["Offset of field: TraceAsk::on"][::core::mem::offset_of!(TraceAsk, on) - 16usize];
    ["Offset of field: TraceAsk::pid"][::core::mem::offset_of!(TraceAsk, pid) - 20usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct TraceReply {
    pub message: Message,
    pub probes: u32,
    pub reserved: u32,
    pub lost: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of TraceReply"][::core::mem::size_of::<TraceReply>() - 32usize];
    ["Alignment of TraceReply"][::core::mem::align_of::<TraceReply>() - 8usize];
    ["Offset of field: TraceReply::message"][::core::mem::offset_of!(TraceReply, message) - 0usize];
    ["Offset of field: TraceReply::probes"][::core::mem::offset_of!(TraceReply, probes) - 16usize];
    ["Offset of field: TraceReply::reserved"]
        [::core::mem::offset_of!(TraceReply, reserved) - 20usize];
    ["Offset of field: TraceReply::lost"][::core::mem::offset_of!(TraceReply, lost) - 24usize];
};
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
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
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    pub at_ns: u64,
    pub value: u64,
    pub kind: u16,
    pub cpu: i16,
    pub tid: u32,
    pub pid: u32,
    pub executor: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of TraceEvent"][::core::mem::size_of::<TraceEvent>() - 32usize];
    ["Alignment of TraceEvent"][::core::mem::align_of::<TraceEvent>() - 8usize];
    ["Offset of field: TraceEvent::at_ns"][::core::mem::offset_of!(TraceEvent, at_ns) - 0usize];
    ["Offset of field: TraceEvent::value"][::core::mem::offset_of!(TraceEvent, value) - 8usize];
    ["Offset of field: TraceEvent::kind"][::core::mem::offset_of!(TraceEvent, kind) - 16usize];
    ["Offset of field: TraceEvent::cpu"][::core::mem::offset_of!(TraceEvent, cpu) - 18usize];
    ["Offset of field: TraceEvent::tid"][::core::mem::offset_of!(TraceEvent, tid) - 20usize];
    ["Offset of field: TraceEvent::pid"][::core::mem::offset_of!(TraceEvent, pid) - 24usize];
    ["Offset of field: TraceEvent::executor"]
        [::core::mem::offset_of!(TraceEvent, executor) - 28usize];
};
pub const CLASS_COUNT: usize = 5;
pub const QUEUE_COUNT: usize = 5;
