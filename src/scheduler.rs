// SPDX-License-Identifier: GPL-2.0-only
//! Loads the BPF scheduler, tells it the machine and the operator's numbers,
//! attaches it and takes it off again.
//!
//! Promises that a `Scheduler` schedules: an attach that the kernel accepted
//! and BPF's own init refused is an error here. Clients are left to control/.

use crate::bpf_skel::{BpfSkel, BpfSkelBuilder, types};
use crate::cli::{IdleCores, Options};
use crate::cpus::{self, Cpu, Plan};
use crate::kernel::Kernel;
use crate::limits;
use crate::napi;
use crate::preflight;
use anyhow::{Context, Result, bail};
use libbpf_rs::{Link, OpenObject};
use scx_utils::{NR_CPU_IDS, UserExitInfo, compat, scx_ops_attach, scx_ops_load, scx_ops_open};
use std::mem::MaybeUninit;

/// The attached scheduler.
pub struct Scheduler<'obj> {
    /// Its maps, programs and states.
    pub kernel: Kernel<'obj>,
    /// What BPF knows about the CPUs.
    pub plan: Plan,
    link: Option<Link>,
}

/// This thread is a real-time one until it is dropped.
///
/// Attaching moves one task after the other below the kernel's fair class, this
/// thread among them; up to 6.18 the CPU hogs that are still to be moved then
/// starve it until the watchdog ends the scheduler (seen: two hogs, two CPUs).
struct RealTime {
    before: Option<(libc::c_int, libc::sched_param)>,
}

impl RealTime {
    /// Does without where the kernel refuses.
    fn enter() -> Self {
        let mut before = libc::sched_param { sched_priority: 0 };
        let least = libc::sched_param { sched_priority: 1 };
        // SAFETY: plain calls on this thread; the structs live through them.
        let entered = unsafe {
            let policy = libc::sched_getscheduler(0);
            let known = policy >= 0 && libc::sched_getparam(0, &mut before) == 0;
            (known && libc::sched_setscheduler(0, libc::SCHED_FIFO, &least) == 0)
                .then_some((policy, before))
        };
        if entered.is_none() {
            log::debug!("attaching at ordinary priority");
        }
        Self { before: entered }
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        if let Some((policy, before)) = &self.before {
            // SAFETY: as above.
            if unsafe { libc::sched_setscheduler(0, *policy, before) } != 0 {
                log::warn!("this thread keeps its real-time policy");
            }
        }
    }
}

impl<'obj> Scheduler<'obj> {
    /// Loads it; `object` is where libbpf keeps it. Nothing is scheduled yet, and
    /// another scheduler may be attached.
    pub fn load(options: &Options, object: &'obj mut MaybeUninit<OpenObject>) -> Result<Self> {
        let online = cpus::online()?;
        let plan = cpus::plan(
            &online,
            *NR_CPU_IDS,
            options.min_general_cores,
            options.max_net_cores,
        );
        let kernel = Kernel::new(load(options, object, &online, &plan)?)?;
        kernel.switch_design(&options.design, None)?;
        Ok(Self {
            kernel,
            plan,
            link: None,
        })
    }

    /// Attaches it.
    pub fn attach(&mut self) -> Result<()> {
        self.kernel
            .start_rounds()
            .context("cannot prepare the timer of the rounds")?;
        let skel = self.kernel.skel();
        let link = {
            let _ahead = RealTime::enter();
            scx_ops_attach!(skel, flexnet_ops)?
        };
        // The kernel says yes before BPF's init has said no.
        if self.kernel.exited() {
            self.kernel.report()?;
            bail!("the scheduler stopped at once");
        }
        let (state, ops) = (preflight::state(), preflight::ops());
        if state != "enabled" || !preflight::ours_runs() {
            bail!("the kernel's scheduler is {ops:?} ({state}) after attaching");
        }
        let first = self.plan.grant_order.first();
        let first = first.map(|cpu| format!(", CPU {cpu} first"));
        log::info!(
            "{} CPUs, at most {} granted{}",
            self.plan.online,
            self.plan.net_cores_max,
            first.unwrap_or_default()
        );
        self.link = Some(link);
        Ok(())
    }

    /// Gives the tasks back to the kernel's scheduler and says why it ended.
    pub fn detach(&mut self) -> Result<UserExitInfo> {
        drop(self.link.take());
        self.kernel.report()
    }
}

