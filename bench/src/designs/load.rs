// SPDX-License-Identifier: GPL-2.0-only
//! The experiment's processes: an application that is asked for work at given
//! times, whether it keeps up or not, and neighbours that compute for ever.
//!
//! The application's work is coroutines on executors, or (plain) jobs of a pool
//! of threads. A request's work is a number of iterations, not a time, so that
//! a preempted thread is charged for it.

use crate::numbers::percentile;
use anyhow::{Context, Result, bail};
use flexnet::abi::SOCKET_PATH;
use flexnet::client::Client;
use flexnet::coroutine::checkpoint;
use flexnet::design::Choice;
use flexnet::executor::{Flow, Runtime};
use flexnet_command::ClassName;
use flexnet_sim::{Arrivals, Phase, Service};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A request's work between two checkpoints.
const PART_NS: u64 = 20_000;
/// How long the rest is waited for at the end.
const REST_MAX: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Computes until killed, and nothing else
    #[arg(long)]
    hog: bool,
    /// In the kernel's class for what runs when nothing else does
    #[arg(long)]
    idle: bool,
    /// Ask the scheduler for this class
    #[arg(long, value_enum)]
    class: Option<ClassName>,
    /// Service times, as of `flexnet sim`
    #[arg(long, default_value = "100%:200us", value_parser = |text: &str| text.parse::<Service>())]
    service: Service,
    /// Requests a second, one step after the other
    #[arg(long, value_delimiter = ',', required_unless_present = "hog")]
    rates: Vec<f64>,
    /// Seconds of a step
    #[arg(long, default_value_t = 1.0)]
    step: f64,
    /// Iterations of the work a microsecond takes [default: measured]
    #[arg(long)]
    spins_per_us: Option<f64>,
    /// Executors; 0: a pool of plain threads
    #[arg(long, default_value_t = 0)]
    executors: usize,
    /// Threads of the pool
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// A design of the application's own instead of the scheduler's
    #[arg(long)]
    design: Option<Choice>,
    /// Flows the requests are spread over
    #[arg(long, default_value_t = 64)]
    flows: usize,
    /// Requests come from a real-time thread of CPU 0, as from a wire (root)
    #[arg(long)]
    wire: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes whose CPU time is looked at with each step
    #[arg(long, value_delimiter = ',')]
    watch: Vec<u32>,
    #[arg(long, default_value = SOCKET_PATH)]
    socket: PathBuf,
}

/// A step, measured. Latencies from the time a request was due, µs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) rate: f64,
    pub(crate) requests: usize,
    /// Not done at the end.
    pub(crate) unfinished: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Of the first type of requests alone.
    pub(crate) short_p99_us: f64,
    /// Of all CPUs, had by the watched processes.
    pub(crate) batch_share: f64,
    /// CPUs' worth of time the executors had, and that were granted.
    pub(crate) executor_cpus: f64,
    pub(crate) cores_granted: f64,
}

/// All requests, drawn before the start.
struct Requests {
    start: Instant,
    due_ns: Vec<u64>,
    service_ns: Vec<u64>,
    kind: Vec<u32>,
    step: Vec<usize>,
    /// 0: not done.
    took_ns: Vec<AtomicU64>,
    done: AtomicUsize,
    spins_per_us: f64,
}

impl Requests {
    fn draw(options: &Options) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(options.seed);
        let mut this = Self {
            start: Instant::now(),
            due_ns: vec![],
            service_ns: vec![],
            kind: vec![],
            step: vec![],
            took_ns: vec![],
            done: AtomicUsize::new(0),
            spins_per_us: options.spins_per_us.unwrap_or_else(spins_per_us),
        };
        let step_ns = (options.step * 1e9) as u64;
        let mut phase = Phase::default();
        for (step, &rate) in options.rates.iter().enumerate() {
            let end = step_ns * (step as u64 + 1);
            let mut now = step_ns * step as u64;
            loop {
                now = Arrivals::Poisson.next(now, rate, 1.0, &mut phase, &mut random);
                if now >= end {
                    break;
                }
                let (service_ns, kind) = options.service.draw(&mut random);
                this.due_ns.push(now);
                this.service_ns.push(service_ns);
                this.kind.push(kind);
                this.step.push(step);
            }
        }
        this.took_ns
            .resize_with(this.due_ns.len(), AtomicU64::default);
        this
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// How long each part of a request's work is, ns.
    fn parts(&self, request: usize) -> impl Iterator<Item = u64> + use<> {
        let service_ns = self.service_ns[request];
        (0..service_ns.div_ceil(PART_NS)).map(move |part| PART_NS.min(service_ns - part * PART_NS))
    }

