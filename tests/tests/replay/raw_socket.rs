//! Raw and packet sockets in scenarios: how one is written, and how it is told.

use tracer::event::{RawFamily, RawSocket, RawType, SocketId, Task};

const FAMILIES: [(&str, RawFamily); 3] = [
    ("inet", RawFamily::Ipv4),
    ("inet6", RawFamily::Ipv6),
    ("packet", RawFamily::Packet),
];

const TYPES: [(&str, RawType); 3] = [
    ("raw", RawType::Raw),
    ("dgram", RawType::Datagram),
    ("packet", RawType::Packet),
];

/// The socket that `task` opens: family, type, protocol.
pub(crate) fn read(
    task: Task,
    [family, socket_type, protocol]: [&str; 3],
) -> Result<RawSocket, String> {
    let protocol = protocol.parse();
    Ok(RawSocket {
        socket: Some(SocketId(1)),
        task,
        netns: 1,
        family: find(&FAMILIES, family)?,
        socket_type: find(&TYPES, socket_type)?,
        protocol: protocol.map_err(|_| "the protocol is no number")?,
    })
}

/// The same words again.
pub(crate) fn write(socket: &RawSocket) -> String {
    let family = name(&FAMILIES, &socket.family);
    let socket_type = name(&TYPES, &socket.socket_type);
    format!("{family} {socket_type} {}", socket.protocol)
}

fn find<T: Copy>(names: &[(&str, T)], word: &str) -> Result<T, String> {
    let known = names.iter().find(|(name, _)| *name == word);
    known
        .map(|(_, value)| *value)
        .ok_or(format!("{word} is unknown"))
}

fn name<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    let known = names.iter().find(|(_, known)| known == value);
    known.expect("every value has a name").0
}
