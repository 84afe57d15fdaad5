// SPDX-License-Identifier: GPL-2.0-only
//! Whether a network device has a NAPI, by the kernel's generic netlink (family "netdev", Linux
//! 6.8).
//!
//! Promises to change nothing: a write to the device's `threaded` file would say it, too, but takes
//! back what is set for each NAPI. Any user may ask.

use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};
use std::os::fd::OwnedFd;

/// Of include/uapi/linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const HEADER_BYTES: usize = 16;
/// Of include/uapi/linux/genetlink.h.
const GENL_ID_CTRL: u16 = 0x10;
const GENL_HEADER_BYTES: usize = 4;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Of include/uapi/linux/netdev.h.
const NETDEV_CMD_NAPI_GET: u8 = 11;
const NETDEV_A_NAPI_IFINDEX: u16 = 1;

/// Has the device of this number a NAPI? The kernel shows those of devices that are up.
///
/// # Errors
/// The kernel's; `PROTO` where it answers what nobody knows.
pub fn has_napi(ifindex: u32) -> Result<bool, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let protocol = Some(netlink::GENERIC);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let ask = request(GENL_ID_CTRL, NLM_F_REQUEST, CTRL_CMD_GETFAMILY, &name);
    let family = call(&socket, &ask)?.ok_or(Errno::PROTO)?;
    let family = find(&family, CTRL_ATTR_FAMILY_ID).and_then(|id| id.first_chunk());
    let family = u16::from_ne_bytes(*family.ok_or(Errno::PROTO)?);
    let device = attribute(NETDEV_A_NAPI_IFINDEX, &ifindex.to_ne_bytes());
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    let ask = request(family, flags, NETDEV_CMD_NAPI_GET, &device);
    Ok(call(&socket, &ask)?.is_some())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn request(family: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER_BYTES + GENL_HEADER_BYTES + attributes.len();
    let mut bytes = (length as u32).to_ne_bytes().to_vec();
    bytes.extend(family.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // A number and a port of ours, which nobody needs.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The attributes of the answer's first message; nothing where it has none.
fn call(socket: &OwnedFd, request: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    write(socket, request)?;
    // Of one message, or of as many as the kernel puts into one packet.
    let mut bytes = [0; 1 << 15];
    let length = read(socket, &mut bytes)?;
    answer(&bytes[..length])
}

fn answer(bytes: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let word = |at: usize| bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let half = |at: usize| bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let length = u32::from_ne_bytes(*word(0).ok_or(Errno::PROTO)?) as usize;
    match u16::from_ne_bytes(*half(4).ok_or(Errno::PROTO)?) {
        NLMSG_DONE => Ok(None),
        NLMSG_ERROR => {
            let errno = i32::from_ne_bytes(*word(HEADER_BYTES).ok_or(Errno::PROTO)?);
            Err(Errno::from_raw_os_error(errno.saturating_neg()))
        }
        _ => {
            let attributes = bytes.get(HEADER_BYTES + GENL_HEADER_BYTES..length);
            Ok(Some(attributes.ok_or(Errno::PROTO)?.to_vec()))
        }
    }
}

/// The value of an attribute.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_not_past_the_end() {
        let both = [attribute(7, b"odd"), attribute(9, &5u16.to_ne_bytes())].concat();
        assert_eq!(both.len(), 16);
        assert_eq!(find(&both, 9), Some(&5u16.to_ne_bytes()[..]));
        assert_eq!(find(&both, 8), None);
        // A length of less than its own header, and one of more than there is.
        assert_eq!(find(&[0; 8], 9), None);
        assert_eq!(find(&both[..13], 9), None);
    }

    #[test]
    fn an_answer_has_attributes_an_error_or_an_end() {
        let mut bytes = request(20, 0, 1, &attribute(1, b"abcd"));
        assert_eq!(answer(&bytes), Ok(Some(attribute(1, b"abcd"))));
        bytes[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        assert_eq!(answer(&bytes), Ok(None));
        bytes[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes[16..20].copy_from_slice(&(-19i32).to_ne_bytes());
        assert_eq!(answer(&bytes), Err(Errno::NODEV));
        assert_eq!(answer(&bytes[..5]), Err(Errno::PROTO));
    }
}
