// SPDX-License-Identifier: GPL-2.0-only
//! Clients that try to have the daemon wait for them, or to have all of its places.
//! Root is served all the time, by the daemon and by its successors.

use crate::control::{Raw, header};
use crate::daemon::{Daemon, eventually, median, share, state, status};
use crate::designs::{run, text};
use crate::tasks::{Task, say};
use flexnet::abi::{self, Wire};
use flexnet::client::root_door;
use rustix::net::sockopt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long an answer to root may take.
const LIMIT: Duration = Duration::from_secs(1);
/// A user that is neither root nor one of the attackers.
const STRANGER: u32 = 4_711;

/// Asks again and again, as root. A virtual CPU may stand still in some of the
/// answers, not in half of them.
pub fn assert_root_is_served() -> Duration {
    let took = median_answer();
    println!("  root was answered after {took:?}");
    assert!(took < LIMIT, "root was answered after {took:?}");
    took
}

fn median_answer() -> Duration {
    let took = (0..15).map(|_| {
        let start = Instant::now();
        status();
        start.elapsed().as_nanos() as u64
    });
    Duration::from_nanos(median(took.collect()))
}

/// The role of a user that tells how long it waits for an answer, ns.
pub fn answered() {
    say("ready");
    say(&median_answer().as_nanos().to_string());
    std::thread::park();
}

/// The processes of connections, as folders of /proc.
fn relays() -> Vec<std::path::PathBuf> {
    let comm = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
    let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let folders = entries.map(|entry| entry.path());
    folders
        .filter(|path| comm(path).trim() == "flexnet-relay")
        .collect()
}

/// How many of them wait for a file's server.
fn stuck() -> usize {
    let place = |path: &Path| fs::read_to_string(path.join("wchan")).unwrap_or_default();
    let stuck = |path: &&std::path::PathBuf| place(path).contains("request_wait_answer");
    relays().iter().filter(stuck).count()
}

// --- a file whose server does not answer ---------------------------------------

/// A file system of one file. Its server answers all but FLUSH, for which each close
/// of the file waits.
struct SilentFile {
    server: Option<Task>,
    path: &'static str,
}

impl SilentFile {
    fn mount(path: &'static str) -> Self {
        File::create(path).unwrap();
        let server = Some(Task::play(&[], &["silent-file", path]));
        Self { server, path }
    }
}

