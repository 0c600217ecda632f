//! Loopback sockets that tests themselves use.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// A listener on a port of the kernel's choice, and where that is.
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
    let address = listener.local_addr().expect("a listener has an address");
    (listener, address)
}

/// A TCP socket that is not connected yet, and where it is bound to.
pub fn bound() -> (OwnedFd, SocketAddr) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor");
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("loopback is up");
    let address = getsockname(&socket).expect("a bound socket has an address");
    let address = SocketAddr::try_from(address).expect("it is one of IP");
    (socket, address)
}

/// An address whose port is free now.
pub fn free_address() -> SocketAddr {
    listener().1
}

/// A connection now and then, until this is dropped, for a tracer that is to write something as
/// soon as it can.
#[derive(Debug)]
pub struct Traffic(Option<(Sender<()>, JoinHandle<()>)>);

/// Between two connections.
const PAUSE: Duration = Duration::from_millis(20);

impl Traffic {
    /// Begins to connect.
    pub fn start() -> Traffic {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let (_listener, address) = listener();
                TcpStream::connect(address).expect("it listens");
            }
        });
        Traffic(Some((stop, thread)))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // It fails only if loopback does, which the test will have noticed.
            let _ = thread.join();
        }
    }
}
