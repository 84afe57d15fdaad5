// SPDX-License-Identifier: GPL-2.0-only
//! Programs that the preload library cannot be in. What the loader would make of them is an error
//! of the program, or nothing at all; both are hard to tell from a fault of the program.
//!
//! Looks at the file's head only. A program that cannot be read is left to exec to judge.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Tables of a file that are longer than this are not looked at.
const TABLE_MAX: u64 = 16 << 20;
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;

/// Runtimes that want to be the first library of their program, and take every call themselves.
const SANITIZERS: &[(&[u8], &str)] = &[
    (b"\0__asan_init\0", "AddressSanitizer"),
    (b"\0__tsan_init\0", "ThreadSanitizer"),
    (b"\0__msan_init\0", "MemorySanitizer"),
    (b"\0__hwasan_init\0", "HWAddressSanitizer"),
    (b"\0__lsan_init\0", "LeakSanitizer"),
];

/// Why the library cannot be in that program, or `None`.
pub(crate) fn obstacle(program: &OsStr) -> Option<String> {
    let path = resolved(program)?;
    let mut file = File::open(&path).ok()?;
    if let Some(interpreter) = interpreter_of_script(&file) {
        file = File::open(interpreter).ok()?;
    }
    of_file(&file).ok().flatten()
}

/// The file that exec takes: one on PATH, if its name has no slash.
fn resolved(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    let executable = |file: &PathBuf| {
        let is = file.metadata();
        is.is_ok_and(|is| is.is_file() && is.permissions().mode() & 0o111 != 0)
    };
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(executable)
}

/// What a script's first line names.
fn interpreter_of_script(file: &File) -> Option<PathBuf> {
    let mut head = [0; 256];
    let length = file.read_at(&mut head, 0).ok()?;
    let line = head[..length].strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let name = line.split(|byte| b" \t".contains(byte)).next()?;
    Some(Path::new(OsStr::from_bytes(name)).into())
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    let digits = bytes.iter().rev();
    Some(digits.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn read(file: &File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    if length > TABLE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// A program header of a 64-bit file.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    length: u64,
}

fn segments(file: &File, header: &[u8]) -> io::Result<Vec<Segment>> {
    let of = |at, length| number(header, at, length).ok_or(io::ErrorKind::InvalidData);
    let (at, size, count) = (of(32, 8)?, of(54, 2)?, of(56, 2)?);
    let table = read(file, at, size * count)?;
    let segment = |entry: &[u8]| {
        Some(Segment {
            kind: number(entry, 0, 4)?,
            offset: number(entry, 8, 8)?,
            address: number(entry, 16, 8)?,
            length: number(entry, 32, 8)?,
        })
    };
    let entries = table.chunks_exact((size as usize).max(1));
    Ok(entries.filter_map(segment).collect())
}

fn of_file(file: &File) -> io::Result<Option<String>> {
    let header = read(file, 0, 64)?;
    if !header.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    // Class, byte order and machine are those of this very program, or no library fits.
    let own = read(&File::open("/proc/self/exe")?, 0, 64)?;
    if header[4..6] != own[4..6] || header[18..20] != own[18..20] {
        return Ok(Some("it is built for another architecture".to_owned()));
    }
    let segments = segments(file, &header)?;
    let Some(interpreter) = segments.iter().find(|segment| segment.kind == PT_INTERP) else {
        return Ok(Some("it is linked statically".to_owned()));
    };
    let interpreter = read(file, interpreter.offset, interpreter.length)?;
    let loader = Path::new(OsStr::from_bytes(&interpreter)).file_name();
    if loader.is_some_and(|name| name.as_bytes().starts_with(b"ld-musl")) {
        return Ok(Some("its C library is musl".to_owned()));
    }
    let names = names(file, &segments)?;
    let has = |name: &[u8]| names.windows(name.len()).any(|window| window == name);
    let found = SANITIZERS.iter().find(|(symbol, _)| has(symbol));
    Ok(found.map(|(_, name)| format!("it is built with {name}")))
}

/// The names of the dynamic symbols and libraries, each between two zeros.
fn names(file: &File, segments: &[Segment]) -> io::Result<Vec<u8>> {
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else {
        return Ok(Vec::new());
    };
    let entries = read(file, dynamic.offset, dynamic.length)?;
    let value = |tag| {
        let mut entries = entries.chunks_exact(16);
        let entry = entries.find(|entry| number(entry, 0, 8) == Some(tag))?;
        number(entry, 8, 8)
    };
    let (Some(address), Some(length)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
        return Ok(Vec::new());
    };
    let loaded = segments.iter().find(|segment| {
        segment.kind == PT_LOAD
            && (segment.address..segment.address + segment.length).contains(&address)
    });
    match loaded {
        Some(within) => read(file, within.offset + (address - within.address), length),
        None => Ok(Vec::new()),
    }
}
