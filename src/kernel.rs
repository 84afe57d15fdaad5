// SPDX-License-Identifier: GPL-2.0-only
//! The loaded BPF half, as the rest of the daemon sees it: states to read,
//! registrations and clients to tell it of.
//!
//! Promises plain numbers and errnos. Nothing read here is consistent beyond
//! one field: BPF goes on writing. Loading and attaching is scheduler.rs.
//!
//!   designs  what the arbiter follows

mod designs;

use crate::bpf_intf::{
    FLEXNET_CLIENTS_MAX, FLEXNET_EXECUTORS_MAX, FLEXNET_RULES_MAX, flexnet_apply,
    flexnet_class_FLEXNET_CLASS_COUNT, flexnet_client_event,
    flexnet_client_op_FLEXNET_CLIENT_DROP_SLOT, flexnet_client_op_FLEXNET_CLIENT_FORGET,
    flexnet_client_op_FLEXNET_CLIENT_LIMITS, flexnet_client_op_FLEXNET_CLIENT_START,
    flexnet_client_op_FLEXNET_CLIENT_START_KERNEL, flexnet_cpu_stats, flexnet_design_case,
    flexnet_napi_thread, flexnet_registration, flexnet_task_sample,
};
use crate::bpf_skel::BpfSkel;
use crate::bpf_skel::types;
pub use crate::bpf_skel::types::{flexnet_arbiter_state, flexnet_backlog, flexnet_client_state};
use crate::exit;
use crate::plain::Plain;
use crate::rules::{self, Rule};
use anyhow::{Context, Result, anyhow, bail, ensure};
use flexnet::abi::{Class, CpuState, TraceKind};
use flexnet_sim::CASE_BYTES;
use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapHandle, ProgramInput, ProgramMut};
use rustix::io::Errno;
use scx_utils::UserExitInfo;
use std::cell::RefCell;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const _: () = assert!(size_of::<flexnet_design_case>() == CASE_BYTES);

/// What happened to a client (`enum flexnet_client_op`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum ClientOp {
    /// Its page is in `pages`.
    Start = flexnet_client_op_FLEXNET_CLIENT_START,
    /// It is gone.
    Forget = flexnet_client_op_FLEXNET_CLIENT_FORGET,
    /// It took back an executor.
    DropSlot = flexnet_client_op_FLEXNET_CLIENT_DROP_SLOT,
    /// The operator's rules have changed.
    Limits = flexnet_client_op_FLEXNET_CLIENT_LIMITS,
    /// As `Start`, for a device.
    StartKernel = flexnet_client_op_FLEXNET_CLIENT_START_KERNEL,
}

/// What became of a thread that may poll a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It is an executor.
    Yes,
    /// It polls no device that is a client.
    NotOurs,
    /// The clients of this device (by index) have as many as they may.
    NoRoom(u32),
}

/// What a client is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Cores that are its own, under designs with claims.
    pub guarantee: u32,
    /// The operator's, 0: what its page says.
    pub weight: u32,
    /// Most granted cores by the operator, 0: no bound.
    pub max_cores: u32,
}

impl Limits {
    fn event(self, op: ClientOp, client: u32) -> flexnet_client_event {
        flexnet_client_event {
            op: op as u32,
            client,
            slot: 0,
            guaranteed: self.guarantee,
            weight: self.weight,
            max_cores: self.max_cores,
        }
    }
}

/// What a thread shall be.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// `enum flexnet_class`.
    pub task_class: u32,
    /// The client, for executors.
    pub client: u32,
    /// The executor's slot in the client's page.
    pub slot: u32,
    /// `enum flexnet_flow_class`.
    pub flow_class: u32,
}

/// The loaded object and its global variables.
pub struct Kernel<'obj> {
    skel: BpfSkel<'obj>,
    bss: NonNull<types::bss>,
    cpus: usize,
    /// What BPF hears of tasks while there are rules.
    hooks: RefCell<Vec<Link>>,
}

impl<'obj> Kernel<'obj> {
    /// Takes over a loaded object.
    pub fn new(mut skel: BpfSkel<'obj>) -> Result<Self> {
        let bss = skel
            .maps
            .bss_data
            .as_mut()
            .context("the object has no globals")?;
        let bss = NonNull::from(&mut **bss);
        let cpus = libbpf_rs::num_possible_cpus()?;
        Ok(Self {
            skel,
            bss,
            cpus,
            hooks: RefCell::default(),
        })
    }