impl Drop for SilentFile {
    fn drop(&mut self) {
        // All that wait for it go on.
        drop(self.server.take());
        let path = std::ffi::CString::new(self.path).unwrap();
        // SAFETY: a zero-terminated path.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// The role of its server: include/uapi/linux/fuse.h, as little of it as a file needs.
pub fn serve_silently(path: &str) {
    const GETATTR: u32 = 3;
    const OPEN: u32 = 14;
    const FLUSH: u32 = 25;
    const INIT: u32 = 26;
    /// FORGET, INTERRUPT and BATCH_FORGET have no answer.
    const NO_ANSWER: [u32; 3] = [2, 36, 42];
    let mut device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    let options = format!(
        "fd={},rootmode=100644,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    let strings = [path, "fuse", &options].map(|text| std::ffi::CString::new(text).unwrap());
    let [path, fuse, options] = strings.each_ref().map(|text| text.as_ptr());
    // SAFETY: four zero-terminated strings.
    let mounted = unsafe { libc::mount(fuse, path, fuse, 0, options.cast()) };
    assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
    say("ready");
    let mut request = vec![0; 1 << 17];
    loop {
        let length = device.read(&mut request).unwrap();
        assert!(length >= 40);
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        // fuse_attr: inode 1, a regular file of root's.
        let mut attributes = [0u8; 88];
        attributes[0] = 1;
        attributes[60..64].copy_from_slice(&0o100_666u32.to_ne_bytes());
        attributes[64] = 1;
        let (error, body) = match word(4) {
            INIT => (0, init(word(40), word(44))),
            GETATTR => (0, [&[0; 16], &attributes[..]].concat()),
            OPEN => (0, vec![0; 16]),
            FLUSH => continue,
            other if NO_ANSWER.contains(&other) => continue,
            _ => (-libc::ENOSYS, Vec::new()),
        };
        let mut answer = Vec::new();
        answer.extend((16 + body.len() as u32).to_ne_bytes());
        answer.extend(error.to_ne_bytes());
        answer.extend(&request[8..16]);
        answer.extend(body);
        // What was interrupted wants no answer any more.
        let _ = device.write(&answer);
    }
}

/// struct fuse_init_out of version 7.31.
fn init(major: u32, minor: u32) -> Vec<u8> {
    assert!(major == 7 && minor >= 31);
    let mut body = Vec::new();
    for word in [7, 31, 65_536, 0, 12 | 9 << 16, 4_096, 1, 1] {
        body.extend(u32::to_ne_bytes(word));
    }
    body.resize(64, 0);
    body
}

/// The role of an attacker: passes a file with each message there is, over a
/// connection each.
pub fn poison(path: &str) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut raws = Vec::new();
    for kind in 1..=abi::MESSAGE_TRACE {
        for word in 0..3u8 {
            let mut message = [0; 64];
            message[..16].copy_from_slice(header(kind, 64).as_bytes());
            // Of TRACE: stop, start, attach; with a process.
            message[16] = word;
            message[20] = 1;
            // Root's would do what they say.
            let does = [abi::MESSAGE_RELOAD, abi::MESSAGE_TAKEOVER].contains(&kind);
            if does && rustix::process::geteuid().is_root() {
                continue;
            }
            let raw = Raw::connect();
            raw.send(&message, Some(file.as_fd())).unwrap();
            raws.push(raw);
        }
    }
    say("ready");
    // The file is closed when its server is gone.
    std::thread::park();
}

/// A client passes a file whose close never ends. The daemon goes on, hands over,
/// may be killed and ends in order, while the front is stuck.
pub fn a_file_that_does_not_answer_holds_nobody() {
    let daemon = Daemon::start(&[]);
    // They end after the file's server: the close of the file waits for it.
    let mut attackers = Vec::new();
    let file = SilentFile::mount("/tmp/silent");
    let mut app = Task::app("load", 1);
    app.ask("load 300 64 0");
    attackers.push(Task::play(&[], &["poison", file.path]));
    attackers.push(Task::play(&[], &["nobody", "poison", file.path]));
    assert_root_is_served();
    // Of each attacker's, those with messages that have a descriptor.
    eventually("relays that are stuck", || stuck() >= 20);
    assert_root_is_served();
    assert_holds_none(daemon.pid(), file.path);
    app.await_progress(50);
    let shown = as_stranger(&["flexnet", "status"]);
    assert!(shown.status.success(), "{shown:?}");

    let second = Daemon::start(&["--replace"]);
    daemon.await_success("the one that was replaced");
    attackers.push(Task::play(&[], &["nobody", "poison", file.path]));
    assert_root_is_served();
    app.await_progress(50);
    second.kill();
    let third = Daemon::start(&[]);
    assert_root_is_served();
    assert!(stuck() >= 20);
    third.stop();
    assert_eq!(state(), "disabled");
    drop(file);
    eventually("the front's end", || relays().is_empty());
}

/// Has a process no descriptor of a file?
fn assert_holds_none(pid: u32, path: &str) {
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let link = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert_ne!(link.to_str(), Some(path));
    }
}

// --- a socket that lingers -----------------------------------------------------

/// A socket whose close takes ten minutes, and the other end, which must stay open.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let peer = listener.accept().unwrap().0;
    // Hundreds of them must not take the guest's memory.
    sockopt::set_socket_send_buffer_size(&socket, 4_096).unwrap();
    sockopt::set_socket_recv_buffer_size(&peer, 4_096).unwrap();
    socket.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = socket.write(&[0; 65_536]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    sockopt::set_socket_linger(&socket, Some(Duration::from_secs(600))).unwrap();
    (socket, peer)
}

/// The role of an attacker: passes the last descriptor of such a socket over each of
/// so many connections. Half of the messages are to have one.
pub fn linger(count: usize) {
    let mut kept = Vec::new();
    for number in 0..count {
        let (socket, peer) = lingering();
        let kind = [abi::MESSAGE_STATUS, abi::MESSAGE_WHY][number % 2];
        let raw = Raw::connect();
        // One that is refused may have hung up by now.
        let _ = raw.send(header(kind, 16).as_bytes(), Some(socket.as_fd()));
        kept.push((raw, peer));
    }
    say("ready");
    std::thread::park();
}

/// More connections than a user may have, and than are refused at a time, each with a
/// socket that lingers.
pub fn a_lingering_socket_holds_nobody() {
    let daemon = share("");
    let mut app = Task::app("load", 1);
    app.ask("load 300 64 0");
    let attacker = Task::play(&[], &["nobody", "linger", "200"]);
    assert_root_is_served();
    let shown = as_stranger(&["flexnet", "status"]);
    assert!(shown.status.success(), "{shown:?}");
    // Those that hung up leave no place behind that is stuck for good.
    attacker.kill();
    assert_root_is_served();
    app.await_progress(50);
    daemon.assert_schedules();
}

// --- all places ----------------------------------------------------------------

/// The role of an attacker: has so many connections and says nothing.
pub fn idle(count: usize) {
    let raws: Vec<Raw> = (0..count).map(|_| Raw::connect()).collect();
    say("ready");
    std::thread::park();
    drop(raws);
}

fn as_stranger(words: &[&str]) -> Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).uid(STRANGER).gid(STRANGER);
    command.output().unwrap()
}

