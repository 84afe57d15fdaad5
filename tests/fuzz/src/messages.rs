// SPDX-License-Identifier: GPL-2.0-only
//! What a stranger sends to the control socket: any packet is refused with an errno, or is a request
//! with every field in its bounds.

#![no_main]
#![allow(dead_code, reason = "the daemon's file, of which a part is used")]

#[path = "../../../src/message.rs"]
mod message;

use flexnet::abi::{self, Class, FlowClass, Message, Wire as _};
use libfuzzer_sys::fuzz_target;
use message::{CoreRule, REQUEST_BYTES, Request, parse, reply};

fn check(request: &Request) {
    match request {
        Request::Hello { name, .. } => {
            let end = name.iter().position(|&byte| byte == 0).expect("its end");
            assert!(name[..end].iter().all(u8::is_ascii_graphic), "{name:?}");
            assert!(name[end..].iter().all(|&byte| byte == 0), "{name:?}");
        }
        Request::Register { slot, flow_class } => {
            assert!((*slot as usize) < abi::EXECUTORS_MAX);
            assert!(*flow_class <= FlowClass::Latency as u32);
        }
        Request::Unregister { slot } => assert!((*slot as usize) < abi::EXECUTORS_MAX),
        Request::SetClass { task_class } => assert!(*task_class <= Class::Batch as u32),
        Request::TraceAttach { pid } => assert!(*pid > 0),
        Request::Design(Some(choice)) => {
            // What is shown to operators is what they may write.
            assert_eq!(choice.to_string().parse().as_ref(), Ok(choice));
            drop(choice.build(1));
        }
        Request::CoreRule(CoreRule::Load { name, in_stack, .. }) => {
            assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
            drop(in_stack.build(1));
        }
        _ => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    // How much longer the packet was than what was kept of it.
    let Some((more, packet)) = bytes.split_first() else {
        return;
    };
    let kept = &packet[..packet.len().min(REQUEST_BYTES)];
    let length = packet.len() + usize::from(*more);
    let (message, errno) = match parse(kept, length) {
        Ok((message, request)) => {
            assert_eq!(message.version, abi::VERSION);
            assert_eq!(message.size as usize, length);
            check(&request);
            (message, None)
        }
        Err((message, errno)) => (message, Some(errno)),
    };
    let answer = reply(&message, size_of::<Message>(), errno.map_or(Ok(()), Err));
    let again = Message::from_bytes(answer.as_bytes()).expect("a whole header");
    assert_eq!(
        (again.kind, again.sequence),
        (message.kind, message.sequence)
    );
    assert_eq!(again.status == 0, errno.is_none());
});
