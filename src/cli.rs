// SPDX-License-Identifier: GPL-2.0-only
//! The command line: every number with its unit, its range and its default.
//! What the machine allows is checked later (cpus.rs).

use crate::metrics::Address;
use clap::{CommandFactory, Parser, ValueEnum, value_parser};
use clap_complete::Shell;
use flexnet::abi::SOCKET_PATH;
use flexnet::design::Choice;
use flexnet_command::Related;
use scx_utils::libbpf_clap_opts::LibbpfOpts;
use std::io::Write;
use std::path::PathBuf;

/// What a granted core does while no executor wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdleCores {
    /// It runs other tasks; an executor takes it back by preemption.
    Lend,
    /// It idles.
    Strict,
}

/// A sched_ext scheduler: grants CPU cores to network executors by their queueing delay, and
/// schedules all other tasks on the remaining cores.
#[derive(Clone, Debug, Parser)]
#[command(name = "scx_flexnet", version, verbatim_doc_comment)]
pub struct Options {
    /// The stack design, NAME[:key=value,…]: what is queued where, which executor runs next,
    /// and how cores are granted. `flexnet design` lists the designs and switches between them.
    #[arg(long, value_name = "DESIGN", default_value = "flexnet")]
    pub design: Choice,

    /// In the default design, one more core is granted when the oldest queued message of a latency
    /// flow has waited longer than this and an executor waits for a core (µs, 1 to 1000000).
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub objective_us: u64,

    /// A core is reclaimed only while the queueing delay stays below this (µs, 0 to 1000000).
    #[arg(long, value_name = "US", default_value_t = 10, value_parser = value_parser!(u64).range(0..=1_000_000))]
    pub low_mark_us: u64,

    /// Time between two rounds of the arbiter while work is queued (µs, 20 to 1000000).
    #[arg(long, value_name = "US", default_value_t = 100, value_parser = value_parser!(u64).range(20..=1_000_000))]
    pub interval_us: u64,

    /// A core is reclaimed after this time of calm; all cores are reclaimed after this time
    /// without work (ms, 0 to 60000).
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = value_parser!(u64).range(0..=60_000))]
    pub idle_delay_ms: u64,

    /// CPU time that an executor may use while other executors wait for its core, in designs
    /// without a quantum of their own for executors (µs, 20 to 100000). Those are the default
    /// design and snap, and shenango and shinjuku with quantum=0.
    #[arg(long, value_name = "US", default_value_t = 4000, value_parser = value_parser!(u64).range(20..=100_000))]
    pub quantum_us: u64,

    /// Time between the request to yield and the preemption of an executor (µs, 1 to 100000).
    #[arg(long, value_name = "US", default_value_t = 100, value_parser = value_parser!(u64).range(1..=100_000))]
    pub grace_us: u64,

    /// Time slice of normal and batch tasks (µs, 100 to 100000).
    #[arg(long, value_name = "US", default_value_t = 4000, value_parser = value_parser!(u64).range(100..=100_000))]
    pub slice_us: u64,

    /// Time slice of latency tasks (µs, 100 to 100000).
    #[arg(long, value_name = "US", default_value_t = 1000, value_parser = value_parser!(u64).range(100..=100_000))]
    pub latency_slice_us: u64,

    /// After a latency task ran on a core, latency tasks may not preempt there for this time
    /// (µs, 0 to 100000; 0 is no cooldown).
    #[arg(long, value_name = "US", default_value_t = 300, value_parser = value_parser!(u64).range(0..=100_000))]
    pub preemption_cooldown_us: u64,

    /// CPU time that latency tasks may use back to back on a core after one preemption: one
    /// latency batch (µs, 0 to 100000). Then the cooldown begins. A task gets at most two turns
    /// per latency batch [default: as long as the cooldown, at least --latency-slice-us]
    #[arg(long, value_name = "US", value_parser = value_parser!(u64).range(0..=100_000))]
    pub latency_batch_us: Option<u64>,

    /// Longest time that a runnable task waits while tasks of a higher class run (ms, 1 to
    /// 5000).
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = value_parser!(u64).range(1..=5_000))]
    pub starvation_ms: u64,

    /// Start although cgroups have a limit (cpu.max) that this kernel does not tell a scheduler of.
    /// They run without it. From Linux 6.17 on limits are enforced.
    #[arg(long)]
    pub ignore_cpu_max: bool,

    /// Cores that are never granted to executors (1 or more).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub min_general_cores: u32,

    /// Most cores that are granted at once; 0 grants none [default: all cores but the general
    /// ones].
    #[arg(long, value_name = "N")]
    pub max_net_cores: Option<u32>,

    /// What a granted core does while no executor wants it.
    #[arg(long, value_enum, default_value_t = IdleCores::Lend)]
    pub idle_cores: IdleCores,

    /// A network device whose receive packet steering (RPS) follows the granted cores; may be
    /// given several times.
    #[arg(long, value_name = "DEVICE")]
    pub steer: Vec<String>,

    /// A network device that kernel threads shall poll (threaded NAPI), as executors; may be
    /// given several times.
    #[arg(long, value_name = "DEVICE")]
    pub napi: Vec<String>,

    /// Path of the control socket.
    #[arg(long, value_name = "PATH", default_value = flexnet::abi::SOCKET_PATH)]
    pub socket: PathBuf,

    /// The group, by name or number, that may connect to the control socket beside root
    /// [default: every user may].
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,

    /// Most clients at once (1 to 64). A user other than root may have half of them.
    #[arg(long, value_name = "N", default_value_t = flexnet::abi::CLIENTS_MAX as u32,
          value_parser = value_parser!(u32).range(1..=flexnet::abi::CLIENTS_MAX as i64))]
    pub clients_max: u32,

    /// Most executors that one client may register (1 to 16).
    #[arg(long, value_name = "N", default_value_t = flexnet::abi::EXECUTORS_MAX as u32,
          value_parser = value_parser!(u32).range(1..=flexnet::abi::EXECUTORS_MAX as i64))]
    pub executors_max: u32,

    /// Serve OpenMetrics at http://…/metrics, on unix:PATH or on ADDRESS:PORT of loopback
    /// [default: off].
    #[arg(long, value_name = "WHERE")]
    pub metrics: Option<Address>,

    /// The configuration file, in TOML; its keys are the long names of the flags that change how
    /// the scheduler works [default: /etc/scx_flexnet/config.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Take over from the running scx_flexnet, if there is one: this one loads, then the
    /// running one detaches. Clients, steered devices and their state are kept.
    // The unit gives it, and FLAGS in /etc/default may give it once more.
    #[arg(long, overrides_with = "replace")]
    pub replace: bool,

    /// Check the configuration file, print each mistake, and exit.
    #[arg(long)]
    pub check_config: bool,

    /// Print the values in force as a configuration file, with the origin of each value, and
    /// exit.
    #[arg(long)]
    pub print_config: bool,

    /// Print statistics every SECS seconds (1 or more).
    #[arg(long, value_name = "SECS", value_parser = value_parser!(u32).range(1..))]
    pub stats: Option<u32>,

    /// Print the statistics of the running scheduler every SECS seconds (1 or more); schedule
    /// nothing.
    #[arg(long, value_name = "SECS", value_parser = value_parser!(u32).range(1..))]
    pub monitor: Option<u32>,

    /// Describe the statistics and exit.
    #[arg(long)]
    pub help_stats: bool,

    /// Length of the kernel's dump after an error (bytes; 0 is the kernel's default).
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub exit_dump_len: u32,

    /// Also log every change of the granted cores.
    #[arg(short, long)]
    pub debug: bool,

    /// Also log what libbpf does.
    #[arg(short, long)]
    pub verbose: bool,

    /// Print completions for a shell and exit.
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<Shell>,

    /// Print the manual page (section 8) and exit.
    #[arg(long)]
    pub man: bool,

    /// Check that this many rounds are decided in BPF as on the host, and exit
    #[arg(long, hide = true, value_name = "N")]
    pub check_designs: Option<usize>,

    #[command(flatten, next_help_heading = "Libbpf options")]
    pub libbpf: LibbpfOpts,
}