    fn work(&self, ns: u64) {
        spin((ns as f64 / 1e3 * self.spins_per_us) as u64);
    }

    fn finish(&self, request: usize) {
        let took = self.now_ns().saturating_sub(self.due_ns[request]).max(1);
        self.took_ns[request].store(took, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Release);
    }
}

fn spin(iterations: u64) {
    for at in 0..iterations {
        std::hint::black_box(at);
    }
}

/// Iterations a microsecond takes: the best of several tries, since whatever
/// else runs only makes it less.
pub(super) fn spins_per_us() -> f64 {
    let rate = |_| {
        let start = Instant::now();
        spin(2_000_000);
        2_000_000.0 / start.elapsed().as_nanos() as f64 * 1e3
    };
    (0..10).map(rate).fold(0.0, f64::max)
}

/// What does the requests.
enum Workers {
    Executors(
        Vec<Flow>,
        #[allow(dead_code, reason = "lives as long as its flows")] Runtime,
    ),
    Pool(Arc<(Mutex<VecDeque<usize>>, Condvar)>),
}

impl Workers {
    fn start(options: &Options, requests: &Arc<Requests>) -> Result<Self> {
        if options.executors > 0 {
            let client = Client::connect_or_wait(&options.socket, "load")?;
            let mut builder = Runtime::builder().name("load").link(client);
            if let Some(design) = &options.design {
                builder = builder.design(design.build(options.seed));
            }
            let runtime = builder.executors(options.executors).build()?;
            let flows = (0..options.flows.max(1)).map(|_| runtime.flow());
            return Ok(Self::Executors(flows.collect::<Result<_, _>>()?, runtime));
        }
        let jobs = Arc::new((Mutex::new(VecDeque::new()), Condvar::new()));
        for _ in 0..options.threads.max(1) {
            let (jobs, requests) = (jobs.clone(), requests.clone());
            std::thread::Builder::new().spawn(move || {
                loop {
                    let (queue, some) = &*jobs;
                    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    let waited =
                        some.wait_while(queue, |queue: &mut VecDeque<usize>| queue.is_empty());
                    let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
                    let Some(request) = queue.pop_front() else {
                        continue;
                    };
                    drop(queue);
                    requests.parts(request).for_each(|ns| requests.work(ns));
                    requests.finish(request);
                }
            })?;
        }
        Ok(Self::Pool(jobs))
    }

    /// False: no room now.
    fn submit(&self, requests: &Arc<Requests>, request: usize) -> bool {
        match self {
            Self::Executors(flows, _) => {
                let flow = &flows[request % flows.len()];
                flow.set_kind(requests.kind[request]);
                let requests = requests.clone();
                let work = async move {
                    for ns in requests.parts(request) {
                        requests.work(ns);
                        checkpoint().await;
                    }
                    requests.finish(request);
                };
                flow.submit(work).is_ok()
            }
            Self::Pool(jobs) => {
                let mut queue = jobs.0.lock().unwrap_or_else(PoisonError::into_inner);
                queue.push_back(request);
                drop(queue);
                jobs.1.notify_one();
                true
            }
        }
    }
}

/// What is looked at between steps.
#[derive(Clone, Copy, Default)]
struct Sample {
    at_ns: u64,
    batch_ns: u64,
    executors_ns: u64,
    granted_ns: u64,
}

