// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The arbiter, as the kernel runs it: include/flexnet/designs.h compiled for
//! the host. Field by field as there; sizes are checked by a test.

use flexnet::design::{Choice, CoreRule, Random};

/// `struct flexnet_arbiter_params`; times in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Params {
    /// Grow above this delay of the oldest.
    pub objective_ns: u64,
    /// Shrink only below this delay.
    pub low_mark_ns: u64,
    /// Between rounds.
    pub interval_ns: u64,
    /// Calm for so long before cores go back.
    pub idle_delay_ns: u64,
    /// Most cores ever granted.
    pub cores_max: u32,
    /// Padding in C: 0.
    pub reserved: u32,
}

/// `struct flexnet_design_params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct DesignParams {
    pub arbiter: Params,
    high_ns: u64,
    low_ns: u64,
    runtime_ns: u64,
    period_ns: u64,
    design: u32,
    workers: u32,
    high_percent: u32,
    low_percent: u32,
}

impl DesignParams {
    pub fn new(arbiter: Params, rule: CoreRule) -> Self {
        Self {
            arbiter,
            high_ns: rule.high_ns,
            low_ns: rule.low_ns,
            runtime_ns: rule.runtime_ns,
            period_ns: rule.period_ns,
            design: rule.design,
            workers: rule.workers,
            high_percent: rule.high_percent,
            low_percent: rule.low_percent,
        }
    }
}

/// `struct flexnet_arbiter_sample`; times in ns.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Sample {
    pub now_ns: u64,
    pub delay_ns: u64,
    pub busy_ns: u64,
    pub depth: u64,
    pub latency_delay_ns: u64,
    pub latency_busy_ns: u64,
    pub runnable: u32,
    pub latency_runnable: u32,
    pub granted: u32,
    pub idle: u32,
    pub waiting: u32,
    pub throughput_clients: u32,
}

/// `struct flexnet_arbiter_memory`: the rules' own.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Memory {
    words: [u64; 7],
    pressed_rounds: u32,
    direction: i32,
    backoff: u32,
    /// Padding in C.
    padding: u32,
    saturated_ns: u64,
    cores_idle_since_ns: u64,
    saturated_shift: u32,
    saturated: u32,
    pressure: u64,
}

/// `struct flexnet_arbiter_decision`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Decision {
    pub cores: u32,
    pub reason: u32,
    pub cause_ns: u64,
    pub rounds: u32,
    /// Padding in C.
    reserved: u32,
}

/// `enum flexnet_claim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    None,
    Idle,
    Revoke,
}

unsafe extern "C" {
    fn flexnet_sim_round(
        params: *const DesignParams,
        sample: *const Sample,
        memory: *mut Memory,
        decision: *mut Decision,
    );
    fn flexnet_sim_is_eager(params: *const DesignParams) -> libc::c_int;
    fn flexnet_sim_next_round(params: *const Params, memory: *const Memory) -> u64;
    safe fn flexnet_sim_core_claim(
        cores: u32,
        guaranteed: u32,
        cores_max: u32,
        congested: u32,
    ) -> u32;
    safe fn flexnet_sim_cores_above_guarantee(cores: u32, guaranteed: u32) -> u32;
    #[cfg(test)]
    safe fn flexnet_sim_size_of(which: u32) -> u64;
}

/// One round.
pub(super) fn round(params: &DesignParams, sample: &Sample, memory: &mut Memory) -> Decision {
    let mut decision = Decision::default();
    // SAFETY: all four are whole values of the C structs' layout (the test
    // below), borrowed for the call, and the function keeps none.
    unsafe { flexnet_sim_round(params, sample, memory, &mut decision) };
    decision
}

/// Time until the next round, ns.
pub(super) fn next_round(params: &Params, memory: &Memory) -> u64 {
    // SAFETY: as above.
    unsafe { flexnet_sim_next_round(params, memory) }
}

/// Does it look at once when somebody wakes?
pub(super) fn is_eager(params: &DesignParams) -> bool {
    // SAFETY: as above.
    unsafe { flexnet_sim_is_eager(params) != 0 }
}

/// May an application with `cores` have one more?
pub(super) fn claim(cores: u32, guaranteed: u32, cores_max: u32) -> Claim {
    match flexnet_sim_core_claim(cores, guaranteed, cores_max, 1) {
        1 => Claim::Idle,
        2 => Claim::Revoke,
        _ => Claim::None,
    }
}

/// By how many cores it is over its guarantee.
pub(super) fn cores_above_guarantee(cores: u32, guaranteed: u32) -> u32 {
    flexnet_sim_cores_above_guarantee(cores, guaranteed)
}

/// `struct flexnet_design_case` (bpf/intf.h): a round's numbers, in and out.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Case {
    params: DesignParams,
    sample: Sample,
    memory: Memory,
    decision: Decision,
}

/// Bytes of a recorded case.
pub const CASE_BYTES: usize = size_of::<Case>();

