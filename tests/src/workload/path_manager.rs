//! The kernel's path manager for Multipath TCP, in this process's network namespace: generic netlink, family
//! `mptcp_pm`, include/uapi/linux/mptcp.h.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `GENL_ID_CTRL` and `CTRL_CMD_GETFAMILY`, include/uapi/linux/genetlink.h.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID` and `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `MPTCP_PM_CMD_*`.
const ADD_ADDRESS: u8 = 1;
const DELETE_ADDRESS: u8 = 2;
const SET_LIMITS: u8 = 5;
/// `MPTCP_PM_ATTR_ADDR` with `NLA_F_NESTED`, `MPTCP_PM_ATTR_SUBFLOWS`.
const ADDRESS: u16 = 1 | 0x8000;
const SUBFLOWS: u16 = 3;
/// `MPTCP_PM_ADDR_ATTR_*`.
const FAMILY: u16 = 1;
const ID: u16 = 2;
const ADDRESS4: u16 = 3;
const FLAGS: u16 = 6;
/// `MPTCP_PM_ADDR_FLAG_SUBFLOW`: subflows begin there.
const FLAG_SUBFLOW: u32 = 2;

/// `NLM_F_REQUEST | NLM_F_ACK`, `NLMSG_ERROR`.
const REQUEST: u16 = 1 | 4;
const ACKNOWLEDGED: u16 = 2;
/// Lengths of `struct nlmsghdr` and `struct genlmsghdr`.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// A socket to it.
pub(super) struct PathManager {
    socket: OwnedFd,
    family: u16,
}

impl PathManager {
    /// Finds it.
    pub(super) fn open() -> Result<PathManager> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let generic = Some(netlink::GENERIC);
        let socket = socket_with(family, SocketType::RAW, flags, generic)?;
        let mut manager = PathManager {
            socket,
            family: CONTROL,
        };
        let reply = manager.ask(GET_FAMILY, &attribute(FAMILY_NAME, b"mptcp_pm\0"))?;
        let id = find(&reply, FAMILY_ID).context("a family has an ID")?;
        manager.family = u16::from_ne_bytes(id.try_into()?);
        manager.acknowledged()?;
        Ok(manager)
    }

    /// Allows so many further subflows for each connection.
    pub(super) fn allow(&self, subflows: u32) -> Result<()> {
        self.tell(SET_LIMITS, &attribute(SUBFLOWS, &subflows.to_ne_bytes()))
    }

    /// Lets initiators make a further subflow from this address.
    pub(super) fn add(&self, address: Ipv4Addr) -> Result<()> {
        let flags = attribute(FLAGS, &FLAG_SUBFLOW.to_ne_bytes());
        let address = [endpoint(address), flags].concat();
        self.tell(ADD_ADDRESS, &attribute(ADDRESS, &address))
    }

    /// Takes the first subflow away from every connection that began at this address.
    pub(super) fn remove_first(&self, address: Ipv4Addr) -> Result<()> {
        let address = [endpoint(address), attribute(ID, &[0])].concat();
        self.tell(DELETE_ADDRESS, &attribute(ADDRESS, &address))
    }

    fn tell(&self, command: u8, attributes: &[u8]) -> Result<()> {
        self.send(command, attributes)?;
        self.acknowledged()
    }

    /// The attributes of the answer.
    fn ask(&self, command: u8, attributes: &[u8]) -> Result<Vec<u8>> {
        self.send(command, attributes)?;
        let (kind, body) = self.receive()?;
        ensure!(kind == self.family, "netlink answers with a {kind}");
        Ok(body[GENERIC_HEADER..].to_vec())
    }

    fn send(&self, command: u8, attributes: &[u8]) -> Result<()> {
        let length = HEADER + GENERIC_HEADER + attributes.len();
        let mut message = u32::try_from(length)?.to_ne_bytes().to_vec();
        message.extend(self.family.to_ne_bytes());
        message.extend(REQUEST.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    fn acknowledged(&self) -> Result<()> {
        let (kind, body) = self.receive()?;
        ensure!(kind == ACKNOWLEDGED, "netlink answers with a {kind}");
        match i32::from_ne_bytes(body[..4].try_into()?) {
            0 => Ok(()),
            errno => bail!(std::io::Error::from_raw_os_error(-errno)),
        }
    }

    /// Kind and body of the next message.
    fn receive(&self) -> Result<(u16, Vec<u8>)> {
        let mut buffer = [0; 4096];
        let (_, length) = recv(&self.socket, &mut buffer, RecvFlags::empty())?;
        ensure!(length >= HEADER + GENERIC_HEADER, "netlink says too little");
        let kind = u16::from_ne_bytes([buffer[4], buffer[5]]);
        Ok((kind, buffer[HEADER..length].to_vec()))
    }
}

fn endpoint(address: Ipv4Addr) -> Vec<u8> {
    let family = attribute(FAMILY, &AddressFamily::INET.as_raw().to_ne_bytes());
    [family, attribute(ADDRESS4, &address.octets())].concat()
}

/// One attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("attributes are short");
    let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The value of an attribute.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [a, b, c, d, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        if u16::from_ne_bytes([c, d]) == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}
