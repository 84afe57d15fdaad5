// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's own network threads as executors. Packets are raw frames from one
//! end of a wire to the other (veth, or ci/vm's --net): the device at the other end
//! has a NAPI, and nobody but taps wants what it receives.

use crate::daemon::{Daemon, client, eventually, log, status};
use crate::tasks::{Task, last_cpu_of, online_cpus, pin, say};
use flexnet::abi::{CpuState, FlowClass, StatusClient};
use rustix::net::{AddressFamily, RawProtocol, SocketFlags, SocketType, socket_with};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// For experiments (IEEE 802).
const ETHERTYPE: u16 = 0x88b5;
const FRAME_BYTES: usize = 60;

/// Runs a command that must succeed.
fn run(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

/// Two devices, wired to each other. What goes into `near` is received by `far`.
struct Wire {
    near: String,
    far: String,
    veth: bool,
}

impl Wire {
    /// A pair of veth devices; they go with the handle.
    fn veth() -> Self {
        run("modprobe veth");
        run("ip link add near type veth peer name far");
        // Frames that could be segmented yet go past the other end's NAPI.
        run("ethtool -K near tso off");
        run("ethtool -K far gro on");
        Self::up("near", "far", true)
    }

    /// The two virtio-net devices of ci/vm.
    fn virtio() -> Self {
        run("modprobe virtio_net");
        eventually("virtio-net devices", || {
            ["eth0", "eth1"].iter().all(|device| exists(device))
        });
        Self::up("eth0", "eth1", false)
    }

    fn up(near: &str, far: &str, veth: bool) -> Self {
        for device in [near, far] {
            run(&format!("ip link set {device} up"));
        }
        Self {
            near: near.to_owned(),
            far: far.to_owned(),
            veth,
        }
    }

    /// Frames for ever, so many at once.
    fn packets(&self, burst: usize, pause_us: u64) -> Task {
        let (burst, pause) = (burst.to_string(), pause_us.to_string());
        Task::play(&[], &["packets", &self.near, &burst, &pause])
    }

    /// The threads that poll its far end.
    fn threads(&self) -> Vec<i32> {
        kernel_threads(&format!("napi/{}-", self.far))
    }

    fn threaded(&self) -> String {
        let path = format!("/sys/class/net/{}/threaded", self.far);
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn client(&self) -> StatusClient {
        client(&self.far).unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.veth {
            let _ = Command::new("ip")
                .args(["link", "del", &self.near])
                .status();
        }
    }
}

fn exists(device: &str) -> bool {
    fs::exists(format!("/sys/class/net/{device}")).unwrap()
}

/// Kernel threads by the beginning of their names.
fn kernel_threads(name: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let is_named = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(name))
    };
    processes.filter_map(pid).filter(is_named).collect()
}

fn granted_cpus() -> Vec<usize> {
    let states = status().cpu.map(CpuState::of);
    let granted = [CpuState::GrantedIdle, CpuState::Executor, CpuState::Lent];
    (0..states.len())
        .filter(|&cpu| granted.contains(&states[cpu]))
        .collect()
}

