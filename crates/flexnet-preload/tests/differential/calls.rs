// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! The system calls of a case, in two ways: plain (no hook is between) and as
//! a program makes them (by the C library's functions, so through the hooks).

use rustix::fd::RawFd;
use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::ptr;
use syscalls::Sysno;

/// A result, or an errno.
pub type Outcome = Result<usize, c_int>;

/// How a send is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Write,
    Writev,
    Send,
    Sendto,
    Sendmsg,
    Sendmmsg,
    /// writev with slices that are empty, with and without an address.
    WritevEmpty,
    SendmsgEmpty,
    /// The C library formats it; plain, it is a write. For sockets that block: it does
    /// not tell which part was taken.
    Dprintf,
    Pwritev2,
    /// The C library's other names.
    WriteAlias,
    SendAlias,
    Pwritev64v2,
    /// Checked, as where the compiler fortifies. For sockets that block, as dprintf.
    DprintfChecked,
    /// syscall(2).
    Number,
    NumberSendto,
    NumberSendmsg,
    NumberWritev,
}

impl Via {
    /// Does it take flags?
    pub fn has_flags(self) -> bool {
        matches!(
            self,
            Self::Send
                | Self::Sendto
                | Self::Sendmsg
                | Self::Sendmmsg
                | Self::SendmsgEmpty
                | Self::SendAlias
                | Self::NumberSendto
                | Self::NumberSendmsg
        )
    }
}

/// How a descriptor is doubled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Double {
    Dup,
    Dup2,
    Dup3,
    Fcntl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    Plain,
    Hooked,
}

fn outcome(result: isize) -> Outcome {
    if result < 0 {
        Err(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        Ok(result as usize)
    }
}

macro_rules! call {
    ($self:expr, $number:ident($($arg:expr),*), $function:expr) => {
        match $self {
            // SAFETY: the caller's arguments are valid for the call.
            Calls::Plain => unsafe { syscalls::syscall!(Sysno::$number $(, $arg)*) }
                .map_err(|errno| errno.into_raw()),
            // SAFETY: as above.
            Calls::Hooked => outcome(unsafe { $function } as isize),
        }
    };
}

unsafe extern "C" {
    fn dprintf(fd: c_int, format: *const c_char, ...) -> c_int;
    fn __dprintf_chk(fd: c_int, flag: c_int, format: *const c_char, ...) -> c_int;
    fn pwritev64v2(
        fd: c_int,
        slices: *const libc::iovec,
        count: c_int,
        offset: i64,
        flags: c_int,
    ) -> isize;
    fn __write(fd: c_int, data: *const c_void, length: usize) -> isize;
    fn __send(fd: c_int, data: *const c_void, length: usize, flags: c_int) -> isize;
}

/// The slices, with empty ones before, between and after.
fn with_empty(bytes: &[u8]) -> Vec<libc::iovec> {
    let none = libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    };
    let empty = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: 0,
    };
    let mut all = vec![none];
    for slice in slices(bytes) {
        all.extend([slice, empty, none]);
    }
    all
}

/// Cuts bytes into a few slices.
fn slices(bytes: &[u8]) -> Vec<libc::iovec> {
    let piece = (bytes.len() / 3).max(1);
    bytes
        .chunks(piece)
        .map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        })
        .collect()
}

fn header(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: zeros are a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = vectors.as_mut_ptr();
    header.msg_iovlen = vectors.len();
    header
}

impl Calls {
    /// One send of `bytes`. How many were taken.
    pub fn send(self, via: Via, fd: RawFd, bytes: &[u8], flags: c_int) -> Outcome {
        match via {
            Via::Write | Via::WriteAlias | Via::Number | Via::Dprintf | Via::DprintfChecked => {
                self.write(via, fd, bytes)
            }
            Via::Writev
            | Via::WritevEmpty
            | Via::NumberWritev
            | Via::Pwritev2
            | Via::Pwritev64v2 => self.write_slices(via, fd, bytes),
            Via::Send | Via::Sendto | Via::SendAlias | Via::NumberSendto => {
                self.send_to(via, fd, bytes, flags)
            }
            Via::Sendmsg | Via::SendmsgEmpty | Via::NumberSendmsg => {
                let mut vectors = match via {
                    Via::Sendmsg => slices(bytes),
                    _ => with_empty(bytes),
                };
                let header = header(&mut vectors);
                let header = &raw const header;
                call!(
                    self,
                    sendmsg(fd, header, flags),
                    match via {
                        Via::NumberSendmsg => {
                            libc::syscall(libc::SYS_sendmsg, fd, header, flags) as isize
                        }
                        _ => libc::sendmsg(fd, header, flags),
                    }
                )
            }
            Via::Sendmmsg => self.send_several(fd, &[bytes], flags).map(|sent| sent[0]),
        }
    }

