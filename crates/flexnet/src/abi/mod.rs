// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! include/flexnet/abi.h in Rust: the shared page and the control socket's messages.
//!
//! generated.rs has every structure, constant and enumeration, with assertions on each size
//! and offset (ci/steps/abi). What is here reads and writes them. Fields of the page that
//! several threads or the kernel touch are atomics; abi.h says what may write which line.

#[allow(
    missing_docs,
    clippy::undocumented_unsafe_blocks,
    reason = "generated; each name is documented in abi.h, the one definition"
)]
mod generated;

pub use generated::*;

use std::sync::atomic::{Ordering, fence};

#[allow(clippy::derivable_impls, reason = "the enumeration is generated")]
impl Default for FlowClass {
    fn default() -> Self {
        Self::Throughput
    }
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

impl CpuState {
    /// Of a status; what is unknown is absent.
    pub fn of(state: u8) -> Self {
        [
            Self::Idle,
            Self::Busy,
            Self::Latency,
            Self::GrantedIdle,
            Self::Executor,
            Self::Lent,
        ]
        .into_iter()
        .find(|known| *known as u8 == state)
        .unwrap_or(Self::Absent)
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

impl DesignText {
    /// With that text; what is too long is cut.
    pub fn new(message: Message, text: &str) -> Self {
        let text = text_bytes(text);
        Self { message, text }
    }
}

impl Reload {
    /// With that text; what is too long is cut.
    pub fn new(message: Message, text: &str) -> Self {
        let text = text_bytes(text);
        Self { message, text }
    }
}

impl StatusClient {
    /// Are its executors the kernel's own network threads? Then it has no process,
    /// and its name is the device's, or `backlog`.
    pub fn is_kernel(&self) -> bool {
        self.pid == PID_KERNEL
    }
}

impl TraceEvent {
    /// As it stands in a pipe.
    pub fn as_bytes(&self) -> [u8; size_of::<Self>()] {
        // SAFETY: integers only, laid out without padding (ci/steps/abi).
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
        // SAFETY: integers only, laid out without padding (ci/steps/abi).
        unsafe impl Wire for $name {}
    )* };
}
wire!(Message Hello Welcome Register SetClass DesignText Reload CoreRuleAsk Takeover Status StatusRules WhyAsk Why TraceAsk TraceReply);

/// A name of at most 15 bytes, zero-terminated.
pub fn name_bytes(name: &str) -> [u8; 16] {
    text_bytes(name)
}

/// A text with a zero at its end; what is too long is cut.
pub fn text_bytes<const BYTES: usize>(text: &str) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let length = text.len().min(BYTES.saturating_sub(1));
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

/// The text of a zero-terminated field; bytes that are no text are replaced.
pub fn name_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
