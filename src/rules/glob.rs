// SPDX-License-Identifier: GPL-2.0-only
//! Shell globs: `*` any number of bytes, `?` one, `[a-z]` one of a set, `[!a-z]`
//! one of all others; `[*]` is a star itself. Nothing else is special.
//!
//! Turns text into the machine that bpf/rule.h runs, and runs the same for names
//! the daemon itself compares. Promises that what is wrong with a glob is said.

use crate::bpf_intf::{FLEXNET_GLOB_ELEMENTS, flexnet_glob};

/// A glob, ready to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    takes: Box<[u64; 256]>,
    stars: u64,
    elements: u32,
}

impl Glob {
    /// Reads one that may match up to `longest` bytes.
    ///
    /// # Errors
    /// In words: a set that does not end or is empty, too many elements, or one
    /// that can match nothing since it is longer.
    pub fn new(text: &str, longest: usize) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty glob matches nothing".to_owned());
        }
        let mut glob = Self {
            text: text.to_owned(),
            takes: Box::new([0; 256]),
            stars: 0,
            elements: 0,
        };
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte == b'*' {
                glob.star()?;
                continue;
            }
            let mut takes = [false; 256];
            match byte {
                b'?' => takes.fill(true),
                b'[' => rest = set(rest, &mut takes)?,
                _ => takes[usize::from(byte)] = true,
            }
            glob.push(&takes)?;
        }
        let least = glob.elements - glob.stars.count_ones();
        if least as usize > longest {
            return Err(format!(
                "{text:?} can match nothing: names here have at most {longest} bytes"
            ));
        }
        Ok(glob)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Does it match all of this name? As bpf/rule.h does it.
    pub fn matches(&self, name: &str) -> bool {
        let skip = |state: u64| state | ((state & self.stars) << 1);
        let mut state = skip(1);
        for byte in name.bytes() {
            let taken = (state & self.takes[usize::from(byte)]) << 1;
            state = skip(taken | (state & self.stars));
        }
        state >> self.elements & 1 == 1
    }

    /// As BPF has it.
    pub fn for_bpf(&self) -> flexnet_glob {
        flexnet_glob {
            takes: *self.takes,
            stars: self.stars,
            elements: self.elements,
            reserved: 0,
        }
    }

    fn star(&mut self) -> Result<(), String> {
        // Two in a row are one.
        if self.elements > 0 && self.stars >> (self.elements - 1) & 1 == 1 {
            return Ok(());
        }
        let bit = self.next()?;
        self.stars |= bit;
        Ok(())
    }

    fn push(&mut self, takes: &[bool; 256]) -> Result<(), String> {
        let bit = self.next()?;
        for (word, takes) in self.takes.iter_mut().zip(takes) {
            if *takes {
                *word |= bit;
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<u64, String> {
        if self.elements == FLEXNET_GLOB_ELEMENTS {
            return Err(format!(
                "{:?} is too long: {FLEXNET_GLOB_ELEMENTS} characters and wildcards at most",
                self.text
            ));
        }
        self.elements += 1;
        Ok(1 << (self.elements - 1))
    }
}

/// Reads a set up to its end; what follows.
fn set<'text>(text: &'text [u8], takes: &mut [bool; 256]) -> Result<&'text [u8], String> {
    let (others, text) = match text.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, text),
    };
    // A bracket that comes first is one of the set.
    let end = text.iter().skip(1).position(|&byte| byte == b']');
    let Some(end) = end.map(|at| at + 1) else {
        return Err("a set does not end: \"[\" without \"]\"".to_owned());
    };
    let mut inside = &text[..end];
    while let Some((&first, rest)) = inside.split_first() {
        inside = rest;
        let last = match inside {
            [b'-', last, rest @ ..] => {
                inside = rest;
                *last
            }
            _ => first,
        };
        if last < first {
            let range = format!("{}-{}", char::from(first), char::from(last));
            return Err(format!("the range {range} is empty"));
        }
        takes[usize::from(first)..=usize::from(last)].fill(true);
    }
    if others {
        takes.iter_mut().for_each(|takes| *takes = !*takes);
    }
    Ok(&text[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn flexnet_host_glob(glob: *const flexnet_glob, text: *const u8, bytes: u32) -> u32;
    }

    /// What the source compiled into BPF says.
    fn in_c(glob: &Glob, name: &str) -> bool {
        let mut text = [0u8; 256];
        text[..name.len()].copy_from_slice(name.as_bytes());
        let glob = glob.for_bpf();
        // SAFETY: a glob and a text of as many bytes as are said, both alive.
        unsafe { flexnet_host_glob(&glob, text.as_ptr(), text.len() as u32) != 0 }
    }

    #[test]
    fn globs_match_as_a_shells() {
        for (glob, names, others) in [
            (
                "redis",
                &["redis"][..],
                &["", "redi", "rediss", "Redis"][..],
            ),
            ("redis*", &["redis", "redis-server"], &["aredis"]),
            ("*server", &["server", "redis-server"], &["servers"]),
            ("*", &["", "a", "anything at all"], &[]),
            ("**", &["", "a"], &[]),
            ("?", &["a"], &["", "ab"]),
            (
                "a*b*c",
                &["abc", "axxbxxc", "abbcbc"],
                &["ab", "acb", "abcd"],
            ),
            (
                "*a*a*a*b",
                &["aaab", "xaxaxaxb"],
                &["aaaaaaaaaaaaaaaa", "aab"],
            ),
            ("cpu[0-9]", &["cpu0", "cpu9"], &["cpu", "cpua", "cpu10"]),
            ("[!a-c]x", &["dx", "-x"], &["ax", "cx", "x"]),
            ("[^a]", &["b"], &["a"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[!]]", &["a"], &["]"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[*]", &["*"], &["a", ""]),
            ("a[?]", &["a?"], &["ab"]),
            ("app-\\x2d*", &["app-\\x2d1"], &["app--1"]),
            ("é*", &["é", "écrit"], &["e"]),
        ] {
            let made = Glob::new(glob, 255).unwrap();
            for (names, expected) in [(names, true), (others, false)] {
                for name in names {
                    assert_eq!(made.matches(name), expected, "{glob} {name:?}");
                    assert_eq!(in_c(&made, name), expected, "{glob} {name:?} in C");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str, longest| Glob::new(text, longest).unwrap_err();
        assert!(error("", 15).contains("empty"));
        for open in ["[", "a[b", "[]", "[!]", "[!"] {
            assert!(error(open, 15).contains("does not end"), "{open}");
        }
        assert!(error("[z-a]", 15).contains("z-a is empty"));
        assert!(error(&"a".repeat(64), 255).contains("too long"));
        assert!(error("sixteen-letters-", 15).contains("at most 15 bytes"));
        assert!(Glob::new("fifteen-letters*", 15).is_ok());
        assert!(Glob::new(&"a".repeat(63), 255).is_ok());
    }

    #[test]
    fn the_longest_glob_and_name_match() {
        let longest = Glob::new(&format!("{}*", "a".repeat(62)), 255).unwrap();
        let name = "a".repeat(255);
        assert!(longest.matches(&name) && in_c(&longest, &name));
        let shorter = "a".repeat(61);
        assert!(!longest.matches(&shorter) && !in_c(&longest, &shorter));
    }
}
