// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! What coroutines put out leaves at their place among the sends: through full buffers, many
//! flows, dead peers, panics and the runtime's end. Every test has a watchdog.

#![allow(clippy::unwrap_used, reason = "a test: helpers fail it by panicking")]

use flexnet::coroutine::{sleep, yield_now};
use flexnet::design::Choice;
use flexnet::executor::{Output, Runtime, SubmitError};
use flexnet::transport::{TcpFlow, UdpFlow};
use rustix::net::sockopt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::pin::pin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::task::Poll;
use std::thread;
use std::time::Duration;

/// Aborts the process unless dropped in time.
struct Watchdog(#[expect(dead_code, reason = "its drop is the message")] Sender<()>);

fn watchdog(test: &'static str) -> Watchdog {
    let (sender, receiver) = mpsc::channel::<()>();
    thread::spawn(move || {
        if receiver.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {test} hangs");
            std::process::abort();
        }
    });
    Watchdog(sender)
}

/// A sender and a receiver; buffers of the kernel's choice where `None`.
fn pair(buffers: Option<usize>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    if let Some(bytes) = buffers {
        sockopt::set_socket_recv_buffer_size(&listener, bytes).unwrap();
    }
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    sender.set_nodelay(true).unwrap();
    if let Some(bytes) = buffers {
        sockopt::set_socket_send_buffer_size(&sender, bytes).unwrap();
    }
    (sender, listener.accept().unwrap().0)
}

fn hear<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(Duration::from_secs(60)).unwrap()
}

/// Part `number`, of so many bytes.
fn part(number: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (number * 31 + at * 7 + at / 251) as u8)
        .collect()
}

/// Sizes around those at which the library goes another way, and a large one.
const SIZES: [usize; 14] = [
    1, 3, 64, 1000, 4096, 16_383, 16_384, 16_385, 32_768, 65_536, 100_000, 5, 1_000_000, 17,
];

async fn write_in_pieces(output: &mut Output, bytes: &[u8], piece: usize) -> io::Result<()> {
    for (number, piece) in bytes.chunks(piece).enumerate() {
        output.write_all(piece).await?;
        match number % 5 {
            0 => yield_now().await,
            1 if number < 20 => output.flush().await?,
            2 if number < 20 => sleep(Duration::from_micros(50)).await?,
            _ => {}
        }
    }
    Ok(())
}

/// Sends and coroutines in turn; what is to arrive.
fn exercise(flow: &TcpFlow, seed: usize) -> Vec<u8> {
    let mut expected = Vec::new();
    for number in 0..200 {
        let bytes = part(
            number,
            SIZES[(number * 5 + seed) % SIZES.len()].min(200_000),
        );
        expected.extend_from_slice(&bytes);
        if number % 3 == 0 {
            flow.send_blocking(&bytes).unwrap();
            continue;
        }
        let piece = [bytes.len(), 700, 20_000][(number + seed) % 3];
        let work = move |mut output: Output| async move {
            write_in_pieces(&mut output, &bytes, piece).await.unwrap();
        };
        if number % 3 == 1 {
            let mut submitted = flow
                .flow()
                .submit_with(work)
                .map_err(SubmitError::into_inner);
            while let Err(work) = submitted {
                thread::yield_now();
                submitted = flow.flow().submit(work).map_err(SubmitError::into_inner);
            }
            continue;
        }
        let mut work = flow.flow().with_output(work);
        while let Err(refused) = flow.flow().submit(work) {
            work = refused.into_inner();
            thread::yield_now();
        }
    }
    expected
}

fn read_all(mut stream: TcpStream, step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; step];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return all,
            length => all.extend_from_slice(&buffer[..length]),
        }
    }
}

#[test]
fn outputs_leave_where_their_coroutines_stand() {
    let _watchdog = watchdog("outputs_leave_where_their_coroutines_stand");
    let cases = [
        (1, None, None),
        (2, Some(4096), None),
        (1, Some(4096), None),
        (2, None, None),
        // Where senders do no work, where they do theirs, and where flows are on hold.
        (2, Some(4096), Some("snap")),
        (2, Some(4096), Some("shenango")),
        (2, None, Some("shinjuku:mode=jbsq")),
        (2, Some(4096), Some("netchannel")),
    ];
    for (executors, buffers, design) in cases {
        let mut builder = Runtime::builder().executors(executors);
        if let Some(design) = design {
            let choice: Choice = design.parse().unwrap();
            builder = builder.design(choice.build(1));
        }
        let runtime = builder.build().unwrap();
        thread::scope(|scope| {
            for seed in 0..4 {
                let (sender, receiver) = pair(buffers);
                let flow = TcpFlow::adopt(&runtime, sender).unwrap();
                let (said, heard) = mpsc::channel();
                scope.spawn(move || said.send(read_all(receiver, 50_000)).unwrap());
                scope.spawn(move || {
                    let expected = exercise(&flow, seed);
                    flow.close_blocking().unwrap();
                    assert!(
                        heard.recv().unwrap() == expected,
                        "{executors}, {buffers:?}, {design:?}"
                    );
                });
            }
        });
        assert_eq!(runtime.depth(), 0);
        assert_eq!(runtime.shutdown(), 0);
    }
}