impl Case {
    fn bytes(&self) -> [u8; CASE_BYTES] {
        // SAFETY: integers only, and no padding: the sizes add up (below).
        unsafe { std::mem::transmute::<Self, [u8; CASE_BYTES]>(*self) }
    }
}
const _: () = assert!(
    CASE_BYTES == size_of::<DesignParams>() + size_of::<Sample>() + size_of::<Memory>() + 24
        && size_of::<DesignParams>() == 8 * 11
        && size_of::<Sample>() == 8 * 9
        && size_of::<Memory>() == 8 * 13
        && size_of::<Decision>() == 24
);

/// Rounds of every design and their outcomes as the host decides them: each
/// case before it and after it. Half are runs of rounds under a changing load,
/// half are any numbers. For the test that the kernel decides alike.
pub fn recorded_rounds(count: usize) -> Vec<([u8; CASE_BYTES], [u8; CASE_BYTES])> {
    let mut random = flexnet::design::Random::new(count as u64);
    let mut memory = Memory::default();
    let (mut now, mut granted) = (1_000_000, 0);
    let mut recorded = Vec::with_capacity(count);
    for at in 0..count {
        // A design stays for some rounds and meets what another left.
        let text = DESIGNS[at / 37 % DESIGNS.len()];
        let rule = text.parse::<Choice>().unwrap_or_default().core_rule();
        let mut case = plausible(rule, &mut random, &mut now, granted);
        case.memory = memory;
        if at % 2 == 1 {
            case = anything(case, &mut random);
        }
        let before = case.bytes();
        case.decision = round(&case.params, &case.sample, &mut case.memory);
        if at % 2 == 0 {
            memory = case.memory;
            granted = case.decision.cores;
        }
        recorded.push((before, case.bytes()));
    }
    recorded
}

/// One of each rule.
const DESIGNS: [&str; 10] = [
    "flexnet",
    "netchannel",
    "snap:mode=dedicating,workers=3",
    "snap:mode=spreading",
    "snap",
    "shenango",
    "shenango:rule=delay",
    "shenango:rule=utilisation",
    "shinjuku",
    "shinjuku:mode=jbsq",
];

fn plausible(rule: CoreRule, random: &mut Random, now: &mut u64, granted: u32) -> Case {
    *now += 50_000 + random.below(100_000) as u64;
    let runnable = random.below(7) as u32;
    Case {
        params: DesignParams::new(
            Params {
                objective_ns: 50_000,
                low_mark_ns: 10_000,
                interval_ns: 100_000,
                idle_delay_ns: 500_000,
                cores_max: 5,
                reserved: 0,
            },
            rule,
        ),
        sample: Sample {
            now_ns: *now,
            delay_ns: random.below(120_000) as u64 * u64::from(runnable > 0),
            busy_ns: random.below(100_000) as u64 * u64::from(granted),
            depth: random.below(200) as u64 * u64::from(runnable > 0),
            latency_delay_ns: random.below(120_000) as u64 * u64::from(runnable > 2),
            latency_busy_ns: random.below(50_000) as u64 * u64::from(granted),
            runnable,
            latency_runnable: runnable.saturating_sub(2),
            granted,
            idle: random.below(3) as u32,
            waiting: random.below(2) as u32,
            throughput_clients: random.below(2) as u32,
        },
        memory: Memory::default(),
        decision: Decision::default(),
    }
}

/// Any numbers in the place of some of a case's.
fn anything(mut case: Case, random: &mut Random) -> Case {
    let mut any = || (random.below(1 << 31) as u64) << random.below(34);
    case.sample.now_ns = any();
    case.sample.delay_ns = any();
    case.sample.busy_ns = any();
    case.sample.depth = any();
    case.sample.latency_delay_ns = any();
    case.sample.latency_busy_ns = any();
    case.sample.granted = any() as u32 % 9;
    case.memory.words = std::array::from_fn(|_| any());
    case.memory.direction = any() as i32 % 3 - 1;
    case.memory.pressed_rounds = any() as u32;
    case.memory.backoff = any() as u32;
    case.memory.pressure = any() >> 20;
    case.params.arbiter.interval_ns = any() >> 20;
    case.params.arbiter.idle_delay_ns = any() >> 10;
    case
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_as_long_as_the_structs() {
        let sizes = [
            size_of::<Params>(),
            size_of::<DesignParams>(),
            size_of::<Sample>(),
            size_of::<Memory>(),
            size_of::<Decision>(),
        ];
        for (which, size) in sizes.into_iter().enumerate() {
            assert_eq!(flexnet_sim_size_of(which as u32), size as u64, "{which}");
        }
    }

    #[test]
    fn a_round_decides_as_the_tables_say() {
        let arbiter = Params {
            objective_ns: 50_000,
            low_mark_ns: 10_000,
            interval_ns: 5_000,
            idle_delay_ns: 100_000,
            cores_max: 4,
            reserved: 0,
        };
        let rule = CoreRule {
            design: flexnet::design::Rule::SnapDedicating as u32,
            workers: 3,
            ..CoreRule::default()
        };
        let params = DesignParams::new(arbiter, rule);
        let sample = Sample {
            now_ns: 1_000_000,
            runnable: 1,
            ..Sample::default()
        };
        let decision = round(&params, &sample, &mut Memory::default());
        assert_eq!((decision.cores, decision.reason), (3, 1));
    }
}
