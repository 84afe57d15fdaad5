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
    let mut file = open(&path)?;
    if let Some(interpreter) = interpreter_of_script(&file) {
        file = open(&interpreter)?;
    }
    of_file(&file).ok().flatten()
}

/// A pipe is not waited for: it is no program.
fn open(path: &Path) -> Option<File> {
    let file = path.metadata().is_ok_and(|is| is.is_file());
    file.then(|| File::open(path).ok()).flatten()
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
    let mut loaded = segments.iter().filter(|segment| segment.kind == PT_LOAD);
    let place = loaded.find_map(|segment| {
        let at = address.checked_sub(segment.address)?;
        // Where in the file, if it can be in one at all.
        (at < segment.length).then(|| segment.offset.checked_add(at))
    });
    match place {
        Some(Some(at)) => read(file, at, length),
        Some(None) => Err(io::ErrorKind::InvalidData.into()),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NAMES_AT: usize = 512;
    const NAMES: &[u8] = b"\0__asan_init\0";

    /// A dynamic program of this machine: three segments, and names that are loaded at 0x1000.
    fn program() -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        let own = File::open("/proc/self/exe").unwrap();
        own.read_exact_at(&mut bytes[..64], 0).unwrap();
        put(&mut bytes, 32, 64, 8);
        put(&mut bytes, 54, 56, 2);
        put(&mut bytes, 56, 3, 2);
        // Type, offset, address and length of each.
        let segments = [
            (PT_INTERP, 400, 0, 8),
            (PT_DYNAMIC, 448, 0, 32),
            (PT_LOAD, NAMES_AT as u64, 0x1000, 64),
        ];
        for (index, (kind, offset, address, length)) in segments.into_iter().enumerate() {
            let at = 64 + index * 56;
            put(&mut bytes, at, kind, 4);
            put(&mut bytes, at + 8, offset, 8);
            put(&mut bytes, at + 16, address, 8);
            put(&mut bytes, at + 32, length, 8);
        }
        bytes[400..408].copy_from_slice(b"/lib/ld\0");
        let dynamic = [DT_STRTAB, 0x1000, DT_STRSZ, NAMES.len() as u64];
        for (index, value) in dynamic.into_iter().enumerate() {
            put(&mut bytes, 448 + index * 8, value, 8);
        }
        bytes[NAMES_AT..NAMES_AT + NAMES.len()].copy_from_slice(NAMES);
        bytes
    }

    fn put(bytes: &mut [u8], at: usize, value: u64, length: usize) {
        bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    }

    struct Written(PathBuf);

    impl Written {
        fn new(name: &str) -> Self {
            let name = format!("flexnet-program-{name}-{}", std::process::id());
            Self(env::temp_dir().join(name))
        }

        fn judged(&self, bytes: &[u8]) -> io::Result<Option<String>> {
            fs::write(&self.0, bytes).unwrap();
            of_file(&File::open(&self.0).unwrap())
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    const LOAD: usize = 64 + 2 * 56;

    #[test]
    fn sums_that_are_too_large_are_no_place_in_a_file() {
        let file = Written::new("sums");
        let sanitizer = file.judged(&program()).unwrap().unwrap();
        assert!(sanitizer.contains("AddressSanitizer"), "{sanitizer}");
        // Its place in the file would be that of the names, and 2^64 more.
        let mut bytes = program();
        put(
            &mut bytes,
            LOAD + 8,
            (NAMES_AT as u64).wrapping_sub(0x1000),
            8,
        );
        put(&mut bytes, LOAD + 16, 0, 8);
        put(&mut bytes, LOAD + 32, 0x2000, 8);
        file.judged(&bytes).unwrap_err();
        // Its end is above all addresses.
        let mut bytes = program();
        put(&mut bytes, LOAD + 32, u64::MAX, 8);
        assert!(file.judged(&bytes).unwrap().is_some());
        put(&mut bytes, LOAD + 16, u64::MAX - 16, 8);
        assert_eq!(file.judged(&bytes).unwrap(), None);
    }

    /// Numbers at which sums and products end.
    const EDGES: [u64; 8] = [0, 1, 39, 0xffff, 1 << 31, (1 << 63) - 1, 1 << 63, u64::MAX];

    /// The next one of a sequence that looks random (SplitMix64).
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[test]
    fn a_file_may_say_anything() {
        let file = Written::new("anything");
        let mut state = 1;
        let mut below = |most: usize| (next(&mut state) % most as u64) as usize;
        let valid = program();
        for _ in 0..2_000 {
            let mut bytes = valid.clone();
            for _ in 0..1 + below(4) {
                // What is read as numbers is before the names.
                let at = 16 + below(480 - 16);
                let length = [1, 2, 4, 8][below(4)];
                let any = (below(1 << 32) << 32 | below(1 << 32)) as u64;
                let value = *EDGES.get(below(2 * EDGES.len())).unwrap_or(&any);
                put(&mut bytes, at, value, length);
            }
            bytes.truncate(1 + below(2048));
            let _ = file.judged(&bytes);
        }
    }
}