    /// The object, for the code that attaches it and reports its exit.
    pub fn skel(&mut self) -> &mut BpfSkel<'obj> {
        &mut self.skel
    }

    /// Has the scheduler left, by error or by request?
    pub fn exited(&self) -> bool {
        match &self.skel.maps.data_data {
            // SAFETY: mapped as long as the object is; BPF writes it once.
            Some(data) => unsafe { (&raw const data.uei.kind).read_volatile() != 0 },
            None => true,
        }
    }

    /// The numbers of the maps that may be clients' pages and live: some
    /// descriptor, mapping or table keeps them.
    ///
    /// # Errors
    /// The scheduler is not attached, or the kernel refuses.
    pub fn living_pages(&self) -> Result<Vec<u32>, Errno> {
        let link = self.skel.links.living_pages.as_ref();
        let mut maps = Iter::new(link.ok_or(Errno::NODEV)?).map_err(|error| errno_of(&error))?;
        let mut bytes = Vec::new();
        maps.read_to_end(&mut bytes)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(bytes
            .chunks_exact(size_of::<u32>())
            .filter_map(|id| id.try_into().ok().map(u32::from_ne_bytes))
            .collect())
    }

    /// Why it left: in the log when it was in order, else an error.
    pub fn report(&self) -> Result<UserExitInfo> {
        exit::report(&self.skel)
    }

    /// The arbiter's state.
    pub fn arbiter(&self) -> flexnet_arbiter_state {
        // SAFETY: mapped as long as the object is; plain integers, of which a
        // torn copy is as good as a late one.
        unsafe { (&raw const (*self.bss.as_ptr()).arbiter).read_volatile() }
    }

    /// The CPUs receive processing should follow: the granted ones; `None` while
    /// they are too few for the executors alone. Asks for notice of the next
    /// change, and does so before it looks: a change in between is then told
    /// once too often, not once too rarely.
    pub fn take_steering_mask(&self) -> Option<Vec<u64>> {
        // SAFETY: mapped and aligned; BPF changes the word by atomics only.
        let pending = unsafe {
            AtomicU32::from_ptr(&raw mut (*self.bss.as_ptr()).arbiter.grants_event_pending)
        };
        pending.swap(0, Ordering::SeqCst);
        let arbiter = self.arbiter();
        (arbiter.saturated == 0).then(|| arbiter.granted_mask.to_vec())
    }

    /// What BPF knows of a client; ids past the end are the last one.
    pub fn client(&self, id: u32) -> flexnet_client_state {
        let index = id.min(FLEXNET_CLIENTS_MAX - 1) as usize;
        // SAFETY: as in `arbiter`; the index is within the array.
        unsafe { (&raw const (*self.bss.as_ptr()).clients[index]).read_volatile() }
    }

    /// Which flows a client's executors serve: bits of `1 << enum flexnet_flow_class`.
    pub fn flow_classes(&self, id: u32) -> u32 {
        (0..FLEXNET_EXECUTORS_MAX)
            .map(|slot| {
                let index =
                    (id.min(FLEXNET_CLIENTS_MAX - 1) * FLEXNET_EXECUTORS_MAX + slot) as usize;
                // SAFETY: as in `arbiter`; the index is within the array.
                let ectx = unsafe {
                    (&raw const (*self.bss.as_ptr()).executor_ctxs[index]).read_volatile()
                };
                u32::from(ectx.registered != 0) << ectx.flow_class.min(1)
            })
            .fold(0, |all, one| all | one)
    }

    /// Possible CPUs.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// What a CPU does now, and whose executor is on it, if it is granted.
    pub fn cpu(&self, cpu: usize) -> (CpuState, Option<u32>) {
        // SAFETY: as in `arbiter`; the index is within the array.
        let cctx = unsafe {
            let all = &raw const (*self.bss.as_ptr()).cpu_ctxs;
            let Some(last) = (*all).len().checked_sub(1) else {
                return (CpuState::Absent, None);
            };
            (&raw const (*all)[cpu.min(last)]).read_volatile()
        };
        let runs = cctx.current_class != flexnet_class_FLEXNET_CLASS_COUNT;
        let state = match (cctx.online != 0, cctx.granted != 0) {
            (false, _) => CpuState::Absent,
            (true, true) if cctx.executor != 0 => CpuState::Executor,
            (true, true) if runs => CpuState::Lent,
            (true, true) => CpuState::GrantedIdle,
            (true, false) if cctx.current_class == Class::Latency as u32 => CpuState::Latency,
            (true, false) if runs => CpuState::Busy,
            (true, false) => CpuState::Idle,
        };
        let index = (state == CpuState::Executor).then(|| cctx.executor.wrapping_sub(1));
        (state, index.map(|index| index / FLEXNET_EXECUTORS_MAX))
    }

    /// The CPUs' counters, summed.
    pub fn counters(&self) -> Result<flexnet_cpu_stats> {
        let values = self
            .skel
            .maps
            .cpu_stats
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)?
            .context("no counters")?;
        let mut words = [0u64; size_of::<flexnet_cpu_stats>() / 8];
        for value in values.iter().take(self.cpus) {
            ensure!(
                value.len() >= size_of::<flexnet_cpu_stats>(),
                "short counters"
            );
            for (word, bytes) in words.iter_mut().zip(value.chunks_exact(8)) {
                *word += u64::from_ne_bytes(bytes.try_into()?);
            }
        }
        // SAFETY: the structure is nothing but u64, as many as there are words.
        Ok(unsafe {
            std::mem::transmute::<[u64; size_of::<flexnet_cpu_stats>() / 8], flexnet_cpu_stats>(
                words,
            )
        })
    }

    /// The map of events, for events.rs.
    pub fn events(&self) -> &dyn MapCore {
        &self.skel.maps.events
    }

    /// A handle of the clients' pages, for pages.rs.
    pub fn pages(&self) -> Result<MapHandle> {
        MapHandle::try_from(&*self.skel.maps.pages).context("cannot duplicate the page table")
    }

    /// Tells BPF of a client.
    pub fn client_event(&self, op: ClientOp, client: u32, slot: u32) -> Result<(), Errno> {
        let event = flexnet_client_event {
            op: op as u32,
            client,
            slot,
            ..Plain::zeroed()
        };
        run(&self.skel.progs.client_event, event.bytes())
    }

    /// Tells BPF of a client that starts (its page is in place: executors may
    /// register) or has other limits.
    pub fn client_limits(&self, op: ClientOp, client: u32, limits: Limits) -> Result<(), Errno> {
        run(
            &self.skel.progs.client_event,
            limits.event(op, client).bytes(),
        )
    }

    /// The same for a device, by its index: its kernel threads may be executors.
    pub fn device_starts(&self, client: u32, ifindex: u32, limits: Limits) -> Result<(), Errno> {
        let event = flexnet_client_event {
            slot: ifindex,
            ..limits.event(ClientOp::StartKernel, client)
        };
        run(&self.skel.progs.client_event, event.bytes())
    }

    /// Makes a kernel thread an executor, if it polls a device that is a client.
    pub fn adopt_napi_thread(&self, tid: i32) -> Result<Adopted, Errno> {
        let mut thread = flexnet_napi_thread { tid, ifindex: 0 };
        let output = self.skel.progs.adopt_napi_thread.test_run(ProgramInput {
            context_in: Some(thread.bytes_mut()),
            ..ProgramInput::default()
        });
        let status = output.map_err(|error| errno_of(&error))?.return_value as i32;
        if status == 0 {
            return Ok(Adopted::Yes);
        }
        match Errno::from_raw_os_error(-status) {
            Errno::NOENT => Ok(Adopted::NotOurs),
            Errno::NOSPC => Ok(Adopted::NoRoom(thread.ifindex)),
            errno => Err(errno),
        }
    }

    /// The backlog NAPI threads, looked at now.
    pub fn backlog(&self) -> flexnet_backlog {
        if let Err(errno) = run(&self.skel.progs.sample_backlog, &[]) {
            log::debug!("cannot look at the backlog threads: {errno}");
        }
        // SAFETY: as in `arbiter`.
        unsafe { (&raw const (*self.bss.as_ptr()).backlog).read_volatile() }
    }

    /// Makes a thread what it asked to be. The pidfd names the thread; `tid`
    /// only finds it, and finds nothing when it is another's by now.
    pub fn register(
        &self,
        pidfd: BorrowedFd<'_>,
        tid: i32,
        registration: Registration,
    ) -> Result<(), Errno> {
        let registration = flexnet_registration {
            task_class: registration.task_class,
            client: registration.client,
            slot: registration.slot,
            flow_class: registration.flow_class,
        };
        self.skel
            .maps
            .registrations
            .update(
                &pidfd.as_raw_fd().to_ne_bytes(),
                registration.bytes(),
                MapFlags::ANY,
            )
            .map_err(|error| errno_of(&error))?;
        run(
            &self.skel.progs.apply_registration,
            flexnet_apply { tid }.bytes(),
        )
    }
}

