// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A core rule that is no built-in one: a shared object that was compiled from the
//! `core_rule.c` of a design's folder (include/flexnet/core_rule.h).
//!
//! Promises that a rule decides here as in the kernel: what it sees, and the bounds of its
//! answers, are one source in C. Leaves compiling to flexnet-cli. The object runs in this process
//! with all its rights, as any library does.

use super::arbiter::{Decision, DesignParams, Memory, Sample};
use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Most parameters of a rule: `FLEXNET_RULE_PARAMETERS`.
pub const RULE_PARAMETERS: usize = 8;

/// `struct flexnet_rule_round`: what the rule sees, its parameters, and what it keeps.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct RuleRound {
    seen: [u64; 14],
    parameters: [u64; RULE_PARAMETERS],
    kept: [u64; 8],
}

type Function = unsafe extern "C" fn(*mut RuleRound) -> c_int;

unsafe extern "C" {
    fn flexnet_sim_loaded_round(
        rule: Function,
        round: *mut RuleRound,
        params: *const DesignParams,
        sample: *const Sample,
        memory: *mut Memory,
        decision: *mut Decision,
    ) -> c_int;
    #[cfg(test)]
    safe fn flexnet_sim_rule_bytes() -> u64;
}

/// A shared object; closed with its last user.
struct Library {
    handle: *mut c_void,
    function: Function,
}

// SAFETY: the handle is only closed, by the last owner; the function is asked by its contract
// to keep nothing outside of its argument.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, and nobody else has the function any longer.
        unsafe { libc::dlclose(self.handle) };
    }
}

/// A core rule from a shared object, with its parameters.
#[derive(Clone)]
pub struct LoadedRule {
    name: String,
    library: Arc<Library>,
    parameters: [u64; RULE_PARAMETERS],
}

impl fmt::Debug for LoadedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedRule")
            .field("name", &self.name)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

impl LoadedRule {
    /// Opens the object at `path` as the rule of the design `name`.
    ///
    /// # Safety
    /// The object was compiled from a `core_rule.c` against this version of
    /// include/flexnet/core_rule.h, and it is trusted: its code runs in this process.
    ///
    /// # Errors
    /// It is no shared object, or has no rule, in the linker's words.
    pub unsafe fn open(
        path: &Path,
        name: &str,
        parameters: [u64; RULE_PARAMETERS],
    ) -> Result<Self, String> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: a string that ends; the caller trusts what it names.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(linker_error());
        }
        // SAFETY: an open handle and a string that ends.
        let symbol = unsafe { libc::dlsym(handle, c"flexnet_core_rule".as_ptr()) };
        if symbol.is_null() {
            // SAFETY: opened above.
            unsafe { libc::dlclose(handle) };
            return Err("the object has no function flexnet_core_rule".to_owned());
        }
        // SAFETY: FLEXNET_CORE_RULE defines this function with this type, which the caller
        // promises it was made by.
        let function = unsafe { std::mem::transmute::<*mut c_void, Function>(symbol) };
        Ok(Self {
            name: name.to_owned(),
            library: Arc::new(Library { handle, function }),
            parameters,
        })
    }

    /// The design's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What the linker says of its last failure.
fn linker_error() -> String {
    // SAFETY: a plain call; what it returns is a string that ends, until the next call here.
    unsafe {
        let text = libc::dlerror();
        match text.is_null() {
            true => "the object cannot be opened".to_owned(),
            false => CStr::from_ptr(text).to_string_lossy().into_owned(),
        }
    }
}

/// A rule in use by one arbiter, with what it keeps.
pub(super) struct RuleInUse {
    rule: LoadedRule,
    round: RuleRound,
}

impl RuleInUse {
    pub fn new(rule: LoadedRule) -> Self {
        let round = RuleRound {
            parameters: rule.parameters,
            ..RuleRound::default()
        };
        Self { rule, round }
    }

