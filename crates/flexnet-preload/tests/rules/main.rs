// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Each rule of README.md by a test of its own, in a process of its own under
//! the library; and what the library exports and says.
//!
//! usage: rules [PART OF A NAME]

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod names;
mod net;
mod process;
mod sends;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A test takes well under a second; one that is at it so long hangs.
const HANGS: Duration = Duration::from_secs(90);

type Test = (&'static str, &'static str, fn());

macro_rules! tests {
    ($($module:ident::$name:ident, $mode:literal;)*) => {
        &[$((stringify!($name), $mode, $module::$name as fn()),)*]
    };
}

const TESTS: &[Test] = tests! {
    sends::more_is_accepted, "always";
    sends::edges_come_after_eagain, "always";
    sends::errors_are_reported_once, "always";
    sends::sigpipe_ends_who_does_not_handle_it, "always";
    sends::timeouts_end_the_wait, "always";
    sends::signals_end_the_wait, "always";
    sends::restarting_signals_end_nothing, "always";
    sends::close_keeps_the_rest, "always";
    sends::closed_sockets_raise_no_events, "always";
    sends::linger_decides_at_close, "always";
    sends::large_sends_arrive_whole, "always";
    sends::large_sends_arrive_whole, "strict";
    sends::handlers_may_send, "always";
    sends::a_file_closes_its_number, "always";
    sends::stdio_comes_behind, "always";
    process::ends_lose_nothing, "always";
    process::children_have_their_own, "always";
    process::shared_sockets_are_synchronous_until_the_child_ends, "always";
    process::children_leave_nothing_behind, "always";
    process::a_vfork_child_is_not_the_parent, "always";
    process::sigsuspend_gets_its_signals, "always";
    process::filters_end_executors, "always";
    process::unshare_ends_executors, "always";
    process::no_threads_no_executors, "always";
    process::off_is_off, "off";
    process::off_is_off, "strict";
    process::off_is_off, "misspelt";
    process::descriptors_stay_the_programs, "always";
    process::what_gains_nothing_leaves_nothing, "adaptive";
};

fn library() -> PathBuf {
    let own = env::current_exe().expect("a path");
    let file = own
        .ancestors()
        .map(|folder| folder.join("libflexnet_preload.so"))
        .find(|file| file.is_file());
    file.expect("libflexnet_preload.so: cargo build --release -p flexnet-preload")
}

fn under(mode: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().expect("a path"));
    command
        .args(arguments)
        .env("LD_PRELOAD", library())
        .env("FLEXNET_OFFLOAD", mode)
        .env("FLEXNET_SOCKET", "/nonexistent")
        .env_remove("FLEXNET_LOG");
    command
}

/// Its output, or `None` when it hangs.
fn finish(mut command: Command) -> Option<Output> {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let id = child.id() as i32;
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(HANGS) {
        Ok(output) => Some(output.expect("its output")),
        Err(_) => {
            // SAFETY: the child just started, which has not ended.
            unsafe { libc::kill(id, libc::SIGKILL) };
            None
        }
    }
}

fn report(name: &str, mode: &str, well: bool, why: &str) -> bool {
    println!(
        "rule {name} ({mode}): {}",
        if well { "ok" } else { "FAILED" }
    );
    if !well {
        println!("{why}");
    }
    well
}

fn run(&(name, mode, _): &Test) -> bool {
    match finish(under(mode, &["--one", name])) {
        None => report(name, mode, false, "it hangs"),
        Some(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            // No word of the library's where the program's output goes.
            let well = output.status.success() && text.is_empty();
            report(name, mode, well, &format!("{}\n{text}", output.status))
        }
    }
}

/// Exported are the functions that are interposed, and nothing else.
fn exports() -> bool {
    let output = Command::new("nm")
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(library())
        .output()
        .expect("nm");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    found.sort_unstable();
    let mut expected: Vec<&str> = INTERPOSED.split_whitespace().collect();
    expected.sort_unstable();
    let wrong = names::wrong(&found);
    report("names", "-", wrong.is_empty(), &format!("{wrong:#?}"))
        & report("exports", "-", found == expected, &format!("{found:?}"))
}

const INTERPOSED: &str = "
    write writev send sendto sendmsg sendmmsg __write __send
    pwritev2 pwritev64v2 dprintf vdprintf __dprintf_chk __vdprintf_chk eventfd_write
    backtrace_symbols_fd __backtrace_symbols_fd aio_write aio_write64 lio_listio lio_listio64
    read readv recv recvfrom recvmsg __read_chk __recv_chk __recvfrom_chk
    socket accept accept4 epoll_create epoll_create1 connect shutdown close close_range closefrom
    __connect __close __dup2 __fcntl _IO_fdopen _IO_file_attach fclose _IO_fclose freopen freopen64 pthread_exit thrd_exit pthread_cancel daemon
    dup dup2 dup3 fcntl fcntl64 fdopen sendfile sendfile64 splice
    setsockopt getsockopt ioctl
    execve execv execvp execvpe fexecve execveat execl execlp execle
    posix_spawn posix_spawnp system popen _Fork
    _exit _Exit quick_exit unshare setns prctl syscall
";

/// FLEXNET_LOG asks for messages: one line, in the file.
fn messages() -> bool {
    let file = env::temp_dir().join(format!("flexnet-preload-{}.log", std::process::id()));
    let mut well = true;
    for (mode, name, expected) in [
        (
            "always",
            "large_sends_arrive_whole",
            "sends are offloaded to executors (1)",
        ),
        (
            "always",
            "no_threads_no_executors",
            "executors cannot be started",
        ),
        ("misspelt", "off_is_off", "always, adaptive, strict or off"),
    ] {
        // Before it may be another user that writes.
        std::fs::write(&file, "").expect("a file");
        let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
        std::fs::set_permissions(&file, open).expect("its mode");
        let mut command = under(mode, &["--one", name]);
        command.env("FLEXNET_LOG", &file);
        let output = finish(command);
        let text = std::fs::read_to_string(&file).expect("the file");
        let quiet =
            output.is_some_and(|output| output.stdout.is_empty() && output.stderr.is_empty());
        let one = text.lines().count() == 1 && text.contains(expected);
        well &= report("messages", mode, quiet && one, &text);
    }
    std::fs::remove_file(&file).expect("removed");
    well
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [one, name] = arguments.as_slice()
        && one == "--one"
    {
        let test = TESTS.iter().find(|test| test.0 == name).expect("a test");
        (test.2)();
        return ExitCode::SUCCESS;
    }
    let part = arguments.iter().find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| part.is_none_or(|part| name.contains(part.as_str()));
    let mut well = true;
    for test in TESTS.iter().filter(|test| wanted(test.0)) {
        well &= run(test);
        if test.1 == "always" {
            well &= run(&(test.0, "adaptive-queued", test.2));
        }
    }
    if wanted("exports") || wanted("names") {
        well &= exports();
    }
    if wanted("messages") {
        well &= messages();
    }
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
