//! Where things are: addresses of this host, directories that anyone may write to.

use crate::event::Endpoints;
use crate::process::image::Program;

/// Directories in which anyone may put a program, or that are gone after a restart.
const WRITABLE: [&str; 4] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/"];

/// Whether both ends are on this host, as far as the addresses tell.
pub(super) fn is_local(endpoints: &Endpoints) -> bool {
    let (local, remote) = (endpoints.local.ip(), endpoints.remote.ip());
    remote.is_loopback() || (local == remote && !remote.is_unspecified())
}

/// The directory in which anyone could have put a program, if it lies in one: `memfd` for one that is in none.
pub(super) fn writable_place(program: &Program) -> Option<&'static str> {
    if program.memfd {
        return Some("memfd");
    }
    let path = if program.script.is_empty() {
        &program.executable
    } else {
        &program.script
    };
    WRITABLE
        .into_iter()
        .find(|directory| path.starts_with(directory.as_bytes()))
}

/// The last component of what it runs: of the script, where an interpreter runs one.
pub(super) fn program_name(program: &Program) -> &[u8] {
    let path = if program.script.is_empty() {
        &program.executable
    } else {
        &program.script
    };
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// The last component of the executable's path.
pub(super) fn executable_name(program: &Program) -> &[u8] {
    let path = &program.executable;
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}