/// Two users have all places. Root is served, a third one is told why it is not, and
/// is served once the others have been idle for too long.
pub fn root_gets_in_beside_idle_connections() {
    let daemon = share("");
    let attackers = ["1", "2"].map(|id| Task::play(&[], &["user", id, "idle", "80"]));
    let refused = as_stranger(&["flexnet", "status"]);
    let said = text(&refused.stderr);
    assert!(said.contains("no place for one more connection"), "{said}");
    assert_root_is_served();
    let own = std::process::id().to_string();
    for words in [
        &["status"][..],
        &["reload"],
        &["design"],
        &["why", &own],
        &["top", "--once"],
    ] {
        let done = run("flexnet", words);
        assert!(done.status.success(), "{words:?}: {done:?}");
    }
    eventually("a place", || {
        as_stranger(&["flexnet", "status"]).status.success()
    });
    assert!(crate::daemon::log().contains("too many connections: refused"));
    // Their door is no way in for them.
    let door = root_door(abi::SOCKET_PATH.as_ref());
    let spoken = as_stranger(&["flexnet", "status", "--socket", door.to_str().unwrap()]);
    assert!(!spoken.status.success(), "{spoken:?}");
    drop(attackers);
    daemon.assert_schedules();
}

/// Requests that never end, more than the daemon may have descriptors.
pub fn the_metrics_survive_strangers() {
    let daemon = Daemon::start(&["--metrics", "127.0.0.1:9595"]);
    let connect = || TcpStream::connect("127.0.0.1:9595").unwrap();
    let scrape = || {
        let mut stream = connect();
        stream.set_read_timeout(Some(10 * LIMIT)).unwrap();
        let asked = stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: flexnet\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let read = asked.and_then(|()| stream.read_to_string(&mut answer));
        read.is_ok() && answer.starts_with("HTTP/1.1 200") && answer.contains("flexnet_")
    };
    assert!(scrape());
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: Some(4_096),
            maximum: Some(4_096),
        },
    )
    .unwrap();
    let mut strangers = Vec::new();
    for number in 0..1_500 {
        let mut stranger = connect();
        // One that was hung up on says so.
        let _ = stranger.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        strangers.push(stranger);
        if number % 300 == 299 {
            assert!(scrape(), "after {number} half requests");
        }
    }
    assert_root_is_served();
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
            .unwrap()
            .count()
    };
    assert!(open() < 200, "{} descriptors", open());
    drop(strangers);
    assert!(scrape());
    daemon.stop();
}
