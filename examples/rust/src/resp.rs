// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Commands of the Redis protocol (RESP2), taken out of a buffer.
//!
//! Promised: it knows no socket, allocates one list a command, and refuses what is longer than
//! [`COMMAND_BYTES_MAX`]. Left to others: reading, and what a command means (redis.rs).

/// The most bytes of a command.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// The most words of a command.
pub const WORDS_MAX: usize = 1024;
/// The most bytes of a number with its line end.
const NUMBER_BYTES_MAX: usize = 32;

/// The words of a command, and how many bytes it has in the buffer.
pub type Command<'a> = (Vec<&'a [u8]>, usize);

/// Takes the first command. None: there is only a part of it. A command without words is a blank
/// line, which has no reply.
///
/// # Errors
/// What the client did wrong, as Redis says it. Nothing behind that can be understood.
pub fn parse(buffer: &[u8]) -> Result<Option<Command<'_>>, &'static str> {
    match buffer.first() {
        None => Ok(None),
        Some(b'*') => parse_array(buffer),
        Some(_) => parse_line(buffer),
    }
}

/// `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, as clients send it.
fn parse_array(buffer: &[u8]) -> Result<Option<Command<'_>>, &'static str> {
    const LENGTH: &str = "invalid bulk length";
    let Some((count, mut at)) = number(&buffer[1..], "invalid multibulk length")? else {
        return Ok(None);
    };
    at += 1;
    if count > WORDS_MAX as i64 {
        return Err("invalid multibulk length");
    }
    let mut words = Vec::with_capacity(count.max(0) as usize);
    for _ in 0..count {
        match buffer.get(at) {
            None => return Ok(None),
            Some(b'$') => at += 1,
            Some(_) => return Err("expected '$'"),
        }
        let Some((length, digits)) = number(&buffer[at..], LENGTH)? else {
            return Ok(None);
        };
        at += digits;
        let length = usize::try_from(length).map_err(|_| LENGTH)?;
        if length > COMMAND_BYTES_MAX.saturating_sub(at) {
            return Err(LENGTH);
        }
        let Some(word) = buffer.get(at..at + length + 2) else {
            return Ok(None);
        };
        let Some(word) = word.strip_suffix(b"\r\n") else {
            return Err(LENGTH);
        };
        words.push(word);
        at += length + 2;
    }
    Ok(Some((words, at)))
}

/// `GET k\r\n`, as people type it.
fn parse_line(buffer: &[u8]) -> Result<Option<Command<'_>>, &'static str> {
    let seen = &buffer[..buffer.len().min(COMMAND_BYTES_MAX)];
    let Some(length) = seen.iter().position(|byte| *byte == b'\n') else {
        return match seen.len() {
            COMMAND_BYTES_MAX => Err("too big inline request"),
            _ => Ok(None),
        };
    };
    let words = seen[..length].split(u8::is_ascii_whitespace);
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    match words.len() > WORDS_MAX {
        true => Err("too big inline request"),
        false => Ok(Some((words, length + 1))),
    }
}

/// A number up to its line end, and how many bytes both have.
fn number(buffer: &[u8], mistake: &'static str) -> Result<Option<(i64, usize)>, &'static str> {
    let seen = &buffer[..buffer.len().min(NUMBER_BYTES_MAX)];
    let Some(length) = seen.iter().position(|byte| *byte == b'\n') else {
        return match seen.len() {
            NUMBER_BYTES_MAX => Err(mistake),
            _ => Ok(None),
        };
    };
    let line = seen[..length].strip_suffix(b"\r").ok_or(mistake)?;
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(mistake);
    }
    let text = std::str::from_utf8(line).map_err(|_| mistake)?;
    Ok(Some((text.parse().map_err(|_| mistake)?, length + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a buffer holds: words, and the bytes they take.
    type Row = (&'static [u8], &'static [&'static [u8]], usize);

    const WHOLE: &[Row] = &[
        (b"*1\r\n$4\r\nPING\r\n", &[b"PING"], 14),
        (b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", &[b"GET", b"k"], 20),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n", &[b"PING"], 14),
        (b"*1\r\n$0\r\n\r\n", &[b""], 10),
        (b"*1\r\n$4\r\n\r\n$1\r\n", &[b"\r\n$1"], 14),
        (b"*0\r\n", &[], 4),
        (b"*-1\r\n", &[], 5),
        (b"\r\n", &[], 2),
        (b"PING\r\n", &[b"PING"], 6),
        (b"  SET a\tb \nGET a\n", &[b"SET", b"a", b"b"], 11),
    ];

    #[test]
    fn a_command_comes_out_whole_and_never_before() {
        for (buffer, words, length) in WHOLE {
            let parsed = parse(buffer);
            assert_eq!(parsed, Ok(Some((words.to_vec(), *length))), "{buffer:?}");
            for part in 0..*length {
                assert_eq!(parse(&buffer[..part]), Ok(None), "{part} of {buffer:?}");
            }
        }
    }

    #[test]
    fn a_mistake_is_named() {
        let long_line = vec![b'a'; COMMAND_BYTES_MAX];
        let rows: [(&[u8], &str); 13] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*+1\r\n", "invalid multibulk length"),
            (b"*1\n$1\r\na\r\n", "invalid multibulk length"),
            (b"*1025\r\n", "invalid multibulk length"),
            (b"*99999999999999999999\r\n", "invalid multibulk length"),
            (
                b"*1111111111111111111111111111111111",
                "invalid multibulk length",
            ),
            (b"*1\r\n+OK\r\n", "expected '$'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$1048576\r\n", "invalid bulk length"),
            (b"*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
            (b"*1\r\n$1\r\nabc", "invalid bulk length"),
            (&long_line, "too big inline request"),
        ];
        for (buffer, mistake) in rows {
            let shown = &buffer[..buffer.len().min(40)];
            assert_eq!(parse(buffer), Err(mistake), "{shown:?}");
        }
    }
}