/// Has BPF decide rounds that the host has decided, without attaching.
///
/// # Errors
/// The first that comes out otherwise, in hexadecimal.
pub fn check_designs(options: &Options, rounds: usize) -> Result<()> {
    let online = cpus::online()?;
    let plan = cpus::plan(&online, *NR_CPU_IDS, 1, None);
    let mut object = MaybeUninit::uninit();
    let skel = load(options, &mut object, &online, &plan)?;
    let kernel = Kernel::new(skel)?;
    for (number, (before, after)) in flexnet_sim::recorded_rounds(rounds).iter().enumerate() {
        let mut case = *before;
        kernel
            .decide(&mut case)
            .with_context(|| format!("round {number}"))?;
        if case != *after {
            bail!(
                "round {number} comes out otherwise in BPF\nbefore {before:02x?}\nhost   {after:02x?}\nBPF    {case:02x?}"
            );
        }
    }
    println!("{rounds} rounds are decided alike");
    Ok(())
}

fn load<'obj>(
    options: &Options,
    object: &'obj mut MaybeUninit<OpenObject>,
    online: &[Cpu],
    plan: &Plan,
) -> Result<BpfSkel<'obj>> {
    scx_utils::try_set_rlimit_infinity();
    let mut builder = BpfSkelBuilder::default();
    builder.obj_builder.debug(options.verbose);
    let open_options = options.libbpf.clone().into_bpf_open_opts();
    let mut skel = scx_ops_open!(builder, object, flexnet_ops, open_options)?;
    let ops = skel.struct_ops.flexnet_ops_mut();
    ops.exit_dump_len = options.exit_dump_len;
    // Or the kernel takes a task that a real-time task preempts for one that
    // cannot migrate (6.16, 6.18), and it waits there as long as that runs.
    ops.flags |= *compat::SCX_OPS_ENQ_MIGRATION_DISABLED;
    // A task of a group without CPU time leaves its CPU, even where no other task waits.
    ops.flags |= *compat::SCX_OPS_ENQ_LAST;
    if !limits::are_told() {
        ops.cgroup_set_bandwidth = std::ptr::null_mut();
    }
    skel.progs
        .napi_polled
        .set_autoload(!options.napi.is_empty());
    // The verifier takes as long for it as for the scheduler's largest part.
    let decides = options.check_designs.is_some();
    skel.progs.decide.set_autoload(decides);
    // From 6.19 on the kernel itself hands on what waited on a CPU that
    // another class took, and warns about the callback.
    if preflight::version(&preflight::kernel_release()) >= (6, 19) {
        ops.cpu_release = std::ptr::null_mut();
    }
    // Hooked in while there are rules (kernel.rs).
    skel.progs.rules_new_task.set_autoattach(false);
    skel.progs.rules_rename.set_autoattach(false);
    skel.progs.rules_credentials.set_autoattach(false);
    skel.progs.rules_cgroup.set_autoattach(false);
    skel.progs.rules_walk.set_autoattach(false);
    skel.progs.rules_count.set_autoattach(false);
    let maps = &mut skel.maps;
    let rodata = maps.rodata_data.as_mut();
    let machine = &mut rodata.context("the object has no machine")?.machine;
    let data = maps.data_data.as_mut();
    let settings = &mut data.context("the object has no settings")?.settings;
    describe(machine, options, online, plan);
    machine.netns = napi::namespace()?;
    configure(settings, options, plan);
    scx_ops_load!(skel, flexnet_ops, uei)
}

/// What BPF is reported once.
fn describe(machine: &mut types::flexnet_machine, options: &Options, online: &[Cpu], plan: &Plan) {
    machine.cpus = plan.possible;
    machine.steer = u32::from(!options.steer.is_empty());
    machine.grant_candidates = plan.grant_order.len() as u32;
    for (to, from) in machine.grant_order.iter_mut().zip(&plan.grant_order) {
        *to = *from;
    }
    for cpu in online {
        machine.llc_of[cpu.id] = cpu.llc as u16;
    }
}

/// What may change while it runs.
pub fn configure(settings: &mut types::flexnet_config, options: &Options, plan: &Plan) {
    settings.slice_ns = options.slice_us * 1_000;
    settings.preemption_cooldown_ns = options.preemption_cooldown_us * 1_000;
    settings.objective_ns = options.objective_us * 1_000;
    settings.low_mark_ns = options.low_mark_us * 1_000;
    settings.interval_ns = options.interval_us * 1_000;
    settings.idle_delay_ns = options.idle_delay_ms * 1_000_000;
    settings.quantum_ns = options.quantum_us * 1_000;
    settings.grace_ns = options.grace_us * 1_000;
    settings.latency_slice_ns = options.latency_slice_us * 1_000;
    settings.latency_batch_ns = match options.latency_batch_us {
        Some(us) => us * 1_000,
        // Less than a slice would cut turns into pieces.
        None => settings
            .latency_slice_ns
            .max(settings.preemption_cooldown_ns),
    };
    settings.starvation_ns = options.starvation_ms * 1_000_000;
    settings.net_cores_max = plan.net_cores_max;
    settings.lend = u32::from(options.idle_cores == IdleCores::Lend);
}