/// CPU time of a kernel thread (ns).
fn run_ns(tid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{tid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

// --- the roles ----------------------------------------------------------------

/// Sends frames into a device for ever.
pub fn packets(device: &str, burst: usize, pause: Duration) {
    let socket = packet_socket(device, 0);
    let mut frame = [0xff; FRAME_BYTES];
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    say("ready");
    loop {
        for _ in 0..burst {
            // The device's queue is full at times.
            let _ = rustix::net::send(&socket, &frame, rustix::net::SendFlags::empty());
        }
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
}

/// Instructions of a filter; more take too much of a socket's memory.
const FILTER: usize = 400;

/// Makes each frame that a device receives cost its receiver: so many filters look
/// at it, and throw it away. As long as the sockets are open.
fn taps(device: &str, count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| tap(device)).collect()
}

fn tap(device: &str) -> OwnedFd {
    let socket = packet_socket(device, ETHERTYPE);
    let load = libc::sock_filter {
        code: 0x30, // ldb [k]
        jt: 0,
        jf: 0,
        k: 0,
    };
    let mut program = vec![load; FILTER - 1];
    program.push(libc::sock_filter { code: 6, ..load }); // ret 0
    let program = libc::sock_fprog {
        len: FILTER as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions live through the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    socket
}

fn packet_socket(device: &str, ethertype: u16) -> OwnedFd {
    let protocol =
        RawProtocol::new(u32::from(ethertype.to_be())).map(rustix::net::Protocol::from_raw);
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    );
    let socket = socket.unwrap();
    let index = fs::read_to_string(format!("/sys/class/net/{device}/ifindex")).unwrap();
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: index.trim().parse().unwrap(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address lives through the call, and its size is told.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    socket
}

// --- the tests ----------------------------------------------------------------

fn follows_load(wire: &Wire) {
    let daemon = Daemon::start(&["--napi", &wire.far]);
    assert_eq!(wire.threaded(), "1");
    let threads = wire.threads();
    let shown = wire.client();
    assert!(
        shown.is_kernel() && shown.executors as usize == threads.len(),
        "{shown:?}"
    );
    assert!(!threads.is_empty());
    let text = Command::new("flexnet")
        .arg("status")
        .output()
        .unwrap()
        .stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(&format!("kernel {}", wire.far)), "{text}");

    let hogs: Vec<Task> = online_cpus().iter().map(|_| Task::hog()).collect();
    let packets = wire.packets(64, 2_000);
    eventually("a core for a kernel thread", || {
        let granted = granted_cpus();
        wire.client().run_ns > 20_000_000
            && threads
                .iter()
                .any(|&tid| granted.contains(&last_cpu_of(tid)))
    });
    let granted = status().cores_granted;
    assert!(
        granted as usize <= threads.len(),
        "{granted} cores for {threads:?}"
    );
    packets.kill();
    eventually("the core's return", || status().cores_granted == 0);
    let shown = wire.client();
    assert_eq!((shown.depth, shown.delay_ns), (0, 0));
    drop(hogs);
    daemon.stop();
    assert_eq!(wire.threaded(), "0");
}

pub fn kernel_threads_get_cores_by_load() {
    follows_load(&Wire::veth());
}

/// In a boot of its own, with --net.
pub fn virtio_net_threads_get_cores_by_load() {
    follows_load(&Wire::virtio());
}

pub fn a_devices_setting_returns_after_a_crash() {
    let wire = Wire::veth();
    let daemon = Daemon::start(&["--napi", &wire.far]);
    daemon.kill();
    assert_eq!(wire.threaded(), "1");
    // Also by a daemon without a device.
    let daemon = Daemon::start(&[]);
    assert_eq!(wire.threaded(), "0");
    assert!(log().contains("restored after a crash"), "{}", log());
    daemon.stop();
    for (device, why) in [
        ("lo", "it has no NAPI"),
        ("nobodys", "there is no such device"),
        ("../lo", "no device's name"),
    ] {
        let mut command = Command::new("scx_flexnet");
        let refused = command
            .args(["--napi", &wire.far, "--napi", device])
            .output()
            .unwrap();
        assert!(!refused.status.success(), "{device}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(why), "{said}");
        assert_eq!(wire.threaded(), "0");
    }
}

/// --check-config says what a start would, and changes nothing. Of a device that is down nobody
/// knows.
pub fn check_config_tells_which_device_has_no_napi() {
    let wire = Wire::veth();
    let check = |device: &str| {
        let mut command = Command::new("scx_flexnet");
        let checked = command.args(["--check-config", "--napi", device]);
        let checked = checked.output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(said.contains(device), !said.is_empty(), "{said}");
        (checked.status.success(), said)
    };
    assert_eq!(check(&wire.far), (true, String::new()));
    run(&format!("ip link set {} down", wire.far));
    let (good, said) = check(&wire.far);
    assert!(good && said.contains("it is down"), "{said}");
    run(&format!("ip link set {} up", wire.far));
    run(&format!("ethtool -K {} gro off", wire.far));
    let (good, said) = check(&wire.far);
    assert!(!good && said.contains("it has no NAPI"), "{said}");
    run(&format!("ethtool -K {} gro on", wire.far));
    assert_eq!(check(&wire.far), (true, String::new()));
    assert_eq!(wire.threaded(), "0");
}

/// Threads that come while it schedules are taken in, and ones that go are not
/// counted any longer.
pub fn kernel_threads_come_and_go() {
    let wire = Wire::veth();
    let daemon = Daemon::start(&["--napi", &wire.far]);
    for _ in 0..5 {
        let before = wire.threads();
        run(&format!("ip link set {} down", wire.far));
        eventually("the threads' end", || wire.client().executors == 0);
        run(&format!("ip link set {} up", wire.far));
        let packets = wire.packets(1, 1_000);
        eventually("another thread", || wire.client().executors == 1);
        let run_ns = wire.client().run_ns;
        eventually("its work", || wire.client().run_ns > run_ns);
        assert_ne!(wire.threads(), before);
        packets.kill();
    }
    // The device itself, too.
    drop(wire);
    let wire = Wire::veth();
    eventually("threaded NAPI of the new device", || wire.threaded() == "1");
    let _packets = wire.packets(1, 1_000);
    eventually("its thread at work", || {
        client(&wire.far).is_some_and(|it| it.executors == 1 && it.run_ns > 0)
    });
    daemon.stop();
    assert_eq!(wire.threaded(), "0");
}

/// Binding a kernel thread ends nothing; the thread goes on where it may.
pub fn a_kernel_thread_may_be_bound() {
    let wire = Wire::veth();
    let mut daemon = Daemon::start(&["--napi", &wire.far]);
    let _packets = wire.packets(64, 500);
    let tid = wire.threads()[0];
    let cpus = online_cpus();
    for round in 0..20 {
        let cpu = cpus[round % cpus.len()];
        pin(tid, &[cpu]);
        let before = run_ns(tid);
        eventually("work where it is bound", || {
            run_ns(tid) > before && last_cpu_of(tid) == cpu
        });
    }
    daemon.assert_schedules();
    daemon.stop();
}

/// More packets than its thread can take: on a granted core it shares with another
/// client's executor, and where none can be granted with everybody else.
pub fn a_receive_livelock_starves_nobody() {
    let wire = Wire::veth();
    let daemon = Daemon::start(&["--napi", &wire.far, "--idle-delay-ms", "5000"]);
    let tid = wire.threads()[0];
    let _taps = taps(&wire.far, 40);
    let packets = wire.packets(64, 0);
    let share = |what: &str, other: &mut dyn FnMut() -> u64| {
        let before = (run_ns(tid), other());
        let mut now = before;
        eventually("CPU time", || {
            now = (run_ns(tid), other());
            now.0 + now.1 > before.0 + before.1 + 2_000_000_000
        });
        let (thread, other) = (now.0 - before.0, now.1 - before.1);
        println!(
            "  the thread {} ms, {what} {} ms",
            thread / 1_000_000,
            other / 1_000_000
        );
        other as f64 / thread as f64
    };
    if online_cpus().len() == 1 {
        let hog = Task::hog();
        let ratio = share("a hog", &mut || hog.run_ns());
        assert!((0.3..6.0).contains(&ratio), "{ratio}");
    } else {
        let mut app = Task::bulk_app("beside", 1);
        app.ask("load 300 64 0");
        let ratio = share("an executor", &mut || client("beside").unwrap().run_ns);
        assert!((0.3..3.0).contains(&ratio), "{ratio}");
    }
    // It is one among the others until its queue has an end.
    let class = || wire.client().flow_classes;
    eventually("the throughput class", || {
        class() == 1 << FlowClass::Throughput as u32
    });
    packets.kill();
    let _few = wire.packets(1, 5_000);
    eventually("the latency class", || {
        class() == 1 << FlowClass::Latency as u32
    });
    daemon.stop();
}

/// In a boot with thread_backlog_napi: one is pinned to each CPU, and stays there;
/// in a receive livelock it is fair to the other tasks there.
pub fn backlog_threads_stay_where_they_are() {
    let wire = Wire::veth();
    let cpus = online_cpus();
    let last = *cpus.last().unwrap();
    run(&format!("ethtool -K {} gro off", wire.far));
    let steering = format!("/sys/class/net/{}/queues/rx-0/rps_cpus", wire.far);
    fs::write(steering, format!("{:x}", 1 << last)).unwrap();
    // A task's turn is much longer than a kernel thread's.
    let daemon = Daemon::start(&["--slice-us", "50000"]);
    let shown = client("backlog").unwrap();
    assert!(
        shown.is_kernel() && shown.executors as usize == cpus.len(),
        "{shown:?}"
    );
    let thread = |cpu: usize| kernel_threads(&format!("backlog_napi/{cpu}"))[0];

    let _taps = taps(&wire.far, 40);
    let packets = wire.packets(64, 0);
    let hog = Task::hog();
    hog.pin(&[last]);
    let before = (run_ns(thread(last)), hog.run_ns(), shown.run_ns);
    let mut now = before;
    eventually("CPU time of a backlog thread", || {
        for &cpu in &cpus {
            assert_eq!(last_cpu_of(thread(cpu)), cpu);
        }
        now = (
            run_ns(thread(last)),
            hog.run_ns(),
            client("backlog").unwrap().run_ns,
        );
        now.0 + now.1 > before.0 + before.1 + 1_500_000_000
    });
    let (thread_ns, hog_ns) = (now.0 - before.0, now.1 - before.1);
    println!(
        "  the thread {} ms, a hog {} ms",
        thread_ns / 1_000_000,
        hog_ns / 1_000_000
    );
    let ratio = hog_ns as f64 / thread_ns as f64;
    assert!((0.55..3.0).contains(&ratio), "{ratio}");
    assert!(
        now.2 - before.2 > thread_ns / 2,
        "it is counted: {before:?} {now:?}"
    );
    assert_eq!(status().cores_granted, 0);
    packets.kill();
    daemon.stop();
}
