//! The kernel programs: one file per moment, each with its logic once and a thin entry per way to
//! attach it. They filter, reserve, fill and submit; the thinking happens in user space.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "an entry's documentation is that of its file")]

mod backup;
mod kernel;
mod ring;

mod cgroup;
mod exec;
mod exit;
mod fork;

mod accept;
mod accept_exit;
mod attempt;
mod client_hello;
mod connect;
mod connect_error;
mod peer_name;
mod reset;
mod socket_create;
mod state;

mod datagram;
mod datagram_close;
mod datagram_owner;
mod dns;
mod dns_packet;
mod dns_receive;
mod dns_send;
mod packet;
mod raw;
mod udp;

mod inventory;

/// The kernel lets only GPL-compatible programs call the helpers that tracing needs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
