// SPDX-License-Identifier: GPL-2.0-only
//! The command line: every number with its unit, its bounds and its default.
//! What the machine allows is checked later (cpus.rs).

use crate::metrics::Address;
use clap::{CommandFactory, Parser, ValueEnum, value_parser};
use clap_complete::Shell;
use flexnet::design::Choice;
use scx_utils::libbpf_clap_opts::LibbpfOpts;
use std::io::Write;
use std::path::PathBuf;

/// What a granted core does while no executor wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdleCores {
    /// It serves other tasks and is taken back by preemption.
    Lend,
    /// It idles.
    Strict,
}

/// A scheduler that gives network executors cores of their own by load and
/// schedules everything else on the rest.
#[derive(Clone, Debug, Parser)]
#[command(name = "scx_flexnet", version, verbatim_doc_comment)]
pub struct Options {
    /// The stack design, NAME[:key=value,…]: what waits where, who runs when, how
    /// cores are granted; `flexnet design` lists them and switches live.
    #[arg(long, value_name = "DESIGN", default_value = "flexnet")]
    pub design: Choice,

    /// Queueing delay objective: one more core is granted when the oldest
    /// queued message is older (µs).
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub objective_us: u64,

    /// A core is given back only while delay stays under this (µs).
    #[arg(long, value_name = "US", default_value_t = 10, value_parser = value_parser!(u64).range(0..=1_000_000))]
    pub low_mark_us: u64,

    /// Time between two samples of the queues while work is queued (µs).
    #[arg(long, value_name = "US", default_value_t = 100, value_parser = value_parser!(u64).range(20..=1_000_000))]
    pub interval_us: u64,

    /// The last cores are given back after this long without work (ms).
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = value_parser!(u64).range(0..=60_000))]
    pub idle_delay_ms: u64,

    /// An executor's turn where others wait for its core (µs).
    #[arg(long, value_name = "US", default_value_t = 4000, value_parser = value_parser!(u64).range(20..=100_000))]
    pub quantum_us: u64,

    /// From asking an executor to yield to preempting it (µs).
    #[arg(long, value_name = "US", default_value_t = 100, value_parser = value_parser!(u64).range(1..=100_000))]
    pub grace_us: u64,

    /// Slice of normal and batch tasks (µs) [default: 4000, or 150 times what a
    /// process switch is measured to cost at the start, up to 10000]
    #[arg(long, value_name = "US", value_parser = value_parser!(u64).range(100..=100_000))]
    pub slice_us: Option<u64>,

    /// Slice of latency tasks (µs).
    #[arg(long, value_name = "US", default_value_t = 1000, value_parser = value_parser!(u64).range(100..=100_000))]
    pub latency_slice_us: u64,

    /// After latency tasks ran on a core, none preempts others there for this
    /// long (µs; 0: at once) [default: 120 times what a process switch is measured
    /// to cost at the start]
    #[arg(long, value_name = "US", value_parser = value_parser!(u64).range(0..=100_000))]
    pub preemption_cooldown_us: Option<u64>,

    /// Latency tasks that preempted others on a core run there, one after the
    /// other, for this long in all before its preemption cooldown, there and back: n of them
    /// wake a second time n - 1 times (µs) [default: the preemption cooldown, the latency
    /// slice at least]
    #[arg(long, value_name = "US", value_parser = value_parser!(u64).range(0..=100_000))]
    pub latency_batch_us: Option<u64>,

    /// No runnable task waits longer while others of a higher class run (ms).
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = value_parser!(u64).range(1..=5_000))]
    pub starvation_ms: u64,

    /// Cores that are never granted.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub min_general_cores: u32,

    /// Most cores granted at once; 0 grants none [default: all but the
    /// general ones].
    #[arg(long, value_name = "N")]
    pub max_net_cores: Option<u32>,

    /// What a granted core does while no executor wants it.
    #[arg(long, value_enum, default_value_t = IdleCores::Lend)]
    pub idle_cores: IdleCores,

    /// Have this network device's receive processing (RPS) follow the granted
    /// cores; repeatable.
    #[arg(long, value_name = "DEVICE")]
    pub steer: Vec<String>,

    /// Have kernel threads poll this network device (threaded NAPI) and treat them
    /// as executors; repeatable.
    #[arg(long, value_name = "DEVICE")]
    pub napi: Vec<String>,

    /// The control socket.
    #[arg(long, value_name = "PATH", default_value = flexnet::abi::SOCKET_PATH)]
    pub socket: PathBuf,

    /// Only this group (name or number) and root may connect [default:
    /// everybody].
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,

    /// Clients alive at once; any one user but root may have half of them.
    #[arg(long, value_name = "N", default_value_t = flexnet::abi::CLIENTS_MAX as u32,
          value_parser = value_parser!(u32).range(1..=flexnet::abi::CLIENTS_MAX as i64))]
    pub clients_max: u32,

    /// Executors one client may register.
    #[arg(long, value_name = "N", default_value_t = flexnet::abi::EXECUTORS_MAX as u32,
          value_parser = value_parser!(u32).range(1..=flexnet::abi::EXECUTORS_MAX as i64))]
    pub executors_max: u32,

    /// Serve OpenMetrics at http://…/metrics: unix:PATH or a loopback
    /// ADDRESS:PORT [default: nowhere].
    #[arg(long, value_name = "WHERE")]
    pub metrics: Option<Address>,

    /// The configuration file: every flag by its long name, as TOML [default:
    /// /etc/scx_flexnet/config.toml where it is].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Take over from the scx_flexnet that runs, if one does: load first, then have
    /// it detach; clients, steered devices and their state stay.
    #[arg(long)]
    pub replace: bool,

    /// Check the configuration file and exit.
    #[arg(long)]
    pub check_config: bool,

    /// Print what holds, as a configuration file, with the origin of each
    /// value, and exit.
    #[arg(long)]
    pub print_config: bool,

    /// Print statistics every so many seconds.
    #[arg(long, value_name = "SECS", value_parser = value_parser!(u32).range(1..))]
    pub stats: Option<u32>,

    /// Print a running scheduler's statistics every so many seconds and
    /// schedule nothing.
    #[arg(long, value_name = "SECS", value_parser = value_parser!(u32).range(1..))]
    pub monitor: Option<u32>,

    /// Describe the statistics and exit.
    #[arg(long)]
    pub help_stats: bool,

    /// Length of the dump on an error exit, in bytes; 0 is the kernel's
    /// default.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub exit_dump_len: u32,

    /// Log every change of the granted cores, too.
    #[arg(short, long)]
    pub debug: bool,

    /// Log what libbpf does, too.
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

    /// The other side of the measurement (switch_cost.rs)
    #[arg(long, hide = true)]
    pub echo: bool,

    #[command(flatten, next_help_heading = "Libbpf options")]
    pub libbpf: LibbpfOpts,
}

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
        clap_mangen::Man::new(Self::command())
            .section("8")
            .manual("System Administration")
            .render(out)
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
}
