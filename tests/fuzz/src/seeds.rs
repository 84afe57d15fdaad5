// SPDX-License-Identifier: GPL-2.0-only
//! Writes what fuzzing begins with: a valid packet of each kind, and of each design; and a ring that
//! is filled and emptied in some ways.
//!
//! usage: seeds FOLDER    (makes FOLDER/messages and FOLDER/records)

use flexnet::abi::{self, CoreRuleAsk, DesignText, Hello, Message, Register, SetClass, TraceAsk, WhyAsk, Wire};
use flexnet::design::Choice;
use std::fs;
use std::io;
use std::path::Path;

/// The kinds that end with their header, and some that are none.
const BARE: [u16; 7] = [
    abi::MESSAGE_STATUS,
    abi::MESSAGE_RELOAD,
    abi::MESSAGE_TAKEOVER,
    abi::MESSAGE_RULES,
    abi::MESSAGE_DETACH,
    0,
    u16::MAX,
];

fn header<T>(kind: u16) -> Message {
    Message {
        size: size_of::<T>() as u32,
        kind,
        version: abi::VERSION,
        sequence: 1,
        status: 0,
    }
}

fn messages() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut add = |bytes: &[u8]| all.push([&[0], bytes].concat());
    for kind in BARE {
        add(header::<Message>(kind).as_bytes());
    }
    add(Hello {
        message: header::<Hello>(abi::MESSAGE_HELLO),
        name: *b"seed\0\0\0\0\0\0\0\0\0\0\0\0",
        cores_guaranteed: 1,
        ..Hello::default()
    }
    .as_bytes());
    for kind in [
        abi::MESSAGE_REGISTER_EXECUTOR,
        abi::MESSAGE_UNREGISTER_EXECUTOR,
    ] {
        let message = header::<Register>(kind);
        add(Register {
            message,
            slot: 3,
            flow_class: 1,
        }
        .as_bytes());
    }
    add(SetClass {
        message: header::<SetClass>(abi::MESSAGE_SET_CLASS),
        task_class: 1,
        reserved: 0,
    }
    .as_bytes());
    for on in 0..3 {
        add(TraceAsk {
            message: header::<TraceAsk>(abi::MESSAGE_TRACE),
            on,
            pid: 1,
            ..TraceAsk::default()
        }
        .as_bytes());
    }
    add(WhyAsk {
        message: header::<WhyAsk>(abi::MESSAGE_WHY),
        after: 7,
        ..WhyAsk::default()
    }
    .as_bytes());
    let shown = |name: &str| name.parse::<Choice>().map(|choice| choice.to_string());
    let names = ["flexnet", "netchannel", "snap", "shenango", "shinjuku", ""];
    let more = [
        "snap:mode=spreading",
        "shinjuku:quantum=5us",
        "netchannel:unit=64KiB",
    ];
    let whole = names.map(|name| shown(name).unwrap_or_default());
    let texts = names.into_iter().chain(more).map(str::to_owned);
    for text in texts.chain(whole) {
        let message = header::<DesignText>(abi::MESSAGE_DESIGN);
        add(DesignText::new(message, &text).as_bytes());
    }
    for action in 0..4 {
        let ask = CoreRuleAsk {
            message: header::<CoreRuleAsk>(abi::MESSAGE_CORE_RULE),
            action,
            name: abi::name_bytes("mine"),
            text: abi::text_bytes("shenango"),
            ..CoreRuleAsk::default()
        };
        add(ask.as_bytes());
    }
    all
}

fn records() -> Vec<Vec<u8>> {
    let shapes = (0..64u8).step_by(9);
    let input = |sizes: u8| {
        let steps = (0..60u8).flat_map(|step| match step % 5 {
            0 => vec![7, 0, step, 0, step],
            1 => vec![1, step, 1, step, 200, 3],
            2 => vec![1, 3, 2, 0, 1],
            3 => vec![2, 2, step, 2],
            _ => vec![3, 40, 0, 7, 2, 5],
        });
        std::iter::once(sizes).chain(steps).collect()
    };
    shapes.map(input).collect()
}

fn write(folder: &Path, seeds: Vec<Vec<u8>>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in seeds.into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: seeds FOLDER"));
    };
    let folder = Path::new(&folder);
    write(&folder.join("messages"), messages())?;
    write(&folder.join("records"), records())
}