    fn write(self, via: Via, fd: RawFd, bytes: &[u8]) -> Outcome {
        let (data, length) = (bytes.as_ptr().cast::<c_void>(), bytes.len());
        // By its length: a case's bytes have no end as text.
        let (count, format) = (length as c_int, c"%.*s".as_ptr());
        call!(
            self,
            write(fd, data, length),
            match via {
                Via::WriteAlias => __write(fd, data, length),
                Via::Number => libc::syscall(libc::SYS_write, fd, data, length) as isize,
                Via::Dprintf => dprintf(fd, format, count, data) as isize,
                Via::DprintfChecked => __dprintf_chk(fd, 1, format, count, data) as isize,
                _ => libc::write(fd, data, length),
            }
        )
    }

    fn write_slices(self, via: Via, fd: RawFd, bytes: &[u8]) -> Outcome {
        let vectors = match via {
            Via::WritevEmpty | Via::NumberWritev => with_empty(bytes),
            _ => slices(bytes),
        };
        let (first, count) = (vectors.as_ptr(), vectors.len() as c_int);
        if matches!(via, Via::Pwritev2 | Via::Pwritev64v2) {
            return call!(
                self,
                pwritev2(fd, first, count, usize::MAX, usize::MAX, 0),
                match via {
                    Via::Pwritev2 => libc::pwritev2(fd, first, count, -1, 0),
                    _ => pwritev64v2(fd, first, count, -1, 0),
                }
            );
        }
        call!(
            self,
            writev(fd, first, count),
            match via {
                Via::NumberWritev => libc::syscall(libc::SYS_writev, fd, first, count) as isize,
                _ => libc::writev(fd, first, count),
            }
        )
    }

    fn send_to(self, via: Via, fd: RawFd, bytes: &[u8], flags: c_int) -> Outcome {
        let (data, length) = (bytes.as_ptr().cast::<c_void>(), bytes.len());
        call!(
            self,
            sendto(fd, data, length, flags, 0, 0),
            match via {
                Via::Sendto => libc::sendto(fd, data, length, flags, ptr::null(), 0),
                Via::SendAlias => __send(fd, data, length, flags),
                Via::NumberSendto => {
                    libc::syscall(libc::SYS_sendto, fd, data, length, flags, 0, 0) as isize
                }
                _ => libc::send(fd, data, length, flags),
            }
        )
    }

    /// sendmmsg: the bytes taken of each message that was sent.
    pub fn send_several(
        self,
        fd: RawFd,
        messages: &[&[u8]],
        flags: c_int,
    ) -> Result<Vec<usize>, c_int> {
        let mut vectors: Vec<_> = messages.iter().map(|bytes| slices(bytes)).collect();
        let mut headers: Vec<_> = vectors
            .iter_mut()
            .map(|vectors| libc::mmsghdr {
                msg_hdr: header(vectors),
                msg_len: 0,
            })
            .collect();
        let (first, count) = (headers.as_mut_ptr(), headers.len() as u32);
        let sent = call!(
            self,
            sendmmsg(fd, first, count, flags),
            libc::sendmmsg(fd, first, count, flags as _)
        )?;
        Ok(headers[..sent].iter().map(|h| h.msg_len as usize).collect())
    }

    pub fn receive(self, fd: RawFd, room: &mut [u8]) -> Outcome {
        let (data, length) = (room.as_mut_ptr().cast::<c_void>(), room.len());
        let flags = libc::MSG_DONTWAIT;
        call!(
            self,
            recvfrom(fd, data, length, flags, 0, 0),
            libc::recv(fd, data, length, flags)
        )
    }

    pub fn sendfile(self, to: RawFd, from: RawFd, offset: usize, count: usize) -> Outcome {
        let mut offset = offset as libc::off_t;
        let at = &raw mut offset;
        call!(
            self,
            sendfile(to, from, at, count),
            libc::sendfile(to, from, at, count)
        )
    }

    pub fn splice(self, from: RawFd, to: RawFd, count: usize, flags: u32) -> Outcome {
        let none = ptr::null_mut::<libc::off64_t>();
        call!(
            self,
            splice(from, none, to, none, count, flags),
            libc::splice(from, none, to, none, count, flags)
        )
    }

