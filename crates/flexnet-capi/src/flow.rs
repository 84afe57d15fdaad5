// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Flows: sockets that are adopted, and flows without one.

use crate::boundary::{Errno, checked, errno_of, guard};
use crate::handle::{Table, Use};
use crate::runtime::{self, Share, shared_of};
use flexnet::executor;
use flexnet::transport::{TcpFlow, UdpFlow};
use libc::c_int;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, RawFd};

/// Of what flexnet.h calls struct flexnet_flow.
pub(crate) enum Handle {}

const KIND: u8 = 0x46;
pub(crate) static FLOWS: Table<Flow, KIND> = Table::new();

/// FLEXNET_ADOPT_DUPLICATE.
const DUPLICATE: u32 = 1;

/// What a flow sends on.
pub(crate) enum Transport {
    Tcp(TcpFlow),
    Udp(UdpFlow),
    None(executor::Flow),
}

pub(crate) struct Flow {
    pub(crate) transport: Transport,
    /// The socket's, or -1.
    pub(crate) fd: RawFd,
    share: Share,
}

impl Flow {
    /// The ordered queue behind all of them.
    #[inline]
    pub(crate) fn queue(&self) -> &executor::Flow {
        match &self.transport {
            Transport::Tcp(flow) => flow.flow(),
            Transport::Udp(flow) => flow.flow(),
            Transport::None(flow) => flow,
        }
    }
}

/// The flow of a handle.
#[inline]
pub(crate) fn get<'a>(flow: *const Handle) -> Result<Use<'a, Flow, KIND>, Errno> {
    FLOWS.get(flow)
}

fn last_errno() -> Errno {
    errno_of(&io::Error::last_os_error())
}

fn socket_option(fd: RawFd, option: c_int) -> Result<c_int, Errno> {
    let (mut value, mut length): (c_int, _) = (0, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes.
    let got = unsafe {
        let at = (&raw mut value).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, option, at, &mut length)
    };
    match got {
        0 => Ok(value),
        _ => Err(last_errno()),
    }
}

/// Is it a connected socket that can be adopted? Its type.
fn check_socket(fd: RawFd) -> Result<c_int, Errno> {
    let kind = socket_option(fd, libc::SO_TYPE)?;
    let domain = socket_option(fd, libc::SO_DOMAIN)?;
    let protocol = socket_option(fd, libc::SO_PROTOCOL)?;
    if ![libc::AF_INET, libc::AF_INET6].contains(&domain)
        || ![libc::IPPROTO_TCP, libc::IPPROTO_MPTCP, libc::IPPROTO_UDP].contains(&protocol)
    {
        return Err(libc::EPROTONOSUPPORT);
    }
    // SAFETY: the kernel writes at most `length` bytes; a sockaddr_storage holds
    // any address.
    let connected = unsafe {
        let mut address: libc::sockaddr_storage = std::mem::zeroed();
        let mut length = size_of_val(&address) as libc::socklen_t;
        libc::getpeername(fd, (&raw mut address).cast(), &mut length)
    };
    match connected {
        0 => Ok(kind),
        _ => Err(last_errno()),
    }
}

/// Takes a descriptor over, if it comes to a flow.
fn adopt(runtime: &executor::Runtime, fd: RawFd, kind: c_int) -> Result<Transport, Errno> {
    // SAFETY: the caller hands it over; looked at just now, so it is a socket.
    let adopted = unsafe {
        match kind {
            libc::SOCK_STREAM => {
                TcpFlow::adopt(runtime, TcpStream::from_raw_fd(fd)).map(Transport::Tcp)
            }
            _ => UdpFlow::adopt(runtime, UdpSocket::from_raw_fd(fd)).map(Transport::Udp),
        }
    };
    adopted.map_err(|error| errno_of(&error))
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_flow_adopt(
    runtime: *mut runtime::Handle,
    fd: c_int,
    flags: u32,
    flow: *mut *mut Handle,
) -> c_int {
    guard(|| {
        let (shared, flow) = (shared_of(runtime)?, checked(flow)?);
        if flags & !DUPLICATE != 0 {
            return Err(libc::EINVAL);
        }
        let kind = check_socket(fd)?;
        // First, since a socket that is adopted cannot be given back.
        let place = FLOWS.reserve()?;
        let mut used = fd;
        let (transport, share) = shared.with(|runtime| {
            if flags & DUPLICATE != 0 {
                // SAFETY: no memory is passed.
                used = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
            }
            match used < 0 {
                true => Err(last_errno()),
                false => adopt(runtime, used, kind),
            }
        })?;
        let adopted = Flow {
            transport,
            fd: used,
            share,
        };
        // SAFETY: where the caller wants the handle.
        unsafe { *flow = place.fill(adopted)? };
        Ok(0)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_flow_create(
    runtime: *mut runtime::Handle,
    flow: *mut *mut Handle,
) -> c_int {
    guard(|| {
        let (shared, flow) = (shared_of(runtime)?, checked(flow)?);
        let place = FLOWS.reserve()?;
        let (queue, share) =
            shared.with(|runtime| runtime.flow().map_err(|error| errno_of(&error)))?;
        let made = Flow {
            transport: Transport::None(queue),
            fd: -1,
            share,
        };
        // SAFETY: where the caller wants the handle.
        unsafe { *flow = place.fill(made)? };
        Ok(0)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_flow_fd(flow: *mut Handle) -> c_int {
    guard(|| match get(flow)?.fd {
        -1 => Err(libc::ENOTSOCK),
        fd => Ok(fd),
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_flow_set_kind(flow: *mut Handle, kind: u32) -> c_int {
    guard(|| {
        get(flow)?.queue().set_kind(kind);
        Ok(0)
    })
}

/// # Safety
/// As flexnet.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexnet_close(flow: *mut Handle) -> c_int {
    guard(|| {
        let closed = FLOWS.close(flow)?;
        closed.share.close();
        Ok(0)
    })
}