/// Segments that the peer receives: with TCP_NODELAY, one or more for each system call.
fn segments_received(stream: &TcpStream) -> u32 {
    let mut info = [0u8; 256];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: at most `length` bytes of the array are written.
    let result = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(stream),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0);
    // tcpi_data_segs_in, of Linux 4.6.
    u32::from_ne_bytes(std::array::from_fn(|at| info[152 + at]))
}

#[test]
fn outputs_go_with_their_neighbours() {
    let _watchdog = watchdog("outputs_go_with_their_neighbours");
    let runtime = Runtime::builder().build().unwrap();
    let (sender, receiver) = pair(None);
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    let holds_up = async move {
        started.send(()).unwrap();
        released.recv().ok();
    };
    flow.flow().submit(holds_up).unwrap();
    hear(&starts);
    let before = segments_received(&receiver);
    for number in 0..32 {
        let writes = move |mut output: Output| async move {
            output.write_all(&part(number, 3)).await.unwrap();
            output.write_all(&part(number, 5)).await.unwrap();
        };
        flow.flow().submit_with(writes).unwrap();
    }
    flow.try_send(b"end").unwrap();
    drop(release);
    flow.flush_blocking().unwrap();
    let mut all = [0; 32 * 8 + 3];
    (&receiver).read_exact(&mut all).unwrap();
    assert!(all.ends_with(b"end"));
    let segments = segments_received(&receiver) - before;
    assert_eq!(segments, 1, "all of them fit one system call");
}

#[test]
fn words_between_words() {
    let _watchdog = watchdog("words_between_words");
    let runtime = Runtime::builder().build().unwrap();
    let (sender, receiver) = pair(None);
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    for word in ["[ONE]", "[TWO]", "[THREE]"] {
        flow.try_send(b"plain ").unwrap();
        let frames = move |mut output: Output| async move {
            output.write_all(word.as_bytes()).await.unwrap();
        };
        flow.flow().submit_with(frames).unwrap();
    }
    flow.try_send(b" plain").unwrap();
    drop(flow);
    let expected = b"plain [ONE]plain [TWO]plain [THREE] plain";
    assert_eq!(read_all(receiver, 100), expected);
}

/// What is left of time for `future` when `timeout` ends it, in a coroutine.
async fn times_out(future: impl Future<Output = io::Result<()>>, timeout: Duration) -> bool {
    let (mut future, mut timeout) = (pin!(future), pin!(sleep(timeout)));
    poll_fn(|context| match timeout.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending => future.as_mut().poll(context).map(|_| false),
    })
    .await
}

#[test]
fn a_full_socket_holds_up_its_own_flow_only_and_a_timeout_comes() {
    let _watchdog = watchdog("a_full_socket_holds_up_its_own_flow_only_and_a_timeout_comes");
    let runtime = Runtime::builder().build().unwrap();
    let (sender, mut receiver) = pair(Some(4096));
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    let (said, heard) = mpsc::channel();
    let writes = move |mut output: Output| async move {
        for _ in 0..3 {
            let stuck = times_out(
                write_all_of(&mut output, 10_000_000),
                Duration::from_millis(20),
            );
            said.send(stuck.await).unwrap();
        }
        output.write_all(b"end").await.unwrap();
    };
    flow.flow().submit_with(writes).unwrap();
    // Behind the coroutine, as many as there is room for.
    while flow.try_send(&[1; 1000]).is_ok() {}
    for _ in 0..3 {
        assert!(hear(&heard), "the peer takes nothing, and the time is over");
    }
    let other = runtime.flow().unwrap();
    let (said, heard) = mpsc::channel();
    other.submit(async move { said.send(()).unwrap() }).unwrap();
    hear(&heard);
    thread::spawn(move || drop(flow));
    let mut all = Vec::new();
    receiver.read_to_end(&mut all).unwrap();
    let end = all.windows(3).position(|three| three == b"end").unwrap();
    assert!(all[..end].iter().all(|&byte| byte == 7));
    assert!(all[end + 3..].iter().all(|&byte| byte == 1));
    assert!(all.len() > end + 3);
}

