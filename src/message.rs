// SPDX-License-Identifier: GPL-2.0-only
//! What a packet on the control socket asks for, checked: pure functions from
//! bytes to a [`Request`] or an errno. Whether the sender may have it is for
//! control/ and clients.rs to say.

use flexnet::abi::{
    self, CoreRuleAction, CoreRuleAsk, DesignText, Hello, Message, Register, SetClass, TraceAsk,
    WhyAsk, Wire, name_text,
};
use flexnet::design::Choice;
use rustix::io::Errno;

/// The longest request this daemon knows; what is longer is cut.
pub const REQUEST_BYTES: usize = size_of::<CoreRuleAsk>();
const _: () = assert!(REQUEST_BYTES >= size_of::<DesignText>());

/// A request with every field in its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Become a client.
    Hello {
        /// Printable and zero-terminated.
        name: [u8; 16],
        /// Cores it asks to be guaranteed.
        cores_guaranteed: u32,
    },
    /// Make a thread the executor of a slot.
    Register {
        /// Below `EXECUTORS_MAX`.
        slot: u32,
        /// `enum flexnet_flow_class`.
        flow_class: u32,
    },
    /// Take an executor back.
    Unregister {
        /// Below `EXECUTORS_MAX`.
        slot: u32,
    },
    /// Put a thread into a class.
    SetClass {
        /// Normal, latency or batch.
        task_class: u32,
    },
    /// Tell what goes on.
    Status,
    /// Read the configuration file anew.
    Reload,
    /// Give way to the daemon that asks.
    TakeOver,
    /// Tell of the rules, and of the keys that wait for a restart.
    Rules,
    /// Tell of a process' threads with ids above this one.
    Why {
        /// 0: from the first on.
        after: u32,
    },
    /// Trace into a pipe.
    TraceStart,
    /// No longer.
    TraceStop,
    /// Trace what a process tells of itself, too.
    TraceAttach {
        /// The process.
        pid: i32,
    },
    /// Switch to a design, or (`None`) tell which is on.
    Design(Option<Choice>),
    /// Of the loaded core rule.
    CoreRule(CoreRule),
}

/// What is asked of the loaded core rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreRule {
    /// What it does.
    Tell,
    /// Take it out.
    Unload,
    /// Put this one in, whose object comes with the request.
    Load {
        /// The design's, printable and not empty.
        name: String,
        /// The built-in design whose in-stack half goes with it.
        in_stack: Choice,
        /// The rule's.
        parameters: [u64; 8],
    },
}

/// Reads a packet of which `bytes` were kept and which had `length`. With an
/// error comes what its reply should repeat.
pub fn parse(bytes: &[u8], length: usize) -> Result<(Message, Request), (Message, Errno)> {
    let Some(message) = Message::from_bytes(bytes) else {
        return Err((Message::default(), Errno::INVAL));
    };
    if message.size as usize != length {
        return Err((message, Errno::INVAL));
    }
    if message.version != abi::VERSION {
        return Err((message, Errno::PROTO));
    }
    match request(message.kind, bytes) {
        Ok(request) => Ok((message, request)),
        Err(errno) => Err((message, errno)),
    }
}