impl Kernel<'_> {
    /// Changes settings, field by field: BPF sees each old or new.
    pub fn configure(&self, change: impl FnOnce(&mut types::flexnet_config)) -> Result<()> {
        let data = self.skel.maps.data_data.as_ref();
        let settings = &data.context("the object has no settings")?.settings;
        const WORDS: usize = size_of::<types::flexnet_config>() / 8;
        const { assert!(WORDS * 8 == size_of::<types::flexnet_config>()) };
        let now = (&raw const *settings).cast_mut().cast::<u64>();
        let mut new = *settings;
        change(&mut new);
        // SAFETY: integers only, as many bytes as words.
        let new = unsafe { std::mem::transmute::<types::flexnet_config, [u64; WORDS]>(new) };
        for (at, word) in new.into_iter().enumerate() {
            // SAFETY: within the settings, mapped writable as long as the object is;
            // BPF only reads them.
            unsafe { AtomicU64::from_ptr(now.add(at)) }.store(word, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts rules in force, for tasks that run already, too.
    ///
    /// # Errors
    /// The kernel's; whatever rules are in force then are whole ones.
    pub fn follow_rules(&self, rules: &[Rule]) -> Result<()> {
        let mut hooks = self.hooks.borrow_mut();
        if rules.is_empty() && hooks.is_empty() {
            return Ok(());
        }
        let table = rules::table(rules).map_err(|many| anyhow!(many.to_string()))?;
        // SAFETY: mapped and aligned; BPF only reads it.
        let epoch = unsafe { AtomicU32::from_ptr(&raw mut (*self.bss.as_ptr()).rules_epoch) };
        // 0 says that there never were any.
        let next = epoch.load(Ordering::Relaxed).wrapping_add(1).max(2);
        let (maps, progs) = (&self.skel.maps, &self.skel.progs);
        maps.rule_tables
            .update(
                &(next & 1).to_ne_bytes(),
                rules::bytes(&table),
                MapFlags::ANY,
            )
            .context("no room for the rules")?;
        epoch.store(next, Ordering::Release);
        if hooks.is_empty() {
            for program in [
                &progs.rules_new_task,
                &progs.rules_rename,
                &progs.rules_credentials,
                &progs.rules_cgroup,
            ] {
                let hook = program
                    .attach()
                    .context("cannot attach the hooks for rules")?;
                hooks.push(hook);
            }
        }
        // Children after their parents; where ids have wrapped, by the second.
        let walk = progs.rules_walk.attach().context("cannot walk the tasks")?;
        for _ in 0..2 {
            Iter::new(&walk)?.read_to_end(&mut Vec::new())?;
        }
        if rules.is_empty() {
            hooks.clear();
        }
        Ok(())
    }

    /// How many tasks each rule gives their class to, by its place in the file. Walks all
    /// tasks: only when somebody asks.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rule_tasks(&self) -> Result<[u32; FLEXNET_RULES_MAX as usize]> {
        let mut tasks = [0; FLEXNET_RULES_MAX as usize];
        let walk = self.skel.progs.rules_count.attach();
        let walk = walk.context("cannot walk the tasks")?;
        let mut numbers = Vec::new();
        Iter::new(&walk)?.read_to_end(&mut numbers)?;
        for number in numbers {
            if let Some(count) = tasks.get_mut(usize::from(number).wrapping_sub(1)) {
                *count += 1;
            }
        }
        Ok(tasks)
    }

    /// Tells of a task by its thread id.
    ///
    /// # Errors
    /// `SRCH`: there is none.
    pub fn sample_task(&self, tid: i32) -> Result<flexnet_task_sample, Errno> {
        let mut sample = flexnet_task_sample {
            tid,
            ..Plain::zeroed()
        };
        let output = self
            .skel
            .progs
            .sample_task
            .test_run(ProgramInput {
                context_in: Some(sample.bytes_mut()),
                ..ProgramInput::default()
            })
            .map_err(|error| errno_of(&error))?;
        match output.return_value as i32 {
            0 => Ok(sample),
            status => Err(Errno::from_raw_os_error(-status)),
        }
    }

    /// Has BPF send trace events, or no longer.
    pub fn set_tracing(&self, on: bool) {
        // SAFETY: mapped and aligned; BPF reads the words, and changes the second
        // by atomics only.
        let (tracing, lost) = unsafe {
            (
                AtomicU32::from_ptr(&raw mut (*self.bss.as_ptr()).tracing),
                AtomicU64::from_ptr(&raw mut (*self.bss.as_ptr()).trace_lost),
            )
        };
        if on {
            lost.store(0, Ordering::Relaxed);
        }
        tracing.store(u32::from(on), Ordering::SeqCst);
    }

    /// Trace events lost to a full ring since it was switched on.
    pub fn trace_lost(&self) -> u64 {
        // SAFETY: as in `arbiter`.
        unsafe { (&raw const (*self.bss.as_ptr()).trace_lost).read_volatile() }
    }

    /// A handle of the trace's ring buffer.
    pub fn trace_events(&self) -> Result<MapHandle> {
        MapHandle::try_from(&*self.skel.maps.trace_events).context("cannot duplicate the ring")
    }

    /// Attaches a trace program to a probe of a process' file.
    pub fn attach_probe(&self, kind: TraceKind, pid: i32, file: &str) -> Result<Link> {
        let progs = &self.skel.progs;
        let (program, name) = match kind {
            TraceKind::Submit => (&progs.trace_submit, "submit"),
            TraceKind::Resume => (&progs.trace_resume, "resume"),
            TraceKind::Yield => (&progs.trace_yield, "yield"),
            TraceKind::Finish => (&progs.trace_finish, "finish"),
            _ => bail!("no probe is called that"),
        };
        Ok(program.attach_usdt(pid, file, "flexnet", name)?)
    }

    /// The executors that are on CPUs: their index, and the CPU.
    pub fn running_executors(&self) -> Vec<(u32, i32)> {
        (0..FLEXNET_CLIENTS_MAX * FLEXNET_EXECUTORS_MAX)
            .filter_map(|index| {
                // SAFETY: as in `arbiter`; the index is within the array.
                let ectx = unsafe {
                    (&raw const (*self.bss.as_ptr()).executor_ctxs[index as usize]).read_volatile()
                };
                (ectx.registered != 0 && ectx.run_start_ns != 0).then_some((index, ectx.cpu))
            })
            .collect()
    }

    /// Runs one round of the arbiter on a case's numbers, in BPF; the case is
    /// what it is afterwards.
    pub fn decide(&self, case: &mut [u8; CASE_BYTES]) -> Result<(), Errno> {
        let output = self
            .skel
            .progs
            .decide
            .test_run(ProgramInput {
                context_in: Some(case),
                ..ProgramInput::default()
            })
            .map_err(|error| errno_of(&error))?;
        match output.return_value {
            0 => Ok(()),
            _ => Err(Errno::INVAL),
        }
    }
}

/// Runs a SEC("syscall") program, which returns 0 or -errno.
fn run(program: &ProgramMut<'_>, argument: &[u8]) -> Result<(), Errno> {
    let mut context = argument.to_vec();
    let output = program
        .test_run(ProgramInput {
            // The kernel refuses an empty one.
            context_in: (!context.is_empty()).then_some(&mut context),
            ..ProgramInput::default()
        })
        .map_err(|error| errno_of(&error))?;
    match output.return_value as i32 {
        0 => Ok(()),
        status => Err(Errno::from_raw_os_error(-status)),
    }
}

/// The errno behind a libbpf error.
pub fn errno_of(error: &libbpf_rs::Error) -> Errno {
    use libbpf_rs::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => Errno::SRCH,
        ErrorKind::PermissionDenied => Errno::PERM,
        ErrorKind::OutOfMemory => Errno::NOMEM,
        ErrorKind::InvalidInput | ErrorKind::InvalidData => Errno::INVAL,
        _ => Errno::IO,
    }
}