async fn write_all_of(output: &mut Output, mut bytes: usize) -> io::Result<()> {
    let piece = [7; 10_000];
    while bytes > 0 {
        bytes -= output.write(&piece[..bytes.min(10_000)]).await?;
    }
    Ok(())
}

fn is_dead(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

#[test]
fn a_dead_peer_is_reported_to_the_coroutine_and_to_the_flow() {
    let _watchdog = watchdog("a_dead_peer_is_reported_to_the_coroutine_and_to_the_flow");
    for piece in [100, 100_000] {
        let runtime = Runtime::builder().build().unwrap();
        let (sender, receiver) = pair(Some(4096));
        let flow = TcpFlow::adopt(&runtime, sender).unwrap();
        let (said, heard) = mpsc::channel();
        let writes = move |mut output: Output| async move {
            let bytes = vec![1; piece];
            let error = loop {
                if let Err(error) = output.write_all(&bytes).await {
                    break error;
                }
            };
            let again = output.write_all(b"more").await.unwrap_err();
            said.send([error, again, output.flush().await.unwrap_err()])
                .unwrap();
        };
        flow.flow().submit_with(writes).unwrap();
        let mut some = vec![0; 100_000];
        (&receiver).read_exact(&mut some).unwrap();
        drop(receiver);
        assert!(hear(&heard).iter().all(is_dead));
        assert!(is_dead(&flow.flush_blocking().unwrap_err()));
        assert!(is_dead(&flow.try_send(b"more").unwrap_err()));
        assert_eq!(runtime.shutdown(), 0);
    }
}

#[test]
fn a_panic_ends_its_flow_with_an_error_and_nothing_else() {
    let _watchdog = watchdog("a_panic_ends_its_flow_with_an_error_and_nothing_else");
    let runtime = Runtime::builder().build().unwrap();
    let (sender, receiver) = pair(None);
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    let (other_sender, other_receiver) = pair(None);
    let other = TcpFlow::adopt(&runtime, other_sender).unwrap();
    flow.try_send(b"before").unwrap();
    let panics = |mut output: Output| async move {
        output.write_all(b" begun").await.unwrap();
        output.flush().await.unwrap();
        std::panic::resume_unwind(Box::new("stop"));
    };
    let (release, released) = mpsc::channel::<()>();
    runtime
        .flow()
        .unwrap()
        .submit(async move {
            released.recv().ok();
        })
        .unwrap();
    flow.flow().submit_with(panics).unwrap();
    flow.try_send(b" behind").unwrap();
    drop(release);
    let error = flow.flush_blocking().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOWNERDEAD));
    let error = flow.try_send(b"more").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOWNERDEAD));
    other.send_blocking(b"goes on").unwrap();
    drop((flow, other));
    assert_eq!(read_all(receiver, 100), b"before begun");
    assert_eq!(read_all(other_receiver, 100), b"goes on");
}

#[test]
fn a_coroutine_that_was_never_accepted_fails_nothing() {
    let runtime = Runtime::builder().build().unwrap();
    let (sender, receiver) = pair(None);
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    let own = flow.flow().clone();
    let drops = async move {
        drop(own.with_output(|mut output| async move {
            output.write_all(b"never").await.unwrap();
        }));
    };
    flow.flow().submit(drops).unwrap();
    flow.send_blocking(b"all").unwrap();
    flow.close_blocking().unwrap();
    assert_eq!(read_all(receiver, 100), b"all");
}

#[test]
fn the_end_lingers_for_outputs_and_ends_those_of_deaf_peers() {
    let _watchdog = watchdog("the_end_lingers_for_outputs_and_ends_those_of_deaf_peers");
    let bytes = part(1, 3_000_000);
    for reads in [true, false] {
        let linger = Duration::from_millis(if reads { 60_000 } else { 100 });
        let runtime = Runtime::builder().linger(linger).build().unwrap();
        let (sender, receiver) = pair(Some(4096));
        let flow = TcpFlow::adopt(&runtime, sender).unwrap();
        let sent = bytes.clone();
        let writes = move |mut output: Output| async move {
            output.write_all(&sent).await.unwrap();
        };
        flow.flow().submit_with(writes).unwrap();
        flow.try_send(b"behind").unwrap();
        if reads {
            drop(flow);
            let reader = thread::spawn(move || read_all(receiver, 10_000));
            assert_eq!(runtime.shutdown(), 0);
            let all = reader.join().unwrap();
            assert!(all[..bytes.len()] == bytes && &all[bytes.len()..] == b"behind");
        } else {
            assert_eq!(runtime.shutdown(), 1);
            let dropped = thread::spawn(move || drop(flow));
            let all = read_all(receiver, 10_000);
            dropped.join().unwrap();
            assert!(all == bytes[..all.len()] && all.len() < bytes.len());
        }
    }
}