fn request(kind: u16, bytes: &[u8]) -> Result<Request, Errno> {
    match kind {
        abi::MESSAGE_HELLO => {
            let hello: Hello = read(bytes)?;
            Ok(Request::Hello {
                name: printable(hello.name),
                cores_guaranteed: hello.cores_guaranteed,
            })
        }
        abi::MESSAGE_REGISTER_EXECUTOR => {
            let register: Register = read(bytes)?;
            if register.flow_class > abi::FlowClass::Latency as u32 {
                return Err(Errno::INVAL);
            }
            Ok(Request::Register {
                slot: slot(register.slot)?,
                flow_class: register.flow_class,
            })
        }
        abi::MESSAGE_UNREGISTER_EXECUTOR => {
            let register: Register = read(bytes)?;
            Ok(Request::Unregister {
                slot: slot(register.slot)?,
            })
        }
        abi::MESSAGE_SET_CLASS => {
            let set: SetClass = read(bytes)?;
            if set.task_class > abi::Class::Batch as u32 {
                return Err(Errno::INVAL);
            }
            Ok(Request::SetClass {
                task_class: set.task_class,
            })
        }
        abi::MESSAGE_STATUS => Ok(Request::Status),
        abi::MESSAGE_RELOAD => Ok(Request::Reload),
        abi::MESSAGE_TAKEOVER => Ok(Request::TakeOver),
        abi::MESSAGE_RULES => Ok(Request::Rules),
        abi::MESSAGE_TRACE => {
            let ask: TraceAsk = read(bytes)?;
            match (ask.on, i32::try_from(ask.pid)) {
                (0, _) => Ok(Request::TraceStop),
                (1, _) => Ok(Request::TraceStart),
                (2, Ok(pid)) if pid > 0 => Ok(Request::TraceAttach { pid }),
                _ => Err(Errno::INVAL),
            }
        }
        abi::MESSAGE_WHY => {
            let ask: WhyAsk = read(bytes)?;
            Ok(Request::Why { after: ask.after })
        }
        abi::MESSAGE_DESIGN => {
            let design: DesignText = read(bytes)?;
            let text = name_text(&design.text);
            match text.as_str() {
                "" => Ok(Request::Design(None)),
                text => match text.parse() {
                    Ok(choice) => Ok(Request::Design(Some(choice))),
                    Err(_) => Err(Errno::INVAL),
                },
            }
        }
        abi::MESSAGE_CORE_RULE => core_rule(&read(bytes)?).map(Request::CoreRule),
        _ => Err(Errno::NOSYS),
    }
}

fn core_rule(ask: &CoreRuleAsk) -> Result<CoreRule, Errno> {
    let name = name_text(&printable(ask.name));
    match ask.action {
        action if action == CoreRuleAction::Tell as u32 => Ok(CoreRule::Tell),
        action if action == CoreRuleAction::Unload as u32 => Ok(CoreRule::Unload),
        action if action == CoreRuleAction::Load as u32 && !name.is_empty() => Ok(CoreRule::Load {
            name,
            in_stack: name_text(&ask.text).parse().map_err(|_| Errno::INVAL)?,
            parameters: ask.parameters,
        }),
        _ => Err(Errno::INVAL),
    }
}

/// The header of a reply that is `size` bytes long.
pub fn reply(to: &Message, size: usize, status: Result<(), Errno>) -> Message {
    Message {
        size: size as u32,
        kind: to.kind,
        version: abi::VERSION,
        sequence: to.sequence,
        status: status.map_or_else(|errno| -errno.raw_os_error(), |()| 0),
    }
}

fn read<T: Wire>(bytes: &[u8]) -> Result<T, Errno> {
    T::from_bytes(bytes).ok_or(Errno::INVAL)
}

fn slot(slot: u32) -> Result<u32, Errno> {
    if slot < abi::EXECUTORS_MAX as u32 {
        Ok(slot)
    } else {
        Err(Errno::INVAL)
    }
}