    pub fn double(self, how: Double, fd: RawFd, to: RawFd) -> Outcome {
        let minimum = 3;
        match how {
            Double::Dup => call!(self, dup(fd), libc::dup(fd)),
            Double::Dup2 => call!(self, dup2(fd, to), libc::dup2(fd, to)),
            Double::Dup3 => call!(
                self,
                dup3(fd, to, libc::O_CLOEXEC),
                libc::dup3(fd, to, libc::O_CLOEXEC)
            ),
            Double::Fcntl => call!(
                self,
                fcntl(fd, libc::F_DUPFD_CLOEXEC, minimum),
                libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, minimum)
            ),
        }
    }

    pub fn close(self, fd: RawFd) -> Outcome {
        call!(self, close(fd), libc::close(fd))
    }

    pub fn close_range(self, first: RawFd, last: RawFd) -> Outcome {
        call!(
            self,
            close_range(first, last, 0),
            libc::close_range(first as u32, last as u32, 0)
        )
    }

    /// Written by stdio, which closes the descriptor. Plain, it is a write.
    pub fn stdio(self, fd: RawFd, bytes: &[u8]) -> Outcome {
        if self == Self::Plain {
            let written = self.send(Via::Write, fd, bytes, 0);
            self.close(fd)?;
            return written;
        }
        // SAFETY: a descriptor of the case's, which fclose closes; a local stretch.
        unsafe {
            let file = libc::fdopen(fd, c"w".as_ptr());
            assert!(!file.is_null(), "fdopen");
            let written = libc::fwrite(bytes.as_ptr().cast(), 1, bytes.len(), file);
            assert_eq!(libc::fclose(file), 0, "fclose");
            Ok(written)
        }
    }

    pub fn shutdown(self, fd: RawFd, how: c_int) -> Outcome {
        call!(self, shutdown(fd, how), libc::shutdown(fd, how))
    }

    pub fn set_option<T>(self, fd: RawFd, level: c_int, name: c_int, value: T) -> Outcome {
        let (value, length) = ((&raw const value).cast::<c_void>(), size_of::<T>() as u32);
        call!(
            self,
            setsockopt(fd, level, name, value, length),
            libc::setsockopt(fd, level, name, value, length)
        )
    }

    /// SO_ERROR.
    pub fn error(self, fd: RawFd) -> Outcome {
        let (mut errno, mut length): (c_int, u32) = (0, size_of::<c_int>() as u32);
        let (value, of) = ((&raw mut errno).cast::<c_void>(), &raw mut length);
        call!(
            self,
            getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, value, of),
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, value, of)
        )?;
        Ok(errno as usize)
    }

    /// SIOCOUTQ.
    pub fn unsent(self, fd: RawFd) -> Outcome {
        let mut count: c_int = 0;
        let at = &raw mut count;
        call!(
            self,
            ioctl(fd, libc::TIOCOUTQ, at),
            libc::ioctl(fd, libc::TIOCOUTQ, at)
        )?;
        Ok(count as usize)
    }

    pub fn socket(self, kind: c_int) -> RawFd {
        let kind = kind | libc::SOCK_CLOEXEC;
        let made = call!(
            self,
            socket(libc::AF_INET, kind, 0),
            libc::socket(libc::AF_INET, kind, 0)
        );
        made.expect("a socket") as RawFd
    }

    pub fn connect(self, fd: RawFd, to: &libc::sockaddr_in) {
        let (to, length) = (ptr::from_ref(to), size_of::<libc::sockaddr_in>() as u32);
        let connected = call!(
            self,
            connect(fd, to, length),
            libc::connect(fd, to.cast(), length)
        );
        connected.expect("a connection");
    }

    pub fn accept(self, fd: RawFd) -> RawFd {
        let accepted = call!(
            self,
            accept4(fd, 0, 0, libc::SOCK_CLOEXEC),
            libc::accept4(fd, ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC)
        );
        accepted.expect("a connection") as RawFd
    }

    /// Sends a descriptor over a unix socket and receives the copy.
    pub fn pass_descriptor(self, over: (RawFd, RawFd), fd: RawFd) -> RawFd {
        #[repr(C, align(8))]
        struct Control([u8; 64]);
        let mut control = Control([0; 64]);
        let byte = [1u8];
        let mut vectors = slices(&byte);
        let mut message = header(&mut vectors);
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: the buffer is large enough for one descriptor.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let first = libc::CMSG_FIRSTHDR(&message);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(first).cast::<c_int>().write_unaligned(fd);
        }
        let sent = &raw const message;
        call!(
            self,
            sendmsg(over.0, sent, 0),
            libc::sendmsg(over.0, sent, 0)
        )
        .expect("sent");
        let mut room = [0u8];
        let mut vector = libc::iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: 1,
        };
        control.0.fill(0);
        let mut message = header(std::slice::from_mut(&mut vector));
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        let received = &raw mut message;
        call!(
            self,
            recvmsg(over.1, received, 0),
            libc::recvmsg(over.1, received, 0)
        )
        .expect("received");
        // SAFETY: the kernel wrote one control message.
        unsafe {
            libc::CMSG_DATA(libc::CMSG_FIRSTHDR(&message))
                .cast::<c_int>()
                .read_unaligned()
        }
    }
}