impl Sample {
    fn now(options: &Options, requests: &Requests) -> Self {
        let mut sample = Self {
            at_ns: requests.now_ns(),
            ..Self::default()
        };
        for pid in &options.watch {
            let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"));
            let text = text.unwrap_or_default();
            let run_ns = text
                .split(' ')
                .next()
                .and_then(|word| word.parse::<u64>().ok());
            sample.batch_ns += run_ns.unwrap_or(0);
        }
        if options.executors > 0
            && let Ok(status) = flexnet::client::status(&options.socket)
        {
            sample.granted_ns = status.granted_core_ns;
            let clients = &status.client[..(status.clients as usize).min(status.client.len())];
            sample.executors_ns = clients.iter().map(|client| client.run_ns).sum();
        }
        sample
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(class) = options.class {
        flexnet::client::set_class_of_self(&options.socket, class.class())
            .context("no class from the scheduler")?;
    }
    if options.idle {
        set_policy(libc::SCHED_IDLE, 0)?;
    }
    if options.hog {
        loop {
            spin(1_000_000);
        }
    }
    println!("{}", serde_json::to_string(&measure(options)?)?);
    Ok(())
}

/// Puts this thread under one of the kernel's policies.
fn set_policy(policy: i32, priority: i32) -> Result<()> {
    // SAFETY: a plain call on a local value, zeros are valid in it.
    let failed = unsafe {
        let mut parameter: libc::sched_param = std::mem::zeroed();
        parameter.sched_priority = priority;
        libc::sched_setscheduler(0, policy, &raw const parameter)
    } != 0;
    if failed {
        bail!("no such policy: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// From here on this thread stands for the machines that ask: nothing delays it,
/// whatever schedules the rest, and it stays off the cores executors get first.
fn be_the_wire() -> Result<()> {
    // SAFETY: takes no pointer; sleeps end on time.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let mut cpu = CpuSet::new();
    cpu.set(0);
    sched_setaffinity(None, &cpu)?;
    set_policy(libc::SCHED_FIFO, 1)
}

fn measure(options: &Options) -> Result<Vec<Step>> {
    let mut requests = Requests::draw(options);
    requests.start = Instant::now();
    let requests = Arc::new(requests);
    let workers = Workers::start(options, &requests)?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    // After their start: threads inherit it.
    if options.wire {
        be_the_wire()?;
    }
    let shift_ns = requests.now_ns();
    let mut samples = vec![Sample::now(options, &requests)];
    for request in 0..requests.due_ns.len() {
        while samples.len() <= requests.step[request] {
            samples.push(Sample::now(options, &requests));
        }
        // The workers' start is not theirs to make up for.
        let due_ns = requests.due_ns[request];
        let wait_ns = due_ns.saturating_sub(requests.now_ns().saturating_sub(shift_ns));
        if wait_ns > 0 {
            std::thread::sleep(Duration::from_nanos(wait_ns));
        }
        while !workers.submit(&requests, request) {
            std::thread::yield_now();
        }
    }
    samples.push(Sample::now(options, &requests));
    let ended = Instant::now();
    while requests.done.load(Ordering::Acquire) < requests.due_ns.len()
        && ended.elapsed() < REST_MAX
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    let steps = options.rates.iter().enumerate();
    Ok(steps
        .map(|(step, &rate)| {
            let (before, after) = (
                samples[step],
                samples.get(step + 1).unwrap_or(&samples[step]),
            );
            let mut summary = summary(&requests, step, rate, shift_ns, before, *after);
            summary.batch_share /= cpus as f64;
            summary
        })
        .collect())
}

fn summary(
    requests: &Requests,
    step: usize,
    rate: f64,
    shift_ns: u64,
    before: Sample,
    after: Sample,
) -> Step {
    let (mut all, mut short, mut unfinished) = (vec![], vec![], 0);
    for request in (0..requests.step.len()).filter(|&at| requests.step[at] == step) {
        let took = match requests.took_ns[request].load(Ordering::Relaxed) {
            0 => {
                unfinished += 1;
                REST_MAX.as_nanos() as u64
            }
            took => took.saturating_sub(shift_ns),
        };
        all.push(took as f64 / 1e3);
        if requests.kind[request] == 0 {
            short.push(took as f64 / 1e3);
        }
    }
    let elapsed = after.at_ns.saturating_sub(before.at_ns).max(1) as f64;
    let of = |after: u64, before: u64| after.saturating_sub(before) as f64 / elapsed;
    Step {
        rate,
        requests: all.len(),
        unfinished,
        p50_us: percentile(&all, 0.5),
        p99_us: percentile(&all, 0.99),
        p999_us: percentile(&all, 0.999),
        short_p99_us: percentile(&short, 0.99),
        batch_share: of(after.batch_ns, before.batch_ns),
        executor_cpus: of(after.executors_ns, before.executors_ns),
        cores_granted: of(after.granted_ns, before.granted_ns),
    }
}