    /// One round. Where the rule has no answer, the design's own rule decides.
    pub fn round(
        &mut self,
        params: &DesignParams,
        sample: &Sample,
        memory: &mut Memory,
    ) -> Decision {
        let mut decision = Decision::default();
        // SAFETY: all are whole values of the C structs' layout, borrowed for the call; the
        // library is open as long as the rule lives.
        unsafe {
            flexnet_sim_loaded_round(
                self.rule.library.function,
                &raw mut self.round,
                params,
                sample,
                memory,
                &raw mut decision,
            )
        };
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_as_long_as_the_struct() {
        assert_eq!(flexnet_sim_rule_bytes(), size_of::<RuleRound>() as u64);
    }

    /// Answers what the test has put into its first parameter.
    unsafe extern "C" fn answers_parameter(round: *mut RuleRound) -> c_int {
        // SAFETY: the caller's round.
        let round = unsafe { &mut *round };
        round.kept = [7; 8];
        round.parameters[0] as c_int
    }

    /// The decision for an answer, and whether the rule made it.
    fn decide(
        answer: i32,
        params: &DesignParams,
        sample: &Sample,
        memory: &mut Memory,
    ) -> (Decision, bool) {
        let mut round = RuleRound::default();
        round.parameters[0] = answer as u64;
        let mut decision = Decision::default();
        // SAFETY: whole values of the C structs' layout, borrowed for the call.
        let decided = unsafe {
            flexnet_sim_loaded_round(
                answers_parameter,
                &raw mut round,
                params,
                sample,
                memory,
                &raw mut decision,
            )
        };
        assert_eq!(round.kept, [7; 8], "what it keeps");
        (decision, decided != 0)
    }

    fn params() -> DesignParams {
        let arbiter = super::super::Params {
            objective_ns: 50_000,
            low_mark_ns: 10_000,
            interval_ns: 100_000,
            idle_delay_ns: 500_000,
            cores_max: 5,
            reserved: 0,
        };
        DesignParams::new(arbiter, flexnet::design::Choice::default().core_rule())
    }

    #[test]
    fn any_answer_is_bounded() {
        let mut random = flexnet::design::Random::new(5);
        let params = params();
        let mut memory = Memory::default();
        let (mut granted, mut last, mut idle_since) = (0u32, 0, None);
        let mut now_ns = 1_000_000;
        for round in 0..20_000 {
            now_ns += 100_000;
            // Runs of work and of none.
            let runnable = match round / 20 % 3 {
                0 => 0,
                _ => random.below(7) as u32,
            };
            let sample = Sample {
                now_ns,
                runnable,
                latency_runnable: runnable,
                delay_ns: u64::from(runnable) * 20_000,
                latency_delay_ns: u64::from(runnable) * 20_000,
                granted,
                ..Sample::default()
            };
            idle_since = match runnable {
                0 => idle_since.or(Some(now_ns)),
                _ => None,
            };
            let answer = random.below(12) as i32 - 1;
            let (decision, decided) = decide(answer, &params, &sample, &mut memory);
            assert_eq!(decided, answer >= 0, "{answer}");
            assert!(decision.cores <= 5);
            let step = (i64::from(decision.cores) - i64::from(granted)).signum();
            assert!(
                step * last >= 0,
                "round {round}: {granted} to {}",
                decision.cores
            );
            let held = last != 0 && step == 0;
            if decided && runnable > 0 && !held {
                assert!(decision.cores >= 1);
            }
            if idle_since.is_some_and(|since| now_ns - since >= 500_000) && !held {
                assert_eq!(decision.cores, 0, "round {round}");
            }
            (granted, last) = (decision.cores, step);
        }
    }

    #[test]
    fn without_an_answer_the_built_in_rule_decides() {
        let params = params();
        let (mut with, mut without) = (Memory::default(), Memory::default());
        let mut granted = 0;
        for round in 0..2_000u64 {
            let runnable = (round / 50 % 4) as u32;
            let sample = Sample {
                now_ns: 1_000_000 + round * 100_000,
                runnable,
                latency_runnable: runnable,
                delay_ns: u64::from(runnable) * 40_000,
                latency_delay_ns: u64::from(runnable) * 40_000,
                busy_ns: u64::from(granted) * 90_000,
                granted,
                ..Sample::default()
            };
            let answer = if round % 2 == 0 { -1 } else { 4097 };
            let (decision, decided) = decide(answer, &params, &sample, &mut with);
            let built_in = super::super::arbiter::round(&params, &sample, &mut without);
            assert!(!decided);
            let of = |decision: &Decision| (decision.cores, decision.reason, decision.cause_ns);
            assert_eq!(of(&decision), of(&built_in));
            granted = decision.cores;
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        // SAFETY: the C library is no rule, and harmless to open.
        let error = unsafe { LoadedRule::open("libc.so.6".as_ref(), "no", [0; 8]) }.unwrap_err();
        assert!(error.contains("flexnet_core_rule"), "{error}");
        // SAFETY: there is nothing to open.
        let error = unsafe { LoadedRule::open("/nonexistent.so".as_ref(), "no", [0; 8]) };
        assert!(error.unwrap_err().contains("nonexistent"));
    }
}
