//! Subflows of Multipath TCP: the TCP sockets that are the paths of one connection, which has an upper
//! socket of its own.

use super::{
    layout::setting,
    source::{Remote, Source},
};

/// What a TCP socket is to a Multipath TCP connection.
pub(crate) struct Subflow {
    /// Address of the upper socket.
    pub(crate) upper: u64,
    /// Whether it joined, or is to join, a connection that was there.
    pub(crate) is_further: bool,
    /// Whether the peer of the first one speaks Multipath TCP.
    pub(crate) is_capable: bool,
}

/// Whether the kernel made `sock` for itself, as it makes every subflow: what most sockets are spared.
#[inline(always)]
pub(crate) fn is_kernels(sock: impl Source) -> bool {
    let mask = setting!(kernel_socket_mask);
    if mask == 0 {
        return false;
    }
    let byte: Option<u8> = sock.load(setting!(kernel_socket_byte));
    byte.is_some_and(|byte| u32::from(byte) & mask != 0)
}

/// The subflow that a `struct tcp_sock` is, if it is one.
#[inline(always)]
pub(crate) fn subflow(tcp: impl Source) -> Option<Subflow> {
    let mask = setting!(mptcp.subflow_mask);
    if mask == 0 || u32::from(tcp.load::<u8>(setting!(mptcp.subflow_byte))?) & mask == 0 {
        return None;
    }
    // The pointer has no type.
    let context = Remote(tcp.load(setting!(mptcp.context))?);
    let bits: u32 = context.load(setting!(mptcp.bits))?;
    Some(Subflow {
        upper: context.load(setting!(mptcp.upper))?,
        is_further: bits & setting!(mptcp.further) != 0,
        is_capable: bits & setting!(mptcp.capable) != 0,
    })
}

/// The upper socket of the connection that a `struct tcp_sock` is a path of; 0 if it is none. A first one
/// whose peer does not speak Multipath TCP is a plain socket.
#[inline(always)]
pub(crate) fn upper(tcp: impl Source) -> u64 {
    let mut upper = 0;
    // SAFETY: nothing. The compiler would otherwise see that nobody needs this value yet, and leave what it
    // becomes on the stack, where verifiers before 6.3 refuse to read it.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) upper, options(pure, nomem)) };
    if let Some(subflow) = subflow(tcp)
        && (subflow.is_capable || subflow.is_further)
    {
        upper = subflow.upper;
    }
    upper
}

/// Whether a `struct tcp_sock` is a further subflow.
#[inline(always)]
pub(crate) fn is_further(tcp: impl Source) -> bool {
    subflow(tcp).is_some_and(|subflow| subflow.is_further)
}