#[test]
fn an_output_is_for_its_own_coroutine() {
    let runtime = Runtime::builder().build().unwrap();
    let (sender, _receiver) = pair(None);
    let flow = TcpFlow::adopt(&runtime, sender).unwrap();
    let (give, given) = mpsc::channel();
    let gives = move |output: Output| async move { give.send(output).unwrap() };
    flow.flow().submit_with(gives).unwrap();
    let mut output = hear(&given);
    let (said, heard) = mpsc::channel();
    let uses = async move {
        let elsewhere = output.write_all(b"x").await;
        said.send((elsewhere, output.flush().await, output.fail(5)))
            .unwrap();
    };
    runtime.flow().unwrap().submit(uses).unwrap();
    let (written, flushed, failed) = hear(&heard);
    assert!(written.is_err() && flushed.is_err() && failed.is_err());
    flow.flush_blocking().unwrap();

    let (said, heard) = mpsc::channel();
    let none = move |mut output: Output| async move {
        said.send(output.write_all(b"x").await).unwrap();
    };
    let socketless = runtime.flow().unwrap();
    socketless.submit_with(none).unwrap();
    let error = hear(&heard).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    socketless.flush_blocking().unwrap();
    assert!(socketless.error().is_none());
}

#[test]
fn a_coroutine_that_sends_on_its_own_flow_is_refused_where_it_would_wait_for_itself() {
    let _watchdog = watchdog("a_coroutine_that_sends_on_its_own_flow_is_refused");
    let runtime = Runtime::builder().build().unwrap();
    let (sender, receiver) = pair(None);
    let flow = std::sync::Arc::new(TcpFlow::adopt(&runtime, sender).unwrap());
    let (said, heard) = mpsc::channel();
    let own = flow.clone();
    let sends = async move {
        let sent = own.send(&vec![1; 1_000_000]).await;
        said.send((sent, own.flush().await)).unwrap();
    };
    flow.flow().submit(sends).unwrap();
    for result in <[_; 2]>::from(hear(&heard)) {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EDEADLK));
    }
    flow.send_blocking(b"end").unwrap();
    flow.close_blocking().unwrap();
    let all = read_all(receiver, 10_000);
    assert!(
        all.len() < 1_000_000 && all.ends_with(b"end"),
        "what was accepted arrives"
    );
}

#[test]
fn datagrams_of_coroutines_keep_their_place() {
    let _watchdog = watchdog("datagrams_of_coroutines_keep_their_place");
    let runtime = Runtime::builder().build().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let flow = UdpFlow::adopt(&runtime, sender).unwrap();
    let mut buffer = vec![0; 65_536];
    for round in 0..200 {
        let sizes = [10, 1 + round * 131 % 30_000, 20];
        flow.send_blocking(&part(0, sizes[0])).unwrap();
        let writes = move |mut output: Output| async move {
            yield_now().await;
            output.write_all(&part(1, sizes[1])).await.unwrap();
            output.write(b"").await.unwrap();
        };
        flow.flow().submit_with(writes).unwrap();
        flow.send_blocking(&part(2, sizes[2])).unwrap();
        for expected in [
            part(0, sizes[0]),
            part(1, sizes[1]),
            vec![],
            part(2, sizes[2]),
        ] {
            let length = receiver.recv(&mut buffer).unwrap();
            assert!(buffer[..length] == expected, "round {round}");
        }
    }
    drop(receiver);
    let (said, heard) = mpsc::channel();
    let refused = move |mut output: Output| async move {
        let error = loop {
            if let Err(error) = output.write_all(b"nobody").await {
                break error;
            }
            yield_now().await;
        };
        said.send(error.kind()).unwrap();
    };
    flow.flow().submit_with(refused).unwrap();
    assert_eq!(hear(&heard), ErrorKind::ConnectionRefused);
}