/// A name fit for a terminal: it is a stranger's and ends up in logs.
fn printable(mut name: [u8; 16]) -> [u8; 16] {
    name[15] = 0;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    for byte in &mut name[..end] {
        if !byte.is_ascii_graphic() {
            *byte = b'?';
        }
    }
    name[end..].fill(0);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u16, size: usize) -> Message {
        Message {
            size: size as u32,
            kind,
            version: abi::VERSION,
            sequence: 7,
            status: 0,
        }
    }

    fn errno(bytes: &[u8], length: usize) -> Errno {
        parse(bytes, length).unwrap_err().1
    }

    #[test]
    fn headers_are_checked_first() {
        assert_eq!(errno(&[0; 15], 15), Errno::INVAL);
        assert_eq!(errno(header(5, 17).as_bytes(), 16), Errno::INVAL);
        let mut other = header(5, 16);
        other.version = 2;
        assert_eq!(errno(other.as_bytes(), 16), Errno::PROTO);
        for kind in [0, abi::MESSAGE_DETACH, 99, u16::MAX] {
            assert_eq!(errno(header(kind, 16).as_bytes(), 16), Errno::NOSYS);
        }
        let (message, _) = parse(&header(5, 16).as_bytes()[..16], 16).unwrap();
        assert_eq!(message.sequence, 7);
    }

    #[test]
    fn a_short_message_is_filled_with_zeros_and_a_long_one_cut() {
        let (_, request) = parse(header(abi::MESSAGE_SET_CLASS, 16).as_bytes(), 16).unwrap();
        assert_eq!(request, Request::SetClass { task_class: 0 });
        let mut long = header(abi::MESSAGE_STATUS, 4000).as_bytes().to_vec();
        long.resize(REQUEST_BYTES, 0xff);
        assert_eq!(parse(&long, 4000).unwrap().1, Request::Status);
    }

    #[test]
    fn fields_out_of_bounds_are_refused() {
        let size = size_of::<Register>();
        for (slot, flow_class, good) in [
            (0, 0, true),
            (15, 1, true),
            (16, 0, false),
            (u32::MAX, 0, false),
            (0, 2, false),
        ] {
            let register = Register {
                message: header(abi::MESSAGE_REGISTER_EXECUTOR, size),
                slot,
                flow_class,
            };
            let parsed = parse(register.as_bytes(), size);
            assert_eq!(parsed.is_ok(), good, "{slot} {flow_class}");
        }
        for task_class in 0..6 {
            let set = SetClass {
                message: header(abi::MESSAGE_SET_CLASS, size_of::<SetClass>()),
                task_class,
                reserved: 0,
            };
            let parsed = parse(set.as_bytes(), size_of::<SetClass>());
            assert_eq!(parsed.is_ok(), task_class <= 2, "{task_class}");
        }
    }

    #[test]
    fn designs_are_read_or_refused() {
        let size = size_of::<DesignText>();
        let request = |text| {
            let design = DesignText::new(header(abi::MESSAGE_DESIGN, size), text);
            parse(design.as_bytes(), size).map(|parsed| parsed.1)
        };
        let choice = "snap:mode=spreading".parse().unwrap();
        assert_eq!(
            request("snap:mode=spreading").unwrap(),
            Request::Design(Some(choice))
        );
        assert_eq!(request("").unwrap(), Request::Design(None));
        assert_eq!(request("snap:mode=no").unwrap_err().1, Errno::INVAL);
        // No zero at its end: what fits is read.
        let mut endless = DesignText::new(header(abi::MESSAGE_DESIGN, size), "");
        endless.text = [b'x'; 64];
        assert_eq!(parse(endless.as_bytes(), size).unwrap_err().1, Errno::INVAL);
    }

    #[test]
    fn core_rules_are_read_or_refused() {
        let size = size_of::<CoreRuleAsk>();
        let request = |action, name: &str, text: &str| {
            let ask = CoreRuleAsk {
                message: header(abi::MESSAGE_CORE_RULE, size),
                action,
                name: abi::name_bytes(name),
                text: abi::text_bytes(text),
                parameters: [3; 8],
                ..CoreRuleAsk::default()
            };
            parse(ask.as_bytes(), size).map(|parsed| parsed.1)
        };
        let load = CoreRule::Load {
            name: "mine".to_owned(),
            in_stack: "shenango".parse().unwrap(),
            parameters: [3; 8],
        };
        assert_eq!(
            request(1, "mine", "shenango").unwrap(),
            Request::CoreRule(load)
        );
        for (action, asked) in [(0, CoreRule::Tell), (2, CoreRule::Unload)] {
            assert_eq!(request(action, "", "").unwrap(), Request::CoreRule(asked));
        }
        for (action, name, text) in [
            (1, "", "flexnet"),
            (1, "mine", "no"),
            (3, "mine", "flexnet"),
        ] {
            let refused = request(action, name, text).unwrap_err().1;
            assert_eq!(refused, Errno::INVAL, "{action} {name} {text}");
        }
    }

    #[test]
    fn names_are_made_printable() {
        assert_eq!(&printable(*b"ab\x1b[31m c\0secret")[..10], b"ab?[31m?c\0");
        assert_eq!(printable([b'x'; 16])[14..], [b'x', 0]);
        assert_eq!(
            printable(*b"ab\0\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07")[2..],
            [0; 14]
        );
    }

    #[test]
    fn replies_repeat_kind_and_sequence() {
        let to = header(abi::MESSAGE_HELLO, 48);
        let message = reply(&to, 16, Err(Errno::NOSPC));
        assert_eq!((message.kind, message.sequence), (1, 7));
        assert_eq!((message.size, message.status), (16, -28));
    }
}
