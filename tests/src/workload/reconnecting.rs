//! A client that is left open, and connects again whenever its connection is gone.

use std::ffi::OsString;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};

use anyhow::Result;
use serde_json::json;

use super::{parsed, tell, wait_for_go};

/// Tries to connect once for each go, and keeps the connection until its peer ends it. Arguments: how often, and
/// where to. Facts: `{"port"}` or `{"errno"}` for each attempt, and `{}` when a connection has ended.
pub(super) fn reconnect(arguments: &[OsString]) -> Result<()> {
    let count: usize = parsed(arguments, 0)?;
    let address: SocketAddr = parsed(arguments, 1)?;
    for _ in 0..count {
        wait_for_go()?;
        match TcpStream::connect(address) {
            Ok(mut stream) => {
                tell(&json!({"port": stream.local_addr()?.port()}))?;
                stream.read_to_end(&mut Vec::new())?;
                drop(stream);
                tell(&json!({}))?;
            }
            Err(error) => tell(&json!({"errno": error.raw_os_error()}))?,
        }
    }
    wait_for_go()
}