/// What the manual page says beyond --help.
const RELATED: Related<'_> = Related {
    files: &[
        (
            "/etc/scx_flexnet/config.toml",
            "The configuration, unless --config names another file: see scx_flexnet.toml(5).",
        ),
        (
            SOCKET_PATH,
            "The control socket, unless --socket names another. Applications and flexnet(1) connect to it.",
        ),
        (
            "/run/scx_flexnet/control.root.sock",
            "The socket for root, beside the control socket. It has places of its own.",
        ),
        (
            "/run/scx_flexnet/steer.state",
            "The receive masks that --steer found. They are restored at the end, or by the next daemon.",
        ),
        (
            "/run/scx_flexnet/napi.state",
            "The settings of threaded NAPI that --napi found, in the same way.",
        ),
    ],
    pages: &[("flexnet", 1), ("scx_flexnet.toml", 5), ("flexnet", 7)],
};

impl Options {
    /// Writes completions for a shell: from the definitions above, as --help is.
    ///
    /// # Errors
    /// The output's.
    pub fn complete(shell: Shell, out: &mut dyn Write) -> std::io::Result<()> {
        // Into memory first: it panics where it cannot write.
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Self::command(), "scx_flexnet", &mut text);
        out.write_all(&text)
    }

    /// Writes the manual page.
    ///
    /// # Errors
    /// The output's.
    pub fn manual(out: &mut dyn Write) -> std::io::Result<()> {
        let text = flexnet_command::page(&Self::command(), "8", "System Administration", &RELATED);
        out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["scx_flexnet"], arguments].concat())
    }

    #[test]
    fn defaults_are_in_bounds() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.objective_us, 50);
        assert_eq!(options.idle_cores, IdleCores::Lend);
        assert_eq!((options.clients_max, options.executors_max), (64, 16));
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        for arguments in [
            ["--min-general-cores", "0"],
            ["--objective-us", "0"],
            ["--clients-max", "65"],
            ["--executors-max", "17"],
            ["--starvation-ms", "5001"],
            ["--interval-us", "-1"],
            ["--idle-cores", "sometimes"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn steer_repeats() {
        let options = parse(&["--steer", "lo", "--steer", "eth0"]).unwrap();
        assert_eq!(options.steer, ["lo", "eth0"]);
    }

    #[test]
    fn replace_may_be_said_twice() {
        assert!(parse(&["--replace", "--replace"]).unwrap().replace);
        assert!(!parse(&[]).unwrap().replace);
    }
}
